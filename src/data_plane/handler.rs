//! A core's turn: connections, frames, timers and ring messages on their way to the engine.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use gyre_engine::{Engine, EngineOptions};
use gyre_io::mesh::Port;
use gyre_io::{Busy, Closed, Driver, Handler, WebSocketOptions};
use gyre_proto::codes::Disconnect;
use gyre_proto::ids::{ConnId, CoreId};
use gyre_proto::ws::{Opcode, Role};

use super::admission::{Admission, Places};
use super::calls::{Answer, Calls};
use super::entropy::Entropy;
use super::{ApiCounters, Core, FromControl, Parcel, ToControl, http};
use crate::limits::{MEMORY_PEAK_MIN, MEMORY_SNAPSHOTS, SNAPSHOT_INTERVAL_MS};
use crate::settings::Settings;

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
}

impl CoreHandler {
    pub(crate) fn new(
        id: CoreId,
        settings: Arc<Settings>,
        admission: Arc<Admission>,
        driver: Rc<RefCell<Driver>>,
        port: Port<Parcel>,
        seed: u64,
    ) -> Self {
        let engine = Engine::new(EngineOptions {
            core: id,
            cores: settings.cores,
            rules: Arc::clone(&settings.rules),
            version: Arc::clone(&settings.version),
            is_stored: false,
            seed,
        });
        let core = Core {
            id,
            settings,
            admission,
            places: RefCell::new(Places::default()),
            driver,
            engine: RefCell::new(engine),
            port: RefCell::new(port),
            calls: Rc::new(RefCell::new(Calls::default())),
            entropy: RefCell::new(Entropy::new()),
            api: RefCell::new(ApiCounters::default()),
            is_shutting_down: Cell::new(false),
        };
        Self {
            core: Rc::new(core),
            inbox: Vec::new(),
            next_snapshot_ms: 0,
            connections_peak: 0,
            snapshots_below_peak: 0,
            has_reported_drained: false,
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

    fn take_from_control(&mut self, driver: &mut Driver, what: FromControl) {
        match what {
            FromControl::Page { call, text } => self.core.calls.borrow_mut().answer(call, Answer::Page(*text)),
            FromControl::Rules(rules) => self.core.with_driver(driver, |engine, hands| {
                engine.message(gyre_engine::Message::Rules(rules), hands);
            }),
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
            let Some((upgrade, encoding)) = http::connection(&core, conn).await else { return };
            let client = core.entropy.borrow_mut().client_id();
            core.with(|engine, hands| engine.open(conn, encoding, client, hands));
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

    fn closed(&mut self, driver: &mut Driver, conn: ConnId, _why: Closed) {
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
                Parcel::FromControl(what) => self.take_from_control(driver, what),
                Parcel::ToControl(_) => debug_assert!(false, "only the control thread is told this"),
            }
        }
        self.inbox = inbox;
        driver.hold_closed(self.core.is_congested());
        let is_fanning_out = self.core.with_driver(driver, |engine, hands| engine.turn(hands));
        if driver.now_ms() >= self.next_snapshot_ms {
            self.next_snapshot_ms = driver.now_ms() + SNAPSHOT_INTERVAL_MS;
            let snapshot = Box::new(self.core.snapshot(driver));
            self.core.tell_control(ToControl::Snapshot(snapshot));
            self.give_back_memory(driver);
        }
        if self.core.is_shutting_down.get() && !self.has_reported_drained && driver.connections() == 0 {
            self.has_reported_drained = true;
            self.core.tell_control(ToControl::Drained);
        }
        if more || is_fanning_out { Busy::Yes } else { Busy::No }
    }

    fn turn_ends(&mut self, _driver: &mut Driver) {
        self.core.port.borrow_mut().flush();
    }
}
