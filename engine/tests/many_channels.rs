//! A client with as many channels as there can be, where the operator has set no limit.

mod world;

use gyre_engine::limits::CHANNELS_PER_SESSION_MAX;
use gyre_engine::rules::{ChannelOptions, ClientRules, Rules};
use gyre_proto::Encoding;
use world::World;

fn rules() -> Rules {
    Rules {
        without_namespace: ChannelOptions { allow_subscribe_for_client: true, ..ChannelOptions::default() },
        client: ClientRules { insecure: true, channel_limit: usize::MAX, ..ClientRules::default() },
        ..Rules::default()
    }
}

/// One client could mix up the subscriptions of others, and with them end the node.
#[test]
fn places_of_channels_are_never_mixed_up() {
    let mut world = World::new(1, rules(), 7);
    let [a, b] = [(); 2].map(|()| world.open(0, Encoding::Json));
    let mut say = |conn, frame: &str| {
        world.on(0, |engine, hands| engine.receive(conn, frame.as_bytes(), hands));
        let said = world.sites[0].hands.said.remove(&a.index).and_then(|mut said| said.pop()).unwrap_or_default();
        String::from_utf8(said).expect("JSON")
    };
    let last = CHANNELS_PER_SESSION_MAX - 1;
    say(a, r#"{"id":1,"connect":{}}"#);
    say(b, &format!("{{\"id\":1,\"connect\":{{}}}}\n{{\"id\":2,\"subscribe\":{{\"channel\":\"c{last}\"}}}}"));
    for number in 0..=last {
        let reply = say(a, &format!(r#"{{"id":2,"subscribe":{{"channel":"c{number}"}}}}"#));
        assert_eq!(reply, r#"{"id":2,"subscribe":{}}"#, "{number}");
    }
    let reply = say(a, r#"{"id":2,"subscribe":{"channel":"one-too-many"}}"#);
    assert_eq!(reply, r#"{"id":2,"error":{"code":106,"message":"limit exceeded"}}"#);
    // The place of `a` in the last channel changes, which is noted by its place among its channels.
    world.on(0, |engine, hands| engine.closed(b, hands));
    world.on(0, |engine, hands| engine.closed(a, hands));
    assert_eq!(world.sites[0].engine.counts().subscriptions, 0);
}
