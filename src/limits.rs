//! Bounds of the product's own tables and queues, each with its reason.

/// Messages waiting for full rings of one core above which new publications are refused (error 100): the other core
/// works, but not as fast as this one takes publications in.
pub(crate) const CONGESTED_BACKLOG: usize = 64 * 1024;

/// Largest body of a server API request, in bytes. Upstream has no bound; 64 MiB is past any batch seen and keeps one
/// caller from taking the host's memory.
pub(crate) const API_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Channels of one broadcast, or commands of one parallel batch, that may be under way at a time (server-api.md 4.2, 4.13).
pub(crate) const API_IN_FLIGHT_MAX: usize = 1024;

/// Channels of one broadcast, or commands of one batch, served in one go: about half a millisecond of a core.
pub(crate) const API_SLICE: usize = 256;

/// Time between two reports of a core to the control thread, in ms. Metrics may be 10 s old (observability.md 1).
pub(crate) const SNAPSHOT_INTERVAL_MS: u64 = 1000;

/// At most one log line about connections over a limit of the node in this time, in ms.
pub(crate) const REFUSED_LOG_MS: u64 = 10_000;

/// Bytes of entropy fetched from the kernel at a time: 256 client ids.
pub(crate) const ENTROPY_BYTES: usize = 4096;

/// Connections of a core that left enough behind to be given back at once: about half a megabyte.
pub(crate) const MEMORY_PEAK_MIN: usize = 1000;

/// Snapshots, one a second, after which a core gives back what fewer have left.
pub(crate) const MEMORY_SNAPSHOTS: u32 = 10;

/// Redis: channels asked for with one SUBSCRIBE after a connection was lost, as in the reference (engines.md section 11).
pub(crate) const HEAR_AGAIN_BATCH: usize = 512;

/// Redis: such batches that are not confirmed at a time. 4096 channels are a few ms of work for Redis, and as many reads of
/// their positions a sixteenth of the commands that may wait on a connection.
pub(crate) const HEAR_AGAIN_BATCHES_MAX: usize = 8;

/// Redis: after this many ms a core takes clients even without it. It was there a moment ago, or the node had not started.
pub(crate) const STORE_UP_MS: u64 = 3_000;

/// Redis: a connection for messages that is silent for so long is probed, and after as long again made anew, as in the
/// reference (engines.md section 11).
pub(crate) const SILENCE_MS: u64 = 30_000;

/// Redis: pause before channels that it refused are asked for again, on a connection that lives on.
pub(crate) const HEAR_AGAIN_RETRY_MS: u64 = 500;

/// Calls of one proxy that its backend has at a time. 2,000 clients a second that connect while the backend answers just
/// within the default timeout of 1 s are 2,000; twice that. Over HTTP each is a connection.
pub(crate) const BACKEND_IN_FLIGHT_MAX: usize = 4096;

/// Calls of one proxy that wait until it has fewer of them; as many again, which a backend that keeps up takes within a
/// timeout. Beyond, they fail at once: waiting would only make them fail later.
pub(crate) const BACKEND_WAITING_MAX: usize = 4096;

/// Longest answer of a backend, in bytes. Upstream has no bound over HTTP and 4 MiB over gRPC; this is past any answer seen,
/// and thousands of calls at a time must not take the host's memory.
pub(crate) const BACKEND_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Idle connections kept to one backend, as upstream (proxies.md 2).
pub(crate) const BACKEND_IDLE_MAX: usize = 255;

/// They are closed after so many seconds, as upstream: what stands between may forget them.
pub(crate) const BACKEND_IDLE_S: u64 = 90;

/// Files set aside for each proxy that calls over HTTP, where each call under way is a connection: a quarter of what may
/// be. That is a backend which answers 2,000 calls a second and takes half of the default timeout for each. All proxies
/// seldom are that slow at once, and 18 of them fit a limit of 20,000 files. Beyond, calls fail for want of a connection.
pub(crate) const BACKEND_FILES: usize = BACKEND_IN_FLIGHT_MAX / 4;

const _: () = assert!(BACKEND_FILES > BACKEND_IDLE_MAX, "those that are kept take nothing from those that are made");

/// A backend that acknowledges nothing for so many seconds is gone: its connections are closed. Upstream's gRPC waits as long
/// for a connection.
pub(crate) const BACKEND_DEAD_S: u64 = 20;

/// Redirects of one call, as upstream (proxies.md 2).
pub(crate) const BACKEND_REDIRECTS_MAX: usize = 10;

/// At most one log line of a kind about a proxy in this time, in ms.
pub(crate) const BACKEND_LOG_MS: u64 = 1000;

/// At most one outage of a proxy's channel state events is told in this time, in ms: partitions deliver side by side, and
/// while some fail others may not.
pub(crate) const BACKEND_OUTAGE_LOG_MS: u64 = 10_000;

/// Connections of the gRPC API at a time. Each process of an application keeps one, seldom several, for calls share them;
/// each is a file, which calls to backends and logs need as well.
pub(crate) const GRPC_CONNECTIONS_MAX: usize = 1024;

/// A connection with the gRPC API on which no client has begun to speak HTTP/2 after so many seconds, TLS handshake
/// included, is closed, or those that never say a word would take all places. As long as the HTTP server waits for a
/// request's head.
pub(crate) const GRPC_BEGIN_S: u64 = 10;

/// A client of the gRPC API that is silent for so many seconds is asked whether it is there, and after so many more without
/// an answer its connection is closed. Idle clients stay, as stubs expect it; what is asked also keeps routers from
/// forgetting them, which they do after a minute or more. The time to answer is upstream's.
pub(crate) const GRPC_PING_S: u64 = 30;
pub(crate) const GRPC_DEAD_S: u64 = 20;

/// Users of one call about their status: a quarter of the commands that may wait for Redis on a connection, so that a few such
/// calls at a time do not push others out.
pub(crate) const STATUS_USERS_MAX: usize = 16 * 1024;
