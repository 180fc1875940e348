//! Calls to the application's backends: over HTTP and gRPC, each within the timeout of its proxy, so many at a time and so
//! many more that wait, counted and logged.
//!
//! On the control thread, whose runtime has one thread: nothing here is shared with others. May wait for backends, never
//! blocks. Must never put credentials, headers or payloads into a log line. Nothing is tried again.

mod answers;
mod dial;
mod failure;
mod grpc;
mod headers;
mod http;
mod joined;
pub(super) mod metrics;
mod names;
mod request;
mod trouble;

use std::cell::{Cell, OnceCell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use gyre_engine::backend::{BackendCall, BackendEvent, BackendReply, ClientHeaders, ProxyId, StateEvent};
use gyre_proto::proxy::Request;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use self::dial::Tls;
use self::failure::Failure;
use self::grpc::{Grpc, GrpcOptions};
use self::http::Http;
use self::joined::Joined;
use self::metrics::{Kind, Stats};
use self::trouble::{Outage, Trouble};
use crate::limits::{BACKEND_IN_FLIGHT_MAX, BACKEND_WAITING_MAX};
use crate::settings::proxies::{Endpoint, Proxies, Proxy};

/// All backends of the configuration.
pub(crate) struct Backends {
    /// By [`ProxyId`].
    list: Vec<Rc<Backend>>,
    joined: Rc<Joined>,
}

impl Backends {
    /// Connects to none of them. Needs the runtime.
    ///
    /// # Errors
    /// What cannot be used, with the path of its proxy.
    pub(crate) fn new(proxies: &Arc<Proxies>) -> anyhow::Result<Self> {
        let tls = OnceCell::new();
        let list = (0..proxies.list.len()).map(|at| Ok(Rc::new(Backend::new(Arc::clone(proxies), at, &tls)?)));
        Ok(Self { list: list.collect::<anyhow::Result<_>>()?, joined: Rc::default() })
    }

    /// Asks a backend. `done` is called once: at once if there is no room, otherwise later.
    pub(crate) fn call(&self, call: BackendCall, done: impl FnOnce(BackendReply) + 'static) {
        // Not reached: the rules were made with the same table.
        let Some(backend) = self.backend(call.proxy) else { return done(BackendReply::Failed) };
        if let BackendEvent::CacheEmpty { channel } = &call.event {
            let key = (call.proxy, channel.clone());
            return self.joined.call(backend, key, || request::request(backend.proxy(), call), done);
        }
        let Some(place) = backend.enter() else { return done(BackendReply::Busy) };
        let headers = call.client.as_ref().and_then(|client| client.headers.clone());
        let request = request::request(backend.proxy(), call);
        spawn(place, request, headers, done);
    }

    /// Tells a backend of changes. `done` is told whether it has taken them.
    pub(crate) fn notify(&self, proxy: ProxyId, events: Vec<StateEvent>, done: impl FnOnce(bool) + 'static) {
        let Some(place) = self.backend(proxy).and_then(Backend::enter) else { return done(false) };
        spawn(place, request::state(events), None, |reply| done(reply != BackendReply::Failed));
    }

    fn backend(&self, id: ProxyId) -> Option<&Rc<Backend>> {
        self.list.get(usize::from(id.0))
    }
}

/// Makes a call in a task of its own. Its timeout runs from here.
fn spawn(
    place: Place,
    request: Request,
    headers: Option<Arc<ClientHeaders>>,
    done: impl FnOnce(BackendReply) + 'static,
) {
    let deadline = Instant::now() + place.backend.proxy().timeout;
    tokio::task::spawn_local(async move {
        let backend = &place.backend;
        let kind = Kind::of(&request);
        let outcome = timeout_at(deadline, backend.reach(request, headers));
        let outcome = async { outcome.await.unwrap_or(Err(Failure::Timeout)) };
        done(backend.watched(kind, outcome).await);
    });
}

/// One of them.
struct Backend {
    proxies: Arc<Proxies>,
    /// Place in the table.
    at: usize,
    wire: Wire,
    /// For its log lines.
    endpoint: String,
    /// One for each call that it may have at a time.
    slots: Semaphore,
    /// Calls that have one or wait for one.
    entered: Cell<usize>,
    stats: RefCell<Stats>,
    failures: RefCell<Trouble>,
    /// Of channel state events, which are sent again until they are taken.
    untold: RefCell<Outage>,
    rejections: RefCell<Trouble>,
    /// Calls that clients made impossible.
    unwritable: RefCell<Trouble>,
}

#[expect(clippy::large_enum_variant, reason = "there are a few in all")]
enum Wire {
    Http(Http),
    Grpc(Grpc),
}

/// A call's right to be made, until it is dropped.
struct Place {
    backend: Rc<Backend>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.backend.entered.update(|entered| entered - 1);
    }
}

impl Backend {
    fn new(proxies: Arc<Proxies>, at: usize, common: &OnceCell<Option<Tls>>) -> anyhow::Result<Self> {
        let proxy = &proxies.list[at];
        let (wire, endpoint) = match &proxy.endpoint {
            Endpoint::Http { url, tls, static_headers, .. } => {
                let http = Http::new(proxy, url, tls.as_ref(), static_headers, common)?;
                let masked = http.masked();
                (Wire::Http(http), masked)
            }
            Endpoint::Grpc { address, tls, credentials, compression, static_metadata } => {
                let options =
                    GrpcOptions { address, tls: tls.as_ref(), credentials, compression: *compression, static_metadata };
                let grpc = Grpc::new(proxy, options)?;
                let masked = grpc.masked();
                (Wire::Grpc(grpc), masked)
            }
        };
        Ok(Self {
            proxies,
            at,
            wire,
            endpoint,
            slots: Semaphore::new(BACKEND_IN_FLIGHT_MAX),
            entered: Cell::new(0),
            stats: RefCell::default(),
            failures: RefCell::default(),
            untold: RefCell::default(),
            rejections: RefCell::default(),
            unwritable: RefCell::default(),
        })
    }

    fn proxy(&self) -> &Proxy {
        &self.proxies.list[self.at]
    }

    /// Room for one more call. `None` = too many wait.
    fn enter(self: &Rc<Self>) -> Option<Place> {
        if self.entered.get() < BACKEND_IN_FLIGHT_MAX + BACKEND_WAITING_MAX {
            self.entered.update(|entered| entered + 1);
            return Some(Place { backend: Rc::clone(self) });
        }
        self.stats.borrow_mut().rejected += 1;
        if let Some(count) = self.rejections.borrow_mut().failed(Instant::now()) {
            tracing::error!(
                proxy_name = self.proxy().name,
                endpoint = self.endpoint,
                count,
                "too many calls wait for a backend, more are not made"
            );
        }
        None
    }

    /// Waits for a slot, then for the answer.
    async fn reach(&self, request: Request, headers: Option<Arc<ClientHeaders>>) -> Result<BackendReply, Failure> {
        // Never closed, so there is always one in the end.
        let _slot = self.slots.acquire().await;
        match &self.wire {
            // Boxed, so that those who wait for a slot take little.
            Wire::Http(http) => Box::pin(http.ask(self.proxy(), &request, headers.as_deref())).await,
            Wire::Grpc(grpc) => Box::pin(grpc.ask(self.proxy(), request, headers.as_deref())).await,
        }
    }

    /// Makes the call, counts it and says in the log what there is to say.
    async fn watched(&self, kind: Kind, call: impl Future<Output = Result<BackendReply, Failure>>) -> BackendReply {
        let began = Instant::now();
        self.stats.borrow_mut().began(kind);
        let outcome = call.await;
        let now = Instant::now();
        self.stats.borrow_mut().ended(kind, now - began, outcome.is_err());
        match outcome {
            Ok(reply) => {
                self.went_well(kind, now);
                reply
            }
            Err(failure) => {
                self.failed(kind, &failure, now);
                BackendReply::Failed
            }
        }
    }

    fn went_well(&self, kind: Kind, now: Instant) {
        self.rejections.borrow_mut().went_well(now);
        self.unwritable.borrow_mut().went_well(now);
        let (proxy_name, endpoint) = (&*self.proxy().name, &*self.endpoint);
        if kind == Kind::State {
            if let Some(failed) = self.untold.borrow_mut().went_well() {
                tracing::info!(proxy_name, endpoint, failed, "channel state events are delivered again");
            }
        } else if let Some(failed) = self.failures.borrow_mut().went_well(now) {
            tracing::info!(proxy_name, endpoint, failed, "backend answers again");
        }
    }

    fn failed(&self, kind: Kind, failure: &Failure, now: Instant) {
        let (proxy_name, endpoint) = (&*self.proxy().name, &*self.endpoint);
        if kind == Kind::State {
            if self.untold.borrow_mut().failed(now) {
                tracing::warn!(
                    proxy_name,
                    endpoint,
                    error = %failure,
                    "cannot deliver channel state events; they wait and are sent again"
                );
            }
            return;
        }
        let kind = kind.name();
        if let Failure::Unwritable = failure {
            if let Some(count) = self.unwritable.borrow_mut().failed(now) {
                tracing::info!(proxy_name, endpoint, kind, count, error = %failure, "backend cannot be asked");
            }
            return;
        }
        match self.failures.borrow_mut().failed(now) {
            Some(1) => tracing::error!(proxy_name, endpoint, kind, error = %failure, "call to backend has failed"),
            Some(count) => {
                tracing::error!(proxy_name, endpoint, kind, count, error = %failure, "calls to backend fail");
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
