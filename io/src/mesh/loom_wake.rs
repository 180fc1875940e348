//! Exhaustive check of the wake protocol: every interleaving and every outcome the C++ memory model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p gyre-io --release --lib loom_wake`. A lost wake-up leaves the target in
//! `EventFd::wait` for ever, which loom reports as a deadlock.

use super::sync::{AtomicU32, Ordering, fence};
use super::wake::{Sleeper, WantsRoom};
use loom::thread;
use std::sync::Arc;

/// Stands for a ring: how many messages were published. Relaxed, so that nothing but the protocol orders it.
#[derive(Clone)]
struct Work(Arc<AtomicU32>);

impl Work {
    fn new() -> Self {
        Self(Arc::new(AtomicU32::new(0)))
    }

    fn publish(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// A plain load, free to be stale: a read-modify-write would always see the latest.
    fn published(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The turn of a target until it has seen `expected` messages. Returns how often it slept.
fn receive(sleeper: &Sleeper, sources: &[Work], expected: u32) -> u64 {
    let mut sleeps = 0;
    loop {
        sleeper.awake();
        if sources.iter().map(Work::published).sum::<u32>() == expected {
            return sleeps;
        }
        if sleeper.prepare_sleep() {
            sleeps += 1;
            sleeper.wait();
        }
    }
}

/// Two cores and a target that is woken for each message, or finds it before it sleeps.
#[test]
fn no_wake_up_is_lost() {
    let mut model = loom::model::Builder::new();
    // Three threads: every execution takes 80 s, those with up to three preemptions two. The other tests have no bound.
    model.preemption_bound = Some(3);
    model.check(|| {
        let sleeper = Sleeper::new().unwrap();
        let sources = [Work::new(), Work::new()];
        let wakers = sources.clone().map(|work| {
            let sleeper = sleeper.clone();
            thread::spawn(move || {
                work.publish();
                sleeper.wake();
            })
        });
        let sleeps = receive(&sleeper, &sources, 2);
        for waker in wakers {
            waker.join().unwrap();
        }
        assert!(sleeper.written() <= sleeps + 1, "written once per published sleep");
    });
}

/// The same source again and again: the second message may meet every state the first one left behind.
#[test]
fn no_wake_up_is_lost_between_turns() {
    loom::model(|| {
        let sleeper = Sleeper::new().unwrap();
        let work = Work::new();
        let waker = {
            let (sleeper, work) = (sleeper.clone(), work.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    work.publish();
                    sleeper.wake();
                }
            })
        };
        receive(&sleeper, &[work], 2);
        waker.join().unwrap();
    });
}

/// A flush wakes several targets after one fence.
#[test]
fn one_fence_serves_two_targets() {
    loom::model(|| {
        let sleepers = [Sleeper::new().unwrap(), Sleeper::new().unwrap()];
        let works = [Work::new(), Work::new()];
        let waker = {
            let (sleepers, works) = (sleepers.clone(), works.clone());
            thread::spawn(move || {
                works.iter().for_each(Work::publish);
                fence(Ordering::SeqCst);
                for sleeper in &sleepers {
                    sleeper.wake_after_fence();
                }
            })
        };
        let other = {
            let (sleeper, work) = (sleepers[1].clone(), works[1].clone());
            thread::spawn(move || receive(&sleeper, &[work], 1))
        };
        receive(&sleepers[0], &works[..1], 1);
        waker.join().unwrap();
        other.join().unwrap();
    });
}

/// A system call per message to a busy core would cost more than the message.
#[test]
fn an_awake_target_is_never_written_to() {
    loom::model(|| {
        let sleeper = Sleeper::new().unwrap();
        let wakers = [(); 2].map(|()| {
            let sleeper = sleeper.clone();
            thread::spawn(move || assert!(!sleeper.wake()))
        });
        sleeper.awake();
        sleeper.awake();
        for waker in wakers {
            waker.join().unwrap();
        }
        assert_eq!(sleeper.written(), 0);
    });
}

/// Both wakers meet one sleeping target: one of them writes, and only one.
#[test]
fn a_sleeping_target_is_written_to_once() {
    loom::model(|| {
        let sleeper = Sleeper::new().unwrap();
        assert!(sleeper.prepare_sleep());
        let wakers = [(); 2].map(|()| {
            let sleeper = sleeper.clone();
            thread::spawn(move || sleeper.wake())
        });
        sleeper.wait();
        let wrote = wakers.map(|waker| u64::from(waker.join().unwrap()));
        assert_eq!((wrote[0] + wrote[1], sleeper.written()), (1, 1));
    });
}

/// A sender with a backlog sleeps until the receiver has made room. Without the wake-up its backlog stays where it is.
#[test]
fn a_sender_waiting_for_room_is_woken() {
    loom::model(|| {
        let sleeper = Sleeper::new().unwrap();
        let note = Arc::new(WantsRoom::new());
        // A ring of one that is full: room once the receiver has taken a message.
        let taken = Work::new();
        let receiver = {
            let (sleeper, note, taken) = (sleeper.clone(), Arc::clone(&note), taken.clone());
            thread::spawn(move || {
                taken.publish();
                fence(Ordering::SeqCst);
                if note.take_after_fence() {
                    sleeper.wake_after_fence();
                }
            })
        };
        loop {
            sleeper.awake();
            if taken.published() == 1 {
                break;
            }
            note.announce();
            if taken.published() == 1 {
                note.withdraw();
                break;
            }
            if sleeper.prepare_sleep() {
                sleeper.wait();
            }
        }
        receiver.join().unwrap();
    });
}
