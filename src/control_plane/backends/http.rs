//! Calls over HTTP/1.1: JSON there and back, connections kept, redirects followed. Nothing is tried twice, but for a request
//! that met a connection which the backend had closed before a byte of it was taken.

use std::cell::OnceCell;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gyre_engine::backend::{BackendReply, ClientHeaders};
use gyre_proto::proxy::Request;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::header::{
    AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderValue, LOCATION, PROXY_AUTHORIZATION, USER_AGENT,
};
use hyper::{Method, Response, StatusCode, Uri, body::Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use url::Url;

use super::answers;
use super::dial::{Dial, Tls};
use super::failure::Failure;
use super::headers::Headers;
use crate::config::types::Secret;
use crate::limits::{BACKEND_ANSWER_BYTES_MAX, BACKEND_IDLE_MAX, BACKEND_IDLE_S, BACKEND_REDIRECTS_MAX};
use crate::settings::proxies::{Endpoint, Proxy, StatusTransform, TransformTo};
use crate::settings::redis::TlsOptions;

const OWN_NAME: HeaderValue = HeaderValue::from_static(concat!("gyre/", env!("CARGO_PKG_VERSION")));

/// What is agreed on in a TLS handshake.
const PROTOCOL: &str = "http/1.1";

/// One backend.
pub(super) struct Http {
    client: Client<Dial, Full<Bytes>>,
    url: Url,
    /// The same, as requests want it.
    uri: Uri,
    headers: Headers,
}

impl Http {
    /// `url` and those after it are of the endpoint of `proxy`. `common` is what those without options for TLS share,
    /// because what a host trusts takes a while to read and some memory.
    ///
    /// # Errors
    /// What cannot be used, with its path and without secrets.
    pub(super) fn new(
        proxy: &Proxy,
        url: &Secret,
        tls: Option<&TlsOptions>,
        static_headers: &[(String, Secret)],
        common: &OnceCell<Option<Tls>>,
    ) -> anyhow::Result<Self> {
        let (mut url, credentials) = address(url.expose()).with_context(|| format!("{}.endpoint", proxy.path))?;
        url.set_fragment(None);
        let uri = url.as_str().parse().map_err(|_| anyhow!("{}.endpoint: is no URL", proxy.path))?;
        let tls = match tls {
            Some(options) => Some(Tls::new(options, proxy, "http.tls", PROTOCOL)?),
            // A redirect may lead to TLS, too; but where it does not, a host without certificates is fine.
            None => match common.get_or_init(|| Tls::new(&TlsOptions::default(), proxy, "http.tls", PROTOCOL).ok()) {
                None if url.scheme() == "https" => Some(Tls::new(&TlsOptions::default(), proxy, "http.tls", PROTOCOL)?),
                common => common.clone(),
            },
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(BACKEND_IDLE_S))
            .pool_max_idle_per_host(BACKEND_IDLE_MAX)
            // Names mean the same in any case, but there are applications that look for `Authorization` only.
            .http1_title_case_headers(true)
            .build(Dial::new(tls));
        let mut headers = Headers::new(proxy, "http.static_headers", static_headers)?;
        headers.or_else(USER_AGENT, OWN_NAME);
        if let Some(credentials) = credentials {
            headers.or_else(AUTHORIZATION, credentials);
        }
        Ok(Self { client, url, uri, headers })
    }

    /// The address without user, password and query, for the log.
    pub(super) fn masked(&self) -> String {
        let mut url = self.url.clone();
        if url.query().is_some() {
            url.set_query(Some("***"));
        }
        url.into()
    }

    /// One call.
    pub(super) async fn ask(
        &self,
        proxy: &Proxy,
        request: &Request,
        client: Option<&ClientHeaders>,
    ) -> Result<BackendReply, Failure> {
        let body = Bytes::from(request.to_json()?);
        let response = self.send(body, self.headers.of(client)).await?;
        let (head, body) = response.into_parts();
        // Before anything else, or the connection could not be used again.
        let body = match Limited::new(body, BACKEND_ANSWER_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(Failure::TooLong),
            Err(error) => return Err(Failure::connection(&*error)),
        };
        match head.status {
            StatusCode::OK => answers::from_json(request, &body),
            status => transformed(proxy, request, status.as_u16()),
        }
    }

    /// Sends the request, and again wherever a redirect leads.
    async fn send(&self, mut body: Bytes, mut headers: HeaderMap) -> Result<Response<Incoming>, Failure> {
        let (mut method, mut uri, mut at) = (Method::POST, self.uri.clone(), None::<Url>);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for _ in 0..=BACKEND_REDIRECTS_MAX {
            let mut request = hyper::Request::new(Full::new(body.clone()));
            (*request.method_mut(), *request.uri_mut()) = (method.clone(), uri);
            *request.headers_mut() = headers.clone();
            let response = self.client.request(request).await.map_err(|error| Failure::connection(&error))?;
            match response.status().as_u16() {
                301..=303 => {
                    method = Method::GET;
                    body.clear();
                    headers.remove(CONTENT_TYPE);
                }
                307 | 308 => {}
                _ => return Ok(response),
            }
            let Some(location) = response.headers().get(LOCATION) else { return Ok(response) };
            let from = at.as_ref().unwrap_or(&self.url);
            let to = location.to_str().ok().and_then(|location| from.join(location).ok());
            let Some(mut to) = to.filter(|to| matches!(to.scheme(), "http" | "https")) else {
                return Err(Failure::Redirect);
            };
            to.set_fragment(None);
            // What is for one backend is not for another. Names below the same host count as others, to be sure.
            if to.origin() != from.origin() {
                [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].iter().for_each(|name| drop(headers.remove(name)));
            }
            uri = to.as_str().parse().map_err(|_| Failure::Redirect)?;
            at = Some(to);
        }
        Err(Failure::Redirects)
    }
}

/// The URL without user and password, and what is sent in their place.
fn address(text: &str) -> anyhow::Result<(Url, Option<HeaderValue>)> {
    // None of the errors may quote it: there may be a password in it.
    let Ok(mut url) = Url::parse(text) else { bail!("is no URL; expected http://host:port/path") };
    if !matches!(url.scheme(), "http" | "https") {
        bail!("is no URL of HTTP; expected http://host:port/path");
    }
    let mut credentials = None;
    if !url.username().is_empty() || url.password().is_some() {
        let mut plain: Vec<u8> = percent_encoding::percent_decode_str(url.username()).collect();
        plain.push(b':');
        plain.extend(percent_encoding::percent_decode_str(url.password().unwrap_or_default()));
        let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(plain)))?;
        value.set_sensitive(true);
        credentials = Some(value);
        // Refused only for URLs without host, which these are not.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
    }
    Ok((url, credentials))
}

/// What a status other than 200 stands for. Where there is no client, for nothing.
fn transformed(proxy: &Proxy, request: &Request, status: u16) -> Result<BackendReply, Failure> {
    let transforms: &[StatusTransform] = match (&proxy.endpoint, request) {
        (_, Request::CacheEmpty(_) | Request::State(_)) | (Endpoint::Grpc { .. }, _) => &[],
        (Endpoint::Http { transforms, .. }, _) => transforms,
    };
    match transforms.iter().find(|transform| transform.status == status) {
        None => Err(Failure::Status(status)),
        Some(StatusTransform { to: TransformTo::Error(error), .. }) => Ok(BackendReply::Error(error.clone())),
        Some(StatusTransform { to: TransformTo::Disconnect(disconnect), .. }) => {
            Ok(BackendReply::Disconnect(disconnect.clone()))
        }
    }
}
