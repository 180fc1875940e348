//! Requests about channels and the node in JSON: which key is which field.

use serde::de::MapAccess;

use super::fields::{Fields, Value};
use super::messages::{
    BroadcastRequest, ChannelsRequest, HistoryRemoveRequest, HistoryRequest, InfoRequest, PresenceRequest,
    PresenceStatsRequest, PublishRequest, RpcRequest,
};
use crate::client::{FilterNode, StreamPosition};

impl Fields for PublishRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "channel" => value.scalar(&mut self.channel),
            "data" => value.payload(&mut self.data),
            "b64data" => value.scalar(&mut self.b64data),
            "skip_history" => value.scalar(&mut self.skip_history),
            "tags" => value.string_map(&mut self.tags),
            "idempotency_key" => value.scalar(&mut self.idempotency_key),
            "delta" => value.scalar(&mut self.delta),
            "version" => value.scalar(&mut self.version),
            "version_epoch" => value.scalar(&mut self.version_epoch),
            _ => value.skip(),
        }
    }
}

impl Fields for BroadcastRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "channels" => value.strings(&mut self.channels),
            "data" => value.payload(&mut self.data),
            "b64data" => value.scalar(&mut self.b64data),
            "skip_history" => value.scalar(&mut self.skip_history),
            "tags" => value.string_map(&mut self.tags),
            "idempotency_key" => value.scalar(&mut self.idempotency_key),
            "delta" => value.scalar(&mut self.delta),
            "version" => value.scalar(&mut self.version),
            "version_epoch" => value.scalar(&mut self.version_epoch),
            _ => value.skip(),
        }
    }
}

impl Fields for PresenceRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        channel_alone(&mut self.channel, key, value)
    }
}

impl Fields for PresenceStatsRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        channel_alone(&mut self.channel, key, value)
    }
}

impl Fields for HistoryRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "channel" => value.scalar(&mut self.channel),
            "limit" => value.scalar(&mut self.limit),
            "since" => value.message(&mut self.since),
            "reverse" => value.scalar(&mut self.reverse),
            _ => value.skip(),
        }
    }
}

impl Fields for HistoryRemoveRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        channel_alone(&mut self.channel, key, value)
    }
}

impl Fields for ChannelsRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "pattern" => value.scalar(&mut self.pattern),
            _ => value.skip(),
        }
    }
}

impl Fields for InfoRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, _: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        value.skip()
    }
}

impl Fields for RpcRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "method" => value.scalar(&mut self.method),
            "params" => value.payload(&mut self.params),
            _ => value.skip(),
        }
    }
}

fn channel_alone<'de, A: MapAccess<'de>>(channel: &mut String, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
    match key {
        "channel" => value.scalar(channel),
        _ => value.skip(),
    }
}

impl Fields for StreamPosition {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "offset" => value.scalar(&mut self.offset),
            "epoch" => value.scalar(&mut self.epoch),
            _ => value.skip(),
        }
    }
}

impl Fields for FilterNode {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "op" => value.scalar(&mut self.op),
            "key" => value.scalar(&mut self.key),
            "cmp" => value.scalar(&mut self.cmp),
            "val" => value.scalar(&mut self.val),
            "vals" => value.strings(&mut self.vals),
            "nodes" => value.messages(&mut self.nodes),
            _ => value.skip(),
        }
    }
}
