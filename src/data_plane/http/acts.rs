//! Server API methods on connections and on the node.

use std::collections::BTreeMap;
use std::sync::Arc;

use globset::GlobBuilder;
use gyre_engine::{Act, ActWhat, Counts, SurveyReply, SurveyWhat};
use gyre_proto::api;
use gyre_proto::codes::{ApiError, Disconnect, Unsubscribe};

use super::Core;
use super::api::Outcome;

/// `{"result":{}}`.
pub(super) fn empty_result() -> Vec<u8> {
    br#"{"result":{}}"#.to_vec()
}

pub(super) fn unsubscribe(core: &Core, body: &[u8]) -> Outcome {
    let request: api::UnsubscribeRequest = api::decode(body)?;
    if request.channel.is_empty() {
        return Ok(empty_result());
    }
    if core.engine.borrow().rules().resolve(&request.channel).is_none() {
        return Err(ApiError::UNKNOWN_CHANNEL.into());
    }
    if !request.session.is_empty() {
        return Ok(empty_result()); // No transport of this version gives out sessions.
    }
    let channel = request.channel.into_boxed_str();
    act(
        core,
        Act {
            user: request.user.into(),
            client: request.client.into(),
            whitelist: Vec::new(),
            what: ActWhat::Unsubscribe { channel, why: Unsubscribe::SERVER },
        },
    );
    Ok(empty_result())
}

pub(super) fn disconnect(core: &Core, body: &[u8]) -> Outcome {
    let request: api::DisconnectRequest = api::decode(body)?;
    if !request.session.is_empty() {
        return Ok(empty_result()); // No transport of this version gives out sessions.
    }
    let why = match request.disconnect {
        // Other codes cannot be put into a close frame.
        Some(given) if matches!(given.code, 1000 | 3000..=4999) => {
            Disconnect { code: given.code, reason: given.reason.into() }
        }
        _ => Disconnect::FORCE_DISCONNECT,
    };
    act(
        core,
        Act {
            user: request.user.into(),
            client: request.client.into(),
            whitelist: request.whitelist.into_iter().map(Into::into).collect(),
            what: ActWhat::Disconnect(why),
        },
    );
    Ok(empty_result())
}

fn act(core: &Core, act: Act) {
    core.with(|engine, hands| engine.api_act(Arc::new(act), hands));
}

pub(super) async fn channels(core: &Core, body: &[u8]) -> Outcome {
    let request: api::ChannelsRequest = api::decode(body)?;
    let pattern = match &*request.pattern {
        "" => None,
        pattern => match GlobBuilder::new(pattern).literal_separator(false).build() {
            Ok(glob) => Some(glob.compile_matcher()),
            Err(error) => {
                tracing::info!(pattern, %error, "bad pattern in a channels call");
                return Err(ApiError::INTERNAL.into());
            }
        },
    };
    let mut channels: BTreeMap<String, api::ChannelInfo> = BTreeMap::new();
    for part in core.ask_all(SurveyWhat::Channels(pattern)).await {
        let SurveyReply::Channels(part) = part else { continue };
        for (name, clients) in part {
            channels.entry(name.into()).or_default().num_clients += clients;
        }
    }
    let mut out = Vec::new();
    api::write_result(&api::ChannelsResult { channels }, &mut out)?;
    Ok(out)
}

pub(super) async fn info(core: &Core, body: &[u8]) -> Outcome {
    api::decode::<api::InfoRequest>(body)?;
    let mut node = Counts::default();
    for part in core.ask_all(SurveyWhat::Counts).await {
        let SurveyReply::Counts(part) = part else { continue };
        node.clients += part.clients;
        node.users += part.users;
        node.channels += part.channels;
        node.subscriptions += part.subscriptions;
    }
    let settings = &core.settings;
    let result = api::InfoResult {
        nodes: vec![api::NodeResult {
            uid: settings.node_uid.clone(),
            name: settings.node_name.clone(),
            version: settings.version.to_string(),
            num_clients: node.clients as u32,
            num_users: node.users as u32,
            num_channels: node.channels as u32,
            num_subs: node.subscriptions as u32,
            uptime: settings.started.elapsed().as_secs() as u32,
            ..api::NodeResult::default()
        }],
    };
    let mut out = Vec::new();
    api::write_result(&result, &mut out)?;
    Ok(out)
}
