//! Every bound of the engine, with its reason. A bound that an operator may change is in `rules` instead.

use std::ops::RangeInclusive;

/// Cores of one node. An interest mask is one `u128` per encoding, so that a channel needs no allocation for it.
pub const CORES_MAX: usize = 128;

/// Deliveries made in one turn before other work gets its share again. At 3-5 us of kernel time per send a slice is
/// about 5 ms of a core, the longest that a ping or a reply may wait behind a large fan-out.
pub const FAN_OUT_SLICE: usize = 1024;

/// Publications that may wait behind running fan-outs on one core. Over it a turn no longer stops at
/// [`FAN_OUT_SLICE`]: the core works the queue off before it takes more, which slows publishers instead of filling memory.
pub const FAN_OUT_QUEUE_MAX: usize = 16 * 1024;

/// Channels of one session, whatever the operator allows: a subscriber notes its place among them in 16 bits.
pub const CHANNELS_PER_SESSION_MAX: usize = u16::MAX as usize + 1;

/// Bytes of commands that one connection may have waiting while an earlier command of it is with another core, a store or
/// a backend, each with what it takes itself (some 300 bytes). Sixteen messages of the default size limit, or 2,500 small
/// ones; a client that pipelines more than that without reading is refused (3013).
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

/// The same when there was no room for the call, in seconds, drawn: very many connections that expire at one moment must not come
/// back at one moment, a minute later, again and again.
pub const PROLONGED_BUSY_S: RangeInclusive<i64> = 2..=20;

/// Publications of one channel remembered for subscribers whose position is being read from the store. A read takes about
/// a millisecond; one that is overtaken by more than these is repeated.
pub const HEARD_MEANWHILE_MAX: usize = 4096;

/// Reads of the position for one subscribe, should publications overtake them, before it is answered with error 100.
pub const READS_PER_SUBSCRIBE_MAX: u8 = 3;

/// How long a channel without subscribers is heard on, in ms: clients that reconnect at once cost the store nothing.
pub const HEARING_LINGER_MS: u64 = 1_000;

/// Members that left while the store was away and are taken out of presence later, for one core: the last ones, beyond which
/// entries run out by themselves. A million connections over 8 cores that stay for ten minutes are 12,500 leaves in the
/// minute after which they do. Some 200 bytes each: 3 MB.
pub const LEAVERS_MAX: usize = 16 * 1024;

/// So many of them are tried in a second: a millisecond or two of a core, a small part of the commands that may wait for Redis, and
/// all of them within 16 s.
pub const LEAVERS_SLICE: usize = 1024;

/// Users that are written down as online in one turn: half a millisecond of a core, and a small part of the commands that may
/// wait for Redis.
pub const ONLINE_SLICE: u32 = 1024;

/// Channel state: life of a partition's lease, in ms (pro-features.md 1.7). A node that dies is replaced after this.
pub const STATE_LEASE_MS: u64 = 10_000;

/// Channel state: how long after a step was sent a node relies on the lease, in ms. A step leaves two thirds of its life, and a
/// clock may run a little slower than the store's.
pub const STATE_LEASE_TRUST_MS: u64 = 6_400;

/// Channel state: a delivery begins only so long after the last step was sent, in ms, so that it is over (a backend has
/// 1 s unless configured) before another node can have the lease.
pub const STATE_TELL_WITHIN_MS: u64 = 3_000;

/// Channel state: a tick older than this, in ms, says that nobody could reach the store for a while: entries may have expired
/// only because of that. Longer than it takes until a dead node is replaced.
pub const STATE_TICK_AGE_MAX_MS: u64 = 15_000;

/// Channel state: how long nothing expires then, in ms, beyond the interval in which clients renew their entries: a node renews them
/// once a second, and Redis may be slow at first.
pub const STATE_GRACE_MARGIN_MS: u64 = 3_000;

/// Channel state: the same where entries are not renewed.
pub const STATE_GRACE_MS: u64 = 30_000;

/// Channel state: time between two looks at an idle partition, in ms (pro-features.md 1.9).
pub const STATE_POLL_MS: u64 = 250;

/// Channel state: partitions are looked at in so many groups, one after another: few enough wake-ups of the core, and the
/// commands of a group go out together.
pub const STATE_POLL_GROUPS: u64 = 5;

/// Channel state: from a look at a partition that found events to the next, in ms, unless there were more. It saves a
/// look, a call of the backend and a removal for each event (20,000 a second over 128 partitions are 31 in a call); it
/// costs so much delay of all but the first, no more than when the node that appends is not the one that tells.
pub const STATE_SPACING_MS: u64 = 200;

/// Channel state: after the store did not answer for a partition, in ms.
pub const STATE_POLL_FAILED_MS: u64 = 500;

/// Channel state: time between two attempts to get the lease of a partition, in ms.
pub const STATE_TAKE_MS: u64 = 1_000;

/// Channel state: a lease that is free for so long is taken even by a node that has its share, in ms. Together with the life of a
/// lease less than [`STATE_TICK_AGE_MAX_MS`]: else the death of a node would look as if nobody could reach the store.
pub const STATE_OVERDUE_MS: u64 = 2_000;

/// Channel state: how long a partition that was given back is left to others, in ms.
pub const STATE_GIVEN_BACK_MS: u64 = 5_000;

/// Channel state: pause between two partitions that are given back because others should have them, in ms.
pub const STATE_GIVE_BACK_MS: u64 = 50;

/// Channel state: retries of a batch, in ms (pro-features.md 1.3).
pub const STATE_RETRY_MIN_MS: u64 = 100;
/// See [`STATE_RETRY_MIN_MS`].
pub const STATE_RETRY_MAX_MS: u64 = 20_000;

/// Channel state: events of one batch (pro-features.md 1.3).
pub const STATE_BATCH_MAX: usize = 100;

/// Channel state: channels of one partition that expire or become vacant at a time: a few ms of the store.
pub const STATE_CHORES_MAX: usize = 100;

/// Channel state: deliveries to one backend at a time. At 100 ms each that is 32,000 events a second, and no more calls than a
/// small backend has workers.
pub const STATE_DELIVERIES_MAX: usize = 32;

/// Channel state: how long a node that stops waits for deliveries before it leaves their leases to expire, in ms.
pub const STATE_STOP_MS: u64 = 3_000;

/// Channel state: at most one pair of log lines about a backend that fails and recovers in this time, in ms.
pub const STATE_LOG_MS: u64 = 10_000;

const _: () = assert!(CORES_MAX <= u128::BITS as usize);
const _: () = assert!(FAN_OUT_SLICE < FAN_OUT_QUEUE_MAX);
const _: () = assert!(STATE_TELL_WITHIN_MS < STATE_LEASE_TRUST_MS && STATE_LEASE_TRUST_MS * 3 < STATE_LEASE_MS * 2);
const _: () = assert!(STATE_LEASE_MS + STATE_OVERDUE_MS + 2_000 < STATE_TICK_AGE_MAX_MS);
