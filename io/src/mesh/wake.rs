//! How a core learns, while it blocks in its ring, that another thread left work for it.
//!
//! Belongs to one target thread, called from any. A wake-up costs a system call and 35-45 us until the target runs, so it is
//! written only if the target has published that it sleeps, and once per sleep. [`Sleeper::wake`] of an awake target is a fence
//! and one load, or one read-modify-write by the first thread since the target last looked.
//! Never blocks, never allocates after `new`.
//!
//! The life of a turn on the target:
//!
//! ```text
//! awake()                  from here on new signals count for the next sleep
//! look at EVERY source of work (rings, mailbox, ...)
//! if idle && prepare_sleep() { wait for completions or raw_fd(); if raw_fd() was readable { drain() } }
//! ```
//!
//! Why no wake-up is lost. Work is published, then `wake` fences, then reads the state; the target stores the state in `awake`,
//! then fences, then looks for work. So of a racing pair at least one sees the other: either the target finds the work, or the
//! waker finds the state cleared, sets SIGNALLED in it, and `prepare_sleep` refuses or a sleeping target gets the eventfd written.
//! The fences carry all of the ordering, the accesses themselves are relaxed. `loom_wake.rs` checks this exhaustively.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use super::sync::{AtomicBool, AtomicU32, EventFd, Ordering, fence};

/// The target waits, or is about to: whoever adds SIGNALLED writes the eventfd.
const ASLEEP: u32 = 1;
/// Work was announced since the last `awake`.
const SIGNALLED: u32 = 2;

/// The two ends of one thread's wake-up: the thread itself publishes that it sleeps, the others wake it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sleeper(Arc<Shared>);

/// On its own pair of cache lines: awake wakers only read it, and must not meet other writes there.
#[derive(Debug)]
#[repr(align(128))]
struct Shared {
    state: AtomicU32,
    eventfd: EventFd,
}

impl Sleeper {
    /// A sleeper whose target is awake. Takes one file descriptor (eventfd, non-blocking, close-on-exec).
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Shared { state: AtomicU32::new(0), eventfd: EventFd::new()? })))
    }

    /// Target only: publishes that it is about to wait on [`raw_fd`](Self::raw_fd).
    ///
    /// False if work was announced since the last [`awake`](Self::awake). Then nothing is published, the announcement counts as
    /// seen (as after `awake`), and the caller must look at every source of work again instead of waiting.
    #[must_use = "waiting after `false` loses a wake-up"]
    pub fn prepare_sleep(&self) -> bool {
        // No fence needed: an announcement that this misses comes later in the order of `state`, finds ASLEEP and writes.
        match self.0.state.compare_exchange(0, ASLEEP, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) | Err(ASLEEP) => true,
            Err(_) => {
                self.awake();
                false
            }
        }
    }

    /// Target only: takes back [`prepare_sleep`](Self::prepare_sleep) and counts all announcements so far as seen.
    ///
    /// Call it once per turn, after the wait and before looking for work; it is one load if nothing happened. It never touches
    /// the eventfd: call [`drain`](Self::drain) when that was reported readable, which may also be one turn late.
    pub fn awake(&self) {
        if self.0.state.load(Ordering::Relaxed) == 0 {
            // Nothing announced that would be forgotten here, so nothing needs to be ordered.
            return;
        }
        self.0.state.store(0, Ordering::Relaxed);
        // Pairs with the fence in `wake`: from here the target sees the work of every announcement it has just erased.
        fence(Ordering::SeqCst);
    }

    /// Any thread: announces work that was published before (pushed to a ring), and wakes the target if it sleeps.
    /// True if that took a write to the eventfd, at most one per sleep.
    pub fn wake(&self) -> bool {
        // Pairs with the fence in `awake`: publish, fence, read the state.
        fence(Ordering::SeqCst);
        self.wake_after_fence()
    }

    /// [`wake`](Self::wake) for callers that wake several targets after one `SeqCst` fence of their own.
    pub(super) fn wake_after_fence(&self) -> bool {
        if self.0.state.load(Ordering::Relaxed) & SIGNALLED != 0 {
            // Someone announced already. The `awake` that erases it fences after us, so it covers our work, too.
            return false;
        }
        let before = self.0.state.fetch_or(SIGNALLED, Ordering::Relaxed);
        if before != ASLEEP {
            return false;
        }
        self.0.eventfd.write();
        true
    }

    /// Target only: makes the eventfd unreadable again, for waits that report readiness (poll, epoll). Needless after a wait
    /// that read the eventfd itself.
    pub fn drain(&self) {
        self.0.eventfd.read();
    }

    /// The eventfd, readable after a wake-up. Owned by the sleeper: valid as long as one clone lives, not to be closed.
    pub fn raw_fd(&self) -> RawFd {
        self.0.eventfd.raw_fd()
    }
}

#[cfg(loom)]
impl Sleeper {
    /// Target only: waits as a ring or an epoll would, and drains.
    pub(super) fn wait(&self) {
        self.0.eventfd.wait();
        self.drain();
    }

    /// How many system calls the wakers made.
    pub(super) fn written(&self) -> u64 {
        self.0.eventfd.written()
    }
}

#[cfg(not(loom))]
impl AsFd for Sleeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.eventfd.as_fd()
    }
}

impl AsRawFd for Sleeper {
    fn as_raw_fd(&self) -> RawFd {
        self.raw_fd()
    }
}

/// A sender's note that it could not push because the ring is full, and wants to be woken when there is room.
///
/// Without it a sender with a backlog had to stay awake and poll. The proof is the one above with the sides swapped: the sender
/// sets the note, fences, then tries the ring again; the receiver makes room, fences, then reads the note.
#[derive(Debug)]
pub(super) struct WantsRoom(AtomicBool);

impl WantsRoom {
    pub(super) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Sender: leaves the note. It must try the ring once more after this, and may sleep only if that fails, too.
    pub(super) fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Sender: found room after all. Coming late costs one needless wake-up.
    pub(super) fn withdraw(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Receiver, after it made room and then fenced (`SeqCst`): whether the sender must be woken, once per note.
    pub(super) fn take_after_fence(&self) -> bool {
        // The load first: the note is nearly never set, and a plain load keeps its cache line shared.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}
