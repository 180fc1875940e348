//! From the JSON of a token to plain data, with the leniency of the decoder that tokens in the field were made for:
//! names of claims in any case, of equal ones the last counts, and what `read` lets pass.
//!
//! Runs on bytes that nobody has vouched for (the header always, claims when signatures are not verified). Base64 is left
//! alone until the token is known to be in force.

use std::collections::BTreeMap;

use bytes::Bytes;
use sonic_rs::{JsonValueTrait, LazyValue};

use super::read::{audiences, date, document, each_field, id_text, prefer_base64, raw, text, typed};
use super::{SubscriptionClaims, TokenError};
use crate::rules::Overrides;

/// Which claims mean something; the others may have any type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Connection,
    Subscription,
}

/// The claims of a token, decoded but not checked.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// From the configured claim, else `sub`.
    pub(super) user: String,
    pub(super) issuer: String,
    pub(super) audiences: Vec<String>,
    /// Whole Unix seconds, rounded down, as all times here.
    pub(super) exp: Option<i64>,
    pub(super) nbf: Option<i64>,
    pub(super) expire_at: Option<i64>,
    pub(super) channel: String,
    /// Subscription tokens only.
    pub(super) client: String,
    /// Info of the connection, or everything about the one subscription.
    pub(super) options: RawOptions,
    /// Connection tokens only, like the rest.
    pub(super) meta: Option<Bytes>,
    pub(super) channels: Vec<String>,
    pub(super) subs: BTreeMap<String, RawOptions>,
}

impl Claims {
    /// `user_id_claim` is empty for `sub`.
    pub(super) fn decode(json: &[u8], kind: Kind, user_id_claim: &str) -> Result<Self, TokenError> {
        let mut claims = Self::default();
        let mut user = None;
        each_field(document(json)?, |name, value| {
            // The configured claim is looked up by its exact name, and the first one counts.
            if name == user_id_claim && user.is_none() {
                user = Some(id_text(value)?);
            }
            claims.set(kind, &name.to_ascii_lowercase(), value)
        })?;
        if !user_id_claim.is_empty() {
            claims.user = user.unwrap_or_default();
        }
        Ok(claims)
    }

    fn set(&mut self, kind: Kind, name: &str, value: &LazyValue<'_>) -> Result<(), TokenError> {
        use Kind::{Connection, Subscription};
        match (kind, name) {
            (_, "sub") => self.user = text(value)?,
            (_, "iss") => self.issuer = text(value)?,
            (_, "aud") => self.audiences = audiences(value)?,
            (_, "exp") => self.exp = date(value)?,
            (_, "nbf") => self.nbf = date(value)?,
            // Of no effect, but a token in which they are broken is not one of a proper issuer.
            (_, "iat") => drop(date(value)?),
            (_, "jti") => drop(text(value)?),
            (_, "expire_at") => self.expire_at = typed(value)?,
            (_, "channel") => self.channel = text(value)?,
            (_, "info") => self.options.info = Some(raw(value)),
            (_, "b64info") => self.options.b64info = text(value)?,
            (Subscription, "client") => self.client = text(value)?,
            (Subscription, name) => self.options.set(name, value)?,
            (Connection, "meta") => self.meta = Some(raw(value)),
            (Connection, "channels") => {
                let names: Option<Vec<Option<String>>> = typed(value)?;
                let names = names.unwrap_or_default().into_iter();
                self.channels = names.map(Option::unwrap_or_default).collect();
            }
            (Connection, "subs") => {
                self.subs.clear();
                each_field(value.clone(), |channel, value| {
                    self.subs.insert(channel.to_owned(), RawOptions::decode(value)?);
                    Ok(())
                })?;
            }
            (Connection, _) => {}
        }
        Ok(())
    }
}

/// What a token says about one subscription, base64 not decoded yet.
#[derive(Debug, Default)]
pub(super) struct RawOptions {
    info: Option<Bytes>,
    b64info: String,
    data: Option<Bytes>,
    b64data: String,
    overrides: Overrides,
}

impl RawOptions {
    fn decode(value: &LazyValue<'_>) -> Result<Self, TokenError> {
        let mut options = Self::default();
        each_field(value.clone(), |name, value| options.set(&name.to_ascii_lowercase(), value))?;
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &LazyValue<'_>) -> Result<(), TokenError> {
        match name {
            "info" => self.info = Some(raw(value)),
            "b64info" => self.b64info = text(value)?,
            "data" => self.data = Some(raw(value)),
            "b64data" => self.b64data = text(value)?,
            "override" => self.overrides = overrides(value)?,
            _ => {}
        }
        Ok(())
    }

    /// The info that counts; `None` = its base64 is broken.
    pub(super) fn into_info(self) -> Option<Option<Bytes>> {
        prefer_base64(&self.b64info, self.info)
    }

    /// With base64 decoded; `None` = it is broken.
    pub(super) fn finish(self) -> Option<SubscriptionClaims> {
        Some(SubscriptionClaims {
            info: prefer_base64(&self.b64info, self.info)?,
            data: prefer_base64(&self.b64data, self.data)?,
            overrides: self.overrides,
        })
    }
}

/// `alg` of a token's header.
pub(super) fn algorithm_of(header: &[u8]) -> Result<String, TokenError> {
    let mut algorithm = String::new();
    each_field(document(header)?, |name, value| {
        if name.eq_ignore_ascii_case("alg") {
            algorithm = text(value)?;
        }
        Ok(())
    })?;
    Ok(algorithm)
}

/// `{"presence": {"value": true}, ...}`
fn overrides(value: &LazyValue<'_>) -> Result<Overrides, TokenError> {
    let mut overrides = Overrides::default();
    each_field(value.clone(), |name, value| {
        let slot = match &*name.to_ascii_lowercase() {
            "presence" => &mut overrides.presence,
            "join_leave" => &mut overrides.join_leave,
            "force_push_join_leave" => &mut overrides.force_push_join_leave,
            "force_positioning" => &mut overrides.force_positioning,
            "force_recovery" => &mut overrides.force_recovery,
            _ => return Ok(()),
        };
        *slot = switch(value)?;
        Ok(())
    })?;
    Ok(overrides)
}

/// `{"value": bool}`; an object without a value is off, `null` leaves the namespace alone.
fn switch(value: &LazyValue<'_>) -> Result<Option<bool>, TokenError> {
    if value.is_null() {
        return Ok(None);
    }
    let mut on = false;
    each_field(value.clone(), |name, value| {
        if name.eq_ignore_ascii_case("value") {
            on = typed(value)?.unwrap_or_default();
        }
        Ok(())
    })?;
    Ok(Some(on))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(json: &str) -> Result<Claims, TokenError> {
        Claims::decode(json.as_bytes(), Kind::Connection, "")
    }

    fn is_invalid(json: &str, kind: Kind) -> bool {
        matches!(Claims::decode(json.as_bytes(), kind, ""), Err(TokenError::Invalid(_)))
    }

    /// A claim of the wrong type that passed would be a check that did not happen.
    #[test]
    fn wrong_types_are_refused() {
        for json in [
            "",
            " ",
            "null",
            "[]",
            "1",
            "\"{}\"",
            "{",
            "{}x",
            "{} {}",
            "{\"sub\"}",
            "{\"sub\":\"a\",}",
            "{sub:\"a\"}",
            "{\"sub\":\"\u{1}\"}",
            r#"{"sub":"\x"}"#,
            r#"{"info":"\uzzzz"}"#,
            r#"{"sub":"a"#,
            r#"{"x":[1,}"#,
            r#"{"x":01}"#,
            r#"{"x":nul}"#,
            r#"{"sub":42}"#,
            r#"{"sub":["a"]}"#,
            r#"{"sub":{}}"#,
            r#"{"SUB":true}"#,
            r#"{"iss":1}"#,
            r#"{"jti":1}"#,
            r#"{"aud":1}"#,
            r#"{"aud":null}"#,
            r#"{"aud":["a",1]}"#,
            r#"{"aud":["a",null]}"#,
            r#"{"aud":{}}"#,
            r#"{"exp":true}"#,
            r#"{"exp":"x"}"#,
            r#"{"exp":""}"#,
            r#"{"exp":"null"}"#,
            r#"{"exp":[1]}"#,
            r#"{"exp":1e999}"#,
            r#"{"exp":"1e999"}"#,
            r#"{"exp":"NaN"}"#,
            r#"{"nbf":{}}"#,
            r#"{"iat":"soon"}"#,
            r#"{"expire_at":1.5}"#,
            r#"{"expire_at":"1"}"#,
            r#"{"expire_at":1e3}"#,
            r#"{"expire_at":9223372036854775808}"#,
            r#"{"channel":1}"#,
            r#"{"b64info":1}"#,
            r#"{"b64info":{}}"#,
        ] {
            assert!(is_invalid(json, Kind::Connection), "{json}");
            assert!(is_invalid(json, Kind::Subscription), "{json}");
        }
        for json in [
            r#"{"channels":"a"}"#,
            r#"{"channels":[1]}"#,
            r#"{"channels":{}}"#,
            r#"{"subs":[]}"#,
            r#"{"subs":"a"}"#,
            r#"{"subs":{"a":1}}"#,
            r#"{"subs":{"a":{"b64data":1}}}"#,
            r#"{"subs":{"a":{"override":[]}}}"#,
        ] {
            assert!(is_invalid(json, Kind::Connection), "{json}");
            assert!(!is_invalid(json, Kind::Subscription), "of no meaning there: {json}");
        }
        for json in [
            r#"{"client":1}"#,
            r#"{"b64data":1}"#,
            r#"{"override":1}"#,
            r#"{"override":{"presence":true}}"#,
            r#"{"override":{"presence":{"value":1}}}"#,
        ] {
            assert!(is_invalid(json, Kind::Subscription), "{json}");
            assert!(!is_invalid(json, Kind::Connection), "of no meaning there: {json}");
        }
    }

    /// Backends rely on what upstream let pass.
    #[test]
    fn what_upstream_accepts_is_accepted() {
        let claims = decode(
            "\n{ \"Sub\":\"a\\u0062\", \"AUD\":\"x\", \"x\":[{}], \"exp\":\"1.9\", \"nbf\":-0.5, \"sub\":\"\\uD83D\\uDE00c\",
            \"channels\":[\"a\",null], \"iat\":null, \"jti\":null, \"iss\":null, \"info\":null, \"Expire_At\":-3 } ",
        )
        .unwrap();
        assert_eq!((&*claims.user, claims.audiences), ("😀c", vec!["x".to_owned()]), "the last one counts");
        assert_eq!((claims.exp, claims.nbf, claims.expire_at), (Some(1), Some(-1), Some(-3)));
        assert_eq!(claims.channels, ["a", ""]);
        assert_eq!(claims.options.into_info(), Some(Some("null".into())));
        let claims = decode(r#"{"sub":"a","subs":{"x":{}},"subs":{"y":{"Info": 1 }},"Subs":{"z":null}}"#).unwrap();
        assert_eq!(claims.subs.keys().collect::<Vec<_>>(), ["z"]);
    }

    /// Users are told apart by this text.
    #[test]
    fn user_id_claim() {
        for (json, expected) in [
            (r#"{"sub":"a"}"#, ""),
            (r#"{"sub":"a","uid":"b"}"#, "b"),
            (r#"{"UID":"b"}"#, ""),
            (r#"{"uid":"b","uid":"c"}"#, "b"),
            (r#"{"uid":null}"#, ""),
            (r#"{"uid":true}"#, "true"),
            (r#"{"uid":-42}"#, "-42"),
            (r#"{"uid":123456789012345678901234567890}"#, "123456789012345678901234567890"),
            (r#"{"uid":1.50}"#, "1.5"),
            (r#"{"uid":1e3}"#, "1000"),
            (r#"{"uid":{"a": 1}}"#, r#"{"a": 1}"#),
        ] {
            let claims = Claims::decode(json.as_bytes(), Kind::Connection, "uid").unwrap();
            assert_eq!(claims.user, expected, "{json}");
        }
        assert!(Claims::decode(br#"{"sub":1,"uid":"b"}"#, Kind::Connection, "uid").is_err());
        assert!(Claims::decode(br#"{"uid":1e999}"#, Kind::Connection, "uid").is_err());
        let by_other_meaning = Claims::decode(br#"{"iss":"a"}"#, Kind::Connection, "iss").unwrap();
        assert_eq!((&*by_other_meaning.user, &*by_other_meaning.issuer), ("a", "a"));
    }

    /// Backends switch single options on and off.
    #[test]
    fn switches() {
        let json = r#"{"override":{"presence":{"value":true},"JOIN_LEAVE":{"Value":false},"force_push_join_leave":null,
            "force_positioning":{},"force_recovery":{"value":null},"other":1}}"#;
        let claims = Claims::decode(json.as_bytes(), Kind::Subscription, "").unwrap();
        let expected = Overrides {
            presence: Some(true),
            join_leave: Some(false),
            force_push_join_leave: None,
            force_positioning: Some(false),
            force_recovery: Some(false),
        };
        assert_eq!(claims.options.finish().unwrap().overrides, expected);
    }

    /// One token must not exhaust the stack, nor a core's time.
    #[test]
    fn huge_and_deep_claims() {
        let deep = |depth: usize| format!("{{\"info\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(decode(&deep(100)).is_ok());
        assert!(decode(&deep(600)).is_err());
        assert!(decode(&deep(1_000_000)).is_err());
        assert!(decode(&"{\"subs\":".repeat(200_000)).is_err());
        assert!(algorithm_of("{\"alg\":".repeat(200_000).as_bytes()).is_err());
        assert!(decode(&format!("{{\"exp\":\"{}\"}}", "[".repeat(1_000_000))).is_err());
        let many: Vec<String> = (0..20_000).map(|n| format!("\"c{}\":{{}}", n % 7_000)).collect();
        let claims = decode(&format!("{{\"subs\":{{{}}}}}", many.join(","))).unwrap();
        assert_eq!(claims.subs.len(), 7_000);
        for bytes in [&b"{\"sub\":\"\xff\"}"[..], b"\xff", b"{\"a\xc3\":1}", b"\0"] {
            assert!(Claims::decode(bytes, Kind::Connection, "").is_err());
        }
    }
}
