//! The partitions of channel state while nothing happens: a node that looks after all of them, and beside it one that
//! tells nobody, each over a Redis of its own, at the same time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::http::Backend;
use super::{node, states};
use crate::redis::Bench;
use crate::redis::node::Node;
use crate::redis::server::Redis;
use crate::redis::table::{Goal, Row, Table};

/// Per cent of a core, for each round.
#[derive(Default)]
struct Figures {
    node: Vec<f64>,
    redis: Vec<f64>,
}

pub(super) fn measure(bench: &mut Bench, time: Duration, table: &mut Table) -> Result<()> {
    let backend = Backend::start(0)?;
    let redis = [Redis::start(bench)?, Redis::start(bench)?];
    let nodes = [node::telling(bench, &redis[0], Some(backend.port))?, node::telling(bench, &redis[1], None)?];
    states::wait_for_partitions(bench, &nodes[0])?;
    rest(bench, time / 2)?;
    let mut figures: [Figures; 2] = Default::default();
    for _ in 0..bench.rounds {
        let (before, started) = (used(&nodes, &redis)?, Instant::now());
        rest(bench, time * 2)?;
        let (after, elapsed_s) = (used(&nodes, &redis)?, started.elapsed().as_secs_f64());
        for ((figures, before), after) in figures.iter_mut().zip(before).zip(after) {
            figures.node.push((after.0 - before.0) * 100.0 / elapsed_s);
            figures.redis.push((after.1 - before.1) * 100.0 / elapsed_s);
        }
    }
    backend.check()?;
    let [on, off] = figures;
    let row = |rest: &str, values, reference, goal| Row {
        what: format!("{} idle partitions of channel state: {rest}", states::PARTITIONS),
        unit: "% of a core",
        values,
        reference: Some(reference),
        goal,
    };
    let less = |on: &[f64], off: &[f64]| -> Vec<f64> { on.iter().zip(off).map(|(on, off)| on - off).collect() };
    let (node, redis) = (less(&on.node, &off.node), less(&on.redis, &off.redis));
    table.add(row("CPU of the node", on.node, ("without", off.node), Goal::None));
    table.add(row("CPU of Redis", on.redis, ("without", off.redis), Goal::None));
    table.add(row("what they add to the node", node, ("to Redis", redis), Goal::AtMost(1.0)));
    Ok(())
}

/// CPU seconds so far, of each node and its Redis.
fn used(nodes: &[Node; 2], redis: &[Redis; 2]) -> Result<[(f64, f64); 2]> {
    let of = |at: usize| Ok((nodes[at].cpu_s()?, redis[at].cpu()?.as_secs_f64()));
    let both: Result<_> = of(0).and_then(|first: (f64, f64)| Ok([first, of(1)?]));
    both
}

fn rest(bench: &Bench, time: Duration) -> Result<()> {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        bench.go_on()?;
        // The fewer the better: each time this process runs, the idle ones lose their caches.
        sleep(deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(1)));
    }
    Ok(())
}
