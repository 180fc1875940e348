//! Calls of connected clients that the backend answers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::http::Backend;
use super::node;
use super::pace::{Done, Pace};
use crate::redis::Bench;
use crate::redis::clients::Client;
use crate::redis::node::Node;
use crate::redis::table::{Goal, Row, Table};

const PER_SECOND: usize = 5000;
/// Connections: a call that takes 10 ms does not hold up the next one of its connection.
const CLIENTS: usize = 50;

/// A server and what is measured of it.
struct Called {
    node: Node,
    clients: Vec<Client>,
    cpu_us: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
}

pub(super) fn measure(bench: &mut Bench, time: Duration, table: &mut Table) -> Result<()> {
    let backend = Backend::start(0)?;
    let mut ours = Called::start(bench, &backend)?;
    let mut reference = bench.of_reference(|bench| Called::start(bench, &backend))?;
    let per_second = bench.size(PER_SECOND, 200);
    let pace = Pace { per_second: per_second as f64, time };
    for called in std::iter::once(&mut ours).chain(&mut reference) {
        // Connections to the backend, memory, and code are warm then.
        called.calls(bench, Pace { time: time / 5, ..pace })?;
    }
    for _ in 0..bench.rounds {
        for called in std::iter::once(&mut ours).chain(&mut reference) {
            called.round(bench, &backend, pace)?;
        }
    }
    backend.check()?;
    let theirs = reference.map_or([None, None, None], |called| {
        [called.cpu_us, called.p50_us, called.p99_us].map(|values| Some(("the other server", values)))
    });
    let named = ["CPU of the node for one", "until the answer, p50", "until the answer, p99"];
    for ((rest, values), reference) in named.into_iter().zip([ours.cpu_us, ours.p50_us, ours.p99_us]).zip(theirs) {
        let what = format!("{per_second} calls/s of {CLIENTS} clients that the backend answers: {rest}");
        table.add(Row { what, unit: "us", values, reference, goal: Goal::None });
    }
    Ok(())
}

impl Called {
    fn start(bench: &mut Bench, backend: &Backend) -> Result<Self> {
        let node = node::asking(bench, Some(backend.port))?;
        let clients = (0..CLIENTS).map(|_| Client::connect(node.port)).collect::<Result<Vec<_>>>()?;
        Ok(Self { node, clients, cpu_us: Vec::new(), p50_us: Vec::new(), p99_us: Vec::new() })
    }

    fn calls(&mut self, bench: &Bench, pace: Pace) -> Result<Done> {
        pace.run(bench, &mut self.clients, |client, _| client.call("answer"), |_| Ok(()))
    }

    fn round(&mut self, bench: &Bench, backend: &Backend, pace: Pace) -> Result<()> {
        let before = (self.node.cpu_s()?, backend.told.calls.load(Ordering::Relaxed));
        let done = self.calls(bench, pace)?;
        self.cpu_us.push((self.node.cpu_s()? - before.0) * 1e6 / done.count() as f64);
        let asked = backend.told.calls.load(Ordering::Relaxed) - before.1;
        ensure!(asked == done.count() as u64, "the backend was asked {asked} times instead of {}", done.count());
        self.p50_us.push(done.latency_us(0.5));
        self.p99_us.push(done.latency_us(0.99));
        Ok(())
    }
}
