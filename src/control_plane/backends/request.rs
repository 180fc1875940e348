//! A call of the engine as the request that a backend gets, the same over HTTP and gRPC.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gyre_engine::backend::{BackendCall, BackendClient, BackendEvent, StateEvent};
use gyre_proto::Encoding;
use gyre_proto::proxy::*;

use crate::settings::proxies::Proxy;

/// The request for `call`, with what the proxy wants in it.
pub(super) fn request(proxy: &Proxy, call: BackendCall) -> Request {
    let BackendCall { client, event, .. } = call;
    let about = About::new(proxy, client);
    let About { client, transport, protocol, encoding, user, meta } = about;
    let payload = |data: Bytes| match proxy.binary_encoding {
        true => (Bytes::new(), STANDARD.encode(data)),
        false => (data, String::new()),
    };
    match event {
        BackendEvent::Connect { data, name, version, channels } => {
            let (data, b64data) = payload(data);
            let request =
                ConnectRequest { client, transport, protocol, encoding, data, b64data, name, version, channels };
            Request::Connect(request)
        }
        BackendEvent::Refresh => Request::Refresh(RefreshRequest { client, transport, protocol, encoding, user, meta }),
        BackendEvent::Subscribe { channel, data } => {
            let (data, b64data) = payload(data);
            Request::Subscribe(SubscribeRequest {
                client,
                transport,
                protocol,
                encoding,
                user,
                channel: channel.into(),
                token: String::new(),
                meta,
                data,
                b64data,
            })
        }
        BackendEvent::Publish { channel, data } => {
            let (data, b64data) = payload(data);
            Request::Publish(PublishRequest {
                client,
                transport,
                protocol,
                encoding,
                user,
                channel: channel.into(),
                data,
                b64data,
                meta,
            })
        }
        BackendEvent::SubRefresh { channel } => Request::SubRefresh(SubRefreshRequest {
            client,
            transport,
            protocol,
            encoding,
            user,
            channel: channel.into(),
            meta,
        }),
        BackendEvent::Rpc { method, data } => {
            let (data, b64data) = payload(data);
            Request::Rpc(RpcRequest { client, transport, protocol, encoding, user, method, data, b64data, meta })
        }
        BackendEvent::CacheEmpty { channel } => {
            Request::CacheEmpty(NotifyCacheEmptyRequest { channel: channel.into() })
        }
    }
}

/// The request that tells of `events`.
pub(super) fn state(events: Vec<StateEvent>) -> Request {
    let events = events.into_iter().map(|event| ChannelEvent {
        time_ms: i64::try_from(event.time_ms).unwrap_or(i64::MAX),
        channel: event.channel.into(),
        r#type: event.kind.name().to_owned(),
    });
    Request::State(NotifyChannelStateRequest { events: events.collect() })
}

/// What every request about a client says of it; empty where there is none.
#[derive(Default)]
struct About {
    client: String,
    transport: String,
    protocol: String,
    encoding: String,
    user: String,
    meta: Bytes,
}

impl About {
    fn new(proxy: &Proxy, client: Option<BackendClient>) -> Self {
        let Some(client) = client else { return Self::default() };
        let protocol = match client.encoding {
            Encoding::Json => "json",
            Encoding::Protobuf => "protobuf",
        };
        Self {
            client: client.client.to_string(),
            transport: client.transport.to_owned(),
            protocol: protocol.to_owned(),
            encoding: if proxy.binary_encoding { "binary" } else { "json" }.to_owned(),
            user: client.user.into(),
            meta: if proxy.include_connection_meta { client.meta } else { Bytes::new() },
        }
    }
}
