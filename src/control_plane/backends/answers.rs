//! What an answer means to the engine: `disconnect` wins over `error`, and that over `result`, except where nobody would be
//! told of them; of a payload and its base64 form one is left.

use bytes::Bytes;
use gyre_engine::backend::{
    BackendError, BackendReply, BackendResult, ConnectAnswer, PublishAnswer, RefreshAnswer, SubRefreshAnswer,
    SubscribeAnswer,
};
use gyre_engine::rules::Overrides;
use gyre_proto::codes::Disconnect;
use gyre_proto::proxy::{self, *};

use super::failure::{Failure, shortened};
use crate::base64_text;

/// What came of a call.
type Outcome = Result<BackendReply, Failure>;

/// The JSON answer to `request`.
pub(super) fn from_json(request: &Request, body: &[u8]) -> Outcome {
    match request {
        Request::Connect(_) => connect(decode(body)?),
        Request::Refresh(_) => refresh(decode(body)?),
        Request::Subscribe(_) => subscribe(decode(body)?),
        Request::Publish(_) => publish(decode(body)?),
        Request::Rpc(_) => rpc(decode(body)?),
        Request::SubRefresh(_) => sub_refresh(decode(body)?),
        Request::CacheEmpty(_) => cache_empty(decode(body)?),
        Request::State(_) => state(decode(body)?),
    }
}

pub(super) fn connect(response: ConnectResponse) -> Outcome {
    outcome(response.disconnect, response.error, response.result, |result| {
        let subs = result.subs.into_iter().map(|(channel, options)| {
            let answer = SubscribeAnswer {
                expire_at_s: options.expire_at,
                info: own(decoded("b64info", options.info, &options.b64info)?),
                data: decoded("b64data", options.data, &options.b64data)?,
                overrides: overrides(options.r#override.unwrap_or_default()),
                cache_recover: options.cache_recover,
            };
            Ok((channel, answer))
        });
        Ok(BackendResult::Connect(ConnectAnswer {
            subs: subs.collect::<Result<_, Failure>>()?,
            user: result.user,
            expire_at_s: result.expire_at,
            info: decoded("b64info", result.info, &result.b64info)?,
            data: decoded("b64data", result.data, &result.b64data)?,
            channels: result.channels,
            meta: own(result.meta),
        }))
    })
}

pub(super) fn refresh(response: RefreshResponse) -> Outcome {
    prolonged(response.disconnect, response.error, response.result, |result| {
        Ok(BackendResult::Refresh(RefreshAnswer {
            is_expired: result.expired,
            expire_at_s: result.expire_at,
            info: given(decoded("b64info", result.info, &result.b64info)?),
            meta: given(own(result.meta)),
        }))
    })
}

pub(super) fn subscribe(response: SubscribeResponse) -> Outcome {
    outcome(response.disconnect, response.error, response.result, |result| {
        Ok(BackendResult::Subscribe(SubscribeAnswer {
            expire_at_s: result.expire_at,
            info: own(decoded("b64info", result.info, &result.b64info)?),
            data: decoded("b64data", result.data, &result.b64data)?,
            overrides: overrides(result.r#override.unwrap_or_default()),
            cache_recover: false,
        }))
    })
}

pub(super) fn publish(response: PublishResponse) -> Outcome {
    outcome(response.disconnect, response.error, response.result, |result| {
        // The other way round than everywhere else, as upstream.
        let data = match result.data.is_empty() {
            true => decoded("b64data", Bytes::new(), &result.b64data)?,
            false => result.data,
        };
        Ok(BackendResult::Publish(PublishAnswer {
            data: given(own(data)),
            skip_history: result.skip_history,
            tags: result.tags,
            idempotency_key: result.idempotency_key,
            delta: result.delta,
            version: result.version,
            version_epoch: result.version_epoch,
        }))
    })
}

pub(super) fn rpc(response: RpcResponse) -> Outcome {
    outcome(response.disconnect, response.error, response.result, |result| {
        Ok(BackendResult::Rpc(decoded("b64data", result.data, &result.b64data)?))
    })
}

pub(super) fn sub_refresh(response: SubRefreshResponse) -> Outcome {
    prolonged(response.disconnect, response.error, response.result, |result| {
        Ok(BackendResult::SubRefresh(SubRefreshAnswer {
            is_expired: result.expired,
            expire_at_s: result.expire_at,
            info: given(own(decoded("b64info", result.info, &result.b64info)?)),
        }))
    })
}

/// Without a result nothing was published. An error has no client to go to.
pub(super) fn cache_empty(response: NotifyCacheEmptyResponse) -> Outcome {
    refused(response.error)?;
    let populated = response.result.is_some_and(|result| result.populated);
    Ok(BackendReply::Result(Box::new(BackendResult::CacheEmpty(populated))))
}

/// Taken if there is no error, with or without a result.
pub(super) fn state(response: NotifyChannelStateResponse) -> Outcome {
    refused(response.error)?;
    Ok(BackendReply::NoResult)
}

/// The clock has asked, not the client: there is no command to refuse, and only a result counts, as upstream has it.
fn prolonged<R>(
    disconnect: Option<proxy::Disconnect>,
    error: Option<proxy::Error>,
    result: Option<R>,
    read: impl FnOnce(R) -> Result<BackendResult, Failure>,
) -> Outcome {
    match result {
        Some(result) => outcome(None, None, Some(result), read),
        None => outcome(disconnect, error, None, read),
    }
}

fn outcome<R>(
    disconnect: Option<proxy::Disconnect>,
    error: Option<proxy::Error>,
    result: Option<R>,
    read: impl FnOnce(R) -> Result<BackendResult, Failure>,
) -> Outcome {
    Ok(match (disconnect, error, result) {
        (Some(disconnect), _, _) => {
            BackendReply::Disconnect(Disconnect::of_application(disconnect.code, disconnect.reason))
        }
        (None, Some(error), _) => {
            let proxy::Error { code, message, temporary } = error;
            BackendReply::Error(BackendError { code, message, temporary })
        }
        (None, None, Some(result)) => BackendReply::Result(Box::new(read(result)?)),
        (None, None, None) => BackendReply::NoResult,
    })
}

fn refused(error: Option<proxy::Error>) -> Result<(), Failure> {
    match error {
        None => Ok(()),
        Some(error) => Err(Failure::Refused { code: error.code, message: shortened(error.message) }),
    }
}

/// The one that counts.
fn decoded(name: &'static str, plain: Bytes, base64: &str) -> Result<Bytes, Failure> {
    match base64 {
        "" => Ok(plain),
        text => base64_text::decoded(text).ok_or(Failure::Base64(name)),
    }
}

/// What a session or a channel keeps for long: over gRPC it is a part of the buffer that the whole answer was read into, at
/// least 8 KiB, which would live as long.
fn own(bytes: Bytes) -> Bytes {
    Bytes::copy_from_slice(&bytes)
}

fn given(bytes: Bytes) -> Option<Bytes> {
    (!bytes.is_empty()).then_some(bytes)
}

fn overrides(options: SubscribeOptionOverride) -> Overrides {
    let flag = |option: Option<BoolValue>| option.map(|option| option.value);
    Overrides {
        presence: flag(options.presence),
        join_leave: flag(options.join_leave),
        force_push_join_leave: flag(options.force_push_join_leave),
        force_positioning: flag(options.force_positioning),
        force_recovery: flag(options.force_recovery),
    }
}

#[cfg(test)]
#[path = "tests/answers.rs"]
mod tests;
