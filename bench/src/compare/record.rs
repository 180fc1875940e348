//! The part of a load generator's record that is compared, and the metrics that can be taken from it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

/// What `gyre-loadtest --json` writes; see its `record.rs`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    pub(crate) measured: Measured,
    pub(crate) latencies: BTreeMap<String, Latency>,
    pub(crate) verdict: Verdict,
    seconds: Vec<Second>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Second {
    generator_cpu_us: u64,
}

impl Record {
    /// CPU time of the generator itself.
    pub(crate) fn generator_cpu(&self) -> Duration {
        let total_us = self.seconds.iter().map(|second| second.generator_cpu_us).max().unwrap_or(0);
        Duration::from_micros(total_us)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Measured {
    seconds: f64,
    published: u64,
    delivered: u64,
    server_cpu_us: Option<u64>,
    connect_cpu_us: Option<u64>,
    connected: u64,
    rss_per_connection: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Latency {
    count: u64,
    p50: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    pub(crate) generator_saturated: bool,
}

/// A figure of a run. Less is better, except for rates.
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) more_is_better: bool,
    of: fn(&Record) -> Option<f64>,
}

const METRICS: &[Metric] = &[
    metric("CPU per delivery", "us", |record| per(record.measured.server_cpu_us, record.measured.delivered)),
    metric("CPU per publish", "us", |record| per(record.measured.server_cpu_us, record.measured.published)),
    metric("CPU per connect", "us", |record| per(record.measured.connect_cpu_us, record.measured.connected)),
    metric("idle CPU per connection", "us/s", |record| {
        let each = per(record.measured.server_cpu_us, record.measured.connected)?;
        (record.measured.seconds > 0.0).then(|| each / record.measured.seconds)
    }),
    metric("memory per connection", "B", |record| record.measured.rss_per_connection),
    Metric {
        more_is_better: true,
        ..metric("deliveries per second", "/s", |record| rate(record.measured.delivered, record.measured.seconds))
    },
    Metric {
        more_is_better: true,
        ..metric("publications per second", "/s", |record| rate(record.measured.published, record.measured.seconds))
    },
    metric("delivery p50", "us", |record| latency(record, "delivery", |latency| latency.p50)),
    metric("delivery p99", "us", |record| latency(record, "delivery", |latency| latency.p99)),
    metric("delivery p99.9", "us", |record| latency(record, "delivery", |latency| latency.p999)),
    metric("delivery max", "us", |record| latency(record, "delivery", |latency| latency.max)),
    metric("connect p99", "us", |record| latency(record, "connect", |latency| latency.p99)),
    metric("publish p99", "us", |record| latency(record, "publish", |latency| latency.p99)),
];

const fn metric(name: &'static str, unit: &'static str, of: fn(&Record) -> Option<f64>) -> Metric {
    Metric { name, unit, more_is_better: false, of }
}

impl Metric {
    pub(crate) fn named(name: &str) -> Result<&'static Self> {
        let found = METRICS.iter().find(|metric| metric.name == name);
        found.with_context(|| {
            let names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
            format!("there is no metric {name:?}; there are {}", names.join(", "))
        })
    }

    /// `None` when the run has not measured it.
    pub(crate) fn of(&self, record: &Record) -> Option<f64> {
        (self.of)(record)
    }
}

fn per(cost: Option<u64>, units: u64) -> Option<f64> {
    (units > 0).then_some(cost? as f64 / units as f64)
}

fn rate(units: u64, seconds: f64) -> Option<f64> {
    (units > 0 && seconds > 0.0).then_some(units as f64 / seconds)
}

fn latency(record: &Record, name: &str, of: fn(&Latency) -> u64) -> Option<f64> {
    record.latencies.get(name).filter(|latency| latency.count > 0).map(|latency| of(latency) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A figure per delivery that is one per publication makes a server a thousand times too slow.
    #[test]
    fn metrics_divide_by_their_unit() {
        let text = r#"{"schema":1,"measured":{"seconds":2.0,"published":10,"delivered":1000,"server_cpu_us":4000,
            "connect_cpu_us":500,"connected":100},"latencies":{"delivery":{"count":1000,"p99":77}}}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        let of = |name| Metric::named(name).unwrap().of(&record);
        assert_eq!(of("CPU per delivery"), Some(4.0));
        assert_eq!(of("CPU per publish"), Some(400.0));
        assert_eq!(of("CPU per connect"), Some(5.0));
        assert_eq!(of("idle CPU per connection"), Some(20.0));
        assert_eq!(of("deliveries per second"), Some(500.0));
        assert_eq!(of("delivery p99"), Some(77.0));
        assert_eq!((of("connect p99"), of("memory per connection")), (None, None));
    }
}
