//! A core's turn: connections, frames, timers and ring messages on their way to the engine.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gyre_engine::{Engine, EngineOptions};
use gyre_io::mesh::Port;
use gyre_io::{Busy, Closed, Driver, Handler, WebSocketOptions};
use gyre_proto::codes::Disconnect;
use gyre_proto::ids::{ConnId, CoreId};
use gyre_proto::ws::{Opcode, Role};

use super::admission::{Admission, Places};
use super::api::{self, Protocol};
use super::calls::{Answer, Calls};
use super::entropy::Entropy;
use super::http::Negotiated;
use super::states::{self, States};
use super::store::{ForControl, Store, StoreOptions, hand_over};
use super::user_status::{self, UserStatus, UserStatusOptions};
use super::{ApiCall, ApiCounters, ApiReply, Core, FromControl, Parcel, ToControl, http};
use crate::limits::{MEMORY_PEAK_MIN, MEMORY_SNAPSHOTS, SNAPSHOT_INTERVAL_MS, STORE_UP_MS};
use crate::settings::Settings;

/// How long a core that is shutting down may not have noticed that nothing is left.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// How long a core that is starting may not have noticed that the others are ready.
const START_LOOK: Duration = Duration::from_millis(5);

/// See the module.
pub(crate) struct CoreHandler {
    core: Rc<Core>,
    inbox: Vec<Parcel>,
    next_snapshot_ms: u64,
    /// Most connections since memory was last given back.
    connections_peak: usize,
    /// In a row, with at most half of them.
    snapshots_below_peak: u32,
    has_reported_drained: bool,
    /// Clients wait until all cores are connected to Redis.
    is_starting: bool,
    /// What the store has for the control thread.
    for_control: Vec<ForControl>,
    /// `None` = another core carries them, or there are none.
    states: Option<States>,
}

impl CoreHandler {
    pub(crate) fn new(
        id: CoreId,
        settings: Arc<Settings>,
        admission: Arc<Admission>,
        driver: Rc<RefCell<Driver>>,
        port: Port<Parcel>,
        (store, user_status): (Option<StoreOptions>, Option<UserStatusOptions>),
        seed: u64,
    ) -> Self {
        let engine = Engine::new(EngineOptions {
            core: id,
            cores: settings.cores,
            rules: Arc::clone(&settings.rules),
            version: Arc::clone(&settings.version),
            is_stored: store.is_some(),
            seed,
        });
        driver.borrow_mut().hold_accepts(store.is_some() || user_status.is_some());
        let core = Core {
            id,
            settings,
            admission,
            places: RefCell::new(Places::default()),
            driver,
            engine: RefCell::new(engine),
            port: RefCell::new(port),
            store: RefCell::new(store.map(|options| Store::new(options, id, seed))),
            user_status: RefCell::new(user_status.map(|options| UserStatus::new(options, seed))),
            calls: Rc::new(RefCell::new(Calls::default())),
            entropy: RefCell::new(Entropy::new()),
            api: RefCell::new(ApiCounters::default()),
            is_shutting_down: Cell::new(false),
        };
        Self {
            states: States::new(&core, seed),
            core: Rc::new(core),
            inbox: Vec::new(),
            next_snapshot_ms: 0,
            connections_peak: 0,
            snapshots_below_peak: 0,
            has_reported_drained: false,
            is_starting: true,
            for_control: Vec::new(),
        }
    }

    /// After most clients have left, what is kept of them goes as well: at once what many have left, and what few have
    /// after a while without new ones. A core that serves one request at a time must not do this between them.
    fn give_back_memory(&mut self, driver: &mut Driver) {
        let connections = driver.connections();
        if connections > self.connections_peak / 2 || self.connections_peak == 0 {
            self.connections_peak = self.connections_peak.max(connections);
            self.snapshots_below_peak = 0;
            return;
        }
        self.snapshots_below_peak += 1;
        if self.connections_peak >= MEMORY_PEAK_MIN || self.snapshots_below_peak >= MEMORY_SNAPSHOTS {
            self.connections_peak = connections;
            self.snapshots_below_peak = 0;
            self.core.engine.borrow_mut().give_back_memory();
            driver.give_back_memory();
        }
    }

    /// Connections to Redis, and what has come on them for the engine and the control thread.
    fn turn_of_store(&mut self, driver: &mut Driver) {
        {
            let mut store = self.core.store.borrow_mut();
            let Some(store) = &mut *store else { return };
            store.turn(driver);
            store.doubts().for_each(|shard| self.core.tell_control(ToControl::Doubt(shard)));
        }
        let mut for_control = std::mem::take(&mut self.for_control);
        self.core.with_driver(driver, |engine, hands| hand_over(engine, hands, &mut for_control));
        for what in for_control.drain(..) {
            self.core.tell_control(match what {
                ForControl::Said(bytes) => ToControl::FromNodes((&*bytes).into()),
                ForControl::Told(number, ok) => ToControl::Published { number, ok },
                ForControl::Hears => ToControl::HearsNodes,
            });
        }
        self.for_control = for_control;
        match &mut self.states {
            Some(states) if !self.is_starting => states.turn(&self.core, driver),
            Some(_) => {}
            None => {
                if let Some(store) = &mut *self.core.store.borrow_mut() {
                    states::pass_on(store, &mut self.core.port.borrow_mut());
                }
            }
        }
    }

    /// As [`Self::turn_of_store`], of where the status of users is kept.
    fn turn_of_user_status(&mut self, driver: &mut Driver) {
        {
            let mut status = self.core.user_status.borrow_mut();
            let Some(status) = &mut *status else { return };
            status.turn(driver);
            status.doubts().for_each(|shard| self.core.tell_control(ToControl::Doubt(shard)));
        }
        self.core.with_driver(driver, user_status::hand_over);
    }

    /// Lets clients in when everything that they may need is there.
    fn look_whether_started(&mut self, driver: &mut Driver) {
        if !self.is_starting {
            return;
        }
        let is_store_starting = self.core.store.borrow_mut().as_mut().is_some_and(Store::is_starting);
        let is_status_starting = self.core.user_status.borrow_mut().as_mut().is_some_and(UserStatus::is_starting);
        self.is_starting = (is_store_starting || is_status_starting) && driver.now_ms() < STORE_UP_MS;
        driver.hold_accepts(self.is_starting);
        if self.is_starting {
            driver.wake_within(START_LOOK);
        }
    }

    /// No clients are left, what their leaving meant has been told, and nothing is held that another node could have.
    fn is_drained(&mut self, driver: &Driver) -> bool {
        let of_status = self.core.user_status.borrow().as_ref().map_or(0, UserStatus::connections);
        match &*self.core.store.borrow() {
            None => driver.connections() <= of_status,
            Some(store) if driver.connections() <= store.connections() + of_status => {
                let is_stopped = self.states.as_mut().is_none_or(|states| states.stop(driver.now_ms()));
                is_stopped && store.is_quiet()
            }
            Some(_) => false,
        }
    }

    fn take_from_control(&mut self, driver: &mut Driver, what: FromControl) {
        match what {
            FromControl::Page { call, text } => self.core.calls.borrow_mut().answer(call, Answer::Page(*text)),
            FromControl::Rules(rules) => {
                if let Some(states) = &mut self.states {
                    states.follow(&rules);
                }
                self.core.with_driver(driver, |engine, hands| {
                    engine.message(gyre_engine::Message::Rules(rules), hands);
                });
            }
            FromControl::Servers { shard, servers } => {
                if let Some(status) = &mut *self.core.user_status.borrow_mut() {
                    status.servers_are(driver, shard, Arc::clone(&servers));
                }
                if let Some(store) = &mut *self.core.store.borrow_mut() {
                    store.servers_are(driver, shard, servers);
                }
            }
            FromControl::Told { call, ok } => {
                let session = self.core.calls.borrow_mut().take_session(call);
                match session {
                    None => self.core.calls.borrow_mut().answer(call, Answer::Told(ok)),
                    Some(asker) => {
                        self.core.with_driver(driver, |engine, hands| engine.nodes_told(asker, ok, hands));
                    }
                }
            }
            FromControl::Nodes { call, nodes } => self.core.calls.borrow_mut().answer(call, Answer::Nodes(*nodes)),
            FromControl::Found { call, found } => {
                self.core.calls.borrow_mut().answer(call, Answer::Found(found.map(|found| *found)));
            }
            FromControl::Act(act) => self.core.with_driver(driver, |engine, hands| {
                engine.message(gyre_engine::Message::Act(act), hands);
            }),
            FromControl::Survey { number, what } => {
                let core = Rc::clone(&self.core);
                gyre_io::spawn(async move {
                    let shares = Box::new(core.ask_all(*what).await);
                    core.tell_control(ToControl::Surveyed { number, shares });
                });
            }
            FromControl::Publish { number, message } => {
                let is_sent = self.core.store.borrow_mut().as_mut().is_some_and(|store| {
                    store.tell_nodes(number, message.to.as_deref(), &message.bytes, driver.now_ms())
                });
                if !is_sent {
                    self.core.tell_control(ToControl::Published { number, ok: false });
                }
            }
            FromControl::Backend { asker, reply } => self.core.with_driver(driver, |engine, hands| {
                engine.backend_answered(asker, *reply, hands);
            }),
            FromControl::Api { number, call } => {
                let core = Rc::clone(&self.core);
                gyre_io::spawn(async move {
                    let reply = match *call {
                        ApiCall::One(command) => ApiReply::One(api::execute(&core, Protocol::Grpc, command).await),
                        ApiCall::Batch(batch) => ApiReply::Batch(api::batch(&core, Protocol::Grpc, batch).await),
                    };
                    core.tell_control(ToControl::Api { number, reply: Box::new(reply) });
                });
            }
            FromControl::StateTold { number, ok } => {
                if let Some(states) = &mut self.states {
                    states.told(number, ok, driver.now_ms());
                }
            }
            FromControl::NodesAre(count) => {
                if let Some(states) = &mut self.states {
                    states.nodes_are(count, driver.now_ms());
                }
            }
            FromControl::Shutdown => {
                self.core.is_shutting_down.set(true);
                driver.drain();
                self.core.with_driver(driver, |engine, hands| engine.shutdown(hands));
            }
        }
    }
}

impl Handler for CoreHandler {
    fn accepted(&mut self, _driver: &mut Driver, conn: ConnId, _listener: usize) {
        let core = Rc::clone(&self.core);
        gyre_io::spawn(async move {
            let Some((upgrade, Negotiated { encoding, handshake })) = http::connection(&core, conn).await else {
                return;
            };
            let client = core.entropy.borrow_mut().client_id();
            core.with(|engine, hands| engine.open(conn, encoding, client, handshake, hands));
            let options = WebSocketOptions {
                message_size_max: core.settings.message_size_max,
                // As upstream: what is no UTF-8 is no JSON either, and ends in 3501.
                validate_utf8: false,
                role: Role::Server,
            };
            core.driver.borrow_mut().start_websocket(upgrade, options);
        });
    }

    fn message(&mut self, driver: &mut Driver, conn: ConnId, _opcode: Opcode, data: &[u8]) {
        self.core.with_driver(driver, |engine, hands| engine.receive(conn, data, hands));
    }

    fn dialled(&mut self, driver: &mut Driver, conn: ConnId) {
        if let Some(store) = &mut *self.core.store.borrow_mut() {
            store.dialled(driver, conn);
        }
        if let Some(status) = &mut *self.core.user_status.borrow_mut() {
            status.dialled(driver, conn);
        }
    }

    fn bytes(&mut self, driver: &mut Driver, conn: ConnId, data: &[u8]) {
        if let Some(store) = &mut *self.core.store.borrow_mut() {
            store.bytes(driver, conn, data);
        }
        if let Some(status) = &mut *self.core.user_status.borrow_mut() {
            status.bytes(driver, conn, data);
        }
    }

    fn closed(&mut self, driver: &mut Driver, conn: ConnId, why: Closed) {
        if let Some(store) = &mut *self.core.store.borrow_mut()
            && store.has(conn)
        {
            return store.closed(driver, conn, why);
        }
        if let Some(status) = &mut *self.core.user_status.borrow_mut()
            && status.has(conn)
        {
            return status.closed(driver, conn, why);
        }
        self.core.left(conn);
        self.core.with_driver(driver, |engine, hands| engine.closed(conn, hands));
    }

    fn timeout(&mut self, driver: &mut Driver, conn: ConnId) {
        self.core.with_driver(driver, |engine, hands| engine.timeout(conn, hands));
    }

    fn slow(&mut self, driver: &mut Driver, conn: ConnId) {
        self.core.with_driver(driver, |engine, hands| engine.disconnect(conn, &Disconnect::SLOW, hands));
    }

    fn turn(&mut self, driver: &mut Driver) -> Busy {
        let more = {
            let inbox = &mut self.inbox;
            self.core.port.borrow_mut().drain(|_, parcel| inbox.push(parcel))
        };
        let mut inbox = std::mem::take(&mut self.inbox);
        for parcel in inbox.drain(..) {
            match parcel {
                Parcel::Engine(message) => {
                    self.core.with_driver(driver, |engine, hands| engine.message(message, hands));
                }
                Parcel::Appended(partition) => {
                    if let Some(states) = &mut self.states {
                        states.appended(partition);
                    }
                }
                Parcel::FromControl(what) => self.take_from_control(driver, what),
                Parcel::ToControl(_) => debug_assert!(false, "only the control thread is told this"),
            }
        }
        self.inbox = inbox;
        self.turn_of_store(driver);
        self.turn_of_user_status(driver);
        self.look_whether_started(driver);
        driver.hold_closed(self.core.is_congested());
        let is_fanning_out = self.core.with_driver(driver, |engine, hands| engine.turn(hands));
        if driver.now_ms() >= self.next_snapshot_ms {
            self.next_snapshot_ms = driver.now_ms() + SNAPSHOT_INTERVAL_MS;
            let mut snapshot = Box::new(self.core.snapshot(driver));
            snapshot.states = self.states.as_ref().map(|states| states.snapshot(driver.now_ms()));
            self.core.tell_control(ToControl::Snapshot(snapshot));
            self.give_back_memory(driver);
        }
        if self.core.is_shutting_down.get() && !self.has_reported_drained {
            if self.is_drained(driver) {
                self.has_reported_drained = true;
                self.core.tell_control(ToControl::Drained);
            } else {
                driver.wake_within(DRAIN_LOOK);
            }
        }
        if more || is_fanning_out { Busy::Yes } else { Busy::No }
    }

    fn turn_ends(&mut self, driver: &mut Driver) {
        if let Some(store) = &mut *self.core.store.borrow_mut() {
            store.flush(driver);
        }
        if let Some(status) = &mut *self.core.user_status.borrow_mut() {
            status.flush(driver);
        }
        self.core.port.borrow_mut().flush();
    }
}
