//! Results in JSON: which members, in which order, and which of them even when empty.
//!
//! Not derived: empty members are left out except those that client libraries index blindly, and payloads are spliced in
//! after a check.

use super::messages::{
    BroadcastResult, ChannelsResult, DeleteUserStatusResult, DisconnectResult, Error, GetUserStatusResult,
    HistoryRemoveResult, HistoryResult, InfoResult, Metrics, NodeResult, PresenceResult, PresenceStatsResult,
    Publication, PublishResponse, PublishResult, RefreshResult, RpcResult, SubscribeResult, UnsubscribeResult,
    UpdateUserStatusResult, UserStatus,
};
use crate::client::{ClientInfo, InappropriateJson};
use crate::codes::ApiError;
use crate::json::{self, Object};

pub(super) type Written = Result<(), InappropriateJson>;

/// A result with a JSON form.
pub trait WriteJson {
    /// Appends the object. On error `out` ends in an unfinished one; [`write_result`] cuts it off.
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), InappropriateJson>;
}

/// Appends `{"result":…}`. On error `out` is as long as it was: a payload in the result is not JSON (HTTP 500).
pub fn write_result<R: WriteJson>(result: &R, out: &mut Vec<u8>) -> Result<(), InappropriateJson> {
    let len = out.len();
    let written = json::object(out, |envelope| result.write_json(envelope.member("result")));
    if written.is_err() {
        out.truncate(len);
    }
    written
}

/// Appends `{"error":{"code":…,"message":…}}`.
pub fn write_error(error: ApiError, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"error":"#);
    write_bare_error(error, out);
    out.push(b'}');
}

/// Appends `{"code":…,"message":…}`, the whole body in transport error mode.
pub fn write_bare_error(error: ApiError, out: &mut Vec<u8>) {
    write_code(error.code, error.message, out);
}

/// As [`write_bare_error`].
pub(super) fn write_own_error(error: &Error, out: &mut Vec<u8>) {
    write_code(error.code, &error.message, out);
}

fn write_code(code: u32, message: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"code":"#);
    json::number(code, out);
    out.extend_from_slice(br#","message":"#);
    json::string(message, out);
    out.push(b'}');
}

impl WriteJson for PublishResult {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        json::object(out, |object| publish_result(self, object))
    }
}

fn publish_result(result: &PublishResult, object: &mut Object<'_>) -> Written {
    object.number("offset", result.offset);
    object.string("epoch", &result.epoch);
    Ok(())
}

impl WriteJson for BroadcastResult {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        json::object(out, |object| object.list("responses", &self.responses, publish_response))
    }
}

fn publish_response(response: &PublishResponse, object: &mut Object<'_>) -> Written {
    if let Some(error) = &response.error {
        write_own_error(error, object.member("error"));
        return Ok(());
    }
    object.message("result", response.result.as_ref(), publish_result)
}

impl WriteJson for PresenceResult {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        json::object(out, |object| object.map_always("presence", &self.presence, client_info))
    }
}

fn client_info(info: &ClientInfo, object: &mut Object<'_>) -> Written {
    object.string_always("user", &info.user);
    object.string_always("client", &info.client);
    object.raw("conn_info", &info.conn_info)?;
    object.raw("chan_info", &info.chan_info)
}

impl WriteJson for PresenceStatsResult {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        json::object(out, |object| {
            object.number_always("num_clients", self.num_clients);
            object.number_always("num_users", self.num_users);
            Ok(())
        })
    }
}

impl WriteJson for HistoryResult {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        json::object(out, |object| {
            object.list_always("publications", &self.publications, publication)?;
            object.string_always("epoch", &self.epoch);
            object.number_always("offset", self.offset);
            Ok(())
        })
    }
}

/// The server API tells less of a publication than the client protocol.
fn publication(publication: &Publication, object: &mut Object<'_>) -> Written {
    object.raw("data", &publication.data)?;
    object.message("info", publication.info.as_ref(), client_info)?;
    object.number("offset", publication.offset);
    object.strings("tags", &publication.tags);
    Ok(())
}

impl WriteJson for ChannelsResult {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        json::object(out, |object| {
            object.map_always("channels", &self.channels, |channel, object| {
                object.number("num_clients", channel.num_clients);
                Ok(())
            })
        })
    }
}

impl WriteJson for InfoResult {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        json::object(out, |object| object.list("nodes", &self.nodes, node_result))
    }
}

fn node_result(node: &NodeResult, object: &mut Object<'_>) -> Written {
    object.string_always("uid", &node.uid);
    object.string_always("name", &node.name);
    object.string_always("version", &node.version);
    object.number_always("num_clients", node.num_clients);
    object.number_always("num_users", node.num_users);
    object.number_always("num_channels", node.num_channels);
    object.number("uptime", node.uptime);
    object.message("metrics", node.metrics.as_ref(), metrics)?;
    object.message("process", node.process.as_ref(), |process, object| {
        if process.cpu != 0.0 {
            float(process.cpu, object.member("cpu"))?;
        }
        object.number("rss", process.rss);
        Ok(())
    })?;
    object.number_always("num_subs", node.num_subs);
    Ok(())
}

fn metrics(metrics: &Metrics, object: &mut Object<'_>) -> Written {
    if metrics.interval != 0.0 {
        float(metrics.interval, object.member("interval"))?;
    }
    if metrics.items.is_empty() {
        return Ok(());
    }
    json::object(object.member("items"), |items| {
        // Identifiers need no escapes.
        metrics.items.iter().try_for_each(|(name, value)| float(*value, items.member(name)))
    })
}

/// JSON knows no infinity and no NaN.
fn float(value: f64, out: &mut Vec<u8>) -> Written {
    if !value.is_finite() {
        return Err(InappropriateJson);
    }
    out.extend_from_slice(value.to_string().as_bytes());
    Ok(())
}

impl WriteJson for SubscribeResult {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        nothing(out)
    }
}

impl WriteJson for UnsubscribeResult {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        nothing(out)
    }
}

impl WriteJson for DisconnectResult {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        nothing(out)
    }
}

impl WriteJson for RefreshResult {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        nothing(out)
    }
}

impl WriteJson for HistoryRemoveResult {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        nothing(out)
    }
}

impl WriteJson for UpdateUserStatusResult {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        nothing(out)
    }
}

impl WriteJson for DeleteUserStatusResult {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        nothing(out)
    }
}

fn nothing(out: &mut Vec<u8>) -> Written {
    out.extend_from_slice(b"{}");
    Ok(())
}

impl WriteJson for RpcResult {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        json::object(out, |object| object.raw("data", &self.data))
    }
}

impl WriteJson for GetUserStatusResult {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        json::object(out, |object| object.list_always("statuses", &self.statuses, user_status))
    }
}

fn user_status(status: &UserStatus, object: &mut Object<'_>) -> Written {
    object.string("user", &status.user);
    object.number("active", status.active);
    object.number("online", status.online);
    object.string("state", &status.state);
    Ok(())
}
