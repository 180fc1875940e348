//! `channel.*` and `rpc.*`: name syntax, namespaces and what they allow.

use super::shapes::PROXY;
use super::*;

pub(super) const CHANNEL: &[Field] = &[
    object("proxy", CHANNEL_PROXY, "Backend calls used by the proxy called default.").honoured(),
    object("without_namespace", OPTIONS, "Options of channels whose name has no namespace.").honoured(),
    named("namespaces", NAMESPACE, "Namespaces: channels that share a name prefix and these options.").honoured(),
    duration(
        "history_meta_ttl",
        hours(720),
        "How long offset and epoch of an inactive stream are kept; whole seconds.",
    )
    .honoured(),
    text(
        "publication_data_format",
        "",
        "What publication data must be: json, json_object or binary; empty rejects only empty data.",
    )
    .honoured(),
    int("max_length", 255, "Longest channel name a client may subscribe to, in bytes.").honoured(),
    text("private_prefix", "$", "Marks channels that need a subscription token.").honoured(),
    text("namespace_boundary", ":", "Ends the namespace part of a channel name.").honoured(),
    text("user_boundary", "#", "Starts the list of users at the end of a channel name.").honoured(),
    text("user_separator", ",", "Separates users in that list.").honoured(),
    boolean("patterns", "Routes channels that start with a slash by namespace patterns.").closed_edition(),
];

const CHANNEL_PROXY: &[Field] = &[
    object("subscribe", PROXY, "Called when a client subscribes.").honoured(),
    object("publish", PROXY, "Called when a client publishes.").honoured(),
    object("sub_refresh", PROXY, "Called when a subscription is about to expire.").honoured(),
    object("subscribe_stream", PROXY, "Opens a stream of publications for a subscription."),
    object("map_publish", PROXY, "Called when a client publishes to a map channel."),
    object("map_remove", PROXY, "Called when a client removes a key of a map channel."),
    object("shared_poll_refresh", PROXY, "Called to refresh the keys of a shared poll channel."),
    object("state", PROXY, "Told when a channel becomes occupied or vacated.").closed_edition().honoured(),
    object("cache_empty", PROXY, "Told when a cached channel has no publication to recover.")
        .closed_edition()
        .honoured(),
];

const NAMESPACE: &[Field] = &[
    text("name", "", "Name before the namespace boundary; at least two of letters, digits, dash, underscore and dot.")
        .honoured(),
    inline(OPTIONS),
    text("pattern", "", "Channel pattern of the namespace.").closed_edition(),
];

/// Options that exist per namespace and for channels without one.
const OPTIONS: &[Field] = &[
    boolean("presence", "Keeps who is subscribed.").honoured(),
    boolean("join_leave", "Emits join and leave events.").honoured(),
    boolean("force_push_join_leave", "Sends join and leave events to every subscriber without being asked.").honoured(),
    int("history_size", 0, "Publications kept; needs history_ttl.").honoured().range(0, u32::MAX as i64),
    duration("history_ttl", 0, "How long publications are kept; whole seconds, needs history_size.").honoured(),
    duration("history_meta_ttl", 0, "How long offset and epoch are kept; 0 is channel.history_meta_ttl.").honoured(),
    boolean("force_positioning", "Tracks the stream position of every subscription.").honoured(),
    boolean("allow_positioning", "A client may ask for position tracking.").honoured(),
    boolean("force_recovery", "Recovers missed publications for every subscription.").honoured(),
    boolean("allow_recovery", "A client may ask for recovery.").honoured(),
    text("force_recovery_mode", "", "stream recovers what was missed, cache delivers the latest publication only.")
        .neutral(&["stream"])
        .honoured(),
    boolean("auto_cache_recover", "Delivers the latest publication on every subscribe.").honoured(),
    texts("allowed_delta_types", &[], "Delta encodings clients may negotiate: fossil."),
    boolean("delta_publish", "Treats every publication as suited for delta."),
    boolean("allow_tags_filter", "Clients may filter publications by tags."),
    boolean("allow_subscribe_for_client", "Clients with a user id may subscribe to any channel here.").honoured(),
    boolean("allow_subscribe_for_anonymous", "Together with the option above: anonymous clients too.").honoured(),
    boolean("allow_publish_for_client", "Clients with a user id may publish.").honoured(),
    boolean("allow_publish_for_subscriber", "Clients may publish to channels they are subscribed to.").honoured(),
    boolean("allow_publish_for_anonymous", "Together with one of the options above: anonymous clients too.").honoured(),
    boolean("allow_presence_for_client", "Clients with a user id may ask for presence.").honoured(),
    boolean("allow_presence_for_subscriber", "Clients may ask for presence of channels they are subscribed to.")
        .honoured(),
    boolean("allow_presence_for_anonymous", "Together with one of the options above: anonymous clients too.")
        .honoured(),
    boolean("allow_history_for_client", "Clients with a user id may read history.").honoured(),
    boolean("allow_history_for_subscriber", "Clients may read history of channels they are subscribed to.").honoured(),
    boolean("allow_history_for_anonymous", "Together with one of the options above: anonymous clients too.").honoured(),
    boolean("allow_user_limited_channels", "Channels that list users in their name are open to exactly those.")
        .honoured(),
    text("channel_regex", "", "Must match in the part of the name after the namespace; replaces the ASCII check.")
        .honoured(),
    text("publication_data_format", "", "json, json_object or binary; empty is channel.publication_data_format.")
        .honoured(),
    boolean("subscribe_proxy_enabled", "Asks the backend about every subscribe.").honoured(),
    text("subscribe_proxy_name", "default", "Proxy asked about subscribes.").honoured(),
    boolean("publish_proxy_enabled", "Asks the backend about every client publication.").honoured(),
    text("publish_proxy_name", "default", "Proxy asked about publications.").honoured(),
    boolean("sub_refresh_proxy_enabled", "Asks the backend about every expiring subscription.").honoured(),
    text("sub_refresh_proxy_name", "default", "Proxy asked about expiring subscriptions.").honoured(),
    boolean("subscribe_stream_proxy_enabled", "Opens a stream to the backend for every subscription."),
    text("subscribe_stream_proxy_name", "default", "Proxy that streams subscriptions."),
    boolean("subscribe_stream_proxy_bidirectional", "Sends client publications over that stream."),
    text("map_clients_presence_channel_prefix", "", "Mirrors connected clients into the map channel of this prefix."),
    text("map_users_presence_channel_prefix", "", "Mirrors connected users into the map channel of this prefix."),
    text("subscription_type", "", "stream, map, map_clients, map_users or shared_poll.").neutral(&["stream"]),
    object("map", MAP, "Map channels."),
    object("shared_poll", SHARED_POLL, "Shared poll channels."),
    boolean("state_proxy_enabled", "Tells the backend when a channel becomes occupied or vacated.")
        .closed_edition()
        .honoured(),
    text("state_proxy_name", "default", "Proxy told about channel state.").closed_edition().honoured(),
    texts("state_events", &[], "Restricts channel state events to occupied or vacated.").closed_edition().honoured(),
    boolean("cache_empty_proxy_enabled", "Tells the backend when a cached channel is empty.")
        .closed_edition()
        .honoured(),
    text("cache_empty_proxy_name", "default", "Proxy told about empty caches.").closed_edition().honoured(),
    boolean("shared_position_sync", "Shares position checks of a channel between its subscribers.").closed_edition(),
    boolean("keep_latest_publication", "Keeps the latest publication in memory as base for delta.").closed_edition(),
    boolean("allow_channel_compaction", "Replaces channel names by numbers for clients that ask.").closed_edition(),
    duration("client_publish_debounce_interval", 0, "Tells clients to hold back frequent publications.")
        .closed_edition(),
    int("batch_max_size", 0, "Publications per batch.").closed_edition(),
    duration("batch_max_delay", 0, "How long a batch may wait.").closed_edition(),
    boolean("batch_flush_latest", "Sends only the newest publication of a batch.").closed_edition(),
    text("subscribe_cel", "", "Expression that grants subscribing.").closed_edition(),
    text("publish_cel", "", "Expression that grants publishing.").closed_edition(),
    text("history_cel", "", "Expression that grants history.").closed_edition(),
    text("presence_cel", "", "Expression that grants presence.").closed_edition(),
    text("broker_name", "", "Broker of this namespace.").closed_edition(),
    text("presence_manager_name", "", "Presence manager of this namespace.").closed_edition(),
    field("client_publication", Kind::Opaque, "Rules for data that clients publish.").closed_edition(),
];

const MAP: &[Field] = &[
    text("mode", "", "ephemeral, recoverable or persistent."),
    duration("key_ttl", 0, "How long a key lives."),
    int("stream_size", 0, "Changes kept; 0 is 100."),
    duration("stream_ttl", 0, "How long changes are kept; 0 is one minute."),
    duration("meta_ttl", 0, "How long offset and epoch are kept."),
    boolean("remove_client_on_unsubscribe", "Removes the key of a client that leaves."),
    text("client_key", "", "client_id or user_id: the key a client writes is its own."),
    boolean("allow_publish_for_client", "Clients with a user id may write keys."),
    boolean("allow_publish_for_subscriber", "Clients may write keys of channels they are subscribed to."),
    boolean("allow_publish_for_anonymous", "Anonymous clients may write keys too."),
    boolean("allow_remove_for_client", "Clients with a user id may remove keys."),
    boolean("allow_remove_for_subscriber", "Clients may remove keys of channels they are subscribed to."),
    boolean("allow_remove_for_anonymous", "Anonymous clients may remove keys too."),
    boolean("publish_proxy_enabled", "Asks the backend about every written key."),
    text("publish_proxy_name", "default", "Proxy asked about written keys."),
    boolean("remove_proxy_enabled", "Asks the backend about every removed key."),
    text("remove_proxy_name", "default", "Proxy asked about removed keys."),
    int("default_page_size", 0, "Keys per page when the client names no number; 0 is 100."),
    int("min_page_size", 0, "Fewest keys per page; 0 is 100."),
    int("max_page_size", 0, "Most keys per page; 0 is 1000."),
    int("live_transition_max_publication_limit", 0, "Changes replayed when paging ends; 0 is max_page_size."),
    duration("subscribe_catch_up_timeout", 0, "How long catching up may take; 0 is 5 seconds."),
    text("broker_name", "", "Map broker of this namespace.").closed_edition(),
];

const SHARED_POLL: &[Field] = &[
    text("proxy_name", "", "Proxy asked for fresh keys; empty is default."),
    duration("refresh_interval", 0, "How often keys are refreshed; 0 is 10 seconds."),
    int("refresh_batch_size", 0, "Keys per call; 0 is 1000."),
    int("max_keys_per_connection", 0, "Keys one connection may track; 0 is 5000."),
    text("mode", "", "versionless or versioned.").neutral(&["versionless"]),
    duration("channel_shutdown_delay", 0, "How long an unused channel is still polled; 0 is one second."),
    duration("track_expired_extra_delay", 0, "Grace for expired keys; 0 is 25 seconds."),
    boolean("publish_enabled", "Accepts publications between polls."),
];

pub(super) const RPC: &[Field] = &[
    object("proxy", PROXY, "Backend called for the proxy named default.").honoured(),
    object("without_namespace", RPC_OPTIONS, "Options of methods whose name has no namespace.").honoured(),
    named("namespaces", RPC_NAMESPACE, "Namespaces of RPC methods.").honoured(),
    text("namespace_boundary", ":", "Ends the namespace part of a method name.").honoured(),
    object(
        "ping",
        &[boolean("enabled", "Turns the method on.").honoured(), text("method", "ping", "Its name.").honoured()],
        "Built-in method with an empty answer.",
    )
    .honoured(),
];

const RPC_NAMESPACE: &[Field] =
    &[text("name", "", "Name before the namespace boundary.").honoured(), inline(RPC_OPTIONS)];

const RPC_OPTIONS: &[Field] = &[
    boolean("proxy_enabled", "Passes calls to the backend.").honoured(),
    text("proxy_name", "default", "Proxy that gets the calls.").honoured(),
];
