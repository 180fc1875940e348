//! Calls of connected clients that the backend answers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::http::Backend;
use super::node;
use super::pace::Pace;
use crate::redis::Bench;
use crate::redis::clients::Client;
use crate::redis::table::{Goal, Row, Table};

const PER_SECOND: usize = 5000;
/// Connections: a call that takes 10 ms does not hold up the next one of its connection.
const CLIENTS: usize = 50;

pub(super) fn measure(bench: &mut Bench, time: Duration, table: &mut Table) -> Result<()> {
    let backend = Backend::start(0)?;
    let node = node::asking(bench, Some(backend.port))?;
    let per_second = bench.size(PER_SECOND, 200);
    let pace = Pace { per_second: per_second as f64, time };
    let mut clients = (0..CLIENTS).map(|_| Client::connect(node.port)).collect::<Result<Vec<_>>>()?;
    let call = |client: &mut Client, _| client.call("answer");
    Pace { time: time / 5, ..pace }.run(bench, &mut clients, call, |_| Ok(()))?;
    let (mut cpu_us, mut p50_us, mut p99_us) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let before = (node.cpu_s()?, backend.told.calls.load(Ordering::Relaxed));
        let done = pace.run(bench, &mut clients, call, |_| Ok(()))?;
        cpu_us.push((node.cpu_s()? - before.0) * 1e6 / done.count() as f64);
        let asked = backend.told.calls.load(Ordering::Relaxed) - before.1;
        ensure!(asked == done.count() as u64, "the backend was asked {asked} times instead of {}", done.count());
        p50_us.push(done.latency_us(0.5));
        p99_us.push(done.latency_us(0.99));
    }
    backend.check()?;
    let named =
        [("CPU of the node for one", cpu_us), ("until the answer, p50", p50_us), ("until the answer, p99", p99_us)];
    for (rest, values) in named {
        let what = format!("{per_second} calls/s of {CLIENTS} clients that the backend answers: {rest}");
        table.add(Row { what, unit: "us", values, reference: None, goal: Goal::None });
    }
    Ok(())
}
