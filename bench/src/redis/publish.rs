//! Publications with history into one channel: a node, flat out, beside redis-benchmark calling the same script with the
//! same keys, arguments and sizes, with as many calls in flight. In turns.
//!
//! HTTP answers the calls of a connection one after the other, so only as many are in flight as there are connections,
//! however many are written ahead; publications of a client are not held up by those before them.

use anyhow::{Context, Result, ensure};
use gyre_engine::scripts::{Key, Keys, Script, Tagging};

use super::Bench;
use super::node::{HISTORY, Node, PREFIX};
use super::server::{Benchmark, Redis};
use super::table::{Goal, Row, Table};
use crate::compare::record::{Metric, Record};

/// Of redis-benchmark: 128 calls in flight.
const CONNECTIONS: usize = 8;
const PIPELINE: usize = 16;
/// What publishes into a node: its name, `--via`, connections, calls in flight on each.
const WAYS: [(&str, &str, usize, usize); 3] = [
    ("server API, 128 connections", "http", CONNECTIONS * PIPELINE, 1),
    ("server API, 8 connections, 16 calls ahead", "http", CONNECTIONS, PIPELINE),
    ("clients, 8 connections, 16 in flight", "ws", CONNECTIONS, PIPELINE),
];
/// Bytes of data, and of the Publication around it: tag, two bytes of length.
const DATA: usize = 128;
const PUBLICATION: usize = DATA + 3;
/// `channel.history_meta_ttl` of a fresh configuration: 30 days.
const META_TTL_S: &str = "2592000";
/// redis-benchmark reaches some 80,000 per second here: ten seconds.
const REQUESTS: usize = 800_000;

/// Figures of the rounds.
#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    node_us: Vec<f64>,
    redis_us: Vec<f64>,
}

pub(super) fn measure(bench: &mut Bench, table: &mut Table) -> Result<()> {
    let redis = Redis::start(bench)?;
    let node = Node::start(bench, Some(&redis))?;
    redis.client()?.ask(&["SCRIPT", "LOAD", Script::Publish.text()])?;
    let (mut ways, mut reference) = (WAYS.map(|_| Figures::default()), Figures::default());
    for round in 0..bench.rounds {
        // A B B A: what drifts is spread over both.
        let is_first = round % 2 == 0;
        if is_first {
            by_benchmark(bench, &redis, &mut reference)?;
        }
        for (way, figures) in ways.iter_mut().enumerate() {
            by_node(bench, &redis, &node, way, figures)?;
        }
        if !is_first {
            by_benchmark(bench, &redis, &mut reference)?;
        }
    }
    let against = |values: &[f64]| Some(("redis-benchmark", values.to_vec()));
    for (figures, (way, ..)) in ways.into_iter().zip(WAYS) {
        let row = |what: &str, unit, values, reference, goal| Row {
            what: format!("publish with history, {way}: {what}"),
            unit,
            values,
            reference,
            goal,
        };
        table.add(row("publications", "/s", figures.rate, against(&reference.rate), Goal::RatioAtLeast(0.8)));
        table.add(row("CPU of the node", "us", figures.node_us, None, Goal::AtMost(8.0)));
        table.add(row("CPU of Redis", "us", figures.redis_us, against(&reference.redis_us), Goal::None));
    }
    Ok(())
}

fn by_node(bench: &Bench, redis: &Redis, node: &Node, way: usize, figures: &mut Figures) -> Result<()> {
    let (_, via, connections, pipeline) = WAYS[way];
    let (connections, pipeline, size) = (connections.to_string(), pipeline.to_string(), DATA.to_string());
    let (warmup, duration) = if bench.short { ("500ms", "1s") } else { ("2s", "10s") };
    let args = ["publish", "--via", via, "--connections", &connections, "--pipeline", &pipeline]
        .into_iter()
        .chain(["--channels", "1", "--size", &size, "--prefix", "hist:c", "--cores", "1"])
        .chain(["--warmup", warmup, "--duration", duration])
        .collect::<Vec<_>>();
    let (cpu, calls) = (redis.cpu()?, redis.calls("evalsha")?);
    let record = bench.load(&format!("publish-{way}"), node, node, &args)?;
    let (cpu, calls) = (redis.cpu()? - cpu, redis.calls("evalsha")? - calls);
    ensure!(calls > 0, "nothing was published");
    figures.rate.push(metric(&record, "publications per second")?);
    figures.node_us.push(metric(&record, "CPU per publish")?);
    figures.redis_us.push(cpu.as_secs_f64() * 1e6 / calls as f64);
    redis.client()?.ask(&["FLUSHALL"])?;
    Ok(())
}

fn by_benchmark(bench: &Bench, redis: &Redis, figures: &mut Figures) -> Result<()> {
    bench.go_on()?;
    let keys = Keys::new(PREFIX, Tagging::Standalone).context("names of keys")?;
    let name = |key| {
        let mut name = Vec::new();
        keys.write(&mut name, key, "hist:cc0");
        String::from_utf8_lossy(&name).into_owned()
    };
    let (stream, meta, messages) = (name(Key::Stream), name(Key::Meta), name(Key::Messages));
    let (payload, size, ttl_s) = ("x".repeat(PUBLICATION), HISTORY.0.to_string(), HISTORY.1.to_string());
    // Arguments as in the head of engine/lua/publish.lua; the candidate epoch has four letters, like a node's.
    let call = ["EVALSHA", Script::Publish.sha1(), "2", &stream, &meta, &payload, &size, &ttl_s, &messages, META_TTL_S]
        .into_iter()
        .chain(["abcd", "publish", "300", "0", "0", ""])
        .collect::<Vec<_>>();
    let requests = bench.size(REQUESTS, 1);
    let cpu = redis.cpu()?;
    let plan = Benchmark { requests, connections: CONNECTIONS, pipeline: PIPELINE };
    figures.rate.push(redis.benchmark(bench, plan, &call)?);
    figures.redis_us.push((redis.cpu()? - cpu).as_secs_f64() * 1e6 / requests as f64);
    let mut client = redis.client()?;
    let published = client.ask(&["HGET", &meta, "s"])?.text();
    // It sends whole pipelines, so it may be a few more.
    let is_all = published.parse::<usize>().is_ok_and(|published| published >= requests);
    ensure!(is_all, "redis-benchmark published {published} of {requests}");
    client.ask(&["FLUSHALL"])?;
    Ok(())
}

fn metric(record: &Record, name: &str) -> Result<f64> {
    Metric::named(name)?.of(record).with_context(|| format!("the load generator has not measured {name}"))
}
