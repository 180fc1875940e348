//! Server API methods on connections and on the node.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use gyre_engine::rules::Overrides;
use gyre_engine::{Act, ActWhat, Counts, RefreshAct, SubscribeAct, SurveyReply, SurveyWhat};
use gyre_proto::api;
use gyre_proto::codes::{ApiError, Disconnect, Unsubscribe};

use super::super::calls::Answer;
use super::super::{NodeInfo, Question, ToControl};
use super::Core;
use super::api::Outcome;
use super::channels::payload;

/// `{"result":{}}`.
pub(super) fn empty_result() -> Vec<u8> {
    br#"{"result":{}}"#.to_vec()
}

pub(super) async fn subscribe(core: &Core, body: &[u8]) -> Outcome {
    let request: api::SubscribeRequest = api::decode(body)?;
    if request.channel.is_empty() {
        return Err(ApiError::BAD_REQUEST.into());
    }
    let info = payload(request.info, &request.b64info)?;
    let data = payload(request.data, &request.b64data)?;
    if core.engine.borrow().rules().resolve(&request.channel).is_none() {
        return Err(ApiError::UNKNOWN_CHANNEL.into());
    }
    let overrides = request.overrides.unwrap_or_default();
    let said = |option: Option<api::BoolValue>| option.map(|option| option.value);
    let what = ActWhat::Subscribe(SubscribeAct {
        channel: request.channel.into(),
        expire_at_s: request.expire_at,
        info,
        data,
        recover_since: request.recover_since.map(|since| (since.offset, since.epoch.into())),
        overrides: Overrides {
            presence: said(overrides.presence),
            join_leave: said(overrides.join_leave),
            force_push_join_leave: said(overrides.force_push_join_leave),
            force_positioning: said(overrides.force_positioning),
            force_recovery: said(overrides.force_recovery),
        },
    });
    let act = Act { user: request.user.into(), client: request.client.into(), whitelist: Vec::new(), what };
    act_everywhere(core, &request.session, act).await
}

pub(super) async fn unsubscribe(core: &Core, body: &[u8]) -> Outcome {
    let request: api::UnsubscribeRequest = api::decode(body)?;
    if request.channel.is_empty() {
        return Ok(empty_result());
    }
    if core.engine.borrow().rules().resolve(&request.channel).is_none() {
        return Err(ApiError::UNKNOWN_CHANNEL.into());
    }
    let what = ActWhat::Unsubscribe { channel: request.channel.into(), why: Unsubscribe::SERVER };
    let act = Act { user: request.user.into(), client: request.client.into(), whitelist: Vec::new(), what };
    act_everywhere(core, &request.session, act).await
}

pub(super) async fn refresh(core: &Core, body: &[u8]) -> Outcome {
    let request: api::RefreshRequest = api::decode(body)?;
    let what = ActWhat::Refresh(RefreshAct {
        is_expired: request.expired,
        expire_at_s: request.expire_at,
        info: request.info,
    });
    let act = Act { user: request.user.into(), client: request.client.into(), whitelist: Vec::new(), what };
    act_everywhere(core, &request.session, act).await
}

pub(super) async fn disconnect(core: &Core, body: &[u8]) -> Outcome {
    let request: api::DisconnectRequest = api::decode(body)?;
    let why = match request.disconnect {
        Some(given) => Disconnect::of_application(given.code, given.reason),
        None => Disconnect::FORCE_DISCONNECT,
    };
    let act = Act {
        user: request.user.into(),
        client: request.client.into(),
        whitelist: request.whitelist.into_iter().map(Into::into).collect(),
        what: ActWhat::Disconnect(why),
    };
    act_everywhere(core, &request.session, act).await
}

/// Done on this node when it is answered, so that what is published next reaches who was subscribed. On the other nodes
/// as soon as they hear of it: the answer waits only until they have been told.
async fn act_everywhere(core: &Core, session: &str, act: Act) -> Outcome {
    if !session.is_empty() {
        return Ok(empty_result()); // No transport of this version gives out sessions.
    }
    let act = Arc::new(act);
    let told = core.has_nodes().then(|| {
        let act = Arc::clone(&act);
        core.ask_control(|core, call| ToControl::Act { core, call, act })
    });
    let here = core.ask_all(SurveyWhat::Act(act)).await;
    if let Some(told) = told
        && !matches!(told.await, Some(Answer::Told(true)))
    {
        return Err(ApiError::INTERNAL.into());
    }
    match here.iter().all(|part| matches!(part, SurveyReply::Done(true))) {
        true => Ok(empty_result()),
        false => Err(ApiError::INTERNAL.into()),
    }
}

pub(super) async fn channels(core: &Core, body: &[u8]) -> Outcome {
    let request: api::ChannelsRequest = api::decode(body)?;
    let started = Instant::now();
    let question = Question::Channels(request.pattern.into());
    let what = question.for_cores().map_err(|error| {
        tracing::info!(%error, "bad pattern in a channels call");
        ApiError::INTERNAL
    })?;
    let elsewhere = core.has_nodes().then(|| {
        let question = Box::new(question);
        core.ask_control(|core, call| ToControl::Survey { core, call, question })
    });
    let mut channels: BTreeMap<String, api::ChannelInfo> = BTreeMap::new();
    for part in core.ask_all(what).await {
        let SurveyReply::Channels(part) = part else { continue };
        for (name, clients) in part {
            channels.entry(name.into()).or_default().num_clients += clients;
        }
    }
    let found = match elsewhere {
        None => Some(HashMap::new()),
        Some(elsewhere) => match elsewhere.await {
            Some(Answer::Found(found)) => found,
            _ => None,
        },
    };
    core.api.borrow_mut().surveys.add(started.elapsed());
    for (name, clients) in found.ok_or(ApiError::INTERNAL)? {
        let sum = &mut channels.entry(name).or_default().num_clients;
        *sum = sum.saturating_add(clients);
    }
    let mut out = Vec::new();
    api::write_result(&api::ChannelsResult { channels }, &mut out)?;
    Ok(out)
}

pub(super) async fn info(core: &Core, body: &[u8]) -> Outcome {
    api::decode::<api::InfoRequest>(body)?;
    let others = core.has_nodes().then(|| core.ask_control(|core, call| ToControl::Nodes { core, call }));
    let mut node = Counts::default();
    for part in core.ask_all(SurveyWhat::Counts).await {
        let SurveyReply::Counts(part) = part else { continue };
        node.add(part);
    }
    let mut nodes = vec![result(NodeInfo::own(&core.settings, &node))];
    if let Some(others) = others
        && let Some(Answer::Nodes(others)) = others.await
    {
        nodes.extend(others.into_iter().map(result));
    }
    let mut out = Vec::new();
    api::write_result(&api::InfoResult { nodes }, &mut out)?;
    Ok(out)
}

fn result(node: NodeInfo) -> api::NodeResult {
    api::NodeResult {
        uid: node.uid,
        name: node.name,
        version: node.version,
        num_clients: node.clients,
        num_users: node.users,
        num_channels: node.channels,
        num_subs: node.subscriptions,
        uptime: node.uptime_s,
        ..api::NodeResult::default()
    }
}
