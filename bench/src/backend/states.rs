//! New channels that get their first subscriber, and a backend that is told so: whether events pile up, what one costs,
//! and whether each arrives exactly once.
//!
//! The queues are watched in Redis itself, the lag on the metrics page of the node. Both are asked for four times a
//! second, which is part of what is measured.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use gyre_engine::scripts::{StateKey, StateKeys};

use super::http::{Backend, STATE_PREFIX};
use super::node;
use super::pace::Pace;
use crate::redis::Bench;
use crate::redis::clients::Client;
use crate::redis::node::{Node, PREFIX};
use crate::redis::resp::{Resp, Value, encode};
use crate::redis::server::Redis;
use crate::redis::table::{Goal, Row, Table};

const PER_SECOND: usize = 20_000;
/// `engine.redis.channel_state.num_partitions` of a fresh configuration.
pub(super) const PARTITIONS: u32 = 128;
/// Connections, and subscribe commands in a frame of one: each connection has 50 ms for its ten.
const CLIENTS: usize = 100;
const BATCH: usize = 10;
/// What the first second left is no growth: connections are opened, scripts are loaded.
const WARM_UP: Duration = Duration::from_secs(1);
/// What is queued has arrived by then, or is lost.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(30);
/// A second event of a channel has arrived by then.
const REPEAT_TIME: Duration = Duration::from_secs(1);
/// Repetitions, each with a Redis and a node of its own.
const ROUNDS_MAX: u32 = 3;
const LAG: &str = "centrifugo_channel_state_events_queue_consuming_lag_milliseconds";

#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    node_us: Vec<f64>,
    redis_us: Vec<f64>,
    longest: Vec<f64>,
    growth: Vec<f64>,
    lag_ms: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    batch: Vec<f64>,
}

pub(super) fn measure(bench: &mut Bench, time: Duration, table: &mut Table) -> Result<()> {
    let per_second = bench.size(PER_SECOND, 500);
    let mut figures = Figures::default();
    for _ in 0..bench.rounds.min(ROUNDS_MAX) {
        round(bench, Pace { per_second: (per_second / BATCH) as f64, time }, &mut figures)?;
    }
    let mut add = |rest: &str, unit, values, reference, goal| {
        table.add(Row { what: format!("{per_second} joins/s of new channels: {rest}"), unit, values, reference, goal });
    };
    // Clients wait for their replies: a node that is too slow has no queue, but fewer joins.
    let asked_for = Some(("asked for", vec![per_second as f64]));
    add("as fast as they came", "/s", figures.rate, asked_for, Goal::RatioAtLeast(0.98));
    // A hundredth is noise of when the samples were taken.
    add("growth of the queue", "events/s", figures.growth, None, Goal::AtMost(per_second as f64 / 100.0));
    add("longest queue, all partitions", "events", figures.longest, None, Goal::None);
    add("longest lag of a partition", "ms", figures.lag_ms, None, Goal::None);
    add("CPU of the node for one", "us", figures.node_us, Some(("Redis", figures.redis_us)), Goal::None);
    add("events in a call of the backend", "", figures.batch, None, Goal::None);
    add(&format!("until {BATCH} are confirmed, p50"), "us", figures.p50_us, None, Goal::None);
    add(&format!("until {BATCH} are confirmed, p99"), "us", figures.p99_us, None, Goal::None);
    Ok(())
}

fn round(bench: &mut Bench, pace: Pace, figures: &mut Figures) -> Result<()> {
    let channels = pace.count() * BATCH;
    let backend = Backend::start(channels)?;
    let redis = Redis::start(bench)?;
    let node = node::telling(bench, &redis, Some(backend.port))?;
    wait_for_partitions(bench, &node)?;
    let mut clients = (0..CLIENTS).map(|_| Client::connect(node.port)).collect::<Result<Vec<_>>>()?;
    let mut queues = Queues::watch(&redis)?;
    let (mut samples, mut lag_ms) = (Vec::new(), 0.0_f64);
    let before = (node.cpu_s()?, redis.cpu()?);
    let join = |client: &mut Client, number: usize| {
        let names: Vec<String> = (0..BATCH).map(|at| format!("{STATE_PREFIX}{}", number * BATCH + at)).collect();
        client.subscribe(&names)
    };
    let done = pace.run(bench, &mut clients, join, |at| {
        samples.push((at, queues.waiting()? as f64));
        lag_ms = node::series(&node::metrics(&node)?, LAG).fold(lag_ms, f64::max);
        Ok(())
    })?;
    await_all(bench, &backend, &mut clients, channels)?;
    // All of the work for all of the events.
    let per_event = 1e6 / channels as f64;
    figures.node_us.push((node.cpu_s()? - before.0) * per_event);
    figures.redis_us.push((redis.cpu()? - before.1).as_secs_f64() * per_event);
    figures.rate.push(channels as f64 / done.elapsed.as_secs_f64());
    figures.longest.push(samples.iter().map(|(_, length)| *length).fold(0.0, f64::max));
    figures.growth.extend(growth(&samples, WARM_UP.min(pace.time / 10)));
    figures.lag_ms.push(lag_ms);
    figures.p50_us.push(done.latency_us(0.5));
    figures.p99_us.push(done.latency_us(0.99));
    figures.batch.push(channels as f64 / backend.told.calls.load(Ordering::Relaxed) as f64);
    check(bench, &backend, &mut clients, channels)?;
    ensure!(queues.exist()?, "no queue was found in redis: its length was not measured");
    Ok(())
}

/// Until the node looks after all partitions: before, nobody is told of some.
pub(super) fn wait_for_partitions(bench: &Bench, node: &Node) -> Result<()> {
    let deadline = Instant::now() + ARRIVAL_TIMEOUT;
    loop {
        let held: f64 = node::series(&node::metrics(node)?, "gyre_channel_state_partitions").sum();
        if held >= f64::from(PARTITIONS) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the node holds only {held} of {PARTITIONS} partitions");
        bench.go_on()?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Until as many events have arrived as channels were joined.
fn await_all(bench: &Bench, backend: &Backend, clients: &mut [Client], channels: usize) -> Result<()> {
    let deadline = Instant::now() + ARRIVAL_TIMEOUT;
    while backend.told.events.load(Ordering::Relaxed) < channels as u64 {
        if Instant::now() > deadline {
            let (missing, repeated) = backend.told.missing_and_repeated(channels);
            bail!("of {channels} events {missing} did not arrive, {repeated} came twice");
        }
        listen(bench, clients)?;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Each exactly once.
fn check(bench: &Bench, backend: &Backend, clients: &mut [Client], channels: usize) -> Result<()> {
    let deadline = Instant::now() + REPEAT_TIME;
    while Instant::now() < deadline {
        listen(bench, clients)?;
        std::thread::sleep(Duration::from_millis(50));
    }
    backend.check()?;
    let (missing, repeated) = backend.told.missing_and_repeated(channels);
    ensure!((missing, repeated) == (0, 0), "of {channels} events {missing} did not arrive, {repeated} came twice");
    Ok(())
}

fn listen(bench: &Bench, clients: &mut [Client]) -> Result<()> {
    bench.go_on()?;
    clients.iter_mut().try_for_each(|client| client.pump(&mut |_| {}))
}

/// The queues of events, over a connection of their own.
struct Queues {
    redis: Resp,
    names: Vec<String>,
}

impl Queues {
    fn watch(redis: &Redis) -> Result<Self> {
        let keys = StateKeys::new(PREFIX, NonZeroU32::new(PARTITIONS).unwrap_or(NonZeroU32::MIN));
        let name = |partition| {
            let mut name = Vec::new();
            keys.write(&mut name, partition, StateKey::Events("default"));
            String::from_utf8_lossy(&name).into_owned()
        };
        Ok(Self { redis: redis.client()?, names: (0..PARTITIONS).map(name).collect() })
    }

    /// Events in all of them.
    fn waiting(&mut self) -> Result<i64> {
        let commands: Vec<u8> = self.names.iter().flat_map(|name| encode(&["XLEN", name])).collect();
        self.redis.send(&commands)?;
        let mut sum = 0;
        for _ in &self.names {
            let Value::Int(length) = self.redis.read()? else { bail!("XLEN is not answered by a number") };
            sum += length;
        }
        Ok(sum)
    }

    fn exist(&mut self) -> Result<bool> {
        let name = |at: usize| self.names[at].as_str();
        let question: Vec<&str> = std::iter::once("EXISTS").chain((0..self.names.len()).map(name)).collect();
        Ok(self.redis.ask(&question)? != Value::Int(0))
    }
}

/// By how much the values rise in a second: the slope of the straight line through what came after the warm-up.
fn growth(samples: &[(Duration, f64)], warm_up: Duration) -> Option<f64> {
    let points = || samples.iter().filter(|(at, _)| *at > warm_up).map(|(at, value)| (at.as_secs_f64(), *value));
    let count = points().count() as f64;
    let (mean_at, mean) = points().fold((0.0, 0.0), |sums, point| (sums.0 + point.0 / count, sums.1 + point.1 / count));
    let spread: f64 = points().map(|(at, _)| (at - mean_at).powi(2)).sum();
    let common: f64 = points().map(|(at, value)| (at - mean_at) * (value - mean)).sum();
    (spread > 0.0).then(|| common / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A queue that grows would pass as one that does not.
    #[test]
    fn growth_is_that_after_the_warm_up() {
        let at = |tenths: u64, value: f64| (Duration::from_millis(tenths * 100), value);
        let rising: Vec<_> =
            (0..50).map(|tenths| at(tenths, if tenths <= 10 { 900.0 } else { tenths as f64 })).collect();
        assert!((growth(&rising, WARM_UP).unwrap() - 10.0).abs() < 1e-6);
        let level = [at(11, 7.0), at(30, 7.0), at(45, 7.0)];
        assert!(growth(&level, WARM_UP).unwrap().abs() < 1e-9);
        assert_eq!(growth(&level[..1], WARM_UP), None);
        assert_eq!(growth(&[], WARM_UP), None);
    }
}
