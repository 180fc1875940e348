//! The engine of one core: fan-out, connect, history, tokens.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use gyre_engine::rules::{ChannelOptions, Rules};
use gyre_engine::token::{TokenOptions, Verifier, Verifiers, sign_hs256};
use gyre_engine::{
    ClientId, Engine, EngineOptions, Handshake, HistoryCall, HistoryOptions, HomeCall, HomeReply, Now, PublishCall,
};
use gyre_proto::Encoding;
use gyre_proto::client::Publication;
use gyre_proto::ids::{ConnId, CoreId};

use super::Case;
use super::codec::payload;
use super::hands::Hands;

pub(super) const CASES: &[Case] = &[
    Case { name: "fan-out to 1,000", unit: "delivery", operations: 1_000, prepare: || fan_out(1, 1_000) },
    Case { name: "fan-out to 1,000 positioned", unit: "delivery", operations: 1_000, prepare: positioned_fan_out },
    Case { name: "fan-out to 10 in each of 100", unit: "delivery", operations: 1_000, prepare: || fan_out(100, 10) },
    Case { name: "publish to nobody", unit: "publish", operations: 1, prepare: || publish(0) },
    Case { name: "publish to nobody, history 100", unit: "publish", operations: 1, prepare: || publish(100) },
    Case { name: "read 10 of history 100", unit: "read", operations: 1, prepare: read_history },
    Case { name: "connect, subscribe, leave", unit: "client", operations: 1, prepare: || clients(false) },
    Case { name: "connect by token, subscribe, leave", unit: "client", operations: 1, prepare: || clients(true) },
    Case { name: "verify token hs256", unit: "token", operations: 1, prepare: verify_token },
];

const NOW: Now = Now { mono_ms: 1_000_000, unix_ms: 1_800_000_000_000 };
const SECRET: &str = "a secret of the usual thirty two";
const CLAIMS: &str = r#"{"sub":"42","exp":1800003600,"iat":1800000000,"info":{"name":"Alexander"}}"#;

/// One engine and its hands.
struct Core {
    engine: Engine,
    hands: Hands,
    history: HistoryOptions,
    connections: u32,
}

impl Core {
    fn new(options: ChannelOptions) -> Self {
        let mut rules = Rules { without_namespace: options, ..Rules::default() };
        rules.without_namespace.allow_subscribe_for_client = true;
        rules.without_namespace.allow_subscribe_for_anonymous = true;
        rules.client.allow_anonymous_connect_without_token = true;
        rules.tokens = Verifiers { connection: verifier(), subscription: None };
        let history = HistoryOptions::of(&rules, "any");
        let options = EngineOptions {
            core: CoreId(0),
            cores: 1,
            rules: Arc::new(rules),
            version: "bench".into(),
            is_stored: false,
            seed: 7,
        };
        let mut engine = Engine::new(options);
        engine.set_now(NOW);
        Self { engine, hands: Hands::default(), history, connections: 0 }
    }

    fn connect(&mut self, index: u32, connect: &[u8], channel: &str) -> ConnId {
        // Slots start over with another generation, as in the driver.
        self.connections += 1;
        let conn = ConnId { index, generation: self.connections };
        let mut entropy = [0; 16];
        entropy[..4].copy_from_slice(&self.connections.to_be_bytes());
        self.engine.open(conn, Encoding::Json, ClientId::from_entropy(entropy), Handshake::default(), &mut self.hands);
        self.engine.receive(conn, connect, &mut self.hands);
        let subscribe = format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#);
        self.engine.receive(conn, subscribe.as_bytes(), &mut self.hands);
        conn
    }

    fn publish(&mut self, channel: &str, data: &Bytes) -> Option<HomeReply> {
        let publication = Publication { data: data.clone(), ..Publication::default() };
        let call = PublishCall {
            publication,
            history: self.history,
            idempotency_key: "".into(),
            version: 0,
            version_epoch: "".into(),
        };
        let reply = self.engine.api_call(1, channel, HomeCall::Publish(call), &mut self.hands);
        while self.engine.turn(&mut self.hands) {}
        reply
    }
}

const CONNECT: &[u8] = br#"{"id":1,"connect":{}}"#;

fn fan_out(channels: u32, subscribers: u32) -> Box<dyn FnMut()> {
    fan_out_with(ChannelOptions::default(), channels, subscribers)
}

fn positioned_fan_out() -> Box<dyn FnMut()> {
    let options =
        ChannelOptions { history_size: 10, history_ttl_s: 60, force_positioning: true, ..ChannelOptions::default() };
    fan_out_with(options, 1, 1_000)
}

fn fan_out_with(options: ChannelOptions, channels: u32, subscribers: u32) -> Box<dyn FnMut()> {
    let mut core = Core::new(options);
    let names: Vec<String> = (0..channels).map(|number| format!("room-{number}")).collect();
    for index in 0..channels * subscribers {
        core.connect(index, CONNECT, &names[(index % channels) as usize]);
    }
    let data = Bytes::from(payload());
    let expected = u64::from(channels * subscribers);
    Box::new(move || {
        let before = core.hands.pushes;
        for name in &names {
            black_box(core.publish(name, &data));
        }
        assert_eq!(core.hands.pushes - before, expected, "every subscriber gets every publication");
    })
}

fn publish(history_size: usize) -> Box<dyn FnMut()> {
    let mut core = Core::new(ChannelOptions { history_size, history_ttl_s: 60, ..ChannelOptions::default() });
    let data = Bytes::from(payload());
    Box::new(move || {
        black_box(core.publish("room", &data));
    })
}

fn read_history() -> Box<dyn FnMut()> {
    let mut core = Core::new(ChannelOptions { history_size: 100, history_ttl_s: 60, ..ChannelOptions::default() });
    let data = Bytes::from(payload());
    (0..100).for_each(|_| {
        core.publish("room", &data);
    });
    let meta_ttl_ms = core.history.meta_ttl_ms;
    Box::new(move || {
        let call = HistoryCall { limit: 10, since: None, reverse: true, meta_ttl_ms };
        let reply = core.engine.api_call(1, "room", HomeCall::History(call), &mut core.hands);
        let is_page = matches!(&reply, Some(HomeReply::History(Ok(facts))) if facts.publications.len() == 10);
        assert!(is_page, "a page of ten");
    })
}

/// The life of a client without a word of its own, among a thousand others.
fn clients(by_token: bool) -> Box<dyn FnMut()> {
    let mut core = Core::new(ChannelOptions::default());
    let connect = match by_token {
        true => format!(r#"{{"id":1,"connect":{{"token":"{}"}}}}"#, sign_hs256(SECRET, CLAIMS)).into_bytes(),
        false => CONNECT.to_vec(),
    };
    for index in 1..1_000 {
        core.connect(index, CONNECT, "room");
    }
    Box::new(move || {
        let before = core.hands.pushes;
        let conn = core.connect(0, &connect, "room");
        core.engine.closed(conn, &mut core.hands);
        assert_eq!((core.hands.pushes - before, core.hands.closed), (2, 0), "two replies");
    })
}

fn verifier() -> Verifier {
    let options = TokenOptions { hmac_secret_key: SECRET.to_owned(), ..TokenOptions::default() };
    Verifier::new(options).unwrap_or_else(|error| panic!("the options are valid: {error}"))
}

fn verify_token() -> Box<dyn FnMut()> {
    let verifier = verifier();
    let token = sign_hs256(SECRET, CLAIMS);
    let now_s = NOW.unix_s();
    assert!(verifier.verify_connection(&token, now_s).is_ok(), "the sample token is valid");
    Box::new(move || {
        let _ = black_box(verifier.verify_connection(black_box(&token), now_s));
    })
}
