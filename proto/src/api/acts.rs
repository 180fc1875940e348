//! Requests about connections and users in JSON: which key is which field.

use serde::de::MapAccess;

use super::fields::{Fields, Value};
use super::messages::{
    BoolValue, DeleteUserStatusRequest, DisconnectRequest, GetUserStatusRequest, RefreshRequest,
    SubscribeOptionOverride, SubscribeRequest, UnsubscribeRequest, UpdateUserStatusRequest,
};
use crate::client::Disconnect;

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
            "override" => value.message(&mut self.r#override),
            "session" => value.scalar(&mut self.session),
            "label_filter" => value.message(&mut self.label_filter),
            "all_users" => value.scalar(&mut self.all_users),
            _ => value.skip(),
        }
    }
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

impl Fields for BoolValue {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "value" => value.scalar(&mut self.value),
            _ => value.skip(),
        }
    }
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

impl Fields for UpdateUserStatusRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "users" => value.strings(&mut self.users),
            "state" => value.scalar(&mut self.state),
            _ => value.skip(),
        }
    }
}

impl Fields for GetUserStatusRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        users_alone(&mut self.users, key, value)
    }
}

impl Fields for DeleteUserStatusRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        users_alone(&mut self.users, key, value)
    }
}

fn users_alone<'de, A: MapAccess<'de>>(
    users: &mut Vec<String>,
    key: &str,
    value: Value<'_, A>,
) -> Result<(), A::Error> {
    match key {
        "users" => value.strings(users),
        _ => value.skip(),
    }
}
