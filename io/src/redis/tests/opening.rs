//! The handshake: what is sent, what follows each answer, and how it fails.

use super::*;
use crate::redis::{Failure, Greeting};

fn full(force_resp2: bool) -> Handshake {
    Handshake {
        user: "app".to_owned(),
        password: "hunter2".to_owned(),
        db: 3,
        client_name: "gyre".to_owned(),
        replica: true,
        ..plain(force_resp2)
    }
}

/// As `feed`, for what must not hand anything out.
fn quietly(connection: &mut Connection, data: &[u8]) {
    assert_eq!(feed(connection, data), []);
}

/// User, password, name and database of the configuration reach Redis, and what a node of a cluster says of itself
/// is seen.
#[test]
fn resp3_says_everything_in_two_round_trips() {
    let mut connection = Connection::new(full(false), 0);
    let hello =
        r"*7\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$3\r\napp\r\n$7\r\nhunter2\r\n$7\r\nSETNAME\r\n$4\r\ngyre\r\n";
    assert_eq!(sent(&mut connection), hello);
    quietly(&mut connection, b"%3\r\n$7\r\nversion\r\n$5\r\n7.4.1\r\n$4\r\nmode\r\n$7\r\ncluster\r\n");
    quietly(&mut connection, b"$4\r\nrole\r\n$7\r\nreplica\r\n");
    let rest = r"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*1\r\n$8\r\nREADONLY\r\n*1\r\n$4\r\nPING\r\n";
    assert_eq!(sent(&mut connection), rest);
    quietly(&mut connection, b"+OK\r\n+OK\r\n");
    assert!(!connection.is_ready());
    quietly(&mut connection, b"+PONG\r\n");
    assert!(connection.is_ready());
    let greeting = Greeting { version: "7.4.1".to_owned(), cluster: true, replica: true };
    assert_eq!(connection.greeting(), &greeting);
}

/// A password without a user is that of `default`; without both nobody is named.
#[test]
fn a_password_alone_is_that_of_the_default_user() {
    let password = || Handshake { password: "hunter2".to_owned(), ..plain(false) };
    let hello = sent(&mut Connection::new(password(), 0));
    assert_eq!(hello, r"*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$7\r\nhunter2\r\n");
    let auth = sent(&mut Connection::new(Handshake { force_resp2: true, ..password() }, 0));
    assert_eq!(auth, r"*2\r\n$4\r\nAUTH\r\n$7\r\nhunter2\r\n*1\r\n$4\r\nPING\r\n");
    assert_eq!(sent(&mut Connection::new(plain(false), 0)), r"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n");
    assert_eq!(sent(&mut Connection::new(plain(true), 0)), r"*1\r\n$4\r\nPING\r\n");
}

/// An old Redis or a proxy without HELLO works, and so does a Redis that dislikes only our name.
#[test]
fn without_hello_the_older_protocol_does() {
    let introduction = r"*3\r\n$4\r\nAUTH\r\n$3\r\napp\r\n$7\r\nhunter2\r\n*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$4\r\ngyre\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*1\r\n$8\r\nREADONLY\r\n*1\r\n$4\r\nPING\r\n";
    assert_eq!(sent(&mut Connection::new(full(true), 0)), introduction);
    let refusals: [&[u8]; 5] = [
        b"-NOPROTO unsupported protocol version\r\n",
        b"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `app`, `hunter2`, \r\n",
        b"-ERR unsupported command 'hello'\r\n",
        b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
        b"-NOAUTH Authentication required.\r\n",
    ];
    for refusal in refusals {
        let mut connection = Connection::new(full(false), 0);
        get(&mut connection, 7);
        sent(&mut connection);
        quietly(&mut connection, refusal);
        assert_eq!(sent(&mut connection), introduction);
        quietly(&mut connection, b"+OK\r\n-ERR no such subcommand\r\n+OK\r\n-ERR cluster support disabled\r\n");
        quietly(&mut connection, b"-NOPERM this user has no permissions to run the 'ping' command\r\n");
        assert!(connection.is_ready(), "{}", refusal.escape_ascii());
        assert_eq!(sent(&mut connection), r"*2\r\n$3\r\nGET\r\n$1\r\n7\r\n");
        assert_eq!(feed(&mut connection, b"$-1\r\n"), [reply(7, Reply::Nil)]);
        get(&mut connection, 8);
        sent(&mut connection);
        let events = feed(&mut connection, b"_\r\n");
        assert!(matches!(events[..], [Incoming::Failed { token: 8, .. }]), "RESP3 is not spoken here");
    }
}

/// A wrong password or a full Redis is told apart in the log, and a publish that waited gets its error at once.
#[test]
fn refusals_end_the_connection() {
    let refused = |command, answer| Failure::Refused { command, answer: bytes(answer) };
    let full_redis = "ERR max number of clients reached";
    let table: [(bool, &[&str], Failure); 9] = [
        (false, &["-WRONGPASS invalid username-password pair or user is disabled."], Failure::Password),
        (false, &["-LOADING Redis is loading"], Failure::NotReady(bytes("LOADING Redis is loading"))),
        (false, &["%0", "-ERR DB index is out of range"], refused("SELECT", "ERR DB index is out of range")),
        (false, &["%0", "+OK", "+OK", "-MASTERDOWN Link"], Failure::NotReady(bytes("MASTERDOWN Link"))),
        (false, &["-ERR max number of clients reached"], Failure::NotReady(bytes(full_redis))),
        (
            false,
            &["-DENIED Redis is running in protected mode"],
            refused("HELLO", "DENIED Redis is running in protected mode"),
        ),
        (true, &["-ERR invalid password"], Failure::Password),
        (true, &["-WRONGPASS invalid username-password pair"], Failure::Password),
        (true, &["+OK", "+OK", "-NOPERM no select"], refused("SELECT", "NOPERM no select")),
    ];
    for (force_resp2, answers, why) in table {
        let mut connection = Connection::new(full(force_resp2), 0);
        get(&mut connection, 7);
        let mut events = Vec::new();
        for answer in answers {
            assert!(!sent(&mut connection).contains("GET"), "{answers:?}");
            events.extend(feed(&mut connection, format!("{answer}\r\n").as_bytes()));
        }
        assert_eq!(connection.failure(), Some(&why));
        assert!(!why.to_string().contains("hunter2"));
        assert_eq!(events, [Incoming::Failed { token: 7, sent: false, why }]);
        assert_eq!(sent(&mut connection), "");
    }
}

/// The configuration has no password and Redis wants one, with either protocol.
#[test]
fn a_missing_password_is_named() {
    for (force_resp2, answer) in [
        (false, b"-NOAUTH HELLO must be called with the client already authenticated\r\n".as_slice()),
        (true, b"-NOAUTH Authentication required.\r\n".as_slice()),
    ] {
        let mut connection = Connection::new(plain(force_resp2), 0);
        quietly(&mut connection, answer);
        assert_eq!(connection.failure(), Some(&Failure::NoPassword));
    }
}
