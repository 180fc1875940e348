//! Recorded conversations in both protocols, in one piece and cut at every byte.

use super::*;
use crate::redis::{Failure, SendError};

/// What we ask for, then what Redis says to it.
struct Stage {
    ask: fn(&mut Connection),
    hear: &'static [u8],
}

const SOON_MS: u64 = IO_TIMEOUT_MS;

fn nothing(_: &mut Connection) {}

fn ask_many(connection: &mut Connection) {
    for token in 1..=9 {
        get(connection, token);
    }
}

fn subscribe_two(connection: &mut Connection) {
    connection.subscribe(20, &[b"a", b"b"], false, SOON_MS).unwrap();
    connection.subscribe(21, &[b"{x}c"], true, SOON_MS).unwrap();
    connection.subscribe(22, &[b"forbidden"], false, SOON_MS).unwrap();
}

fn unsubscribe_one(connection: &mut Connection) {
    connection.unsubscribe(30, &[b"a"], false, SOON_MS).unwrap();
    connection.unsubscribe(31, &[b"{x}c"], true, SOON_MS).unwrap();
}

fn resp3() -> [Stage; 6] {
    [
        Stage { ask: nothing, hear: b"%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:5\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n" },
        Stage { ask: nothing, hear: b"+PONG\r\n" },
        Stage {
            ask: ask_many,
            hear: b"$5\r\na\r\nb\0\r\n_\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n:42\r\n\
                |1\r\n+ttl\r\n:3600\r\n*3\r\n$1\r\n7\r\n$4\r\nabcd\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nd\r\n$2\r\n{}\r\n_\r\n\
                %1\r\n$1\r\nu\r\n*0\r\n-NOSCRIPT No matching script.\r\n!9\r\nERR a\r\nbc\r\n,1.25\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n",
        },
        Stage {
            ask: subscribe_two,
            hear: b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\n\r\n\r\n\r\n\
                >3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n>3\r\n$10\r\nssubscribe\r\n$4\r\n{x}c\r\n:1\r\n\
                -NOPERM No permissions to access a channel\r\n>3\r\n$8\r\nsmessage\r\n$4\r\n{x}c\r\n$1\r\ny\r\n",
        },
        Stage {
            ask: ask_many,
            hear: b":1\r\n:2\r\n>3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$1\r\nz\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n\
                >3\r\n$12\r\nsunsubscribe\r\n$4\r\n{x}c\r\n:0\r\n:8\r\n:9\r\n",
        },
        Stage {
            ask: unsubscribe_one,
            hear: b">3\r\n$12\r\nsunsubscribe\r\n$4\r\n{x}d\r\n:1\r\n\
                >3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n>3\r\n$12\r\nsunsubscribe\r\n$4\r\n{x}c\r\n:0\r\n+PONG\r\n",
        },
    ]
}

fn resp2() -> [Stage; 5] {
    [
        Stage { ask: nothing, hear: b"+PONG\r\n" },
        Stage {
            ask: ask_many,
            hear: b"$5\r\na\r\nb\0\r\n$-1\r\n:42\r\n\
                *3\r\n$1\r\n7\r\n$4\r\nabcd\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nd\r\n$2\r\n{}\r\n*-1\r\n\
                *2\r\n$1\r\nu\r\n*0\r\n-NOSCRIPT No matching script.\r\n-ERR abc\r\n$4\r\n1.25\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n",
        },
        Stage {
            ask: subscribe_two,
            hear: b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\n\r\n\r\n\r\n\
                *3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n*3\r\n$10\r\nssubscribe\r\n$4\r\n{x}c\r\n:1\r\n\
                -NOPERM No permissions to access a channel\r\n*3\r\n$8\r\nsmessage\r\n$4\r\n{x}c\r\n$1\r\ny\r\n",
        },
        Stage { ask: nothing, hear: b"*3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$1\r\nz\r\n*3\r\n$12\r\nsunsubscribe\r\n$4\r\n{x}c\r\n:0\r\n" },
        Stage {
            ask: unsubscribe_one,
            hear: b"*3\r\n$12\r\nsunsubscribe\r\n$4\r\n{x}d\r\n:1\r\n\
                *3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$12\r\nsunsubscribe\r\n$4\r\n{x}c\r\n:0\r\n\
                *2\r\n$4\r\npong\r\n$0\r\n\r\n",
        },
    ]
}

/// What the pieces of a conversation mean. `cuts` says of each stage where its bytes are cut.
fn talk(stages: &[Stage], force_resp2: bool, cuts: impl Fn(usize) -> Vec<usize>) -> Vec<Incoming> {
    let mut connection = Connection::new(plain(force_resp2), 0);
    let mut events = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        (stage.ask)(&mut connection);
        connection.clear_output();
        let mut start = 0;
        for end in cuts(index).into_iter().chain([stage.hear.len()]) {
            events.extend(feed(&mut connection, &stage.hear[start..end]));
            start = end;
        }
    }
    assert!(connection.is_ready(), "{:?}", connection.failure());
    assert_eq!(connection.in_flight(), 0);
    events
}

fn text(text: &'static str) -> Reply {
    Reply::Bytes(bytes(text))
}

fn message(channel: &'static str, payload: &'static str, sharded: bool) -> Incoming {
    Incoming::Message { channel: bytes(channel), payload: bytes(payload), sharded }
}

fn subscribed(channel: &'static str, sharded: bool) -> Incoming {
    Incoming::Subscribed { channel: bytes(channel), sharded }
}

fn unsubscribed(channel: &'static str, sharded: bool) -> Incoming {
    Incoming::Unsubscribed { channel: bytes(channel), sharded }
}

/// An answer that must be an error of this code.
fn is_error(event: &Incoming, token: u64, code: &str) -> bool {
    matches!(event, Incoming::Reply { token: of, reply: Reply::Error(error) } if *of == token && error.code() == code)
}

/// Every client of a channel would get what another channel, or another command, was told.
#[test]
fn replies_and_messages_reach_whom_they_are_for() {
    for force_resp2 in [false, true] {
        let events = if force_resp2 { talk(&resp2(), true, |_| vec![]) } else { talk(&resp3(), false, |_| vec![]) };
        let history =
            Reply::Array(vec![Reply::Array(vec![text("1-0"), Reply::Array(vec![text("d"), text("{}")])]), Reply::Nil]);
        let user = if force_resp2 {
            Reply::Array(vec![text("u"), Reply::Array(vec![])])
        } else {
            Reply::Map(vec![(text("u"), Reply::Array(vec![]))])
        };
        assert_eq!(
            events[..5],
            [
                reply(1, text("a\r\nb\0")),
                reply(2, Reply::Nil),
                reply(3, Reply::Int(42)),
                reply(4, Reply::Array(vec![text("7"), text("abcd"), history])),
                reply(5, user),
            ]
        );
        assert!(is_error(&events[5], 6, "NOSCRIPT") && is_error(&events[6], 7, "ERR"));
        assert_eq!(events[7], reply(8, if force_resp2 { text("1.25") } else { Reply::Double(1.25) }));
        // What somebody stored reads like a message and is none.
        assert_eq!(events[8], reply(9, Reply::Array(vec![text("message"), text("a"), text("x")])));
        assert_eq!(
            events[9..14],
            [
                subscribed("a", false),
                message("a", "\r\n\r\n", false),
                subscribed("b", false),
                reply(20, Reply::Int(2)),
                subscribed("{x}c", true),
            ]
        );
        assert_eq!(events[14], reply(21, Reply::Int(1)));
        assert!(is_error(&events[15], 22, "NOPERM"));
        assert_eq!(events[16], message("{x}c", "y", true));
        let is_push = |event: &&Incoming| !matches!(event, Incoming::Reply { token: 1..=9, .. });
        let rest: Vec<Incoming> = events[17..].iter().filter(is_push).cloned().collect();
        assert_eq!(
            rest,
            [
                message("b", "z", false),
                unsubscribed("{x}c", true),
                unsubscribed("{x}d", true),
                unsubscribed("a", false),
                reply(30, Reply::Int(1)),
                unsubscribed("{x}c", true),
                reply(31, Reply::Int(1)),
            ]
        );
    }
}

/// The network cuts where it likes.
#[test]
fn every_split_point_means_the_same() {
    let both: [(&[Stage], bool); 2] = [(&resp3(), false), (&resp2(), true)];
    for (stages, force_resp2) in both {
        let whole = talk(stages, force_resp2, |_| vec![]);
        for (cut_stage, stage) in stages.iter().enumerate() {
            for cut in 0..=stage.hear.len() {
                let pieces = talk(stages, force_resp2, |index| if index == cut_stage { vec![cut] } else { vec![] });
                assert_eq!(pieces, whole, "stage {cut_stage} cut at {cut}");
            }
        }
        let bytes = talk(stages, force_resp2, |index| (0..stages[index].hear.len()).collect());
        assert_eq!(bytes, whole, "byte by byte");
    }
}

/// Under RESP2 a connection with subscriptions answers nothing else: a publish put there by mistake would fail.
#[test]
fn resp2_keeps_commands_and_subscriptions_apart() {
    let refused = Err(SendError::Subscribing);
    let mut connection = ready(true);
    get(&mut connection, 1);
    connection.subscribe(2, &[b"a"], false, SOON_MS).unwrap();
    assert_eq!(connection.send(3, SOON_MS, |_| {}), refused);
    let mut connection = Connection::new(plain(false), 0);
    connection.subscribe(1, &[b"a"], false, SOON_MS).unwrap();
    assert_eq!(connection.send(2, SOON_MS, |_| {}), refused, "it may still become RESP2");
    let mut connection = ready(false);
    connection.subscribe(1, &[b"a"], false, SOON_MS).unwrap();
    get(&mut connection, 2);
}

/// UNSUBSCRIBE without channels would end all subscriptions of the core.
#[test]
fn a_subscription_names_channels() {
    let mut connection = ready(false);
    assert_eq!(connection.unsubscribe(1, &[], false, SOON_MS), Err(SendError::NoChannels));
    assert_eq!(connection.subscribe(1, &[], true, SOON_MS), Err(SendError::NoChannels));
    assert_eq!((connection.in_flight(), connection.output()), (0, b"".as_slice()));
}

/// If replies and commands were out of step once, everything after would be somebody else's.
#[test]
fn a_reply_too_many_ends_the_connection() {
    for (force_resp2, answer) in [(false, b":1\r\n".as_slice()), (true, b"*1\r\n+message\r\n".as_slice())] {
        let mut connection = ready(force_resp2);
        get(&mut connection, 1);
        let events = feed(&mut connection, answer);
        let why = Failure::Malformed("a reply to no command");
        assert_eq!(events, [Incoming::Failed { token: 1, sent: false, why }], "it was never sent");
        let mut connection = ready(force_resp2);
        connection.subscribe(1, &[b"a"], false, SOON_MS).unwrap();
        sent(&mut connection);
        let events = feed(&mut connection, b"+OK\r\n");
        assert!(matches!(events[..], [Incoming::Failed { token: 1, sent: true, why: Failure::Malformed(_) }]));
    }
}
