//! Server API methods on connections and on the node.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use gyre_engine::rules::Overrides;
use gyre_engine::{Act, ActWhat, Counts, RefreshAct, SubscribeAct, SurveyReply, SurveyWhat};
use gyre_proto::api;
use gyre_proto::codes::{ApiError, Disconnect, Unsubscribe};

use super::super::calls::Answer;
use super::super::{Core, NodeInfo, Question, ToControl};
use super::channels::payload;

pub(in crate::data_plane) async fn subscribe(
    core: &Core,
    request: api::SubscribeRequest,
) -> Result<api::SubscribeResult, ApiError> {
    if request.channel.is_empty() {
        return Err(ApiError::BAD_REQUEST);
    }
    let info = payload(request.info, &request.b64info)?;
    let data = payload(request.data, &request.b64data)?;
    if core.engine.borrow().rules().resolve(&request.channel).is_none() {
        return Err(ApiError::UNKNOWN_CHANNEL);
    }
    let overrides = request.r#override.unwrap_or_default();
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
    act_everywhere(core, &request.session, act).await?;
    Ok(api::SubscribeResult {})
}

pub(in crate::data_plane) async fn unsubscribe(
    core: &Core,
    request: api::UnsubscribeRequest,
) -> Result<api::UnsubscribeResult, ApiError> {
    if request.channel.is_empty() {
        return Ok(api::UnsubscribeResult {});
    }
    if core.engine.borrow().rules().resolve(&request.channel).is_none() {
        return Err(ApiError::UNKNOWN_CHANNEL);
    }
    let what = ActWhat::Unsubscribe { channel: request.channel.into(), why: Unsubscribe::SERVER };
    let act = Act { user: request.user.into(), client: request.client.into(), whitelist: Vec::new(), what };
    act_everywhere(core, &request.session, act).await?;
    Ok(api::UnsubscribeResult {})
}

pub(in crate::data_plane) async fn refresh(
    core: &Core,
    request: api::RefreshRequest,
) -> Result<api::RefreshResult, ApiError> {
    let what = ActWhat::Refresh(RefreshAct {
        is_expired: request.expired,
        expire_at_s: request.expire_at,
        info: request.info,
    });
    let act = Act { user: request.user.into(), client: request.client.into(), whitelist: Vec::new(), what };
    act_everywhere(core, &request.session, act).await?;
    Ok(api::RefreshResult {})
}

pub(in crate::data_plane) async fn disconnect(
    core: &Core,
    request: api::DisconnectRequest,
) -> Result<api::DisconnectResult, ApiError> {
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
    act_everywhere(core, &request.session, act).await?;
    Ok(api::DisconnectResult {})
}

/// Done on this node when it is answered, so that what is published next reaches who was subscribed. On the other nodes
/// as soon as they hear of it: the answer waits only until they have been told.
async fn act_everywhere(core: &Core, session: &str, act: Act) -> Result<(), ApiError> {
    if !session.is_empty() {
        return Ok(()); // No transport of this version gives out sessions.
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
        return Err(ApiError::INTERNAL);
    }
    match here.iter().all(|part| matches!(part, SurveyReply::Done(true))) {
        true => Ok(()),
        false => Err(ApiError::INTERNAL),
    }
}

pub(in crate::data_plane) async fn channels(
    core: &Core,
    request: api::ChannelsRequest,
) -> Result<api::ChannelsResult, ApiError> {
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
    Ok(api::ChannelsResult { channels })
}

pub(in crate::data_plane) async fn info(core: &Core, _: api::InfoRequest) -> Result<api::InfoResult, ApiError> {
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
    Ok(api::InfoResult { nodes })
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
