//! What application backends ask to be done to connections. As in `requests.rs`, every field of the protocol is decoded.

use bytes::Bytes;
use serde::de::MapAccess;

use super::fields::{Fields, Value};
use crate::client::{Disconnect, FilterNode, StreamPosition};

/// Subscribe a user's connections.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscribeRequest {
    /// Channel, required.
    pub channel: String,
    /// User; empty = the anonymous ones.
    pub user: String,
    /// Unix seconds; 0 = the subscription does not expire.
    pub expire_at: i64,
    /// Channel info: JSON text as it was spelt.
    pub info: Bytes,
    /// Channel info in padded base64; wins over `info` when not empty.
    pub b64info: String,
    /// Only the connection with this client id.
    pub client: String,
    /// For the clients: JSON text as it was spelt.
    pub data: Bytes,
    /// For the clients in padded base64; wins over `data` when not empty.
    pub b64data: String,
    /// Position of the last publication that the clients have seen.
    pub recover_since: Option<StreamPosition>,
    /// Instead of the options of the namespace.
    pub overrides: Option<SubscribeOptionOverride>,
    /// Only the connection with this session secret.
    pub session: String,
    /// Only connections whose labels match.
    pub label_filter: Option<FilterNode>,
    /// With an empty `user`: everybody.
    pub all_users: bool,
}

impl Fields for SubscribeRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "channel" => value.scalar(&mut self.channel),
            "user" => value.scalar(&mut self.user),
            "expire_at" => value.scalar(&mut self.expire_at),
            "info" => value.payload(&mut self.info),
            "b64info" => value.scalar(&mut self.b64info),
            "client" => value.scalar(&mut self.client),
            "data" => value.payload(&mut self.data),
            "b64data" => value.scalar(&mut self.b64data),
            "recover_since" => value.message(&mut self.recover_since),
            "override" => value.message(&mut self.overrides),
            "session" => value.scalar(&mut self.session),
            "label_filter" => value.message(&mut self.label_filter),
            "all_users" => value.scalar(&mut self.all_users),
            _ => value.skip(),
        }
    }
}

/// See [`SubscribeRequest::overrides`]. An absent one leaves the namespace option in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscribeOptionOverride {
    /// List the subscriber.
    pub presence: Option<BoolValue>,
    /// Tell others about its joins and leaves.
    pub join_leave: Option<BoolValue>,
    /// Make it recoverable.
    pub force_recovery: Option<BoolValue>,
    /// Position the subscription.
    pub force_positioning: Option<BoolValue>,
    /// Tell it about the joins and leaves of others.
    pub force_push_join_leave: Option<BoolValue>,
}

impl Fields for SubscribeOptionOverride {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "presence" => value.message(&mut self.presence),
            "join_leave" => value.message(&mut self.join_leave),
            "force_recovery" => value.message(&mut self.force_recovery),
            "force_positioning" => value.message(&mut self.force_positioning),
            "force_push_join_leave" => value.message(&mut self.force_push_join_leave),
            _ => value.skip(),
        }
    }
}

/// A truth value that may be absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BoolValue {
    /// What it is.
    pub value: bool,
}

impl Fields for BoolValue {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "value" => value.scalar(&mut self.value),
            _ => value.skip(),
        }
    }
}

/// Move the expiry of a user's connections.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RefreshRequest {
    /// User; empty = the anonymous ones.
    pub user: String,
    /// Only the connection with this client id.
    pub client: String,
    /// They expire now.
    pub expired: bool,
    /// Unix seconds; 0 = they do not expire.
    pub expire_at: i64,
    /// Connection info from now on: JSON text as it was spelt.
    pub info: Bytes,
    /// Only the connection with this session secret.
    pub session: String,
    /// Only connections whose labels match.
    pub label_filter: Option<FilterNode>,
    /// With an empty `user`: everybody.
    pub all_users: bool,
}

impl Fields for RefreshRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "user" => value.scalar(&mut self.user),
            "client" => value.scalar(&mut self.client),
            "expired" => value.scalar(&mut self.expired),
            "expire_at" => value.scalar(&mut self.expire_at),
            "info" => value.payload(&mut self.info),
            "session" => value.scalar(&mut self.session),
            "label_filter" => value.message(&mut self.label_filter),
            "all_users" => value.scalar(&mut self.all_users),
            _ => value.skip(),
        }
    }
}

/// End subscriptions of a user's connections.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnsubscribeRequest {
    /// Channel.
    pub channel: String,
    /// User; empty = the anonymous ones.
    pub user: String,
    /// Only the connection with this client id.
    pub client: String,
    /// Only the connection with this session secret.
    pub session: String,
    /// Only connections whose labels match.
    pub label_filter: Option<FilterNode>,
    /// With an empty `user`: everybody.
    pub all_users: bool,
}

impl Fields for UnsubscribeRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "channel" => value.scalar(&mut self.channel),
            "user" => value.scalar(&mut self.user),
            "client" => value.scalar(&mut self.client),
            "session" => value.scalar(&mut self.session),
            "label_filter" => value.message(&mut self.label_filter),
            "all_users" => value.scalar(&mut self.all_users),
            _ => value.skip(),
        }
    }
}

/// Close a user's connections.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DisconnectRequest {
    /// User; empty = the anonymous ones.
    pub user: String,
    /// Code and reason; absent = the default ones. Taken as they are.
    pub disconnect: Option<Disconnect>,
    /// Only the connection with this client id.
    pub client: String,
    /// Client ids to keep.
    pub whitelist: Vec<String>,
    /// Only the connection with this session secret.
    pub session: String,
    /// Only connections whose labels match.
    pub label_filter: Option<FilterNode>,
    /// With an empty `user`: everybody.
    pub all_users: bool,
}

impl Fields for DisconnectRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "user" => value.scalar(&mut self.user),
            "disconnect" => value.message(&mut self.disconnect),
            "client" => value.scalar(&mut self.client),
            "whitelist" => value.strings(&mut self.whitelist),
            "session" => value.scalar(&mut self.session),
            "label_filter" => value.message(&mut self.label_filter),
            "all_users" => value.scalar(&mut self.all_users),
            _ => value.skip(),
        }
    }
}

impl Fields for Disconnect {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "code" => value.scalar(&mut self.code),
            "reason" => value.scalar(&mut self.reason),
            _ => value.skip(),
        }
    }
}
