//! Server API methods on channels: each checks its request and asks the home core.

use std::collections::BTreeMap;

use bytes::Bytes;
use gyre_engine::rules::{self, Resolved};
use gyre_engine::{HistoryCall, HistoryOptions, HomeCall, HomeReply, Position, PublishCall};
use gyre_proto::api;
use gyre_proto::client::Publication;
use gyre_proto::codes::ApiError;

use super::super::Core;
use super::side_by_side::side_by_side;
use crate::base64_text;

/// What publish and broadcast have in common.
struct Message {
    data: Bytes,
    tags: BTreeMap<String, String>,
    skip_history: bool,
    idempotency_key: String,
    version: u64,
    version_epoch: String,
}

pub(in crate::data_plane) async fn publish(
    core: &Core,
    request: api::PublishRequest,
) -> Result<api::PublishResult, ApiError> {
    if request.channel.is_empty() {
        return Err(ApiError::BAD_REQUEST);
    }
    let message = Message {
        data: payload(request.data, &request.b64data)?,
        tags: request.tags,
        skip_history: request.skip_history,
        idempotency_key: request.idempotency_key,
        version: request.version,
        version_epoch: request.version_epoch,
    };
    publish_to(core, &request.channel, &message).await
}

pub(in crate::data_plane) async fn broadcast(
    core: &Core,
    request: api::BroadcastRequest,
) -> Result<api::BroadcastResult, ApiError> {
    if request.channels.is_empty() {
        return Err(ApiError::BAD_REQUEST);
    }
    let message = Message {
        data: payload(request.data, &request.b64data)?,
        tags: request.tags,
        skip_history: request.skip_history,
        idempotency_key: request.idempotency_key,
        version: request.version,
        version_epoch: request.version_epoch,
    };
    let published = side_by_side(request.channels.iter().map(|channel| publish_to(core, channel, &message))).await;
    let response = |result| match result {
        Ok(result) => api::PublishResponse { error: None, result: Some(result) },
        Err(error) => api::PublishResponse { error: Some(ApiError::into(error)), result: None },
    };
    Ok(api::BroadcastResult { responses: published.into_iter().map(response).collect() })
}

async fn publish_to(core: &Core, channel: &str, message: &Message) -> Result<api::PublishResult, ApiError> {
    if channel.is_empty() {
        return Err(ApiError::BAD_REQUEST);
    }
    if core.is_congested() {
        return Err(ApiError::INTERNAL);
    }
    let mut history = {
        let engine = core.engine.borrow();
        let rules = engine.rules();
        let resolved = rules.resolve(channel).ok_or(ApiError::UNKNOWN_CHANNEL)?;
        if !rules::check_data_format(resolved.options.publication_data_format, &message.data) {
            return Err(ApiError::BAD_REQUEST);
        }
        HistoryOptions::of(rules, channel)
    };
    if message.skip_history {
        history.size = 0;
    }
    let call = HomeCall::Publish(PublishCall {
        publication: Publication {
            data: message.data.clone(),
            tags: message.tags.clone(),
            version: message.version,
            ..Publication::default()
        },
        history,
        idempotency_key: message.idempotency_key.as_str().into(),
        version: message.version,
        version_epoch: message.version_epoch.as_str().into(),
    });
    match core.ask_home(channel, call).await {
        Some(HomeReply::Published(Position { offset, epoch })) => {
            Ok(api::PublishResult { offset, epoch: epoch.as_str().into() })
        }
        _ => Err(ApiError::INTERNAL),
    }
}

/// What is given in base64 wins over what is given as JSON.
pub(super) fn payload(data: Bytes, b64data: &str) -> Result<Bytes, ApiError> {
    if b64data.is_empty() {
        return Ok(data);
    }
    base64_text::decoded(b64data).ok_or(ApiError::BAD_REQUEST)
}

/// The ladder of the reading methods: 107 without channel, 102 for an unknown namespace, 108 when the feature is off.
fn readable(
    core: &Core,
    channel: &str,
    is_on: impl FnOnce(&rules::Rules, &Resolved<'_>) -> bool,
) -> Result<(), ApiError> {
    if channel.is_empty() {
        return Err(ApiError::BAD_REQUEST);
    }
    let engine = core.engine.borrow();
    let rules = engine.rules();
    let resolved = rules.resolve(channel).ok_or(ApiError::UNKNOWN_CHANNEL)?;
    if is_on(rules, &resolved) {
        return Ok(());
    }
    tracing::warn!(channel, "server API call for a feature that is off in the namespace");
    Err(ApiError::NOT_AVAILABLE)
}

pub(in crate::data_plane) async fn presence(
    core: &Core,
    request: api::PresenceRequest,
) -> Result<api::PresenceResult, ApiError> {
    readable(core, &request.channel, |_, resolved| resolved.options.presence)?;
    let Some(HomeReply::Presence(members)) = core.ask_home(&request.channel, HomeCall::Presence).await else {
        return Err(ApiError::INTERNAL);
    };
    let presence = members.iter().map(|(client, info)| (client.to_string(), (**info).clone())).collect();
    Ok(api::PresenceResult { presence })
}

pub(in crate::data_plane) async fn presence_stats(
    core: &Core,
    request: api::PresenceStatsRequest,
) -> Result<api::PresenceStatsResult, ApiError> {
    readable(core, &request.channel, |_, resolved| resolved.options.presence)?;
    match core.ask_home(&request.channel, HomeCall::PresenceStats).await {
        Some(HomeReply::PresenceStats { clients, users }) => {
            Ok(api::PresenceStatsResult { num_clients: clients, num_users: users })
        }
        _ => Err(ApiError::INTERNAL),
    }
}

pub(in crate::data_plane) async fn history(
    core: &Core,
    request: api::HistoryRequest,
) -> Result<api::HistoryResult, ApiError> {
    readable(core, &request.channel, |rules, _| HistoryOptions::of(rules, &request.channel).is_on())?;
    let since = request.since.map(|since| (since.offset, since.epoch.into_boxed_str()));
    if request.reverse && since.as_ref().is_some_and(|(offset, _)| *offset == 0) {
        // Clients get 107; here libraries know 100 (server-api.md, history).
        return Err(ApiError::INTERNAL);
    }
    let meta_ttl_ms = HistoryOptions::of(core.engine.borrow().rules(), &request.channel).meta_ttl_ms;
    let limit = i64::from(request.limit);
    let call = HomeCall::History(HistoryCall { limit, since, reverse: request.reverse, meta_ttl_ms });
    match core.ask_home(&request.channel, call).await {
        Some(HomeReply::History(Ok(facts))) => Ok(api::HistoryResult {
            publications: facts.publications.iter().map(|publication| told(publication)).collect(),
            epoch: facts.top.epoch.as_str().into(),
            offset: facts.top.offset,
        }),
        Some(HomeReply::History(Err(_))) => Err(ApiError::UNRECOVERABLE_POSITION),
        _ => Err(ApiError::INTERNAL),
    }
}

/// Backends are told less of a publication than clients.
fn told(publication: &Publication) -> api::Publication {
    api::Publication {
        data: publication.data.clone(),
        info: publication.info.clone(),
        offset: publication.offset,
        tags: publication.tags.clone(),
    }
}

pub(in crate::data_plane) async fn history_remove(
    core: &Core,
    request: api::HistoryRemoveRequest,
) -> Result<api::HistoryRemoveResult, ApiError> {
    readable(core, &request.channel, |rules, _| HistoryOptions::of(rules, &request.channel).is_on())?;
    match core.ask_home(&request.channel, HomeCall::HistoryRemove).await {
        Some(HomeReply::Done) => Ok(api::HistoryRemoveResult {}),
        _ => Err(ApiError::INTERNAL),
    }
}
