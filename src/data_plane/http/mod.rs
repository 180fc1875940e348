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
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

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
    text(StatusCode::NOT_FOUND, "404 page not found\n")
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
