//! The mesh between real threads: a core that sleeps in its ring and one that polls its eventfd.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use gyre_io::mesh::{Mesh, Port, Sleeper};
use gyre_io::{Busy, Closed, CoreOptions, Driver, Handler, spawn_core};
use gyre_proto::ids::{ConnId, CoreId};
use gyre_proto::ws::Opcode;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::client::PATIENCE;

const MESSAGES: u64 = 300_000;
/// Far more than the rings hold, and less than their backlogs: the sender has to sleep with a full one.
const UNDER_WAY_MAX: u64 = 100_000;
const STOP: u64 = u64::MAX;

/// Sends every number back to where it came from.
struct Mirror {
    port: Rc<RefCell<Port<u64>>>,
    expected: u64,
}

impl Handler for Mirror {
    fn accepted(&mut self, _: &mut Driver, _: ConnId, _: usize) {}
    fn message(&mut self, _: &mut Driver, _: ConnId, _: Opcode, _: &[u8]) {}
    fn closed(&mut self, _: &mut Driver, _: ConnId, _: Closed) {}
    fn timeout(&mut self, _: &mut Driver, _: ConnId) {}
    fn slow(&mut self, _: &mut Driver, _: ConnId) {}

    fn turn(&mut self, driver: &mut Driver) -> Busy {
        let mut back = Vec::new();
        let mut port = self.port.borrow_mut();
        let more = port.drain(|from, number| back.push((from, number)));
        for (from, number) in back {
            if number == STOP {
                driver.stop();
                continue;
            }
            assert_eq!(number, self.expected);
            self.expected += 1;
            port.send(from, number);
        }
        if more { Busy::Yes } else { Busy::No }
    }

    fn turn_ends(&mut self, _: &mut Driver) {
        self.port.borrow_mut().flush();
    }
}

fn start() -> (gyre_io::CoreHandle, Port<u64>) {
    let [core, ours] = <[Port<u64>; 2]>::try_from(Mesh::new(2).unwrap()).unwrap();
    let options = CoreOptions { sleeper: Some(core.sleeper()), ..CoreOptions::new(CoreId(0)) };
    let make = |_| Mirror { port: Rc::new(RefCell::new(core)), expected: 0 };
    (spawn_core(options, make).unwrap(), ours)
}

fn sleep(sleeper: &Sleeper) {
    if sleeper.prepare_sleep() {
        let mut readable = [PollFd::new(sleeper, PollFlags::IN)];
        // Far beyond what a wake-up takes: a lost one fails the test by its time.
        let timeout = Timespec { tv_sec: 20, tv_nsec: 0 };
        poll(&mut readable, Some(&timeout)).unwrap();
        if readable[0].revents().contains(PollFlags::IN) {
            sleeper.drain();
        }
    }
    sleeper.awake();
}

/// Lost or swapped messages between cores are lost or swapped publications.
#[test]
fn a_flood_comes_back_complete_and_in_order() {
    let (core, mut ours) = start();
    let sleeper = ours.sleeper();
    let (mut sent, mut got) = (0, 0);
    let start = Instant::now();
    while got < MESSAGES {
        // Bursts of changing length, some larger than the ring.
        let room = if sent - got < UNDER_WAY_MAX { MESSAGES - sent } else { 0 };
        let burst = [1, 3000, 40, 7][(sent % 4) as usize].min(room);
        for _ in 0..burst {
            ours.send(0, sent);
            sent += 1;
        }
        let more = ours.drain(|from, number| {
            assert_eq!((from, number), (0, got));
            got += 1;
        });
        ours.flush();
        if !more && burst == 0 && got < MESSAGES {
            sleep(&sleeper);
        }
        assert!(start.elapsed() < PATIENCE, "sent {sent}, got {got}, backlog {}", ours.backlog_len());
    }
    ours.send(0, STOP);
    ours.flush();
    core.join().unwrap();
}

/// One message at a time: both sides sleep before each, so every wake-up counts.
#[test]
fn no_wake_up_is_lost_between_sleeping_threads() {
    let (core, mut ours) = start();
    let sleeper = ours.sleeper();
    let mut slowest = Duration::ZERO;
    for number in 0..2000 {
        let start = Instant::now();
        ours.send(0, number);
        ours.flush();
        let mut back = None;
        while back.is_none() {
            ours.drain(|_, number| back = Some(number));
            if back.is_none() {
                sleep(&sleeper);
            }
        }
        assert_eq!(back, Some(number));
        slowest = slowest.max(start.elapsed());
    }
    // The core would look by itself after a second, so a lost wake-up shows as such a pause.
    assert!(slowest < Duration::from_millis(900), "{slowest:?}");
    ours.send(0, STOP);
    ours.flush();
    core.join().unwrap();
}
