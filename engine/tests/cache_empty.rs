//! The backend that is asked when a cache is empty, as transcripts (see `script`; pro-features.md section 3).

mod caches;
mod script;
mod world;

use caches::{backend, rules};
use gyre_engine::backend::ProxyId;
use gyre_engine::rules::{ChannelOptions, ChannelProxies, RecoveryMode};
use script::check_asked;

/// The backend gets to know once that its state is wanted, and the client that waits for it gets it once.
#[test]
fn the_backend_fills_the_cache() {
    check_asked(
        rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        a > {"id":2,"subscribe":{"channel":"ask:x","recover":true}}
        ? a 4 cache_empty ask:x
        publish ask:x {"n":1}
        = 1 E1
        answer a populated
        a < {"id":2,"subscribe":{"recoverable":true,"epoch":"E1","publications":[{"data":{"n":1},"offset":1}],"recovered":true,"positioned":true,"was_recovering":true}}
        publish ask:x {"n":2}
        a < {"push":{"channel":"ask:x","pub":{"data":{"n":2},"offset":2}}}
        = 2 E1
        open b
        b > {"id":1,"connect":{}}
        b < {"id":1,"connect":{"client":"<b>","version":"test"}}
        b > {"id":2,"subscribe":{"channel":"ask:x","recover":true}}
        b < {"id":2,"subscribe":{"recoverable":true,"epoch":"E1","publications":[{"data":{"n":2},"offset":2}],"recovered":true,"positioned":true,"was_recovering":true}}
        a > {"id":3,"presence_stats":{"channel":"ask:x"}}
        a < {"id":3,"presence_stats":{"num_clients":2,"num_users":1}}
        close a
        b > {"id":3,"presence_stats":{"channel":"ask:x"}}
        b < {"id":3,"presence_stats":{"num_clients":1,"num_users":1}}
    "#,
    );
}

/// A backend that has nothing to say is no error, and it is not asked again and again.
#[test]
fn a_cache_that_stays_empty() {
    check_asked(
        rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        a > {"id":2,"subscribe":{"channel":"ask:x","recover":true}}\n{"id":3,"presence_stats":{"channel":"ask:x"}}
        ? a 4 cache_empty ask:x
        answer a not
        a < {"id":2,"subscribe":{"recoverable":true,"epoch":"E1","positioned":true,"was_recovering":true}}
        a < {"id":3,"presence_stats":{"num_clients":1,"num_users":1}}
        open b
        b > {"id":1,"connect":{}}
        b < {"id":1,"connect":{"client":"<b>","version":"test"}}
        b > {"id":2,"subscribe":{"channel":"ask:x","recover":true,"flag":2}}
        ? b 4 cache_empty ask:x
        answer b populated
        b < {"id":2,"subscribe":{"recoverable":true,"epoch":"E1","positioned":true,"was_recovering":true}}
        publish ask:x {"n":1}
        a < {"push":{"channel":"ask:x","pub":{"data":{"n":1},"offset":1,"epoch":"E1"}}}
        b < {"push":{"channel":"ask:x","pub":{"data":{"n":1},"offset":1,"epoch":"E1"}}}
        = 1 E1
        open c
        c > {"id":1,"connect":{}}
        c < {"id":1,"connect":{"client":"<c>","version":"test"}}
        c > {"id":2,"subscribe":{"channel":"ask:y","recover":true}}
        ? c 4 cache_empty ask:y
        publish ask:y {"n":2}
        = 1 E2
        answer c not
        c < {"id":2,"subscribe":{"recoverable":true,"epoch":"E2","publications":[{"data":{"n":2},"offset":1}],"recovered":true,"positioned":true,"was_recovering":true}}
        publish ask:y {"n":3}
        c < {"push":{"channel":"ask:y","pub":{"data":{"n":3},"offset":2}}}
        = 2 E2
    "#,
    );
}

/// The client tries again by itself; it must not be left in a channel whose state it does not know.
#[test]
fn a_backend_that_cannot_be_asked_is_an_error_for_now() {
    check_asked(
        rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        a > {"id":2,"subscribe":{"channel":"ask:x","recover":true}}\n{"id":3,"presence_stats":{"channel":"ask:x"}}
        ? a 4 cache_empty ask:x
        answer a fails
        a < {"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}
        a < {"id":3,"presence_stats":{"num_clients":0,"num_users":0}}
        a > {"id":4,"subscribe":{"channel":"ask:x","recover":true}}
        ? a 4 cache_empty ask:x
        answer a refuses
        a < {"id":4,"error":{"code":100,"message":"internal server error","temporary":true}}
        a > {"id":5,"subscribe":{"channel":"ask:x","recover":true}}
        ? a 4 cache_empty ask:x
        answer a closes
        a < {"id":5,"error":{"code":100,"message":"internal server error","temporary":true}}
        publish ask:x {"n":1}
        = 1 E1
        a > {"id":6,"subscribe":{"channel":"ask:x","recover":true}}
        a < {"id":6,"subscribe":{"recoverable":true,"epoch":"E1","publications":[{"data":{"n":1},"offset":1}],"recovered":true,"positioned":true,"was_recovering":true}}
        a > {"id":7,"presence_stats":{"channel":"ask:x"}}
        a < {"id":7,"presence_stats":{"num_clients":1,"num_users":1}}
    "#,
    );
}

/// Each question costs the backend a look at its database.
#[test]
fn the_backend_is_asked_only_when_the_cache_is_empty_and_wanted() {
    check_asked(
        rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        a > {"id":2,"subscribe":{"channel":"ask:x"}}
        a < {"id":2,"subscribe":{"recoverable":true,"epoch":"E1","positioned":true}}
        a > {"id":3,"subscribe":{"channel":"cache:x","recover":true}}
        a < {"id":3,"subscribe":{"recoverable":true,"epoch":"E2","positioned":true,"was_recovering":true}}
        a > {"id":4,"subscribe":{"channel":"stream:x","recover":true}}
        a < {"id":4,"subscribe":{"recoverable":true,"epoch":"E3","recovered":true,"positioned":true,"was_recovering":true}}
        a > {"id":5,"subscribe":{"channel":"plain:x","recover":true}}
        a < {"id":5,"subscribe":{"was_recovering":true}}
        a > {"id":6,"subscribe":{"channel":"plain:y","recoverable":true,"recover":true}}
        a < {"id":6,"subscribe":{"recoverable":true,"epoch":"E4","positioned":true,"was_recovering":true}}
        publish ask:y {"n":1}
        = 1 E5
        a > {"id":7,"subscribe":{"channel":"ask:y","recover":true}}
        a < {"id":7,"subscribe":{"recoverable":true,"epoch":"E5","publications":[{"data":{"n":1},"offset":1}],"recovered":true,"positioned":true,"was_recovering":true}}
        a > {"id":8,"subscribe":{"channel":"askauto:x"}}
        ? a 4 cache_empty askauto:x
        answer a not
        a < {"id":8,"subscribe":{"recoverable":true,"epoch":"E6","positioned":true,"was_recovering":true}}
        subscribe  ask:z
        a < {"push":{"channel":"ask:z","subscribe":{"recoverable":true,"epoch":"E7","positioned":true}}}
        subscribe  askauto:z
        ? a 4 cache_empty askauto:z
        publish askauto:z {"n":2}
        = 1 E8
        answer a populated
        a < {"push":{"channel":"askauto:z","subscribe":{"recoverable":true,"epoch":"E8","positioned":true}}}
        a < {"push":{"channel":"askauto:z","pub":{"data":{"n":2},"offset":1}}}
        subscribe  askauto:w
        ? a 4 cache_empty askauto:w
        answer a fails
        = failed
        publish askauto:w {"n":3}
        = 1 E9
    "#,
    );
}

/// A client that has what has expired meanwhile is told that it has it; the backend may know better.
#[test]
fn a_client_that_has_the_state_keeps_it() {
    check_asked(
        rules,
        backend,
        r#"
        publish brief:x {"n":1}
        = 1 E1
        wait 3s
        open a
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        a > {"id":2,"subscribe":{"channel":"brief:x","recover":true,"offset":1,"epoch":"E1"}}
        ? a 4 cache_empty brief:x
        answer a not
        a < {"id":2,"subscribe":{"recoverable":true,"epoch":"E1","recovered":true,"offset":1,"positioned":true,"was_recovering":true}}
        a > {"id":3,"unsubscribe":{"channel":"brief:x"}}
        a < {"id":3,"unsubscribe":{}}
        a > {"id":4,"subscribe":{"channel":"brief:x","recover":true,"offset":1,"epoch":"E1"}}
        ? a 4 cache_empty brief:x
        publish brief:x {"n":2}
        = 2 E1
        answer a populated
        a < {"id":4,"subscribe":{"recoverable":true,"epoch":"E1","publications":[{"data":{"n":2},"offset":2}],"recovered":true,"offset":1,"positioned":true,"was_recovering":true}}
        publish brief:x {"n":3}
        a < {"push":{"channel":"brief:x","pub":{"data":{"n":3},"offset":3}}}
        = 3 E1
    "#,
    );
}

/// Clients of one direction have their channels from the connect on; all backends are asked at the same time.
#[test]
fn channels_of_a_connect_are_asked_for_together() {
    check_asked(
        rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{"subs":{"askauto:x":{},"askauto:y":{}}}}\n{"id":2,"unsubscribe":{"channel":"none"}}
        ? a 4 cache_empty askauto:x
        ? a 4 cache_empty askauto:y
        publish askauto:x {"n":1}
        = 1 E1
        answer a/askauto:x populated
        answer a/askauto:y not
        a < {"id":1,"connect":{"client":"<a>","version":"test","subs":{"askauto:x":{"recoverable":true,"epoch":"E1","publications":[{"data":{"n":1},"offset":1}],"recovered":true,"positioned":true,"was_recovering":true},"askauto:y":{"recoverable":true,"epoch":"E2","positioned":true,"was_recovering":true}}}}
        a < {"id":2,"unsubscribe":{}}
        publish askauto:x {"n":2}
        a < {"push":{"channel":"askauto:x","pub":{"data":{"n":2},"offset":2}}}
        = 2 E1
        publish askauto:y {"n":3}
        a < {"push":{"channel":"askauto:y","pub":{"data":{"n":3},"offset":1,"epoch":"E2"}}}
        = 1 E2
        open b
        b > {"id":1,"connect":{"subs":{"askauto:p":{},"askauto:q":{},"ask:r":{}}}}\n{"id":2,"publish":{"channel":"cache:x","data":1}}
        ? b 4 cache_empty askauto:p
        ? b 4 cache_empty askauto:q
        answer b/askauto:p fails
        b < {"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}
        answer b/askauto:q populated
        subscribe  ask:s
        a < {"push":{"channel":"ask:s","subscribe":{"recoverable":true,"epoch":"E3","positioned":true}}}
        publish askauto:p {"n":4}
        = 1 E4
        b > {"id":3,"publish":{"channel":"cache:x","data":1}}
        wait 6s
        b x 3000 connection closed
    "#,
    );
}

/// A backend that takes its time would close those whom it, or their token, has let in; they come back, and it again.
#[test]
fn a_connection_that_waits_for_the_backend_is_not_stale() {
    check_asked(
        || {
            let mut rules = rules();
            rules.client.ping_interval_ms = 20_000;
            rules
        },
        backend,
        r#"
        open a
        a > {"id":1,"connect":{"subs":{"askauto:x":{}}}}
        ? a 4 cache_empty askauto:x
        open b
        b > {"id":1,"connect":{"subs":{"askauto:y":{}}}}
        ? b 4 cache_empty askauto:y
        wait 11s
        answer a not
        a < {"id":1,"connect":{"client":"<a>","version":"test","subs":{"askauto:x":{"recoverable":true,"epoch":"E1","positioned":true,"was_recovering":true}},"ping":20,"pong":true}}
        answer b fails
        b < {"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}
        wait 6s
        b x 3000 connection closed
    "#,
    );
}

/// What the server API does to a connection that waits must not be forgotten, and nothing may stay of one that goes.
#[test]
fn who_goes_or_is_taken_away_meanwhile() {
    check_asked(
        rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        a > {"id":2,"subscribe":{"channel":"ask:x","recover":true}}
        ? a 4 cache_empty ask:x
        unsubscribe  ask:x
        answer a not
        a < {"id":2,"subscribe":{"recoverable":true,"epoch":"E1","positioned":true,"was_recovering":true}}
        a < {"push":{"channel":"ask:x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
        a > {"id":3,"subscribe":{"channel":"ask:x","recover":true}}
        ? a 4 cache_empty ask:x
        open b
        b > {"id":1,"connect":{}}
        b < {"id":1,"connect":{"client":"<b>","version":"test"}}
        close a
        answer a populated
        b > {"id":2,"presence_stats":{"channel":"ask:x"}}
        b < {"id":2,"presence_stats":{"num_clients":0,"num_users":0}}
        b > {"id":3,"subscribe":{"channel":"ask:x","recover":true}}
        ? b 4 cache_empty ask:x
        disconnect
        b x 3503 force disconnect
        answer b populated
    "#,
    );
}

/// The backend that lets a client in says which of its channels come with their state; others have no say in that.
#[test]
fn a_backend_may_ask_for_the_latest_publication() {
    check_asked(
        || {
            let mut rules = rules();
            rules.proxies.connect = Some(ProxyId(1));
            rules
        },
        backend,
        r#"
        publish stream:x {"n":2}
        = 1 E1
        open a
        a > {"id":1,"connect":{}}
        ? a 1 connect  /
        answer a latest
        ? a 4 cache_empty ask:x
        publish ask:x {"n":3}
        = 1 E2
        answer a populated
        a < {"id":1,"connect":{"client":"<a>","version":"test","subs":{"stream:x":{"recoverable":true,"epoch":"E1","offset":1,"positioned":true},"ask:x":{"recoverable":true,"epoch":"E2","publications":[{"data":{"n":3},"offset":1}],"recovered":true,"positioned":true,"was_recovering":true}}}}
        publish ask:x {"n":4}
        a < {"push":{"channel":"ask:x","pub":{"data":{"n":4},"offset":2}}}
        = 2 E2
    "#,
    );
}

/// Who may subscribe is asked before the state of the channel is; what waits behind is done after both.
#[test]
fn a_subscription_that_the_backend_allows() {
    check_asked(
        || {
            let mut rules = rules();
            let cache_empty = Some(ProxyId(4));
            let subscribe = Some(ProxyId(2));
            let proxies = ChannelProxies { subscribe, cache_empty, ..ChannelProxies::default() };
            let options = ChannelOptions {
                recovery_mode: RecoveryMode::Cache,
                auto_cache_recover: true,
                force_recovery: true,
                history_size: 1,
                history_ttl_s: 60,
                proxies,
                ..ChannelOptions::default()
            };
            rules.namespaces.insert("both", options);
            rules
        },
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        a > {"id":2,"subscribe":{"channel":"both:x"}}\n{"id":3,"presence_stats":{"channel":"ask:x"}}
        ? a 2 subscribe both:x
        unsubscribe  both:x
        answer a allowed
        ? a 4 cache_empty both:x
        publish both:x {"n":1}
        = 1 E1
        answer a populated
        a < {"id":2,"subscribe":{"recoverable":true,"epoch":"E1","publications":[{"data":{"n":1},"offset":1}],"recovered":true,"positioned":true,"was_recovering":true}}
        a < {"push":{"channel":"both:x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
        a < {"id":3,"presence_stats":{"num_clients":0,"num_users":0}}
        a > {"id":4,"subscribe":{"channel":"both:y"}}
        ? a 2 subscribe both:y
        answer a allowed
        ? a 4 cache_empty both:y
        answer a fails
        a < {"id":4,"error":{"code":100,"message":"internal server error","temporary":true}}
    "#,
    );
}
