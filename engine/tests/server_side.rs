//! What the server API gives to connected clients: channels and expiry, as transcripts (see `script`).

mod script;
mod world;

use gyre_engine::rules::{ChannelOptions, Rules};
use script::check;

fn rules() -> Rules {
    let mut rules = Rules::default();
    rules.client.allow_anonymous_connect_without_token = true;
    rules.client.ping_interval_ms = 0;
    rules.client.channel_limit = 2;
    let mut add = |name: &str, options: ChannelOptions| {
        rules.namespaces.insert(name, options);
    };
    let history = ChannelOptions { history_size: 3, history_ttl_s: 60, ..ChannelOptions::default() };
    add(
        "live",
        ChannelOptions {
            allow_subscribe_for_client: true,
            allow_subscribe_for_anonymous: true,
            ..ChannelOptions::default()
        },
    );
    add("kept", ChannelOptions { force_recovery: true, ..history.clone() });
    add("plain", history.clone());
    add("brief", ChannelOptions { force_positioning: true, history_ttl_s: 2, history_meta_ttl_s: 4, ..history });
    add(
        "room",
        ChannelOptions {
            presence: true,
            join_leave: true,
            force_push_join_leave: true,
            allow_presence_for_subscriber: true,
            allow_presence_for_anonymous: true,
            ..ChannelOptions::default()
        },
    );
    rules
}

/// Backends put connected users into channels: without the push the SDK drops what is published there.
#[test]
fn a_subscribe_push_precedes_the_publications() {
    check(
        rules,
        r#"
        open a
        open b
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        subscribe  live:x data:{"n":0}
        a < {"push":{"channel":"live:x","subscribe":{"data":{"n":0}}}}
        publish live:x {"n":1}
        a < {"push":{"channel":"live:x","pub":{"data":{"n":1}}}}
        = 0
        subscribe  live:x data:{"n":9}
        a > {"id":2,"subscribe":{"channel":"live:x"}}
        a < {"id":2,"error":{"code":105,"message":"already subscribed"}}
        unsubscribe  live:x
        a < {"push":{"channel":"live:x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
        publish live:x {"n":2}
        = 0
        subscribe nobody live:x
        a > {"id":3,"subscribe":{"channel":"live:y"}}
        a < {"id":3,"subscribe":{}}
        subscribe  live:y
        publish live:y {"n":3}
        a < {"push":{"channel":"live:y","pub":{"data":{"n":3}}}}
        = 0
    "#,
    );
}

/// A client that loses its place must connect anew: the SDK recovers server-side subscriptions in `connect` only.
#[test]
fn positions_are_kept_and_lost_ones_end_the_connection() {
    check(
        rules,
        r#"
        open a
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        publish kept:x {"n":1}
        = 1 E1
        publish kept:x {"n":2}
        = 2 E1
        subscribe  kept:x since:1:E1
        a < {"push":{"channel":"kept:x","subscribe":{"recoverable":true,"epoch":"E1","offset":1,"positioned":true}}}
        a < {"push":{"channel":"kept:x","pub":{"data":{"n":2},"offset":2}}}
        publish kept:x {"n":3}
        a < {"push":{"channel":"kept:x","pub":{"data":{"n":3},"offset":3}}}
        = 3 E1
        unsubscribe  kept:x
        a < {"push":{"channel":"kept:x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
        subscribe  kept:x since:1:other
        a < {"push":{"channel":"kept:x","subscribe":{"recoverable":true,"epoch":"E1","offset":3,"positioned":true}}}
        subscribe  brief:x
        a < {"push":{"channel":"brief:x","subscribe":{"epoch":"E2","positioned":true}}}
        wait 70s
        a x 3010 insufficient state
    "#,
    );
}

/// The call may say other than the namespace what the subscription is for.
#[test]
fn options_of_the_call_override_the_namespace() {
    check(
        rules,
        r#"
        open a
        open b
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        subscribe  plain:x
        a < {"push":{"channel":"plain:x","subscribe":{}}}
        unsubscribe  plain:x
        a < {"push":{"channel":"plain:x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
        subscribe  plain:x force_recovery=true
        a < {"push":{"channel":"plain:x","subscribe":{"recoverable":true,"epoch":"E1","positioned":true}}}
        subscribe  room:x info:{"seat":1}
        a < {"push":{"channel":"room:x","subscribe":{}}}
        a < {"push":{"channel":"room:x","join":{"info":{"user":"","client":"<a>","chan_info":{"seat":1}}}}}
        a > {"id":2,"presence":{"channel":"room:x"}}
        a < {"id":2,"presence":{"presence":{"<a>":{"user":"","client":"<a>","chan_info":{"seat":1}}}}}
        b > {"id":1,"connect":{}}
        b < {"id":1,"connect":{"client":"<b>","version":"test"}}
        subscribe  room:x presence=false join_leave=false force_push_join_leave=false
        b < {"push":{"channel":"room:x","subscribe":{}}}
        b > {"id":2,"presence_stats":{"channel":"room:x"}}
        b < {"id":2,"presence_stats":{"num_clients":1,"num_users":1}}
        unsubscribe  room:x
        a < {"push":{"channel":"room:x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
        b < {"push":{"channel":"room:x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
    "#,
    );
}

/// A backend must learn that a call did nothing, and no client may hold more channels than the operator allows.
#[test]
fn what_cannot_be_given_is_refused() {
    check(
        rules,
        r#"
        subscribe  live:x expire:-5s
        open a
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        subscribe  live:x expire:-5s
        = failed
        subscribe  none:x
        = failed
        subscribe  live:x
        a < {"push":{"channel":"live:x","subscribe":{}}}
        subscribe  live:y
        a < {"push":{"channel":"live:y","subscribe":{}}}
        subscribe  live:y
        subscribe  live:z
        a x 3505 channel limit
    "#,
    );
}

/// A subscription that is not prolonged must not outlive what it was paid for.
#[test]
fn a_subscription_expires_with_its_connection() {
    check(
        rules,
        r#"
        open a
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        subscribe  live:x expire:+5s
        a < {"push":{"channel":"live:x","subscribe":{}}}
        wait 26s
        wait 29s
        a x 3006 subscription expired
    "#,
    );
}

/// Backends prolong, end and lift the expiry of connections; a push tells the client.
#[test]
fn a_refresh_moves_the_expiry_of_a_connection() {
    check(
        rules,
        r#"
        open a
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        subscribe  room:x
        a < {"push":{"channel":"room:x","subscribe":{}}}
        a < {"push":{"channel":"room:x","join":{"info":{"user":"","client":"<a>"}}}}
        refresh  +5s {"plan":"free"}
        a < {"push":{"refresh":{"expires":true,"ttl":5}}}
        a > {"id":2,"presence":{"channel":"room:x"}}
        a < {"id":2,"presence":{"presence":{"<a>":{"user":"","client":"<a>","conn_info":{"plan":"free"}}}}}
        wait 20s
        refresh  never {"plan":"other"}
        a < {"push":{"refresh":{}}}
        a > {"id":3,"presence":{"channel":"room:x"}}
        a < {"id":3,"presence":{"presence":{"<a>":{"user":"","client":"<a>","conn_info":{"plan":"free"}}}}}
        wait 60s
        refresh  +5s
        a < {"push":{"refresh":{"expires":true,"ttl":5}}}
        wait 29s
        wait 2s
        a x 3005 connection expired
        open b
        b > {"id":1,"connect":{}}
        b < {"id":1,"connect":{"client":"<b>","version":"test"}}
        refresh  expired
        b x 3005 connection expired
        open c
        c > {"id":1,"connect":{}}
        c < {"id":1,"connect":{"client":"<c>","version":"test"}}
        refresh  +99999999999s
        c < {"push":{"refresh":{"expires":true,"ttl":31536000}}}
        refresh  +-1s
        c x 3005 connection expired
    "#,
    );
}
