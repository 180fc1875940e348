//! JSON Web Tokens (auth.md section 2): who a connection belongs to, and what a subscription may have.
//!
//! Pure; runs on the core of the connection, on bytes straight from a peer. Nothing here may panic, look at a clock, or
//! parse claims as JSON before their signature has been verified. Only HMAC signatures: a token with another algorithm
//! is refused, whatever it says.
//!
//! `jws` splits and signs, `claims` and `read` decode the JSON, `verifier` knows the rules and their order.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod claims;
mod expected;
mod jws;
mod keys;
mod options;
mod read;
#[cfg(test)]
mod tests;
mod verifier;

use bytes::Bytes;

use crate::rules::Overrides;

pub use jws::sign_hs256;
pub use options::TokenOptions;
pub use verifier::Verifier;

/// The verifiers of both kinds of token. The default has no keys and refuses every token.
#[derive(Clone, Debug, Default)]
pub struct Verifiers {
    /// For connection tokens.
    pub connection: Verifier,
    /// For subscription tokens; `None` = the one for connection tokens does both.
    pub subscription: Option<Verifier>,
}

impl Verifiers {
    /// The verifier for subscription tokens.
    pub fn for_subscriptions(&self) -> &Verifier {
        self.subscription.as_ref().unwrap_or(&self.connection)
    }
}

/// Why a token is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Malformed, not signed with our key, or not made for us. The text is for the log, never for the client.
    #[error("invalid token: {0}")]
    Invalid(&'static str),
    /// Genuine, but past `exp` or before `nbf`.
    #[error("token expired or not yet valid")]
    Expired,
    /// Genuine, but its `b64info` is not base64: the fault of the backend, which the client may outlive by retrying.
    #[error("b64info of the token is not base64")]
    Internal,
}

/// What a connection token says. The default is the anonymous user, without end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionToken {
    /// Empty = anonymous.
    pub user: String,
    /// End of the connection in Unix seconds, at most a year away, possibly past; 0 = none.
    pub expire_at: i64,
    /// Connection info for others to see: exact JSON text, or the bytes of `b64info`.
    pub info: Option<Bytes>,
    /// JSON that stays on the server.
    pub meta: Option<Bytes>,
    /// Server-side subscriptions, each channel once, in order of the names.
    pub subs: Vec<(String, SubscriptionClaims)>,
}

/// What a token says about one subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionClaims {
    /// Channel info for others to see: exact JSON text, or the bytes of `b64info`.
    pub info: Option<Bytes>,
    /// For the subscribe reply: exact JSON text, or the bytes of `b64data`.
    pub data: Option<Bytes>,
    /// Instead of the options of the namespace.
    pub overrides: Overrides,
}

/// What a subscription token says. That user, channel and client are the right ones is for the caller to check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionToken {
    /// The user that may subscribe; empty = anonymous.
    pub user: String,
    /// The one channel; never empty.
    pub channel: String,
    /// The one client that may use the token; empty = any of the user.
    pub client: String,
    /// End of the subscription in Unix seconds, at most a year away, possibly past; 0 = none.
    pub expire_at: i64,
    /// Channel info for others to see: exact JSON text, or the bytes of `b64info`.
    pub info: Option<Bytes>,
    /// For the subscribe reply: exact JSON text, or the bytes of `b64data`.
    pub data: Option<Bytes>,
    /// Instead of the options of the namespace.
    pub overrides: Overrides,
}
