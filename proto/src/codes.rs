//! Every number that clients and API callers see, with its text: errors, disconnects, unsubscribes.
//!
//! The texts are wire constants. Three code spaces exist side by side: an error ends one command, an unsubscribe one
//! subscription, a disconnect the connection. Numbers below 100 belong to the SDKs and are never sent.

use std::borrow::Cow;

/// Why a client's command failed (`Reply.error`). 100-399 are ours, 400-1999 the application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Error {
    /// Wire number.
    pub code: u32,
    /// Wire text, never empty: an SDK reads it unconditionally.
    pub message: &'static str,
    /// The client may try again by itself.
    pub temporary: bool,
}

impl Error {
    /// Something failed on our side, or on that of a system we depend on.
    pub const INTERNAL: Self = Self::temporary(100, "internal server error");
    /// Reserved for application proxies.
    pub const UNAUTHORIZED: Self = Self::lasting(101, "unauthorized");
    /// The channel's namespace is not configured.
    pub const UNKNOWN_CHANNEL: Self = Self::lasting(102, "unknown channel");
    /// No rule grants the action.
    pub const PERMISSION_DENIED: Self = Self::lasting(103, "permission denied");
    /// RPC method without a route.
    pub const METHOD_NOT_FOUND: Self = Self::lasting(104, "method not found");
    /// The channel is subscribed or being subscribed.
    pub const ALREADY_SUBSCRIBED: Self = Self::lasting(105, "already subscribed");
    /// Too many channels, or too many keys tracked.
    pub const LIMIT_EXCEEDED: Self = Self::lasting(106, "limit exceeded");
    /// A value of the request is unacceptable.
    pub const BAD_REQUEST: Self = Self::lasting(107, "bad request");
    /// The feature is off for this channel or on this node.
    pub const NOT_AVAILABLE: Self = Self::lasting(108, "not available");
    /// The JWT has expired; the client asks its application for a new one.
    pub const TOKEN_EXPIRED: Self = Self::lasting(109, "token expired");
    /// Credentials without a token have expired.
    pub const EXPIRED: Self = Self::lasting(110, "expired");
    /// Rate limit.
    pub const TOO_MANY_REQUESTS: Self = Self::temporary(111, "too many requests");
    /// The stream position asked for is gone.
    pub const UNRECOVERABLE_POSITION: Self = Self::lasting(112, "unrecoverable position");
    /// A page of the same map subscription is being read.
    pub const CONCURRENT_PAGINATION: Self = Self::temporary(113, "concurrent pagination");

    const fn lasting(code: u32, message: &'static str) -> Self {
        Self { code, message, temporary: false }
    }

    const fn temporary(code: u32, message: &'static str) -> Self {
        Self { code, message, temporary: true }
    }
}

/// Why a server API call failed. Shares numbers, though not all texts, with [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// Wire number.
    pub code: u32,
    /// Wire text.
    pub message: &'static str,
}

impl ApiError {
    /// Broker, survey or anything unforeseen.
    pub const INTERNAL: Self = Self::new(100, "internal server error");
    /// The channel's namespace is not configured.
    pub const UNKNOWN_CHANNEL: Self = Self::new(102, "unknown channel");
    /// Unknown RPC method or batch command.
    pub const NOT_FOUND: Self = Self::new(104, "not found");
    /// A required field is missing or a value unacceptable.
    pub const BAD_REQUEST: Self = Self::new(107, "bad request");
    /// The feature is off in the channel's namespace.
    pub const NOT_AVAILABLE: Self = Self::new(108, "not available");
    /// `since` names another epoch.
    pub const UNRECOVERABLE_POSITION: Self = Self::new(112, "unrecoverable position");
    /// Ownership clash. The client protocol uses the number for something else.
    pub const CONFLICT: Self = Self::new(113, "conflict");

    const fn new(code: u32, message: &'static str) -> Self {
        Self { code, message }
    }
}

/// Why the server ends a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Wire number: 3000-3999 ours, 4000-4999 the application's.
    pub code: u32,
    /// Wire text, never empty: an SDK applies its reconnect rule only to a close frame with a reason.
    pub reason: Cow<'static, str>,
}

impl Disconnect {
    /// One that the application chose. A code that cannot be put into a close frame becomes [`Self::FORCE_DISCONNECT`].
    pub fn of_application(code: u32, reason: String) -> Self {
        match code {
            1000 | 3000..=4999 => Self { code, reason: Cow::Owned(reason) },
            _ => Self::FORCE_DISCONNECT,
        }
    }

    /// The transport is gone. Never put on the wire.
    pub const CONNECTION_CLOSED: Self = Self::new(3000, "connection closed");
    /// The node stops.
    pub const SHUTDOWN: Self = Self::new(3001, "shutdown");
    /// Something failed where no reply can be sent.
    pub const INTERNAL: Self = Self::new(3004, "internal server error");
    /// The credentials have expired.
    pub const EXPIRED: Self = Self::new(3005, "connection expired");
    /// A server-side subscription has expired.
    pub const SUBSCRIPTION_EXPIRED: Self = Self::new(3006, "subscription expired");
    /// The client reads too slowly; its outbox is dropped.
    pub const SLOW: Self = Self::new(3008, "slow");
    /// Writing to the transport failed.
    pub const WRITE_ERROR: Self = Self::new(3009, "write error");
    /// A gap in a server-side positioned subscription.
    pub const INSUFFICIENT_STATE: Self = Self::new(3010, "insufficient state");
    /// The operator asks the client to come back.
    pub const FORCE_RECONNECT: Self = Self::new(3011, "force reconnect");
    /// A ping was not answered in time.
    pub const NO_PONG: Self = Self::new(3012, "no pong");
    /// Rate limit.
    pub const TOO_MANY_REQUESTS: Self = Self::new(3013, "too many requests");
    /// Token and positions are revoked; the client starts afresh.
    pub const STATE_INVALIDATED: Self = Self::new(3014, "state invalidated");
    /// A JWT that cannot be right.
    pub const INVALID_TOKEN: Self = Self::new(3500, "invalid token");
    /// The client breaks the protocol.
    pub const BAD_REQUEST: Self = Self::new(3501, "bad request");
    /// Not authenticated in time.
    pub const STALE: Self = Self::new(3502, "stale");
    /// Default of the server API's `disconnect`.
    pub const FORCE_DISCONNECT: Self = Self::new(3503, "force disconnect");
    /// Too many connections of one user.
    pub const CONNECTION_LIMIT: Self = Self::new(3504, "connection limit");
    /// Too many server-side subscriptions.
    pub const CHANNEL_LIMIT: Self = Self::new(3505, "channel limit");
    /// A payload that is not JSON would have to go to a JSON client.
    pub const INAPPROPRIATE_PROTOCOL: Self = Self::new(3506, "inappropriate protocol");
    /// Anonymous while that is forbidden.
    pub const PERMISSION_DENIED: Self = Self::new(3507, "permission denied");
    /// `send` without anyone to take it.
    pub const NOT_AVAILABLE: Self = Self::new(3508, "not available");
    /// Error-rate protection.
    pub const TOO_MANY_ERRORS: Self = Self::new(3509, "too many errors");

    const fn new(code: u32, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }

    /// Whether SDKs come back by themselves after this code.
    pub fn is_reconnect(&self) -> bool {
        !matches!(self.code, 3500..=3999 | 4500..=4999)
    }
}

/// Why the server ends a subscription. From 2500 on the SDK subscribes again by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Wire number, 2000-2999.
    pub code: u32,
    /// Wire text, never empty.
    pub reason: Cow<'static, str>,
}

impl Unsubscribe {
    /// The client's own wish. Never put on the wire.
    pub const CLIENT: Self = Self::new(0, "client unsubscribed");
    /// The connection ended. Never put on the wire.
    pub const DISCONNECTED: Self = Self::new(1, "client disconnected");
    /// Server API.
    pub const SERVER: Self = Self::new(2000, "server unsubscribe");
    /// A gap in a positioned subscription; the client recovers.
    pub const INSUFFICIENT_STATE: Self = Self::new(2500, "insufficient state");
    /// The subscription has expired; the client asks for a new token.
    pub const EXPIRED: Self = Self::new(2501, "subscription expired");
    /// The subscription's state is void; the client clears it and subscribes again.
    pub const STATE_INVALIDATED: Self = Self::new(2502, "server tags filter changed");

    const fn new(code: u32, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SDKs would give up on a shutdown, or come back for ever after a protocol error.
    #[test]
    fn reconnect_rule() {
        for code in [3000, 3001, 3014, 3499, 4000, 4499, 5000] {
            assert!(Disconnect { code, reason: "x".into() }.is_reconnect(), "{code}");
        }
        for code in [3500, 3501, 3999, 4500, 4999] {
            assert!(!Disconnect { code, reason: "x".into() }.is_reconnect(), "{code}");
        }
    }
}
