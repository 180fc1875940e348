//! Configurations of the nodes: equal but for what is measured.

use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::redis::node::{Node, PREFIX};
use crate::redis::server::Redis;
use crate::redis::{Bench, node};

/// Starts a node that asks the backend about connects and calls, or about nothing.
pub(super) fn asking(bench: &mut Bench, backend: Option<u16>) -> Result<Node> {
    Node::with(bench, |port| format!("{}{}", common(port), asked(backend)))
}

/// Starts a node over a Redis that tells the backend of channels, or nobody.
pub(super) fn telling(bench: &mut Bench, redis: &Redis, backend: Option<u16>) -> Result<Node> {
    let redis = redis.port;
    Node::with(bench, |port| format!("{}{}", common(port), told(redis, backend)))
}

fn common(port: u16) -> String {
    format!(
        "[http_server]\naddress = \"127.0.0.1\"\nport = {port}\n[health]\nenabled = true\n[prometheus]\nenabled = true\n\
         [log]\nlevel = \"warn\"\n[http_api]\nkey = \"{}\"\n[client]\nallow_anonymous_connect_without_token = true\n\
         allowed_origins = [\"*\"]\nchannel_limit = 1000000\n",
        node::API_KEY
    )
}

fn asked(backend: Option<u16>) -> String {
    let Some(port) = backend else { return String::new() };
    format!(
        "[client.proxy.connect]\nenabled = true\nendpoint = \"http://127.0.0.1:{port}/connect\"\n\
         [rpc.proxy]\nendpoint = \"http://127.0.0.1:{port}/rpc\"\n[rpc.without_namespace]\nproxy_enabled = true\n"
    )
}

fn told(redis: u16, backend: Option<u16>) -> String {
    let proxy = backend
        .map_or(String::new(), |port| format!("[channel.proxy.state]\nendpoint = \"http://127.0.0.1:{port}/state\"\n"));
    format!(
        "[engine]\ntype = \"redis\"\n[engine.redis]\naddress = \"redis://127.0.0.1:{redis}\"\nprefix = \"{PREFIX}\"\n\
         {proxy}[[channel.namespaces]]\nname = \"state\"\nallow_subscribe_for_client = true\n\
         allow_subscribe_for_anonymous = true\npresence = true\nstate_proxy_enabled = {}\n",
        backend.is_some()
    )
}

/// The metrics page of a node.
pub(super) fn metrics(node: &Node) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", node.port)).context("cannot ask for metrics")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page).context("the metrics page is no text")?;
    Ok(page)
}

/// The values of all series of a metric.
pub(super) fn series<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = f64> + 'a {
    let rests = page.lines().filter_map(move |line| line.strip_prefix(name));
    let own = rests.filter(|rest| rest.starts_with(['{', ' ']));
    own.filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    // No part would run.
    #[test]
    fn the_configurations_are_toml() {
        for backend in [None, Some(9000)] {
            for text in [asked(backend), told(6379, backend)] {
                let text = format!("{}{text}", common(8000));
                let table: toml::Table = toml::from_str(&text).unwrap();
                assert_eq!(table["client"]["channel_limit"].as_integer(), Some(1_000_000), "{text}");
            }
        }
        let table: toml::Table = toml::from_str(&told(1, Some(2))).unwrap();
        assert_eq!(table["channel"]["namespaces"][0]["state_proxy_enabled"].as_bool(), Some(true));
    }

    // The lag of another metric, or of one partition, would be shown.
    #[test]
    fn all_series_of_a_metric_are_read() {
        let page = "# TYPE lag gauge\nlag{name=\"a\",partition=\"0\"} 5\nlag{name=\"a\",partition=\"1\"} 7.5\n\
                    lag_total 9\nlag 1\n";
        assert_eq!(series(page, "lag").collect::<Vec<_>>(), [5.0, 7.5, 1.0]);
        assert_eq!(series(page, "la").count(), 0);
    }
}
