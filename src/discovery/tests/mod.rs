//! Discovery against servers that are threads of the test, which answer as told.

mod cluster;
mod sentinel;
mod server;
mod standalone;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use gyre_io::redis::Servers;

use super::conversation::Reach;
use super::trouble::What;
use super::{Discovery, Found, Sought, start};
use crate::config::schema;
use crate::settings::redis::{RedisOptions, Shard};

/// The shards of a `redis` object. Timeouts are short: some of the servers do not answer.
fn shards(options: &Value) -> Vec<Shard> {
    let mut tree = schema::at("engine.redis").unwrap().default_value();
    for option in ["connect_timeout", "io_timeout"] {
        tree[option] = json!(300_000_000);
    }
    for (option, value) in options.as_object().unwrap() {
        tree[option] = value.clone();
    }
    let redis = serde_json::from_value(tree).unwrap();
    RedisOptions::new(&redis).unwrap().shards
}

/// How a server without anything special is reached.
fn reach(what: What) -> Reach {
    let handshake = shards(&json!({"address": ["a:1"]}))[0].handshake();
    Reach { what, handshake, connect_timeout: Duration::from_secs(1), tls: None }
}

/// Discovery of one shard, and what was told of it.
struct Started {
    discovery: Discovery,
    servers: Servers,
    found: Receiver<Found>,
}

impl Started {
    fn new(address: &str) -> Result<Self, String> {
        let (sender, found) = channel();
        let tell = Arc::new(move |found| sender.send(found).unwrap_or_default());
        let shards = shards(&json!({"address": [address]}));
        let sought =
            shards.iter().map(|shard| Sought { section: "engine.redis", prefix: "p", shard, partitions: None });
        match start(sought, tell) {
            Ok((discovery, servers)) => Ok(Self { discovery, servers: (*servers[0]).clone(), found }),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    /// What is told next.
    fn next(&self) -> Servers {
        eventually("servers that were found", || self.found.try_recv().ok().map(|found| (*found.servers).clone()))
    }
}

/// Long enough for every look there may be before.
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..2000 {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no {what} in 20 s")
}
