//! The control thread: signals, configuration reload, metrics, the other nodes, calls to the application's backends, the
//! gRPC API. It runs Tokio on the main thread, on no core's CPU if some are reserved (`gyre.reserved_cores`), and may block
//! for a moment; it never waits for a peer and never touches a client's socket.

mod backends;
mod grpc_api;
mod metrics;
mod nodes;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gyre_engine::Counts;
use gyre_engine::rules::Rules;
use gyre_io::mesh::Port;
use tokio::net::unix::pipe;
use tokio::runtime::LocalOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::backends::Backends;
pub(crate) use self::grpc_api::GrpcApi;
use self::nodes::{Deed, Nodes};
use crate::data_plane::{Asker, FromControl, NodeInfo, Parcel, Snapshot, ToControl, ToNodes};
use crate::discovery::{Discovery, Found, Tell};
use crate::settings::Settings;
use crate::settings::proxies::Proxies;

/// How often work is looked for when no wake-up comes; wake-ups make it prompt, this makes it certain.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How long the end of the process waits until the other nodes have been told of it. They notice by themselves, in 16 s.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The core whose connections carry what nodes say to each other.
const CARRIER: usize = 0;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Every connection was closed in time.
    Drained,
    /// `shutdown.timeout` passed first.
    TimedOut,
}

/// What the control thread needs from the rest.
pub(crate) struct ControlOptions {
    pub(crate) settings: Arc<Settings>,
    /// What `settings.rules` were made with.
    pub(crate) proxies: Arc<Proxies>,
    pub(crate) port: Port<Parcel>,
    /// `None` = there is nothing outside of the process that could be found.
    pub(crate) discovery: Option<Discovery>,
    /// Channels are kept where other nodes can reach them.
    pub(crate) has_nodes: bool,
    /// What discovery finds.
    pub(crate) found: Finds,
    /// `None` = it is not served.
    pub(crate) grpc_api: Option<GrpcApi>,
    pub(crate) shutdown_timeout: Duration,
    /// Reads the configuration again; `Err` = keep the old one.
    pub(crate) reload: Box<dyn Fn() -> anyhow::Result<Rules>>,
}

/// What came of a call to a backend, for a core.
type Answered = (usize, FromControl);

/// What discovery has found and the control thread has not seen yet.
pub(crate) type Finds = UnboundedReceiver<Found>;

/// Both ends of what carries it.
pub(crate) fn finds() -> (Tell, Finds) {
    let (sender, finds) = unbounded_channel();
    // Nobody takes it any more only while the node ends.
    (Arc::new(move |found| sender.send(found).unwrap_or_default()), finds)
}

/// Calls `start`, which starts the cores, and runs until SIGINT or SIGTERM, then until the cores have let go of their
/// connections. Signals are caught from before `start` on.
///
/// # Errors
/// When the runtime or the signal handlers cannot be set up, or a backend cannot be used as configured; those of `start`.
pub(crate) fn run(options: ControlOptions, start: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<End> {
    // Calls to backends are tasks that share what only this thread has.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let end = runtime.block_on(serve(options, start));
    // A name that is being looked up may take longer than all the rest.
    runtime.shutdown_background();
    end
}

struct Control {
    settings: Arc<Settings>,
    backends: Backends,
    /// Takes what came of calls to backends, from their tasks.
    answered: UnboundedSender<Answered>,
    port: Port<Parcel>,
    discovery: Option<Discovery>,
    snapshots: HashMap<u16, Snapshot>,
    /// `None` = there are no others.
    nodes: Option<Nodes>,
    /// As core 0 was told.
    node_count: usize,
    started: Instant,
    /// Of the gRPC API.
    api_calls: grpc_api::Calls,
    drained: usize,
}

async fn serve(options: ControlOptions, start: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<End> {
    let ControlOptions { settings, proxies, port, discovery, has_nodes, mut found, grpc_api, shutdown_timeout, reload } =
        options;
    let backends = Backends::new(&proxies)?;
    let (answered, mut answers) = unbounded_channel();
    let sleeper = port.sleeper();
    // An eventfd is read like a pipe.
    let bell = pipe::Receiver::from_owned_fd_unchecked(sleeper.as_fd().try_clone_to_owned()?)?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    start()?;
    let (asked, mut api_calls) = unbounded_channel();
    let (stop_api, api_stops) = oneshot::channel();
    let api = grpc_api.map(|grpc_api| grpc_api.start(asked.clone(), api_stops)).transpose()?;
    let mut stop_api = Some(stop_api);
    let mut deadline: Option<Instant> = None;
    let mut last_word_until = None;
    let mut control = Control::new(settings, backends, answered, port, discovery, has_nodes);
    loop {
        let more = control.look();
        while let Ok((core, answer)) = answers.try_recv() {
            control.tell(core, answer);
        }
        while let Ok(call) = api_calls.try_recv() {
            control.ask_core(call);
        }
        control.turn();
        control.count_nodes();
        control.port.flush();
        if deadline.is_some() && control.drained >= usize::from(control.settings.cores) && control.api_calls.is_idle() {
            let has_left = control.nodes.as_ref().is_none_or(Nodes::has_left);
            // Replies are on their way out until it has ended.
            let has_told = api.as_ref().is_none_or(JoinHandle::is_finished);
            let until = *last_word_until.get_or_insert_with(|| Instant::now() + LAST_WORD);
            if has_left && has_told || Instant::now() >= until {
                return Ok(End::Drained);
            }
        }
        // Cores that say something all the time must not keep signals and everybody else waiting.
        let is_busy = more || !sleeper.prepare_sleep();
        let end = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        let mut stop = false;
        tokio::select! {
            () = tokio::task::yield_now(), if is_busy => {}
            ready = bell.readable(), if !is_busy => {
                ready?;
                // Drained by whoever reads first; a later look finds it empty and waits.
                let _ = bell.try_read(&mut [0; 8]);
            }
            () = tokio::time::sleep(LOOK_INTERVAL), if !is_busy => {}
            () = tokio::time::sleep_until(end), if deadline.is_some() => return Ok(End::TimedOut),
            Some(Found { shard, servers }) = found.recv() => {
                control.tell_cores(|| FromControl::Servers { shard, servers: Arc::clone(&servers) });
            }
            // The others that are there follow in the next round.
            Some((core, answer)) = answers.recv() => control.tell(core, answer),
            Some(call) = api_calls.recv() => control.ask_core(call),
            _ = hangup.recv() => control.reload(&*reload),
            _ = interrupt.recv() => stop = true,
            _ = terminate.recv() => stop = true,
        }
        if !is_busy {
            sleeper.awake();
        }
        if stop && deadline.is_none() {
            tracing::info!("shutting down ...");
            deadline = Some(Instant::now() + shutdown_timeout);
            control.stop();
            drop(stop_api.take());
        }
    }
}

impl Control {
    fn new(
        settings: Arc<Settings>,
        backends: Backends,
        answered: UnboundedSender<Answered>,
        port: Port<Parcel>,
        discovery: Option<Discovery>,
        has_nodes: bool,
    ) -> Self {
        let nodes = has_nodes.then(|| Nodes::new(NodeInfo::own(&settings, &Counts::default()), 0));
        Self {
            settings,
            backends,
            answered,
            port,
            discovery,
            snapshots: HashMap::new(),
            nodes,
            node_count: 1,
            started: Instant::now(),
            api_calls: grpc_api::Calls::default(),
            drained: 0,
        }
    }

    /// Takes in what the cores have said. `true` = there may be more.
    fn look(&mut self) -> bool {
        let mut said = Vec::new();
        let more = self.port.drain(|_, parcel| said.push(parcel));
        for parcel in said {
            let Parcel::ToControl(what) = parcel else { continue };
            match what {
                ToControl::Snapshot(snapshot) => {
                    self.snapshots.insert(snapshot.core, *snapshot);
                }
                ToControl::Scrape { core, call } => {
                    let nodes =
                        self.nodes.as_ref().map_or_else(Default::default, |nodes| (nodes.len(), nodes.traffic()));
                    let text = metrics::page(&self.settings, self.snapshots.values(), nodes, &self.backends);
                    let page = FromControl::Page { call, text: Box::new(Bytes::from(text)) };
                    self.tell(usize::from(core.0), page);
                }
                ToControl::Drained => self.drained += 1,
                ToControl::Api { number, reply } => self.api_calls.answered(number, *reply),
                ToControl::Backend { core, asker, call } => {
                    let answered = self.answered.clone();
                    self.backends.call(*call, move |reply| {
                        let reply = Box::new(reply);
                        let _ = answered.send((usize::from(core.0), FromControl::Backend { asker, reply }));
                    });
                }
                ToControl::StateEvents { core, number, batch } => {
                    let answered = self.answered.clone();
                    self.backends.notify(batch.proxy, batch.events, move |ok| {
                        let _ = answered.send((usize::from(core.0), FromControl::StateTold { number, ok }));
                    });
                }
                ToControl::Doubt(shard) => {
                    if let Some(discovery) = &self.discovery {
                        discovery.doubt(shard);
                    }
                }
                what => self.hear(what),
            }
        }
        more
    }

    /// As [`Self::look`], what has to do with other nodes.
    fn hear(&mut self, what: ToControl) {
        let now_ms = self.now_ms();
        // Nobody says any of this in a node that has no others.
        let Some(nodes) = &mut self.nodes else { return };
        match what {
            ToControl::Act { core, call, act } => nodes.act(Asker { core, call }, &act, now_ms),
            ToControl::Survey { core, call, question } => nodes.survey(Asker { core, call }, &question, now_ms),
            ToControl::Surveyed { number, shares } => nodes.shares(number, Some(*shares), now_ms),
            ToControl::HearsNodes => nodes.hears(now_ms),
            ToControl::FromNodes(bytes) => nodes.heard(&bytes, now_ms),
            ToControl::Published { number, ok } => nodes.published(number, ok, now_ms),
            ToControl::Nodes { core, call } => {
                let nodes = Box::new(nodes.others().cloned().collect());
                self.tell(usize::from(core.0), FromControl::Nodes { call, nodes });
            }
            ToControl::Snapshot(_)
            | ToControl::Scrape { .. }
            | ToControl::Drained
            | ToControl::Doubt(_)
            | ToControl::Api { .. }
            | ToControl::Backend { .. }
            | ToControl::StateEvents { .. } => {}
        }
    }

    /// What is due, and what came of what was heard.
    fn turn(&mut self) {
        let now_ms = self.now_ms();
        let Some(nodes) = &mut self.nodes else { return };
        if nodes.takes_announcement(now_ms) {
            let mut counts = Counts::default();
            self.snapshots.values().for_each(|snapshot| counts.add(snapshot.counts));
            nodes.announce(NodeInfo::own(&self.settings, &counts), now_ms);
        }
        nodes.turn(now_ms);
        for deed in nodes.take_deeds() {
            match deed {
                Deed::Publish { number, to, bytes } => {
                    let message = Box::new(ToNodes { to, bytes });
                    self.tell(CARRIER, FromControl::Publish { number, message });
                }
                Deed::Told { asker, ok } => {
                    self.tell(usize::from(asker.core.0), FromControl::Told { call: asker.call, ok });
                }
                Deed::Surveyed { asker, found } => {
                    let found = found.map(Box::new);
                    self.tell(usize::from(asker.core.0), FromControl::Found { call: asker.call, found });
                }
                Deed::Act(act) => self.tell_cores(|| FromControl::Act(Arc::clone(&act))),
                Deed::Ask { number, what } => {
                    self.tell(CARRIER, FromControl::Survey { number, what: Box::new(what) });
                }
            }
        }
    }

    /// Who shares out work among nodes has to know how many there are.
    fn count_nodes(&mut self) {
        let count = 1 + self.nodes.as_ref().map_or(0, Nodes::len);
        if std::mem::replace(&mut self.node_count, count) != count {
            self.tell(CARRIER, FromControl::NodesAre(count as u32));
        }
    }

    /// Tells first the other nodes, then the cores: they close their connections.
    fn stop(&mut self) {
        let now_ms = self.now_ms();
        if let Some(nodes) = &mut self.nodes {
            nodes.leave(now_ms);
        }
        self.turn();
        self.tell_cores(|| FromControl::Shutdown);
    }

    /// A call of the gRPC API.
    fn ask_core(&mut self, asked: grpc_api::Asked) {
        let (core, what) = self.api_calls.hand_out(asked, self.settings.cores);
        self.tell(core, what);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn tell(&mut self, core: usize, what: FromControl) {
        self.port.send(core, Parcel::FromControl(what));
    }

    fn tell_cores(&mut self, what: impl Fn() -> FromControl) {
        for core in 0..usize::from(self.settings.cores) {
            self.tell(core, what());
        }
    }

    fn reload(&mut self, read: &dyn Fn() -> anyhow::Result<Rules>) {
        tracing::info!("reloading configuration");
        match read() {
            Ok(rules) => {
                let rules = Arc::new(rules);
                self.tell_cores(|| FromControl::Rules(Arc::clone(&rules)));
                tracing::info!("configuration successfully reloaded");
            }
            Err(error) => tracing::error!(error = format!("{error:#}"), "error reloading configuration"),
        }
    }
}
