//! Top-level sections known from the closed edition's documents.

use super::shapes::{REDIS_PREFIXED, TLS};
use super::*;

pub(super) const SECTIONS: &[Field] = &[
    object("user_status", USER_STATUS, "When users were last active and online.").closed_edition().honoured(),
    object("singleflight", &[boolean("enabled", "Turns it on.")], "Joins identical reads that run at the same time.")
        .closed_edition(),
    field("brokers", Kind::Opaque, "Brokers that namespaces can name.").closed_edition(),
    field("presence_managers", Kind::Opaque, "Presence managers that namespaces can name.").closed_edition(),
    field("map_brokers", Kind::Opaque, "Map brokers that namespaces can name.").closed_edition(),
    field("database", Kind::Opaque, "Database of features that keep data.").closed_edition(),
    field("push_notifications", Kind::Opaque, "Push notifications to devices.").closed_edition(),
    field("clickhouse_analytics", Kind::Opaque, "Export of events to ClickHouse.").closed_edition(),
    field("user_block", Kind::Opaque, "Storage of blocked users.").closed_edition(),
    field("token_revoke", Kind::Opaque, "Storage of revoked tokens.").closed_edition(),
    field("user_tokens_invalidate", Kind::Opaque, "Storage of invalidated tokens of users.").closed_edition(),
    field("schemas", Kind::Opaque, "Schemas for data that clients publish.").closed_edition(),
    object(
        "sentry",
        &[boolean("enabled", "Turns it on."), text("dsn", "", "Where reports go.")],
        "Error reports to Sentry.",
    )
    .closed_edition(),
    text("license", "", "Licence key; Gyre needs none.").closed_edition().hidden().honoured(),
];

const USER_STATUS: &[Field] = &[
    boolean("enabled", "Turns it on.").honoured(),
    object("redis", USER_STATUS_REDIS, "Where it is kept.").honoured(),
    duration("expire_interval", hours(720), "How long a status is kept after its last update.").honoured(),
];

const USER_STATUS_REDIS: &[Field] =
    &[inline(REDIS_PREFIXED), boolean("reuse_from_engine", "Uses the connections of the engine.").honoured()];

pub(super) const API_JWKS: &[Field] = &[
    boolean("enabled", "Accepts tokens in place of the key."),
    text("endpoint", "", "URL of the key set."),
    text("audience", "", "Value the aud claim must contain."),
    text("issuer", "", "Value the iss claim must have."),
    text("scope", "", "Scope a token must have."),
    object("tls", TLS, "TLS towards the key set."),
];
