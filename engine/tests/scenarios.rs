//! What clients and backends can rely on, as transcripts (see `script`).

mod script;
mod world;

use gyre_engine::rules::{ChannelOptions, Rules};
use script::check;

fn open_rules() -> Rules {
    let mut rules = Rules::default();
    rules.client.allow_anonymous_connect_without_token = true;
    rules.client.insecure = true;
    let mut add = |name: &str, options: ChannelOptions| {
        rules.namespaces.insert(name, options);
    };
    let history = ChannelOptions { history_size: 3, history_ttl_s: 60, ..ChannelOptions::default() };
    add("live", ChannelOptions::default());
    add("kept", ChannelOptions { force_recovery: true, ..history.clone() });
    add(
        "room",
        ChannelOptions { presence: true, join_leave: true, force_push_join_leave: true, ..ChannelOptions::default() },
    );
    add("brief", ChannelOptions { force_recovery: true, history_ttl_s: 2, history_meta_ttl_s: 4, ..history });
    rules
}

/// Without it nobody gets a message at all.
#[test]
fn a_publication_reaches_its_subscribers_in_their_encoding() {
    check(
        open_rules,
        r#"
        open a
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test","ping":25,"pong":true}}
        a > {"id":2,"subscribe":{"channel":"live:x"}}
        a < {"id":2,"subscribe":{}}
        publish live:x {"n":1}
        a < {"push":{"channel":"live:x","pub":{"data":{"n":1}}}}
        = 0
        a > {"id":3,"publish":{"channel":"live:x","data":"hi"}}
        a < {"push":{"channel":"live:x","pub":{"data":"hi","info":{"user":"","client":"<a>"}}}}
        a < {"id":3,"publish":{}}
        a > {"id":4,"unsubscribe":{"channel":"live:x"}}
        a < {"id":4,"unsubscribe":{}}
        publish live:x {"n":2}
        = 0
    "#,
    );
}

/// SDKs send connect and every subscribe in one frame; order of the replies is what they rely on.
#[test]
fn commands_of_one_frame_are_answered_in_order() {
    check(
        open_rules,
        r#"
        open a
        a > {"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"live:x"}}\n{"id":3,"subscribe":{"channel":"live:y"}}\n{"id":4,"subscribe":{"channel":"live:x"}}
        a < {"id":1,"connect":{"client":"<a>","version":"test","ping":25,"pong":true}}
        a < {"id":2,"subscribe":{}}
        a < {"id":3,"subscribe":{}}
        a < {"id":4,"error":{"code":105,"message":"already subscribed"}}
    "#,
    );
}

/// A client that was away must get exactly what it missed, or be told that it cannot.
#[test]
fn recovery_is_whole_or_refused() {
    check(
        open_rules,
        r#"
        open a
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test","ping":25,"pong":true}}
        a > {"id":2,"subscribe":{"channel":"kept:x"}}
        a < {"id":2,"subscribe":{"recoverable":true,"epoch":"E1","positioned":true}}
        publish kept:x {"n":1}
        a < {"push":{"channel":"kept:x","pub":{"data":{"n":1},"offset":1,"epoch":"E1"}}}
        = 1 E1
        a > {"id":3,"unsubscribe":{"channel":"kept:x"}}
        a < {"id":3,"unsubscribe":{}}
        publish kept:x {"n":2}
        = 2 E1
        publish kept:x {"n":3}
        = 3 E1
        a > {"id":4,"subscribe":{"channel":"kept:x","recover":true,"offset":1,"epoch":"E1"}}
        a < {"id":4,"subscribe":{"recoverable":true,"epoch":"E1","publications":[{"data":{"n":2},"offset":2},{"data":{"n":3},"offset":3}],"recovered":true,"offset":1,"positioned":true,"was_recovering":true}}
        publish kept:x {"n":4}
        a < {"push":{"channel":"kept:x","pub":{"data":{"n":4},"offset":4}}}
        = 4 E1
        a > {"id":5,"unsubscribe":{"channel":"kept:x"}}
        a < {"id":5,"unsubscribe":{}}
        a > {"id":6,"subscribe":{"channel":"kept:x","recover":true,"offset":0,"epoch":"E1"}}
        a < {"id":6,"subscribe":{"recoverable":true,"epoch":"E1","offset":4,"positioned":true,"was_recovering":true}}
        a > {"id":7,"unsubscribe":{"channel":"kept:x"}}
        a < {"id":7,"unsubscribe":{}}
        a > {"id":8,"subscribe":{"channel":"kept:x","recover":true,"epoch":"E1","flag":2}}
        a < {"id":8,"error":{"code":112,"message":"unrecoverable position"}}
        history_remove kept:x
        = Some(Done)
        a > {"id":9,"subscribe":{"channel":"kept:x","recover":true,"offset":4,"epoch":"E1"}}
        a < {"id":9,"subscribe":{"recoverable":true,"epoch":"E1","recovered":true,"offset":4,"positioned":true,"was_recovering":true}}
    "#,
    );
}

/// Otherwise somebody sits in a room that nobody sees, or is seen in one that was left.
#[test]
fn presence_and_join_leave_follow_the_members() {
    check(
        open_rules,
        r#"
        open a
        a > {"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room:x"}}
        a < {"id":1,"connect":{"client":"<a>","version":"test","ping":25,"pong":true}}
        a < {"id":2,"subscribe":{}}
        a < {"push":{"channel":"room:x","join":{"info":{"user":"","client":"<a>"}}}}
        open b
        b > {"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room:x"}}
        a < {"push":{"channel":"room:x","join":{"info":{"user":"","client":"<b>"}}}}
        b < {"id":1,"connect":{"client":"<b>","version":"test","ping":25,"pong":true}}
        b < {"id":2,"subscribe":{}}
        b < {"push":{"channel":"room:x","join":{"info":{"user":"","client":"<b>"}}}}
        a > {"id":3,"presence_stats":{"channel":"room:x"}}
        a < {"id":3,"presence_stats":{"num_clients":2,"num_users":1}}
        close b
        a < {"push":{"channel":"room:x","leave":{"info":{"user":"","client":"<b>"}}}}
        a > {"id":4,"presence":{"channel":"room:x"}}
        a < {"id":4,"presence":{"presence":{"<a>":{"user":"","client":"<a>"}}}}
    "#,
    );
}

/// A connection that is of no use must not stay, and one that is must not go.
#[test]
fn time_runs_out_for_the_silent() {
    check(
        open_rules,
        r#"
        open a
        wait 9s
        wait 1s
        a x 3502 stale
        open b
        b > {"id":1,"connect":{}}
        b < {"id":1,"connect":{"client":"<b>","version":"test","ping":25,"pong":true}}
        wait 12s
        wait 13s
        b < {}
        b > {}
        b > {}
        b x 3501 bad request
        open c
        c > {"id":1,"connect":{}}
        c < {"id":1,"connect":{"client":"<c>","version":"test","ping":25,"pong":true}}
        wait 34s
        c < {}
        c x 3012 no pong
    "#,
    );
}

/// A stream that is no longer the one a subscriber holds a position in must not go on as if nothing had happened.
#[test]
fn a_new_epoch_sends_positioned_subscribers_back() {
    check(
        open_rules,
        r#"
        open a
        a > {"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"brief:x"}}
        a < {"id":1,"connect":{"client":"<a>","version":"test","ping":25,"pong":true}}
        a < {"id":2,"subscribe":{"recoverable":true,"epoch":"E1","positioned":true}}
        wait 5s
        publish brief:x {}
        a < {"push":{"channel":"brief:x","unsubscribe":{"code":2500,"reason":"insufficient state"}}}
        = 1 E2
    "#,
    );
}

#[test]
fn the_server_ends_subscriptions_and_connections() {
    check(
        open_rules,
        r#"
        open a
        a > {"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"live:x"}}
        a < {"id":1,"connect":{"client":"<a>","version":"test","ping":25,"pong":true}}
        a < {"id":2,"subscribe":{}}
        unsubscribe  live:x
        a < {"push":{"channel":"live:x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
        publish live:x {}
        = 0
        disconnect  
        a x 3503 force disconnect
    "#,
    );
}

/// A JSON client cannot be shown bytes; it must not cost the others their message.
#[test]
fn what_is_no_json_ends_json_clients_only() {
    check(
        open_rules,
        r#"
        open a
        a > {"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"live:x"}}
        a < {"id":1,"connect":{"client":"<a>","version":"test","ping":25,"pong":true}}
        a < {"id":2,"subscribe":{}}
        publish! live:x {broken
        a x 3506 inappropriate protocol
        = 0
    "#,
    );
}

#[test]
fn refusals() {
    check(
        open_rules,
        r#"
        open a
        a > {"id":1,"subscribe":{"channel":"x"}}
        a x 3501 bad request
        open b
        b > not json
        b x 3501 bad request
        open c
        c > {"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"nope:x"}}\n{"id":3,"rpc":{"method":"m"}}\n{"id":4,"history":{"channel":"live:x"}}\n{"id":5,"presence":{"channel":"live:x"}}\n{"id":6,"subscribe":{"channel":"$live:x"}}\n{"id":7,"connect":{}}
        c < {"id":1,"connect":{"client":"<c>","version":"test","ping":25,"pong":true}}
        c < {"id":2,"error":{"code":102,"message":"unknown channel"}}
        c < {"id":3,"error":{"code":108,"message":"not available"}}
        c < {"id":4,"error":{"code":108,"message":"not available"}}
        c < {"id":5,"error":{"code":108,"message":"not available"}}
        c < {"id":6,"error":{"code":103,"message":"permission denied"}}
        c x 3501 bad request
    "#,
    );
}
