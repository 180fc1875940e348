//! The rules that make a token good, in the order that decides what a client is told (auth.md 2.4). Built on the control
//! thread, shared by all cores, pure.
//!
//! The signature comes first, before the claims are even parsed. That is earlier than the reference sheet has it, and no
//! client can tell: everything that fails before the dates is one and the same "invalid token".

use std::collections::BTreeMap;

use super::claims::{Claims, Kind};
use super::expected::Expected;
use super::jws::Jws;
use super::keys::Keys;
use super::{ConnectionToken, SubscriptionClaims, SubscriptionToken, TokenError, TokenOptions};
use crate::limits::EXPIRY_MAX_S;

/// Verifies tokens. The default has no key and refuses all.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    keys: Option<Keys>,
    previous_keys: Option<Keys>,
    /// Unix seconds, inclusive.
    previous_until_s: Option<i64>,
    audience: Expected,
    issuer: Expected,
    user_id_claim: String,
    skip_signature: bool,
}

impl Verifier {
    /// The error names the option and the remedy; the caller knows in which section of the configuration it stands.
    pub fn new(options: TokenOptions) -> Result<Self, String> {
        let is_name = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        if !options.user_id_claim.bytes().all(is_name) {
            let claim = &options.user_id_claim;
            return Err(format!("user_id_claim: {claim:?} has more than ASCII letters and underscores"));
        }
        let until_s = options.hmac_previous_secret_key_valid_until;
        Ok(Self {
            keys: Keys::new(&options.hmac_secret_key),
            previous_keys: Keys::new(&options.hmac_previous_secret_key),
            previous_until_s: (until_s != 0).then_some(until_s),
            audience: Expected::new("audience", options.audience, &options.audience_regex)?,
            issuer: Expected::new("issuer", options.issuer, &options.issuer_regex)?,
            user_id_claim: options.user_id_claim,
            skip_signature: options.insecure_skip_signature_verify,
        })
    }

    /// Verifies the token of a `connect` or `refresh`. `now_s` is Unix time.
    pub fn verify_connection(&self, token: &str, now_s: i64) -> Result<ConnectionToken, TokenError> {
        let claims = self.genuine_claims(token, Kind::Connection, now_s)?;
        if !claims.channel.is_empty() {
            return Err(TokenError::Invalid("a subscription token where one for a connection is due"));
        }
        check_dates(&claims, now_s)?;
        let expire_at = expire_at(&claims, now_s);
        let mut subs = BTreeMap::new();
        if claims.subs.is_empty() {
            let plain = |channel| (channel, SubscriptionClaims::default());
            subs.extend(claims.channels.into_iter().map(plain));
        } else {
            for (channel, options) in claims.subs {
                subs.insert(channel, options.finish().ok_or(BROKEN_BASE64)?);
            }
        }
        Ok(ConnectionToken {
            user: claims.user,
            expire_at,
            info: claims.options.into_info().ok_or(TokenError::Internal)?,
            meta: claims.meta,
            subs: subs.into_iter().collect(),
        })
    }

    /// Verifies the token of a `subscribe` or `sub_refresh`. `now_s` is Unix time.
    pub fn verify_subscription(&self, token: &str, now_s: i64) -> Result<SubscriptionToken, TokenError> {
        let claims = self.genuine_claims(token, Kind::Subscription, now_s)?;
        check_dates(&claims, now_s)?;
        if claims.channel.is_empty() {
            return Err(TokenError::Invalid("no channel claim in a subscription token"));
        }
        let expire_at = expire_at(&claims, now_s);
        let options = claims.options.finish().ok_or(BROKEN_BASE64)?;
        Ok(SubscriptionToken {
            user: claims.user,
            channel: claims.channel,
            client: claims.client,
            expire_at,
            info: options.info,
            data: options.data,
            overrides: options.overrides,
        })
    }

    /// The claims of a token that was made for us by somebody who has the key.
    fn genuine_claims(&self, token: &str, kind: Kind, now_s: i64) -> Result<Claims, TokenError> {
        let jws = Jws::parse(token)?;
        if !self.skip_signature {
            self.check_signature(&jws, now_s)?;
        }
        let claims = Claims::decode(&jws.claims, kind, &self.user_id_claim)?;
        if !self.issuer.is_met_by(std::slice::from_ref(&claims.issuer)) {
            return Err(TokenError::Invalid("unexpected issuer"));
        }
        if !self.audience.is_met_by(&claims.audiences) {
            return Err(TokenError::Invalid("unexpected audience"));
        }
        Ok(claims)
    }

    fn check_signature(&self, jws: &Jws<'_>, now_s: i64) -> Result<(), TokenError> {
        let algorithm = jws.algorithm.ok_or(TokenError::Invalid("algorithm is not HS256, HS384 or HS512"))?;
        let keys = self.keys.as_ref().ok_or(TokenError::Invalid("no hmac_secret_key is configured"))?;
        let fits = |keys: &Keys| keys.verify(algorithm, jws.signed, &jws.signature);
        let previous_counts = self.previous_until_s.is_none_or(|until_s| now_s <= until_s);
        if fits(keys) || (previous_counts && self.previous_keys.as_ref().is_some_and(fits)) {
            return Ok(());
        }
        Err(TokenError::Invalid("wrong signature"))
    }
}

const BROKEN_BASE64: TokenError = TokenError::Invalid("b64info or b64data of a subscription is not base64");

/// `exp` must be after now and `nbf` before, without leeway. Now is cut to whole seconds: the second in which `exp`
/// falls is over for the token, and the one in which `nbf` falls has begun, or a token would be refused when it is used
/// right after it was made.
fn check_dates(claims: &Claims, now_s: i64) -> Result<(), TokenError> {
    let is_over = claims.exp.is_some_and(|exp_s| exp_s <= now_s);
    let is_early = claims.nbf.is_some_and(|nbf_s| nbf_s > now_s);
    if is_over || is_early { Err(TokenError::Expired) } else { Ok(()) }
}

/// When what the token gives ends, 0 = never. `expire_at` goes before `exp`, also when it says "never".
fn expire_at(claims: &Claims, now_s: i64) -> i64 {
    let at_s = match claims.expire_at {
        Some(at_s) => at_s.max(0),
        None => claims.exp.unwrap_or(0),
    };
    at_s.min(now_s.saturating_add(EXPIRY_MAX_S))
}
