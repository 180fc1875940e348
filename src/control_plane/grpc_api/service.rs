//! The methods of the gRPC service: each is a command on its way to a core, and its reply in the shape of the method.

use bytes::Bytes;
use gyre_proto::api::{self, Command, Reply};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::{Asked, errors};
use crate::data_plane::{ApiCall, ApiReply};

/// Generated: the service without its messages.
pub(super) mod services {
    #![expect(unreachable_pub, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/centrifugal.centrifugo.api.rs"));
}

/// See the module.
pub(super) struct Service {
    pub(super) calls: UnboundedSender<Asked>,
    /// Errors are statuses, whatever a caller says.
    pub(super) is_transport_mode: bool,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    /// What a core says to a call.
    async fn ask(&self, mut call: ApiCall) -> Result<ApiReply, Status> {
        match &mut call {
            ApiCall::One(command) => own(command),
            ApiCall::Batch(batch) => batch.commands.iter_mut().flatten().for_each(own),
        }
        let (reply, answer) = oneshot::channel();
        let _ = self.calls.send(Asked { call, reply });
        answer.await.map_err(|_| Status::unavailable("shutting down"))
    }

    /// One method: its command, and how the result or the error is answered.
    async fn method<Q, R, T>(
        &self,
        request: Request<Q>,
        command: impl FnOnce(Box<Q>) -> Command,
        result: impl FnOnce(Reply) -> Option<Box<R>>,
        response: impl FnOnce(Option<api::Error>, Option<R>) -> T,
    ) -> Answer<T> {
        let is_transport_mode = self.is_transport_mode || asks_transport_mode(request.metadata());
        let call = ApiCall::One(command(Box::new(request.into_inner())));
        let ApiReply::One(mut reply) = self.ask(call).await? else {
            return Err(Status::internal("a reply of another kind"));
        };
        match reply.error.take() {
            Some(error) if is_transport_mode => Err(errors::status(&error)),
            Some(error) => Ok(Response::new(response(Some(*error), None))),
            None => Ok(Response::new(response(None, result(reply).map(|result| *result)))),
        }
    }
}

/// Takes what channels and sessions keep for long out of the buffer that the whole call was read into, at least 8 KiB: one
/// publication in a history would keep all of a batch in memory.
fn own(command: &mut Command) {
    let Command { publish, broadcast, subscribe, .. } = command;
    let kept = [
        publish.as_mut().map(|request| &mut request.data),
        broadcast.as_mut().map(|request| &mut request.data),
        subscribe.as_mut().map(|request| &mut request.info),
    ];
    kept.into_iter().flatten().for_each(|bytes| *bytes = Bytes::copy_from_slice(bytes));
}

fn asks_transport_mode(metadata: &MetadataMap) -> bool {
    metadata.get("x-centrifugo-error-mode").is_some_and(|mode| mode == "transport")
}

#[tonic::async_trait]
impl services::centrifugo_api_server::CentrifugoApi for Service {
    async fn batch(&self, request: Request<api::BatchRequest>) -> Answer<api::BatchResponse> {
        match self.ask(ApiCall::Batch(request.into_inner().into())).await? {
            ApiReply::Batch(replies) => Ok(Response::new(api::BatchResponse { replies })),
            ApiReply::One(_) => Err(Status::internal("a reply of another kind")),
        }
    }

    async fn publish(&self, request: Request<api::PublishRequest>) -> Answer<api::PublishResponse> {
        let command = |publish| Command { publish: Some(publish), ..Command::default() };
        let response = |error, result| api::PublishResponse { error, result };
        self.method(request, command, |reply| reply.publish, response).await
    }

    async fn broadcast(&self, request: Request<api::BroadcastRequest>) -> Answer<api::BroadcastResponse> {
        let command = |broadcast| Command { broadcast: Some(broadcast), ..Command::default() };
        let response = |error, result| api::BroadcastResponse { error, result };
        self.method(request, command, |reply| reply.broadcast, response).await
    }

    async fn subscribe(&self, request: Request<api::SubscribeRequest>) -> Answer<api::SubscribeResponse> {
        let command = |subscribe| Command { subscribe: Some(subscribe), ..Command::default() };
        let response = |error, result| api::SubscribeResponse { error, result };
        self.method(request, command, |reply| reply.subscribe, response).await
    }

    async fn unsubscribe(&self, request: Request<api::UnsubscribeRequest>) -> Answer<api::UnsubscribeResponse> {
        let command = |unsubscribe| Command { unsubscribe: Some(unsubscribe), ..Command::default() };
        let response = |error, result| api::UnsubscribeResponse { error, result };
        self.method(request, command, |reply| reply.unsubscribe, response).await
    }

    async fn disconnect(&self, request: Request<api::DisconnectRequest>) -> Answer<api::DisconnectResponse> {
        let command = |disconnect| Command { disconnect: Some(disconnect), ..Command::default() };
        let response = |error, result| api::DisconnectResponse { error, result };
        self.method(request, command, |reply| reply.disconnect, response).await
    }

    async fn presence(&self, request: Request<api::PresenceRequest>) -> Answer<api::PresenceResponse> {
        let command = |presence| Command { presence: Some(presence), ..Command::default() };
        let response = |error, result| api::PresenceResponse { error, result };
        self.method(request, command, |reply| reply.presence, response).await
    }

    async fn presence_stats(&self, request: Request<api::PresenceStatsRequest>) -> Answer<api::PresenceStatsResponse> {
        let command = |presence_stats| Command { presence_stats: Some(presence_stats), ..Command::default() };
        let response = |error, result| api::PresenceStatsResponse { error, result };
        self.method(request, command, |reply| reply.presence_stats, response).await
    }

    async fn history(&self, request: Request<api::HistoryRequest>) -> Answer<api::HistoryResponse> {
        let command = |history| Command { history: Some(history), ..Command::default() };
        let response = |error, result| api::HistoryResponse { error, result };
        self.method(request, command, |reply| reply.history, response).await
    }

    async fn history_remove(&self, request: Request<api::HistoryRemoveRequest>) -> Answer<api::HistoryRemoveResponse> {
        let command = |history_remove| Command { history_remove: Some(history_remove), ..Command::default() };
        let response = |error, result| api::HistoryRemoveResponse { error, result };
        self.method(request, command, |reply| reply.history_remove, response).await
    }

    async fn info(&self, request: Request<api::InfoRequest>) -> Answer<api::InfoResponse> {
        let command = |info| Command { info: Some(info), ..Command::default() };
        let response = |error, result| api::InfoResponse { error, result };
        self.method(request, command, |reply| reply.info, response).await
    }

    async fn rpc(&self, request: Request<api::RpcRequest>) -> Answer<api::RpcResponse> {
        let command = |rpc| Command { rpc: Some(rpc), ..Command::default() };
        let response = |error, result| api::RpcResponse { error, result };
        self.method(request, command, |reply| reply.rpc, response).await
    }

    async fn refresh(&self, request: Request<api::RefreshRequest>) -> Answer<api::RefreshResponse> {
        let command = |refresh| Command { refresh: Some(refresh), ..Command::default() };
        let response = |error, result| api::RefreshResponse { error, result };
        self.method(request, command, |reply| reply.refresh, response).await
    }

    async fn channels(&self, request: Request<api::ChannelsRequest>) -> Answer<api::ChannelsResponse> {
        let command = |channels| Command { channels: Some(channels), ..Command::default() };
        let response = |error, result| api::ChannelsResponse { error, result };
        self.method(request, command, |reply| reply.channels, response).await
    }

    async fn update_user_status(
        &self,
        request: Request<api::UpdateUserStatusRequest>,
    ) -> Answer<api::UpdateUserStatusResponse> {
        let command =
            |update_user_status| Command { update_user_status: Some(update_user_status), ..Command::default() };
        let response = |error, result| api::UpdateUserStatusResponse { error, result };
        self.method(request, command, |reply| reply.update_user_status, response).await
    }

    async fn get_user_status(&self, request: Request<api::GetUserStatusRequest>) -> Answer<api::GetUserStatusResponse> {
        let command = |get_user_status| Command { get_user_status: Some(get_user_status), ..Command::default() };
        let response = |error, result| api::GetUserStatusResponse { error, result };
        self.method(request, command, |reply| reply.get_user_status, response).await
    }

    async fn delete_user_status(
        &self,
        request: Request<api::DeleteUserStatusRequest>,
    ) -> Answer<api::DeleteUserStatusResponse> {
        let command =
            |delete_user_status| Command { delete_user_status: Some(delete_user_status), ..Command::default() };
        let response = |error, result| api::DeleteUserStatusResponse { error, result };
        self.method(request, command, |reply| reply.delete_user_status, response).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gyre_proto::api::{BatchRequest, BroadcastRequest, PublishRequest, SubscribeRequest};
    use prost::Message as _;

    /// A history of a hundred small publications would keep a hundred large batches in memory.
    #[tokio::test]
    async fn what_is_kept_is_no_part_of_what_was_read() {
        let publish = Command {
            publish: Some(Box::new(PublishRequest { data: "publish".into(), ..Default::default() })),
            ..Default::default()
        };
        let broadcast = Command {
            broadcast: Some(Box::new(BroadcastRequest { data: "broadcast".into(), ..Default::default() })),
            ..Default::default()
        };
        let subscribe = Command {
            subscribe: Some(Box::new(SubscribeRequest { info: "subscribe".into(), ..Default::default() })),
            ..Default::default()
        };
        let request = BatchRequest { commands: vec![publish, broadcast, subscribe], parallel: false };
        let read = Bytes::from(request.encode_to_vec());
        let (calls, mut asked) = tokio::sync::mpsc::unbounded_channel();
        let service = Service { calls, is_transport_mode: false };
        let batch = BatchRequest::decode(read.clone()).expect("a batch");
        let answer = service.ask(ApiCall::Batch(batch.into()));
        let core = async {
            let Some(Asked { call: ApiCall::Batch(batch), .. }) = asked.recv().await else { panic!("a batch") };
            batch
        };
        let (_, batch) = tokio::join!(answer, core);
        let commands: Vec<Command> = batch.commands.into_iter().flatten().collect();
        let kept = [
            &commands[0].publish.as_ref().expect("a publish").data,
            &commands[1].broadcast.as_ref().expect("a broadcast").data,
            &commands[2].subscribe.as_ref().expect("a subscribe").info,
        ];
        for (bytes, text) in kept.into_iter().zip(["publish", "broadcast", "subscribe"]) {
            assert_eq!(bytes, text);
            assert!(!read.as_ptr_range().contains(&bytes.as_ptr()), "{text} is a part of what was read");
        }
    }
}
