//! HTTP on a core: the WebSocket upgrade, the server API, health and metrics, by exact path.

mod api;
mod upgrade;

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use gyre_io::http::{HttpLimits, RequestBody, Upgrade};
use gyre_proto::ids::ConnId;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};

use super::Core;
use super::store::Store;
pub(super) use upgrade::Negotiated;

pub(super) type Answer = Response<Full<Bytes>>;

/// Serves one connection until it ends (`None`) or becomes a WebSocket.
pub(super) async fn connection(core: &Rc<Core>, conn: ConnId) -> Option<(Upgrade, Negotiated)> {
    let negotiated = Rc::new(Cell::new(None));
    let service = service_fn(|request| {
        let (core, negotiated) = (Rc::clone(core), Rc::clone(&negotiated));
        async move { Ok::<_, Infallible>(route(&core, conn, request, &negotiated).await) }
    });
    let driver = Rc::clone(&core.driver);
    let upgrade = gyre_io::http::serve(driver, conn, service, &HttpLimits::default()).await?;
    Some((upgrade, negotiated.take()?))
}

async fn route(
    core: &Core,
    conn: ConnId,
    request: Request<RequestBody>,
    negotiated: &Cell<Option<Negotiated>>,
) -> Answer {
    let settings = &core.settings;
    let path = Some(request.uri().path());
    if path == settings.websocket_path.as_deref() {
        return upgrade::answer(core, conn, &request, negotiated);
    }
    if let Some(api) = &settings.api
        && let Some(endpoint) = path.and_then(|path| api::endpoint(&api.prefix, path))
    {
        return api::answer(core, api, endpoint, request).await;
    }
    if path == settings.health_path.as_deref() {
        return json(StatusCode::OK, Bytes::from_static(b"{}"));
    }
    if settings.health_path.is_some() && path == Some("/ready") {
        let is_up = core.store.borrow().as_ref().is_none_or(Store::is_up);
        return match is_up && !core.is_shutting_down.get() {
            true => json(StatusCode::OK, Bytes::from_static(b"{}")),
            false => json(
                StatusCode::SERVICE_UNAVAILABLE,
                Bytes::from_static(br#"{"reason":"no connection to redis, or shutting down"}"#),
            ),
        };
    }
    if path == settings.metrics_path.as_deref() {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return status(StatusCode::METHOD_NOT_ALLOWED);
        }
        let mut answer = Response::new(Full::new(core.ask_metrics().await));
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        return answer;
    }
    if let Some(api) = &settings.api
        && let Some(place) = meant(&api.prefix, request.uri())
    {
        let mut answer = status(StatusCode::TEMPORARY_REDIRECT);
        answer.headers_mut().insert(LOCATION, place);
        return answer;
    }
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// What of the API was meant by a path with doubled slashes, which base addresses that end in one lead to. Libraries follow
/// there. It is not answered in place: a proxy in front may keep strangers from the right path alone.
fn meant(prefix: &str, uri: &Uri) -> Option<HeaderValue> {
    let mut place = String::with_capacity(uri.path().len());
    for char in uri.path().chars() {
        if !(char == '/' && place.ends_with('/')) {
            place.push(char);
        }
    }
    if place == uri.path() {
        return None;
    }
    api::endpoint(prefix, &place)?;
    if let Some(query) = uri.query() {
        place.push('?');
        place.push_str(query);
    }
    HeaderValue::try_from(place).ok()
}

fn status(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

fn text(code: StatusCode, body: &'static str) -> Answer {
    let mut answer = status(code);
    *answer.body_mut() = Full::new(Bytes::from_static(body.as_bytes()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answer
}

fn json(code: StatusCode, body: Bytes) -> Answer {
    let mut answer = status(code);
    *answer.body_mut() = Full::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A library whose base address ends in a slash would be told 404; or one could be sent to another host.
    #[test]
    fn doubled_slashes() {
        for (prefix, uri, expected) in [
            ("/api", "/api//publish", Some("/api/publish")),
            ("/api", "//api///publish?api_key=k", Some("/api/publish?api_key=k")),
            ("/api", "//api", Some("/api")),
            ("/api", "/api/publish", None),
            ("/api", "/api//nosuch", None),
            ("/api", "//example.com", None),
            ("", "//batch", Some("/batch")),
        ] {
            let there = meant(prefix, &uri.parse().expect("a URI"));
            assert_eq!(there.as_ref().map(HeaderValue::as_bytes), expected.map(str::as_bytes), "{uri}");
        }
    }
}
