//! The driver: all connections of one core.
//!
//! Runs as the foreground task of the core's executor (`turn.rs`) and blocks only in its ring. A turn: take events,
//! hand them to the `Handler`, let ready tasks run, flush every connection that has something to say once, wait.
//! Lives in an `Rc<RefCell<Driver>>` that tasks share: it is never borrowed while tasks run, and a task must not keep
//! it borrowed across an await. It never calls back into the handler from its public methods: what they cause is
//! reported in the next turn at the latest.

mod close;
mod dial;
mod flush;
mod listen;
mod pending;
mod receive;
mod slot;
mod turn;

use std::time::{Duration, Instant};

use gyre_proto::ids::ConnId;
use gyre_proto::ws;

use crate::backend::{Event, Ring};
use crate::limits::TIMER_GRAIN_MS;
use crate::mesh::Sleeper;
use crate::outbox::Outboxes;
use crate::palette::{FrameId, FrameKind, Palette};
use crate::websocket::WebSocketOptions;
use crate::wheel::Wheel;
use dial::DialSlots;
pub use dial::{Dial, Target, Then, UpgradeRequest};
use flush::Record;
use listen::Listening;
pub use listen::{BindError, Listener, bind_listeners};
use slot::Table;
pub(crate) use slot::{Phase, TimerUse};
pub use turn::{CoreHandle, CoreOptions, receive_buffers, spawn_core};

/// What the owner of the connections implements: the data plane, the load generator, an example. Every method runs
/// on the core's thread inside a turn and must not block.
pub trait Handler: 'static {
    /// A TCP connection was accepted by the listener with this position in `CoreOptions::listeners`. It is in stream
    /// mode: hand it to `http::serve` (in a task) within ten seconds.
    fn accepted(&mut self, driver: &mut Driver, conn: ConnId, listener: usize);
    /// A whole message arrived on a WebSocket connection. `data` is valid only during the call.
    fn message(&mut self, driver: &mut Driver, conn: ConnId, opcode: ws::Opcode, data: &[u8]);
    /// Bytes arrived on a raw connection (`Then::Raw`), cut wherever the network or a receive buffer of 2 KiB cut them.
    /// `data` is valid only during the call.
    fn bytes(&mut self, driver: &mut Driver, conn: ConnId, data: &[u8]) {
        let _ = (driver, conn, data);
    }
    /// An outgoing connection is usable: connected, or with `Then::WebSocket` upgraded. In stream mode hand it to
    /// `Stream::claim` within ten seconds.
    fn dialled(&mut self, driver: &mut Driver, conn: ConnId) {
        let _ = (driver, conn);
    }
    /// The connection is gone, exactly once for each accepted or dialled one. Its id is stale from here on.
    fn closed(&mut self, driver: &mut Driver, conn: ConnId, why: Closed);
    /// The connection's timer fired.
    fn timeout(&mut self, driver: &mut Driver, conn: ConnId);
    /// The peer reads too slowly: its outbox went over the bound and takes nothing any more. Once per connection.
    fn slow(&mut self, driver: &mut Driver, conn: ConnId);
    /// Once per turn, after all events and before tasks run.
    fn turn(&mut self, driver: &mut Driver) -> Busy;
    /// Once per turn, after tasks have run and before the core may sleep: the place to flush a mesh port.
    fn turn_ends(&mut self, driver: &mut Driver) {
        let _ = driver;
    }
}

/// Whether the handler has more to do right away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Busy {
    /// Do not sleep before the next turn.
    Yes,
    /// Sleep until something happens.
    No,
}

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// The peer sent a close frame with this code; 1005 if it gave none.
    PeerClosed {
        /// Close code.
        code: u16,
    },
    /// The peer ended its direction without a close frame.
    PeerEof,
    /// The connection broke.
    PeerReset,
    /// The peer broke the WebSocket protocol and was sent this code.
    Violation(u16),
    /// This side closed it.
    Local,
    /// It could not be connected: error number.
    Unreachable(i32),
    /// The upgrade was answered with this status; 101 if only the accept key was wrong or something was accepted that was
    /// not offered, 0 if it was not HTTP.
    Refused(u16),
    /// It was not usable in time.
    DialTimeout,
}

/// Plain counters of one core since its start.
#[derive(Clone, Default, Debug)]
pub struct DriverStats {
    /// Connections accepted.
    pub accepted: u64,
    /// Outgoing connections begun.
    pub dials: u64,
    /// Connections whose slot was freed.
    pub closed: u64,
    /// Accepts that failed, such as for a full table.
    pub accept_errors: u64,
    /// Bytes received from sockets.
    pub bytes_in: u64,
    /// Bytes the kernel took for sending.
    pub bytes_out: u64,
    /// Send operations.
    pub sends: u64,
    /// Sends that found the socket full.
    pub sends_blocked: u64,
    /// Frames pushed to connections.
    pub frames: u64,
    /// Turns.
    pub turns: u64,
    /// Connections whose outbox went over the bound.
    pub slow: u64,
    /// Receives that found no free buffer and were repeated.
    pub buffers_exhausted: u64,
}

/// What is reported to the handler outside of the call that caused it.
pub(crate) enum Notice {
    Connected(ConnId, Result<u32, i32>),
    Closed(ConnId, Closed),
    Slow(ConnId),
    Leftover(ConnId),
}

/// All connections of one core, and what was prepared for them in this turn.
pub struct Driver {
    pub(crate) table: Table,
    ring: Ring,
    palette: Palette,
    outboxes: Outboxes,
    wheel: Wheel,
    started: Instant,
    now_ms: u64,
    outbox_bytes_max: u32,
    listening: Vec<Listening>,
    accept_retry_ms: Option<u64>,
    accept_log_ms: Option<u64>,
    pub(crate) websocket_options: Vec<WebSocketOptions>,
    notices: Vec<Notice>,
    holds_accepts: bool,
    holds_closed: bool,
    dial_slots: DialSlots,
    leaving: Vec<ConnId>,
    events: Vec<Event>,
    settled: Vec<Event>,
    records: Vec<Record>,
    joined: Vec<u8>,
    joined_frames: Vec<u32>,
    joined_at: std::ops::Range<usize>,
    frames: Vec<u32>,
    fired: Vec<u32>,
    pub(crate) woke_task: bool,
    sleeper: Option<Sleeper>,
    is_draining: bool,
    stopping: bool,
    sleep_max: Option<Duration>,
    stats: DriverStats,
}

impl Driver {
    fn new(ring: Ring, outbox_bytes_max: u32, listeners: Vec<Listener>, dial_slots: DialSlots) -> Self {
        Self {
            table: Table::default(),
            ring,
            palette: Palette::default(),
            outboxes: Outboxes::default(),
            wheel: Wheel::new(0),
            started: Instant::now(),
            now_ms: 0,
            outbox_bytes_max,
            listening: listeners.into_iter().map(Listening::new).collect(),
            accept_retry_ms: None,
            accept_log_ms: None,
            websocket_options: Vec::new(),
            notices: Vec::new(),
            holds_accepts: false,
            holds_closed: false,
            dial_slots,
            leaving: Vec::new(),
            events: Vec::new(),
            settled: Vec::new(),
            records: Vec::new(),
            joined: Vec::new(),
            joined_frames: Vec::new(),
            joined_at: 0..0,
            frames: Vec::new(),
            fired: Vec::new(),
            woke_task: false,
            sleeper: None,
            is_draining: false,
            stopping: false,
            sleep_max: None,
            stats: DriverStats::default(),
        }
    }

    /// Prepares a frame of this turn by copying `payload` once.
    pub fn frame(&mut self, kind: FrameKind, payload: &[u8]) -> FrameId {
        self.palette.add(kind, payload)
    }

    /// Prepares a frame of this turn whose payload `write` appends to the buffer it is given.
    pub fn frame_with(&mut self, kind: FrameKind, write: impl FnOnce(&mut Vec<u8>)) -> FrameId {
        self.palette.add_with(kind, write)
    }

    /// Queues a frame of this turn for a connection. Ignored if the connection is gone, closing or marked slow.
    pub fn push(&mut self, conn: ConnId, frame: FrameId) {
        let index = self.palette.index(frame);
        if let Some(slot) = self.table.get(conn)
            && slot.is_open()
            && !slot.slow
        {
            self.queue(conn, index);
            self.check_slow(conn);
        }
    }

    /// Sets the connection's timer to `deadline_ms` on the clock of `now_ms`, replacing its earlier deadline. It fires up
    /// to 64 ms later, together with others: pings of idle connections would wake the core one by one otherwise.
    pub fn set_timer(&mut self, conn: ConnId, deadline_ms: u64) {
        if let Some(slot) = self.table.get(conn)
            && slot.is_open()
        {
            self.arm_timer(
                conn,
                TimerUse::Handler,
                deadline_ms.saturating_add(TIMER_GRAIN_MS - 1) & !(TIMER_GRAIN_MS - 1),
            );
        }
    }

    /// Forgets the deadline of `set_timer`.
    pub fn clear_timer(&mut self, conn: ConnId) {
        self.disarm_timer(conn, TimerUse::Handler);
    }

    /// Milliseconds since this core started, as of the beginning of the turn.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Open connections, including those that are closing.
    pub fn connections(&self) -> usize {
        self.table.open
    }

    /// After a peak of connections: frees what is kept for the next one, then has the allocator give back to the system
    /// what this thread has freed. Takes some milliseconds after very many connections: not for every turn.
    pub fn give_back_memory(&mut self) {
        self.table.forget_spare();
        for events in [&mut self.events, &mut self.settled] {
            events.shrink_to_fit();
        }
        self.records.shrink_to_fit();
        if self.records.is_empty() {
            // No send points into it.
            self.joined = Vec::new();
            self.joined_frames.clear();
        }
        if self.table.open == 0 {
            self.wheel.forget_all();
        }
        crate::backend::give_back_memory();
    }

    /// The counters of this core.
    pub fn stats(&self) -> &DriverStats {
        &self.stats
    }

    /// Whether `Handler::closed` waits: for a handler whose work on thousands of ends has to wait for others.
    pub fn hold_closed(&mut self, hold: bool) {
        self.holds_closed = hold;
    }

    /// Bytes queued for a connection that the kernel has not taken yet; 0 if it is gone.
    pub fn unsent(&mut self, conn: ConnId) -> u32 {
        self.table.get(conn).map_or(0, |slot| slot.unsent)
    }

    /// True if the connection is in WebSocket, raw or stream mode and not closing.
    pub fn is_open(&mut self, conn: ConnId) -> bool {
        self.table.get(conn).is_some_and(|slot| slot.is_open())
    }

    /// The core sleeps no longer than this after this turn: for a handler with a schedule finer than its timers.
    pub fn wake_within(&mut self, duration: Duration) {
        self.sleep_max = Some(self.sleep_max.map_or(duration, |earlier| earlier.min(duration)));
    }

    /// Ends the core after this turn. Its connections are cut; close them first if they are to be told.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Queues a frame without asking whether the connection still takes any.
    fn queue(&mut self, conn: ConnId, frame: u32) {
        let len = self.palette.wire(frame).len();
        let Some(slot) = self.table.get(conn) else { return };
        slot.unsent = slot.unsent.saturating_add(len as u32);
        self.stats.frames += 1;
        self.outboxes.push(&mut slot.outbox, frame);
        if !slot.dirty {
            slot.dirty = true;
            self.outboxes.dirty.push(conn.index);
        }
    }

    pub(crate) fn notify(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    fn mark_dirty(&mut self, conn: ConnId) {
        if let Some(slot) = self.table.get(conn)
            && !slot.dirty
        {
            slot.dirty = true;
            self.outboxes.dirty.push(conn.index);
        }
    }

    /// The bound counts only when the socket is full: what a healthy peer gets in one turn is taken by the flush.
    fn check_slow(&mut self, conn: ConnId) {
        let max = self.outbox_bytes_max;
        if let Some(slot) = self.table.get(conn)
            && slot.unsent > max
            && !slot.slow
            // A stream is not slow: it takes no more than it has room for.
            && matches!(slot.phase, Phase::WebSocket | Phase::Raw)
            && slot.pending().is_some()
        {
            slot.slow = true;
            self.stats.slow += 1;
            self.notices.push(Notice::Slow(conn));
        }
    }

    pub(crate) fn arm_timer(&mut self, conn: ConnId, user: TimerUse, deadline_ms: u64) {
        if let Some(slot) = self.table.get(conn) {
            slot.timer = user;
            self.wheel.set(conn.index, deadline_ms);
        }
    }

    pub(crate) fn disarm_timer(&mut self, conn: ConnId, user: TimerUse) {
        if let Some(slot) = self.table.get(conn)
            && slot.timer == user
        {
            slot.timer = TimerUse::None;
            self.wheel.clear(conn.index);
        }
    }
}
