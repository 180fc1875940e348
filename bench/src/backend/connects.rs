//! Clients that connect without a token, wait for the reply and leave: on a node that asks the backend who they are, and
//! on one that takes them as they come. In turns.

use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::http::Backend;
use super::node;
use super::pace::Pace;
use crate::redis::Bench;
use crate::redis::clients::Client;
use crate::redis::node::Node;
use crate::redis::table::{Goal, Row, Table};

const PER_SECOND: usize = 2000;
/// Threads: one that waits 10 ms for its reply still keeps the rate.
const CLIENTS: usize = 20;
/// What is left of the last clients is closed by then.
const SETTLE: Duration = Duration::from_millis(300);

/// A server that asks, and the same one that does not.
struct Pair {
    asking: Node,
    plain: Node,
    with: Figures,
    without: Figures,
}

#[derive(Default)]
struct Figures {
    cpu_us: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
}

pub(super) fn measure(bench: &mut Bench, time: Duration, table: &mut Table) -> Result<()> {
    let backend = Backend::start(0)?;
    let mut ours = Pair::start(bench, &backend)?;
    let mut reference = bench.of_reference(|bench| Pair::start(bench, &backend))?;
    let per_second = bench.size(PER_SECOND, 100);
    let pace = Pace { per_second: per_second as f64, time };
    let mut pairs: Vec<&mut Pair> = std::iter::once(&mut ours).chain(reference.as_mut()).collect();
    // Connections to the backend, memory, and code are warm then.
    for pair in &pairs {
        for node in [&pair.asking, &pair.plain] {
            round(bench, node, Pace { time: time / 5, ..pace }, &mut Figures::default())?;
        }
    }
    for number in 0..bench.rounds {
        for pair in &mut pairs {
            pair.rounds(bench, &backend, pace, number % 2 == 1)?;
        }
    }
    backend.check()?;
    let what = |rest: &str| format!("{per_second} connects/s that the backend decides: {rest}");
    let row = |rest, values, reference, goal| Row { what: what(rest), unit: "us", values, reference, goal };
    let asking =
        |pair: &Pair| pair.with.cpu_us.iter().zip(&pair.without.cpu_us).map(|(with, without)| with - without).collect();
    let (of_ours, of_reference) = (asking(&ours), reference.as_ref().map(|pair| ("the other server", asking(pair))));
    let Pair { with, without, .. } = ours;
    let plain = |values| Some(("without proxy", values));
    table.add(row("CPU of the node for one", with.cpu_us.clone(), plain(without.cpu_us.clone()), Goal::AtMost(60.0)));
    table.add(row("of it for asking", of_ours, of_reference, Goal::None));
    table.add(row("until the reply, p50", with.p50_us.clone(), plain(without.p50_us), Goal::None));
    table.add(row("until the reply, p99", with.p99_us.clone(), plain(without.p99_us), Goal::None));
    if let Some(Pair { with: theirs, without: theirs_plain, .. }) = reference {
        let other = |values| Some(("the other server", values));
        table.add(row("CPU of the node for one", with.cpu_us, other(theirs.cpu_us), Goal::None));
        table.add(row(
            "without proxy: CPU of the node for one",
            without.cpu_us,
            other(theirs_plain.cpu_us),
            Goal::None,
        ));
        table.add(row("until the reply, p50", with.p50_us, other(theirs.p50_us), Goal::None));
        table.add(row("until the reply, p99", with.p99_us, other(theirs.p99_us), Goal::None));
    }
    Ok(())
}

impl Pair {
    fn start(bench: &mut Bench, backend: &Backend) -> Result<Self> {
        let (asking, plain) = (node::asking(bench, Some(backend.port))?, node::asking(bench, None)?);
        Ok(Self { asking, plain, with: Figures::default(), without: Figures::default() })
    }

    /// One round with each, in this order or the other.
    fn rounds(&mut self, bench: &Bench, backend: &Backend, pace: Pace, is_reversed: bool) -> Result<()> {
        let mut both = [(&self.asking, &mut self.with, true), (&self.plain, &mut self.without, false)];
        if is_reversed {
            both.reverse();
        }
        for (node, figures, asks) in both {
            let before = backend.told.calls.load(Ordering::Relaxed);
            let connects = round(bench, node, pace, figures)? as u64;
            let asked = backend.told.calls.load(Ordering::Relaxed) - before;
            let expected = if asks { connects } else { 0 };
            ensure!(asked == expected, "the backend was asked {asked} times instead of {expected}");
        }
        Ok(())
    }
}

/// How many connected.
fn round(bench: &Bench, node: &Node, pace: Pace, figures: &mut Figures) -> Result<usize> {
    let before = node.cpu_s()?;
    let port = node.port;
    let done = pace.run(bench, &mut [(); CLIENTS], |(), _| Client::connect(port).map(drop), |_| Ok(()))?;
    sleep(SETTLE);
    figures.cpu_us.push((node.cpu_s()? - before) * 1e6 / done.count() as f64);
    figures.p50_us.push(done.latency_us(0.5));
    figures.p99_us.push(done.latency_us(0.99));
    Ok(done.count())
}
