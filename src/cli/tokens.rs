//! Commands that make and verify tokens with the keys of the configuration.

use super::{engine_rules, explain, load};
use crate::config::print::duration_text;
use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use gyre_engine::rules::Rules;
use gyre_engine::token::{TokenError, sign_hs256};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a new token is for.
#[derive(Debug, Args)]
pub(super) struct NewToken {
    /// Configuration file that has the key
    #[arg(short, long, value_name = "FILE", default_value = "config.json")]
    config: PathBuf,
    /// User id; empty is the anonymous user
    #[arg(short, long, default_value = "", hide_default_value = true)]
    user: String,
    /// Life of the token in seconds; -1 is without end
    #[arg(short, long, default_value_t = 604_800, allow_negative_numbers = true)]
    ttl: i64,
    /// Print the token only, without a newline
    #[arg(short, long)]
    quiet: bool,
}

/// A token to look at.
#[derive(Debug, Args)]
pub(super) struct GivenToken {
    /// Configuration file that has the keys
    #[arg(short, long, value_name = "FILE", default_value = "config.json")]
    config: PathBuf,
    /// The token
    token: String,
}

/// `gentoken`
pub(super) fn connection(new: &NewToken) -> anyhow::Result<String> {
    make(new, None)
}

/// `gensubtoken`
pub(super) fn subscription(new: &NewToken, channel: &str) -> anyhow::Result<String> {
    if channel.is_empty() {
        bail!("channel is required");
    }
    make(new, Some(channel))
}

fn make(new: &NewToken, channel: Option<&str>) -> anyhow::Result<String> {
    let config = load(&new.config, false).map_err(explain)?;
    let (section, settings) = match &config.client.subscription_token {
        own if channel.is_some() && own.enabled => ("client.subscription_token", &own.token),
        _ => ("client.token", &config.client.token),
    };
    if settings.hmac_secret_key.is_empty() {
        bail!(
            "error: {section}.hmac_secret_key is not set; tokens are made with it (gyre genconfig writes a configuration that has one)"
        );
    }
    let mut claims = Map::new();
    if !settings.user_id_claim.is_empty() {
        claims.insert(settings.user_id_claim.clone(), json!(new.user));
    }
    if !new.user.is_empty() {
        claims.insert("sub".to_owned(), json!(new.user));
    }
    if let Some(channel) = channel {
        claims.insert("channel".to_owned(), json!(channel));
    }
    let now_s = now_s();
    if new.ttl > 0 {
        claims.insert("exp".to_owned(), json!(now_s.saturating_add(new.ttl)));
    }
    claims.insert("iat".to_owned(), json!(now_s));
    let token = sign_hs256(settings.hmac_secret_key.expose(), &Value::Object(claims).to_string());
    if new.quiet {
        return Ok(token);
    }
    let user = if new.user.is_empty() { "anonymous user".to_owned() } else { format!("user \"{}\"", new.user) };
    let channel = channel.map(|channel| format!(" and channel \"{channel}\"")).unwrap_or_default();
    let end = match new.ttl {
        ttl if ttl < 0 => "without expiration".to_owned(),
        ttl => format!("with expiration TTL {}", duration_text(ttl.saturating_mul(1_000_000_000))),
    };
    Ok(format!("HMAC SHA-256 JWT for {user}{channel} {end}:\n{token}\n"))
}

/// `checktoken`
pub(super) fn check_connection(given: &GivenToken) -> anyhow::Result<String> {
    let rules = rules(given)?;
    let verified = rules.tokens.connection.verify_connection(given.token.trim(), now_s());
    let token = verified.map_err(|why| failure(&given.token, why))?;
    let user = if token.user.is_empty() { "anonymous user".to_owned() } else { format!("user {}", token.user) };
    Ok(format!("valid token for {user}\npayload: {}\n", payload(&given.token)))
}

/// `checksubtoken`
pub(super) fn check_subscription(given: &GivenToken) -> anyhow::Result<String> {
    let rules = rules(given)?;
    let verified = rules.tokens.for_subscriptions().verify_subscription(given.token.trim(), now_s());
    let token = verified.map_err(|why| failure(&given.token, why))?;
    let user = if token.user.is_empty() { "anonymous user".to_owned() } else { format!("user \"{}\"", token.user) };
    let text = format!("valid subscription token for {user} and channel \"{}\"", token.channel);
    Ok(format!("{text}\npayload: {}\n", payload(&given.token)))
}

fn rules(given: &GivenToken) -> anyhow::Result<Rules> {
    let config = load(&given.config, false).map_err(explain)?;
    engine_rules(&config).context("error validating config")
}

/// The token's own words, which nobody has verified, beside what is wrong with it.
fn failure(token: &str, why: TokenError) -> anyhow::Error {
    let header = segment(token, 0).and_then(|header| serde_json::from_str::<Value>(&header).ok());
    let algorithm = header.as_ref().and_then(|header| header.get("alg")?.as_str()).unwrap_or("unknown");
    match segment(token, 1) {
        Some(claims) => anyhow!("error: token with algorithm {algorithm} and claims {claims} has error: {why}"),
        None => anyhow!("error: {why}"),
    }
}

fn payload(token: &str) -> String {
    segment(token, 1).unwrap_or_default()
}

fn segment(token: &str, index: usize) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token.trim().split('.').nth(index)?).ok()?;
    String::from_utf8(bytes).ok()
}

/// Unix time.
fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
