//! The JSON file that a run leaves behind: everything needed to draw, compare and doubt it later.
//!
//! Versioned by `schema`; fields are only ever added, and a reader fills those it misses with defaults. Latencies are
//! kept as compressed histograms (HDR V2) because percentiles cannot be merged and histograms can.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use crate::live::Counts;

/// Version of the file's layout.
pub const SCHEMA: u32 = 1;

/// One run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    pub schema: u32,
    /// Version of the generator.
    pub version: String,
    /// Commit of the generator, where its build knew it.
    pub commit: Option<String>,
    /// Name of the workload's command.
    pub workload: String,
    /// The command line; secrets are replaced by `***`.
    pub command: Vec<String>,
    /// Start of the run, RFC 3339.
    pub started: String,
    pub machine: Machine,
    /// Workload and shared options with their defaults filled in.
    pub options: serde_json::Value,
    /// Threads of the generator.
    pub generator_cores: usize,
    pub phases: Vec<PhaseSpan>,
    pub seconds: Vec<Second>,
    /// By what they measure: delivery, connect, publish, recovery, lag.
    pub latencies: BTreeMap<String, LatencySummary>,
    pub totals: Counts,
    pub memory: Vec<MemoryPoint>,
    /// Sums over the measured part.
    pub measured: Measured,
    /// Remarks of the generator that are no violations.
    pub notes: Vec<String>,
    pub verdict: Verdict,
}

/// The host of the generator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    pub kernel: String,
    pub cpu: String,
    pub cpus: usize,
    pub memory_bytes: u64,
    /// Open files allowed per process.
    pub nofile: u64,
}

/// A phase of the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PhaseSpan {
    pub name: String,
    pub start_ms: u64,
    pub end_ms: u64,
}

/// About one second of the run. Counts are totals since the start, percentiles are of deliveries within the interval.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Second {
    pub at_ms: u64,
    pub phase: String,
    pub open: u64,
    pub published: u64,
    pub delivered: u64,
    pub errors: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
    pub server_rss_bytes: Option<u64>,
    pub server_cpu_us: Option<u64>,
    pub generator_cpu_us: u64,
}

/// One histogram.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LatencySummary {
    pub unit: String,
    pub count: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    pub mean: f64,
    pub hdr_v2_base64: String,
}

/// Memory at a number of connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryPoint {
    pub connections: u64,
    pub server_rss_bytes: Option<u64>,
    pub generator_rss_bytes: u64,
    /// Slab of the whole host: buffers and structures of sockets, of both ends when both are here.
    pub kernel_slab_bytes: u64,
}

/// Sums over the measured part, and the ratios that a summary prints.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    pub seconds: f64,
    pub published: u64,
    pub delivered: u64,
    /// CPU time of the server within the measured part.
    pub server_cpu_us: Option<u64>,
    /// CPU time of the server from its first connection until all were open.
    pub connect_cpu_us: Option<u64>,
    /// Connections that were opened meanwhile.
    pub connected: u64,
    /// Growth of the server's memory from before the first connection, per connection. None where it has not grown,
    /// because it had served a run before.
    pub rss_per_connection: Option<f64>,
    /// Pings that the client with the fewest has answered, where that was counted.
    pub pings_min: Option<u32>,
}

/// Whether the run counts, and whether what was asked for holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verdict {
    pub violations: Vec<String>,
    /// Condition, whether it holds, what was measured.
    pub assertions: Vec<(String, bool, String)>,
    pub generator_saturated: bool,
}

impl Measured {
    /// Deliveries per second.
    #[must_use]
    pub fn delivery_rate(&self) -> Option<f64> {
        ratio(self.delivered as f64, self.seconds)
    }

    /// Accepted publications per second.
    #[must_use]
    pub fn publish_rate(&self) -> Option<f64> {
        ratio(self.published as f64, self.seconds)
    }

    /// CPU time of the server per delivery, its share of publishing included.
    #[must_use]
    pub fn cpu_us_per_delivery(&self) -> Option<f64> {
        ratio(self.server_cpu_us? as f64, self.delivered as f64)
    }

    /// CPU time of the server per accepted publication.
    #[must_use]
    pub fn cpu_us_per_publication(&self) -> Option<f64> {
        ratio(self.server_cpu_us? as f64, self.published as f64)
    }

    /// CPU time of the server per connection opened, its subscriptions included.
    #[must_use]
    pub fn cpu_us_per_connect(&self) -> Option<f64> {
        ratio(self.connect_cpu_us? as f64, self.connected as f64)
    }

    /// CPU time of the server per open connection and second.
    #[must_use]
    pub fn cpu_us_per_connection_second(&self) -> Option<f64> {
        ratio(self.server_cpu_us? as f64, self.connected as f64 * self.seconds)
    }
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

impl Verdict {
    /// Nothing was violated and every assertion holds.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        self.violations.is_empty() && self.assertions.iter().all(|(_, holds, _)| *holds)
    }
}

impl Record {
    /// Reads a file, of this layout or an older one.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let record: Self =
            serde_json::from_str(&text).with_context(|| format!("{name} is no record of gyre-loadtest"))?;
        match record.schema {
            1..=SCHEMA => Ok(record),
            0 => bail!("{name} is no record of gyre-loadtest: it has no `schema`"),
            newer => bail!("{name} has schema {newer}, this version reads up to {SCHEMA}; use a newer gyre-loadtest"),
        }
    }

    /// Writes the file, readable by people too.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("cannot write the record as JSON")?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }

    /// The histogram of a latency; none where nothing was measured.
    #[must_use]
    pub fn histogram(&self, name: &str) -> Option<Histogram<u64>> {
        self.latencies.get(name).and_then(|latency| latency.histogram().ok()).filter(|histogram| !histogram.is_empty())
    }
}

impl LatencySummary {
    /// Sums a histogram of microseconds up.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let mut blob = Vec::new();
        // Fails only where writing to the sink does, and a vector takes everything.
        let written = V2DeflateSerializer::new().serialize(histogram, &mut blob);
        let at = |quantile| if histogram.is_empty() { 0 } else { histogram.value_at_quantile(quantile) };
        Self {
            unit: "us".to_owned(),
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
            mean: histogram.mean(),
            hdr_v2_base64: written.map_or_else(|_| String::new(), |_| BASE64_STANDARD.encode(&blob)),
        }
    }

    /// The histogram itself.
    pub fn histogram(&self) -> Result<Histogram<u64>> {
        let blob = BASE64_STANDARD.decode(&self.hdr_v2_base64).context("a histogram of the record is no base64")?;
        match Deserializer::new().deserialize(&mut blob.as_slice()) {
            Ok(histogram) => Ok(histogram),
            Err(error) => bail!("a histogram of the record is damaged: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::histogram;

    /// Comparing records merges these blobs; one that changes on the way would change every percentile.
    #[test]
    fn histograms_survive_the_file() {
        let mut samples = histogram();
        for value in [1, 90, 90, 1_500, 80_000] {
            samples.saturating_record(value);
        }
        let summary = LatencySummary::of(&samples);
        assert_eq!((summary.count, summary.p50), (5, 90));
        assert_eq!(summary.histogram().unwrap(), samples);
        assert_eq!(LatencySummary::of(&histogram()).count, 0);
    }

    /// A record of an older generator lacks fields and must still be read; one of a newer layout must not be misread.
    #[test]
    fn layouts() {
        let old: Record = serde_json::from_str(r#"{"schema":1,"totals":{"delivered":5}}"#).unwrap();
        assert_eq!((old.totals.delivered, old.totals.lost), (5, 0));
        let path = std::env::temp_dir().join(format!("gyre-loadtest-layout-{}.json", std::process::id()));
        for (text, part) in [(r#"{"schema":9}"#, "newer"), ("{}", "no `schema`"), ("[", "no record")] {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", Record::read(&path).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
