//! The executor of one core: a glommio executor on its own thread, on the CPUs of the thread that started it.
//!
//! The driver is its foreground task, in a queue of its own together with every task of `spawn`. Yielding inside one
//! queue is a push and a pop; glommio's reactor has nothing to do here and is as good as never visited (`PREEMPT`).
//! A panic on a core ends the process: a half-dead core is worse than a restart.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context, Poll};
use std::time::Duration;

use glommio::{ExecutorJoinHandle, Latency, LocalExecutorBuilder, Shares, TaskQueueHandle};
use gyre_proto::ids::CoreId;

use crate::limits::TASK_ROUNDS_MAX;

/// Memory of glommio's own reactor for file I/O, which a core does not do (driver rule 7).
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// glommio's preempt timer, in effect off. glommio 0.9 goes to sleep although tasks are ready if the timer runs out
/// between being armed and the first look at the queues, and nothing wakes it again. With 5 ms a core on a busy machine
/// stopped for ever (2026-11: once in about 70 starts, eight at a time on two CPUs; with 30 us in three test runs of
/// three). What the timer is for, glommio's own I/O and timers and several queues on one core, we do not use.
const PREEMPT: Duration = Duration::from_secs(24 * 3600);

thread_local! {
    static CORE: Cell<Option<CoreId>> = const { Cell::new(None) };
    static QUEUE: Cell<Option<TaskQueueHandle>> = const { Cell::new(None) };
    static POLLS: Cell<u64> = const { Cell::new(0) };
    static ALIVE: Cell<usize> = const { Cell::new(0) };
}

/// A running executor thread.
pub(crate) struct Core(ExecutorJoinHandle<()>);

impl Core {
    /// Waits for the thread to end.
    pub(crate) fn join(self) -> io::Result<()> {
        self.0.join().map_err(|error| io::Error::other(error.to_string()))
    }
}

/// Starts the thread of a core and runs `body` on it as the driver.
pub(crate) fn start<F: Future<Output = ()> + 'static>(
    id: CoreId,
    body: impl FnOnce() -> F + Send + 'static,
) -> io::Result<Core> {
    abort_on_panic();
    let thread = LocalExecutorBuilder::default().name("core").io_memory(IO_MEMORY_BYTES).preempt_timer(PREEMPT).spawn(
        move || async move {
            CORE.set(Some(id));
            // `Latency::Matters` would bring a shorter preempt timer back.
            let queue = glommio::executor().create_task_queue(Shares::default(), Latency::NotImportant, "driver");
            QUEUE.set(Some(queue));
            match glommio::spawn_local_into(body(), queue) {
                Ok(driver) => driver.await,
                Err(error) => panic!("cannot start the driver: {error}"),
            }
        },
    );
    thread.map(Core).map_err(|error| io::Error::other(error.to_string()))
}

/// Runs `task` on this core, beginning later in this turn. Its wakers must be woken on this core: another thread
/// reaches a core through the mesh.
///
/// # Panics
/// Outside a core.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    let Some(queue) = QUEUE.get() else { panic!("spawn called outside a core") };
    ALIVE.set(ALIVE.get() + 1);
    // Not spawn_local: that would poll at once, while the driver is borrowed.
    match glommio::spawn_local_into(Counted { task, alive: Alive }, queue) {
        Ok(task) => drop(task.detach()),
        Err(error) => panic!("cannot spawn: {error}"),
    }
}

/// Lets woken tasks run. True if some may still be ready, so the driver must not sleep. Free when no task exists.
pub(crate) async fn run_ready_tasks() -> bool {
    if ALIVE.get() == 0 {
        return false;
    }
    for _ in 0..TASK_ROUNDS_MAX {
        let before = POLLS.get();
        // The queue is first in, first out: every task woken before this runs before we are back.
        glommio::executor().yield_now().await;
        if POLLS.get() == before {
            return false;
        }
    }
    true
}

/// Tasks that have not ended.
pub(crate) fn tasks_alive() -> usize {
    ALIVE.get()
}

struct Alive;

impl Drop for Alive {
    fn drop(&mut self) {
        ALIVE.set(ALIVE.get() - 1);
    }
}

/// Counts polls, which is how the driver learns that tasks were ready.
struct Counted<F> {
    task: F,
    #[expect(dead_code, reason = "held for its drop")]
    alive: Alive,
}

impl<F: Future<Output = ()>> Future for Counted<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        POLLS.set(POLLS.get() + 1);
        // SAFETY: `task` is structurally pinned: never moved out, and Counted has no Drop of its own.
        unsafe { self.map_unchecked_mut(|counted| &mut counted.task) }.poll(context)
    }
}

/// Makes a panic on a core end the process, with the core named. Other threads keep their behaviour.
fn abort_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            earlier(panic);
            if let Some(CoreId(id)) = CORE.get() {
                eprintln!("core {id}: broken invariant, the process ends here");
                std::process::abort();
            }
        }));
    });
}
