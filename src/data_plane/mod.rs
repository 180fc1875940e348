//! The data plane: on each core, the engine and the driver wired together. The only place where the two meet.
//!
//! A core's state is reached through [`Core::with`], synchronously: no borrow crosses an await. Connections start as
//! HTTP tasks (`http/`); after the upgrade the task is gone and frames go straight from the driver to the engine
//! (`handler.rs`). Nothing here blocks, and nothing waits for another core except an HTTP task that awaits its answer.

mod admission;
#[cfg(test)]
mod allocations;
mod api;
mod calls;
mod entropy;
mod handler;
mod hands;
mod http;
mod parcel;
mod states;
mod store;
mod user_status;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use gyre_engine::{CallId, Engine, HomeCall, HomeReply, Now, SurveyReply, SurveyWhat};
use gyre_io::Driver;
use gyre_io::mesh::Port;
use gyre_proto::ids::CoreId;

pub(crate) use admission::Admission;
use admission::Places;
use calls::{Answer, Calls, Waiting};
use entropy::Entropy;
pub(crate) use handler::CoreHandler;
use hands::Hands;
pub(crate) use parcel::{
    ApiCall, ApiCounters, ApiReply, Asker, Durations, FromControl, NodeInfo, Parcel, Question, Snapshot, ToControl,
    ToNodes,
};
pub(crate) use states::StateSnapshot;
use store::Store;
pub(crate) use store::{PresenceOptions, StateOptions, StoreOptions, StoreShard, StoreStats, scripts};
use user_status::{StatusAsk, UserFacts, UserStatus};
pub(crate) use user_status::{StatusPlace, StatusShard, UserStatusOptions};

use crate::settings::Settings;

/// One core: everything that its tasks and its turn share.
pub(crate) struct Core {
    id: CoreId,
    settings: Arc<Settings>,
    admission: Arc<Admission>,
    places: RefCell<Places>,
    /// Never borrowed across an await.
    driver: Rc<RefCell<Driver>>,
    engine: RefCell<Engine>,
    port: RefCell<Port<Parcel>>,
    /// `None` = every channel is kept in memory.
    store: RefCell<Option<Store>>,
    /// `None` = no status of users is kept.
    user_status: RefCell<Option<UserStatus>>,
    calls: Rc<RefCell<Calls>>,
    entropy: RefCell<Entropy>,
    api: RefCell<ApiCounters>,
    is_shutting_down: Cell<bool>,
}

impl Core {
    /// Runs `act` on the engine, with the hands to carry out what it decides.
    fn with<T>(&self, act: impl FnOnce(&mut Engine, &mut Hands<'_>) -> T) -> T {
        self.with_driver(&mut self.driver.borrow_mut(), act)
    }

    /// As [`Self::with`], for callers that hold the driver.
    fn with_driver<T>(&self, driver: &mut Driver, act: impl FnOnce(&mut Engine, &mut Hands<'_>) -> T) -> T {
        let mut port = self.port.borrow_mut();
        let mut calls = self.calls.borrow_mut();
        let mut store = self.store.borrow_mut();
        let mut user_status = self.user_status.borrow_mut();
        let mut engine = self.engine.borrow_mut();
        engine.set_now(now(driver));
        let control = usize::from(self.settings.cores);
        let core = self.id;
        let hands = &mut Hands {
            core,
            control,
            driver,
            port: &mut port,
            calls: &mut calls,
            store: store.as_mut(),
            user_status: user_status.as_mut(),
        };
        act(&mut engine, hands)
    }

    /// Asks the home core of a channel and waits for its answer. `None` = the answer was of another kind, a bug.
    async fn ask_home(&self, channel: &str, what: HomeCall) -> Option<HomeReply> {
        let call = self.calls.borrow_mut().number();
        if let Some(reply) = self.with(|engine, hands| engine.api_call(call, channel, what, hands)) {
            return Some(reply);
        }
        self.calls.borrow_mut().wait(call);
        match (Waiting { calls: Rc::clone(&self.calls), call }).await {
            Some(Answer::Home(reply)) => Some(reply),
            _ => None,
        }
    }

    /// Asks every core and waits for all.
    async fn ask_all(&self, what: SurveyWhat) -> Vec<SurveyReply> {
        let call = {
            let mut calls = self.calls.borrow_mut();
            let call = calls.number();
            calls.gather(call, usize::from(self.settings.cores));
            call
        };
        self.with(|engine, hands| engine.api_survey(call, &what, hands));
        match (Waiting { calls: Rc::clone(&self.calls), call }).await {
            Some(Answer::Survey(parts)) => parts,
            _ => Vec::new(),
        }
    }

    /// Asks about the status of users and waits for all answers. `None` = their Redis failed.
    async fn ask_user_status(&self, users: &[String], what: StatusAsk<'_>) -> Option<Vec<UserFacts>> {
        let call = {
            let mut calls = self.calls.borrow_mut();
            let call = calls.number();
            calls.wait(call);
            call
        };
        self.with(|_, hands| {
            let (store, now_ms) = (hands.store.as_deref_mut(), hands.driver.now_ms());
            let status = hands.user_status.as_deref_mut();
            let answer = status.map_or(Some(Answer::Users(None)), |s| s.ask(store, call, users, what, now_ms));
            if let Some(answer) = answer {
                hands.calls.answer(call, answer);
            }
        });
        match (Waiting { calls: Rc::clone(&self.calls), call }).await {
            Some(Answer::Users(facts)) => facts,
            _ => None,
        }
    }

    /// Whether the status of users is kept.
    fn has_user_status(&self) -> bool {
        self.user_status.borrow().is_some()
    }

    /// Asks the control thread for the metrics page.
    async fn ask_metrics(&self) -> bytes::Bytes {
        match self.ask_control(|core, call| ToControl::Scrape { core, call }).await {
            Some(Answer::Page(text)) => text,
            _ => bytes::Bytes::new(),
        }
    }

    /// Asks the control thread, at once; the answer is awaited.
    fn ask_control(&self, what: impl FnOnce(CoreId, CallId) -> ToControl) -> Waiting {
        let call = {
            let mut calls = self.calls.borrow_mut();
            let call = calls.number();
            calls.wait(call);
            call
        };
        self.tell_control(what(self.id, call));
        Waiting { calls: Rc::clone(&self.calls), call }
    }

    /// Whether there may be other nodes: channels are kept outside of the process, where others can reach them.
    fn has_nodes(&self) -> bool {
        self.store.borrow().is_some()
    }

    fn tell_control(&self, what: ToControl) {
        self.port.borrow_mut().send(usize::from(self.settings.cores), Parcel::ToControl(what));
    }

    fn is_congested(&self) -> bool {
        hands::is_congested(&self.port.borrow())
    }

    fn snapshot(&self, driver: &Driver) -> Snapshot {
        let engine = self.engine.borrow();
        Snapshot {
            core: self.id.0,
            counts: engine.counts(),
            counters: engine.counters().clone(),
            driver: driver.stats().clone(),
            api: self.api.borrow().clone(),
            backlog: self.port.borrow().backlog_len(),
            store: self.store.borrow().as_ref().map(Store::stats),
            user_status: self.user_status.borrow().as_ref().and_then(UserStatus::stats),
            states: None,
        }
    }
}

/// Both clocks; the monotonic one is the driver's, read once per turn.
fn now(driver: &Driver) -> Now {
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Now { mono_ms: driver.now_ms(), unix_ms: unix.map_or(0, |d| d.as_millis() as i64) }
}
