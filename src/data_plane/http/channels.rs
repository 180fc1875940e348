//! Server API methods on channels: each decodes, checks, asks the home core and writes its result.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gyre_engine::rules::{self, Resolved};
use gyre_engine::{HistoryCall, HistoryOptions, HomeCall, HomeReply, Position, PublishCall};
use gyre_proto::api;
use gyre_proto::client::Publication;
use gyre_proto::codes::ApiError;

use super::Core;
use super::api::{Failure, Outcome};
use crate::limits::{BROADCAST_IN_FLIGHT_MAX, BROADCAST_SLICE};

/// What publish and broadcast have in common.
struct Message {
    data: Bytes,
    tags: std::collections::BTreeMap<String, String>,
    skip_history: bool,
    idempotency_key: String,
    version: u64,
    version_epoch: String,
}

pub(super) async fn publish(core: &Core, body: &[u8]) -> Outcome {
    let request: api::PublishRequest = api::decode(body)?;
    if request.channel.is_empty() {
        return Err(ApiError::BAD_REQUEST.into());
    }
    let message = Message {
        data: payload(request.data, &request.b64data)?,
        tags: request.tags,
        skip_history: request.skip_history,
        idempotency_key: request.idempotency_key,
        version: request.version,
        version_epoch: request.version_epoch,
    };
    let result = publish_to(core, &request.channel, &message).await?;
    let mut out = Vec::with_capacity(64);
    api::write_result(&result, &mut out)?;
    Ok(out)
}

pub(super) async fn broadcast(core: &Core, body: &[u8]) -> Outcome {
    let request: api::BroadcastRequest = api::decode(body)?;
    if request.channels.is_empty() {
        return Err(ApiError::BAD_REQUEST.into());
    }
    let message = Message {
        data: payload(request.data, &request.b64data)?,
        tags: request.tags,
        skip_history: request.skip_history,
        idempotency_key: request.idempotency_key,
        version: request.version,
        version_epoch: request.version_epoch,
    };
    let mut responses = Vec::with_capacity(request.channels.len());
    let mut in_flight = VecDeque::new();
    for (at, channel) in request.channels.iter().enumerate() {
        if at % BROADCAST_SLICE == BROADCAST_SLICE - 1 {
            let_others_run().await;
        }
        if in_flight.len() == BROADCAST_IN_FLIGHT_MAX
            && let Some(first) = in_flight.pop_front()
        {
            responses.push(finish(first).await);
        }
        // Polled once: a channel whose home is elsewhere is on its way while the next one is begun.
        let mut publishing = Box::pin(publish_to(core, channel, &message));
        in_flight.push_back(match poll_once(publishing.as_mut()).await {
            Some(done) => Progress::Done(done),
            None => Progress::Waits(publishing),
        });
    }
    for publishing in in_flight {
        responses.push(finish(publishing).await);
    }
    let mut out = Vec::with_capacity(responses.len() * 32);
    api::write_result(&api::BroadcastResult { responses }, &mut out)?;
    Ok(out)
}

enum Progress<F> {
    Done(Result<api::PublishResult, ApiError>),
    Waits(F),
}

async fn finish<F>(progress: Progress<F>) -> api::PublishResponse
where
    F: Future<Output = Result<api::PublishResult, ApiError>>,
{
    let result = match progress {
        Progress::Done(result) => result,
        Progress::Waits(publishing) => publishing.await,
    };
    match result {
        Ok(result) => api::PublishResponse::Result(result),
        Err(error) => api::PublishResponse::Error(error),
    }
}

/// Channels whose home is here are served without a wait; a long list must not keep the core to itself.
async fn let_others_run() {
    let mut has_waited = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
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
        publication: Publication { data: message.data.clone(), tags: message.tags.clone(), ..Publication::default() },
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
    STANDARD.decode(b64data).map(Bytes::from).map_err(|_| ApiError::BAD_REQUEST)
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

pub(super) async fn presence(core: &Core, body: &[u8]) -> Outcome {
    let request: api::PresenceRequest = api::decode(body)?;
    readable(core, &request.channel, |_, resolved| resolved.options.presence)?;
    let Some(HomeReply::Presence(members)) = core.ask_home(&request.channel, HomeCall::Presence).await else {
        return Err(ApiError::INTERNAL.into());
    };
    let presence = members.iter().map(|(client, info)| (client.to_string(), (**info).clone())).collect();
    let mut out = Vec::new();
    api::write_result(&api::PresenceResult { presence }, &mut out)?;
    Ok(out)
}

pub(super) async fn presence_stats(core: &Core, body: &[u8]) -> Outcome {
    let request: api::PresenceStatsRequest = api::decode(body)?;
    readable(core, &request.channel, |_, resolved| resolved.options.presence)?;
    let reply = core.ask_home(&request.channel, HomeCall::PresenceStats).await;
    let Some(HomeReply::PresenceStats { clients, users }) = reply else {
        return Err(ApiError::INTERNAL.into());
    };
    let mut out = Vec::new();
    api::write_result(&api::PresenceStatsResult { num_clients: clients, num_users: users }, &mut out)?;
    Ok(out)
}

pub(super) async fn history(core: &Core, body: &[u8]) -> Outcome {
    let request: api::HistoryRequest = api::decode(body)?;
    readable(core, &request.channel, |rules, _| HistoryOptions::of(rules, &request.channel).is_on())?;
    let since = request.since.map(|since| (since.offset, since.epoch.into_boxed_str()));
    if request.reverse && since.as_ref().is_some_and(|(offset, _)| *offset == 0) {
        // Clients get 107; here libraries know 100 (server-api.md, history).
        return Err(ApiError::INTERNAL.into());
    }
    let meta_ttl_ms = HistoryOptions::of(core.engine.borrow().rules(), &request.channel).meta_ttl_ms;
    let limit = i64::from(request.limit);
    let call = HomeCall::History(HistoryCall { limit, since, reverse: request.reverse, meta_ttl_ms });
    let facts = match core.ask_home(&request.channel, call).await {
        Some(HomeReply::History(Ok(facts))) => facts,
        Some(HomeReply::History(Err(_))) => return Err(ApiError::UNRECOVERABLE_POSITION.into()),
        _ => return Err(ApiError::INTERNAL.into()),
    };
    let result = api::HistoryResult {
        publications: facts.publications.iter().map(|p| (**p).clone()).collect(),
        epoch: facts.top.epoch.as_str().into(),
        offset: facts.top.offset,
    };
    let mut out = Vec::new();
    api::write_result(&result, &mut out)?;
    Ok(out)
}

pub(super) async fn history_remove(core: &Core, body: &[u8]) -> Outcome {
    let request: api::HistoryRemoveRequest = api::decode(body)?;
    readable(core, &request.channel, |rules, _| HistoryOptions::of(rules, &request.channel).is_on())?;
    match core.ask_home(&request.channel, HomeCall::HistoryRemove).await {
        Some(HomeReply::Done) => Ok(super::acts::empty_result()),
        _ => Err(Failure::Api(ApiError::INTERNAL)),
    }
}
