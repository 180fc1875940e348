//! `user_connection_limit` over several cores whose rings deliver late: never more connections of a user than allowed,
//! and never a seat that does not come back.

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use fastrand::Rng;
use gyre_engine::Message;
use gyre_engine::rules::{ChannelOptions, PersonalChannel, Rules};
use gyre_engine::token::{TokenOptions, Verifier, Verifiers};
use gyre_proto::Encoding;
use gyre_proto::ids::ConnId;
use world::World;

const LIMIT: usize = 2;
const USERS: [&str; 4] = ["1", "2", "3", "a user with a longer name"];

fn rules(limit: usize) -> Rules {
    let options = TokenOptions { insecure_skip_signature_verify: true, ..TokenOptions::default() };
    let mut rules = Rules {
        tokens: Verifiers { connection: Verifier::new(options).expect("no patterns"), subscription: None },
        ..Rules::default()
    };
    rules.client.user_connection_limit = limit;
    rules.client.personal_channel = Some(Default::default());
    rules.client.channel_limit = 8;
    rules.without_namespace = ChannelOptions { presence: true, ..ChannelOptions::default() };
    rules
}

fn connect(user: &str) -> String {
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let token = format!("{}.{}.AA", encode(r#"{"alg":"HS256"}"#), encode(&format!(r#"{{"sub":"{user}"}}"#)));
    format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#)
}

struct Club {
    world: World,
    /// Connections that have not ended: core and user.
    open: BTreeMap<u32, (usize, ConnId, &'static str)>,
}

impl Club {
    fn new(cores: u16, seed: u64) -> Self {
        Self::with(cores, rules(LIMIT), seed)
    }

    fn with(cores: u16, rules: Rules, seed: u64) -> Self {
        Self { world: World::new(cores, rules, seed), open: BTreeMap::new() }
    }

    fn come(&mut self, core: usize, user: &'static str) -> ConnId {
        let conn = self.world.open(core, Encoding::Json);
        self.open.insert(conn.index, (core, conn, user));
        self.world.on(core, |engine, hands| engine.receive(conn, connect(user).as_bytes(), hands));
        conn
    }

    fn go(&mut self, index: u32) {
        if let Some((core, conn, _)) = self.open.remove(&index) {
            self.world.on(core, |engine, hands| engine.closed(conn, hands));
        }
    }

    /// Who is in, by user, when some have been let in and ended with 3504 later.
    fn remaining(&mut self) -> BTreeMap<&'static str, usize> {
        let sites = &self.world.sites;
        self.open.retain(|index, (core, _, _)| match sites[*core].hands.closed.get(index) {
            Some(why) if why.code == 3504 => false,
            Some(why) => panic!("{index} was closed with {why:?}"),
            None => true,
        });
        let mut remaining = BTreeMap::new();
        self.open.values().for_each(|(_, _, user)| *remaining.entry(*user).or_default() += 1);
        remaining
    }

    /// Who is in, by user. Those who were refused are shown the door with 3504 and nothing else.
    fn inside(&mut self) -> BTreeMap<&'static str, usize> {
        let mut inside = BTreeMap::new();
        for (index, (core, _, user)) in self.open.clone() {
            let hands = &self.world.sites[core].hands;
            let said = hands.said.get(&index).map_or(0, Vec::len);
            if let Some(why) = hands.closed.get(&index) {
                assert_eq!((why.code, said), (3504, 0), "{index}");
                self.open.remove(&index);
            } else if said > 0 {
                *inside.entry(user).or_default() += 1;
            }
        }
        inside
    }
}

/// A third phone gets in although two are the limit, or a user is locked out for good: either shows for some order of
/// arrivals, ends and messages.
#[test]
fn never_too_many_and_never_lost() {
    for seed in 0..300 {
        let mut rng = Rng::with_seed(seed);
        let cores = rng.u16(1..5);
        let mut club = Club::new(cores, seed);
        for _ in 0..rng.usize(20..200) {
            let busy = club.world.busy_rings();
            match rng.u32(..10) {
                0..3 => _ = club.come(rng.usize(..usize::from(cores)), USERS[rng.usize(..USERS.len())]),
                3 => {
                    let indexes: Vec<u32> = club.open.keys().copied().collect();
                    if let Some(index) = rng.choice(indexes) {
                        club.go(index);
                    }
                }
                _ => {
                    if let Some((from, to)) = rng.choice(busy) {
                        club.world.step(from, to);
                    }
                }
            }
            for (user, count) in club.inside() {
                assert!(count <= LIMIT, "seed {seed}: {count} connections of {user}");
            }
        }
        club.world.settle();
        club.inside();
        for index in club.open.keys().copied().collect::<Vec<_>>() {
            club.go(index);
        }
        club.world.settle();
        for user in USERS {
            for _ in 0..LIMIT + 1 {
                club.come(rng.usize(..usize::from(cores)), user);
                club.world.settle();
            }
            assert_eq!(club.inside().get(user), Some(&LIMIT), "seed {seed}: {user} has lost seats, or won some");
        }
    }
}

/// Two logins at one moment must not end each other, with 3504, after which SDKs do not come back; nor may a seat get lost.
#[test]
fn who_replaces_others_is_not_replaced_by_them() {
    for seed in 0..600 {
        let mut rng = Rng::with_seed(seed);
        let cores = rng.u16(1..5);
        let mut rules = rules(if rng.bool() { 1 } else { usize::MAX });
        rules.client.personal_channel = Some(PersonalChannel { single_connection: true, ..PersonalChannel::default() });
        let mut club = Club::with(cores, rules, seed);
        for _ in 0..rng.usize(10..60) {
            let busy = club.world.busy_rings();
            if rng.u32(..8) == 0 {
                club.come(rng.usize(..usize::from(cores)), USERS[rng.usize(..2)]);
            } else if let Some((from, to)) = rng.choice(busy) {
                club.world.step(from, to);
            }
        }
        let came: BTreeMap<u32, &str> = club.open.iter().map(|(index, (_, _, user))| (*index, *user)).collect();
        club.world.settle();
        for (index, user) in came {
            assert!(
                club.remaining().contains_key(user),
                "seed {seed}: nobody is left of {user}, who came with {index}"
            );
        }
        // One after the other there is one.
        for user in &USERS[..2] {
            for _ in 0..3 {
                club.come(rng.usize(..usize::from(cores)), user);
                club.world.settle();
                assert_eq!(club.remaining()[user], 1, "seed {seed}: {user}");
            }
        }
        for index in club.open.keys().copied().collect::<Vec<_>>() {
            club.go(index);
        }
        club.world.settle();
        club.come(0, USERS[0]);
        club.world.settle();
        assert_eq!(club.remaining()[USERS[0]], 1, "seed {seed}: a seat was lost");
    }
}

/// Visitors without a name share one name: a limit on it would lock them all out.
#[test]
fn the_anonymous_user_is_exempt() {
    let mut club = Club::new(3, 1);
    for core in [0, 1, 2, 0, 1] {
        club.come(core, "");
    }
    club.world.settle();
    assert_eq!(club.inside()[""], 5);
}

/// Commands sent right behind connect, as SDKs do, must not be lost or overtake it while the seat is asked for.
#[test]
fn what_comes_behind_connect_waits_for_the_seat() {
    let mut club = Club::new(4, 1);
    for core in 0..4 {
        let conn = club.world.open(core, Encoding::Json);
        let frame = format!("{}\n{{\"id\":2,\"rpc\":{{}}}}\n{{\"id\":3,\"rpc\":{{}}}}", connect("1"));
        club.world.on(core, |engine, hands| engine.receive(conn, frame.as_bytes(), hands));
        club.world.settle();
        let hands = &club.world.sites[core].hands;
        let said: Vec<&[u8]> = hands.said.get(&conn.index).into_iter().flatten().map(|m| &m[..8]).collect();
        match core < LIMIT {
            true => assert_eq!(said, [b"{\"id\":1,", b"{\"id\":2,", b"{\"id\":3,"]),
            false => assert_eq!((said.len(), hands.closed[&conn.index].code), (0, 3504)),
        }
    }
}

/// A reload that changes, removes or sets the limit holds for the next connection, and those who are in stay.
#[test]
fn the_limit_can_be_changed_at_run_time() {
    let mut club = Club::new(3, 1);
    let reload = |club: &mut Club, limit| {
        let rules = Arc::new(rules(limit));
        for core in 0..3 {
            club.world.on(core, |engine, hands| engine.message(Message::Rules(Arc::clone(&rules)), hands));
        }
    };
    let come = |club: &mut Club, count: usize| {
        for core in 0..count {
            club.come(core % 3, "1");
            club.world.settle();
        }
        club.inside().get("1").copied().unwrap_or_default()
    };
    assert_eq!(come(&mut club, 4), 2);
    reload(&mut club, 3);
    assert_eq!(come(&mut club, 3), 3);
    reload(&mut club, usize::MAX);
    assert_eq!(come(&mut club, 3), 6);
    reload(&mut club, 1);
    assert_eq!(come(&mut club, 3), 6);
    for index in club.open.keys().copied().collect::<Vec<_>>() {
        club.go(index);
    }
    club.world.settle();
    assert_eq!(come(&mut club, 3), 1);
}
