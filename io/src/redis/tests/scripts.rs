//! Calls of scripts: by digest, and by text after `SCRIPT FLUSH`.

use super::*;
use crate::redis::Script;

static SCRIPT: Script = Script { sha1: "0123456789012345678901234567890123456789", text: "return KEYS[1]" };
const NOSCRIPT: &[u8] = b"-NOSCRIPT No matching script. Please use EVAL.\r\n";

fn call(connection: &mut Connection, token: u64, key: &str) {
    connection.send_script(token, IO_TIMEOUT_MS, &SCRIPT, 2, |command| _ = command.int(1).arg(key.as_bytes())).unwrap();
}

fn by_digest(key: &str) -> String {
    let digest = SCRIPT.sha1;
    format!(r"*4\r\n$7\r\nEVALSHA\r\n$40\r\n{digest}\r\n$1\r\n1\r\n${}\r\n{key}\r\n", key.len())
}

fn by_text(key: &str) -> String {
    format!(r"*4\r\n$4\r\nEVAL\r\n$14\r\nreturn KEYS[1]\r\n$1\r\n1\r\n${}\r\n{key}\r\n", key.len())
}

/// An operator who flushes the scripts, or a Redis that restarts, must not make a single publish fail.
#[test]
fn an_unknown_script_is_called_by_its_text() {
    let mut connection = ready(false);
    call(&mut connection, 1, "a");
    get(&mut connection, 2);
    call(&mut connection, 3, "bcd");
    assert_eq!(sent(&mut connection), by_digest("a") + r"*2\r\n$3\r\nGET\r\n$1\r\n2\r\n" + &by_digest("bcd"));
    assert_eq!(feed(&mut connection, NOSCRIPT), []);
    assert_eq!(feed(&mut connection, b":2\r\n"), [reply(2, Reply::Int(2))]);
    assert_eq!(feed(&mut connection, NOSCRIPT), []);
    assert_eq!(sent(&mut connection), by_text("a") + &by_text("bcd"));
    call(&mut connection, 4, "e");
    assert_eq!(feed(&mut connection, b"$1\r\na\r\n$3\r\nbcd\r\n").len(), 2);
    assert_eq!(sent(&mut connection), by_digest("e"));
    assert_eq!(feed(&mut connection, b"$1\r\ne\r\n"), [reply(4, Reply::Bytes(bytes("e")))]);
    assert_eq!(connection.in_flight(), 0);
}

/// A script that Redis does not know even by its text is an error for the caller, not a loop.
#[test]
fn a_script_is_repeated_once() {
    let mut connection = ready(false);
    call(&mut connection, 1, "a");
    sent(&mut connection);
    assert_eq!(feed(&mut connection, NOSCRIPT), []);
    sent(&mut connection);
    assert!(matches!(feed(&mut connection, NOSCRIPT)[..], [Incoming::Reply { token: 1, reply: Reply::Error(_) }]));
}

/// More than a socket takes goes out in parts: none of it twice, and none of it never.
#[test]
fn output_goes_out_in_parts() {
    let mut connection = ready(false);
    (1..=3).for_each(|token| get(&mut connection, token));
    let whole = connection.output().to_vec();
    let mut parts = Vec::new();
    while !connection.output().is_empty() {
        let part = connection.output()[..connection.output().len().min(10)].to_vec();
        connection.output_taken(part.len());
        parts.extend(part);
    }
    assert_eq!(parts, whole);
    let expected: Vec<_> = (1..=3).map(|token| reply(token, Reply::Int(7))).collect();
    assert_eq!(feed(&mut connection, b":7\r\n:7\r\n:7\r\n"), expected);
}

/// A Redis that stalls under large publications must not fill the node's memory with what might be repeated.
#[test]
fn kept_arguments_are_bounded() {
    let mut connection = ready(false);
    let large = "x".repeat(1024 * 1024);
    let mut refused = 0;
    for token in 0..40 {
        let called = connection
            .send_script(token, IO_TIMEOUT_MS, &SCRIPT, 2, |command| _ = command.int(1).arg(large.as_bytes()));
        refused += u32::from(called.is_err());
        connection.clear_output();
    }
    assert!(refused > 20, "{refused}");
    assert_eq!(feed(&mut connection, b"$0\r\n\r\n").len(), 1);
}
