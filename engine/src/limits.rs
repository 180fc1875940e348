//! Every bound of the engine, with its reason. A bound that an operator may change is in `rules` instead.

/// Cores of one node. An interest mask is one `u128` per encoding, so that a channel needs no allocation for it.
pub const CORES_MAX: usize = 128;

/// Deliveries made in one turn before other work gets its share again. At 3-5 us of kernel time per send a slice is
/// about 5 ms of a core, the longest that a ping or a reply may wait behind a large fan-out.
pub const FAN_OUT_SLICE: usize = 1024;

/// Publications that may wait behind running fan-outs on one core. Over it a turn no longer stops at
/// [`FAN_OUT_SLICE`]: the core works the queue off before it takes more, which slows publishers instead of filling memory.
pub const FAN_OUT_QUEUE_MAX: usize = 16 * 1024;

/// Bytes of commands that one connection may have waiting while an earlier command of it is with another core.
/// Sixteen messages of the default size limit; a client that pipelines more than that without reading is refused (3013).
pub const PENDING_COMMANDS_BYTES_MAX: usize = 1024 * 1024;

/// Acts of the server API that may wait for one connection until it is connected or another act is through. A backend that
/// gives one client more channels than this in the milliseconds that takes is in a loop.
pub const PENDING_ACTS_MAX: usize = 1024;

/// Publications of one connection under way to another core at a time. It has to be above what fits into one turn of
/// both cores for the pipeline to stay full, and bounds what confirmations can pile up at a home core.
pub const PUBLISHES_IN_FLIGHT_MAX: usize = 64;

/// Connections closed in one turn at shutdown. Each may leave a hundred channels, at some microseconds each.
pub const SHUTDOWN_SLICE: usize = 64;

/// How long a connection whose `connect` was refused may linger, in ms: its SDK closes it after reading the error.
pub const REFUSED_LINGER_MS: u64 = 5_000;

/// At most one log line about users over their limit of connections per core in this time, in ms.
pub const SEAT_LOG_MS: u64 = 10_000;

/// Lifetime of a remembered idempotency key, in ms (server-api.md 4.1: 300 s, fixed).
pub const IDEMPOTENCY_TTL_MS: u64 = 300_000;

/// Longest time to expiry shown to a client, in seconds: 365 days (auth.md 2.5).
pub const EXPIRY_MAX_S: i64 = 365 * 24 * 3600;

/// How long a connection or a subscription goes on whose backend cannot be asked, in seconds (proxies.md 4.2, 4.5).
pub const PROLONGED_UNASKED_S: i64 = 60;

/// Publications of one channel remembered for subscribers whose position is being read from the store. A read takes about
/// a millisecond; one that is overtaken by more than these is repeated.
pub const HEARD_MEANWHILE_MAX: usize = 4096;

/// Reads of the position for one subscribe, should publications overtake them, before it is answered with error 100.
pub const READS_PER_SUBSCRIBE_MAX: u8 = 3;

/// How long a channel without subscribers is heard on, in ms: clients that reconnect at once cost the store nothing.
pub const HEARING_LINGER_MS: u64 = 1_000;

/// Users that are written down as online in one turn: half a millisecond of a core, and a small part of the commands that may
/// wait for Redis.
pub const ONLINE_SLICE: u32 = 1024;

const _: () = assert!(CORES_MAX <= u128::BITS as usize);
const _: () = assert!(FAN_OUT_SLICE < FAN_OUT_QUEUE_MAX);
