//! Requests in JSON, members in the order of their numbers. Empty ones are left out, but for `user`, which backends index
//! blindly.

use super::*;
use crate::client::InappropriateJson;
use crate::json::{self, Object};

type Written = Result<(), InappropriateJson>;

impl Request {
    /// Bytes that a request takes without its payloads, about: saves most of them from growing their buffer.
    const USUAL_BYTES: usize = 256;

    /// The body of a call.
    ///
    /// # Errors
    /// A payload in it is not JSON.
    pub fn to_json(&self) -> Result<Vec<u8>, InappropriateJson> {
        let mut out = Vec::with_capacity(Self::USUAL_BYTES);
        json::object(&mut out, |object| match self {
            Self::Connect(request) => connect(request, object),
            Self::Refresh(request) => refresh(request, object),
            Self::Subscribe(request) => subscribe(request, object),
            Self::Publish(request) => publish(request, object),
            Self::Rpc(request) => rpc(request, object),
            Self::SubRefresh(request) => sub_refresh(request, object),
            Self::CacheEmpty(request) => {
                object.string("channel", &request.channel);
                Ok(())
            }
            Self::State(request) => object.list("events", &request.events, event),
        })?;
        Ok(out)
    }
}

fn connect(request: &ConnectRequest, object: &mut Object<'_>) -> Written {
    client(object, [&request.client, &request.transport, &request.protocol, &request.encoding]);
    object.raw("data", &request.data)?;
    object.string("b64data", &request.b64data);
    object.string("name", &request.name);
    object.string("version", &request.version);
    if !request.channels.is_empty() {
        let out = object.member("channels");
        for (at, channel) in request.channels.iter().enumerate() {
            out.push(if at == 0 { b'[' } else { b',' });
            json::string(channel, out);
        }
        out.push(b']');
    }
    Ok(())
}

fn refresh(request: &RefreshRequest, object: &mut Object<'_>) -> Written {
    client(object, [&request.client, &request.transport, &request.protocol, &request.encoding]);
    object.string_always("user", &request.user);
    object.raw("meta", &request.meta)
}

fn subscribe(request: &SubscribeRequest, object: &mut Object<'_>) -> Written {
    client(object, [&request.client, &request.transport, &request.protocol, &request.encoding]);
    object.string_always("user", &request.user);
    object.string("channel", &request.channel);
    object.string("token", &request.token);
    object.raw("meta", &request.meta)?;
    object.raw("data", &request.data)?;
    object.string("b64data", &request.b64data);
    Ok(())
}

fn publish(request: &PublishRequest, object: &mut Object<'_>) -> Written {
    client(object, [&request.client, &request.transport, &request.protocol, &request.encoding]);
    object.string_always("user", &request.user);
    object.string("channel", &request.channel);
    object.raw("data", &request.data)?;
    object.string("b64data", &request.b64data);
    object.raw("meta", &request.meta)
}

fn rpc(request: &RpcRequest, object: &mut Object<'_>) -> Written {
    client(object, [&request.client, &request.transport, &request.protocol, &request.encoding]);
    object.string_always("user", &request.user);
    object.string("method", &request.method);
    object.raw("data", &request.data)?;
    object.string("b64data", &request.b64data);
    object.raw("meta", &request.meta)
}

fn sub_refresh(request: &SubRefreshRequest, object: &mut Object<'_>) -> Written {
    client(object, [&request.client, &request.transport, &request.protocol, &request.encoding]);
    object.string_always("user", &request.user);
    object.string("channel", &request.channel);
    object.raw("meta", &request.meta)
}

/// How every request about a client begins.
fn client(object: &mut Object<'_>, [client, transport, protocol, encoding]: [&str; 4]) {
    object.string("client", client);
    object.string("transport", transport);
    object.string("protocol", protocol);
    object.string("encoding", encoding);
}

fn event(event: &ChannelEvent, object: &mut Object<'_>) -> Written {
    object.number("time_ms", event.time_ms);
    object.string("channel", &event.channel);
    object.string("type", &event.r#type);
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn text(request: Request) -> String {
        String::from_utf8(request.to_json().expect("it can be written")).expect("UTF-8")
    }

    /// Backends index `user` blindly; other empty members would be values that nobody gave.
    #[test]
    fn empty_members_are_left_out_but_for_the_user() {
        assert_eq!(text(Request::Connect(ConnectRequest::default())), "{}");
        assert_eq!(text(Request::Refresh(RefreshRequest::default())), r#"{"user":""}"#);
        assert_eq!(text(Request::Subscribe(SubscribeRequest::default())), r#"{"user":""}"#);
        assert_eq!(text(Request::Publish(PublishRequest::default())), r#"{"user":""}"#);
        assert_eq!(text(Request::Rpc(RpcRequest::default())), r#"{"user":""}"#);
        assert_eq!(text(Request::SubRefresh(SubRefreshRequest::default())), r#"{"user":""}"#);
        assert_eq!(text(Request::CacheEmpty(NotifyCacheEmptyRequest::default())), "{}");
        assert_eq!(text(Request::State(NotifyChannelStateRequest::default())), "{}");
    }

    /// A backend gets every member under the name it was written for, and payloads as the client spelt them.
    #[test]
    fn every_member_is_written() {
        let data = Bytes::from_static(br#"{"b": 1.0,"a":[ ]}"#);
        let b64data = "AA==".to_owned();
        let meta = Bytes::from_static(b"{}");
        let [client, transport, protocol, encoding, user, channel] =
            ["c", "websocket", "json", "binary", "u", "ch"].map(ToOwned::to_owned);
        let head = r#""client":"c","transport":"websocket","protocol":"json","encoding":"binary""#;
        let connect = ConnectRequest {
            client: client.clone(),
            transport: transport.clone(),
            protocol: protocol.clone(),
            encoding: encoding.clone(),
            data: data.clone(),
            b64data: b64data.clone(),
            name: "js".into(),
            version: "1".into(),
            channels: vec!["a".into(), "\"".into()],
        };
        let rest = r#""data":{"b": 1.0,"a":[ ]},"b64data":"AA==","name":"js","version":"1","channels":["a","\""]"#;
        assert_eq!(text(Request::Connect(connect)), format!("{{{head},{rest}}}"));
        let subscribe = SubscribeRequest {
            client: client.clone(),
            transport: transport.clone(),
            protocol: protocol.clone(),
            encoding: encoding.clone(),
            user: user.clone(),
            channel: channel.clone(),
            token: "t".into(),
            meta: meta.clone(),
            data: data.clone(),
            b64data: b64data.clone(),
        };
        let rest = r#""user":"u","channel":"ch","token":"t","meta":{},"data":{"b": 1.0,"a":[ ]},"b64data":"AA==""#;
        assert_eq!(text(Request::Subscribe(subscribe)), format!("{{{head},{rest}}}"));
        let publish = PublishRequest {
            client: client.clone(),
            transport: transport.clone(),
            protocol: protocol.clone(),
            encoding: encoding.clone(),
            user: user.clone(),
            channel: channel.clone(),
            data: data.clone(),
            b64data: b64data.clone(),
            meta: meta.clone(),
        };
        let rest = r#""user":"u","channel":"ch","data":{"b": 1.0,"a":[ ]},"b64data":"AA==","meta":{}"#;
        assert_eq!(text(Request::Publish(publish)), format!("{{{head},{rest}}}"));
        let rpc = RpcRequest {
            client: client.clone(),
            transport: transport.clone(),
            protocol: protocol.clone(),
            encoding: encoding.clone(),
            user: user.clone(),
            method: "m".into(),
            data,
            b64data,
            meta: meta.clone(),
        };
        let rest = r#""user":"u","method":"m","data":{"b": 1.0,"a":[ ]},"b64data":"AA==","meta":{}"#;
        assert_eq!(text(Request::Rpc(rpc)), format!("{{{head},{rest}}}"));
        let sub_refresh = SubRefreshRequest { client, transport, protocol, encoding, user, channel, meta };
        let rest = r#""user":"u","channel":"ch","meta":{}"#;
        assert_eq!(text(Request::SubRefresh(sub_refresh)), format!("{{{head},{rest}}}"));
        let event = ChannelEvent { time_ms: 1_697_206_286_533, channel: "a:b".into(), r#type: "occupied".into() };
        let event = NotifyChannelStateRequest { events: vec![event.clone(), event] };
        let one = r#"{"time_ms":1697206286533,"channel":"a:b","type":"occupied"}"#;
        assert_eq!(text(Request::State(event)), format!(r#"{{"events":[{one},{one}]}}"#));
    }

    /// A client that sends what is not JSON must not be able to write members of its own into the request.
    #[test]
    fn payloads_that_are_no_json_are_refused() {
        for data in [&b"1,\"user\":\"root\""[..], b"{", b"\xff", b"\"\xff\"", b" "] {
            let request = PublishRequest { data: Bytes::copy_from_slice(data), ..Default::default() };
            assert_eq!(Request::Publish(request).to_json(), Err(InappropriateJson), "{data:?}");
        }
    }
}
