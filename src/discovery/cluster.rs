//! The map of a cluster, from any of its nodes that answers.
//!
//! On the threads of discovery. A node that is cut off from the others, or does not know yet, says so or shows it by an old
//! map, so a map of a cluster that is down only counts if no other node knows better, and is asked for again soon. Names
//! of nodes are resolved here; the cores see addresses.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use gyre_io::redis::{Endpoint, Reply, SlotMap};

use super::conversation::{Conversation, Reach};
use super::probe::Server;
use super::resolve::places;
use super::sentinel::endpoint;
use super::standalone::first;
use super::trouble::{Trouble, What};
use crate::settings::redis;

/// How often to ask without a reason. Cores follow redirections by themselves.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// How long it is asked more often after a doubt: as long as nodes take by default to agree that one is gone
/// (`cluster-node-timeout`, 15 s), and to vote.
pub(super) const DOUBTED: Duration = Duration::from_secs(20);

/// Nodes that are asked at a time while each says that the cluster is down.
const OPINIONS_MAX: usize = 5;

/// The nodes of one shard.
pub(super) struct Cluster {
    seeds: Vec<redis::Endpoint>,
    /// All that the last map named, whoever told it first.
    nodes: Vec<redis::Endpoint>,
    /// Which of its addresses a node was found at.
    resolved: HashMap<redis::Endpoint, Endpoint>,
    /// It was said that the cluster is not whole.
    was_told: bool,
}

/// What one node knows.
pub(super) struct View {
    pub(super) map: Arc<SlotMap>,
    /// It takes commands.
    pub(super) is_ok: bool,
    pub(super) conversation: Conversation,
    pub(super) version: String,
}

impl Cluster {
    pub(super) fn new(seeds: Vec<redis::Endpoint>) -> Self {
        Self { seeds, nodes: Vec::new(), resolved: HashMap::new(), was_told: false }
    }

    pub(super) fn look(&mut self, reach: &Reach) -> Result<View, Trouble> {
        let mut doubtful: Option<View> = None;
        let mut trouble: Option<Trouble> = None;
        let mut opinions = 0;
        let seeds = self.seeds.iter().filter(|seed| !self.nodes.contains(seed));
        let in_turn: Vec<redis::Endpoint> = self.nodes.iter().chain(seeds).cloned().collect();
        for node in in_turn {
            match self.view_of(reach, &node) {
                Ok(view) if view.is_ok => return Ok(self.checked(view)),
                Ok(view) => {
                    opinions += 1;
                    doubtful.get_or_insert(view);
                }
                Err(this) => trouble = Some(this.or(trouble)),
            }
            if opinions == OPINIONS_MAX {
                break;
            }
        }
        match doubtful {
            Some(view) => Ok(self.checked(view)),
            None => Err(trouble.unwrap_or_else(|| Trouble::Unfit("the cluster has no node to ask".to_owned()))),
        }
    }

    fn view_of(&mut self, reach: &Reach, node: &redis::Endpoint) -> Result<View, Trouble> {
        let (mut conversation, server) = first(places(What::Redis, node)?, |place| {
            let mut conversation = Conversation::begin(reach, place)?;
            let server = Server::ask(&mut conversation)?;
            Ok((conversation, server))
        })?;
        let at = conversation.place().clone();
        if !server.is_cluster {
            return Err(Trouble::Unfit(format!(
                "redis at {at} is not a node of a cluster; give its address without redis+cluster:// or cluster_address"
            )));
        }
        let reply = match conversation.call(&["CLUSTER", "SLOTS"])? {
            Ok(reply) => reply,
            Err(error) => {
                let text = String::from_utf8_lossy(error.text()).into_owned();
                return Err(Trouble::Unfit(format!(
                    "redis at {at} refused CLUSTER SLOTS: {text}; the node needs it to know which server has what"
                )));
            }
        };
        // Who may not ask must do without.
        let info = conversation.call(&["CLUSTER", "INFO"])?.ok().and_then(Reply::into_bytes).unwrap_or_default();
        let is_ok = !String::from_utf8_lossy(&info).contains("cluster_state:fail");
        let told = told(reply, node)
            .ok_or_else(|| Trouble::Unfit(format!("redis at {at} sent a map of its cluster that cannot be read")))?;
        self.resolved = self.addresses_of(told.ranges.iter().map(|(_, primary)| primary));
        let ranges = told.ranges.into_iter();
        let ranges = ranges.filter_map(|(range, primary)| Some((range, self.resolved.get(&primary)?.clone())));
        let map = SlotMap::new(ranges).map_err(|error| Trouble::Unfit(format!("redis at {at}: {error}")))?;
        self.nodes = told.nodes;
        // Who answers is asked again: another one may have to be waited for.
        if let Some(index) = self.nodes.iter().position(|known| known == node) {
            self.nodes[..=index].rotate_right(1);
        }
        Ok(View { map: Arc::new(map), is_ok, conversation, version: server.version })
    }

    /// One address of each node; the same as before while its name has that one, or none.
    fn addresses_of<'a>(&self, nodes: impl Iterator<Item = &'a redis::Endpoint>) -> HashMap<redis::Endpoint, Endpoint> {
        let mut addresses = HashMap::new();
        for node in nodes {
            if addresses.contains_key(node) {
                continue;
            }
            let known = self.resolved.get(node);
            let address = match (places(What::Redis, node), known) {
                (Ok(places), Some(known)) if places.contains(known) => known.clone(),
                (Ok(mut places), _) => places.swap_remove(0),
                (Err(_), Some(known)) => known.clone(),
                (Err(trouble), None) => {
                    // Its slots have nobody until the name has an address.
                    tracing::debug!(%trouble, "a node of the cluster is left out");
                    continue;
                }
            };
            addresses.insert(node.clone(), address);
        }
        addresses
    }

    /// Says once what is wrong with the cluster as a whole.
    fn checked(&mut self, view: View) -> View {
        let orphans = view.map.orphans();
        let is_whole = orphans == 0 && view.is_ok;
        if !is_whole && !self.was_told {
            let at = view.conversation.place();
            match orphans {
                0 => tracing::warn!(%at, "the redis cluster says that it is down; publications fail until it is not"),
                slots => {
                    tracing::warn!(%at, slots, "slots of the redis cluster have no primary; channels in them fail")
                }
            }
        }
        self.was_told = !is_whole;
        view
    }
}

/// What a node tells.
#[derive(Debug, PartialEq)]
struct Told {
    ranges: Vec<(RangeInclusive<u16>, redis::Endpoint)>,
    /// Primaries and replicas, each once.
    nodes: Vec<redis::Endpoint>,
}

/// Reads the answer to `CLUSTER SLOTS` of `asked`: ranges, each with its primary and then its replicas.
fn told(reply: Reply, asked: &redis::Endpoint) -> Option<Told> {
    let mut told = Told { ranges: Vec::new(), nodes: Vec::new() };
    for range in reply.into_array()? {
        let mut parts = range.into_array()?.into_iter();
        let mut slot = || u16::try_from(parts.next()?.as_int()?).ok();
        let range = slot()?..=slot()?;
        for (index, server) in parts.enumerate() {
            // The host of one that was never met is not known.
            let Some(node) = node(server, asked) else { continue };
            if index == 0 {
                told.ranges.push((range.clone(), node.clone()));
            }
            if !told.nodes.contains(&node) {
                told.nodes.push(node);
            }
        }
    }
    Some(told)
}

/// Host, port, id, and since Redis 7 more about it. The host may be left out: then it is that of who was asked.
fn node(server: Reply, asked: &redis::Endpoint) -> Option<redis::Endpoint> {
    let mut parts = server.into_array()?;
    let is_left_out = match parts.first()? {
        Reply::Nil => true,
        Reply::Bytes(host) => host.is_empty(),
        _ => return None,
    };
    if is_left_out {
        let host = match asked {
            redis::Endpoint::Host { name, .. } => name.clone(),
            redis::Endpoint::Unix(_) => "127.0.0.1".to_owned(),
        };
        parts[0] = Reply::Bytes(host.into());
    }
    // A name was preferred and there is none.
    if parts[0].as_bytes().is_some_and(|host| host == "?") {
        let more = parts.get(3).cloned()?.into_array()?;
        let address = more.chunks_exact(2).find(|pair| pair[0].as_bytes().is_some_and(|name| name == "ip"))?;
        parts[0] = address[1].clone();
    }
    endpoint(parts.first(), parts.get(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: u16) -> redis::Endpoint {
        redis::Endpoint::Host { name: name.to_owned(), port }
    }

    fn text(text: &'static str) -> Reply {
        Reply::Bytes(text.into())
    }

    fn server(host: Reply, port: i64, more: &[(&'static str, &'static str)]) -> Reply {
        let more = more.iter().flat_map(|(name, value)| [text(name), text(value)]).collect();
        Reply::Array(vec![host, Reply::Int(port), text("id"), Reply::Array(more)])
    }

    fn range(first: i64, last: i64, servers: Vec<Reply>) -> Reply {
        Reply::Array([Reply::Int(first), Reply::Int(last)].into_iter().chain(servers).collect())
    }

    /// Each way in which a cluster tells where its nodes are; one read wrongly is a cluster that cannot be used.
    #[test]
    fn hosts_are_told_in_several_ways() {
        let reply = Reply::Array(vec![
            range(0, 9, vec![server(text("10.0.0.1"), 1, &[]), server(text("10.0.0.2"), 2, &[])]),
            range(10, 19, vec![server(Reply::Nil, 3, &[])]),
            range(20, 29, vec![server(text(""), 4, &[])]),
            range(30, 39, vec![server(text("?"), 5, &[("hostname", ""), ("ip", "10.0.0.5")])]),
            range(40, 49, vec![server(text("node-6.example"), 6, &[("ip", "10.0.0.6")])]),
            range(50, 59, vec![server(text("10.0.0.1"), 1, &[])]),
            // Not met yet.
            range(60, 69, vec![server(text("?"), 7, &[]), server(text("10.0.0.8"), 0, &[])]),
        ]);
        let told = told(reply, &host("seed", 9)).unwrap();
        let expected = [
            (0..=9, host("10.0.0.1", 1)),
            (10..=19, host("seed", 3)),
            (20..=29, host("seed", 4)),
            (30..=39, host("10.0.0.5", 5)),
            (40..=49, host("node-6.example", 6)),
            (50..=59, host("10.0.0.1", 1)),
        ];
        assert_eq!(told.ranges, expected);
        let nodes: Vec<u16> = told
            .nodes
            .iter()
            .map(|node| match node {
                redis::Endpoint::Host { port, .. } => *port,
                redis::Endpoint::Unix(_) => 0,
            })
            .collect();
        assert_eq!(nodes, [1, 2, 3, 4, 5, 6]);
    }

    /// Something else that answers must not stop the thread.
    #[test]
    fn what_is_no_map() {
        for reply in [
            Reply::Nil,
            text("OK"),
            Reply::Array(vec![Reply::Int(1)]),
            Reply::Array(vec![range(0, 70_000, vec![])]),
            Reply::Array(vec![range(-1, 5, vec![])]),
        ] {
            assert_eq!(told(reply, &host("seed", 9)), None);
        }
        assert_eq!(told(Reply::Array(Vec::new()), &host("seed", 9)).map(|told| told.ranges.len()), Some(0));
    }
}
