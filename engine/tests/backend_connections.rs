//! What clients get when the application's backend decides over their connections and calls, as transcripts (see
//! `script`): every row of proxies.md 4.1, 4.2, 4.6 and 6 that the engine has a part in.

mod answers;
mod script;
mod world;

use answers::{backend, pinging_rules, prolonged_rules, rules, strict_rules};
use script::check_asked;

/// Credentials, data and channels of the backend are what the connection gets; without them nobody could use it to
/// authenticate. Commands that come behind wait for it.
#[test]
fn the_backend_says_who_connects() {
    check_asked(
        rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{"data":{"k":1},"name":"js","version":"7","subs":{"live:z":{},"live:b":{"recover":true}},"headers":{"Authorization":"t","x":"y"}}}\n{"id":2,"rpc":{"method":"m"}}
        ? a 0 connect {"k":1} js/7 live:b,live:z authorization: t
        answer a everything
        a < {"id":1,"connect":{"client":"<a>","version":"test","expires":true,"ttl":10,"data":{"hello":1},"subs":{"live:b":{"recoverable":true,"epoch":"E1","recovered":true,"positioned":true,"data":{"of":"sub"},"was_recovering":true}}}}
        ? a 5 rpc m by 42 meta {"m":1} authorization: t
        answer a said
        a < {"id":2,"rpc":{"data":{"r":1}}}
        wait 11s
        wait 24s
        a x 3005 connection expired
        open b
        b > {"id":1,"connect":{}}
        ? b 0 connect  /
        answer b far
        b < {"id":1,"connect":{"client":"<b>","version":"test","expires":true,"ttl":31536000}}
        open c
        c > {"id":1,"connect":{}}
        ? c 0 connect  /
        answer c nobody
        c < {"id":1,"connect":{"client":"<c>","version":"test"}}
        open d
        d > {"id":1,"connect":{}}
        ? d 0 connect  /
        answer d plain
        d < {"id":1,"connect":{"client":"<d>","version":"test","subs":{"live:a":{}}}}
    "#,
    );
}

/// An error of the application is what its own client program acts upon; anything else than a result lets nobody in.
#[test]
fn what_else_a_backend_may_say_to_a_connect() {
    check_asked(
        strict_rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}\n{"id":2,"rpc":{"method":"m"}}
        ? a 0 connect  /
        answer a failed
        a < {"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}
        open b
        b > {"id":1,"connect":{}}
        ? b 0 connect  /
        answer b error
        b < {"id":1,"error":{"code":1000,"message":"no luck","temporary":true}}
        b > {"id":2,"rpc":{"method":"m"}}
        wait 5s
        a x 3000 connection closed
        b x 3000 connection closed
        open c
        c > {"id":1,"connect":{}}
        ? c 0 connect  /
        answer c disconnect
        c x 4501 go away
        open d
        d > {"id":1,"connect":{}}
        ? d 0 connect  /
        answer d none
        d x 3501 bad request
        open e
        e > {"id":1,"connect":{}}
        ? e 0 connect  /
        answer e past
        e < {"id":1,"error":{"code":110,"message":"expired"}}
        open f
        f > {"id":1,"connect":{}}
        ? f 0 connect  /
        answer f stranger
        f < {"id":1,"error":{"code":102,"message":"unknown channel"}}
        open g
        g > {"id":1,"connect":{}}
        ? g 0 connect  /
        wait 10s
        e x 3000 connection closed
        f x 3000 connection closed
        g x 3502 stale
        answer g user
        open h
        h > {"id":1,"connect":{}}
        ? h 0 connect  /
        close h
        answer h user
        open i
        i > {"id":1,"connect":{"token":"x.y.z"}}
        i x 3500 invalid token
        open j
        j > {"id":1,"connect":{}}
        ? j 0 connect  /
        j > {}
        j x 3501 bad request
        answer j user
    "#,
    );
}

/// Without a word of the backend the rules decide as if there were none, also about channels that the client names.
#[test]
fn no_result_falls_through_to_the_rules() {
    check_asked(
        rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{"subs":{"ask:x":{}}}}
        ? a 0 connect  / ask:x
        answer a none
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        a > {"id":2,"rpc":{"method":"m"}}
        ? a 5 rpc m
        answer a none
        a < {"id":2,"rpc":{}}
    "#,
    );
}

/// A client that is told of an expiry it cannot do anything about asks for what is not there; one that the backend
/// prolongs must stay, and its info must be seen.
#[test]
fn the_backend_prolongs_connections() {
    check_asked(
        prolonged_rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}
        ? a 0 connect  /
        answer a everything
        a < {"id":1,"connect":{"client":"<a>","version":"test","data":{"hello":1},"subs":{"live:b":{"recoverable":true,"epoch":"E1","positioned":true,"data":{"of":"sub"}}}}}
        a > {"id":2,"subscribe":{"channel":"ask:x"}}
        ? a 2 subscribe ask:x by 42 meta {"m":1}
        answer a none
        a < {"id":2,"subscribe":{}}
        wait 10s
        ? a 1 refresh by 42 meta {"m":1}
        a > {"id":3,"rpc":{"method":"m"}}\n{"id":4,"presence":{"channel":"ask:x"}}
        ? a 5 rpc m by 42 meta {"m":1}
        answer a go-on
        answer a said
        a < {"id":3,"rpc":{"data":{"r":1}}}
        a < {"id":4,"presence":{"presence":{"<a>":{"user":"42","client":"<a>","conn_info":{"i":2}}}}}
        wait 1s
        a > {"id":5,"presence":{"channel":"ask:x"}}
        a < {"id":5,"presence":{"presence":{"<a>":{"user":"42","client":"<a>","conn_info":{"i":2}}}}}
        wait 20s
        ? a 1 refresh by 42 meta {"m":2}
        answer a failed
        wait 59s
        wait 1s
        ? a 1 refresh by 42 meta {"m":2}
        answer a busy
        wait 1s
        wait 19s
        ? a 1 refresh by 42 meta {"m":2}
        answer a go-on-silently
        wait 20s
        ? a 1 refresh by 42 meta {"m":2}
        answer a expired
        a x 3005 connection expired
    "#,
    );
}

/// Whoever has no future according to the backend must go; what it says instead of a time does not count.
#[test]
fn what_ends_an_expired_connection() {
    check_asked(
        prolonged_rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}
        ? a 0 connect  /
        answer a everything
        a < {"id":1,"connect":{"client":"<a>","version":"test","data":{"hello":1},"subs":{"live:b":{"recoverable":true,"epoch":"E1","positioned":true,"data":{"of":"sub"}}}}}
        wait 10s
        ? a 1 refresh by 42 meta {"m":1}
        answer a none
        a x 3005 connection expired
        open b
        b > {"id":1,"connect":{}}
        ? b 0 connect  /
        answer b everything
        b < {"id":1,"connect":{"client":"<b>","version":"test","data":{"hello":1},"subs":{"live:b":{"recoverable":true,"epoch":"E1","positioned":true,"data":{"of":"sub"}}}}}
        wait 10s
        ? b 1 refresh by 42 meta {"m":1}
        answer b error
        b x 3005 connection expired
        open c
        c > {"id":1,"connect":{}}
        ? c 0 connect  /
        answer c everything
        c < {"id":1,"connect":{"client":"<c>","version":"test","data":{"hello":1},"subs":{"live:b":{"recoverable":true,"epoch":"E1","positioned":true,"data":{"of":"sub"}}}}}
        wait 10s
        ? c 1 refresh by 42 meta {"m":1}
        answer c disconnect
        c x 3005 connection expired
        open d
        d > {"id":1,"connect":{}}
        ? d 0 connect  /
        answer d everything
        d < {"id":1,"connect":{"client":"<d>","version":"test","data":{"hello":1},"subs":{"live:b":{"recoverable":true,"epoch":"E1","positioned":true,"data":{"of":"sub"}}}}}
        wait 10s
        ? d 1 refresh by 42 meta {"m":1}
        answer d go-on-zero
        d x 3005 connection expired
        open e
        e > {"id":1,"connect":{}}
        ? e 0 connect  /
        answer e everything
        e < {"id":1,"connect":{"client":"<e>","version":"test","data":{"hello":1},"subs":{"live:b":{"recoverable":true,"epoch":"E1","positioned":true,"data":{"of":"sub"}}}}}
        wait 10s
        ? e 1 refresh by 42 meta {"m":1}
        answer e go-on-past
        e x 3005 connection expired
        open f
        f > {"id":1,"connect":{}}
        ? f 0 connect  /
        answer f everything
        f < {"id":1,"connect":{"client":"<f>","version":"test","data":{"hello":1},"subs":{"live:b":{"recoverable":true,"epoch":"E1","positioned":true,"data":{"of":"sub"}}}}}
        wait 10s
        ? f 1 refresh by 42 meta {"m":1}
        answer f expired
        f x 3005 connection expired
        open g
        g > {"id":1,"connect":{}}
        ? g 0 connect  /
        answer g user
        g < {"id":1,"connect":{"client":"<g>","version":"test"}}
        g > {"id":2,"refresh":{"token":"x.y.z"}}
        g x 3501 bad request
        open h
        h > {"id":1,"connect":{}}
        ? h 0 connect  /
        answer h everything
        h < {"id":1,"connect":{"client":"<h>","version":"test","data":{"hello":1},"subs":{"live:b":{"recoverable":true,"epoch":"E1","positioned":true,"data":{"of":"sub"}}}}}
        wait 10s
        ? h 1 refresh by 42 meta {"m":1}
        refresh 42 +30s
        h < {"push":{"refresh":{"expires":true,"ttl":30}}}
        answer h expired
        wait 30s
        ? h 1 refresh by 42 meta {"m":1}
        close h
        answer h go-on
    "#,
    );
}

/// Calls reach the backend and its answers the caller, in the order of the commands.
#[test]
fn rpc() {
    check_asked(
        rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}
        ? a 0 connect  /
        answer a user
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        a > {"id":2,"rpc":{"method":"m","data":[1]}}\n{"id":3,"rpc":{"method":"n"}}\n{"id":4,"rpc":{"method":"ping"}}
        ? a 5 rpc m [1] by 42
        answer a said
        a < {"id":2,"rpc":{"data":{"r":1}}}
        ? a 5 rpc n by 42
        answer a said-nothing
        a < {"id":3,"rpc":{}}
        a < {"id":4,"rpc":{}}
        a > {"id":5,"rpc":{"method":"m"}}
        ? a 5 rpc m by 42
        answer a none
        a < {"id":5,"rpc":{}}
        a > {"id":6,"rpc":{"method":"m"}}
        ? a 5 rpc m by 42
        answer a error
        a < {"id":6,"error":{"code":1000,"message":"no luck","temporary":true}}
        a > {"id":7,"rpc":{"method":"m"}}
        ? a 5 rpc m by 42
        answer a failed
        a < {"id":7,"error":{"code":100,"message":"internal server error","temporary":true}}
        a > {"id":8,"rpc":{"method":"off:m"}}
        a < {"id":8,"error":{"code":108,"message":"not available"}}
        a > {"id":9,"rpc":{"method":"nope:m"}}
        a < {"id":9,"error":{"code":104,"message":"method not found"}}
        a > {"id":10,"rpc":{"method":"m"}}
        ? a 5 rpc m by 42
        answer a disconnect
        a x 4501 go away
    "#,
    );
}

/// A client that waits for its backend longer than a pong may take must not be cut off.
#[test]
fn a_pong_does_not_wait_for_a_backend() {
    check_asked(
        pinging_rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{}}
        ? a 0 connect  /
        answer a user
        a < {"id":1,"connect":{"client":"<a>","version":"test","ping":25,"pong":true}}
        wait 12s
        a > {"id":2,"rpc":{"method":"m"}}
        ? a 5 rpc m by 42
        wait 13s
        a < {}
        a > {}
        wait 8s
        answer a said
        a < {"id":2,"rpc":{"data":{"r":1}}}
    "#,
    );
}

/// Applications that sign tokens have backends, too: these would not know whose call it is.
#[test]
fn headers_and_meta_come_with_a_token_as_well() {
    check_asked(
        rules,
        backend,
        r#"
        open a
        a > {"id":1,"connect":{"token":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiIsIm1ldGEiOnsibSI6M319.AAAA","headers":{"AUTHORIZATION":"t"}}}
        a < {"id":1,"connect":{"client":"<a>","version":"test"}}
        a > {"id":2,"rpc":{"method":"m"}}
        ? a 5 rpc m by 42 meta {"m":3} authorization: t
        answer a said
        a < {"id":2,"rpc":{"data":{"r":1}}}
    "#,
    );
}
