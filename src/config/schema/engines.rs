//! `engine`, `broker`, `presence_manager`, `map_broker`, `controller`, `shared_poll`: where channel state lives.

use super::shapes::{POSTGRES, REDIS_PREFIXED, TLS};
use super::*;

pub(super) const ENGINE: &[Field] = &[
    text("type", "memory", "Where Pub/Sub, history and presence live: memory or redis.").honoured(),
    object("redis", ENGINE_REDIS, "The Redis engine.").honoured(),
];

const ENGINE_REDIS: &[Field] = &[
    inline(REDIS_PREFIXED),
    boolean("history_use_lists", "Keeps history in lists instead of streams."),
    inline(PRESENCE_REDIS),
    object("channel_state", CHANNEL_STATE, "Channel state events.").closed_edition().honoured(),
    inline(REDIS_SCALING),
];

const PRESENCE_REDIS: &[Field] = &[
    duration("presence_ttl", secs(60), "How long an entry lives without a refresh.").honoured(),
    boolean("presence_hash_field_ttl", "Uses expiry of hash fields; needs Redis 7.4."),
    boolean("presence_user_mapping", "Keeps entries per user for fast presence statistics.").honoured(),
];

const CHANNEL_STATE: &[Field] = &[
    duration("vacated_event_delay", secs(5), "How long a channel must be empty before it counts as vacated.")
        .honoured(),
    int("num_partitions", 128, "Partitions of the state; another number is another place for all of it.")
        .honoured()
        .range(0, 4096),
    int("event_queue_limit", 100_000, "Events that may wait in one partition; newer ones are dropped. Gyre only.")
        .honoured()
        .range(0, u32::MAX as i64),
];

const REDIS_SCALING: &[Field] = &[
    boolean("subscribe_on_replica", "Subscribes on replicas.").closed_edition(),
    boolean("presence_read_from_replica", "Reads presence from replicas.").closed_edition(),
    int("sharded_pub_sub_partitions", 0, "Partitions for sharded Pub/Sub of a cluster; 0 is none.").honoured(),
    boolean("use_precomputed_partition_tags", "Picks partition tags that spread evenly over slots.").honoured(),
    boolean("group_sharded_pub_sub_by_node", "Shares Pub/Sub connections by cluster node; always done.").honoured(),
];

pub(super) const BROKER: &[Field] = &[
    boolean("enabled", "Replaces the Pub/Sub and history half of the engine.").honoured(),
    text("type", "memory", "memory, redis, nats or postgres.").honoured(),
    object("redis", BROKER_REDIS, "The Redis broker.").honoured(),
    object("nats", NATS, "The NATS broker."),
    object("postgres", POSTGRES, "The PostgreSQL broker."),
    field("redisnats", Kind::Opaque, "Unreleased broker.").hidden(),
];

const BROKER_REDIS: &[Field] = &[
    inline(REDIS_PREFIXED),
    boolean("history_use_lists", "Keeps history in lists instead of streams."),
    inline(REDIS_SCALING),
];

const NATS: &[Field] = &[
    text("prefix", "centrifugo", "Starts every subject of this installation."),
    text("url", "nats://localhost:4222", "Address of NATS."),
    duration("dial_timeout", secs(1), "How long dialling may take."),
    duration("write_timeout", secs(1), "How long one write may take."),
    object("tls", TLS, "TLS towards NATS."),
    boolean("allow_wildcards", "Clients may subscribe to wildcard subjects."),
    object(
        "raw_mode",
        &[
            boolean("enabled", "Turns raw mode on."),
            map("channel_replacements", "Text replaced in channel names to make subjects."),
            text("prefix", "", "Starts every subject in raw mode."),
        ],
        "Uses channel names as subjects.",
    ),
];

pub(super) const PRESENCE_MANAGER: &[Field] = &[
    boolean("enabled", "Replaces the presence half of the engine.").honoured(),
    text("type", "memory", "memory or redis.").honoured(),
    object("redis", PRESENCE_MANAGER_REDIS, "The Redis presence manager.").honoured(),
];

const PRESENCE_MANAGER_REDIS: &[Field] = &[
    inline(REDIS_PREFIXED),
    inline(PRESENCE_REDIS),
    object("channel_state", CHANNEL_STATE, "Channel state events.").closed_edition().honoured(),
];

pub(super) const MAP_BROKER: &[Field] = &[
    text("type", "memory", "memory, redis or postgres."),
    object("redis", MAP_REDIS, "The Redis map broker."),
    object("postgres", MAP_POSTGRES, "The PostgreSQL map broker."),
];

const MAP_REDIS: &[Field] = &[
    inline(REDIS_PREFIXED),
    duration("cleanup_interval", secs(1), "How often expired keys are removed; -1 turns it off."),
    int("cleanup_batch_size", 100, "Keys removed at a time."),
    duration("idempotent_result_ttl", mins(5), "How long results of idempotent calls are kept."),
    boolean("skip_pub_sub", "Does not use Pub/Sub."),
];

const MAP_POSTGRES: &[Field] =
    &[inline(POSTGRES), duration("ttl_check_interval", secs(1), "How often expired keys are looked for.")];

pub(super) const CONTROLLER: &[Field] = &[
    boolean("enabled", "Uses a separate way for nodes to talk to each other."),
    text("type", "", "postgres."),
    object("postgres", CONTROLLER_POSTGRES, "Nodes talk through PostgreSQL."),
    field("redis", Kind::Opaque, "Nodes talk through Redis.").closed_edition(),
    field("nats", Kind::Opaque, "Nodes talk through NATS.").closed_edition(),
];

const CONTROLLER_POSTGRES: &[Field] = &[
    text("dsn", "", "Connection string."),
    object("tls", TLS, "TLS towards PostgreSQL."),
    int("pool_size", 8, "Connections to the database."),
    int("num_shards", 1, "Partitions of the work."),
    text("table_prefix", "cf", "Starts the names of all tables."),
    duration("poll_interval", millis(50), "How often messages are read."),
    boolean("use_notify", "Wakes readers with LISTEN and NOTIFY."),
    text("notify_dsn", "", "Connection string for LISTEN, when it differs."),
    int("partition_retention_days", 1, "Age at which table partitions are dropped."),
    int("partition_lookahead_days", 2, "Table partitions made in advance."),
    duration("partition_cleanup_interval", mins(1), "How often old partitions are looked for."),
    int("batch_size", 1000, "Rows per read."),
    boolean("skip_schema_init", "Does not create or migrate tables."),
];

pub(super) const SHARED_POLL: &[Field] = &[
    text("hmac_secret_key", "", "Key of shared poll tokens."),
    text("hmac_previous_secret_key", "", "Older key, tried when the current one does not match."),
    int("hmac_previous_secret_key_valid_until", 0, "Unix time in seconds after which the older key is not tried."),
    int("concurrency_limit", 0, "Calls to the backend at the same time; 0 is 64."),
];
