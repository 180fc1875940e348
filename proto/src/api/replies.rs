//! Replies to several commands in JSON.

use super::messages::{BatchResponse, Reply};
use super::write::{WriteJson, Written, write_own_error};
use crate::client::InappropriateJson;
use crate::json::{self, Object};

impl WriteJson for BatchResponse {
    fn write_json(&self, out: &mut Vec<u8>) -> Written {
        json::object(out, |object| object.list("replies", &self.replies, |reply, object| write(reply, object, None)))
    }
}

/// Appends `{"id":…,"result":…}` or `{"id":…,"error":…}`, without an id that is 0. On error `out` is as long as it was: a
/// payload in the result is not JSON.
pub fn write_legacy_reply(id: u32, reply: &Reply, out: &mut Vec<u8>) -> Result<(), InappropriateJson> {
    let len = out.len();
    let written = json::object(out, |object| {
        object.number("id", id);
        write(reply, object, Some("result"))
    });
    if written.is_err() {
        out.truncate(len);
    }
    written
}

/// The result goes under `name`, or under that of its method.
fn write(reply: &Reply, object: &mut Object<'_>, name: Option<&str>) -> Written {
    if let Some(error) = &reply.error {
        write_own_error(error, object.member("error"));
        return Ok(());
    }
    let Some((method, result)) = result(reply) else { return Ok(()) };
    result.write_json(object.member(name.unwrap_or(method)))
}

/// The result that is there, and the name of its method.
fn result(reply: &Reply) -> Option<(&'static str, &dyn WriteJson)> {
    let results: [(&'static str, Option<&dyn WriteJson>); 16] = [
        ("publish", written(&reply.publish)),
        ("broadcast", written(&reply.broadcast)),
        ("subscribe", written(&reply.subscribe)),
        ("unsubscribe", written(&reply.unsubscribe)),
        ("disconnect", written(&reply.disconnect)),
        ("presence", written(&reply.presence)),
        ("presence_stats", written(&reply.presence_stats)),
        ("history", written(&reply.history)),
        ("history_remove", written(&reply.history_remove)),
        ("info", written(&reply.info)),
        ("rpc", written(&reply.rpc)),
        ("refresh", written(&reply.refresh)),
        ("channels", written(&reply.channels)),
        ("update_user_status", written(&reply.update_user_status)),
        ("get_user_status", written(&reply.get_user_status)),
        ("delete_user_status", written(&reply.delete_user_status)),
    ];
    results.into_iter().find_map(|(name, result)| Some((name, result?)))
}

fn written<R: WriteJson>(result: &Option<Box<R>>) -> Option<&dyn WriteJson> {
    result.as_deref().map(|result| result as &dyn WriteJson)
}
