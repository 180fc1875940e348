//! Memory of a node per channel with a subscriber: the growth of its resident memory from N to ten times as many
//! channels, on the same connections. With history and presence, without either, and the first on a node that keeps all
//! in its own memory. Then as many second subscribers, on connections that were there before.

use std::time::Duration;

use anyhow::Result;

use super::Bench;
use super::clients::Crowd;
use super::node::Node;
use super::server::Redis;
use super::table::{Goal, Row, Table};

const CLIENTS: usize = 100;
/// Channels of each client, before and after.
const FEW: usize = 100;
const MANY: usize = 10 * FEW;
/// A core gives back what the last few have left after ten seconds.
const SETTLE: Duration = Duration::from_secs(13);

/// Bytes.
struct Costs {
    /// A channel with its first subscriber.
    with_subscriber: f64,
    /// A second subscriber.
    subscriber: f64,
}

pub(super) fn measure(bench: &mut Bench, table: &mut Table) -> Result<()> {
    let (mut full, mut plain, mut in_memory) = (vec![], vec![], vec![]);
    // What a page more or less of an allocator amounts to is below the noise of two repetitions.
    for _ in 0..bench.rounds.min(2) {
        full.push(costs(bench, true, "full")?);
        plain.push(costs(bench, true, "plain")?);
        in_memory.push(costs(bench, false, "full")?);
    }
    let with_subscriber = |costs: &[Costs]| costs.iter().map(|costs| costs.with_subscriber).collect::<Vec<_>>();
    let subscriber = |costs: &[Costs]| costs.iter().map(|costs| costs.subscriber).collect::<Vec<_>>();
    let mut row = |what: &str, values, reference, goal| {
        let what = format!("memory of the node per {what}");
        table.add(Row { what, unit: "B", values, reference, goal });
    };
    let here = |values| Some(("node without Redis", values));
    let bare = |values| Some(("plain", values));
    let channel = "channel with history and presence and its subscriber";
    row(channel, with_subscriber(&full), here(with_subscriber(&in_memory)), Goal::AtMost(400.0));
    row(channel, with_subscriber(&full), bare(with_subscriber(&plain)), Goal::None);
    let second = "second subscriber of such a channel";
    row(second, subscriber(&full), here(subscriber(&in_memory)), Goal::None);
    row(second, subscriber(&full), bare(subscriber(&plain)), Goal::None);
    Ok(())
}

fn costs(bench: &mut Bench, with_redis: bool, namespace: &str) -> Result<Costs> {
    let clients = bench.size(CLIENTS, 10);
    let redis = if with_redis { Some(Redis::start(bench)?) } else { None };
    let node = Node::start(bench, redis.as_ref())?;
    // The second half has a channel each with one of the first half.
    let (first, second, all) = (0..clients, clients..2 * clients, 0..2 * clients);
    let mut crowd = Crowd::connect(node.port, 2 * clients)?;
    let name = |client, number| format!("{namespace}:room-{:06}", client % clients * MANY + number);
    let settle = if bench.short { Duration::from_millis(500) } else { SETTLE };
    let mut sizes = [0.0; 3];
    let steps = [(all, 0..FEW), (first, FEW..MANY), (second, FEW..MANY)];
    for ((who, numbers), size) in steps.into_iter().zip(&mut sizes) {
        crowd.subscribe(bench, who, numbers, name)?;
        crowd.rest(bench, settle)?;
        *size = node.resident_bytes()? as f64;
    }
    let more = (clients * (MANY - FEW)) as f64;
    Ok(Costs { with_subscriber: (sizes[1] - sizes[0]) / more, subscriber: (sizes[2] - sizes[1]) / more })
}
