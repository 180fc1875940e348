//! What runs the driver: the ring of socket operations and the executor around it.
//!
//! The only place that names `glommio` and `io-uring`. The driver speaks of operations on a connection and of
//! events; which system calls carry them is decided here, so that a second backend can be added beside this one.
//! Everything here runs on the core's own thread, except `probe`, which runs wherever it is called.

mod buffers;
mod executor;
mod memory;
mod probe;
mod sockets;
mod uring;

pub(crate) use buffers::ReceiveBuffers;
pub use executor::spawn;
pub(crate) use executor::{Core, run_ready_tasks, start, tasks_alive};
pub(crate) use memory::give_back_memory;
pub use probe::{ProbeError, probe};
pub(crate) use sockets::bind_without_port;
pub(crate) use uring::{Event, Ring, Wait, is_retry};

/// Error numbers of the kernel that the driver tells apart.
pub(crate) mod errno {
    use rustix::io::Errno;

    pub(crate) const AGAIN: i32 = Errno::AGAIN.raw_os_error();
    pub(crate) const NOBUFS: i32 = Errno::NOBUFS.raw_os_error();
}
