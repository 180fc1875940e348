//! What wakes a thread that waits for sockets.
//!
//! Rung from any thread without ever blocking; heard on the thread of discovery that owns it. Rings that nobody has heard
//! yet are one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

pub(super) struct Bell {
    counter: OwnedFd,
    has_ended: AtomicBool,
}

impl Bell {
    pub(super) fn new() -> std::io::Result<Self> {
        let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { counter, has_ended: AtomicBool::new(false) })
    }

    pub(super) fn ring(&self) {
        // Fails only when it was rung 2^64 times, and then it rings anyway.
        let _ = rustix::io::write(&self.counter, &1_u64.to_ne_bytes());
    }

    /// Rings for the last time.
    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
        self.ring();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Whether it was rung since it was asked last.
    pub(super) fn was_rung(&self) -> bool {
        rustix::io::read(&self.counter, &mut [0; 8]).is_ok()
    }

    /// Waits until it is rung, `other` has something to read, or the time has passed. None: for ever.
    pub(super) fn wait(&self, other: Option<BorrowedFd<'_>>, time: Option<Duration>) {
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        let own = self.counter.as_fd();
        let mut sources = [PollFd::from_borrowed_fd(own, PollFlags::IN), PollFd::from_borrowed_fd(own, PollFlags::IN)];
        if let Some(other) = other {
            sources[1] = PollFd::from_borrowed_fd(other, PollFlags::IN);
        }
        // A signal ends it early, which costs a look at the clock.
        let _ = poll(&mut sources, time.as_ref());
    }
}
