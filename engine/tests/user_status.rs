//! User status: who is written down as online and how often, and the call that says that a user is active.

mod world;

use base64::Engine as _;
use gyre_engine::rules::Rules;
use gyre_engine::token::{TokenOptions, Verifier, Verifiers};
use gyre_proto::Encoding;
use gyre_proto::ids::ConnId;
use world::World;

/// Of the usual presence tick.
const INTERVAL_MS: u64 = 27_000;

/// Some home cores are here, some are others.
const USERS: [&str; 4] = ["1", "2", "3", "a user with a longer name"];

fn rules() -> Rules {
    let options = TokenOptions { insecure_skip_signature_verify: true, ..TokenOptions::default() };
    let mut rules = Rules {
        tokens: Verifiers { connection: Verifier::new(options).expect("no patterns"), subscription: None },
        ..Rules::default()
    };
    rules.client.ping_interval_ms = 0;
    rules.rpc.has_user_status = true;
    rules
}

fn come(world: &mut World, core: usize, user: &str) -> ConnId {
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let token = format!("{}.{}.AA", encode(r#"{"alg":"HS256"}"#), encode(&format!(r#"{{"sub":"{user}"}}"#)));
    let conn = world.open(core, Encoding::Json);
    say(world, core, conn, &format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
    world.settle();
    world.sites[core].hands.said.clear();
    conn
}

fn say(world: &mut World, core: usize, conn: ConnId, text: &str) {
    world.on(core, |engine, hands| engine.receive(conn, text.as_bytes(), hands));
}

/// What a connection was told since it was asked last.
fn told(world: &mut World, core: usize, conn: ConnId) -> Vec<String> {
    let said = world.sites[core].hands.said.remove(&conn.index).unwrap_or_default();
    said.into_iter().map(|message| String::from_utf8(message).expect("JSON")).collect()
}

/// Users who were renewed since this was asked last, on whichever core, in order of their names.
fn renewed(world: &mut World) -> Vec<String> {
    let mut users: Vec<String> =
        world.sites.iter_mut().flat_map(|site| site.hands.online.drain(..)).map(|(user, _)| user).collect();
    users.sort();
    users
}

/// The answer to the oldest call on a core.
fn stored(world: &mut World, core: usize, ok: bool) {
    let (asker, ..) = world.sites[core].hands.active.remove(0);
    world.on(core, |engine, hands| engine.user_status_updated(asker, ok, hands));
}

/// Somebody who just came would look offline for half a minute, and one who stays would look as if he had left; a user with
/// many tabs must not cost one write for each.
#[test]
fn online_is_written_at_connect_and_once_in_an_interval() {
    let mut world = World::new(3, rules(), 1);
    let mut conns = Vec::new();
    for round in 0..6 {
        conns.extend(USERS.iter().map(|user| (round % 3, come(&mut world, round % 3, user))));
    }
    assert_eq!(renewed(&mut world), USERS, "once at the first connect");
    for _ in 0..3 {
        world.wait(INTERVAL_MS);
        assert_eq!(renewed(&mut world), USERS);
    }
    let mut last = 0;
    for (core, conn) in conns.drain(1..) {
        world.on(core, |engine, hands| engine.closed(conn, hands));
    }
    world.wait(INTERVAL_MS);
    for site in &world.sites {
        last = last.max(site.hands.online.iter().map(|(_, now_s)| *now_s).max().unwrap_or_default());
    }
    assert!(world.now.unix_ms / 1000 - last <= 27, "with the time of the write");
    assert_eq!(renewed(&mut world), ["1"], "the others have left");
}

/// The anonymous would share one status, and nobody asked for any of this while it is off.
#[test]
fn neither_the_anonymous_nor_while_it_is_off() {
    let mut world = World::new(1, rules(), 1);
    let conn = come(&mut world, 0, "");
    world.wait(2 * INTERVAL_MS);
    assert!(renewed(&mut world).is_empty());
    say(&mut world, 0, conn, r#"{"id":2,"rpc":{"method":"update_user_status"}}"#);
    assert_eq!(told(&mut world, 0, conn), [r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#]);

    let mut off = rules();
    off.rpc.has_user_status = false;
    let mut world = World::new(1, off, 1);
    let conn = come(&mut world, 0, "1");
    world.wait(2 * INTERVAL_MS);
    assert!(renewed(&mut world).is_empty());
    say(&mut world, 0, conn, r#"{"id":2,"rpc":{"method":"update_user_status"}}"#);
    assert_eq!(told(&mut world, 0, conn), [r#"{"id":2,"error":{"code":108,"message":"not available"}}"#]);
}

/// The client would go on before its status is kept, or hear nothing; commands behind the call keep their place.
#[test]
fn a_call_is_answered_when_the_status_is_kept() {
    let mut world = World::new(1, rules(), 1);
    let conn = come(&mut world, 0, "42");
    say(&mut world, 0, conn, r#"{"id":2,"rpc":{"method":"update_user_status","data":{"any":1}}}"#);
    say(&mut world, 0, conn, r#"{"id":3,"presence":{"channel":"c"}}"#);
    assert!(told(&mut world, 0, conn).is_empty());
    let asked = &world.sites[0].hands.active;
    assert_eq!(asked.iter().map(|(_, user, now_s)| (&**user, *now_s)).collect::<Vec<_>>(), [("42", 1_700_000_000)]);
    stored(&mut world, 0, true);
    let told_now = told(&mut world, 0, conn);
    assert_eq!(told_now[0], r#"{"id":2,"rpc":{"data":{}}}"#);
    assert!(told_now[1].contains(r#""id":3"#), "{told_now:?}");
}

/// A client would take a lost update for a kept one, or wait for ever.
#[test]
fn a_store_that_cannot_be_reached_is_an_internal_error() {
    let internal =
        |id: u32| format!(r#"{{"id":{id},"error":{{"code":100,"message":"internal server error","temporary":true}}}}"#);
    let mut world = World::new(1, rules(), 1);
    let conn = come(&mut world, 0, "42");
    say(&mut world, 0, conn, r#"{"id":2,"rpc":{"method":"update_user_status"}}"#);
    stored(&mut world, 0, false);
    assert_eq!(told(&mut world, 0, conn), [internal(2)]);
    world.sites[0].hands.has_lost_status = true;
    say(&mut world, 0, conn, r#"{"id":3,"rpc":{"method":"update_user_status"}}"#);
    assert_eq!(told(&mut world, 0, conn), [internal(3)]);
    world.sites[0].hands.has_lost_status = false;
    say(&mut world, 0, conn, r#"{"id":4,"rpc":{"method":"update_user_status"}}"#);
    world.on(0, |engine, hands| engine.closed(conn, hands));
    stored(&mut world, 0, true);
    assert!(told(&mut world, 0, conn).is_empty(), "an answer for somebody who has gone");
}
