//! Channels of which only the latest publication matters, as transcripts (see `script`; client-protocol.md section 10).

mod caches;
mod script;
mod world;

use caches::{backend, rules};
use gyre_engine::{Act, ActWhat, SubscribeAct, SurveyReply};
use gyre_proto::Encoding;
use script::check_asked;
use world::World;

/// A client that shows the state of something needs the state, not how it came about, and not what it shows already.
#[test]
fn only_the_latest_is_handed_over() {
    check_asked(
        rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        publish cache:x {"n":1}
        = 1 E1
        publish cache:x {"n":2}
        = 2 E1
        a > {"id":2,"subscribe":{"channel":"cache:x","recover":true}}
        a < {"id":2,"subscribe":{"recoverable":true,"epoch":"E1","publications":[{"data":{"n":2},"offset":2}],"recovered":true,"positioned":true,"was_recovering":true}}
        publish cache:x {"n":3}
        a < {"push":{"channel":"cache:x","pub":{"data":{"n":3},"offset":3}}}
        = 3 E1
        a > {"id":3,"unsubscribe":{"channel":"cache:x"}}
        a < {"id":3,"unsubscribe":{}}
        a > {"id":4,"subscribe":{"channel":"cache:x","recover":true,"offset":3,"epoch":"E1"}}
        a < {"id":4,"subscribe":{"recoverable":true,"epoch":"E1","recovered":true,"offset":3,"positioned":true,"was_recovering":true}}
        a > {"id":5,"unsubscribe":{"channel":"cache:x"}}
        a < {"id":5,"unsubscribe":{}}
        publish cache:x {"n":4}
        = 4 E1
        publish cache:x {"n":5}
        = 5 E1
        publish cache:x {"n":6}
        = 6 E1
        publish cache:x {"n":7}
        = 7 E1
        publish cache:x {"n":8}
        = 8 E1
        a > {"id":6,"subscribe":{"channel":"cache:x","recover":true,"offset":3,"epoch":"E1"}}
        a < {"id":6,"subscribe":{"recoverable":true,"epoch":"E1","publications":[{"data":{"n":8},"offset":8}],"recovered":true,"offset":3,"positioned":true,"was_recovering":true}}
        a > {"id":7,"unsubscribe":{"channel":"cache:x"}}
        a < {"id":7,"unsubscribe":{}}
        a > {"id":8,"subscribe":{"channel":"cache:x","recover":true,"offset":8,"epoch":"other"}}
        a < {"id":8,"subscribe":{"recoverable":true,"epoch":"E1","publications":[{"data":{"n":8},"offset":8}],"recovered":true,"offset":8,"positioned":true,"was_recovering":true}}
        a > {"id":9,"unsubscribe":{"channel":"cache:x"}}
        a < {"id":9,"unsubscribe":{}}
        a > {"id":10,"subscribe":{"channel":"cache:x"}}
        a < {"id":10,"subscribe":{"recoverable":true,"epoch":"E1","offset":8,"positioned":true}}
        a > {"id":11,"unsubscribe":{"channel":"cache:x"}}
        a < {"id":11,"unsubscribe":{}}
        a > {"id":12,"subscribe":{"channel":"cache:x","recover":true,"offset":18446744073709551615,"epoch":"E1"}}
        a < {"id":12,"subscribe":{"recoverable":true,"epoch":"E1","publications":[{"data":{"n":8},"offset":8}],"recovered":true,"offset":18446744073709551615,"positioned":true,"was_recovering":true}}
    "#,
    );
}

/// A backend that calls the server API before it answers would wait for itself until both have failed.
#[test]
fn the_server_api_waits_for_no_backend() {
    let subscribe = |world: &mut World, channel: &str| {
        let what = ActWhat::Subscribe(SubscribeAct { channel: channel.into(), ..SubscribeAct::default() });
        let act = Act { user: "".into(), client: "".into(), whitelist: Vec::new(), what };
        let call = world.api_act(0, act.into());
        world.settle();
        let said = std::mem::take(&mut world.sites[0].hands.surveyed);
        said.iter().any(|(answered, reply)| *answered == call && matches!(reply, SurveyReply::Done(true)))
    };
    for connect in [r#"{"id":1,"connect":{"subs":{"askauto:x":{}}}}"#, r#"{"id":1,"connect":{}}"#] {
        let mut world = World::new(1, rules(), 7);
        let conn = world.open(0, Encoding::Json);
        world.on(0, |engine, hands| engine.receive(conn, connect.as_bytes(), hands));
        let is_by_server = world.sites[0].hands.backend_calls.is_empty();
        if is_by_server {
            assert!(!subscribe(&mut world, "askauto:x"), "not through with it");
        }
        let (asker, _) = world.sites[0].hands.backend_calls.pop().expect("a question");
        assert!(subscribe(&mut world, "cache:y"), "{connect}");
        world.on(0, |engine, hands| engine.backend_answered(asker, backend("not", 0), hands));
        world.settle();
        assert_eq!(world.sites[0].hands.surveyed.len(), usize::from(is_by_server));
        assert_eq!(world.sites[0].engine.counts().subscriptions, 2, "it is done all the same");
    }
}

/// An old state must not pass for the current one, and there is no error for it: the client asks its application.
#[test]
fn an_empty_cache_is_not_recovered_and_no_error() {
    check_asked(
        rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        a > {"id":2,"subscribe":{"channel":"cache:x","recover":true,"flag":2}}
        a < {"id":2,"subscribe":{"recoverable":true,"epoch":"E1","positioned":true,"was_recovering":true}}
        a > {"id":3,"unsubscribe":{"channel":"cache:x"}}
        a < {"id":3,"unsubscribe":{}}
        publish cache:x {"n":1}
        = 1 E1
        history_remove cache:x
        = Some(Done)
        a > {"id":4,"subscribe":{"channel":"cache:x","recover":true,"flag":2}}
        a < {"id":4,"subscribe":{"recoverable":true,"epoch":"E1","offset":1,"positioned":true,"was_recovering":true}}
        a > {"id":5,"unsubscribe":{"channel":"cache:x"}}
        a < {"id":5,"unsubscribe":{}}
        a > {"id":6,"subscribe":{"channel":"cache:x","recover":true,"offset":1,"epoch":"E1","flag":2}}
        a < {"id":6,"subscribe":{"recoverable":true,"epoch":"E1","recovered":true,"offset":1,"positioned":true,"was_recovering":true}}
        a > {"id":7,"unsubscribe":{"channel":"cache:x"}}
        a < {"id":7,"unsubscribe":{}}
        a > {"id":8,"subscribe":{"channel":"cache:x","recover":true,"offset":1,"epoch":"other"}}
        a < {"id":8,"subscribe":{"recoverable":true,"epoch":"E1","offset":1,"positioned":true,"was_recovering":true}}
        a > {"id":9,"unsubscribe":{"channel":"cache:x"}}
        a < {"id":9,"unsubscribe":{}}
        publish cache:x {"n":2}
        = 2 E1
        a > {"id":10,"subscribe":{"channel":"cache:x","recover":true,"offset":1,"epoch":"other","flag":2}}
        a < {"id":10,"subscribe":{"recoverable":true,"epoch":"E1","publications":[{"data":{"n":2},"offset":2}],"recovered":true,"offset":1,"positioned":true,"was_recovering":true}}
        publish cache:x {"n":3}
        a < {"push":{"channel":"cache:x","pub":{"data":{"n":3},"offset":3}}}
        = 3 E1
    "#,
    );
}

/// Clients that cannot ask (of one direction, or put into the channel by the server) get the state all the same.
#[test]
fn automatic_recovery_needs_no_request() {
    check_asked(
        rules,
        backend,
        r#"
        publish auto:x {"n":1}
        = 1 E1
        publish auto:x {"n":2}
        = 2 E1
        open a
        a > {"id":1,"connect":{"subs":{"auto:x":{}}}}
        a < {"id":1,"connect":{"client":"<a>","version":"test","subs":{"auto:x":{"recoverable":true,"epoch":"E1","publications":[{"data":{"n":2},"offset":2}],"recovered":true,"positioned":true,"was_recovering":true}}}}
        a > {"id":2,"subscribe":{"channel":"auto:z"}}
        a < {"id":2,"subscribe":{"recoverable":true,"epoch":"E2","positioned":true,"was_recovering":true}}
        publish auto:x {"n":3}
        a < {"push":{"channel":"auto:x","pub":{"data":{"n":3},"offset":3}}}
        = 3 E1
        open b
        b > {"id":1,"connect":{"subs":{"auto:x":{"recover":true,"offset":3,"epoch":"E1"}}}}
        b < {"id":1,"connect":{"client":"<b>","version":"test","subs":{"auto:x":{"recoverable":true,"epoch":"E1","recovered":true,"offset":3,"positioned":true,"was_recovering":true}}}}
        open c
        c > {"id":1,"connect":{}}
        c < {"id":1,"connect":{"client":"<c>","version":"test"}}
        c > {"id":2,"subscribe":{"channel":"auto:x"}}
        c < {"id":2,"subscribe":{"recoverable":true,"epoch":"E1","publications":[{"data":{"n":3},"offset":3}],"recovered":true,"positioned":true,"was_recovering":true}}
        publish auto:x {"n":4}
        a < {"push":{"channel":"auto:x","pub":{"data":{"n":4},"offset":4}}}
        b < {"push":{"channel":"auto:x","pub":{"data":{"n":4},"offset":4}}}
        c < {"push":{"channel":"auto:x","pub":{"data":{"n":4},"offset":4}}}
        = 4 E1
        open d
        d > {"id":1,"connect":{"subs":{"auto:y":{}}}}
        d < {"id":1,"connect":{"client":"<d>","version":"test","subs":{"auto:y":{"recoverable":true,"epoch":"E3","positioned":true,"was_recovering":true}}}}
        close d
        open e
        e > {"id":1,"connect":{"subs":{"cache:x":{}}}}
        e < {"id":1,"connect":{"client":"<e>","version":"test","subs":{"cache:x":{"recoverable":true,"epoch":"E4","positioned":true}}}}
        close e
        unsubscribe  auto:x
        a < {"push":{"channel":"auto:x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
        b < {"push":{"channel":"auto:x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
        c < {"push":{"channel":"auto:x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
        subscribe  auto:x
        a < {"push":{"channel":"auto:x","subscribe":{"recoverable":true,"epoch":"E1","positioned":true}}}
        a < {"push":{"channel":"auto:x","pub":{"data":{"n":4},"offset":4}}}
        b < {"push":{"channel":"auto:x","subscribe":{"recoverable":true,"epoch":"E1","positioned":true}}}
        b < {"push":{"channel":"auto:x","pub":{"data":{"n":4},"offset":4}}}
        c < {"push":{"channel":"auto:x","subscribe":{"recoverable":true,"epoch":"E1","positioned":true}}}
        c < {"push":{"channel":"auto:x","pub":{"data":{"n":4},"offset":4}}}
        subscribe  cache:x since:0:
        a < {"push":{"channel":"cache:x","subscribe":{"recoverable":true,"epoch":"E4","positioned":true}}}
        b < {"push":{"channel":"cache:x","subscribe":{"recoverable":true,"epoch":"E4","positioned":true}}}
        c < {"push":{"channel":"cache:x","subscribe":{"recoverable":true,"epoch":"E4","positioned":true}}}
        publish auto:x {"n":5}
        a < {"push":{"channel":"auto:x","pub":{"data":{"n":5},"offset":5}}}
        b < {"push":{"channel":"auto:x","pub":{"data":{"n":5},"offset":5}}}
        c < {"push":{"channel":"auto:x","pub":{"data":{"n":5},"offset":5}}}
        = 5 E1
    "#,
    );
}

/// Busy channels beside one whose backend is slow would fill the memory of the node, as fast as they are published to.
#[test]
fn what_is_kept_back_for_a_connect_is_bounded() {
    check_asked(
        || {
            let mut rules = rules();
            rules.client.queue_max_size = 150;
            rules
        },
        backend,
        r#"
        open a
        a > {"id":1,"connect":{"subs":{"askauto:x":{},"auto:y":{}}}}
        ? a 4 cache_empty askauto:x
        publish auto:y {"n":1}
        = 1 E1
        publish auto:y {"n":2}
        a x 3008 slow
        = 2 E1
        answer a not
    "#,
    );
}
