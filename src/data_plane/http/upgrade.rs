//! The WebSocket handshake: RFC 6455 checks, origin, limits of connections, encoding, headers for the backend. Runs on
//! the core of the connection.

use std::cell::Cell;
use std::sync::Arc;

use gyre_engine::Handshake;
use gyre_engine::backend::ClientHeaders;
use gyre_proto::Encoding;
use gyre_proto::ids::ConnId;
use gyre_proto::ws::handshake;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Request, StatusCode};

use super::{Answer, Core, status, text};

const PROTOBUF: &str = "centrifuge-protobuf";
const SUBPROTOCOLS: [&str; 2] = ["centrifuge-json", PROTOBUF];

/// What a handshake has settled.
pub(crate) struct Negotiated {
    pub(crate) encoding: Encoding,
    pub(crate) handshake: Handshake,
}

/// Answers the handshake; on 101 what was settled is noted and the connection is the driver's.
pub(super) fn answer<B>(
    core: &Core,
    conn: ConnId,
    request: &Request<B>,
    negotiated: &Cell<Option<Negotiated>>,
) -> Answer {
    let accepted = match handshake::check(request.method(), request.headers(), &SUBPROTOCOLS) {
        Ok(accepted) => accepted,
        Err(code) => return refuse(code),
    };
    let origin = request.headers().get(ORIGIN).map(|origin| String::from_utf8_lossy(origin.as_bytes()));
    if !core.settings.origins.allow(origin.as_deref()) {
        tracing::info!(origin = origin.as_deref(), "request Origin is not authorized, see client.allowed_origins");
        core.api.borrow_mut().refused_origins += 1;
        return refuse(StatusCode::FORBIDDEN);
    }
    let Ok(accept_key) = HeaderValue::try_from(accepted.accept_key) else {
        return refuse(StatusCode::BAD_REQUEST);
    };
    // Last: what ends here has a place, and what is refused above takes none.
    if !core.admit(conn) {
        return full();
    }
    let is_protobuf = accepted.subprotocol == Some(PROTOBUF) || query_asks_protobuf(request.uri().query());
    let encoding = if is_protobuf { Encoding::Protobuf } else { Encoding::Json };
    let handshake = Handshake {
        headers: forwarded(&core.settings.forwarded_headers, request.headers()),
        user: user(core.settings.user_id_header.as_ref(), request.headers()),
    };
    negotiated.set(Some(Negotiated { encoding, handshake }));
    let mut answer = status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = answer.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept_key);
    if let Some(subprotocol) = accepted.subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    }
    answer
}

/// The headers that some proxy forwards, each with all its values. Costs nothing while there are none.
fn forwarded(wanted: &[HeaderName], headers: &HeaderMap) -> Option<Arc<ClientHeaders>> {
    let values = wanted.iter().flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value)));
    let transport: Vec<_> = values.map(|(name, value)| (name.as_str().into(), value.as_bytes().into())).collect();
    (!transport.is_empty()).then(|| Arc::new(ClientHeaders { transport, emulated: Vec::new() }))
}

/// Who the client is by the header that a trusted proxy sets. The first one counts, as upstream; bytes that are no text are
/// no user.
fn user(header: Option<&HeaderName>, headers: &HeaderMap) -> Option<Box<str>> {
    let user = std::str::from_utf8(headers.get(header?)?.as_bytes()).ok()?;
    (!user.is_empty()).then(|| user.into())
}

/// The peer is to try again later, on another connection: this one would only keep a file open.
fn full() -> Answer {
    let mut answer = status(StatusCode::SERVICE_UNAVAILABLE);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// Errors name the version that would be understood (transports.md 2.1).
fn refuse(code: StatusCode) -> Answer {
    const VERSION: HeaderName = SEC_WEBSOCKET_VERSION;
    let mut answer = text(code, code.canonical_reason().unwrap_or_default());
    answer.headers_mut().insert(VERSION, HeaderValue::from_static("13"));
    answer
}

fn query_asks_protobuf(query: Option<&str>) -> bool {
    let asks = |pair: &str| matches!(pair, "format=protobuf" | "cf_protocol=protobuf");
    query.is_some_and(|query| query.split('&').any(asks))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backend that knows users by a cookie must see it, and nothing that it was not to see.
    #[test]
    fn only_listed_headers_are_kept() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("cookie", "a=1"), ("cookie", "b=2"), ("authorization", "x")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        assert_eq!(forwarded(&[], &headers), None);
        assert_eq!(forwarded(&[HeaderName::from_static("x-other")], &headers), None);
        let kept = forwarded(&[HeaderName::from_static("cookie")], &headers).expect("there are two");
        let expected: Vec<(Box<str>, Box<[u8]>)> =
            vec![("cookie".into(), (*b"a=1").into()), ("cookie".into(), (*b"b=2").into())];
        assert_eq!(kept.transport, expected);
    }

    /// Somebody would be let in as another user, or as one that does not exist.
    #[test]
    fn the_header_of_the_user() {
        let name = HeaderName::from_static("x-user");
        let user = |values: &[&'static [u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&name, HeaderValue::from_bytes(value).expect("bytes of a header"));
            }
            assert_eq!(super::user(None, &headers), None);
            super::user(Some(&name), &headers)
        };
        assert_eq!(user(&[b"7"]).as_deref(), Some("7"));
        assert_eq!(user(&["Jos\u{e9}".as_bytes()]).as_deref(), Some("Jos\u{e9}"));
        assert_eq!(user(&[b"7", b"8"]).as_deref(), Some("7"));
        let none: [&[&[u8]]; 4] = [&[], &[b""], &[b"", b"8"], &[b"\xff"]];
        none.iter().for_each(|values| assert_eq!(user(values), None));
    }

    #[test]
    fn the_query_may_ask_for_protobuf() {
        assert!(query_asks_protobuf(Some("a=b&cf_protocol=protobuf")));
        assert!(query_asks_protobuf(Some("format=protobuf")));
        assert!(!query_asks_protobuf(Some("xformat=protobuf")));
        assert!(!query_asks_protobuf(None));
    }
}
