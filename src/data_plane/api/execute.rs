//! Commands that name their method: one at a time, or in batches.

use std::fmt;

use gyre_proto::api::{Batch, Command, Reply, RpcRequest, RpcResult};
use gyre_proto::codes::ApiError;

use super::super::Core;
use super::side_by_side::{breathe, side_by_side};
use super::{acts, channels, user_status};

/// Which way a call came in, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Http,
    Grpc,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

/// Why a call is counted as one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CallError {
    /// It was answered with this error.
    Code(u32),
    /// Its body did not arrive, or is too long.
    ReadBody,
    /// Its body is not a request.
    Unmarshal,
    /// Its result cannot be written.
    Marshal,
}

impl fmt::Display for CallError {
    /// As metrics name it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => code.fmt(formatter),
            Self::ReadBody => formatter.write_str("read_body"),
            Self::Unmarshal => formatter.write_str("unmarshal"),
            Self::Marshal => formatter.write_str("marshal"),
        }
    }
}

/// Carries out a command. Of several methods in it the first one in this order counts (server-api.md 4.13).
pub(in crate::data_plane) async fn execute(core: &Core, protocol: Protocol, command: Command) -> Reply {
    if let Some(request) = command.publish {
        return run(core, protocol, "publish", request, channels::publish, |reply| &mut reply.publish).await;
    }
    if let Some(request) = command.broadcast {
        return run(core, protocol, "broadcast", request, channels::broadcast, |reply| &mut reply.broadcast).await;
    }
    if let Some(request) = command.subscribe {
        return run(core, protocol, "subscribe", request, acts::subscribe, |reply| &mut reply.subscribe).await;
    }
    if let Some(request) = command.unsubscribe {
        return run(core, protocol, "unsubscribe", request, acts::unsubscribe, |reply| &mut reply.unsubscribe).await;
    }
    if let Some(request) = command.disconnect {
        return run(core, protocol, "disconnect", request, acts::disconnect, |reply| &mut reply.disconnect).await;
    }
    if let Some(request) = command.history {
        return run(core, protocol, "history", request, channels::history, |reply| &mut reply.history).await;
    }
    if let Some(request) = command.history_remove {
        return run(core, protocol, "history_remove", request, channels::history_remove, |reply| {
            &mut reply.history_remove
        })
        .await;
    }
    if let Some(request) = command.presence {
        return run(core, protocol, "presence", request, channels::presence, |reply| &mut reply.presence).await;
    }
    if let Some(request) = command.presence_stats {
        return run(core, protocol, "presence_stats", request, channels::presence_stats, |reply| {
            &mut reply.presence_stats
        })
        .await;
    }
    if let Some(request) = command.info {
        return run(core, protocol, "info", request, acts::info, |reply| &mut reply.info).await;
    }
    if let Some(request) = command.rpc {
        return run(core, protocol, "rpc", request, rpc, |reply| &mut reply.rpc).await;
    }
    if let Some(request) = command.refresh {
        return run(core, protocol, "refresh", request, acts::refresh, |reply| &mut reply.refresh).await;
    }
    if let Some(request) = command.channels {
        return run(core, protocol, "channels", request, acts::channels, |reply| &mut reply.channels).await;
    }
    if let Some(request) = command.update_user_status {
        return run(core, protocol, "update_user_status", request, user_status::update_user_status, |reply| {
            &mut reply.update_user_status
        })
        .await;
    }
    if let Some(request) = command.get_user_status {
        return run(core, protocol, "get_user_status", request, user_status::get_user_status, |reply| {
            &mut reply.get_user_status
        })
        .await;
    }
    if let Some(request) = command.delete_user_status {
        return run(core, protocol, "delete_user_status", request, user_status::delete_user_status, |reply| {
            &mut reply.delete_user_status
        })
        .await;
    }
    count_error(core, protocol, "unknown", CallError::Code(ApiError::NOT_FOUND.code));
    failed(ApiError::NOT_FOUND)
}

/// Carries out several, and replies in their order. None of them stops the others. Counts as a call like them, and has no
/// errors but theirs.
pub(in crate::data_plane) async fn batch(core: &Core, protocol: Protocol, batch: Batch) -> Vec<Reply> {
    let one = async |command| match command {
        Some(command) => execute(core, protocol, command).await,
        None => failed(ApiError::BAD_REQUEST),
    };
    let commands = batch.commands.into_iter();
    let replies = if batch.parallel {
        side_by_side(commands.map(one)).await
    } else {
        let mut replies = Vec::with_capacity(commands.len());
        for (at, command) in commands.enumerate() {
            breathe(at).await;
            replies.push(one(command).await);
        }
        replies
    };
    count(core, protocol, "batch", &Ok(()));
    replies
}

/// There are no methods for backends to call by name.
pub(in crate::data_plane) async fn rpc(_: &Core, request: RpcRequest) -> Result<RpcResult, ApiError> {
    Err(if request.method.is_empty() { ApiError::BAD_REQUEST } else { ApiError::NOT_FOUND })
}

/// Counts a call that has ended, and its error if it has one.
pub(in crate::data_plane) fn count<R>(
    core: &Core,
    protocol: Protocol,
    name: &'static str,
    outcome: &Result<R, ApiError>,
) {
    let mut counters = core.api.borrow_mut();
    *counters.calls.entry((protocol, name)).or_default() += 1;
    if let Err(error) = outcome {
        *counters.errors.entry((protocol, name, CallError::Code(error.code))).or_default() += 1;
    }
}

/// Counts an error of what was no call, or of a result that nobody gets.
pub(in crate::data_plane) fn count_error(core: &Core, protocol: Protocol, name: &'static str, error: CallError) {
    *core.api.borrow_mut().errors.entry((protocol, name, error)).or_default() += 1;
}

/// Puts the result of `method` where it belongs in a reply. Boxed: [`execute`] would have room for all methods at once.
async fn run<T, R>(
    core: &Core,
    protocol: Protocol,
    name: &'static str,
    request: Box<T>,
    method: impl AsyncFnOnce(&Core, T) -> Result<R, ApiError>,
    place: fn(&mut Reply) -> &mut Option<Box<R>>,
) -> Reply {
    let outcome = Box::pin(method(core, *request)).await;
    count(core, protocol, name, &outcome);
    match outcome {
        Ok(result) => {
            let mut reply = Reply::default();
            *place(&mut reply) = Some(Box::new(result));
            reply
        }
        Err(error) => failed(error),
    }
}

/// The reply to a command that failed, or that was none.
pub(in crate::data_plane) fn failed(error: ApiError) -> Reply {
    Reply { error: Some(Box::new(error.into())), ..Reply::default() }
}
