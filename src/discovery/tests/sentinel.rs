//! A primary that Sentinels name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::TryRecvError;
use std::time::Instant;

use gyre_io::redis::{Endpoint, Servers};

use super::server::{Nobody, Server, array, pushed, redis, string};
use super::{Started, eventually, reach};
use crate::discovery::sentinel::Sentinels;
use crate::discovery::trouble::What;

/// What a Sentinel answers that names `primary` and knows of `others`.
fn sentinel(primary: SocketAddr, others: Vec<SocketAddr>) -> impl Fn(&str) -> String + Send + Sync + 'static {
    let address = |address: &SocketAddr| [string(&address.ip().to_string()), string(&address.port().to_string())];
    move |command| match command {
        "SENTINEL GET-MASTER-ADDR-BY-NAME m" => array(&address(&primary)),
        "SENTINEL GET-MASTER-ADDR-BY-NAME other" => "*-1\r\n".to_owned(),
        "SENTINEL SENTINELS m" => array(&others.iter().map(one_of_others).collect::<Vec<_>>()),
        "SUBSCRIBE +switch-master" => pushed(&[string("subscribe"), string("+switch-master"), ":1\r\n".to_owned()]),
        command => redis(command, "sentinel", "master"),
    }
}

fn one_of_others(address: &SocketAddr) -> String {
    let fields = [("name", "x"), ("ip", &*address.ip().to_string()), ("port", &*address.port().to_string())];
    array(&fields.iter().flat_map(|(name, value)| [string(name), string(value)]).collect::<Vec<_>>())
}

fn server(role: &'static str) -> Server {
    Server::start(move |command| redis(command, "standalone", role))
}

fn address(sentinels: &[SocketAddr]) -> String {
    let hosts: Vec<String> = sentinels.iter().map(ToString::to_string).collect();
    format!("redis+sentinel://{}?sentinel_master_name=m", hosts.join(","))
}

fn one(server: &Server) -> Servers {
    Servers::One(Endpoint::Internet(server.address))
}

/// One of the machines with a Sentinel is down, another was cut off when the primary changed: the node must start, and
/// with the server that takes writes.
#[test]
fn one_sentinel_that_knows_is_enough() {
    let (old, new) = (server("replica"), server("master"));
    let left_behind = Server::start(sentinel(old.address, Vec::new()));
    let knowing = Server::start(sentinel(new.address, Vec::new()));
    let nobody = Nobody::new();
    let started = Started::new(&address(&[nobody.address, left_behind.address, knowing.address])).unwrap();
    assert_eq!(started.servers, one(&new));
}

/// Whoever set up the addresses wrongly must see how.
#[test]
fn what_ends_the_start() {
    let replica = server("replica");
    let (knowing, nobody) = (Server::start(sentinel(replica.address, Vec::new())), Nobody::new());
    let none = nobody.address;
    let of = |address: String| Started::new(&address).map(|_| ()).unwrap_err();
    let error = of(address(&[knowing.address]));
    assert!(error.contains("as the primary m, but it is a replica"), "{error}");
    let error = of(address(&[knowing.address]).replace("name=m", "name=other"));
    assert!(error.contains("watches no primary with the name other; correct sentinel_master_name"), "{error}");
    let error = of(address(&[replica.address]));
    assert!(error.contains("is no Sentinel"), "{error}");
    let error = of(address(&[none]));
    assert!(error.contains(&format!("cannot reach sentinel at {none}")), "{error}");
    // Several that name the same server which is down: it is the news, and not that they agree.
    let others = [none, none].map(|none| Server::start(sentinel(none, Vec::new())));
    let error = of(address(&others.map(|other| other.address)));
    assert!(error.contains(&format!("cannot reach redis at {none}: Connection refused")), "{error}");
    let refusing = Server::start(|_| "-NOAUTH Authentication required.\r\n".to_owned());
    let error = of(address(&[refusing.address]));
    assert!(error.contains("set sentinel_user and sentinel_password"), "{error}");
}

/// After a failover the node must go on with the new primary, even if those Sentinels that it was configured with are
/// gone by then.
#[test]
fn a_doubt_finds_the_new_primary() {
    let (old, new) = (server("master"), server("master"));
    let second = Server::start(sentinel(new.address, Vec::new()));
    let first = Server::start(sentinel(old.address, vec![second.address]));
    let started = Started::new(&address(&[first.address])).unwrap();
    assert_eq!(started.servers, one(&old));
    first.now(|_| "-ERR going down\r\n".to_owned());
    started.discovery.doubt(0);
    assert_eq!(started.next(), one(&new));
}

/// While a server is gone every core doubts all the time. Sentinels and name services must not notice how many there are.
#[test]
fn many_doubts_are_few_looks() {
    let primary = server("master");
    let looks = Arc::new(AtomicU32::new(0));
    let (counted, answers) = (Arc::clone(&looks), sentinel(primary.address, Vec::new()));
    let server = Server::start(move |command| {
        counted.fetch_add(u32::from(command.starts_with("SENTINEL GET")), Ordering::Relaxed);
        answers(command)
    });
    let began = Instant::now();
    let started = Started::new(&address(&[server.address])).unwrap();
    eventually("three looks", || {
        started.discovery.doubt(0);
        (looks.load(Ordering::Relaxed) > 3).then_some(())
    });
    let most = 2 + began.elapsed().as_millis() / 250;
    assert!(u128::from(looks.load(Ordering::Relaxed)) <= most, "{looks:?} of {most}");
    // And none any more once nobody listens: the thread has ended.
    drop(started.discovery);
    eventually("end", || matches!(started.found.try_recv(), Err(TryRecvError::Disconnected)).then_some(()));
}

/// Failovers are announced; a node that does not listen notices them seconds later.
#[test]
fn announcements() {
    let primary = server("master");
    let server = Server::start(sentinel(primary.address, Vec::new()));
    let endpoint = crate::settings::redis::Endpoint::Host { name: "127.0.0.1".to_owned(), port: server.address.port() };
    let mut sentinels = Sentinels::new("m".to_owned(), vec![endpoint], reach(What::Sentinel));
    sentinels.look(&reach(What::Redis)).unwrap();
    assert!(sentinels.listening().is_some() && !sentinels.was_switched());
    let say = |name: &str| {
        let text = string(&format!("{name} 10.0.0.1 1 10.0.0.2 2"));
        server.push(&pushed(&[string("message"), string("+switch-master"), text]));
    };
    say("m2");
    say("m");
    eventually("announcement", || sentinels.was_switched().then_some(()));
    server.push("-no protocol\r\n");
    eventually("end", || sentinels.was_switched().then_some(()));
    assert!(sentinels.listening().is_none());
}
