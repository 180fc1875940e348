//! The server API over HTTP: authentication, decoding, the envelope. The methods themselves are in `channels.rs` and
//! `acts.rs`.

use bytes::Bytes;
use gyre_io::http::RequestBody;
use gyre_proto::api;
use gyre_proto::codes::ApiError;
use http_body_util::{BodyExt, Limited};
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Method, Request, StatusCode};
use subtle::ConstantTimeEq;

use super::{Answer, Core, acts, channels, json, status, text};
use crate::limits::API_BODY_BYTES_MAX;
use crate::settings::ApiSettings;

/// Why a call has no result.
pub(super) enum Failure {
    /// HTTP 200 and an error object.
    Api(ApiError),
    /// HTTP 400.
    Undecodable,
    /// HTTP 500: the result cannot be written as JSON.
    Unencodable,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<api::DecodeError> for Failure {
    fn from(_: api::DecodeError) -> Self {
        Self::Undecodable
    }
}

impl From<gyre_proto::client::InappropriateJson> for Failure {
    fn from(_: gyre_proto::client::InappropriateJson) -> Self {
        Self::Unencodable
    }
}

/// The response body of a call.
pub(super) type Outcome = Result<Vec<u8>, Failure>;

const METHODS: [&str; 12] = [
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
];

pub(super) fn is_method(name: &str) -> bool {
    METHODS.contains(&name)
}

/// Runs one call (server-api.md 1.1: method, key, body, in this order).
pub(super) async fn answer(core: &Core, settings: &ApiSettings, method: &str, request: Request<RequestBody>) -> Answer {
    if request.method() != Method::POST {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    }
    if !settings.is_open && !is_authorized(&settings.key, request.headers(), request.uri().query()) {
        return status(StatusCode::UNAUTHORIZED);
    }
    let body = match Limited::new(request.into_body(), API_BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return status(StatusCode::PAYLOAD_TOO_LARGE);
        }
        Err(error) => {
            tracing::info!(%error, "cannot read the body of a server API call");
            return text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n");
        }
    };
    let method = METHODS.iter().copied().find(|name| *name == method).unwrap_or_default();
    *core.api.borrow_mut().calls.entry(method).or_default() += 1;
    let outcome = match method {
        "publish" => channels::publish(core, &body).await,
        "broadcast" => channels::broadcast(core, &body).await,
        "presence" => channels::presence(core, &body).await,
        "presence_stats" => channels::presence_stats(core, &body).await,
        "history" => channels::history(core, &body).await,
        "history_remove" => channels::history_remove(core, &body).await,
        "subscribe" => acts::subscribe(core, &body).await,
        "unsubscribe" => acts::unsubscribe(core, &body).await,
        "disconnect" => acts::disconnect(core, &body).await,
        "refresh" => acts::refresh(core, &body).await,
        "channels" => acts::channels(core, &body).await,
        _ => acts::info(core, &body).await,
    };
    match outcome {
        Ok(body) => json(StatusCode::OK, Bytes::from(body)),
        Err(Failure::Api(error)) => {
            *core.api.borrow_mut().errors.entry((method, error.code)).or_default() += 1;
            let mut body = Vec::new();
            api::write_error(error, &mut body);
            json(StatusCode::OK, Bytes::from(body))
        }
        Err(Failure::Undecodable) => {
            tracing::error!(method, "server API call with an undecodable body");
            text(StatusCode::BAD_REQUEST, "Bad Request\n")
        }
        Err(Failure::Unencodable) => text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n"),
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
}
