//! A cluster behind one or several addresses.

use std::net::SocketAddr;

use gyre_io::redis::{Endpoint, Servers};

use super::Started;
use super::server::{Nobody, Server, array, redis, string};

/// What a node answers that thinks so of the cluster and knows these ranges.
fn node(state: &'static str, ranges: Vec<(u16, u16, SocketAddr)>) -> impl Fn(&str) -> String + Send + Sync + 'static {
    let number = |number: u16| format!(":{number}\r\n");
    move |command| match command {
        "CLUSTER SLOTS" => array(
            &ranges
                .iter()
                .map(|(first, last, at)| {
                    let server = array(&[string(&at.ip().to_string()), number(at.port()), string("id")]);
                    array(&[number(*first), number(*last), server])
                })
                .collect::<Vec<_>>(),
        ),
        "CLUSTER INFO" => string(&format!("cluster_state:{state}\r\ncluster_slots_assigned:1\r\n")),
        command => redis(command, "cluster", "master"),
    }
}

/// The primaries of the first and the last slot.
fn ends(servers: &Servers) -> [Option<SocketAddr>; 2] {
    let Servers::Cluster(map) = servers else { panic!("{servers:?}") };
    [0, 16_383].map(|slot| match map.primary_of(slot) {
        Some(Endpoint::Internet(address)) => Some(*address),
        None => None,
        other => panic!("{other:?}"),
    })
}

/// Most clusters are configured as if they were one server, because that is what their address looks like.
#[test]
fn an_address_turns_out_to_be_of_a_cluster() {
    let (one, two) = (Server::start(node("ok", Vec::new())), Server::start(node("ok", Vec::new())));
    let whole = vec![(0, 99, one.address), (100, 16_383, two.address)];
    one.now(node("ok", whole.clone()));
    two.now(node("ok", vec![(0, 16_383, two.address)]));
    for address in [format!("{}", one.address), format!("redis+cluster://{}", one.address)] {
        let started = Started::new(&address).unwrap();
        assert_eq!(ends(&started.servers), [Some(one.address), Some(two.address)]);
        // Nobody but the other node is left to tell.
        one.now(|_| "-ERR going down\r\n".to_owned());
        started.discovery.doubt(0);
        assert_eq!(ends(&started.next()), [Some(two.address); 2]);
        one.now(node("ok", whole.clone()));
    }
}

/// A node that is cut off from the others has an old map; used, it would send commands to a primary that is none.
#[test]
fn a_node_that_says_the_cluster_is_down_knows_less() {
    let (one, two) = (Server::start(node("ok", Vec::new())), Server::start(node("ok", Vec::new())));
    one.now(node("fail", vec![(0, 16_383, one.address)]));
    two.now(node("ok", vec![(0, 16_383, two.address)]));
    let both = format!("redis+cluster://{},{}", one.address, two.address);
    assert_eq!(ends(&Started::new(&both).unwrap().servers), [Some(two.address); 2]);
    // All of them say so: it has to do.
    two.now(node("fail", vec![(0, 16_382, two.address)]));
    let started = Started::new(&format!("redis+cluster://{}", two.address)).unwrap();
    assert_eq!(ends(&started.servers), [Some(two.address), None]);
    // And nobody needs to doubt it.
    two.now(node("ok", vec![(0, 16_383, two.address)]));
    assert_eq!(ends(&started.next()), [Some(two.address); 2]);
}

/// Wrong kinds of addresses, and addresses that only the cluster itself can use.
#[test]
fn what_ends_the_start() {
    let of = |address: SocketAddr| Started::new(&format!("redis+cluster://{address}")).map(|_| ()).unwrap_err();
    let alone = Server::start(|command| redis(command, "standalone", "master"));
    assert!(of(alone.address).contains("is not a node of a cluster"));
    let server = Server::start(|command| match command {
        "CLUSTER SLOTS" => "-NOPERM this user has no permissions to run the 'cluster|slots' command\r\n".to_owned(),
        command => redis(command, "cluster", "master"),
    });
    let error = of(server.address);
    assert!(error.contains("refused CLUSTER SLOTS: NOPERM"), "{error}");
    let nobody = Nobody::new();
    server.now(node("ok", vec![(0, 16_383, nobody.address)]));
    let error = of(server.address);
    assert!(error.contains("names nodes that cannot be used from here: cannot reach redis at"), "{error}");
    server.now(|command| match command {
        "CLUSTER SLOTS" => "+OK\r\n".to_owned(),
        command => redis(command, "cluster", "master"),
    });
    assert!(of(server.address).contains("map of its cluster that cannot be read"));
}
