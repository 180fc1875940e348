//! 100,000 presence entries that a node renews once per interval, while nothing else happens: its CPU over whole
//! intervals, less what the same connections and channels cost without presence.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Bench;
use super::clients::Crowd;
use super::node::Node;
use super::server::Redis;
use super::table::{Goal, Row, Table};

const CLIENTS: usize = 1000;
const PER_CLIENT: usize = 100;
/// Whole intervals that are measured of each.
const INTERVALS: u32 = 2;

/// Per interval, in seconds of CPU.
#[derive(Default)]
struct Figures {
    node_s: Vec<f64>,
    redis_s: Vec<f64>,
    renewed: Vec<f64>,
}

pub(super) fn measure(bench: &mut Bench, table: &mut Table) -> Result<()> {
    let clients = bench.size(CLIENTS, 1);
    let off = rounds(bench, "plain", clients)?;
    let on = rounds(bench, "members", clients)?;
    let entries = (clients * PER_CLIENT) as f64;
    let renewed = on.renewed.iter().copied().fold(f64::MAX, f64::min);
    // A slice more or less at both ends of the window.
    ensure!(renewed > entries * 0.9, "only {renewed} of {entries} entries were renewed in an interval");
    let difference = |on: &[f64], off: &[f64], factor: f64| -> Vec<f64> {
        on.iter().zip(off).map(|(on, off)| (on - off) * factor).collect()
    };
    let interval_s = bench.presence_interval_s();
    let of_a_core = 100.0 / interval_s as f64;
    let what = |rest: &str| format!("{entries} presence entries, each renewed every {interval_s} s: {rest}");
    let reference = Some(("Redis", difference(&on.redis_s, &off.redis_s, of_a_core)));
    let values = difference(&on.node_s, &off.node_s, of_a_core);
    table.add(Row { what: what("CPU of the node"), unit: "% of a core", values, reference, goal: Goal::AtMost(15.0) });
    let per_entry = 1e6 / entries;
    let reference = Some(("Redis", difference(&on.redis_s, &off.redis_s, per_entry)));
    let values = difference(&on.node_s, &off.node_s, per_entry);
    table.add(Row { what: what("CPU of the node for one"), unit: "us", values, reference, goal: Goal::None });
    let values = off.node_s.iter().map(|seconds| seconds * of_a_core).collect();
    table.add(Row { what: what("without presence"), unit: "% of a core", values, reference: None, goal: Goal::None });
    Ok(())
}

fn rounds(bench: &mut Bench, namespace: &str, clients: usize) -> Result<Figures> {
    let redis = Redis::start(bench)?;
    let node = Node::start(bench, Some(&redis))?;
    let mut crowd = Crowd::connect(node.port, clients)?;
    let name = |client, number| format!("{namespace}:room-{:06}", client * PER_CLIENT + number);
    let begin = Instant::now();
    crowd.subscribe(bench, 0..clients, 0..PER_CLIENT, name)?;
    println!("  {} subscriptions in {:.1} s", clients * PER_CLIENT, begin.elapsed().as_secs_f64());
    crowd.rest(bench, Duration::from_secs(3))?;
    let mut figures = Figures::default();
    for _ in 0..INTERVALS {
        let before = (node.cpu_s()?, redis.cpu()?, redis.calls("evalsha")?);
        crowd.rest(bench, Duration::from_secs(bench.presence_interval_s()))?;
        figures.node_s.push(node.cpu_s()? - before.0);
        figures.redis_s.push((redis.cpu()? - before.1).as_secs_f64());
        figures.renewed.push((redis.calls("evalsha")? - before.2) as f64);
    }
    Ok(figures)
}
