//! What the wake protocol is built from: atomics, the full fence and the eventfd.
//!
//! Under `cfg(loom)` the same names are loom's, and the eventfd is a model of one, so that the model checker runs the very
//! code that runs in production (`loom_wake.rs`). Nothing here blocks outside of a model.

#[cfg(not(loom))]
pub(super) use real::EventFd;
#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
#[cfg(loom)]
pub(super) use model::EventFd;

#[cfg(not(loom))]
mod real {
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
    use std::io;
    use std::os::fd::AsFd;

    /// A non-blocking kernel counter: readable while it is not zero.
    #[derive(Debug)]
    pub(in crate::mesh) struct EventFd(OwnedFd);

    impl EventFd {
        pub(in crate::mesh) fn new() -> io::Result<Self> {
            Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
        }

        /// Makes it readable.
        pub(in crate::mesh) fn write(&self) {
            // The only error a live eventfd knows is EAGAIN at a count of 2^64-2: readable already, which is all we want.
            let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
        }

        /// Resets it. Not readable any more, unless written again meanwhile.
        pub(in crate::mesh) fn read(&self) {
            // EAGAIN: nothing was written. Same outcome.
            let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
        }

        pub(in crate::mesh) fn raw_fd(&self) -> RawFd {
            self.0.as_raw_fd()
        }

        pub(in crate::mesh) fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

#[cfg(loom)]
mod model {
    use loom::sync::{Condvar, Mutex};
    use std::io;
    use std::os::fd::{BorrowedFd, RawFd};

    /// The counter of an eventfd and, beyond the real one, how often it was written.
    #[derive(Debug)]
    pub(in crate::mesh) struct EventFd {
        counts: Mutex<Counts>,
        readable: Condvar,
    }

    #[derive(Debug, Default)]
    struct Counts {
        pending: u64,
        written: u64,
    }

    impl EventFd {
        pub(in crate::mesh) fn new() -> io::Result<Self> {
            Ok(Self { counts: Mutex::new(Counts::default()), readable: Condvar::new() })
        }

        pub(in crate::mesh) fn write(&self) {
            let mut counts = self.counts.lock().unwrap();
            counts.pending += 1;
            counts.written += 1;
            self.readable.notify_one();
        }

        pub(in crate::mesh) fn read(&self) {
            self.counts.lock().unwrap().pending = 0;
        }

        /// Stands for the wait in io_uring or epoll. A lost wake-up is a deadlock here, which loom reports.
        pub(in crate::mesh) fn wait(&self) {
            let mut counts = self.counts.lock().unwrap();
            while counts.pending == 0 {
                counts = self.readable.wait(counts).unwrap();
            }
        }

        pub(in crate::mesh) fn written(&self) -> u64 {
            self.counts.lock().unwrap().written
        }

        pub(in crate::mesh) fn raw_fd(&self) -> RawFd {
            -1
        }
    }
}
