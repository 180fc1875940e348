//! Who a connection is by a header of its handshake, and users who have one connection only, as transcripts (see `script`).

mod answers;
mod script;
mod world;

use gyre_engine::rules::{ChannelOptions, PersonalChannel, Rules};
use gyre_proto::Encoding;
use script::{check, check_asked};
use world::by_hand::{Client, Play};

const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.AAAA";

/// Runs a transcript in which `T7` and `T72` are the tokens of these users.
fn check_users(rules: fn() -> Rules, script: &str) {
    let script = script.replace("\"T7\"", &format!("\"{TOKEN}\""));
    check(rules, &script.replace("\"T72\"", r#""eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3MiJ9.AAAA""#));
}

/// No token, no proxy, nobody anonymous; what a connection brings with it.
fn strict() -> Rules {
    let mut rules = answers::rules();
    rules.proxies.connect = None;
    rules.client.allow_anonymous_connect_without_token = false;
    rules.client.personal_channel = Some(PersonalChannel { namespace: "own".to_owned(), single_connection: false });
    rules.namespaces.insert("own", ChannelOptions { presence: true, ..ChannelOptions::default() });
    rules
}

fn single() -> Rules {
    let mut rules = strict();
    rules.client.personal_channel = Some(PersonalChannel { namespace: "own".to_owned(), single_connection: true });
    rules
}

/// Sites whose trusted proxy knows the users could not connect; or their users would get what is for others: channels by
/// name, an expiry, another user's name.
#[test]
fn a_header_says_who_connects() {
    check_users(
        strict,
        r#"
        open a as 7
        a > {"id":1,"connect":{"subs":{"live:x":{},"nowhere:x":{}}}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        a > {"id":2,"subscribe":{"channel":"live:x"}}
        a < {"id":2,"subscribe":{}}
        open b
        b > {"id":1,"connect":{}}
        b x 3501 bad request
        disconnect 7
        a x 3503 force disconnect
    "#,
    );
}

/// A token that is bad must not be passed over, and one that is good says who it is.
#[test]
fn a_token_goes_before_the_header() {
    check_users(
        strict,
        r#"
        open a as 8
        a > {"id":1,"connect":{"token":"T7"}}
        a < {"id":1,"connect":{"client":"<a>","version":"test","subs":{"own:#7":{}}}}
        disconnect 8
        disconnect 7
        a x 3503 force disconnect
        open b as 8
        b > {"id":1,"connect":{"token":"x"}}
        b x 3500 invalid token
    "#,
    );
}

/// As above, with a backend; and with visitors who need no name, whom a header makes to nobody else.
#[test]
fn a_backend_and_anonymity_go_before_the_header() {
    let calls = r#"
        open a as 8
        a > {"id":1,"connect":{}}
        ? a 0 connect  /
        answer a user
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        disconnect 8
        disconnect 42
        a x 3503 force disconnect
        open b as 8
        b > {"id":1,"connect":{}}
        ? b 0 connect  /
        answer b disconnect
        b x 4501 go away
        open c as 8
        c > {"id":1,"connect":{}}\n{"id":2,"rpc":{"method":"m"}}
        ? c 0 connect  /
        answer c none
        c < {"id":1,"connect":{"client":"<c>","version":"test"}}
    "#;
    let by_header = "? c 5 rpc m by 8\ndisconnect 8\nc x 3503 force disconnect";
    check_asked(answers::strict_rules, answers::backend, &format!("{calls}\n{by_header}"));
    check_asked(answers::rules, answers::backend, &format!("{calls}\n? c 5 rpc m\ndisconnect 8"));
}

/// The second login of a user would leave the first one connected; or end it without saying that it must not come again.
#[test]
fn the_newest_connection_of_a_user_is_its_only_one() {
    check_users(
        single,
        r#"
        open a
        a > {"id":1,"connect":{"token":"T7"}}
        a < {"id":1,"connect":{"client":"<a>","version":"test","subs":{"own:#7":{}}}}
        open b
        b > {"id":1,"connect":{"token":"T7"}}\n{"id":2,"subscribe":{"channel":"live:x"}}
        a x 3504 connection limit
        b < {"id":1,"connect":{"client":"<b>","version":"test","subs":{"own:#7":{}}}}
        b < {"id":2,"subscribe":{}}
        open c
        c > {"id":1,"connect":{"token":"T7"}}
        b x 3504 connection limit
        c < {"id":1,"connect":{"client":"<c>","version":"test","subs":{"own:#7":{}}}}
        close c
        open d
        d > {"id":1,"connect":{"token":"T7"}}
        d < {"id":1,"connect":{"client":"<d>","version":"test","subs":{"own:#7":{}}}}
    "#,
    );
}

/// Presence is what counts: whoever is known by a header only is in no personal channel, and sends nobody away. Nor does a
/// connection that is not let in, or one of another user.
#[test]
fn who_sends_nobody_away() {
    check_users(
        single,
        r#"
        open a
        a > {"id":1,"connect":{"token":"T7"}}
        a < {"id":1,"connect":{"client":"<a>","version":"test","subs":{"own:#7":{}}}}
        open b as 7
        b > {"id":1,"connect":{}}
        b < {"id":1,"connect":{"client":"<b>","version":"test"}}
        open c
        c > {"id":1,"connect":{"token":"T7","subs":{"nowhere:x":{}}}}
        c x 3501 bad request
        open d
        d > {"id":1,"connect":{"token":"T72"}}
        d < {"id":1,"connect":{"client":"<d>","version":"test","subs":{"own:#72":{}}}}
        open e
        e > {"id":1,"connect":{"token":"T7"}}
        a x 3504 connection limit
        b x 3504 connection limit
        e < {"id":1,"connect":{"client":"<e>","version":"test","subs":{"own:#7":{}}}}
    "#,
    );
}

/// With a limit of one connection as well, the new one and the old one would both be refused, for good.
#[test]
fn the_seat_of_the_old_one_is_not_waited_for() {
    fn rules() -> Rules {
        let mut rules = single();
        rules.client.user_connection_limit = 1;
        rules
    }
    check_users(
        rules,
        r#"
        open a
        a > {"id":1,"connect":{"token":"T7"}}
        a < {"id":1,"connect":{"client":"<a>","version":"test","subs":{"own:#7":{}}}}
        open b
        b > {"id":1,"connect":{"token":"T7"}}
        a x 3504 connection limit
        b < {"id":1,"connect":{"client":"<b>","version":"test","subs":{"own:#7":{}}}}
        open c
        c > {"id":1,"connect":{"token":"T7"}}
        b x 3504 connection limit
        c < {"id":1,"connect":{"client":"<c>","version":"test","subs":{"own:#7":{}}}}
    "#,
    );
}

/// What happens while a connection waits: a store that fails closes it, to come again; one that goes leaves nothing behind.
#[test]
fn who_cannot_count_the_others_comes_again() {
    let begun = |cores| {
        let mut play = Play::with(2, cores, single());
        let conn = play.0.open(0, Encoding::Json);
        (play, (0, conn))
    };
    let connect = |play: &mut Play, client: Client| {
        play.say(client, &format!(r#"{{"id":1,"connect":{{"token":"{TOKEN}"}}}}"#));
    };
    for cores in [1, 2] {
        // The store does not count.
        let (mut play, a) = begun(cores);
        play.0.sites.iter_mut().for_each(|site| site.hands.has_store = false);
        connect(&mut play, a);
        play.0.settle();
        assert_eq!(play.told(a), ["closed 3004"]);
        // The other nodes cannot be told.
        let (mut play, a) = begun(cores);
        connect(&mut play, a);
        play.0.settle();
        assert_eq!(play.told(a).len(), 1);
        let b = (0, play.0.open(0, Encoding::Json));
        play.0.sites[0].hands.is_cut_off = true;
        connect(&mut play, b);
        play.0.settle();
        assert_eq!(play.told(b), ["closed 3004"]);
        assert!(play.told(a).is_empty(), "thrown out for nothing");
        // It goes while it waits.
        let (mut play, a) = begun(cores);
        connect(&mut play, a);
        play.gone(a);
        play.0.settle();
        assert!(play.told(a).is_empty());
        play.assert_empty();
    }
}
