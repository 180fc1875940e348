//! A shard that is a cluster, on a real core: against nodes that do what a test says, and by hand against real ones.

mod core;
mod nodes;
mod real;
mod sharded;

use std::sync::Arc;

use gyre_io::redis::{Command, Event, Reply, Script, Servers, Shard, Use, slot_of};

use self::core::Core;
use self::nodes::Nodes;

static SCRIPTS: [Script; 1] = [Script { sha1: "da39a3ee5e6b4b0d3255bfef95601890afd80709", text: "return ARGV[1]" }];

/// A command that says at the node which key and which value it got.
fn set(shard: &mut Shard, token: u64, now_ms: u64, key: &str, value: u64) -> bool {
    let write = |out: &mut Vec<u8>| _ = Command::new(out, 3).arg(b"SET").arg(key.as_bytes()).int(value as i64);
    shard.send(token, now_ms, key.as_bytes(), write).is_ok()
}

/// Hears of `count` commands; all must have succeeded, and each key's in order.
fn hear_all(core: &Core, count: u64) {
    for token in 0..count {
        match core.hear() {
            Event::Reply(of, Reply::Bytes(_)) => assert_eq!(of, token),
            other => panic!("{other:?}"),
        }
    }
}

/// Resharding: the first command finds out, all others follow it to a node that nobody has spoken to before, and the order
/// of publications stays.
#[test]
fn moved_commands_arrive_in_order() {
    let nodes = Nodes::start(2);
    nodes.tell(|state| state.owner = [(slot_of(b"a"), 1)].into());
    let core = Core::start(nodes.map(&[(0..=16383, 0)]));
    core.hear_up(1);
    core.run(|shard, _, now_ms| (0..100).for_each(|n| assert!(set(shard, n, now_ms, "a", n))));
    core.run(|shard, _, now_ms| (100..200).for_each(|n| assert!(set(shard, n, now_ms, "a", n))));
    assert!(matches!(core.hear(), Event::Up(Use::Commands)));
    hear_all(&core, 200);
    assert!(core.ask(|shard, _, _| shard.takes_doubt()));
    let log = nodes.log();
    assert_eq!(log, (0..200).map(|n| (1, "a".to_owned(), n.to_string())).collect::<Vec<_>>());
    // From here on at once.
    let refused = nodes.refused();
    core.run(|shard, _, now_ms| (0..100).for_each(|n| assert!(set(shard, n, now_ms, "a", n))));
    hear_all(&core, 100);
    assert_eq!(nodes.refused(), refused);
}

/// After a failover nobody knows the scripts of the publications. Were they called by their text only after a refusal, later
/// ones would overtake them.
#[test]
fn a_new_node_gets_the_scripts_first() {
    let nodes = Nodes::start(2);
    let core = Core::start(nodes.map(&[(0..=16383, 0)]));
    core.hear_up(1);
    let publish = |token: u64| {
        core.run(move |shard, _, now_ms| {
            let arguments = |command: &mut Command<'_>| _ = command.int(1).arg(b"a").int(token as i64);
            shard.send_script(token, now_ms, b"a", &SCRIPTS[0], 3, arguments).unwrap();
        });
        core.until(|event| matches!(event, Event::Reply(of, Reply::Bytes(_)) if *of == token));
    };
    publish(0);
    assert_eq!(nodes.refused(), 0);
    nodes.tell(|state| state.owner = [(slot_of(b"a"), 1)].into());
    publish(1);
    assert_eq!((nodes.refused(), nodes.log()), (1, vec![(0, "a".into(), "0".into()), (1, "a".into(), "1".into())]));
}

/// Each connection that hears nothing, for every core and shard, counts against the clients that Redis takes.
#[test]
fn without_messages_there_is_no_connection_for_them() {
    let nodes = Nodes::start(2);
    for servers in [Arc::new(Servers::One(nodes.endpoint(0))), nodes.map(&[(0..=16383, 0)])] {
        let core = Core::start_deaf(servers);
        assert!(matches!(core.hear(), Event::Up(Use::Commands)));
        core.run(|shard, _, now_ms| (0..3).for_each(|n| assert!(set(shard, n, now_ms, "a", n))));
        hear_all(&core, 3);
        assert_eq!(core.ask(|shard, _, _| (shard.connections(), shard.is_up(Use::Messages))), (1, true));
    }
}

/// A slot on its way: what has arrived is asked for there, with permission; what is between the two is tried again.
#[test]
fn asked_and_tried_again() {
    let nodes = Nodes::start(2);
    nodes.tell(|state| {
        state.ask = [(slot_of(b"a"), 1)].into();
        state.try_again = 3;
    });
    let core = Core::start(nodes.map(&[(0..=16383, 0)]));
    core.hear_up(1);
    core.run(|shard, _, now_ms| (0..20).for_each(|n| assert!(set(shard, n, now_ms, "a", n))));
    assert!(matches!(core.hear(), Event::Up(Use::Commands)));
    hear_all(&core, 20);
    assert_eq!(nodes.log(), (0..20).map(|n| (1, "a".to_owned(), n.to_string())).collect::<Vec<_>>());
    assert_eq!(nodes.tell(|state| state.try_again), 0);
    nodes.tell(|state| state.ask.clear());
    core.run(|shard, _, now_ms| assert!(set(shard, 0, now_ms, "a", 7)));
    hear_all(&core, 1);
    assert_eq!(nodes.log().last(), Some(&(0, "a".to_owned(), "7".to_owned())), "the map has not changed");
}

/// Nodes that disagree, and answers that are no redirections, are errors for the caller, who hears of them soon.
#[test]
fn what_cannot_be_followed_goes_to_the_caller() {
    let nodes = Nodes::start(2);
    let core = Core::start(nodes.map(&[(0..=16383, 0)]));
    core.hear_up(1);
    let slot = slot_of(b"a");
    for answer in [
        format!("MOVED {slot} some.host:6379"),
        format!("MOVED {} 127.0.0.1:1", slot + 1),
        "MOVED".to_owned(),
        "ASK x".to_owned(),
        "CLUSTERDOWN The cluster is down".to_owned(),
        format!("MOVED {slot} :{}", nodes.port(0)),
    ] {
        let code = answer.split(' ').next().unwrap().to_owned();
        nodes.tell(|state| state.answer = Some(answer));
        core.run(|shard, _, now_ms| assert!(set(shard, 5, now_ms, "a", 0)));
        match core.hear() {
            Event::Reply(5, Reply::Error(error)) => assert_eq!(error.code(), code),
            other => panic!("{other:?}"),
        }
        assert!(core.ask(|shard, _, _| shard.takes_doubt()));
    }
    nodes.tell(|state| state.answer = None);
    core.run(|shard, _, now_ms| assert!(set(shard, 0, now_ms, "a", 0)));
    hear_all(&core, 1);
}

/// A node dies: what was on its way to it fails, its part of the cluster fails at once, all else goes on, and with a new
/// map everything does. Subscriptions were elsewhere and must not notice.
#[test]
fn a_lost_node_takes_only_its_own_with_it() {
    let nodes = Nodes::start(3);
    let halves = [(0..=8191, 0), (8192..=16383, 1)];
    let core = Core::start_with(nodes.map(&halves), 1);
    core.hear_up(2);
    assert!((slot_of(b"b"), slot_of(b"a")) < (8192, 16384) && slot_of(b"a") >= 8192);
    nodes.tell(|state| state.silent = Some(0));
    core.run(|shard, _, now_ms| {
        assert!(set(shard, 0, now_ms, "b", 0) && set(shard, 1, now_ms, "a", 1) && set(shard, 2, now_ms, "b", 2));
    });
    assert!(matches!(core.hear(), Event::Reply(1, _)));
    nodes.kill(0);
    let events = [core.hear(), core.hear(), core.hear()];
    assert!(
        matches!(events, [Event::Failed(0, true), Event::Failed(2, true), Event::Down(Use::Commands)]),
        "{events:?}"
    );
    assert!(core.ask(|shard, _, now_ms| {
        shard.takes_doubt()
            && !set(shard, 3, now_ms, "b", 0)
            && set(shard, 4, now_ms, "a", 0)
            && shard.is_up(Use::Messages)
            && !shard.is_up(Use::Commands)
    }));
    let mut events = core.until(|event| matches!(event, Event::Reply(4, _)));
    // It is tried again all the time, in vain.
    events.retain(|event| !matches!(event, Event::Down(Use::Commands)));
    assert_eq!(events.len(), 1, "{events:?}");
    let map = nodes.map(&[(0..=8191, 2), (8192..=16383, 1)]);
    core.run(move |shard, driver, now_ms| {
        shard.servers_are(driver, map, &mut |event| assert!(matches!(event, Event::Down(Use::Commands)), "{event:?}"));
        assert!(set(shard, 5, now_ms, "b", 5), "it waits for the new node");
    });
    let events = core.until(|event| matches!(event, Event::Reply(5, _)));
    assert!(events.iter().all(|event| !matches!(event, Event::Up(Use::Messages) | Event::Down(Use::Messages))));
    assert_eq!(nodes.log().last(), Some(&(2, "b".to_owned(), "5".to_owned())));
    assert!(core.ask(|shard, _, _| shard.is_up(Use::Commands)));
}

/// Messages come from one node. If that fails, or is none any more, another takes over, and the owner is told exactly once
/// each: by this it subscribes anew. What is under way to a node that is gone fails.
#[test]
fn messages_move_with_their_node() {
    let nodes = Nodes::start(3);
    let core = Core::start_with(nodes.map(&[(0..=8191, 0), (8192..=16383, 1)]), 0);
    core.hear_up(2);
    let subscribe = |token| {
        core.run(move |shard, _, now_ms| shard.subscribe(token, now_ms, &[b"news"]).unwrap());
        let mut events = core.until(|event| matches!(event, Event::Message(..)));
        events.retain(|event| !matches!(event, Event::Up(Use::Commands) | Event::Down(Use::Commands)));
        assert!(matches!(&events[..], [Event::Subscribed(_), Event::Reply(_, _), Event::Message(..)]), "{events:?}");
    };
    subscribe(0);
    assert_eq!(nodes.subscribed(), [0]);
    // A map without it, in which the other one stays.
    let map = nodes.map(&[(0..=8191, 2), (8192..=16383, 1)]);
    nodes.tell(|state| state.silent = Some(0));
    core.run(move |shard, driver, now_ms| {
        assert!(set(shard, 7, now_ms, "b", 0) && set(shard, 8, now_ms, "a", 0));
        let mut events = Vec::new();
        shard.servers_are(driver, map, &mut |event| events.push(format!("{event:?}")));
        assert_eq!(events, ["Failed(7, false)", "Down(Commands)", "Down(Messages)"]);
        assert!(shard.subscribe(9, now_ms, &[b"news"]).is_err());
    });
    let mut events: Vec<_> = (0..3).map(|_| format!("{:?}", core.hear())).collect();
    events.sort();
    assert_eq!(events, [r#"Reply(8, Bytes(b"OK"))"#, "Up(Commands)", "Up(Messages)"]);
    subscribe(1);
    let now_at = *nodes.subscribed().last().unwrap();
    assert_ne!(now_at, 0);
    // It fails.
    nodes.kill(now_at);
    let mut events = core.until(|event| matches!(event, Event::Up(Use::Messages)));
    events.retain(|event| matches!(event, Event::Up(Use::Messages) | Event::Down(Use::Messages)));
    assert!(matches!(events[..], [Event::Down(_), Event::Up(_)]), "{events:?}");
    subscribe(2);
    assert_ne!(nodes.subscribed().last(), Some(&now_at));
    // A map that is another one only in its slots.
    let map = nodes.map(&[(0..=16381, 3 - now_at), (16382..=16383, now_at)]);
    core.run(move |shard, driver, _| shard.servers_are(driver, map, &mut |event| panic!("{event:?}")));
    // And from a cluster to a single server.
    let single = std::sync::Arc::new(Servers::One(nodes.endpoint(3 - now_at)));
    core.run(move |shard, driver, _| shard.servers_are(driver, single, &mut |_| {}));
    core.until(|event| matches!(event, Event::Up(Use::Messages)));
    subscribe(3);
}
