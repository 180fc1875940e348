//! Features that this version lacks and that must not be missing in silence: without them a node would lose data, serve
//! in the clear, or let through what its operator wanted to be checked. Everything else that is not honoured is a
//! warning (`config::unsupported`).

use super::super::layers::join;
use super::{Check, Wrong, redis, wrong};

/// The end of a sentence that begins with the feature.
pub(super) const HERE: &str = concat!("not available in gyre ", env!("CARGO_PKG_VERSION"));

/// Where TLS would be expected: starting without it would put everything on the wire in the clear.
const TLS_SWITCHES: [&str; 3] =
    ["http_server.tls.enabled", "http_server.internal_tls.enabled", "http_server.tls_autocert.enabled"];

/// Tokens that such a key does not verify would pass with the HMAC key.
const TOKEN_KEYS: [(&str, &str); 3] = [
    ("rsa_public_key", "verifying RSA signatures"),
    ("ecdsa_public_key", "verifying ECDSA signatures"),
    ("jwks_public_endpoint", "fetching a key set"),
];

pub(super) fn check(check: &Check<'_>) -> Result<(), Wrong> {
    engines(check)?;
    if let Some(path) = TLS_SWITCHES.iter().find(|path| check.is_on(path)) {
        return wrong(*path, format!("TLS is {HERE}; turn it off and let a proxy in front of gyre terminate it"));
    }
    internal_listener(check)?;
    let own_section = check.is_on("client.subscription_token.enabled").then_some("client.subscription_token");
    for section in ["client.token"].into_iter().chain(own_section) {
        for (name, feature) in TOKEN_KEYS {
            let path = join(section, name);
            if !check.text(&path).is_empty() {
                return wrong(path, format!("{feature} is {HERE}; remove it and sign tokens with hmac_secret_key"));
            }
        }
    }
    Ok(())
}

fn engines(check: &Check<'_>) -> Result<(), Wrong> {
    let used = [
        ("engine", true),
        ("broker", check.is_on("broker.enabled")),
        ("presence_manager", check.is_on("presence_manager.enabled")),
    ];
    let kind = |section: &str| check.text(&join(section, "type"));
    for (section, _) in used.into_iter().filter(|(_, is_used)| *is_used) {
        match kind(section) {
            "memory" => {}
            "redis" => redis::check(check, &join(section, "redis"))?,
            word => return wrong(join(section, "type"), format!("{word} is {HERE}; memory and redis are")),
        }
    }
    let [broker, presence] = [1, 2].map(|half: usize| if used[half].1 { used[half].0 } else { "engine" });
    if kind(broker) == "memory" && kind(presence) == "redis" {
        return wrong(
            join(presence, "type"),
            format!("presence in redis beside a broker in memory is {HERE}; use redis for both"),
        );
    }
    Ok(())
}

/// The server API, metrics and health would be open to those who only should reach the external listener.
fn internal_listener(check: &Check<'_>) -> Result<(), Wrong> {
    let (address, port) = (check.text("http_server.internal_address"), check.text("http_server.internal_port"));
    let is_other_address = !address.is_empty() && address != check.text("http_server.address");
    let is_other_port = !port.is_empty() && port.trim().parse() != Ok(check.number("http_server.port"));
    let key = match (is_other_port, is_other_address) {
        (true, _) => "http_server.internal_port",
        (false, true) => "http_server.internal_address",
        (false, false) => return Ok(()),
    };
    wrong(
        key,
        format!(
            "a separate listener for the server API, metrics and health is {HERE}; remove it and let a proxy in front \
             of gyre keep strangers from their paths"
        ),
    )
}
