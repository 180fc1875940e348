//! Publications on one node and deliveries on another, with Redis between them, at a moderate rate; beside it the same
//! load on one node that keeps all in its own memory. In turns.

use anyhow::{Context, Result};

use super::Bench;
use super::node::Node;
use super::server::Redis;
use super::table::{Goal, Row, Table};
use crate::compare::record::Metric;

const NAMES: [(&str, &str); 3] = [("p50", "delivery p50"), ("p99", "delivery p99"), ("p99.9", "delivery p99.9")];
/// Repetitions: each is 20,000 deliveries.
const ROUNDS_MAX: u32 = 3;

pub(super) fn measure(bench: &mut Bench, table: &mut Table) -> Result<()> {
    let redis = Redis::start(bench)?;
    let (a, b) = (Node::start(bench, Some(&redis))?, Node::start(bench, Some(&redis))?);
    let alone = Node::start(bench, None)?;
    let (mut over_redis, mut in_memory): ([Vec<f64>; 3], [Vec<f64>; 3]) = Default::default();
    for round in 0..bench.rounds.min(ROUNDS_MAX) {
        let mut both = [(&b, &a, &mut over_redis, "latency-redis"), (&alone, &alone, &mut in_memory, "latency-memory")];
        if round % 2 == 1 {
            both.reverse();
        }
        for (clients_at, published_at, figures, name) in both {
            run(bench, name, clients_at, published_at, figures)?;
        }
    }
    for (((name, _), values), reference) in NAMES.into_iter().zip(over_redis).zip(in_memory) {
        let goal = if name == "p99" { Goal::AtMost(3000.0) } else { Goal::None };
        let what = format!("1,000 publications/s on one node, delivery on another: {name}");
        table.add(Row { what, unit: "us", values, reference: Some(("one node in memory", reference)), goal });
    }
    Ok(())
}

fn run(bench: &Bench, name: &str, clients_at: &Node, published_at: &Node, figures: &mut [Vec<f64>; 3]) -> Result<()> {
    let duration = if bench.short { "1s" } else { "20s" };
    let args = ["mesh", "--clients", "100", "--channels", "100", "--publish-rate", "1k", "--prefix", "hist:l"];
    let args: Vec<&str> = args.into_iter().chain(["--cores", "1", "--duration", duration]).collect();
    let record = bench.load(name, clients_at, published_at, &args)?;
    for ((_, metric), values) in NAMES.into_iter().zip(figures) {
        let value = Metric::named(metric)?.of(&record);
        values.push(value.with_context(|| format!("the load generator has not measured {metric}"))?);
    }
    Ok(())
}
