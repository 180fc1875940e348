//! Listening sockets and accepting.
//!
//! One socket per core and address, all bound to the same port with SO_REUSEPORT: a socket shared by two rings gave
//! every connection to one of them (driver rule 2). They are made before the cores start, so that a wrong address is
//! a clean error of the operator. Accepting runs on the core; a failed accept is repeated after a pause.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use super::{Driver, Handler, Phase, TimerUse};
use crate::limits::{ACCEPT_LOG_MS, ACCEPT_RETRY_MS, BACKLOG, UNCLAIMED_MS};

/// An address that cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {cause}{}", remedy(cause))]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub cause: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process uses it, or an earlier one has not ended yet",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= in a systemd unit)"
        }
        io::ErrorKind::AddrNotAvailable => "; no network interface has this address",
        _ => "",
    }
}

/// A socket of one core that listens on an address.
#[derive(Debug)]
pub struct Listener(Socket);

impl Listener {
    /// Where it listens; useful after binding port 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        let address = self.0.local_addr()?;
        address.as_socket().ok_or_else(|| io::Error::other("not an internet address"))
    }

    /// Fixes the kernel's send buffer of connections it accepts, instead of letting the kernel grow it.
    pub fn set_send_buffer_bytes(&self, bytes: usize) -> io::Result<()> {
        self.0.set_send_buffer_size(bytes)
    }
}

/// Listens on `address` with one socket for each of `cores`. Port 0 picks a free port, the same for all.
pub fn bind_listeners(address: SocketAddr, cores: usize) -> Result<Vec<Listener>, BindError> {
    let mut target = address;
    let mut listeners = Vec::with_capacity(cores);
    if target.port() != 0 {
        // Sockets that share a port would join those of another process of ours, and the kernel would give each half
        // of the clients. A socket that does not share finds that out.
        bind(target, Port::Alone).map_err(|cause| BindError { address, cause })?;
    }
    for _ in 0..cores {
        let listener = bind(target, Port::Shared).map_err(|cause| BindError { address, cause })?;
        if target.port() == 0 {
            target = listener.address().map_err(|cause| BindError { address, cause })?;
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Whether other sockets may listen on the same port.
#[derive(PartialEq)]
enum Port {
    Alone,
    Shared,
}

fn bind(address: SocketAddr, port: Port) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(port == Port::Shared)?;
    // Inherited by accepted sockets: saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(Listener(socket))
}

/// A listener in the hands of a driver.
pub(super) struct Listening {
    socket: Socket,
    accepting: bool,
    stopped: bool,
    retry_ms: u64,
}

impl Listening {
    pub(super) fn new(listener: Listener) -> Self {
        Self { socket: listener.0, accepting: false, stopped: false, retry_ms: 0 }
    }
}

impl Driver {
    /// Accepts no further connections. Those waiting in the backlog are refused by the kernel.
    pub fn stop_accepting(&mut self) {
        for listening in &mut self.listening {
            listening.stopped = true;
            // Ends the armed accept as well. Cannot fail on a listening socket in a way that matters here.
            let _ = listening.socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Ends HTTP connections as they finish what they are answering, and accepts no further ones. WebSocket and raw
    /// connections are the handler's to close.
    pub fn drain(&mut self) {
        self.stop_accepting();
        self.is_draining = true;
        self.wake_streams();
    }

    /// Whether new connections wait in the kernel's backlog for now.
    pub fn hold_accepts(&mut self, hold: bool) {
        if std::mem::replace(&mut self.holds_accepts, hold) && !hold {
            self.accept_retry_ms = Some(self.now_ms);
        }
    }

    /// Whether `drain` was called.
    pub fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Starts to accept where it is time to. Every turn.
    pub(super) fn arm_accepts(&mut self) {
        let mut next = None;
        if self.holds_accepts {
            return;
        }
        for (at, listening) in self.listening.iter_mut().enumerate() {
            if listening.accepting || listening.stopped {
                continue;
            }
            if listening.retry_ms > self.now_ms {
                next = Some(next.map_or(listening.retry_ms, |next: u64| next.min(listening.retry_ms)));
                continue;
            }
            listening.accepting = true;
            self.ring.accept(at as u16, listening.socket.as_raw_fd());
        }
        self.accept_retry_ms = next;
    }

    pub(super) fn on_accepted<H: Handler>(
        &mut self,
        handler: &mut H,
        listener: u16,
        result: Result<u32, i32>,
        more: bool,
    ) {
        let listening = &mut self.listening[usize::from(listener)];
        if !more {
            listening.accepting = false;
        }
        match result {
            Ok(index) => {
                let conn = self.open_connection(index);
                handler.accepted(self, conn, usize::from(listener));
            }
            Err(_) if listening.stopped => {}
            Err(error) => {
                listening.retry_ms = self.now_ms + ACCEPT_RETRY_MS;
                self.stats.accept_errors += 1;
                self.log_accept_error(error);
            }
        }
    }

    fn open_connection(&mut self, index: u32) -> gyre_proto::ids::ConnId {
        let conn = self.table.open(index, Phase::Stream);
        self.stats.accepted += 1;
        self.open_stream(conn);
        self.arm_timer(conn, TimerUse::Stream, self.now_ms + UNCLAIMED_MS);
        conn
    }

    fn log_accept_error(&mut self, error: i32) {
        if self.accept_log_ms.is_some_and(|last| self.now_ms < last + ACCEPT_LOG_MS) {
            return;
        }
        self.accept_log_ms = Some(self.now_ms);
        let (connections, failed) = (self.table.open, self.stats.accept_errors);
        let is_full = matches!(Errno::from_raw_os_error(error), Errno::NFILE | Errno::MFILE);
        if !is_full {
            let error = io::Error::from_raw_os_error(error);
            return tracing::warn!(%error, connections, failed, "cannot accept connections");
        }
        // The size of this core's table, unless `connections` is below it: then it is the host that has no more files.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        tracing::warn!(
            connections,
            limit,
            failed,
            "cannot accept connections: a core holds no more of them than the limit of open files; raise it \
             (LimitNOFILE= in a systemd unit, ulimit -n in a shell, fs.file-max for the host) or use more cores",
        );
    }
}
