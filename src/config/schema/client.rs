//! `client.*`: rules for client connections.

use super::shapes::{PROXY, TOKEN};
use super::*;

pub(super) const CLIENT: &[Field] = &[
    texts("allowed_origins", &[], "Globs for the Origin header of browsers; * accepts all, an empty list refuses all.")
        .honoured(),
    object(
        "token",
        TOKEN,
        "Verification of connection tokens, and of subscription tokens unless those have their own section.",
    )
    .honoured(),
    object("subscription_token", SUBSCRIPTION_TOKEN, "Separate verification of subscription tokens.").honoured(),
    object(
        "proxy",
        &[
            object("connect", SWITCHED_PROXY, "Asked about every connection.").honoured(),
            object("refresh", SWITCHED_PROXY, "Asked about every expiring connection.").honoured(),
        ],
        "Backend calls for connections.",
    )
    .honoured(),
    boolean("allow_anonymous_connect_without_token", "A connection without a token becomes the anonymous user.")
        .honoured(),
    boolean("disallow_anonymous_connection_tokens", "Refuses connection tokens with an empty user.").honoured(),
    duration("ping_interval", secs(25), "Time between pings; -1 turns them off.").honoured(),
    duration("pong_timeout", secs(8), "How long the answer to a ping may take; -1 turns the check off.").honoured(),
    duration("expired_close_delay", secs(25), "Grace for refreshing an expired connection.").honoured(),
    duration("expired_sub_close_delay", secs(25), "Grace for refreshing an expired subscription.").honoured(),
    duration("stale_close_delay", secs(10), "Closes connections that sent no connect command for so long.").honoured(),
    int("channel_limit", 128, "Subscriptions per connection; negative is unlimited, which is 65536.").honoured(),
    int("queue_max_size", 1_048_576, "Outgoing bytes a connection may have waiting before it is closed as slow.")
        .honoured(),
    duration(
        "presence_update_interval",
        secs(27),
        "How often presence is refreshed and positions and expiry are checked.",
    )
    .honoured(),
    int("concurrency", 0, "Commands of one connection handled at the same time; 0 and 1 are one after the other."),
    duration(
        "channel_position_check_delay",
        secs(40),
        "How often the position of a subscription is compared with its stream.",
    )
    .honoured(),
    duration("channel_position_max_time_lag", 0, "Lag of the broker that counts as lost messages."),
    int("connection_limit", 0, "Client connections of this node, from the handshake on; 0 is unlimited.")
        .range(0, i64::MAX)
        .honoured(),
    int("user_connection_limit", 0, "Connections of one user on this node, anonymous excepted; 0 is unlimited.")
        .range(0, i64::MAX)
        .honoured(),
    int("connection_rate_limit", 0, "New client connections per second on this node; 0 is unlimited.")
        .range(0, i64::MAX)
        .honoured(),
    boolean("connect_include_server_time", "Adds the node's time to the connect reply.").honoured(),
    int("history_max_publication_limit", 300, "Publications in one answer to a client's history call.").honoured(),
    int("recovery_max_publication_limit", 300, "Publications that one recovery may deliver.").honoured(),
    text("user_id_http_header", "", "Header of a trusted proxy that holds the user id.").honoured(),
    boolean("insecure", "No authentication and no permission checks. For development only.").honoured(),
    boolean("insecure_skip_token_signature_verify", "Accepts tokens with any signature. For development only.")
        .honoured(),
    object("subscribe_to_user_personal_channel", PERSONAL_CHANNEL, "Subscribes every user to a channel of its own.")
        .honoured(),
    object(
        "connect_code_to_unidirectional_disconnect",
        DISCONNECT_MAP,
        "Disconnect codes of unidirectional transports.",
    ),
    duration("write_delay", 0, "Collects messages of a connection for so long.").closed_edition(),
    boolean("write_with_timer", "Collects with a timer instead of a task.").closed_edition(),
    duration("queue_shrink_delay", 0, "Delays giving back queue memory.").closed_edition(),
    int("max_messages_in_frame", 16, "Messages joined in one frame.").closed_edition(),
    boolean("reply_without_queue", "Sends replies past the queue.").closed_edition(),
    boolean("batch_periodic_events", "Runs periodic work of connections in batches.").closed_edition(),
    object("rate_limit", RATE_LIMIT, "Limits on client commands.").closed_edition(),
];

const SWITCHED_PROXY: &[Field] = &[boolean("enabled", "Turns the call on.").honoured(), inline(PROXY)];

const SUBSCRIPTION_TOKEN: &[Field] = &[
    boolean("enabled", "Uses these settings, and nothing of client.token, for subscription tokens.").honoured(),
    inline(TOKEN),
];

const PERSONAL_CHANNEL: &[Field] = &[
    boolean("enabled", "Turns personal channels on.").honoured(),
    text("personal_channel_namespace", "", "Namespace of personal channels; empty is none.").honoured(),
    boolean("single_connection", "A new connection of a user closes the older ones.").honoured(),
];

const DISCONNECT_MAP: &[Field] = &[
    boolean("enabled", "Turns the table on."),
    items(
        "transforms",
        &[
            int("code", 0, "Error code of the connect attempt."),
            object(
                "to",
                &[int("code", 0, "Disconnect code."), text("reason", "", "Disconnect reason.")],
                "What the client gets instead.",
            ),
        ],
        "The table.",
    ),
];

const RATE_LIMIT: &[Field] = &[
    field("client_command", Kind::Opaque, "Limits per connection."),
    field("user_command", Kind::Opaque, "Limits per user on this node."),
    field("redis_user_command", Kind::Opaque, "Limits per user in all nodes."),
    field("client_error", Kind::Opaque, "Limits of errors per connection."),
];
