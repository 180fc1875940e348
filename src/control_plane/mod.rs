//! The control thread: signals, configuration reload, metrics. It runs Tokio on the main thread, on no core's CPU if
//! some are reserved (`gyre.reserved_cores`), and may block; it never touches a client's socket.

mod metrics;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gyre_engine::rules::Rules;
use gyre_io::mesh::Port;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::data_plane::{FromControl, Parcel, Snapshot, ToControl};
use crate::discovery::{Discovery, Found};
use crate::settings::Settings;

/// How often work is looked for when no wake-up comes; wake-ups make it prompt, this makes it certain.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

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
    pub(crate) port: Port<Parcel>,
    /// `None` = there is nothing outside of the process that could be found.
    pub(crate) discovery: Option<Discovery>,
    /// What it finds.
    pub(crate) found: UnboundedReceiver<Found>,
    pub(crate) shutdown_timeout: Duration,
    /// Reads the configuration again; `Err` = keep the old one.
    pub(crate) reload: Box<dyn Fn() -> anyhow::Result<Rules>>,
}

/// Calls `start`, which starts the cores, and runs until SIGINT or SIGTERM, then until the cores have let go of their
/// connections. Signals are caught from before `start` on.
///
/// # Errors
/// When the runtime or the signal handlers cannot be set up; those of `start`.
pub(crate) fn run(options: ControlOptions, start: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<End> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(options, start))
}

struct Control {
    settings: Arc<Settings>,
    port: Port<Parcel>,
    discovery: Option<Discovery>,
    snapshots: HashMap<u16, Snapshot>,
    drained: usize,
}

async fn serve(options: ControlOptions, start: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<End> {
    let ControlOptions { settings, port, discovery, mut found, shutdown_timeout, reload } = options;
    let sleeper = port.sleeper();
    // An eventfd is read like a pipe.
    let bell = pipe::Receiver::from_owned_fd_unchecked(sleeper.as_fd().try_clone_to_owned()?)?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    start()?;
    let mut deadline: Option<Instant> = None;
    let mut control = Control { settings, port, discovery, snapshots: HashMap::new(), drained: 0 };
    loop {
        let more = control.look();
        control.port.flush();
        if deadline.is_some() && control.drained >= usize::from(control.settings.cores) {
            return Ok(End::Drained);
        }
        if more || !sleeper.prepare_sleep() {
            tokio::task::yield_now().await;
            continue;
        }
        let end = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        let mut stop = false;
        tokio::select! {
            ready = bell.readable() => {
                ready?;
                // Drained by whoever reads first; a later look finds it empty and waits.
                let _ = bell.try_read(&mut [0; 8]);
            }
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = tokio::time::sleep_until(end), if deadline.is_some() => return Ok(End::TimedOut),
            Some(Found { shard, servers }) = found.recv() => {
                control.tell_cores(|| FromControl::Servers { shard, servers: Arc::clone(&servers) });
            }
            _ = hangup.recv() => control.reload(&*reload),
            _ = interrupt.recv() => stop = true,
            _ = terminate.recv() => stop = true,
        }
        sleeper.awake();
        if stop && deadline.is_none() {
            tracing::info!("shutting down ...");
            deadline = Some(Instant::now() + shutdown_timeout);
            control.tell_cores(|| FromControl::Shutdown);
        }
    }
}

impl Control {
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
                    let text = metrics::page(&self.settings, self.snapshots.values());
                    let page = FromControl::Page { call, text: Box::new(Bytes::from(text)) };
                    self.tell(usize::from(core.0), page);
                }
                ToControl::Drained => self.drained += 1,
                ToControl::Doubt(shard) => {
                    if let Some(discovery) = &self.discovery {
                        discovery.doubt(shard);
                    }
                }
                ToControl::FromNodes(_) | ToControl::Published { .. } => {}
            }
        }
        more
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
