//! One server behind an address.

use gyre_io::redis::{Endpoint, Servers};

use super::server::{Nobody, Server, redis};
use super::{Started, reach};
use crate::discovery::standalone::among;
use crate::discovery::trouble::What;

fn started(address: &str) -> Result<Servers, String> {
    Started::new(address).map(|started| started.servers)
}

/// A node that starts although its Redis cannot be used answers every publish with an error; one that does not start must
/// say why.
#[test]
fn what_ends_the_start() {
    let of = |answers: fn(&str) -> String| {
        let server = Server::start(answers);
        let error = started(&format!("redis://user:hunter2@{}", server.address)).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(error.starts_with("engine.redis.address.[0]: "), "{error}");
        error.replace(&server.address.to_string(), "ADDRESS")
    };
    for (answers, expected) in [
        (
            (|_| "-NOAUTH Authentication required.\r\n".to_owned()) as fn(&str) -> String,
            "redis at ADDRESS: redis requires a password; set user and password",
        ),
        (|_| "-WRONGPASS invalid username-password pair\r\n".to_owned(), "refused user or password; check them"),
        (|_| "HTTP/1.1 400 Bad Request\r\n".to_owned(), "check that the address is that of a redis server"),
        (|command| redis(command, "standalone", "replica"), "is a replica, which takes no writes"),
        (|_| String::new(), "did not answer in time (io_timeout)"),
        (
            |command| match command.starts_with("XRANGE") {
                true => "-ERR unknown command 'XRANGE'\r\n".to_owned(),
                false => redis(command, "standalone", "master"),
            },
            "has no streams (unknown command XRANGE); upgrade it",
        ),
        (
            |command| match command.split(' ').next() {
                Some("XRANGE") => "-ERR unknown command 'XRANGE'\r\n".to_owned(),
                Some("ROLE") => "*1\r\n$8\r\nsentinel\r\n".to_owned(),
                _ => redis(command, "standalone", "master"),
            },
            "is a Sentinel; write redis+sentinel://",
        ),
        (
            |command| match command.starts_with("XRANGE") {
                true => "-NOPERM this user has no permissions to run the 'xrange' command\r\n".to_owned(),
                false => redis(command, "standalone", "master"),
            },
            "allow it the commands of the engine, keys ~p.* and channels &p.*",
        ),
    ] {
        let error = of(answers);
        assert!(error.contains(expected), "{error}");
    }
    let nobody = Nobody::new();
    let expected = format!(
        "engine.redis.address.[0]: cannot reach redis at {}: Connection refused; start it or correct the address",
        nobody.address
    );
    assert_eq!(started(&nobody.address.to_string()).unwrap_err(), expected);
}

/// A Redis that was restarted together with the node needs some time for its data; the node must not give up on it.
#[test]
fn a_server_that_loads_is_waited_for() {
    let loading = std::sync::atomic::AtomicU32::new(2);
    let server = Server::start(move |command| {
        let less = |left: u32| left.checked_sub(1);
        let order = std::sync::atomic::Ordering::Relaxed;
        match command == "PING" && loading.fetch_update(order, order, less).is_ok() {
            true => "-LOADING Redis is loading the dataset in memory\r\n".to_owned(),
            false => redis(command, "standalone", "master"),
        }
    });
    let found = started(&server.address.to_string()).unwrap();
    assert_eq!(found, Servers::One(Endpoint::Internet(server.address)));
}

/// Redis 5 knows no `HELLO`; what it is must be found out with older commands.
#[test]
fn the_older_protocol() {
    let answers = |role: &'static str| {
        move |command: &str| match command.split(' ').next() {
            Some("HELLO") => "-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n".to_owned(),
            Some("INFO") => super::server::string("# Server\r\nredis_version:5.0.7\r\nredis_mode:standalone\r\n"),
            Some("ROLE") => format!("*2\r\n${}\r\n{role}\r\n:0\r\n", role.len()),
            _ => redis(command, "", ""),
        }
    };
    let server = Server::start(answers("master"));
    assert!(started(&server.address.to_string()).is_ok());
    server.now(answers("slave"));
    assert!(started(&server.address.to_string()).unwrap_err().contains("is a replica"));
}

/// A name may have several addresses, and one of them a server that is of no use. The one that is in use stays so while it
/// can: each change costs all subscriptions.
#[test]
fn the_address_that_takes_writes() {
    let servers = ["replica", "master", "master"]
        .map(|role| Server::start(move |command| redis(command, "standalone", role)))
        .map(|server| (Endpoint::Named("redis.example".into(), server.address), server));
    let places = || servers.iter().map(|(place, _)| place.clone()).collect::<Vec<_>>();
    let reach = reach(What::Redis);
    let of = |in_use| among(&reach, places(), in_use).map(|(conversation, _)| conversation.place().clone()).unwrap();
    assert_eq!(of(None), servers[1].0);
    assert_eq!(of(Some(&servers[2].0)), servers[2].0);
    assert_eq!(of(Some(&servers[0].0)), servers[1].0, "it has become a replica");
    servers[2].1.now(|_| "-ERR going down\r\n".to_owned());
    assert_eq!(of(Some(&servers[2].0)), servers[1].0);
}
