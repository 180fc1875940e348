//! The ring of one core: socket operations in, events out.
//!
//! Runs on the core's thread only (SINGLE_ISSUER); blocks nowhere but in `wait`. Operations are queued and reach the
//! kernel at the next `submit` or `wait`; a full queue submits early. Every operation names its connection in its
//! user_data (kind, index, generation), so a completion that comes late is recognised.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use gyre_proto::ids::ConnId;
use io_uring::types::{Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::net::SendFlags;
use socket2::{SockAddr, Socket};

use super::buffers::{BufferMemory, GROUP, ReceiveBuffers};
use super::errno;
use crate::limits::{COMPLETIONS, SUBMISSIONS};

/// Flags of io_uring_enter(2); the crate keeps its own names for them private.
const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;

/// Flags of a receive, in the field `ioprio`.
const POLL_FIRST: u16 = 1;
const RECEIVE_MULTISHOT: u16 = 1 << 1;

const POLLIN: u32 = 0x1;
const POLLOUT: u32 = 0x4;
const POLLRDHUP: u32 = 0x2000;

const SHUT_RD: i32 = 0;
const SHUT_WR: i32 = 1;
const SHUT_RDWR: i32 = 2;

/// A send takes what the socket buffer has room for, whole or the exact part, and never waits (driver rule 5).
const SEND_FLAGS: i32 = (SendFlags::DONTWAIT.bits() | SendFlags::NOSIGNAL.bits() | WAITALL) as i32;
const WAITALL: u32 = 0x100;

/// io-wq threads per ring. Only shutdown needs them; two are enough to keep one busy while another blocks.
const KERNEL_WORKERS_MAX: u32 = 2;

/// What the kernel reports.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    /// A connection was accepted into the slot `result`, or an error number. Without `more` the accept has ended.
    Accepted { listener: u16, result: Result<u32, i32>, more: bool },
    /// Bytes arrived in `buffer`; zero bytes are the end of the stream. Without `more` the receive has ended.
    Received { conn: ConnId, result: Result<u32, i32>, buffer: Option<u16>, more: bool },
    /// A quiet send, known by its record, went short (bytes sent) or failed.
    SendShort { record: u32, result: Result<u32, i32> },
    /// A reported send ended.
    Sent { conn: ConnId, result: Result<u32, i32> },
    /// A socket has room again, or is dead.
    Writable { conn: ConnId },
    /// The peer has ended its direction, or the socket is dead.
    Ended { conn: ConnId },
    /// A shutdown ended.
    ShutDown { conn: ConnId },
    /// A connect ended.
    Connected { conn: ConnId, result: Result<u32, i32> },
    /// Another thread rang the wake descriptor. Without `more` the watch has ended.
    Woken { more: bool },
}

/// How long `wait` may block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    No,
    AtMost(Duration),
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Accept = 1,
    Receive,
    SendQuiet,
    SendReported,
    Poll,
    Shutdown,
    Close,
    Wake,
    Connect,
    End,
}

/// One io_uring with its file table.
pub(crate) struct Ring {
    ring: IoUring,
    /// Targets of queued connects. The kernel copies an address when it takes the entry.
    #[expect(clippy::vec_box, reason = "the kernel is told where they are")]
    addresses: Vec<Box<SockAddr>>,
    /// After the ring, because the kernel may write to it until the ring is closed.
    _buffers: Rc<BufferMemory>,
}

impl Ring {
    /// A ring whose file table has room for `connections` sockets, with about `buffers` to receive into. Call on the
    /// thread that will use it.
    pub(crate) fn new(connections: u32, buffers: u16) -> io::Result<(Self, ReceiveBuffers)> {
        let ring = Self::build(SUBMISSIONS, COMPLETIONS)?;
        let mut submitter = ring.submitter();
        submitter.register_files_sparse(connections)?;
        submitter.register_iowq_max_workers(&mut [KERNEL_WORKERS_MAX, KERNEL_WORKERS_MAX])?;
        let buffers = ReceiveBuffers::register(&submitter, buffers)?;
        // Saves the file lookup in every enter (measured below 2 %, 2026-11); an old kernel may refuse, no harm.
        let _ = submitter.register_ring_fd();
        Ok((Self { ring, addresses: Vec::new(), _buffers: buffers.memory() }, buffers))
    }

    /// Only the ring, with the flags of driver rule 1.
    pub(super) fn build(submissions: u32, completions: u32) -> io::Result<IoUring> {
        IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(completions)
            .dontfork()
            .build(submissions)
    }

    /// Takes the first `count` of `connections` slots away from `accept`: their indexes are given out by `adopt`.
    pub(crate) fn reserve_slots(&mut self, count: u32, connections: u32) -> io::Result<()> {
        super::sockets::allocate_from(self.ring.as_raw_fd(), count, connections - count)
    }

    /// Puts a socket into the reserved slot `index`, which must be free: every `close` of it must have been submitted.
    pub(crate) fn adopt(&mut self, index: u32, socket: Socket) -> io::Result<()> {
        self.ring.submitter().register_files_update(index, &[socket.as_raw_fd()])?;
        // The file table holds the socket from here on; dropping ours keeps file descriptors free.
        drop(socket);
        Ok(())
    }

    /// Connects an adopted socket.
    pub(crate) fn connect(&mut self, conn: ConnId, target: SocketAddr) {
        let address = Box::new(SockAddr::from(target));
        let entry = opcode::Connect::new(Fixed(conn.index), address.as_ptr().cast(), address.len()).build();
        // A full queue is submitted first, which lets go of earlier addresses but must not of this one.
        self.push(entry.user_data(conn_token(Kind::Connect, conn)));
        self.addresses.push(address);
    }

    /// Accepts on `fd` into free slots of the file table until it fails.
    pub(crate) fn accept(&mut self, listener: u16, fd: RawFd) {
        let entry = opcode::AcceptMulti::new(Fd(fd)).allocate_file_index(true).build();
        self.push(entry.user_data(token(Kind::Accept, 0, u32::from(listener))));
    }

    /// Receives into the shared buffers until it fails or ends; first waits for bytes instead of trying.
    pub(crate) fn receive_many(&mut self, conn: ConnId) {
        self.receive(conn, RECEIVE_MULTISHOT | POLL_FIRST);
    }

    /// Receives once into a shared buffer; tries before it waits.
    pub(crate) fn receive_once(&mut self, conn: ConnId) {
        self.receive(conn, 0);
    }

    fn receive(&mut self, conn: ConnId, how: u16) {
        let entry = opcode::Recv::new(Fixed(conn.index), std::ptr::null_mut(), 0)
            .ioprio(how)
            .buf_group(GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push(entry.user_data(conn_token(Kind::Receive, conn)));
    }

    /// Sends now or not at all; reports only what did not go out whole, as `SendShort { record }`.
    ///
    /// # Safety
    /// `bytes` must stay valid and unchanged until the submission that carries it has returned.
    pub(crate) unsafe fn send_quiet(&mut self, conn: ConnId, record: u32, bytes: *const [u8]) {
        let entry = send_entry(conn, bytes).flags(squeue::Flags::SKIP_SUCCESS);
        self.push(entry.user_data(token(Kind::SendQuiet, conn.index, record)));
    }

    /// Sends now or not at all; reports in any case.
    ///
    /// # Safety
    /// As `send_quiet`.
    pub(crate) unsafe fn send_reported(&mut self, conn: ConnId, bytes: *const [u8]) {
        self.push(send_entry(conn, bytes).user_data(conn_token(Kind::SendReported, conn)));
    }

    /// Reports once when the socket has room.
    pub(crate) fn await_writable(&mut self, conn: ConnId) {
        let entry = opcode::PollAdd::new(Fixed(conn.index), POLLOUT).build();
        self.push(entry.user_data(conn_token(Kind::Poll, conn)));
    }

    /// Reports once when the peer has ended its direction.
    pub(crate) fn await_end(&mut self, conn: ConnId) {
        let entry = opcode::PollAdd::new(Fixed(conn.index), POLLRDHUP).build();
        self.push(entry.user_data(conn_token(Kind::End, conn)));
    }

    /// Has an armed receive look again: it reports what has arrived, then the end.
    pub(crate) fn shutdown_read(&mut self, conn: ConnId) {
        self.shutdown(conn, SHUT_RD);
    }

    /// Ends our direction.
    pub(crate) fn shutdown_write(&mut self, conn: ConnId) {
        self.shutdown(conn, SHUT_WR);
    }

    /// Ends both directions; an armed receive and armed polls end with it.
    pub(crate) fn shutdown_both(&mut self, conn: ConnId) {
        self.shutdown(conn, SHUT_RDWR);
    }

    fn shutdown(&mut self, conn: ConnId, how: i32) {
        let entry = opcode::Shutdown::new(Fixed(conn.index), how).build();
        self.push(entry.user_data(conn_token(Kind::Shutdown, conn)));
    }

    /// Frees the slot. The kernel may hand out the same slot again as soon as it has seen this.
    pub(crate) fn close(&mut self, conn: ConnId) {
        let entry = opcode::Close::new(Fixed(conn.index)).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(entry.user_data(conn_token(Kind::Close, conn)));
    }

    /// Reports whenever another thread writes to the eventfd `fd`. It is never read: only the edge counts.
    pub(crate) fn watch_wake(&mut self, fd: RawFd) {
        let entry = opcode::PollAdd::new(Fd(fd), POLLIN).multi(true).build();
        self.push(entry.user_data(token(Kind::Wake, 0, 0)));
    }

    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: the operands of every entry outlive its submission: file table and shared buffers live as long
            // as the ring, addresses until the queue was submitted, and the callers of the sends promise it.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            self.submit();
        }
    }

    /// Hands everything queued to the kernel, which executes sends before it returns.
    pub(crate) fn submit(&mut self) {
        loop {
            let queued = self.ring.submission().len() as u32;
            // SAFETY: no argument is passed.
            let result = unsafe { self.ring.submitter().enter::<()>(queued, 0, ENTER_GETEVENTS, None) };
            tolerate(result);
            if self.ring.submission().is_empty() {
                self.addresses.clear();
                return;
            }
            // The kernel is out of memory for requests. What is queued points into arenas of this turn: insist.
            std::thread::yield_now();
        }
    }

    /// Submits and waits for one event or the end of the time. Skips the system call if there is nothing to do.
    pub(crate) fn wait(&mut self, wait: Wait) {
        let submission = self.ring.submission();
        let queued = submission.len() as u32;
        let pending_work = submission.taskrun() || submission.cq_overflow();
        drop(submission);
        match wait {
            Wait::No if queued == 0 && !pending_work => {}
            Wait::No => self.submit(),
            Wait::AtMost(time) => {
                let time = Timespec::from(time);
                let args = SubmitArgs::new().timespec(&time);
                let flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
                // SAFETY: args and the time it points to live until the call returns.
                let result = unsafe { self.ring.submitter().enter(queued, 1, flags, Some(&args)) };
                tolerate(result);
                if !self.ring.submission().is_empty() {
                    self.submit();
                }
                self.addresses.clear();
            }
        }
    }

    /// Takes all events there are, including those the kernel had to hold back because the queue was full.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(Event)) {
        loop {
            for completion in self.ring.completion() {
                if let Some(event) = decode(&completion) {
                    each(event);
                }
            }
            if !self.ring.submission().cq_overflow() {
                return;
            }
            self.submit();
        }
    }
}

fn send_entry(conn: ConnId, bytes: *const [u8]) -> squeue::Entry {
    // A send is bounded by the outbox, which is far below 4 GiB (limits.rs); a cut length would only go short.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    opcode::Send::new(Fixed(conn.index), bytes.cast(), len).flags(SEND_FLAGS).build()
}

/// Results of entering the ring that need no answer: time is up, a signal came, or completions must be taken first.
fn tolerate(result: io::Result<usize>) {
    use rustix::io::Errno;
    let Err(error) = result else { return };
    let tolerable = [Errno::TIME, Errno::INTR, Errno::BUSY, Errno::AGAIN];
    let number = error.raw_os_error().unwrap_or(0);
    assert!(tolerable.iter().any(|errno| errno.raw_os_error() == number), "io_uring_enter: {error}");
}

/// Kind, index and generation (or another number) of an operation in 64 bits.
fn token(kind: Kind, index: u32, low: u32) -> u64 {
    debug_assert!(index < 1 << 24);
    (kind as u64) << 56 | u64::from(index) << 32 | u64::from(low)
}

fn conn_token(kind: Kind, conn: ConnId) -> u64 {
    token(kind, conn.index, conn.generation)
}

fn decode(completion: &cqueue::Entry) -> Option<Event> {
    let token = completion.user_data();
    let low = token as u32;
    let conn = ConnId { index: (token >> 32) as u32 & 0xff_ffff, generation: low };
    let number = completion.result();
    let result = if number < 0 { Err(-number) } else { Ok(number as u32) };
    let flags = completion.flags();
    let more = cqueue::more(flags);
    Some(match (token >> 56) as u8 {
        kind if kind == Kind::Accept as u8 => Event::Accepted { listener: low as u16, result, more },
        kind if kind == Kind::Receive as u8 => {
            Event::Received { conn, result, buffer: cqueue::buffer_select(flags), more }
        }
        kind if kind == Kind::SendQuiet as u8 => Event::SendShort { record: low, result },
        kind if kind == Kind::SendReported as u8 => Event::Sent { conn, result },
        kind if kind == Kind::Poll as u8 => Event::Writable { conn },
        kind if kind == Kind::End as u8 => Event::Ended { conn },
        kind if kind == Kind::Shutdown as u8 => Event::ShutDown { conn },
        kind if kind == Kind::Wake as u8 => Event::Woken { more },
        kind if kind == Kind::Connect as u8 => Event::Connected { conn, result },
        // A successful close is silent, so this one failed: two owners of one slot.
        kind if kind == Kind::Close as u8 => panic!("close of slot {}: error {number}", conn.index),
        _ => return None,
    })
}

/// True for errors after which the same operation is simply queued again.
pub(crate) fn is_retry(error: i32) -> bool {
    error == errno::NOBUFS || error == errno::AGAIN || error == rustix::io::Errno::INTR.raw_os_error()
}
