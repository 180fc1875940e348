//! What the application's side costs: a backend that is asked when clients connect and call, and that is told of the
//! state of channels. Real nodes of the release build, a real Redis, and a backend within this process that answers at
//! once: what is measured is the server, not the application.
//!
//! Runs on the thread of `main`, which blocks throughout; clients and backend have threads of their own. Every process
//! and port is its own; all end with it. A figure that misses its goal is shown, and is no failure: only what could not
//! be measured is.

mod connects;
mod http;
mod idle;
mod node;
mod pace;
mod rpc;
mod states;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cpu::{self, Machine};
use crate::redis::Bench;
use crate::redis::table::Table;

/// What is asked for on the command line.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// What to measure [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Repetitions
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long a repetition lasts; an idle one twice as long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// A hundredth of everything, once: whether it works at all; its figures mean nothing
    #[arg(long)]
    short: bool,
    /// The server [default: gyre beside this program]
    #[arg(long, value_name = "PATH")]
    gyre: Option<PathBuf>,
    /// Another server to hold connects and calls against, in turns; Centrifugo 6 takes the same configuration
    #[arg(long, value_name = "PATH")]
    reference: Option<PathBuf>,
    /// CPU of the nodes
    #[arg(long, value_name = "CPU", requires = "client_cpu")]
    server_cpu: Option<usize>,
    /// CPU of clients and backend
    #[arg(long, value_name = "CPU", requires = "server_cpu")]
    client_cpu: Option<usize>,
    /// CPU of Redis [default: that of the clients]
    #[arg(long, value_name = "CPU", requires = "client_cpu")]
    redis_cpu: Option<usize>,
    /// Folder for logs and the table
    #[arg(long, default_value = "target/backend")]
    out: PathBuf,
}

/// One of the things that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Connects that the backend is asked about, beside connects that it is not
    Connect,
    /// Calls of clients that the backend answers
    Rpc,
    /// Joins of new channels that the backend is told of
    State,
    /// Partitions of channel state in which nothing happens
    Idle,
}

/// One of them, as a function that adds its rows.
type Measure = fn(&mut Bench, Duration, &mut Table) -> Result<()>;

const PARTS: [(Part, Measure); 4] = [
    (Part::Connect, connects::measure),
    (Part::Rpc, rpc::measure),
    (Part::State, states::measure),
    (Part::Idle, idle::measure),
];

/// Runs what was asked for and prints the table.
pub fn run(options: &Options) -> Result<()> {
    let mut bench = Bench::plain(options.gyre.clone(), &options.out)?;
    bench.reference.clone_from(&options.reference);
    bench.node_cpu = options.server_cpu;
    bench.load_cpu = options.client_cpu;
    bench.redis_cpu = options.redis_cpu.or(options.client_cpu);
    bench.short = options.short;
    bench.rounds = if options.short { 1 } else { options.rounds };
    if let Some(cpu) = options.client_cpu {
        // The threads of clients and backend inherit it.
        cpu::pin(cpu)?;
    }
    let time = Duration::from_secs(if options.short { options.seconds.min(2) } else { options.seconds });
    let (started, before) = (Instant::now(), Machine::now()?);
    let mut table = Table::default();
    for (part, measure) in PARTS {
        if options.only.is_empty() || options.only.contains(&part) {
            println!("== {part:?}");
            measure(&mut bench, time, &mut table).with_context(|| format!("{part:?}"))?;
        }
    }
    bench.report(&table, started, &before)
}
