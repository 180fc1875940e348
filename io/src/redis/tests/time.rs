//! Deadlines, keep-alive, bounds and the end of a connection.

use super::*;
use crate::limits::{
    REDIS_IN_FLIGHT_MAX, REDIS_INPUT_BYTES, REDIS_KEEP_ALIVE_MS, REDIS_KEEP_BYTES, REDIS_KEEP_COMMANDS,
    REDIS_OUTPUT_BYTES_MAX,
};
use crate::redis::{Failure, SendError};

fn expire(connection: &mut Connection, now_ms: u64) -> Vec<Incoming> {
    let mut events = Vec::new();
    connection.expire(now_ms, &mut |event| events.push(event));
    events
}

fn failed(token: u64, sent: bool, why: Failure) -> Incoming {
    Incoming::Failed { token, sent, why }
}

/// Redis stalls without closing: whoever waits must hear it within io_timeout, and who may try again elsewhere must know
/// whether it could have happened already.
#[test]
fn an_overdue_answer_fails_everything() {
    let mut connection = ready(false);
    get(&mut connection, 1);
    sent(&mut connection);
    connection.send(2, 1, |out| _ = Command::new(out, 1).arg(b"TIME")).unwrap();
    assert_eq!(connection.next_deadline(), Some(IO_TIMEOUT_MS));
    assert_eq!(expire(&mut connection, IO_TIMEOUT_MS - 1), []);
    assert_eq!(feed(&mut connection, b":1\r\n"), [reply(1, Reply::Int(1))]);
    assert_eq!(connection.next_deadline(), Some(IO_TIMEOUT_MS), "never before the one in front");
    get(&mut connection, 3);
    sent(&mut connection);
    get(&mut connection, 4);
    let why = || Failure::TimedOut;
    let all = [failed(2, true, why()), failed(3, true, why()), failed(4, false, why())];
    assert_eq!(expire(&mut connection, IO_TIMEOUT_MS), all);
    assert_eq!((connection.failure(), connection.next_deadline()), (Some(&why()), None));
    assert_eq!(connection.send(5, 9_999, |_| {}), Err(SendError::Failed));
    assert_eq!(connection.subscribe(5, &[b"a"], false, 9_999), Err(SendError::Failed));
    assert_eq!(feed(&mut connection, b":1\r\n"), []);
    let mut late = Vec::new();
    connection.closed(&mut |event| late.push(event));
    assert_eq!(late, []);
}

/// A Redis that takes the connection and then says nothing holds nobody up for longer than any other.
#[test]
fn a_handshake_has_a_deadline() {
    let mut connection = Connection::new(plain(false), 100);
    assert_eq!(connection.next_deadline(), Some(100 + IO_TIMEOUT_MS));
    connection.send(1, 200, |out| _ = Command::new(out, 1).arg(b"TIME")).unwrap();
    assert_eq!(connection.next_deadline(), Some(200));
    assert_eq!(expire(&mut connection, 200), [failed(1, false, Failure::TimedOut)]);
}

/// A subscription in a quiet hour: Redis is gone without a word, and nothing would ever tell.
#[test]
fn silence_is_probed() {
    for force_resp2 in [false, true] {
        let mut connection = ready(force_resp2);
        connection.subscribe(1, &[b"a"], false, IO_TIMEOUT_MS).unwrap();
        sent(&mut connection);
        let confirmed: &[u8] =
            if force_resp2 { b"*3\r\n+subscribe\r\n+a\r\n:1\r\n" } else { b">3\r\n+subscribe\r\n+a\r\n:1\r\n" };
        let subscribed = Incoming::Subscribed { channel: bytes("a"), sharded: false };
        assert_eq!(feed(&mut connection, confirmed), [subscribed, reply(1, Reply::Int(1))]);
        assert_eq!(connection.next_deadline(), Some(REDIS_KEEP_ALIVE_MS));
        assert_eq!(expire(&mut connection, REDIS_KEEP_ALIVE_MS - 1), []);
        assert_eq!(sent(&mut connection), "");
        assert_eq!(expire(&mut connection, REDIS_KEEP_ALIVE_MS), []);
        assert_eq!(sent(&mut connection), r"*1\r\n$4\r\nPING\r\n");
        let pong: &[u8] = if force_resp2 { b"*2\r\n$4\r\npong\r\n$0\r\n\r\n" } else { b"+PONG\r\n" };
        connection.received(pong, 1_000, &mut |event| panic!("{event:?}"));
        assert_eq!(connection.next_deadline(), Some(1_000 + REDIS_KEEP_ALIVE_MS));
        assert_eq!(expire(&mut connection, 1_000 + REDIS_KEEP_ALIVE_MS), []);
        sent(&mut connection);
        let dead_ms = 1_000 + REDIS_KEEP_ALIVE_MS + IO_TIMEOUT_MS;
        assert_eq!(connection.next_deadline(), Some(dead_ms));
        assert_eq!(expire(&mut connection, dead_ms), []);
        assert_eq!(connection.failure(), Some(&Failure::TimedOut));
    }
}

/// Redis is slow and clients go on publishing: the core must neither run out of memory nor lose count.
#[test]
fn a_full_queue_says_so() {
    let mut connection = ready(false);
    for token in 0..REDIS_IN_FLIGHT_MAX as u64 {
        get(&mut connection, token);
    }
    let one_more = connection.send(0, 0, |_| panic!("not taken"));
    assert_eq!(one_more, Err(SendError::Full));
    assert_eq!(connection.subscribe(0, &[b"a"], false, 0), Err(SendError::Full));
    sent(&mut connection);
    let events = feed(&mut connection, &b":1\r\n".repeat(REDIS_IN_FLIGHT_MAX));
    assert!((0..).zip(&events).all(|(token, event)| *event == reply(token, Reply::Int(1))));
    assert_eq!(events.len(), REDIS_IN_FLIGHT_MAX);
    get(&mut connection, 1);

    let mut connection = ready(false);
    let large = vec![b'x'; REDIS_OUTPUT_BYTES_MAX];
    connection.send(1, 0, |out| _ = Command::new(out, 2).arg(b"ECHO").arg(&large)).unwrap();
    assert_eq!(connection.send(2, 0, |_| panic!("not taken")), Err(SendError::Full));
    sent(&mut connection);
    get(&mut connection, 2);
}

/// One burst, and every connection of every core would keep its megabytes for ever.
#[test]
fn memory_of_a_burst_is_given_back() {
    let mut connection = ready(false);
    let large = vec![b'x'; 4 * REDIS_KEEP_BYTES];
    connection.send(0, 0, |out| _ = Command::new(out, 2).arg(b"ECHO").arg(&large)).unwrap();
    for token in 1..20_000 {
        get(&mut connection, token);
    }
    sent(&mut connection);
    let answer = [format!("${}\r\n", large.len()).as_bytes(), &large, b"\r\n", &b":1\r\n".repeat(19_999)].concat();
    let mut count = 0;
    for piece in answer.chunks(2048) {
        connection.received(piece, 0, &mut |_| count += 1);
    }
    assert_eq!((count, connection.in_flight()), (20_000, 0));
    let kept_max = REDIS_KEEP_BYTES + REDIS_INPUT_BYTES + 40 * REDIS_KEEP_COMMANDS;
    assert!(connection.memory() <= kept_max, "{}", connection.memory());
}

/// Redis restarts: who waits hears it at once.
#[test]
fn the_end_of_the_socket_fails_everything() {
    let mut connection = ready(true);
    get(&mut connection, 1);
    sent(&mut connection);
    connection.subscribe(2, &[b"a"], false, IO_TIMEOUT_MS).unwrap();
    let mut events = Vec::new();
    connection.closed(&mut |event| events.push(event));
    assert_eq!(events, [failed(1, true, Failure::Closed), failed(2, false, Failure::Closed)]);
}
