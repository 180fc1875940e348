//! 10,000 channels of few clients, and Redis cuts the connection that their messages come over: how long until all are
//! subscribed again, and until a publication into each has arrived. Beside it, what Redis itself takes for as many
//! subscriptions in batches on a fresh connection.

use std::collections::HashSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Bench;
use super::api::Api;
use super::clients::Crowd;
use super::node::{Node, PREFIX};
use super::resp::{Resp, Value, encode};
use super::server::Redis;
use super::table::{Goal, Row, Table};

const CHANNELS: usize = 10_000;
const CLIENTS: usize = 10;
/// As many as a node asks for at once.
const BATCH: usize = 512;
/// Channels of one call of the server API.
const BROADCAST: usize = 1000;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Between two questions to Redis.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

pub(super) fn measure(bench: &mut Bench, table: &mut Table) -> Result<()> {
    let channels = bench.size(CHANNELS, CLIENTS);
    let redis = Redis::start(bench)?;
    let node = Node::start(bench, Some(&redis))?;
    let mut api = Api::connect(node.port)?;
    let mut crowd = Crowd::connect(node.port, CLIENTS)?;
    let per_client = channels / CLIENTS;
    crowd.subscribe(bench, 0..CLIENTS, 0..per_client, |client, number| name(client * per_client + number))?;
    let names: Vec<String> = (0..channels).map(name).collect();
    let mut asker = redis.client()?;
    let (mut subscribed, mut delivered, mut bare, mut cpu) = (vec![], vec![], vec![], vec![]);
    for _ in 0..bench.rounds {
        crowd.rest(bench, Duration::from_millis(500))?;
        let before_s = node.cpu_s()?;
        let begin = Instant::now();
        let killed = asker.ask(&["CLIENT", "KILL", "TYPE", "pubsub"])?;
        ensure!(killed != Value::Int(0), "the node has no connection for messages");
        while subscriptions(&mut asker)? < channels {
            ensure!(begin.elapsed() < TIMEOUT, "not all channels are subscribed again after {TIMEOUT:?}");
            bench.go_on()?;
            sleep(POLL_INTERVAL);
        }
        subscribed.push(begin.elapsed().as_secs_f64() * 1e3);
        let mut missing: HashSet<String> = names.iter().cloned().collect();
        for batch in names.chunks(BROADCAST) {
            api.broadcast(batch)?;
        }
        while !missing.is_empty() {
            ensure!(begin.elapsed() < TIMEOUT, "{} publications have not arrived after {TIMEOUT:?}", missing.len());
            bench.go_on()?;
            crowd.pump(|channel| _ = missing.remove(channel))?;
        }
        delivered.push(begin.elapsed().as_secs_f64() * 1e3);
        cpu.push((node.cpu_s()? - before_s) * 1e3);
        bare.push(by_hand(&redis, &names)?);
    }
    let what = |rest: &str| format!("{channels} channels after CLIENT KILL TYPE pubsub: {rest}");
    let reference = Some(("SUBSCRIBE by hand", bare));
    table.add(Row { what: what("subscribed"), unit: "ms", values: subscribed, reference, goal: Goal::AtMost(1000.0) });
    let what_then = what("and one publication into each delivered");
    table.add(Row { what: what_then, unit: "ms", values: delivered, reference: None, goal: Goal::None });
    table.add(Row {
        what: what("CPU of the node for both"),
        unit: "ms",
        values: cpu,
        reference: None,
        goal: Goal::None,
    });
    Ok(())
}

fn name(number: usize) -> String {
    format!("hist:room-{number:06}")
}

/// Subscriptions of all connections. Names are looked at by the delivery that follows.
fn subscriptions(asker: &mut Resp) -> Result<usize> {
    let text = asker.ask(&["CLIENT", "LIST", "TYPE", "pubsub"])?.text();
    let counts = text.split_whitespace().filter_map(|word| word.strip_prefix("sub="));
    Ok(counts.filter_map(|count| count.parse::<usize>().ok()).sum())
}

/// The same number of subscriptions on a connection of our own: connecting, all batches at once, all confirmations, ms.
fn by_hand(redis: &Redis, names: &[String]) -> Result<f64> {
    let names: Vec<String> = names.iter().map(|name| format!("{PREFIX}.by-hand.{name}")).collect();
    let batches = names.chunks(BATCH).map(|batch| {
        let words: Vec<&str> = ["SUBSCRIBE"].into_iter().chain(batch.iter().map(|name| &**name)).collect();
        encode(&words)
    });
    let bytes: Vec<u8> = batches.flatten().collect();
    let begin = Instant::now();
    let mut connection = redis.client()?;
    connection.send(&bytes)?;
    for _ in &names {
        connection.read()?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}
