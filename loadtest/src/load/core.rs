//! One core of the generator: its clients, its publishers, its turn.
//!
//! Runs as the handler of an io driver, one per thread, any number of them: with more cores than CPUs one process holds
//! a million connections although a ring's file table is bound by the limit of open files. Never blocks. What it does
//! by itself follows schedules; between their events it sleeps.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gyre_io::{Busy, Closed, CoreHandle, CoreOptions, Driver, FrameId, Handler, UpgradeRequest, spawn_core};
use gyre_proto::ids::{ConnId, CoreId};
use gyre_proto::ws::Opcode;

use super::clients::{Clients, State};
use super::publish::{self, Publisher};
use super::schedule::Schedule;
use super::shared::{Orders, Shared, Status};
use super::tally::Tally;
use crate::options::Via;

/// Counters go out no more often than this.
const REPORT_US: u64 = 100_000;

/// Slots beyond one per connection: those of connections that have ended are free only after their last operation.
const SLOTS_SPARE: usize = 512;

/// A generator core.
pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    pub(super) id: usize,
    pub(super) driver: Rc<RefCell<Driver>>,
    pub(super) orders: Orders,
    version: u64,
    pub(super) clients: Clients,
    pub(super) publishers: Vec<(usize, Rc<RefCell<Publisher>>)>,
    pub(super) via: Via,
    /// By slot of the connection table: whose connection it is.
    pub(super) owners: Vec<Owner>,
    /// Owners of connections whose slot was in use again before their end was reported.
    pub(super) displaced: HashMap<(u32, u32), Owner>,
    pub(super) requests: Vec<Arc<UpgradeRequest>>,
    pub(super) mask: [u8; 4],
    pub(super) tally: Rc<RefCell<Tally>>,
    pub(super) connecting: Connecting,
    pub(super) churn: Option<Schedule>,
    pub(super) next_churned: usize,
    pub(super) leave: Option<Schedule>,
    pub(super) next_leaving: usize,
    /// The pong of this turn, made when the first ping comes.
    pub(super) pong: Option<FrameId>,
    pub(super) wants_pong: bool,
    pub(super) status: Status,
    pub(super) scratch: Vec<u8>,
    pub(super) token: String,
    reported_us: u64,
}

/// Clients on their way in.
#[derive(Default)]
pub(super) struct Connecting {
    pub(super) schedule: Option<Schedule>,
    /// Clients dialled for the first time so far.
    pub(super) first_dials: usize,
    /// Clients that come back, and from when on.
    pub(super) queue: VecDeque<(u32, u64)>,
    /// Clients between their dial and their last reply.
    pub(super) in_flight: usize,
    pub(super) in_flight_max: usize,
}

/// Whose connection a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    None,
    Client(u32),
    Publisher(u32),
}

/// Starts a core.
pub(super) fn start(shared: &Arc<Shared>, id: usize) -> std::io::Result<CoreHandle> {
    let cores = shared.cores();
    let (first, count) = shared.spec.share(id, cores);
    let publishers = shared.spec.publishing.as_ref().map_or(0, |publishing| publishing.connections.div_ceil(cores));
    let slots = (count + publishers + SLOTS_SPARE) as u32;
    let mut options = CoreOptions::new(CoreId(id as u16));
    options.connections_max = slots;
    options.dials_max = slots;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    options.receive_buffers = gyre_io::receive_buffers(cores, cpus);
    options.sleeper = Some(shared.sleeper(id));
    let shared = Arc::clone(shared);
    spawn_core(options, move |driver| Core::new(shared, id, driver, first, count))
}

impl Core {
    fn new(shared: Arc<Shared>, id: usize, driver: Rc<RefCell<Driver>>, first: usize, count: usize) -> Self {
        let (spec, cores) = (&shared.spec, shared.cores());
        let tally = Rc::new(RefCell::new(Tally::new()));
        let random = spec.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(id as u64 + 1);
        let key = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            (u128::from(random) << 64 | u128::from(!random)).to_ne_bytes(),
        );
        let request = |endpoint: &crate::plan::Endpoint| {
            UpgradeRequest::new(&endpoint.authority, &endpoint.path, &key, spec.wire.subprotocol(), &[])
        };
        let mut publishers = Vec::new();
        if let Some(publishing) = &spec.publishing {
            for number in (id..publishing.connections).step_by(cores) {
                publishers.push((number, Rc::new(RefCell::new(Publisher::new(&shared, &tally, publishing, number)))));
            }
        }
        Self {
            id,
            driver,
            orders: Orders::NONE,
            version: 0,
            clients: Clients::new(first, count, &spec.layout, spec.recover),
            publishers,
            via: spec.publishing.as_ref().map_or(Via::Http, |publishing| publishing.via),
            owners: vec![Owner::None; count + SLOTS_SPARE],
            displaced: HashMap::new(),
            requests: spec.endpoints.iter().map(|endpoint| Arc::new(request(endpoint))).collect(),
            // Not zero, so that the server unmasks as it would for other clients.
            mask: ((random >> 16) as u32 | 0x0101_0101).to_ne_bytes(),
            connecting: Connecting { in_flight_max: (spec.handshakes / cores).max(4), ..Connecting::default() },
            tally,
            churn: None,
            next_churned: 0,
            leave: None,
            next_leaving: 0,
            pong: None,
            wants_pong: true,
            status: Status::default(),
            scratch: Vec::new(),
            token: String::new(),
            reported_us: 0,
            shared,
        }
    }

    fn obey(&mut self, driver: &mut Driver, orders: Orders) {
        let before = std::mem::replace(&mut self.orders, orders);
        let cores = self.shared.cores();
        let spec = &self.shared.spec;
        let mut tally = self.tally.borrow_mut();
        (tally.measure_from_us, tally.measure_until_us) = (orders.measure_from_us, orders.publish_until_us);
        drop(tally);
        if orders.connect_from_us != before.connect_from_us {
            let (rate, tick_us) = (spec.connect_rate, spec.connect_tick_us(cores));
            self.connecting.schedule = Some(Schedule::new(orders.connect_from_us, rate, self.id, cores, tick_us));
        }
        if orders.churn_from_us != before.churn_from_us {
            self.churn = Some(Schedule::new(orders.churn_from_us, spec.reconnect_rate, self.id, cores, 1));
        }
        if orders.leave_from_us != before.leave_from_us {
            let (rate, tick_us) = (spec.connect_rate, spec.connect_tick_us(cores));
            self.leave = Some(Schedule::new(orders.leave_from_us, rate, self.id, cores, tick_us));
            self.connecting.queue.clear();
            self.connecting.schedule = None;
        }
        if let Some(publishing) = &spec.publishing {
            for (number, publisher) in &self.publishers {
                publisher.borrow_mut().obey(&before, &orders, publishing, *number);
            }
        }
        if orders.publishers && !before.publishers {
            self.dial_publishers(driver);
        }
        if orders.drops != before.drops {
            self.drop_all(driver);
        }
        if orders.scans != before.scans {
            self.scan();
        }
        if orders.stop {
            let stats = driver.stats().clone();
            self.tally.borrow_mut().leave(&self.shared, self.id, &stats);
            driver.stop();
        }
    }

    /// Counts the deliveries that have not come.
    fn scan(&mut self) {
        let spec = &self.shared.spec;
        let mut missing = 0;
        let mut pings_min = u32::MAX;
        for client in 0..self.clients.each.len() {
            if self.clients.each[client].state != State::Ready {
                continue;
            }
            pings_min = pings_min.min(u32::from(self.clients.each[client].pings));
            for slot in 0..spec.layout.per_client {
                let super::layout::Channel::Numbered(channel) = spec.layout.channel(self.clients.first + client, slot)
                else {
                    continue;
                };
                let top = self.shared.top(channel);
                let seen = self.clients.seen(client, slot);
                let lacks = seen.missing(top);
                missing += u64::from(lacks);
                if self.orders.settle && lacks > 0 {
                    *seen = super::checker::Seen::after(top);
                }
            }
        }
        if self.orders.settle {
            self.tally.borrow_mut().counts.lost += missing;
        }
        (self.status.missing, self.status.pings_min, self.status.scans) = (missing, pings_min, self.orders.scans);
        self.tally.borrow_mut().dirty = true;
    }

    /// Publishes what is due over WebSocket publishers, and wakes the tasks of the others.
    fn publish_due(&mut self, driver: &mut Driver, now_us: u64) {
        for (_, publisher) in &self.publishers {
            let mut publisher = publisher.borrow_mut();
            if publisher.state == publish::State::Leaving || publisher.next_us() > now_us {
                continue;
            }
            if let Some(waker) = publisher.waker.take() {
                waker.wake();
            } else if self.via == Via::Ws {
                let wire = self.shared.spec.wire;
                self.scratch.clear();
                while publisher.write_commands(wire, &mut self.scratch, now_us) {
                    let (scratch, mask) = (&self.scratch, self.mask);
                    let frame = driver.frame_with(gyre_io::FrameKind::Raw, |out| {
                        gyre_proto::ws::encode_client_frame(wire.opcode_byte(), scratch, mask, out);
                    });
                    driver.push(publisher.conn, frame);
                    self.scratch.clear();
                }
            }
        }
    }

    /// Writes counters and status out if something has changed, not too often.
    fn report(&mut self, driver: &Driver, now_us: u64, at_once: bool) {
        let is_publishing = self.publishers.iter().any(|(_, publisher)| publisher.borrow().is_busy());
        let unanswered = self.publishers.iter().map(|(_, publisher)| publisher.borrow().unanswered()).sum();
        let mut tally = self.tally.borrow_mut();
        // A slot is freed after its connection was reported as closed.
        let connections = driver.connections() as u64;
        tally.dirty |= is_publishing != self.status.publishing || connections != self.status.connections;
        if !at_once && (!tally.dirty || now_us < self.reported_us + REPORT_US) {
            return;
        }
        self.reported_us = now_us;
        tally.report(&self.shared, self.id, driver.stats());
        let ready = self.publishers.iter().filter(|(_, one)| one.borrow().state == publish::State::Ready).count();
        self.status.publishers = ready as u64;
        (self.status.publishing, self.status.unanswered) = (is_publishing, unanswered);
        self.status.version = self.version;
        self.status.connections = connections;
        self.shared.set_status(self.id, self.status);
    }

    /// When the core has something to do by itself.
    fn next_us(&self) -> u64 {
        let mut next = u64::MAX;
        let mut at = |us: u64| next = next.min(us);
        if let Some(schedule) = &self.connecting.schedule
            && self.has_dials()
        {
            at(schedule.next_us().max(self.retry_us()));
        }
        if let Some(churn) = self.churn.as_ref().map(Schedule::next_us).filter(|at| *at < self.orders.churn_until_us) {
            at(churn);
        }
        if let Some(leave) = &self.leave
            && self.next_leaving < self.clients.each.len()
        {
            at(leave.next_us());
        }
        for (_, publisher) in &self.publishers {
            at(publisher.borrow().next_us());
        }
        if self.tally.borrow().dirty {
            at(self.reported_us + REPORT_US);
        }
        next
    }
}

impl Handler for Core {
    fn accepted(&mut self, driver: &mut Driver, conn: ConnId, _listener: usize) {
        // A generator listens nowhere.
        driver.abort(conn);
    }

    fn dialled(&mut self, driver: &mut Driver, conn: ConnId) {
        self.on_dialled(driver, conn);
    }

    fn message(&mut self, driver: &mut Driver, conn: ConnId, _opcode: Opcode, data: &[u8]) {
        match self.owner(conn) {
            Owner::Client(client) => self.on_client_frame(driver, client as usize, data),
            Owner::Publisher(at) => self.on_publisher_frame(driver, at as usize, data),
            Owner::None => {}
        }
    }

    fn closed(&mut self, driver: &mut Driver, conn: ConnId, why: Closed) {
        self.on_closed(driver, conn, why);
    }

    fn timeout(&mut self, driver: &mut Driver, conn: ConnId) {
        self.on_timeout(driver, conn);
    }

    fn slow(&mut self, driver: &mut Driver, conn: ConnId) {
        self.tally.borrow_mut().error("server reads too slowly");
        driver.abort(conn);
    }

    fn turn(&mut self, driver: &mut Driver) -> Busy {
        let mut at_once = false;
        if let Some((version, orders)) = self.shared.orders_since(self.version) {
            self.version = version;
            self.obey(driver, orders);
            at_once = true;
        }
        let now_us = self.shared.now_us();
        self.dial_due(driver, now_us);
        self.churn_due(driver, now_us);
        self.leave_due(driver, now_us);
        self.publish_due(driver, now_us);
        self.report(driver, now_us, at_once);
        Busy::No
    }

    fn turn_ends(&mut self, driver: &mut Driver) {
        // Frames live for one turn.
        self.pong = None;
        let next_us = self.next_us();
        if next_us != u64::MAX {
            driver.wake_within(Duration::from_micros(next_us.saturating_sub(self.shared.now_us())));
        }
    }
}
