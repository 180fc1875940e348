//! What clients get when the application's backend decides over channels, as transcripts (see `script`): every row of
//! proxies.md 4.3, 4.4, 4.5 and 6 that the engine has a part in.

mod answers;
mod script;
mod world;

use answers::{backend, rules};
use script::check_asked;

/// Only the backend says who may have the channel, and how; a wish of the client must not get it more.
#[test]
fn the_backend_grants_channels() {
    check_asked(
        rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}
        ? a 0 connect  /
        answer a user
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        a > {"id":2,"subscribe":{"channel":"ask:x","data":{"q":1},"positioned":true}}\n{"id":3,"subscribe":{"channel":"ask:x"}}
        ? a 2 subscribe ask:x {"q":1} by 42
        answer a granted
        a < {"id":2,"subscribe":{"data":{"d":1}}}
        a < {"id":3,"error":{"code":105,"message":"already subscribed"}}
        a > {"id":4,"presence":{"channel":"ask:x"}}
        a < {"id":4,"presence":{"presence":{"<a>":{"user":"42","client":"<a>","chan_info":{"c":1}}}}}
        a > {"id":5,"subscribe":{"channel":"once:x","positioned":true}}
        ? a 2 subscribe once:x by 42
        answer a granted
        a < {"id":5,"subscribe":{"expires":true,"ttl":10,"data":{"d":1}}}
        a > {"id":6,"subscribe":{"channel":"ask:y"}}
        ? a 2 subscribe ask:y by 42
        answer a positioned
        a < {"id":6,"subscribe":{"epoch":"E1","positioned":true}}
        a > {"id":7,"subscribe":{"channel":"ask:z","positioned":true}}
        ? a 2 subscribe ask:z by 42
        answer a none
        a < {"id":7,"subscribe":{}}
        a > {"id":8,"subscribe":{"channel":"ask:#42"}}
        a < {"id":8,"subscribe":{}}
        a > {"id":9,"subscribe":{"channel":"ask:#43"}}
        a < {"id":9,"error":{"code":103,"message":"permission denied"}}
        a > {"id":10,"subscribe":{"channel":"$ask:x"}}
        a < {"id":10,"error":{"code":103,"message":"permission denied"}}
        a > {"id":11,"subscribe":{"channel":"ask:w"}}
        ? a 2 subscribe ask:w by 42
        answer a error
        a < {"id":11,"error":{"code":1000,"message":"no luck","temporary":true}}
        a > {"id":12,"subscribe":{"channel":"ask:w"}}
        ? a 2 subscribe ask:w by 42
        answer a failed
        a < {"id":12,"error":{"code":100,"message":"internal server error","temporary":true}}
        a > {"id":13,"subscribe":{"channel":"ask:w"}}
        ? a 2 subscribe ask:w by 42
        answer a granted-past
        a < {"id":13,"error":{"code":110,"message":"expired"}}
        a > {"id":14,"sub_refresh":{"channel":"ask:x","token":"x.y.z"}}
        a x 3501 bad request
        open b
        b > {"id":1,"connect":{}}
        ? b 0 connect  /
        answer b user
        b < {"id":1,"connect":{"client":"<b>","version":"test"}}
        b > {"id":2,"subscribe":{"channel":"ask:w"}}
        ? b 2 subscribe ask:w by 42
        answer b disconnect
        b x 4501 go away
    "#,
    );
}

/// A connection that goes, or loses the channel, while its backend thinks must leave nothing behind and be told the rest.
#[test]
fn what_happens_while_a_backend_thinks() {
    check_asked(
        rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}
        ? a 0 connect  /
        answer a user
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        a > {"id":2,"subscribe":{"channel":"ask:x"}}\n{"id":3,"rpc":{"method":"ping"}}
        ? a 2 subscribe ask:x by 42
        unsubscribe 42 ask:x
        answer a none
        a < {"id":2,"subscribe":{}}
        a < {"push":{"channel":"ask:x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
        a < {"id":3,"rpc":{}}
        a > {"id":4,"subscribe":{"channel":"ask:x"}}
        ? a 2 subscribe ask:x by 42
        subscribe 42 ask:x
        answer a none
        a < {"id":4,"subscribe":{}}
        a > {"id":5,"unsubscribe":{"channel":"ask:x"}}
        a < {"id":5,"unsubscribe":{}}
        a > {"id":6,"subscribe":{"channel":"ask:x"}}
        ? a 2 subscribe ask:x by 42
        subscribe 42 ask:x data:1
        answer a error
        a < {"id":6,"error":{"code":1000,"message":"no luck","temporary":true}}
        a < {"push":{"channel":"ask:x","subscribe":{"data":1}}}
        a > {"id":7,"subscribe":{"channel":"ask:y"}}
        ? a 2 subscribe ask:y by 42
        close a
        answer a none
        open b
        b > {"id":1,"connect":{}}
        ? b 0 connect  /
        answer b user
        b < {"id":1,"connect":{"client":"<b>","version":"test"}}
        b > {"id":2,"rpc":{"method":"m"}}
        ? b 5 rpc m by 42
        disconnect 42
        b x 3503 force disconnect
        answer b said
    "#,
    );
}

/// The backend decides over publishing alone: what the rules would forbid, it may allow, and change on the way.
#[test]
fn the_backend_decides_over_publications() {
    check_asked(
        rules,
        backend,
        r#"
        open a protobuf
        open b
        b > {"id":1,"connect":{}}
        ? b 0 connect  /
        answer b user
        b < {"id":1,"connect":{"client":"<b>","version":"test"}}
        b > {"id":2,"subscribe":{"channel":"ask:x"}}
        ? b 2 subscribe ask:x by 42
        answer b positioned
        b < {"id":2,"subscribe":{"epoch":"E1","positioned":true}}
        b > {"id":3,"publish":{"channel":"ask:x","data":{"n":1}}}\n{"id":4,"publish":{"channel":"live:x","data":1}}
        ? b 3 publish ask:x {"n":1} by 42
        answer b none
        b < {"push":{"channel":"ask:x","pub":{"data":{"n":1},"info":{"user":"42","client":"<b>"},"offset":1,"epoch":"E1"}}}
        b < {"id":3,"publish":{}}
        b < {"id":4,"error":{"code":103,"message":"permission denied"}}
        b > {"id":5,"publish":{"channel":"ask:x","data":{"n":2}}}
        ? b 3 publish ask:x {"n":2} by 42
        answer b null
        b < {"push":{"channel":"ask:x","pub":{"data":null,"info":{"user":"42","client":"<b>"},"offset":2}}}
        b < {"id":5,"publish":{}}
        b > {"id":6,"publish":{"channel":"ask:x","data":{"n":3}}}
        ? b 3 publish ask:x {"n":3} by 42
        answer b once
        b < {"push":{"channel":"ask:x","pub":{"data":{"n":3},"info":{"user":"42","client":"<b>"},"offset":3}}}
        b < {"id":6,"publish":{}}
        b > {"id":7,"publish":{"channel":"ask:x","data":{"n":4}}}
        ? b 3 publish ask:x {"n":4} by 42
        answer b once
        b < {"id":7,"publish":{}}
        b > {"id":8,"publish":{"channel":"ask:x","data":{"n":5}}}
        ? b 3 publish ask:x {"n":5} by 42
        answer b v5
        b < {"push":{"channel":"ask:x","pub":{"data":{"n":5},"info":{"user":"42","client":"<b>"},"offset":4,"version":5}}}
        b < {"id":8,"publish":{}}
        b > {"id":9,"publish":{"channel":"ask:x","data":{"n":6}}}
        ? b 3 publish ask:x {"n":6} by 42
        answer b v5
        b < {"id":9,"publish":{}}
        b > {"id":10,"publish":{"channel":"ask:x","data":{"n":7}}}
        ? b 3 publish ask:x {"n":7} by 42
        answer b error
        b < {"id":10,"error":{"code":1000,"message":"no luck","temporary":true}}
        b > {"id":11,"publish":{"channel":"ask:x","data":{"n":8}}}
        ? b 3 publish ask:x {"n":8} by 42
        answer b failed
        b < {"id":11,"error":{"code":100,"message":"internal server error","temporary":true}}
        b > {"id":12,"publish":{"channel":"ask:x"}}
        b < {"id":12,"error":{"code":107,"message":"bad request"}}
        b > {"id":13,"publish":{"channel":"ask:q","data":{"n":9}}}
        ? b 3 publish ask:q {"n":9} by 42
        answer b other
        b < {"id":13,"publish":{}}
        b > {"id":14,"publish":{"channel":"ask:x","data":{"n":10}}}
        ? b 3 publish ask:x {"n":10} by 42
        answer b other
        b x 3506 inappropriate protocol
        open c
        c > {"id":1,"connect":{}}
        ? c 0 connect  /
        answer c user
        c < {"id":1,"connect":{"client":"<c>","version":"test"}}
        c > {"id":2,"publish":{"channel":"ask:x","data":{"n":11}}}
        ? c 3 publish ask:x {"n":11} by 42
        answer c disconnect
        c x 4501 go away
    "#,
    );
}

/// A subscription that the backend prolongs must stay, one that it lets go must end where the client hears of it.
#[test]
fn the_backend_prolongs_subscriptions() {
    check_asked(
        rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}
        ? a 0 connect  /
        answer a user
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        a > {"id":2,"subscribe":{"channel":"ask:x"}}\n{"id":3,"subscribe":{"channel":"ask:y"}}\n{"id":4,"subscribe":{"channel":"ask:z"}}
        ? a 2 subscribe ask:x by 42
        answer a granted
        a < {"id":2,"subscribe":{"data":{"d":1}}}
        ? a 2 subscribe ask:y by 42
        answer a granted
        a < {"id":3,"subscribe":{"data":{"d":1}}}
        ? a 2 subscribe ask:z by 42
        answer a granted
        a < {"id":4,"subscribe":{"data":{"d":1}}}
        wait 54s
        ? a 4 sub_refresh ask:x by 42
        ? a 4 sub_refresh ask:y by 42
        ? a 4 sub_refresh ask:z by 42
        a > {"id":5,"rpc":{"method":"m"}}
        ? a 5 rpc m by 42
        answer a sub-on
        answer a sub-zero
        answer a failed
        answer a said
        a < {"id":5,"rpc":{"data":{"r":1}}}
        a > {"id":6,"presence":{"channel":"ask:x"}}
        a < {"id":6,"presence":{"presence":{"<a>":{"user":"42","client":"<a>","chan_info":{"c":2}}}}}
        wait 108s
        ? a 4 sub_refresh ask:z by 42
        answer a none
        a < {"push":{"channel":"ask:z","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
        wait 27s
        ? a 4 sub_refresh ask:x by 42
        wait 27s
        answer a sub-past
        a < {"push":{"channel":"ask:x","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
        a > {"id":7,"presence":{"channel":"ask:x"}}
        a < {"id":7,"presence":{"presence":{}}}
    "#,
    );
}

/// What ends one: to a client-side subscription by a push, to a server-side one by the end of the connection.
#[test]
fn what_ends_an_expired_subscription() {
    check_asked(
        rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}
        ? a 0 connect  /
        answer a user
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        a > {"id":2,"subscribe":{"channel":"ask:x"}}\n{"id":3,"subscribe":{"channel":"ask:y"}}\n{"id":4,"subscribe":{"channel":"ask:z"}}\n{"id":5,"subscribe":{"channel":"once:x"}}
        ? a 2 subscribe ask:x by 42
        answer a granted
        a < {"id":2,"subscribe":{"data":{"d":1}}}
        ? a 2 subscribe ask:y by 42
        answer a granted
        a < {"id":3,"subscribe":{"data":{"d":1}}}
        ? a 2 subscribe ask:z by 42
        answer a granted
        a < {"id":4,"subscribe":{"data":{"d":1}}}
        ? a 2 subscribe once:x by 42
        answer a granted
        a < {"id":5,"subscribe":{"expires":true,"ttl":10,"data":{"d":1}}}
        wait 54s
        a < {"push":{"channel":"once:x","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
        ? a 4 sub_refresh ask:x by 42
        ? a 4 sub_refresh ask:y by 42
        ? a 4 sub_refresh ask:z by 42
        a > {"id":6,"unsubscribe":{"channel":"ask:x"}}
        a < {"id":6,"unsubscribe":{}}
        a > {"id":7,"subscribe":{"channel":"ask:x"}}
        ? a 2 subscribe ask:x by 42
        answer a sub-expired
        answer a sub-expired
        a < {"push":{"channel":"ask:y","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
        answer a error
        a < {"push":{"channel":"ask:z","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
        answer a none
        a < {"id":7,"subscribe":{}}
        subscribe 42 ask:y expire:+10s
        a < {"push":{"channel":"ask:y","subscribe":{}}}
        wait 54s
        ? a 4 sub_refresh ask:y by 42
        answer a sub-on
        wait 135s
        ? a 4 sub_refresh ask:y by 42
        answer a disconnect
        a x 3006 subscription expired
    "#,
    );
}
