//! A node under measurement, with a configuration of its own.
//!
//! Namespaces: `plain` keeps nothing, `hist` a history that clients recover from, `members` presence, `full` both.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use super::Bench;
use super::server::Redis;
use crate::compare::plan::Server;
use crate::compare::server::Running;
use crate::cpu;

pub(crate) const API_KEY: &str = "bench";
/// Starts the name of every key.
pub(crate) const PREFIX: &str = "bench";
/// Publications that a history holds, and for how many seconds.
pub(crate) const HISTORY: (usize, usize) = (100, 60);

pub(crate) struct Node {
    running: Running,
    pub(crate) port: u16,
}

impl Node {
    /// Starts one over a Redis, or with all in its own memory.
    pub(crate) fn start(bench: &mut Bench, redis: Option<&Redis>) -> Result<Self> {
        let interval_s = bench.presence_interval_s();
        Self::with(bench, |port| configuration(port, redis.map(|redis| redis.port), interval_s))
    }

    /// Starts one with a configuration for its port.
    pub(crate) fn with(bench: &mut Bench, configuration: impl FnOnce(u16) -> String) -> Result<Self> {
        let port = bench.free_port()?;
        let config = bench.out.join(format!("node-{port}.toml"));
        fs::write(&config, configuration(port)).with_context(|| format!("cannot write {}", config.display()))?;
        let server = Server {
            name: format!("node-{port}"),
            command: vec![bench.gyre.display().to_string(), "--config".to_owned(), config.display().to_string()],
            environment: BTreeMap::from([("GYRE_CORES".to_owned(), bench.cores.to_string())]),
            url: String::new(),
            api_url: String::new(),
            api_key: API_KEY.to_owned(),
            token_key: String::new(),
            ready_url: format!("http://127.0.0.1:{port}/health"),
        };
        let running = Running::start(&server, bench.node_cpu, &config.with_extension("log"))?;
        Ok(Self { running, port })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/connection/websocket", self.port)
    }

    pub(crate) fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}/api", self.port)
    }

    /// CPU seconds so far.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        Ok(cpu::of_process(self.pid())?.as_secs_f64())
    }

    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        cpu::resident_bytes(self.pid())
    }
}

fn configuration(port: u16, redis: Option<u16>, presence_interval_s: u64) -> String {
    let engine = redis.map_or(String::new(), |redis| {
        format!(
            "[engine]\ntype = \"redis\"\n[engine.redis]\naddress = \"redis://127.0.0.1:{redis}\"\nprefix = \"{PREFIX}\"\n"
        )
    });
    let namespace = |name: &str, has_history: bool, has_presence: bool| {
        let (size, ttl_s) = HISTORY;
        let history = format!("history_size = {size}\nhistory_ttl = \"{ttl_s}s\"\nforce_recovery = true\n");
        format!(
            "[[channel.namespaces]]\nname = \"{name}\"\nallow_subscribe_for_client = true\n\
             allow_subscribe_for_anonymous = true\nallow_publish_for_client = true\n\
             allow_publish_for_anonymous = true\npresence = {has_presence}\n{}",
            if has_history { &*history } else { "" }
        )
    };
    let namespaces = [
        namespace("plain", false, false),
        namespace("hist", true, false),
        namespace("members", false, true),
        namespace("full", true, true),
    ];
    format!(
        "[http_server]\naddress = \"127.0.0.1\"\nport = {port}\n[health]\nenabled = true\n[log]\nlevel = \"warn\"\n\
         [http_api]\nkey = \"{API_KEY}\"\n{engine}[client]\nallow_anonymous_connect_without_token = true\n\
         allowed_origins = [\"*\"]\nchannel_limit = 1000000\npresence_update_interval = \"{presence_interval_s}s\"\n{}",
        namespaces.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    // No part would run.
    #[test]
    fn the_configuration_is_toml() {
        for redis in [None, Some(6379)] {
            let text = configuration(8000, redis, 27);
            let table: toml::Table = toml::from_str(&text).unwrap();
            assert_eq!(table.contains_key("engine"), redis.is_some(), "{text}");
            assert_eq!(table["channel"]["namespaces"].as_array().unwrap().len(), 4, "{text}");
        }
    }
}
