//! Messages to clients in JSON: which members, under which names, and which of them even when empty.
//!
//! Written by hand, not derived: defaults are left out with exceptions, payloads are spliced in after a check, and the
//! fan-out path wants nothing between a publication and the buffer.

use super::{
    ClientInfo, Connect, ConnectResult, ErrorBody, HistoryResult, InappropriateJson, PresenceResult, Publication, Push,
    Reply, ServerSideSubscription, SubRefreshResult, Subscribe, SubscribeResult,
};
use crate::json::{self, Object};

type Written = Result<(), InappropriateJson>;

pub(super) fn reply(reply: &Reply, object: &mut Object<'_>) -> Written {
    object.number("id", reply.id);
    object.message("error", reply.error.as_ref(), error)?;
    object.message("push", reply.push.as_ref(), push)?;
    object.message("connect", reply.connect.as_ref(), connect_result)?;
    object.message("subscribe", reply.subscribe.as_ref(), subscribe_result)?;
    object.message("unsubscribe", reply.unsubscribe.as_ref(), |_, _| Ok(()))?;
    object.message("publish", reply.publish.as_ref(), |_, _| Ok(()))?;
    object.message("presence", reply.presence.as_ref(), presence_result)?;
    object.message("presence_stats", reply.presence_stats.as_ref(), |stats, object| {
        object.number_always("num_clients", stats.num_clients);
        object.number_always("num_users", stats.num_users);
        Ok(())
    })?;
    object.message("history", reply.history.as_ref(), history_result)?;
    object.message("ping", reply.ping.as_ref(), |_, _| Ok(()))?;
    object.message("rpc", reply.rpc.as_ref(), |rpc, object| object.raw("data", &rpc.data))?;
    object.message("refresh", reply.refresh.as_ref(), |refresh, object| {
        object.string("client", &refresh.client);
        object.string("version", &refresh.version);
        object.flag("expires", refresh.expires);
        object.number("ttl", refresh.ttl);
        Ok(())
    })?;
    object.message("sub_refresh", reply.sub_refresh.as_ref(), sub_refresh_result)
}

pub(super) fn push(push: &Push, object: &mut Object<'_>) -> Written {
    object.number("id", push.id);
    object.string("channel", &push.channel);
    object.message("pub", push.publication.as_ref(), publication)?;
    object
        .message("join", push.join.as_ref(), |join, object| object.message("info", join.info.as_ref(), client_info))?;
    object.message("leave", push.leave.as_ref(), |leave, object| {
        object.message("info", leave.info.as_ref(), client_info)
    })?;
    object.message("unsubscribe", push.unsubscribe.as_ref(), |unsubscribe, object| {
        object.number("code", unsubscribe.code);
        object.string("reason", &unsubscribe.reason);
        Ok(())
    })?;
    object.message("message", push.message.as_ref(), |message, object| object.raw("data", &message.data))?;
    object.message("subscribe", push.subscribe.as_ref(), subscribe)?;
    object.message("connect", push.connect.as_deref(), connect)?;
    object.message("disconnect", push.disconnect.as_ref(), |disconnect, object| {
        object.number("code", disconnect.code);
        object.string("reason", &disconnect.reason);
        Ok(())
    })?;
    object.message("refresh", push.refresh.as_ref(), |refresh, object| {
        object.flag("expires", refresh.expires);
        object.number("ttl", refresh.ttl);
        Ok(())
    })
}

pub(super) fn publication(publication: &Publication, object: &mut Object<'_>) -> Written {
    object.raw("data", &publication.data)?;
    object.message("info", publication.info.as_ref(), client_info)?;
    object.number("offset", publication.offset);
    object.strings("tags", &publication.tags);
    object.flag("delta", publication.delta);
    object.string("channel", &publication.channel);
    object.string("key", &publication.key);
    object.flag("removed", publication.removed);
    object.number("score", publication.score);
    object.string("epoch", &publication.epoch);
    object.number("version", publication.version);
    Ok(())
}

pub(super) fn client_info(info: &ClientInfo, object: &mut Object<'_>) -> Written {
    object.string_always("user", &info.user);
    object.string_always("client", &info.client);
    object.raw("conn_info", &info.conn_info)?;
    object.raw("chan_info", &info.chan_info)
}

fn error(error: &ErrorBody, object: &mut Object<'_>) -> Written {
    object.number("code", error.code);
    object.string("message", &error.message);
    object.flag("temporary", error.temporary);
    Ok(())
}

fn connect_result(result: &ConnectResult, object: &mut Object<'_>) -> Written {
    object.string("client", &result.client);
    object.string("version", &result.version);
    object.flag("expires", result.expires);
    object.number("ttl", result.ttl);
    object.raw("data", &result.data)?;
    server_side_subscriptions(&result.subs, object)?;
    object.number("ping", result.ping);
    object.flag("pong", result.pong);
    object.string("session", &result.session);
    object.string("node", &result.node);
    object.number("time", result.time);
    Ok(())
}

fn connect(connect: &Connect, object: &mut Object<'_>) -> Written {
    object.string("client", &connect.client);
    object.string("version", &connect.version);
    object.raw("data", &connect.data)?;
    server_side_subscriptions(&connect.subs, object)?;
    object.flag("expires", connect.expires);
    object.number("ttl", connect.ttl);
    object.number("ping", connect.ping);
    object.flag("pong", connect.pong);
    object.string("session", &connect.session);
    object.string("node", &connect.node);
    object.number("time", connect.time);
    Ok(())
}

fn server_side_subscriptions(subs: &[ServerSideSubscription], object: &mut Object<'_>) -> Written {
    if subs.is_empty() {
        return Ok(());
    }
    json::object(object.member("subs"), |object| {
        for subscription in subs {
            let key = object.key(&subscription.channel);
            json::object(key, |object| {
                subscription.result.iter().try_for_each(|result| subscribe_result(result, object))
            })?;
        }
        Ok(())
    })
}

fn subscribe_result(result: &SubscribeResult, object: &mut Object<'_>) -> Written {
    object.flag("expires", result.expires);
    object.number("ttl", result.ttl);
    object.flag("recoverable", result.recoverable);
    object.string("epoch", &result.epoch);
    object.list("publications", &result.publications, publication)?;
    object.flag("recovered", result.recovered);
    object.number("offset", result.offset);
    object.flag("positioned", result.positioned);
    object.raw("data", &result.data)?;
    object.flag("was_recovering", result.was_recovering);
    object.flag("delta", result.delta);
    object.number("id", result.id);
    object.number("type", result.r#type);
    object.number("phase", result.phase);
    object.string("cursor", &result.cursor);
    object.list("state", &result.state, publication)?;
    object.number("publish_debounce", result.publish_debounce);
    Ok(())
}

fn subscribe(subscribe: &Subscribe, object: &mut Object<'_>) -> Written {
    object.flag("recoverable", subscribe.recoverable);
    object.string("epoch", &subscribe.epoch);
    object.number("offset", subscribe.offset);
    object.flag("positioned", subscribe.positioned);
    object.raw("data", &subscribe.data)
}

fn presence_result(result: &PresenceResult, object: &mut Object<'_>) -> Written {
    object.map_always("presence", &result.presence, client_info)
}

fn history_result(result: &HistoryResult, object: &mut Object<'_>) -> Written {
    object.list_always("publications", &result.publications, publication)?;
    object.string_always("epoch", &result.epoch);
    object.number_always("offset", result.offset);
    Ok(())
}

fn sub_refresh_result(result: &SubRefreshResult, object: &mut Object<'_>) -> Written {
    object.flag("expires", result.expires);
    object.number("ttl", result.ttl);
    object.list("items", &result.items, publication)
}
