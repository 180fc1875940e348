//! What an error of a node says about where a command belongs.
//!
//! Pure. A core resolves no names, so a redirection to one that no known node has cannot be followed here: the error goes
//! to the caller, and whoever may resolve looks at the cluster anew. Must never trust the text: it comes from the network.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::nodes::Nodes;
use crate::redis::{Endpoint, ReplyError};

/// See the module.
#[derive(Debug, PartialEq)]
pub(super) enum Says {
    /// The slot is there, from now on.
    Moved(Endpoint),
    /// The slot is on its way there, this key has arrived, others may not have.
    Ask(Endpoint),
    /// The slot is on its way, and keys of this command are at both ends.
    Later,
    /// The node does not know the script.
    NoScript,
    /// Nothing that helps with this command, but the cluster may be another than is believed.
    Doubtful,
    /// It is about the command.
    Nothing,
}

/// Reads the error with which the node `from` answered a command about `slot`.
pub(super) fn read(error: &ReplyError, slot: u16, from: &Endpoint, nodes: &Nodes) -> Says {
    match error.code() {
        "MOVED" => elsewhere(error, slot, from, nodes).map_or(Says::Doubtful, Says::Moved),
        "ASK" => elsewhere(error, slot, from, nodes).map_or(Says::Doubtful, Says::Ask),
        "TRYAGAIN" => Says::Later,
        "NOSCRIPT" => Says::NoScript,
        // Without a majority, without a primary, or not a primary any more.
        "CLUSTERDOWN" | "MASTERDOWN" | "LOADING" | "READONLY" => Says::Doubtful,
        _ => Says::Nothing,
    }
}

/// `3999 127.0.0.1:6381`, `3999 ::1:6381`, or `3999 :6381` for another port of the node that says so.
fn elsewhere(error: &ReplyError, slot: u16, from: &Endpoint, nodes: &Nodes) -> Option<Endpoint> {
    let message = error.message();
    let (of, address) = message.split_once(' ')?;
    // About another slot than ours there is no going on: we count differently.
    if of.parse() != Ok(slot) {
        return None;
    }
    let (host, port) = address.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    match (host, from) {
        ("", Endpoint::Internet(here)) => return Some(Endpoint::Internet(SocketAddr::new(here.ip(), port))),
        ("", Endpoint::Named(name, here)) => {
            return Some(Endpoint::Named(Arc::clone(name), SocketAddr::new(here.ip(), port)));
        }
        ("", Endpoint::Unix(_)) => return None,
        _ => {}
    }
    let address = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
    // A node that is known stays what it is: TLS looks at the name that it is known by.
    let is_it = |known: &&Endpoint| match known {
        Endpoint::Internet(at) => Some(*at) == address,
        Endpoint::Named(name, at) => Some(*at) == address || (**name == *host && at.port() == port),
        Endpoint::Unix(_) => false,
    };
    let known = nodes.iter().map(|(_, known, _)| known).find(is_it);
    known.cloned().or(address.map(Endpoint::Internet))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::cluster::tests::error;
    use crate::redis::tests::Dice;

    fn said(text: &[u8]) -> Says {
        read(&error(text), 3999, &here(), &Nodes::default())
    }

    fn here() -> Endpoint {
        Endpoint::Internet(([10, 0, 0, 7], 7000).into())
    }

    fn at(address: &str) -> Endpoint {
        Endpoint::Internet(address.parse().unwrap())
    }

    /// A redirection that is read wrongly loses every command of the slot.
    #[test]
    fn redirections_are_read() {
        let table: [(&str, Says); 12] = [
            ("MOVED 3999 127.0.0.1:6381", Says::Moved(at("127.0.0.1:6381"))),
            ("ASK 3999 127.0.0.1:6381", Says::Ask(at("127.0.0.1:6381"))),
            ("MOVED 3999 ::1:6381", Says::Moved(at("[::1]:6381"))),
            ("MOVED 3999 2001:db8::7:6381", Says::Moved(at("[2001:db8::7]:6381"))),
            ("MOVED 3999 :6381", Says::Moved(at("10.0.0.7:6381"))),
            ("MOVED 3999 redis-2.internal:6381", Says::Doubtful),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Says::Later),
            ("CLUSTERDOWN The cluster is down", Says::Doubtful),
            ("READONLY You can't write against a read only replica.", Says::Doubtful),
            ("NOSCRIPT No matching script. Please use EVAL.", Says::NoScript),
            ("WRONGTYPE Operation against a key", Says::Nothing),
            ("my own error", Says::Nothing),
        ];
        for (text, expected) in table {
            assert_eq!(said(text.as_bytes()), expected, "{text}");
        }
        let unix = Endpoint::Unix("/tmp/redis.sock".into());
        assert_eq!(read(&error(b"MOVED 3999 :6381"), 3999, &unix, &Nodes::default()), Says::Doubtful);
    }

    /// Where nodes have names, every redirection would be an error for the caller, or lead to a second connection to the
    /// same node under a name that its certificate does not have.
    #[test]
    fn nodes_with_names_are_found() {
        let named = |port: u16| Endpoint::Named("redis-2.internal".into(), ([10, 0, 0, 8], port).into());
        let mut nodes = Nodes::default();
        nodes.take_up(&named(6381));
        nodes.take_up(&at("10.0.0.9:6381"));
        let said = |text: &[u8], from: &Endpoint| read(&error(text), 3999, from, &nodes);
        let table: [(&[u8], Says); 6] = [
            (b"MOVED 3999 redis-2.internal:6381", Says::Moved(named(6381))),
            (b"ASK 3999 10.0.0.8:6381", Says::Ask(named(6381))),
            (b"MOVED 3999 10.0.0.9:6381", Says::Moved(at("10.0.0.9:6381"))),
            (b"MOVED 3999 10.0.0.8:6382", Says::Moved(at("10.0.0.8:6382"))),
            (b"MOVED 3999 redis-2.internal:6382", Says::Doubtful),
            (b"MOVED 3999 redis-3.internal:6381", Says::Doubtful),
        ];
        for (text, expected) in table {
            assert_eq!(said(text, &here()), expected, "{}", text.escape_ascii());
        }
        assert_eq!(said(b"MOVED 3999 :6382", &named(6381)), Says::Moved(named(6382)));
    }

    /// Whatever arrives instead is an error for the caller and a look at the cluster, never the end of the core.
    #[test]
    fn broken_redirections_are_refused() {
        let table: [&[u8]; 13] = [
            b"MOVED",
            b"MOVED 3999",
            b"MOVED 3999 ",
            b"MOVED 3998 127.0.0.1:6381",
            b"MOVED -1 127.0.0.1:6381",
            b"MOVED 99999 127.0.0.1:6381",
            b"MOVED 3999 127.0.0.1",
            b"MOVED 3999 127.0.0.1:",
            b"MOVED 3999 127.0.0.1:0",
            b"MOVED 3999 127.0.0.1:65536",
            b"MOVED 3999 127.0.0.1:6381@16381",
            b"ASK 3999 ?:6381",
            b"ASK 3999 \xff\xfe:6381",
        ];
        for text in table {
            assert_eq!(said(text), Says::Doubtful, "{}", text.escape_ascii());
        }
        let mut dice = Dice(7);
        let mut followed = 0;
        for _ in 0..20_000 {
            let mut text = [b"MOVED 3999 127.0.0.1:6381".as_slice(), b"ASK 3999 ::1:6381"][dice.roll(2)].to_vec();
            for _ in 0..=dice.roll(3) {
                let place = dice.roll(text.len());
                match dice.roll(3) {
                    0 => text[place] = dice.roll(256) as u8,
                    1 => text.truncate(place.max(1)),
                    _ => text.insert(place, b" :.0?[]-"[dice.roll(8)]),
                }
            }
            text.retain(|byte| !matches!(byte, b'\r' | b'\n'));
            followed += usize::from(matches!(said(&text), Says::Moved(_) | Says::Ask(_)));
        }
        assert!(followed > 0);
    }
}
