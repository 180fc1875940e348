//! `gyre-bench`: instruction counts, the floor of the kernel, a comparison of two servers. See docs/operate/benchmarks.md.

#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use gyre_bench::{backend, compare, floor, instructions, million, redis};

/// As in the product: its allocations are part of what is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How fast Gyre is, and what stands in its way.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Tool,
}

#[derive(Subcommand)]
enum Tool {
    /// Count instructions per operation under valgrind and compare them with the baseline
    Instructions(instructions::Options),
    /// Measure what the kernel needs for a send and for a socket: what no server can undercut
    Floor(floor::Options),
    /// Run workloads against one server, or against two in turns, and report
    Compare(compare::Options),
    /// Hold a million connections, twice, and write the report
    Million(million::Options),
    /// Measure nodes over a Redis of their own: publish, resubscribe, presence, latency, memory
    Redis(redis::Options),
    /// Measure what asking and telling the application's backend costs: connects, calls, channel state
    Backend(backend::Options),
    /// The receiving process of `floor`
    #[command(hide = true)]
    Drain(floor::DrainOptions),
    /// Run one case, for profilers
    Case {
        /// Name of the case
        name: String,
        /// Rounds after the warm-up
        #[arg(long, default_value_t = 1000)]
        rounds: u64,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Tool::Instructions(options) => instructions::run(&options),
        Tool::Compare(options) => compare::run(&options),
        Tool::Million(options) => million::run(&options),
        Tool::Redis(options) => redis::run(&options),
        Tool::Backend(options) => backend::run(&options),
        Tool::Floor(options) => floor::run(&options),
        Tool::Drain(options) => floor::drain(&options),
        Tool::Case { name, rounds } => instructions::run_case(&name, rounds),
    }
}
