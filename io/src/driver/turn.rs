//! A core from its start to its end: the turn, and the thread it runs on.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use gyre_proto::ids::CoreId;

use super::dial::DialSlots;
use super::{Busy, Driver, Handler, Listener, Notice};
use crate::backend::{self, ReceiveBuffers, Ring, Wait};
use crate::limits::{BLOCK_ALONE_MAX, BLOCK_MAX, CONNECTIONS_MAX, RECEIVE_BUFFERS_MAX, RECEIVE_BUFFERS_MIN};
use crate::mesh::Sleeper;

/// What a core needs to start.
#[derive(Debug)]
pub struct CoreOptions {
    /// Its number.
    pub id: CoreId,
    /// Its listening sockets, from `bind_listeners`.
    pub listeners: Vec<Listener>,
    /// Unsent bytes at which a connection whose socket is full counts as slow.
    pub outbox_bytes_max: u32,
    /// Connections it takes at most. Also bounded by the limit of open files of the process, for each core anew.
    pub connections_max: u32,
    /// How many of `connections_max` are kept for outgoing connections, and only for them.
    pub dials_max: u32,
    /// Buffers to receive into, 2 KiB each; see `receive_buffers`.
    pub receive_buffers: u16,
    /// How other threads wake it.
    pub sleeper: Option<Sleeper>,
}

impl CoreOptions {
    /// A core that listens nowhere and has the bounds of the reference: 1 MiB of outbox.
    pub fn new(id: CoreId) -> Self {
        Self {
            id,
            listeners: Vec::new(),
            outbox_bytes_max: 1024 * 1024,
            connections_max: CONNECTIONS_MAX,
            dials_max: 0,
            receive_buffers: RECEIVE_BUFFERS_MAX,
            sleeper: None,
        }
    }
}

/// Buffers for each of `cores` on a machine with `cpus`: the cores that share a CPU share its buffers, too.
pub fn receive_buffers(cores: usize, cpus: usize) -> u16 {
    let share = usize::from(RECEIVE_BUFFERS_MAX) * cpus / cores.max(1);
    share.clamp(RECEIVE_BUFFERS_MIN.into(), RECEIVE_BUFFERS_MAX.into()) as u16
}

/// A running core.
pub struct CoreHandle(backend::Core);

impl CoreHandle {
    /// Blocks until the core has stopped.
    pub fn join(self) -> io::Result<()> {
        self.0.join()
    }
}

/// Starts a core: its thread, executor, ring and driver. The thread inherits the CPUs of the one that calls this. `make`
/// builds the handler on the core's thread. Returns when the ring is set up, so that what the system denies is an error
/// here.
pub fn spawn_core<H: Handler>(
    options: CoreOptions,
    make: impl FnOnce(Rc<RefCell<Driver>>) -> H + Send + 'static,
) -> io::Result<CoreHandle> {
    let (report, ready) = mpsc::sync_channel(1);
    let core = backend::start(options.id, move || async move {
        let connections = connections_max(options.connections_max);
        let dials = options.dials_max.min(connections);
        let made = Ring::new(connections, options.receive_buffers).and_then(|(mut ring, buffers)| {
            if dials > 0 {
                ring.reserve_slots(dials, connections)?;
            }
            Ok((ring, buffers))
        });
        let (ring, buffers) = match made {
            Ok(made) => made,
            Err(error) => {
                let _ = report.send(Err(error));
                return;
            }
        };
        let _ = report.send(Ok(()));
        let driver = Driver::new(ring, options.outbox_bytes_max, options.listeners, DialSlots::new(dials));
        let driver = Rc::new(RefCell::new(driver));
        let handler = make(Rc::clone(&driver));
        run(driver, buffers, handler, options.sleeper).await;
    })?;
    match ready.recv() {
        Ok(Ok(())) => Ok(CoreHandle(core)),
        Ok(Err(error)) => Err(error),
        // The thread ended before it could report: the executor itself failed.
        Err(_) => match core.join() {
            Err(error) => Err(error),
            Ok(()) => Err(io::Error::other("the core ended while starting")),
        },
    }
}

/// The kernel refuses a file table larger than the limit of open files, although its entries are none.
fn connections_max(wanted: u32) -> u32 {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = files.map_or(CONNECTIONS_MAX, |files| u32::try_from(files).unwrap_or(CONNECTIONS_MAX));
    wanted.min(files).clamp(1, CONNECTIONS_MAX)
}

async fn run<H: Handler>(
    driver: Rc<RefCell<Driver>>,
    mut buffers: ReceiveBuffers,
    mut handler: H,
    sleeper: Option<Sleeper>,
) {
    driver.borrow_mut().watch(sleeper.clone());
    loop {
        if let Some(sleeper) = &sleeper {
            sleeper.awake();
        }
        let busy = driver.borrow_mut().events(&mut buffers, &mut handler);
        let tasks_ready = backend::run_ready_tasks().await;
        let mut driver = driver.borrow_mut();
        handler.turn_ends(&mut driver);
        driver.flush();
        if driver.stopping {
            driver.ring.submit();
            return;
        }
        let wait = if busy || tasks_ready { Wait::No } else { driver.wait() };
        driver.wait_for_events(wait, sleeper.as_ref());
    }
}

impl Driver {
    fn watch(&mut self, sleeper: Option<Sleeper>) {
        if let Some(sleeper) = sleeper {
            self.ring.watch_wake(sleeper.raw_fd());
            self.sleeper = Some(sleeper);
        }
    }

    /// The watch of the wake descriptor reported; the wake-up itself is all that counts.
    pub(super) fn on_woken(&mut self, more: bool) {
        if !more && let Some(sleeper) = &self.sleeper {
            self.ring.watch_wake(sleeper.raw_fd());
        }
    }

    /// The first part of a turn, up to and including the handler's. True if it must not sleep afterwards.
    fn events<H: Handler>(&mut self, buffers: &mut ReceiveBuffers, handler: &mut H) -> bool {
        self.stats.turns += 1;
        self.woke_task = false;
        self.now_ms = self.started.elapsed().as_millis() as u64;
        self.collect();
        self.palette.clear();
        self.dispatch(buffers, handler);
        self.arm_accepts();
        handler.turn(self) == Busy::Yes
    }

    /// How long the ring may block, given what is already known to be due.
    fn wait(&mut self) -> Wait {
        let due = self.woke_task
            || self.notices.iter().any(|notice| !(self.holds_closed && matches!(notice, Notice::Closed(..))))
            || !self.leaving.is_empty()
            || !self.events.is_empty()
            || !self.outboxes.dirty.is_empty();
        if due {
            return Wait::No;
        }
        let block_max = if backend::tasks_alive() == 0 { BLOCK_ALONE_MAX } else { BLOCK_MAX };
        let next = [self.wheel.next_deadline(), self.accept_retry_ms].into_iter().flatten().min();
        let until = next.map_or(block_max, |next| Duration::from_millis(next.saturating_sub(self.now_ms)));
        let until = self.sleep_max.take().map_or(until, |sleep_max| until.min(sleep_max));
        if until.is_zero() { Wait::No } else { Wait::AtMost(until.min(block_max)) }
    }

    fn wait_for_events(&mut self, wait: Wait, sleeper: Option<&Sleeper>) {
        let may_sleep = wait != Wait::No && sleeper.is_none_or(Sleeper::prepare_sleep);
        self.ring.wait(if may_sleep { wait } else { Wait::No });
    }
}
