//! The server's checks of an opening handshake (RFC 6455 section 4.2.1), over the types of the `http` crate.
//!
//! Pure; runs on the core that owns the connection, once per connection and before anything is known about the client,
//! so it takes time linear in the headers. The order of the checks and their statuses are a contract with clients and
//! probes. Origin is the caller's: it needs configuration.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use tungstenite::handshake::derive_accept_key;

/// What the answer with status 101 needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Value of `Sec-WebSocket-Accept`.
    pub accept_key: String,
    /// Value of `Sec-WebSocket-Protocol`; the header is left out if `None`.
    pub subprotocol: Option<&'static str>,
}

/// Checks the request of an HTTP/1.1 upgrade to WebSocket.
///
/// The subprotocol is the first of the client's list that is among `known_subprotocols`. If there is none, the upgrade
/// goes on without.
///
/// # Errors
/// The status to answer with: 405 for a method other than GET, otherwise 400.
pub fn check(
    method: &Method,
    headers: &HeaderMap,
    known_subprotocols: &[&'static str],
) -> Result<Accepted, StatusCode> {
    if !has_token(headers, &CONNECTION, b"upgrade") || !has_token(headers, &UPGRADE, b"websocket") {
        return Err(StatusCode::BAD_REQUEST);
    }
    if method != Method::GET {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    if !has_token(headers, &SEC_WEBSOCKET_VERSION, b"13") {
        return Err(StatusCode::BAD_REQUEST);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(|key| key.as_bytes()).unwrap_or_default();
    if !is_key(key) {
        return Err(StatusCode::BAD_REQUEST);
    }
    // Names of subprotocols are compared as they are, unlike the tokens above.
    let subprotocol = tokens(headers, &SEC_WEBSOCKET_PROTOCOL)
        .find_map(|wanted| known_subprotocols.iter().copied().find(|known| known.as_bytes() == wanted));
    Ok(Accepted { accept_key: derive_accept_key(key), subprotocol })
}

/// The `Sec-WebSocket-Accept` that answers the `Sec-WebSocket-Key` `key`.
pub fn accept_key(key: &str) -> String {
    derive_accept_key(key.as_bytes())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &[u8]) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

/// The elements of a comma-separated header that may be spread over several lines.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// Whether `key` is base64 of 16 bytes.
fn is_key(key: &[u8]) -> bool {
    // Some clients draw 22 random characters instead of 16 random bytes, which sets bits that no byte uses. Centrifugo
    // lets them in.
    const LENIENT: GeneralPurpose =
        GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
    let mut nonce = [0; 18];
    // The only length that 16 bytes can have, which also bounds the work.
    key.len() == 24 && LENIENT.decode_slice(key, &mut nonce) == Ok(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 2] = ["centrifuge-json", "centrifuge-protobuf"];
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    const GOOD: [(&str, &str); 4] = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
    ];

    fn headers<'a>(lines: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    /// The good request with all lines of `name` replaced by `values`.
    fn with(name: &str, values: &[&str]) -> Result<Accepted, StatusCode> {
        let lines = values.iter().map(|value| (name, *value));
        let lines: Vec<_> = GOOD.into_iter().filter(|line| line.0 != name).chain(lines).collect();
        check(&Method::GET, &headers(&lines), &KNOWN)
    }

    /// No client could connect.
    #[test]
    fn example_of_the_rfc() {
        let accepted = Accepted { accept_key: ACCEPT.into(), subprotocol: None };
        assert_eq!(check(&Method::GET, &headers(&GOOD), &KNOWN), Ok(accepted));
    }

    /// Proxies rewrite these headers within what HTTP allows; clients behind them would not get in.
    #[test]
    fn lists_may_be_spread_and_padded() {
        let good: [(&str, &[&str]); 7] = [
            ("connection", &["keep-alive, UPGRADE"]),
            ("connection", &["keep-alive", "\tupgrade ,x"]),
            ("connection", &["", ",,upgrade,"]),
            ("upgrade", &["WebSocket"]),
            ("upgrade", &["h2c, websocket"]),
            ("sec-websocket-version", &["8, 13"]),
            ("sec-websocket-version", &["8", "13"]),
        ];
        for (name, values) in good {
            assert!(with(name, values).is_ok(), "{name}: {values:?}");
        }
        let bad: [(&str, &[&str]); 9] = [
            ("connection", &[]),
            ("connection", &["close", "upgraded", "up grade"]),
            ("upgrade", &[]),
            ("upgrade", &["websocket2"]),
            ("upgrade", &["websocket/13"]),
            ("sec-websocket-version", &[]),
            ("sec-websocket-version", &["12"]),
            ("sec-websocket-version", &["113"]),
            ("sec-websocket-version", &["013"]),
        ];
        for (name, values) in bad {
            assert_eq!(with(name, values), Err(StatusCode::BAD_REQUEST), "{name}: {values:?}");
        }
    }

    /// Health probes tell a wrong method from a plain request by the status.
    #[test]
    fn the_first_failed_check_decides() {
        for missing in 0..GOOD.len() {
            let lines = GOOD.iter().enumerate().filter(|(i, _)| *i != missing).map(|(_, line)| line);
            let headers = headers(lines);
            // Connection and upgrade come before the method, version and key after it.
            let expected = if missing < 2 { StatusCode::BAD_REQUEST } else { StatusCode::METHOD_NOT_ALLOWED };
            assert_eq!(check(&Method::POST, &headers, &KNOWN), Err(expected));
            assert_eq!(check(&Method::GET, &headers, &KNOWN), Err(StatusCode::BAD_REQUEST));
        }
        let good = headers(&GOOD);
        for method in [Method::POST, Method::HEAD, Method::OPTIONS, Method::CONNECT] {
            assert_eq!(check(&method, &good, &KNOWN), Err(StatusCode::METHOD_NOT_ALLOWED));
        }
    }

    #[test]
    fn keys() {
        // The last one sets bits behind the 16th byte.
        for key in ["AAAAAAAAAAAAAAAAAAAAAA==", "+/+/+/+/+/+/+/+/+/+/+w==", "AAAAAAAAAAAAAAAAAAAAAB=="] {
            assert!(with("sec-websocket-key", &[key]).is_ok(), "{key}");
        }
        let long = "A".repeat(10_000);
        for key in [
            "",
            "AAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAA====",
            "AAAAAAAAAAAAAAAAAAAAA===",
            "_-_-_-_-_-_-_-_-_-_-_w==",
            "AAAAAAAAAA AAAAAAAAAAA==",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            &long,
        ] {
            let result = with("sec-websocket-key", &[key]);
            assert_eq!(result, Err(StatusCode::BAD_REQUEST), "{key}");
        }
    }

    /// A client that asked for Protobuf would be talked to in JSON.
    #[test]
    fn the_first_known_subprotocol_is_chosen() {
        let cases: [(&[&str], Option<&str>); 7] = [
            (&[], None),
            (&["centrifuge-json"], Some(KNOWN[0])),
            (&["graphql-ws, centrifuge-protobuf,centrifuge-json"], Some(KNOWN[1])),
            (&["mqtt", "centrifuge-protobuf", "centrifuge-json"], Some(KNOWN[1])),
            (&["centrifuge-json,centrifuge-protobuf"], Some(KNOWN[0])),
            (&["Centrifuge-Json", "centrifuge"], None),
            (&["", ",,"], None),
        ];
        for (values, expected) in cases {
            let accepted = with("sec-websocket-protocol", values).unwrap();
            assert_eq!(accepted.subprotocol, expected, "{values:?}");
        }
    }
}
