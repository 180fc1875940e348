//! The module as its users see it: tokens in, decisions out.

use super::*;
use crate::limits::EXPIRY_MAX_S;

const SECRET: &str = "secret-secret-secret-secret-secret";
const PREVIOUS: &str = "previous-previous-previous-previous";
const NOW_S: i64 = 1_700_000_000;
const EXPIRED: Result<(), TokenError> = Err(TokenError::Expired);

fn verifier(set: impl FnOnce(&mut TokenOptions)) -> Verifier {
    let mut options = TokenOptions { hmac_secret_key: SECRET.into(), ..TokenOptions::default() };
    set(&mut options);
    Verifier::new(options).unwrap()
}

fn connection(claims: &str) -> Result<ConnectionToken, TokenError> {
    verifier(|_| ()).verify_connection(&sign_hs256(SECRET, claims), NOW_S)
}

fn subscription(claims: &str) -> Result<SubscriptionToken, TokenError> {
    verifier(|_| ()).verify_subscription(&sign_hs256(SECRET, claims), NOW_S)
}

fn is_invalid<T>(verified: Result<T, TokenError>) -> bool {
    matches!(verified, Err(TokenError::Invalid(_)))
}

/// Tokens as another library makes them: {"sub":"42","exp":2000000000,"info":{"name":"Ann"}} in all sizes.
const FOREIGN: [&str; 3] = [
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaW5mbyI6eyJuYW1lIjoiQW5uIn19.O_UbhSlmit8YX0zObvQi_l9yTOGTESL_9CUDrI8JW54",
    "eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaW5mbyI6eyJuYW1lIjoiQW5uIn19.PbVZOBWFMxRv55XQ_5WkTya3YV5Jxkw6LybOfjTNKA-OViyvNRaZlUWVYCaV_-3F",
    "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaW5mbyI6eyJuYW1lIjoiQW5uIn19.00G3ST6Z0gMQjnRNa-DVDomZXQdkoxjl5D1xkLImnKS_A7TzPCo__k6goV_Z6CNL6idxQTXdtOP8qGu-t16zig",
];
/// {"sub":"42"}, signed with the previous secret.
const FOREIGN_PREVIOUS: &str =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiJ9.t3i7ZvtMO8AFiHtoKElsMidXyNnz7dhrqTnndv6edF4";

/// Users sign in with tokens of backends in every language.
#[test]
fn tokens_of_another_library_are_understood() {
    let now_s = 1_999_999_999;
    for token in FOREIGN {
        let verified = verifier(|_| ()).verify_connection(token, now_s).unwrap();
        let expected = ConnectionToken {
            user: "42".into(),
            expire_at: 2_000_000_000,
            info: Some(r#"{"name":"Ann"}"#.into()),
            ..ConnectionToken::default()
        };
        assert_eq!(verified, expected);
    }
    let subscription = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImNoYW5uZWwiOiJuZXdzIn0.ppEY2OrXJWr1tPukeeP2gtfqBDKyMSyXIETnq1JYJng";
    assert_eq!(sign_hs256(SECRET, r#"{"sub":"42","channel":"news"}"#), subscription);
    let verified = verifier(|_| ()).verify_subscription(subscription, now_s).unwrap();
    assert_eq!((&*verified.user, &*verified.channel, verified.expire_at), ("42", "news", 0));
}

/// Whoever gets past this signs in as anybody.
#[test]
fn forged_tokens_are_refused() {
    let refused = |verifier: &Verifier, token: &str| {
        is_invalid(verifier.verify_connection(token, NOW_S)) && is_invalid(verifier.verify_subscription(token, NOW_S))
    };
    let ours = verifier(|_| ());
    let [header, claims, signature] = FOREIGN[0].split('.').collect::<Vec<_>>()[..] else { panic!() };
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let header_of = |alg: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":{alg}}}"#))
    };
    for token in [
        String::new(),
        ".".into(),
        "..".into(),
        "eyJ".into(),
        "eyJ..".into(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{header}.{claims}.AAAA"),
        format!("{header}.{claims}.{signature}="),
        format!("{header}.{claims}.{signature}."),
        format!("{header}.{claims}.{signature}.{signature}"),
        format!(" {header}.{claims}.{signature}"),
        format!("{header}..{signature}"),
        format!("{header}.{claims}.{}", FOREIGN[1].rsplit('.').next().unwrap()),
        format!("{header}.eyJzdWIiOiI0MyJ9.{signature}"),
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        sign_hs256("other", r#"{"sub":"42"}"#),
        sign_hs256("", r#"{"sub":"42"}"#),
        FOREIGN_PREVIOUS.into(),
    ] {
        assert!(refused(&ours, &token), "{token}");
    }
    for alg in [
        r#""none""#,
        r#""None""#,
        r#""""#,
        "null",
        "1",
        r#""hs256""#,
        r#""RS256""#,
        r#""ES256""#,
        r#""PS256""#,
        r#""EdDSA""#,
        r#""HS384""#,
    ] {
        assert!(refused(&ours, &format!("{}.{claims}.{signature}", header_of(alg))), "{alg}");
    }
    for no_key in [Verifier::default(), verifier(|options| options.hmac_secret_key.clear())] {
        assert!(refused(&no_key, FOREIGN[0]));
        assert!(refused(&no_key, &sign_hs256("", r#"{"sub":"42","channel":"news"}"#)), "no key is no empty key");
    }
}

/// Rotating the secret must not sign everybody out, nor keep a leaked one in force.
#[test]
fn the_previous_secret_counts_until_its_end() {
    let accepts = |until_s: i64| {
        let set = |options: &mut TokenOptions| {
            options.hmac_previous_secret_key = PREVIOUS.into();
            options.hmac_previous_secret_key_valid_until = until_s;
        };
        verifier(set).verify_connection(FOREIGN_PREVIOUS, NOW_S).is_ok()
    };
    assert!(accepts(0) && accepts(NOW_S) && accepts(NOW_S + 1));
    assert!(!accepts(NOW_S - 1) && !accepts(-1));
    let only_previous = verifier(|options| {
        options.hmac_secret_key.clear();
        options.hmac_previous_secret_key = PREVIOUS.into();
    });
    assert!(is_invalid(only_previous.verify_connection(FOREIGN_PREVIOUS, NOW_S)));
}

/// Development setups rely on unsigned tokens, and on everything else still being looked at.
#[test]
fn skipping_the_signature_skips_nothing_else() {
    let lenient = verifier(|options| {
        options.hmac_secret_key.clear();
        options.audience = "app".into();
        options.insecure_skip_signature_verify = true;
    });
    let token = |claims: &str| sign_hs256("whatever", claims);
    assert!(lenient.verify_connection(&token(r#"{"aud":"app"}"#), NOW_S).is_ok());
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJhdWQiOiJhcHAifQ.";
    assert!(lenient.verify_connection(none, NOW_S).is_ok());
    assert!(is_invalid(lenient.verify_connection(&token("{}"), NOW_S)));
    assert!(is_invalid(lenient.verify_connection(&token(r#"{"aud":"app","sub":1}"#), NOW_S)));
    assert!(is_invalid(lenient.verify_connection(&none[..none.len() - 1], NOW_S)));
    let expired = lenient.verify_connection(&token(r#"{"aud":"app","exp":1}"#), NOW_S);
    assert_eq!(expired, Err(TokenError::Expired));
}

/// A session that outlives its token, or ends before, is a support case.
#[test]
fn dates() {
    for (claims, expected) in [
        ("{}".to_owned(), Ok(0)),
        (r#"{"exp":null,"nbf":null,"expire_at":null}"#.into(), Ok(0)),
        (format!(r#"{{"exp":{}}}"#, NOW_S + 1), Ok(NOW_S + 1)),
        (format!(r#"{{"exp":"{}"}}"#, NOW_S + 1), Ok(NOW_S + 1)),
        (format!(r#"{{"exp":{}.75}}"#, NOW_S + 1), Ok(NOW_S + 1)),
        (format!(r#"{{"EXP":{NOW_S}}}"#), Err(TokenError::Expired)),
        (format!(r#"{{"exp":{NOW_S}}}"#), Err(TokenError::Expired)),
        (r#"{"exp":0}"#.into(), Err(TokenError::Expired)),
        (r#"{"exp":-1e300}"#.into(), Err(TokenError::Expired)),
        (r#"{"exp":1e300}"#.into(), Ok(NOW_S + EXPIRY_MAX_S)),
        (format!(r#"{{"nbf":{NOW_S}}}"#), Ok(0)),
        (format!(r#"{{"nbf":{NOW_S}.9}}"#), Ok(0)),
        (format!(r#"{{"nbf":{}}}"#, NOW_S + 1), Err(TokenError::Expired)),
        (format!(r#"{{"iat":{}}}"#, NOW_S + 1), Ok(0)),
        (format!(r#"{{"exp":{},"expire_at":{}}}"#, NOW_S + 1, NOW_S + 9), Ok(NOW_S + 9)),
        (format!(r#"{{"exp":{},"expire_at":0}}"#, NOW_S + 1), Ok(0)),
        (format!(r#"{{"exp":{},"expire_at":-5}}"#, NOW_S + 1), Ok(0)),
        (format!(r#"{{"exp":{NOW_S},"expire_at":0}}"#), Err(TokenError::Expired)),
        // Whether that is too late is for the caller.
        (r#"{"expire_at":7}"#.into(), Ok(7)),
        (r#"{"expire_at":9223372036854775807}"#.into(), Ok(NOW_S + EXPIRY_MAX_S)),
    ] {
        assert_eq!(connection(&claims).map(|token| token.expire_at), expected, "{claims}");
        let claims = claims.replacen('{', r#"{"channel":"news","#, 1).replace(",}", "}");
        assert_eq!(subscription(&claims).map(|token| token.expire_at), expected, "{claims}");
    }
}

/// What a client is told depends on which fault counts (auth.md 2.4 and 2.5).
#[test]
fn order_of_checks() {
    let expired = r#""exp":1"#;
    assert!(is_invalid(verifier(|_| ()).verify_connection(&sign_hs256("x", "{\"exp\":1}"), NOW_S)));
    assert!(is_invalid(connection(r#"{"exp":1,"sub":5}"#)));
    assert!(is_invalid(connection(r#"{"exp":1,"channel":"news"}"#)), "a subscription token");
    assert_eq!(connection(r#"{"channel":""}"#).map(drop), Ok(()));
    assert_eq!(subscription(&format!("{{{expired}}}")).map(drop), EXPIRED, "before the missing channel");
    for claims in ["{}", r#"{"channel":""}"#, r#"{"channel":null}"#] {
        assert!(is_invalid(subscription(claims)), "{claims}");
    }
    assert_eq!(connection(&format!(r#"{{{expired},"b64info":"!"}}"#)).map(drop), EXPIRED);
    assert_eq!(connection(r#"{"b64info":"!"}"#), Err(TokenError::Internal));
    assert!(is_invalid(connection(r#"{"subs":{"a":{"b64info":"!"}}}"#)));
    assert!(is_invalid(connection(r#"{"subs":{"a":{"b64data":"!"}}}"#)));
    assert!(is_invalid(subscription(r#"{"channel":"a","b64info":"!"}"#)));
    assert!(is_invalid(subscription(r#"{"channel":"a","b64data":"!"}"#)));
    assert_eq!(subscription(&format!(r#"{{{expired},"channel":"a","b64data":"!"}}"#)).map(drop), EXPIRED);
}

/// Tokens for another application of the same backend stay outside.
#[test]
fn audience_and_issuer() {
    let check = |set: fn(&mut TokenOptions), claims: &str| {
        verifier(set).verify_connection(&sign_hs256(SECRET, claims), NOW_S).is_ok()
    };
    for (set, claims, expected) in [
        ((|o| o.audience = "app".into()) as fn(&mut TokenOptions), r#"{"aud":"app"}"#, true),
        (|o| o.audience = "app".into(), r#"{"aud":["web","app"]}"#, true),
        (|o| o.audience = "app".into(), r#"{"aud":"apps"}"#, false),
        (|o| o.audience = "app".into(), r#"{"aud":[]}"#, false),
        (|o| o.audience = "app".into(), "{}", false),
        (|o| o.audience_regex = "^(app|web)$".into(), r#"{"aud":["x","web"]}"#, true),
        (|o| o.audience_regex = "^(app|web)$".into(), r#"{"aud":["x","webs"]}"#, false),
        (|o| o.audience_regex = "a|".into(), "{}", false),
        (|o| o.issuer = "https://a".into(), r#"{"iss":"https://a"}"#, true),
        (|o| o.issuer = "https://a".into(), r#"{"iss":"https://ab"}"#, false),
        (|o| o.issuer = "https://a".into(), "{}", false),
        (|o| o.issuer_regex = r"//(\d+)\.".into(), r#"{"iss":"https://42.example"}"#, true),
        (|o| o.issuer_regex = r"//(\d+)\.".into(), r#"{"iss":"https://x.example"}"#, false),
        (|o| o.issuer_regex = "^$".into(), "{}", true),
    ] {
        assert_eq!(check(set, claims), expected, "{claims}");
    }
}

/// The operator must hear about settings that cannot work.
#[test]
fn broken_settings_are_errors() {
    let message = |set: fn(&mut TokenOptions)| {
        let mut options = TokenOptions::default();
        set(&mut options);
        Verifier::new(options).unwrap_err()
    };
    let both = message(|o| (o.audience, o.audience_regex) = ("a".into(), "a".into()));
    assert_eq!(both, "audience and audience_regex exclude each other, remove one of them");
    let both = message(|o| (o.issuer, o.issuer_regex) = ("a".into(), "a".into()));
    assert!(both.starts_with("issuer and issuer_regex"));
    assert!(message(|o| o.issuer_regex = "(".into()).starts_with("issuer_regex: "));
    assert!(message(|o| o.audience_regex = "[".into()).starts_with("audience_regex: "));
    for claim in ["user.id", "uid1", " sub", "ид"] {
        let options = TokenOptions { user_id_claim: claim.into(), ..TokenOptions::default() };
        assert!(Verifier::new(options).unwrap_err().starts_with("user_id_claim: "), "{claim}");
    }
}

/// What a backend puts into tokens arrives at the session.
#[test]
fn contents() {
    let token = connection(
        r#"{"sub":"42","info":{"a": 1},"b64info":"aGk=","meta":{"m":[ ]},"channels":["x"],
            "subs":{"b":{"info":1,"b64info":"aGk=","data":{},"b64data":"","override":{"presence":{"value":true}}},"a":null}}"#,
    );
    let b = SubscriptionClaims {
        info: Some("hi".into()),
        data: Some("{}".into()),
        overrides: Overrides { presence: Some(true), ..Overrides::default() },
    };
    let expected = ConnectionToken {
        user: "42".into(),
        expire_at: 0,
        info: Some("hi".into()),
        meta: Some(r#"{"m":[ ]}"#.into()),
        subs: vec![("a".into(), SubscriptionClaims::default()), ("b".into(), b)],
    };
    assert_eq!(token, Ok(expected));
    let subs = |claims| connection(claims).map(|t| t.subs.into_iter().map(|(channel, _)| channel).collect::<Vec<_>>());
    assert_eq!(subs(r#"{"subs":{},"channels":["b","a","b"]}"#), Ok(vec!["a".to_owned(), "b".to_owned()]));
    let token = subscription(
        r#"{"sub":"42","channel":"news","client":"c","info":[1 ,2],"data":null,"override":{"force_recovery":{"value":true}}}"#,
    );
    let expected = SubscriptionToken {
        user: "42".into(),
        channel: "news".into(),
        client: "c".into(),
        expire_at: 0,
        info: Some("[1 ,2]".into()),
        data: Some("null".into()),
        overrides: Overrides { force_recovery: Some(true), ..Overrides::default() },
    };
    assert_eq!(token, Ok(expected));
}

/// Subscription tokens of their own come with keys of their own.
#[test]
fn separate_subscription_tokens() {
    let token = sign_hs256(SECRET, r#"{"channel":"news"}"#);
    let shared = Verifiers { connection: verifier(|_| ()), subscription: None };
    assert!(shared.for_subscriptions().verify_subscription(&token, NOW_S).is_ok());
    let own = Verifier::new(TokenOptions { hmac_secret_key: "own".into(), ..TokenOptions::default() });
    let separate = Verifiers { subscription: Some(own.unwrap()), ..shared };
    assert!(is_invalid(separate.for_subscriptions().verify_subscription(&token, NOW_S)));
    let secrets = format!("{:?}", separate);
    assert!(!secrets.contains("own") && !secrets.contains(SECRET), "secrets stay out of logs");
}

/// A stranger's bytes must not take the node down.
#[test]
fn mutilated_tokens_never_panic() {
    let lenient = verifier(|options| options.insecure_skip_signature_verify = true);
    let mut random = fastrand::Rng::with_seed(42);
    for _ in 0..20_000 {
        let mut bytes = FOREIGN[random.usize(..3)].as_bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            bytes[at] = *random.choice(b"AQgw.-_=eyJ0\x7f").unwrap_or(&b'.');
        }
        bytes.truncate(random.usize(bytes.len() / 2..=bytes.len()));
        let token = String::from_utf8(bytes).unwrap();
        let _ = lenient.verify_connection(&token, NOW_S);
        let _ = lenient.verify_subscription(&token, NOW_S);
    }
}
