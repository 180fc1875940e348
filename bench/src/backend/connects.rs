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

#[derive(Default)]
struct Figures {
    cpu_us: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
}

pub(super) fn measure(bench: &mut Bench, time: Duration, table: &mut Table) -> Result<()> {
    let backend = Backend::start(0)?;
    let (asking, plain) = (node::asking(bench, Some(backend.port))?, node::asking(bench, None)?);
    let per_second = bench.size(PER_SECOND, 100);
    let pace = Pace { per_second: per_second as f64, time };
    let (mut with, mut without) = (Figures::default(), Figures::default());
    // Connections to the backend, memory, and code are warm then.
    for node in [&asking, &plain] {
        round(bench, node, Pace { time: time / 5, ..pace }, &mut Figures::default())?;
    }
    for number in 0..bench.rounds {
        let mut both = [(&asking, &mut with), (&plain, &mut without)];
        if number % 2 == 1 {
            both.reverse();
        }
        for (node, figures) in both {
            let before = backend.told.calls.load(Ordering::Relaxed);
            let connects = round(bench, node, pace, figures)? as u64;
            let asked = backend.told.calls.load(Ordering::Relaxed) - before;
            let expected = if std::ptr::eq(node, &raw const asking) { connects } else { 0 };
            ensure!(asked == expected, "the backend was asked {asked} times instead of {expected}");
        }
    }
    backend.check()?;
    let what = |rest: &str| format!("{per_second} connects/s that the backend decides: {rest}");
    let row = |rest, values, reference, goal| Row {
        what: what(rest),
        unit: "us",
        values,
        reference: Some(("without proxy", reference)),
        goal,
    };
    let extra = with.cpu_us.iter().zip(&without.cpu_us).map(|(with, without)| with - without).collect();
    table.add(row("CPU of the node for one", with.cpu_us, without.cpu_us, Goal::AtMost(60.0)));
    let added = Row { what: what("of it for asking"), unit: "us", values: extra, reference: None, goal: Goal::None };
    table.add(added);
    table.add(row("until the reply, p50", with.p50_us, without.p50_us, Goal::None));
    table.add(row("until the reply, p99", with.p99_us, without.p99_us, Goal::None));
    Ok(())
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
