//! Answers in JSON, by the rules of the server API.

use super::*;
use crate::api::{self, Fields, Value};
use serde::de::MapAccess;

/// Decodes the body of an answer: one of the messages that are named as a response here.
///
/// # Errors
/// It is not one JSON object of the message's shape.
pub fn decode<T: Fields>(body: &[u8]) -> Result<T, DecodeError> {
    api::decode(body)
}

/// Tells which key of a JSON object goes into which field of a message, and how.
macro_rules! fields {
    ($($message:ident { $($key:literal => $field:ident: $how:ident,)* })*) => { $(
        impl Fields for $message {
            fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
                match key {
                    $($key => value.$how(&mut self.$field),)*
                    _ => value.skip(),
                }
            }
        }
    )* };
}

fields! {
    Error { "code" => code: scalar, "message" => message: scalar, "temporary" => temporary: scalar, }
    Disconnect { "code" => code: scalar, "reason" => reason: scalar, }
    BoolValue { "value" => value: scalar, }
    SubscribeOptionOverride {
        "presence" => presence: message,
        "join_leave" => join_leave: message,
        "force_recovery" => force_recovery: message,
        "force_positioning" => force_positioning: message,
        "force_push_join_leave" => force_push_join_leave: message,
    }
    ConnectResult {
        "user" => user: scalar,
        "expire_at" => expire_at: scalar,
        "info" => info: payload,
        "b64info" => b64info: scalar,
        "data" => data: payload,
        "b64data" => b64data: scalar,
        "channels" => channels: strings,
        "subs" => subs: message_map,
        "meta" => meta: payload,
    }
    SubscribeOptions {
        "expire_at" => expire_at: scalar,
        "info" => info: payload,
        "b64info" => b64info: scalar,
        "data" => data: payload,
        "b64data" => b64data: scalar,
        "override" => r#override: message,
        "cache_recover" => cache_recover: scalar,
    }
    RefreshResult {
        "expired" => expired: scalar,
        "expire_at" => expire_at: scalar,
        "info" => info: payload,
        "b64info" => b64info: scalar,
        "meta" => meta: payload,
    }
    SubscribeResult {
        "expire_at" => expire_at: scalar,
        "info" => info: payload,
        "b64info" => b64info: scalar,
        "data" => data: payload,
        "b64data" => b64data: scalar,
        "override" => r#override: message,
    }
    PublishResult {
        "data" => data: payload,
        "b64data" => b64data: scalar,
        "skip_history" => skip_history: scalar,
        "tags" => tags: string_map,
        "idempotency_key" => idempotency_key: scalar,
        "delta" => delta: scalar,
        "version" => version: scalar,
        "version_epoch" => version_epoch: scalar,
    }
    RpcResult { "data" => data: payload, "b64data" => b64data: scalar, }
    SubRefreshResult {
        "expired" => expired: scalar,
        "expire_at" => expire_at: scalar,
        "info" => info: payload,
        "b64info" => b64info: scalar,
    }
    NotifyCacheEmptyResult { "populated" => populated: scalar, }
    NotifyChannelStateResult {}
    ConnectResponse { "result" => result: message, "error" => error: message, "disconnect" => disconnect: message, }
    RefreshResponse { "result" => result: message, "error" => error: message, "disconnect" => disconnect: message, }
    SubscribeResponse { "result" => result: message, "error" => error: message, "disconnect" => disconnect: message, }
    PublishResponse { "result" => result: message, "error" => error: message, "disconnect" => disconnect: message, }
    RpcResponse { "result" => result: message, "error" => error: message, "disconnect" => disconnect: message, }
    SubRefreshResponse { "result" => result: message, "error" => error: message, "disconnect" => disconnect: message, }
    NotifyCacheEmptyResponse { "result" => result: message, "error" => error: message, }
    NotifyChannelStateResponse { "result" => result: message, "error" => error: message, }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever it is called and wherever it stands, what the backend decides has to arrive.
    #[test]
    fn every_member_is_read() {
        let text = br#" {"result":{"user":"u","expire_at":12,"info":{"a": 1},"b64info":"AA==","data":[ 1],
            "b64data":"AQ==","channels":["a",null],"meta":{"m":null},"caps":[{"channels":["x"]}],"labels":{"a":"b"},
            "subs":{"x":{},"y":null,"z":{"expire_at":-3,"info":1,"b64info":"AA==","data":"d","b64data":"AA==",
            "cache_recover":true,"override":{"presence":{"value":true},"join_leave":{},"force_recovery":null,
            "force_positioning":{"VALUE":false},"Force_Push_Join_Leave":{"value":true}}}}},
            "error":{"code":400,"message":"m","temporary":true},"disconnect":{"code":4000,"reason":"r"}} "#;
        let mut response: ConnectResponse = decode(text).expect("an answer");
        assert_eq!(response.error, Some(Error { code: 400, message: "m".into(), temporary: true }));
        assert_eq!(response.disconnect, Some(Disconnect { code: 4000, reason: "r".into() }));
        let result = response.result.take().expect("a result");
        assert_eq!((&*result.user, result.expire_at, &*result.info), ("u", 12, &br#"{"a": 1}"#[..]));
        assert_eq!((&*result.b64info, &*result.data, &*result.b64data), ("AA==", &b"[ 1]"[..], "AQ=="));
        assert_eq!((result.channels, &*result.meta), (vec!["a".into(), String::new()], &br#"{"m":null}"#[..]));
        assert_eq!(result.subs.keys().collect::<Vec<_>>(), ["x", "y", "z"]);
        let z = &result.subs["z"];
        assert_eq!((z.expire_at, &*z.info, &*z.data, z.cache_recover), (-3, &b"1"[..], &br#""d""#[..], true));
        let overrides = z.r#override.as_ref().expect("overrides");
        assert_eq!(overrides.presence, Some(BoolValue { value: true }));
        assert_eq!(overrides.join_leave, Some(BoolValue { value: false }));
        assert_eq!(overrides.force_recovery, None);
        assert_eq!(overrides.force_positioning, Some(BoolValue { value: false }));
        assert_eq!(overrides.force_push_join_leave, Some(BoolValue { value: true }));

        let text = br#"{"result":{"data":null,"b64data":"x","skip_history":true,"tags":{"a":"b"},"delta":true,
            "idempotency_key":"i","version":18446744073709551615,"version_epoch":"e"}}"#;
        let result = decode::<PublishResponse>(text).expect("an answer").result.expect("a result");
        assert_eq!((&*result.data, &*result.b64data, result.skip_history), (&b"null"[..], "x", true));
        assert_eq!((&*result.idempotency_key, result.delta, result.version), ("i", true, u64::MAX));
        assert_eq!((&*result.tags["a"], &*result.version_epoch), ("b", "e"));

        let text = br#"{"result":{"expired":true,"expire_at":1,"info":{},"b64info":"x","meta":null}}"#;
        let result = decode::<RefreshResponse>(text).expect("an answer").result.expect("a result");
        assert_eq!((result.expired, result.expire_at, &*result.info, &*result.b64info), (true, 1, &b"{}"[..], "x"));
        assert_eq!(&*result.meta, b"null");
        let result = decode::<SubRefreshResponse>(text).expect("an answer").result.expect("a result");
        assert_eq!((result.expired, result.expire_at, &*result.info, &*result.b64info), (true, 1, &b"{}"[..], "x"));
        let text = br#"{"Result":{"POPULATED":true,"expire_at":2,"data":0,"info":5}}"#;
        let result = decode::<NotifyCacheEmptyResponse>(text).expect("an answer").result.expect("a result");
        assert!(result.populated);
        let result = decode::<SubscribeResponse>(text).expect("an answer").result.expect("a result");
        assert_eq!((result.expire_at, &*result.data, &*result.info), (2, &b"0"[..], &b"5"[..]));
        let result = decode::<RpcResponse>(text).expect("an answer").result.expect("a result");
        assert_eq!(&*result.data, b"0");
        assert!(decode::<NotifyChannelStateResponse>(text).expect("an answer").result.is_some());
    }

    /// A missing result, a null and an empty one mean different things to clients; what is no answer is none of them.
    #[test]
    fn absent_is_not_empty() {
        let result = |text: &[u8]| decode::<SubscribeResponse>(text).map(|response| response.result.is_some());
        assert_eq!(result(b"{}"), Ok(false));
        assert_eq!(result(b"null"), Ok(false));
        assert_eq!(result(br#"{"result":null}"#), Ok(false));
        assert_eq!(result(br#"{"result":{}}"#), Ok(true));
        assert_eq!(result(br#"{"result":{},"result":null}"#), Ok(false));
        for text in
            ["", " ", "[]", "1", "{", "{}{}", r#"{"result":1}"#, r#"{"result":[]}"#, r#"{"result":{"expire_at":"1"}}"#]
        {
            assert_eq!(result(text.as_bytes()), Err(DecodeError), "{text}");
        }
        let subs = |text: &[u8]| decode::<ConnectResponse>(text).map(|response| response.result);
        assert_eq!(subs(br#"{"result":{"subs":{"a":1}}}"#), Err(DecodeError));
        assert_eq!(subs(br#"{"result":{"subs":[]}}"#), Err(DecodeError));
    }

    /// A backend that sends garbage must not take the node down.
    #[test]
    fn garbage_is_never_a_panic() {
        const PIECES: [&[u8]; 20] = [
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b"null",
            b"true",
            b"\"result\"",
            b"\"subs\"",
            b"\"override\"",
            b"\"presence\"",
            b"\"data\"",
            b"\"expire_at\"",
            b"-1",
            b"1e999",
            b"\"\\ud800\"",
            b"\xff",
            b" ",
            b"\"",
        ];
        let mut state = 7_u64;
        let mut next = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for round in 0..20_000 {
            let mut text = Vec::new();
            for _ in 0..next(24) {
                match round % 2 {
                    0 => text.extend_from_slice(PIECES[next(PIECES.len())]),
                    _ => text.push(next(256) as u8),
                }
            }
            let _ = decode::<ConnectResponse>(&text);
            let _ = decode::<PublishResponse>(&text);
        }
        let valid = br#"{"result":{"subs":{"a":{"override":{"presence":{"value":true}}}},"data":{"x":[1,"2"]}}}"#;
        for at in 0..valid.len() {
            for byte in 0..=255 {
                let mut text = valid.to_vec();
                text[at] = byte;
                let _ = decode::<ConnectResponse>(&text);
            }
            let _ = decode::<ConnectResponse>(&valid[..at]);
        }
        let deep = [r#"{"result":{"data":"#.as_bytes(), &b"[".repeat(1 << 20)].concat();
        assert_eq!(decode::<ConnectResponse>(&deep), Err(DecodeError));
    }
}
