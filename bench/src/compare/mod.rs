//! Workloads against one server or two, in turns, on this machine.
//!
//! Rounds are interleaved (A B, B A, A B, ...) so that a slow minute of the machine meets both, every run begins with a
//! fresh server, a run during which the hypervisor took time away is repeated, and a run with a lost or disordered message
//! is no result at all. Blocks throughout; what is measured happens in other processes.

pub(crate) mod plan;
pub(crate) mod record;
mod report;
mod run;
pub(crate) mod server;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use plan::{Server, Workload};
use report::Outcome;
use run::Bench;

/// What is asked for on the command line.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Describes the servers: the first is ours, a second is what it is compared with
    #[arg(long, default_value = "bench/compare.toml")]
    servers: PathBuf,
    /// Only these servers of the file
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Describes other workloads than the built-in ones
    #[arg(long)]
    workloads: Option<PathBuf>,
    /// Ids of workloads; all of the file, if none is given
    #[arg(long, value_delimiter = ',')]
    workload: Vec<String>,
    /// Rounds of each workload and server
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The short forms, and only workloads that have one
    #[arg(long)]
    short: bool,
    /// CPU of the server; without it the scheduler chooses
    #[arg(long)]
    server_cpu: Option<usize>,
    /// CPU of the load generator
    #[arg(long)]
    client_cpu: Option<usize>,
    /// The load generator
    #[arg(long, default_value_os_t = beside_this_program())]
    loadtest: PathBuf,
    /// Folder for records and report
    #[arg(long, default_value = "target/compare")]
    out: PathBuf,
}

/// Both binaries of the workspace are built into one folder.
fn beside_this_program() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name("gyre-loadtest")
}

/// Runs everything, writes the report and prints it. An error if a run was invalid.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds: at least one is needed");
    let servers = plan::servers(&options.servers, &options.only)?;
    let workloads = plan::workloads(options.workloads.as_deref(), &options.workload, options.short)?;
    ensure!(
        options.loadtest.exists(),
        "there is no load generator at {}; build it with cargo build --release -p gyre-loadtest",
        options.loadtest.display()
    );
    fs::create_dir_all(&options.out).with_context(|| format!("cannot make {}", options.out.display()))?;
    let bench = Bench {
        loadtest: options.loadtest.clone(),
        out: options.out.clone(),
        server_cpu: options.server_cpu,
        client_cpu: options.client_cpu,
    };
    let mut outcome = Outcome::begin(&servers, &bench);
    for workload in &workloads {
        for round in 0..options.rounds {
            for at in order(servers.len(), round) {
                one_run(&bench, workload, &servers[at], round, &mut outcome)?;
            }
            if let Some(floor) = bench.floor(workload)? {
                outcome.floors.push((workload.id.clone(), floor));
            }
        }
        bench.draw(workload, &servers)?;
        outcome.write(&options.out, &workloads)?;
    }
    print!("{}", outcome.markdown(&workloads));
    let invalid = outcome.invalid();
    ensure!(invalid.is_empty(), "runs that do not count: {}", invalid.join("; "));
    Ok(())
}

fn one_run(bench: &Bench, workload: &Workload, server: &Server, round: usize, outcome: &mut Outcome) -> Result<()> {
    eprintln!("{} round {} of {}", workload.id, round + 1, server.name);
    let run = bench.run(workload, server, round)?;
    let values: Vec<String> = run.values.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
    eprintln!(
        "  {}{}",
        values.join(", "),
        run.invalid.as_ref().map_or(String::new(), |why| format!("  INVALID: {why}"))
    );
    outcome.runs.push(run);
    Ok(())
}

/// Who goes first changes from round to round.
fn order(servers: usize, round: usize) -> Vec<usize> {
    if round.is_multiple_of(2) { (0..servers).collect() } else { (0..servers).rev().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A machine that warms up or slows down would favour the server that always goes first.
    #[test]
    fn servers_take_turns() {
        let rounds: Vec<Vec<usize>> = (0..4).map(|round| order(2, round)).collect();
        assert_eq!(rounds.concat(), [0, 1, 1, 0, 0, 1, 1, 0]);
    }
}
