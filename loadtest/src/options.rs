//! The command line: what is asked for, typed. Only parses; what the host allows is decided by `plan`.
//!
//! Counts take the suffixes `k` and `m`, durations are written `500ms`, `30s`, `10m` or `1h30m`. Every field that has an
//! influence on a result is part of the record, secrets are not.

mod values;
mod workload;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

pub use values::{CoreCount, Sources, Target};
pub use workload::{Churn, Fanout, Idle, Mesh, Publish, Storm, Via, Workload};

use crate::assertion::Assertion;
use values::{at_least_one, duration};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "gyre-loadtest",
    version,
    about = "Load generator for Gyre and every other Centrifugo-compatible server",
    long_about = "Load generator for Gyre and every other Centrifugo-compatible server.\n\n\
        The schedule is fixed up front and latency counts from the intended time, so a slow server cannot slow the \
        measuring down. Every delivery is checked: lost, duplicated and disordered ones end the run with exit code 1, \
        as does a failed --assert. Exit code 2: bad usage, or this host does not allow the run (see `plan`).",
    after_help = EXAMPLES,
    max_term_width = 110
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  gyre-loadtest idle    --clients 100k --connect-rate 20k --hold 10m --source-ip 127.0.0.0/26
  gyre-loadtest fanout  --subscribers 10k --publish-rate 50 --api-key KEY --assert 'p99<50ms' --json run.json
  gyre-loadtest plan    idle --clients 1m --source-ip 127.0.0.0/26
  gyre-loadtest compare before.json after.json
  gyre-loadtest report  run.json --out report/";

/// Everything the binary does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A run against a server.
    #[command(flatten)]
    Run(Box<Run>),
    /// Print what a run would need of this host and what the host allows; connects to nothing
    #[command(subcommand, after_help = "Example:\n  gyre-loadtest plan idle --clients 1m --source-ip 127.0.0.0/26")]
    Plan(Box<Run>),
    /// Compare two records: ratios of latencies, rates, CPU and memory
    #[command(after_help = "Several repetitions of a side are separated by commas:\n  \
        gyre-loadtest compare a1.json,a2.json,a3.json b1.json,b2.json,b3.json")]
    Compare {
        /// The base: one record, or several repetitions separated by commas
        #[arg(value_delimiter = ',', required = true, num_args = 1)]
        before: Vec<PathBuf>,
        /// What is compared with it
        #[arg(value_delimiter = ',', required = true, num_args = 1)]
        after: Vec<PathBuf>,
    },
    /// Draw the report of one or several records: report.md and SVG files
    #[command(after_help = "Example:\n  gyre-loadtest report gyre.json other.json --out report/")]
    Report {
        /// Records written with --json; each becomes a series of the charts
        #[arg(required = true)]
        records: Vec<PathBuf>,
        /// Folder to write to; made if it does not exist
        #[arg(long, value_name = "DIR", default_value = "report")]
        out: PathBuf,
    },
}

/// A workload with the options that all workloads share.
#[derive(Debug, Subcommand)]
pub enum Run {
    /// Open connections and hold them: memory, pings, a broadcast at the end
    #[command(
        after_help = "Example:\n  gyre-loadtest idle --clients 100k --connect-rate 20k --hold 10m --source-ip 127.0.0.0/26 --server-pid $(pidof gyre)"
    )]
    Idle {
        #[command(flatten)]
        workload: Idle,
        #[command(flatten)]
        common: Common,
    },
    /// Few channels with many subscribers each
    #[command(
        after_help = "Example:\n  gyre-loadtest fanout --subscribers 10k --publish-rate 50 --size 128 --api-key KEY --assert 'p99<50ms'"
    )]
    Fanout {
        #[command(flatten)]
        workload: Fanout,
        #[command(flatten)]
        common: Common,
    },
    /// Many channels with few subscribers each
    #[command(
        after_help = "Example:\n  gyre-loadtest mesh --clients 10k --channels 1k --publish-rate 2k --api-key KEY --json mesh.json"
    )]
    Mesh {
        #[command(flatten)]
        workload: Mesh,
        #[command(flatten)]
        common: Common,
    },
    /// Clients that leave and come back all the time while publications flow
    #[command(
        after_help = "Example:\n  gyre-loadtest churn --clients 10k --reconnect-rate 500 --recover --prefix ns:test --api-key KEY"
    )]
    Churn {
        #[command(flatten)]
        workload: Churn,
        #[command(flatten)]
        common: Common,
    },
    /// All clients come back at once
    #[command(
        after_help = "Example:\n  gyre-loadtest storm --clients 10k --drop-all --recover --prefix ns:test --api-key KEY"
    )]
    Storm {
        #[command(flatten)]
        workload: Storm,
        #[command(flatten)]
        common: Common,
    },
    /// Publish as fast as asked for, or as fast as the connections allow
    #[command(
        after_help = "Example:\n  gyre-loadtest publish --via http --rate 20k --connections 64 --batch 1 --api-key KEY --server-pid $(pidof gyre)"
    )]
    Publish {
        #[command(flatten)]
        workload: Publish,
        #[command(flatten)]
        common: Common,
    },
}

impl Run {
    /// The workload and the shared options.
    #[must_use]
    pub fn split(self) -> (Workload, Common) {
        match self {
            Self::Idle { workload, common } => (Workload::Idle(workload), common),
            Self::Fanout { workload, common } => (Workload::Fanout(workload), common),
            Self::Mesh { workload, common } => (Workload::Mesh(workload), common),
            Self::Churn { workload, common } => (Workload::Churn(workload), common),
            Self::Storm { workload, common } => (Workload::Storm(workload), common),
            Self::Publish { workload, common } => (Workload::Publish(workload), common),
        }
    }
}

/// Encoding of the client protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Json,
    Protobuf,
}

/// Options of every workload.
#[derive(Debug, Clone, Args, Serialize)]
#[group(skip)]
pub struct Common {
    /// WebSocket endpoint of the server; several, separated by commas, share the clients
    #[arg(long, value_delimiter = ',', default_value = "ws://127.0.0.1:8000/connection/websocket", help_heading = SERVER)]
    pub url: Vec<Target>,

    /// Encoding of the client protocol
    #[arg(long, value_enum, default_value_t = Protocol::Json, help_heading = SERVER)]
    pub protocol: Protocol,

    /// HS256 secret: every client gets a token with `sub` = its number
    #[arg(long, value_name = "SECRET", conflicts_with = "token", help_heading = SERVER)]
    #[serde(skip)]
    pub token_key: Option<String>,

    /// One token for all clients
    #[arg(long, value_name = "JWT", help_heading = SERVER)]
    #[serde(skip)]
    pub token: Option<String>,

    /// Server API, for publishing [default: /api beside the first --url]
    #[arg(long, value_name = "URL", help_heading = SERVER)]
    pub api_url: Option<Target>,

    /// Key of the server API, sent as X-API-Key
    #[arg(long, value_name = "KEY", help_heading = SERVER)]
    #[serde(skip)]
    pub api_key: Option<String>,

    /// Process of the server on this host: its memory and CPU time become part of the result
    #[arg(long, value_name = "PID", help_heading = SERVER)]
    pub server_pid: Option<u32>,

    /// Threads of the generator; may exceed the CPUs, because each can hold only so many connections
    #[arg(long, default_value = "auto", value_name = "N|auto", help_heading = GENERATOR)]
    pub cores: CoreCount,

    /// Local addresses to connect from: a network or a list of addresses
    #[arg(long, value_name = "CIDR|LIST", help_heading = GENERATOR)]
    pub source_ip: Option<Sources>,

    /// Connections begun per second
    #[arg(long, value_parser = at_least_one, default_value = "10k", value_name = "RATE", help_heading = GENERATOR)]
    pub connect_rate: u64,

    /// A connection that has no connect reply by then has failed
    #[arg(long, value_parser = duration, default_value = "10s", value_name = "TIME", help_heading = GENERATOR)]
    #[serde(serialize_with = "values::as_millis")]
    pub connect_timeout: Duration,

    /// Handshakes in flight per core
    #[arg(long, value_parser = at_least_one, default_value = "256", value_name = "N", help_heading = GENERATOR)]
    pub handshakes: u64,

    /// First part of every channel name; with a namespace: `ns:test`
    #[arg(long, default_value = "loadtest", value_name = "TEXT", help_heading = GENERATOR)]
    pub prefix: String,

    /// Seed of everything that is chosen at random
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = GENERATOR)]
    pub seed: u64,

    /// How long to measure, after the warm-up
    #[arg(long, value_parser = duration, default_value = "30s", value_name = "TIME", help_heading = MEASURE)]
    #[serde(serialize_with = "values::as_millis")]
    pub duration: Duration,

    /// How long to run the load before measuring
    #[arg(long, value_parser = duration, default_value = "3s", value_name = "TIME", help_heading = MEASURE)]
    #[serde(serialize_with = "values::as_millis")]
    pub warmup: Duration,

    /// What must hold, such as 'p99<50ms', 'lost==0', 'rss_per_connection<1KiB'; repeatable
    #[arg(long = "assert", value_name = "CONDITION", help_heading = MEASURE)]
    pub assertions: Vec<Assertion>,

    /// Write the record of the run
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    #[serde(skip)]
    pub json: Option<PathBuf>,

    /// Write a standard HDR histogram log with one line per second
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    #[serde(skip)]
    pub hlog: Option<PathBuf>,

    /// Draw the report into this folder
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    #[serde(skip)]
    pub report: Option<PathBuf>,

    /// Nothing on the screen but the summary
    #[arg(long, short, help_heading = OUTPUT)]
    #[serde(skip)]
    pub quiet: bool,
}

const SERVER: &str = "Server";
const GENERATOR: &str = "Generator";
const MEASURE: &str = "Measuring";
const OUTPUT: &str = "Output";

impl Common {
    /// Local addresses to bind to; none: the kernel chooses.
    #[must_use]
    pub fn sources(&self) -> Vec<IpAddr> {
        self.source_ip.as_ref().map_or_else(Vec::new, Sources::addresses)
    }

    /// Where to send calls of the server API.
    #[must_use]
    pub fn api(&self) -> Target {
        self.api_url.clone().unwrap_or_else(|| self.url[0].with_path("/api"))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    /// A definition that clap rejects would panic at the first start.
    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// The examples of the documentation must mean what they say.
    #[test]
    fn suffixes_and_durations() {
        let line = "gyre-loadtest idle --clients 1m --connect-rate 20k --hold 10m --source-ip 127.0.0.0/26";
        let Command::Run(run) = parse(line).unwrap().command else { panic!("a run") };
        let (workload, common) = run.split();
        let Workload::Idle(idle) = &workload else { panic!("idle") };
        assert_eq!((idle.clients, idle.hold), (1_000_000, Duration::from_secs(600)));
        assert_eq!((common.connect_rate, common.sources().len()), (20_000, 62));
        assert_eq!(common.api().to_string(), "http://127.0.0.1:8000/api");
        assert_eq!(workload.connections(), 1_000_000);
    }

    /// A secret in a record would be published with it.
    #[test]
    fn secrets_are_not_recorded() {
        let line = "gyre-loadtest fanout --api-key hush --token-key hush";
        let Command::Run(run) = parse(line).unwrap().command else { panic!("a run") };
        let (workload, common) = run.split();
        let text = serde_json::to_string(&(workload, common)).unwrap();
        assert!(!text.contains("hush"), "{text}");
    }

    /// Mistakes must be named before a run of ten minutes starts.
    #[test]
    fn mistakes_are_refused() {
        for line in [
            "gyre-loadtest idle --clients 0",
            "gyre-loadtest idle --clients 1x",
            "gyre-loadtest idle --url wss://127.0.0.1/",
            "gyre-loadtest fanout --assert p98<1ms",
            "gyre-loadtest fanout --token a --token-key b",
            "gyre-loadtest idle --source-ip 10.0.0.0/4",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
