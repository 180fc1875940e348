//! Every bound of this package with its reason.

use std::time::Duration;

/// Entries of the submission queue. A fan-out to more connections submits in several steps; at 1024 sends per system
/// call its cost no longer shows.
pub(crate) const SUBMISSIONS: u32 = 1024;

/// Entries of the completion queue: room for one event of each kind per submission; the kernel keeps what does not fit.
pub(crate) const COMPLETIONS: u32 = 4 * SUBMISSIONS;

/// Receive buffers of a core, and their size: 2 MiB in all. Measured: more buffers did not help, larger ones only cost
/// cache. Where many cores share a CPU each has fewer, for they are a good part of its memory (`receive_buffers`); a turn
/// with more completions than buffers costs repeated receives. One buffer is also the most that a stream reads ahead of
/// hyper.
pub(crate) const RECEIVE_BUFFERS_MIN: u16 = 256;
pub(crate) const RECEIVE_BUFFERS_MAX: u16 = 1024;
pub(crate) const RECEIVE_BUFFER_BYTES: usize = 2048;

/// Slots of a connection table of one core: 24 bits of an operation's user_data, and beyond it the kernel's own bound
/// for a file table (2^20).
pub(crate) const CONNECTIONS_MAX: u32 = 1 << 20;

/// Slots per chunk of the connection table (32 KiB): growing by chunks moves nothing and leaves nothing behind. Not of the
/// size of something that stays, such as glommio's 64 KiB: that would hold the pages of all chunks around it.
pub(crate) const TABLE_CHUNK: usize = 512;

/// JSON or Protobuf messages in one WebSocket frame, as clients of the reference expect it.
pub(crate) const MESSAGES_PER_FRAME_MAX: usize = 16;

/// Arena in which several frames are put together for one send. Small enough to stay in the second-level cache; when
/// it is full the sends go out and it starts again.
pub(crate) const JOIN_BYTES: usize = 256 * 1024;

/// Memory that the palette keeps from one turn to the next. A turn with larger frames gives the excess back.
pub(crate) const PALETTE_KEEP_BYTES: usize = 1024 * 1024;

/// Chunks in which the unsent bytes of a connection are kept: small for one that is late by a few messages, and the most
/// that is allocated, and offered to the socket, at a time.
pub(crate) const PENDING_CHUNK_MIN: usize = 2 * 1024;
pub(crate) const PENDING_CHUNK_MAX: usize = 32 * 1024;

/// Unsent bytes at which a stream stops taking bytes from hyper.
pub(crate) const STREAM_UNSENT_MAX: u32 = 64 * 1024;

/// Time for the peer to answer our close, or to end its direction after we ended ours.
pub(crate) const CLOSE_WAIT_MS: u64 = 5_000;

/// Time until somebody must have taken a new connection (`http::serve`) or gone on with an upgraded one.
pub(crate) const UNCLAIMED_MS: u64 = 10_000;

/// Longest head of an answer to our upgrade, and its most headers. Proxies add some; nobody needs more than this.
pub(crate) const ANSWER_HEAD_MAX: usize = 16 * 1024;
pub(crate) const ANSWER_HEADERS_MAX: usize = 64;

/// Pause after an accept failed, typically because a table is full: long enough not to spin.
pub(crate) const ACCEPT_RETRY_MS: u64 = 50;

/// Handler timers fire at multiples of this. A power of two that is the width of a list of the wheel's second level, so
/// that an entry moves once. With a million connections on 56 cores, pinged every 25 s one by one, two of three wake-ups
/// found a single ping or pong to do.
pub(crate) const TIMER_GRAIN_MS: u64 = 64;

/// At most one log line about failing accepts in this time.
pub(crate) const ACCEPT_LOG_MS: u64 = 10_000;

/// Connections the kernel completes for us before we accept them. The kernel cuts it to net.core.somaxconn.
pub(crate) const BACKLOG: i32 = 65_535;

/// Longest block in the ring while tasks exist (driver rule 7). Whatever wakes a task does so before the block; should
/// something wake one later, it waits no longer than this.
pub(crate) const BLOCK_MAX: Duration = Duration::from_millis(5);

/// Longest block when no task exists. Everything that can happen then comes through the ring or the wheel.
pub(crate) const BLOCK_ALONE_MAX: Duration = Duration::from_secs(1);

/// Messages in all rings that lead to one thread, shared out evenly, and the bounds of a single ring. Rings are many
/// (cores squared), so their memory must not grow with the square; bursts go to the backlog.
pub(crate) const MESH_RINGS_MESSAGES: usize = 16 * 1024;
pub(crate) const MESH_RING_MIN: usize = 64;
pub(crate) const MESH_RING_MAX: usize = 1024;

/// Messages taken from one ring in one turn: a busy neighbour must not starve the sockets.
pub(crate) const MESH_DRAIN_MAX: usize = 256;

/// Rounds of ready tasks in one turn before the sockets get their chance again.
pub(crate) const TASK_ROUNDS_MAX: u32 = 8;

const _: () = {
    assert!(RECEIVE_BUFFERS_MIN.is_power_of_two() && RECEIVE_BUFFERS_MAX.is_power_of_two());
    assert!((RECEIVE_BUFFERS_MIN as usize * 16).is_multiple_of(4096));
    assert!((RECEIVE_BUFFERS_MIN as usize * RECEIVE_BUFFER_BYTES).is_multiple_of(4096));
    assert!(RECEIVE_BUFFERS_MAX as u32 <= COMPLETIONS);
    assert!(CONNECTIONS_MAX <= 1 << 24);
    assert!(STREAM_UNSENT_MAX as usize >= RECEIVE_BUFFER_BYTES);
};

/// Connections reported as closed in one turn. The engine leaves up to a hundred channels for each, at some microseconds
/// each, while the others wait.
pub(crate) const NOTICES_PER_TURN: usize = 64;

/// Bytes of prepared frames after which the events of a turn wait for the next one. What one frame of a client may ask
/// for is bounded by its outbox; this bounds what all of them together ask for in one turn.
pub(crate) const PALETTE_TURN_BYTES: usize = 32 * 1024 * 1024;

/// Redis: bytes of one reply. A history of 1,000 publications of 64 KiB, the most that a client may send, is half of it.
/// Redis itself would send a string of 512 MiB, which no core should be made to hold.
pub(crate) const REDIS_REPLY_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Redis: values in one reply: presence of two million clients of a channel. Each may take 3 bytes on the wire and a
/// hundred once decoded, so bytes alone bound nothing.
pub(crate) const REDIS_REPLY_ELEMENTS_MAX: usize = 4 * 1024 * 1024;

/// Redis: arrays within arrays. A history is 3 deep, the map of a cluster 5; the decoder recurses.
pub(crate) const REDIS_REPLY_DEPTH_MAX: usize = 16;

/// Redis: bytes of a reply that is one line. Only errors are long: that of a script quotes a part of it.
pub(crate) const REDIS_LINE_BYTES_MAX: usize = 64 * 1024;

/// Redis: commands of one connection that wait for their replies; 3 MiB of queue. More than Redis answers in a quarter of
/// a second, so somebody who meets it is better off with an error than with a place at the end.
pub(crate) const REDIS_IN_FLIGHT_MAX: usize = 64 * 1024;

/// Redis: bytes of commands that one turn, or a handshake that takes long, may pile up. Checked before a command, so that
/// the largest one passes.
pub(crate) const REDIS_OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Redis: memory that a connection keeps for the commands of a turn, and for replies in parts, when there is nothing
/// in it: a thousand publications. A burst beyond it gives its memory back.
pub(crate) const REDIS_KEEP_BYTES: usize = 256 * 1024;

/// Redis: places in the queue of waiting commands that are kept in the same way.
pub(crate) const REDIS_KEEP_COMMANDS: usize = 4 * 1024;

/// Redis: what the receive buffer grows by. Replies are parts of it: a larger one is allocated less often, a smaller one
/// is kept by less when somebody keeps a reply.
pub(crate) const REDIS_INPUT_BYTES: usize = 16 * 1024;

/// Redis: bytes handed to the driver at a time, while it has none left: below the least bound of an outbox that an operator
/// may set with some reason, so that a busy moment does not look like a peer that does not read.
pub(crate) const REDIS_FLUSH_BYTES: usize = 256 * 1024;

/// Redis: least time between the end of a connection and the next attempt, as in the reference (engines.md section 11).
pub(crate) const REDIS_RETRY_MS: u64 = 250;

/// Redis: silence after which a connection that waits for nothing is tried with a PING. A stall must be noticed within
/// 5 s of the last sign of life with the usual `io_timeout` of 4 s: 800 + 4,000, and a timer grain for each of the two.
pub(crate) const REDIS_KEEP_ALIVE_MS: u64 = 800;

/// Redis: connections that a core makes to one cluster. The driver keeps places for them, so it is a fixed number.
pub(crate) const REDIS_CLUSTER_CONNECTIONS_MAX: usize = 64;

/// Redis: primaries of one cluster: one connection for each, one for messages, and one while that moves.
pub(crate) const REDIS_CLUSTER_NODES_MAX: usize = REDIS_CLUSTER_CONNECTIONS_MAX - 2;

/// Redis: times that one command is sent elsewhere. Two happen when a slot moves away just while it is asked for; a
/// cluster that sends a command around more often does not agree with itself, and the caller may know.
pub(crate) const REDIS_REDIRECTIONS_MAX: u8 = 5;

/// Redis: commands of one slot that wait while it moves: a second of publications to a very busy channel. Sixteen such
/// slots are all that a core keeps for a cluster (`REDIS_IN_FLIGHT_MAX`).
pub(crate) const REDIS_SLOT_WAITING_MAX: usize = 4 * 1024;

/// Redis: time between attempts at a command whose keys are at both ends of a moving slot. `MIGRATE` moves them in
/// batches that take about a millisecond each; a client that waits 25 ms does not notice.
pub(crate) const REDIS_TRY_AGAIN_MS: u64 = 25;

const _: () = {
    assert!(REDIS_KEEP_ALIVE_MS + 4_000 + 2 * TIMER_GRAIN_MS < 5_000);
    assert!(REDIS_REPLY_BYTES_MAX < 1_000_000_000 && REDIS_REPLY_ELEMENTS_MAX < 1_000_000_000);
    assert!(REDIS_INPUT_BYTES < REDIS_KEEP_BYTES && REDIS_KEEP_BYTES < REDIS_OUTPUT_BYTES_MAX);
};
