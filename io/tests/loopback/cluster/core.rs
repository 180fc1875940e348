//! A core with one shard.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use gyre_io::mesh::Sleeper;
use gyre_io::redis::{Event, Handshake, Messages, Servers, Shard, ShardOptions};
use gyre_io::{Busy, Closed, CoreHandle, CoreOptions, Driver, Handler, spawn_core};
use gyre_proto::ids::{ConnId, CoreId};
use gyre_proto::ws::Opcode;

use crate::client::PATIENCE;

type Order = Box<dyn FnOnce(&mut Shard, &mut Driver, u64) + Send>;

pub(super) struct Core {
    events: Receiver<Event>,
    orders: Arc<Mutex<Vec<Order>>>,
    sleeper: Sleeper,
    core: Option<CoreHandle>,
}

struct Owner {
    shard: Shard,
    events: Sender<Event>,
    orders: Arc<Mutex<Vec<Order>>>,
}

impl Core {
    pub(super) fn start(servers: Arc<Servers>) -> Self {
        Self::start_with(servers, 0)
    }

    /// With sharded Pub/Sub.
    pub(super) fn start_sharded(servers: Arc<Servers>) -> Self {
        Self::start_as(servers, 0, Messages::Slots)
    }

    /// The seed says which primary the messages come from.
    pub(super) fn start_with(servers: Arc<Servers>, seed: u64) -> Self {
        Self::start_as(servers, seed, Messages::Channels)
    }

    /// Nothing is heard.
    pub(super) fn start_deaf(servers: Arc<Servers>) -> Self {
        Self::start_as(servers, 0, Messages::None)
    }

    fn start_as(servers: Arc<Servers>, seed: u64, messages: Messages) -> Self {
        let (sender, events) = channel();
        let sleeper = Sleeper::new().unwrap();
        let orders = Arc::<Mutex<Vec<Order>>>::default();
        let handshake = Handshake {
            user: String::new(),
            password: String::new(),
            db: 0,
            client_name: "test".to_owned(),
            force_resp2: false,
            replica: false,
            io_timeout_ms: 4_000,
        };
        let connections = Shard::connections_max(&servers, messages) as u32;
        let options = ShardOptions {
            handshake,
            tls: None,
            connect_timeout_ms: 5_000,
            seed,
            scripts: &super::SCRIPTS,
            outages: Arc::default(),
            messages,
        };
        let shard = Shard::new(options, servers);
        let options = CoreOptions {
            sleeper: Some(sleeper.clone()),
            connections_max: connections,
            dials_max: connections,
            ..CoreOptions::new(CoreId(3))
        };
        let told = Arc::clone(&orders);
        let core = spawn_core(options, move |_| Owner { shard, events: sender, orders: told }).unwrap();
        Self { events, orders, sleeper, core: Some(core) }
    }

    /// Does something on the core.
    pub(super) fn run(&self, order: impl FnOnce(&mut Shard, &mut Driver, u64) + Send + 'static) {
        self.orders.lock().unwrap().push(Box::new(order));
        self.sleeper.wake();
    }

    /// As `run`; waits for the answer.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        order: impl FnOnce(&mut Shard, &mut Driver, u64) -> T + Send + 'static,
    ) -> T {
        let (sender, answer) = channel();
        self.run(move |shard, driver, now_ms| sender.send(order(shard, driver, now_ms)).unwrap());
        answer.recv_timeout(PATIENCE).unwrap()
    }

    pub(super) fn hear(&self) -> Event {
        self.events.recv_timeout(PATIENCE).unwrap()
    }

    /// What is heard now, without waiting.
    pub(super) fn heard(&self) -> impl Iterator<Item = Event> {
        self.events.try_iter()
    }

    /// All events up to one.
    pub(super) fn until(&self, is_last: impl Fn(&Event) -> bool) -> Vec<Event> {
        let deadline = Instant::now() + PATIENCE;
        let mut events = Vec::new();
        while Instant::now() < deadline {
            events.push(self.hear());
            if is_last(&events[events.len() - 1]) {
                return events;
            }
        }
        panic!("only {events:?}");
    }

    /// So many nodes are connected, and one for messages.
    pub(super) fn hear_up(&self, nodes: usize) {
        let mut up: Vec<_> = (0..=nodes).map(|_| format!("{:?}", self.hear())).collect();
        up.sort();
        assert_eq!(up.pop().as_deref(), Some("Up(Messages)"));
        assert!(up.iter().all(|event| event == "Up(Commands)"), "{up:?}");
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.run(|_, driver, _| driver.stop());
        if let Some(core) = self.core.take() {
            let ended = core.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

impl Owner {
    /// The test may have ended.
    fn tell(events: &Sender<Event>) -> impl FnMut(Event) {
        move |event| _ = events.send(event)
    }
}

impl Handler for Owner {
    fn accepted(&mut self, _: &mut Driver, _: ConnId, _: usize) {}
    fn message(&mut self, _: &mut Driver, _: ConnId, _: Opcode, _: &[u8]) {}
    fn timeout(&mut self, _: &mut Driver, _: ConnId) {}
    fn slow(&mut self, _: &mut Driver, _: ConnId) {}

    fn dialled(&mut self, driver: &mut Driver, conn: ConnId) {
        assert!(self.shard.has(conn));
        self.shard.dialled(driver, conn);
    }

    fn bytes(&mut self, driver: &mut Driver, conn: ConnId, data: &[u8]) {
        self.shard.bytes(driver, conn, data, &mut Self::tell(&self.events));
    }

    fn closed(&mut self, driver: &mut Driver, conn: ConnId, why: Closed) {
        self.shard.closed(driver, conn, why, &mut Self::tell(&self.events));
    }

    fn turn(&mut self, driver: &mut Driver) -> Busy {
        self.shard.turn(driver, &mut Self::tell(&self.events));
        let orders = std::mem::take(&mut *self.orders.lock().unwrap());
        for order in orders {
            let now_ms = driver.now_ms();
            order(&mut self.shard, driver, now_ms);
        }
        Busy::No
    }

    fn turn_ends(&mut self, driver: &mut Driver) {
        self.shard.flush(driver);
    }
}
