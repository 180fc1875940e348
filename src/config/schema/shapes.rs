//! Groups of options that occur in several places of the configuration.

use super::*;

pub(super) const TLS: &[Field] = &[
    boolean("enabled", "Turns TLS on."),
    pem("cert_pem", "Certificate chain."),
    pem("key_pem", "Private key of the certificate."),
    pem("server_ca_pem", "Certificates trusted when this node dials a peer."),
    pem("client_ca_pem", "Certificates trusted for clients; setting it makes client certificates mandatory."),
    boolean("insecure_skip_verify", "Accepts any certificate of a dialled peer."),
    text("server_name", "", "Name expected in the certificate of a dialled peer."),
];

/// Of a peer that is dialled, where it is honoured.
const DIAL_TLS: &[Field] = &[
    boolean("enabled", "Turns TLS on.").honoured(),
    pem("cert_pem", "Certificate chain.").honoured(),
    pem("key_pem", "Private key of the certificate.").honoured(),
    pem("server_ca_pem", "Certificates trusted when this node dials a peer.").honoured(),
    pem("client_ca_pem", "Certificates trusted for clients; of no use towards a peer."),
    boolean("insecure_skip_verify", "Accepts any certificate of a dialled peer.").honoured(),
    text("server_name", "", "Name expected in the certificate of a dialled peer.").honoured(),
];

/// Of a listener, where it is honoured.
pub(super) const SERVER_TLS: &[Field] = &[
    boolean("enabled", "Turns TLS on.").honoured(),
    pem("cert_pem", "Certificate chain.").honoured(),
    pem("key_pem", "Private key of the certificate.").honoured(),
    pem("server_ca_pem", "Certificates trusted when this node dials a peer; of no use for a listener."),
    pem("client_ca_pem", "Certificates trusted for clients; setting it makes client certificates mandatory.")
        .honoured(),
    boolean("insecure_skip_verify", "Accepts any certificate of a dialled peer; of no use for a listener."),
    text("server_name", "", "Name expected in the certificate of a dialled peer; of no use for a listener."),
];

pub(super) const REDIS: &[Field] = &[
    texts("address", &["redis://127.0.0.1:6379"], "Addresses of Redis; each entry is one shard.").honoured(),
    duration("connect_timeout", secs(1), "How long dialling may take.").honoured(),
    duration("io_timeout", secs(4), "How long one request may take.").honoured(),
    int("db", 0, "Database number; a cluster has only 0.").honoured(),
    text("user", "", "ACL user.").honoured(),
    text("password", "", "Password.").honoured(),
    text("client_name", "", "Name that connections announce to Redis.").honoured(),
    boolean("force_resp2", "Speaks the older protocol only.").honoured(),
    texts(
        "cluster_address",
        &[],
        "Cluster mode: each entry is one shard and may hold several seeds, separated by commas.",
    )
    .honoured(),
    texts(
        "sentinel_address",
        &[],
        "Sentinel mode: each entry is one shard and may hold several Sentinels, separated by commas.",
    )
    .honoured(),
    text("sentinel_user", "", "ACL user towards Sentinel.").honoured(),
    text("sentinel_password", "", "Password towards Sentinel.").honoured(),
    text("sentinel_client_name", "", "Name that connections announce to Sentinel.").honoured(),
    text("sentinel_master_name", "", "Name of the monitored primary; needed in Sentinel mode.").honoured(),
    object("tls", DIAL_TLS, "TLS towards Redis.").honoured(),
    object("sentinel_tls", DIAL_TLS, "TLS towards Sentinel.").honoured(),
    object("replica_client", &[boolean("enabled", "Keeps connections to replicas too.")], "Connections to replicas."),
];

pub(super) const REDIS_PREFIXED: &[Field] = &[
    inline(REDIS),
    text("prefix", "centrifugo", "Starts every key and Pub/Sub channel of this installation.").honoured(),
];

pub(super) const PROXY: &[Field] = &[
    text("endpoint", "", "URL of the backend: http and https are called with JSON over POST, anything else with gRPC.")
        .honoured(),
    duration("timeout", secs(1), "How long the whole call may take.").honoured(),
    texts("http_headers", &[], "Names of transport headers that are copied into the call.").honoured(),
    texts("grpc_metadata", &[], "Names of gRPC metadata that are copied into the call.").honoured(),
    texts("emulated_headers", &[], "Names of headers that a client may send inside its connect command.").honoured(),
    boolean("binary_encoding", "Passes payloads as base64.").honoured(),
    boolean("include_connection_meta", "Adds the connection's meta to every call.").honoured(),
    object("http", PROXY_HTTP, "Calls over HTTP.").honoured(),
    object("grpc", PROXY_GRPC, "Calls over gRPC.").honoured(),
];

const PROXY_HTTP: &[Field] = &[
    object("tls", DIAL_TLS, "TLS towards the backend.").honoured(),
    map("static_headers", "Headers added to every call; copied headers of the same name win.").honoured(),
    items("status_to_code_transforms", STATUS_TRANSFORM, "What a status other than 200 becomes for the client.")
        .honoured(),
    boolean("use_fast_client", "Uses an alternative HTTP client.").closed_edition(),
];

const STATUS_TRANSFORM: &[Field] = &[
    int("status_code", 0, "HTTP status of the backend.").honoured(),
    object(
        "to_error",
        &[
            int("code", 0, "Error code.").honoured(),
            text("message", "", "Error message.").honoured(),
            boolean("temporary", "The client may try again.").honoured(),
        ],
        "Answers the client with an error.",
    )
    .honoured(),
    object(
        "to_disconnect",
        &[int("code", 0, "Disconnect code.").honoured(), text("reason", "", "Disconnect reason.").honoured()],
        "Closes the client's connection.",
    )
    .honoured(),
];

const PROXY_GRPC: &[Field] = &[
    object("tls", DIAL_TLS, "TLS towards the backend.").honoured(),
    text("credentials_key", "", "Metadata key of per-call credentials.").honoured(),
    text("credentials_value", "", "Metadata value of per-call credentials.").honoured(),
    boolean("compression", "Compresses calls with gzip.").honoured(),
    map("static_metadata", "Metadata added to every call.").honoured(),
];

/// Without the keys that only one of its places has.
pub(super) const TOKEN: &[Field] = &[
    text("hmac_secret_key", "", "Key of HS256, HS384 and HS512 tokens.").honoured(),
    text("hmac_previous_secret_key", "", "Older HMAC key, tried when the current one does not match.").honoured(),
    int(
        "hmac_previous_secret_key_valid_until",
        0,
        "Unix time in seconds after which the older key is not tried; 0 is no end.",
    )
    .honoured(),
    text("rsa_public_key", "", "PEM text of the public key for RS256, RS384 and RS512 tokens."),
    text("ecdsa_public_key", "", "PEM text of the public key for ES256, ES384 or ES512 tokens."),
    text("jwks_public_endpoint", "", "URL of a JSON Web Key Set; replaces the static keys."),
    text("audience", "", "Value the aud claim must contain.").honoured(),
    text("audience_regex", "", "Regular expression for the aud claim.").honoured(),
    text("issuer", "", "Value the iss claim must have.").honoured(),
    text("issuer_regex", "", "Regular expression for the iss claim.").honoured(),
    text("user_id_claim", "", "Claim that holds the user id; empty is sub.").honoured(),
    boolean("insecure_skip_jwks_endpoint_safety_check", "Allows any expression to fill placeholders of the JWKS URL."),
    field("meta_from_claim", Kind::Pairs, "Connection meta taken from claims.").closed_edition(),
    field("labels_from_claim", Kind::Pairs, "Connection labels taken from claims.").closed_edition(),
    object(
        "jwks",
        &[
            boolean("enabled", "Turns the providers on."),
            field("providers", Kind::Opaque, "Key set providers.").hidden(),
        ],
        "Several JWKS providers.",
    )
    .closed_edition(),
];

pub(super) const HTTP_RESPONSE_MAP: &[Field] = &[
    boolean("enabled", "Turns the table on."),
    items(
        "transforms",
        &[
            int("code", 0, "Error or disconnect code of the connect attempt."),
            object(
                "to",
                &[int("status_code", 0, "HTTP status."), text("body", "", "Response body.")],
                "What the client gets instead.",
            ),
        ],
        "The table.",
    ),
];

/// Without `handler_prefix`, whose default differs.
pub(super) const WEBSOCKET_TUNING: &[Field] = &[
    boolean("compression", "Offers permessage-deflate."),
    int("compression_min_size", 0, "Messages below this size in bytes are sent uncompressed."),
    int("compression_level", 1, "Effort of compression."),
    int("read_buffer_size", 0, "Bytes; buffers are not per connection here, so the value has no effect."),
    int("write_buffer_size", 0, "Bytes; buffers are not per connection here, so the value has no effect."),
    boolean("use_write_buffer_pool", "Shares write buffers; they always are here, so the value has no effect."),
    duration("write_timeout", secs(1), "How long one write may take."),
    int("message_size_limit", 65536, "Largest message of a client in bytes.").honoured().range(0, 1 << 30),
    int(
        "decompressed_message_size_limit",
        0,
        "Largest message after decompression in bytes; 0 is ten times message_size_limit.",
    ),
];

pub(super) const POSTGRES: &[Field] = &[
    text("dsn", "", "Connection string."),
    object("tls", TLS, "TLS towards PostgreSQL."),
    int("pool_size", 16, "Connections to the database."),
    int("num_shards", 8, "Partitions of the work."),
    duration("cleanup_interval", mins(1), "How often expired rows are removed."),
    duration("idempotent_result_ttl", mins(5), "How long results of idempotent calls are kept."),
    boolean("binary_data", "Stores payloads as bytes instead of JSON."),
    duration("stream_retention", hours(24), "How long stream rows are kept."),
    boolean("use_notify", "Wakes readers with LISTEN and NOTIFY."),
    text("notify_dsn", "", "Connection string for LISTEN, when it differs."),
    text("table_prefix", "cf", "Starts the names of all tables."),
    boolean("skip_schema_init", "Does not create or migrate tables."),
    object(
        "outbox",
        &[
            duration("poll_interval", millis(100), "How often the outbox is read."),
            int("batch_size", 1000, "Rows per read."),
        ],
        "Reading of the outbox.",
    ),
    int("partition_lookahead_days", 2, "Table partitions made in advance."),
    int("partition_retention_days", 7, "Age at which table partitions are dropped."),
];
