//! Answers before anything starts: will io_uring work here, and if not, whose setting denies it.
//!
//! Runs on any thread, blocks for a few system calls. It sets up a small ring with the flags the driver uses and
//! registers one file table and one buffer ring, then drops it all.

use std::fs;
use std::io;

use rustix::io::Errno;
use thiserror::Error;

use super::buffers::ReceiveBuffers;
use super::uring::Ring;
use crate::limits::RECEIVE_BUFFERS_MIN;

/// Oldest kernel with everything the driver needs (multishot accept and receive, DEFER_TASKRUN: 6.1).
const KERNEL_MIN: &str = "6.1";

/// Why io_uring cannot be used: the operator's side of it.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The system-call filter of a container refuses it.
    #[error(
        "cannot set up io_uring: operation not permitted; likely the container's seccomp profile blocks it (see \
         docs/operate/containers.md)"
    )]
    Seccomp,
    /// The sysctl forbids it.
    #[error(
        "cannot set up io_uring: operation not permitted; the sysctl kernel.io_uring_disabled is {value}: set it to 0 \
         {alternative}(see docs/operate/containers.md)"
    )]
    Sysctl {
        /// 1: only privileged users and members of io_uring_group; 2: nobody.
        value: u8,
        /// What else would help.
        alternative: &'static str,
    },
    /// The kernel does not know it, or not the flags we need.
    #[error("cannot set up io_uring: {detail}; this kernel is {release}, {KERNEL_MIN} or newer is needed")]
    Kernel {
        /// What the kernel said.
        detail: String,
        /// As `uname -r` prints it.
        release: String,
    },
    /// The locked-memory limit is too low.
    #[error(
        "cannot set up io_uring: out of locked memory; raise `ulimit -l` (LimitMEMLOCK= in a systemd unit), now {limit}"
    )]
    Memlock {
        /// The soft limit, human-readable.
        limit: String,
    },
    /// No file descriptor was left.
    #[error("cannot set up io_uring: too many open files; raise `ulimit -n` (LimitNOFILE= in a systemd unit)")]
    Files,
    /// Anything else.
    #[error("cannot set up io_uring: {0}")]
    Other(io::Error),
}

/// Tries io_uring as a core will use it.
pub fn probe() -> Result<(), ProbeError> {
    let attempt = || -> io::Result<()> {
        let ring = Ring::build(8, 16)?;
        ring.submitter().register_files_sparse(8)?;
        let buffers = ReceiveBuffers::register(&ring.submitter(), RECEIVE_BUFFERS_MIN)?;
        // The ring goes first: the kernel may use the buffers until then.
        drop(ring);
        drop(buffers);
        Ok(())
    };
    let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    attempt().map_err(|error| explain(error, sysctl.as_deref()))
}

fn explain(error: io::Error, sysctl: Option<&str>) -> ProbeError {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    match errno {
        Some(Errno::PERM | Errno::ACCESS) => match sysctl.map(str::trim) {
            Some("1") => {
                ProbeError::Sysctl { value: 1, alternative: "or add the user to the group of kernel.io_uring_group " }
            }
            Some("2") => ProbeError::Sysctl { value: 2, alternative: "" },
            _ => ProbeError::Seccomp,
        },
        Some(Errno::NOSYS) => kernel("the system call does not exist"),
        Some(Errno::INVAL) => kernel("a needed flag or operation is unknown"),
        Some(Errno::NOMEM) => ProbeError::Memlock { limit: memlock() },
        Some(Errno::MFILE | Errno::NFILE) => ProbeError::Files,
        _ => ProbeError::Other(error),
    }
}

fn kernel(detail: &str) -> ProbeError {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    ProbeError::Kernel { detail: detail.to_owned(), release }
}

fn memlock() -> String {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    limit.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{} KiB", bytes / 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operator in a container must be told about seccomp, not shown a bare errno.
    #[test]
    fn refusals_name_their_cause() {
        let text = |errno: Errno, sysctl| explain(io::Error::from(errno), sysctl).to_string();
        assert!(text(Errno::PERM, Some("0\n")).contains("likely the container's seccomp profile blocks it"));
        assert!(text(Errno::PERM, None).contains("seccomp"));
        assert!(text(Errno::PERM, Some("1\n")).contains("kernel.io_uring_disabled is 1"));
        assert!(text(Errno::PERM, Some("2\n")).contains("kernel.io_uring_disabled is 2: set it to 0 (see"));
        assert!(text(Errno::NOSYS, None).contains("6.1 or newer"));
        assert!(text(Errno::NOMEM, None).contains("ulimit -l"));
        assert!(text(Errno::MFILE, None).contains("ulimit -n"));
    }

    /// The probe must accept a machine on which the rest of the tests run.
    #[test]
    fn accepts_this_machine() {
        probe().unwrap();
    }
}
