//! The server API over HTTP: authentication, JSON, the envelope. The methods themselves are in `data_plane/api`.

use bytes::Bytes;
use gyre_io::http::RequestBody;
use gyre_proto::api::{self as messages, BatchResponse, Fields, LegacyCalls, WriteJson};
use gyre_proto::codes::ApiError;
use http_body_util::{BodyExt, Limited};
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Method, Request, StatusCode};
use subtle::ConstantTimeEq;

use super::super::api::{self, CallError, Protocol};
use super::{Answer, Core, json, status, text};
use crate::limits::API_BODY_BYTES_MAX;
use crate::settings::ApiSettings;

/// Why a call has no result.
enum Failure {
    /// HTTP 200 and an error object, or another status and the bare error.
    Api(ApiError),
    /// HTTP 400.
    Undecodable,
    /// HTTP 503.
    ShuttingDown,
    /// HTTP 500: the result cannot be written as JSON.
    Unencodable,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<messages::DecodeError> for Failure {
    fn from(_: messages::DecodeError) -> Self {
        Self::Undecodable
    }
}

impl From<gyre_proto::client::InappropriateJson> for Failure {
    fn from(_: gyre_proto::client::InappropriateJson) -> Self {
        Self::Unencodable
    }
}

/// The response body of a call.
type Outcome = Result<Vec<u8>, Failure>;

const METHODS: [&str; 17] = [
    "publish",
    "broadcast",
    "subscribe",
    "unsubscribe",
    "disconnect",
    "refresh",
    "presence",
    "presence_stats",
    "history",
    "history_remove",
    "channels",
    "info",
    "batch",
    "rpc",
    "update_user_status",
    "get_user_status",
    "delete_user_status",
];

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// One of [`METHODS`].
    Method(&'static str),
    /// A stream of commands.
    Legacy,
}

/// `None` = the path is not of the API, or of a method that there is none of.
pub(super) fn endpoint(prefix: &str, path: &str) -> Option<Endpoint> {
    let rest = path.strip_prefix(prefix)?;
    if path == prefix || prefix.is_empty() && path == "/" {
        return Some(Endpoint::Legacy);
    }
    let name = rest.strip_prefix('/')?;
    METHODS.iter().copied().find(|method| *method == name).map(Endpoint::Method)
}

/// Answers one request (server-api.md 1.1: method, key, body, in this order).
pub(super) async fn answer(
    core: &Core,
    settings: &ApiSettings,
    endpoint: Endpoint,
    request: Request<RequestBody>,
) -> Answer {
    if request.method() != Method::POST {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    }
    if !settings.is_open && !is_authorized(&settings.key, request.headers(), request.uri().query()) {
        return status(StatusCode::UNAUTHORIZED);
    }
    let wants_status = settings.errors_have_status || asks_for_status(request.headers());
    let name = match endpoint {
        Endpoint::Method(name) => name,
        Endpoint::Legacy => "legacy",
    };
    let body = match Limited::new(request.into_body(), API_BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            api::count_error(core, Protocol::Http, name, CallError::ReadBody);
            return status(StatusCode::PAYLOAD_TOO_LARGE);
        }
        Err(error) => {
            api::count_error(core, Protocol::Http, name, CallError::ReadBody);
            tracing::info!(%error, "cannot read the body of a server API call");
            return text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n");
        }
    };
    let outcome = match endpoint {
        Endpoint::Method(name) => method(core, name, &body).await,
        Endpoint::Legacy => Box::pin(legacy(core, &body)).await,
    };
    match outcome {
        Ok(body) => json(StatusCode::OK, Bytes::from(body)),
        Err(Failure::Api(error)) => {
            let mut body = Vec::new();
            if wants_status {
                messages::write_bare_error(error, &mut body);
                return json(status_of(error), Bytes::from(body));
            }
            messages::write_error(error, &mut body);
            json(StatusCode::OK, Bytes::from(body))
        }
        Err(Failure::Undecodable) => {
            api::count_error(core, Protocol::Http, name, CallError::Unmarshal);
            tracing::error!(method = name, "server API call with an undecodable body");
            text(StatusCode::BAD_REQUEST, "Bad Request\n")
        }
        Err(Failure::ShuttingDown) => text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n"),
        Err(Failure::Unencodable) => {
            api::count_error(core, Protocol::Http, name, CallError::Marshal);
            text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n")
        }
    }
}

async fn method(core: &Core, name: &'static str, body: &[u8]) -> Outcome {
    match name {
        "publish" => call(core, name, body, api::publish).await,
        // The task of every connection has room for a publish, not for the rest.
        _ => Box::pin(other_method(core, name, body)).await,
    }
}

async fn other_method(core: &Core, name: &'static str, body: &[u8]) -> Outcome {
    match name {
        "broadcast" => call(core, name, body, api::broadcast).await,
        "subscribe" => call(core, name, body, api::subscribe).await,
        "unsubscribe" => call(core, name, body, api::unsubscribe).await,
        "disconnect" => call(core, name, body, api::disconnect).await,
        "refresh" => call(core, name, body, api::refresh).await,
        "presence" => call(core, name, body, api::presence).await,
        "presence_stats" => call(core, name, body, api::presence_stats).await,
        "history" => call(core, name, body, api::history).await,
        "history_remove" => call(core, name, body, api::history_remove).await,
        "channels" => call(core, name, body, api::channels).await,
        "info" => call(core, name, body, api::info).await,
        "rpc" => call(core, name, body, api::rpc).await,
        "update_user_status" => call(core, name, body, api::update_user_status).await,
        "get_user_status" => call(core, name, body, api::get_user_status).await,
        "delete_user_status" => call(core, name, body, api::delete_user_status).await,
        _ => batch(core, body).await,
    }
}

async fn call<T: Fields, R: WriteJson>(
    core: &Core,
    name: &'static str,
    body: &[u8],
    method: impl AsyncFnOnce(&Core, T) -> Result<R, ApiError>,
) -> Outcome {
    let request = messages::decode(body)?;
    let outcome = method(core, request).await;
    api::count(core, Protocol::Http, name, &outcome);
    let mut out = Vec::with_capacity(64);
    messages::write_result(&outcome?, &mut out)?;
    Ok(out)
}

/// Has errors of its commands alone, never one of its own.
async fn batch(core: &Core, body: &[u8]) -> Outcome {
    let request: messages::Batch = messages::decode(body)?;
    let replies = api::batch(core, Protocol::Http, request).await;
    let mut out = Vec::with_capacity(replies.len() * 32);
    BatchResponse { replies }.write_json(&mut out)?;
    Ok(out)
}

/// What was read before a mistake has been carried out when it is found (server-api.md 5).
async fn legacy(core: &Core, body: &[u8]) -> Outcome {
    if core.is_shutting_down.get() {
        return Err(Failure::ShuttingDown);
    }
    let mut out = Vec::new();
    for (at, call) in LegacyCalls::new(body).enumerate() {
        let call = call?;
        api::breathe(at).await;
        let reply = match call.command {
            Some(command) => api::execute(core, Protocol::Http, command).await,
            None => api::failed(ApiError::BAD_REQUEST),
        };
        if at > 0 {
            out.push(b'\n');
        }
        messages::write_legacy_reply(call.id, &reply, &mut out)?;
    }
    Ok(out)
}

/// Transport error mode for this call alone.
fn asks_for_status(headers: &HeaderMap) -> bool {
    headers.get("x-centrifugo-error-mode").is_some_and(|mode| mode == "transport")
}

/// server-api.md 1.4.
fn status_of(error: ApiError) -> StatusCode {
    match error {
        ApiError::UNKNOWN_CHANNEL | ApiError::NOT_FOUND => StatusCode::NOT_FOUND,
        ApiError::BAD_REQUEST | ApiError::NOT_AVAILABLE => StatusCode::BAD_REQUEST,
        ApiError::UNRECOVERABLE_POSITION => StatusCode::RANGE_NOT_SATISFIABLE,
        ApiError::CONFLICT => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// server-api.md 1.2. Without a configured key nobody is.
fn is_authorized(key: &str, headers: &HeaderMap, query: Option<&str>) -> bool {
    if key.is_empty() {
        return false;
    }
    let given = match headers.get("x-api-key").filter(|value| !value.is_empty()) {
        Some(value) => Some(value.as_bytes()),
        None => headers.get(AUTHORIZATION).and_then(|value| apikey(value.as_bytes())),
    };
    if given.is_some_and(|given| same(given, key.as_bytes())) {
        return true;
    }
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .find(|(name, _)| name == "api_key")
        .is_some_and(|(_, given)| same(given.as_bytes(), key.as_bytes()))
}

/// The key of `apikey KEY`, the scheme in any case.
fn apikey(authorization: &[u8]) -> Option<&[u8]> {
    let mut fields = authorization.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let scheme = fields.next()?;
    let key = fields.next()?;
    (scheme.eq_ignore_ascii_case(b"apikey") && fields.next().is_none()).then_some(key)
}

/// Compares in a time that does not depend on where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorized(headers: &[(&'static str, &str)], query: Option<&str>) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a header value"));
        }
        is_authorized("k+/1", &map, query)
    }

    /// Any other answer opens the API to strangers or locks an existing client out.
    #[test]
    fn keys() {
        assert!(authorized(&[("x-api-key", "k+/1")], None));
        assert!(authorized(&[("authorization", "ApiKey  k+/1")], None));
        assert!(authorized(&[], Some("a=b&api_key=k%2B/1")));
        assert!(authorized(&[("x-api-key", "wrong")], Some("api_key=k%2b%2F1")));
        assert!(!authorized(&[("x-api-key", "wrong"), ("authorization", "apikey k+/1")], None));
        assert!(!authorized(&[("authorization", "bearer k+/1")], None));
        assert!(!authorized(&[("authorization", "apikey k+/1 x")], None));
        assert!(!authorized(&[("x-api-key", "k+/12")], None));
        assert!(!authorized(&[("x-api-key", "k+/")], None));
        assert!(!authorized(&[], None));
        assert!(!is_authorized("", &HeaderMap::new(), Some("api_key=")));
    }
    /// A client library would be told 404, or its call would do something else.
    #[test]
    fn paths() {
        for (prefix, path, expected) in [
            ("/api", "/api", Some(Endpoint::Legacy)),
            ("/api", "/api/publish", Some(Endpoint::Method("publish"))),
            ("/api", "/api/get_user_status", Some(Endpoint::Method("get_user_status"))),
            ("/api", "/api/", None),
            ("/api", "/api/publish/", None),
            ("/api", "/apipublish", None),
            ("/api", "/api/Publish", None),
            ("/api", "/api/map_publish", None),
            ("/api", "/", None),
            ("", "/", Some(Endpoint::Legacy)),
            ("", "/batch", Some(Endpoint::Method("batch"))),
            ("", "//batch", None),
        ] {
            assert_eq!(endpoint(prefix, path), expected, "{prefix:?} {path}");
        }
    }

    /// Gateways and clients that retry by status would do so for ever, or never.
    #[test]
    fn statuses_of_errors() {
        let codes = [
            (ApiError::INTERNAL, 500),
            (ApiError::UNKNOWN_CHANNEL, 404),
            (ApiError::NOT_FOUND, 404),
            (ApiError::BAD_REQUEST, 400),
            (ApiError::NOT_AVAILABLE, 400),
            (ApiError::UNRECOVERABLE_POSITION, 416),
            (ApiError::CONFLICT, 409),
        ];
        for (error, status) in codes {
            assert_eq!(status_of(error).as_u16(), status, "{error}");
        }
    }
}
