//! The bytes between discovery and one server, over TCP or a Unix socket.
//!
//! On the threads of discovery. Blocks for as long as its timeouts say, or not at all where it is told so.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use gyre_io::redis::Endpoint;

pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(super) fn connect(endpoint: &Endpoint, connect_timeout: Duration) -> io::Result<Self> {
        Ok(match endpoint {
            Endpoint::Internet(address) | Endpoint::Named(_, address) => {
                let stream = TcpStream::connect_timeout(address, connect_timeout)?;
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
            // Succeeds or fails at once, unless nobody has taken a connection there for long.
            Endpoint::Unix(path) => Self::Unix(UnixStream::connect(path)?),
        })
    }

    /// The longest that one read waits; zero: it does not wait.
    pub(super) fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        let timeout = (!time.is_zero()).then_some(time);
        match self {
            Self::Tcp(stream) => {
                stream.set_nonblocking(timeout.is_none())?;
                stream.set_read_timeout(timeout)
            }
            Self::Unix(stream) => {
                stream.set_nonblocking(timeout.is_none())?;
                stream.set_read_timeout(timeout)
            }
        }
    }

    /// The longest that one write waits.
    pub(super) fn write_at_most(&self, time: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(time)),
            Self::Unix(stream) => stream.set_write_timeout(Some(time)),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}
