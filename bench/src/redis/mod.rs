//! What several nodes over one Redis cost: a real Redis and real nodes of the release build on this machine, each figure
//! beside what the same machine reaches without Gyre, or without Redis, in the same run.
//!
//! Runs on the thread of `main` and blocks throughout. Every process and port is its own; all end with it. A figure that
//! misses its goal is shown, and is no failure: only what could not be measured is.

mod api;
pub(crate) mod clients;
mod latency;
mod memory;
pub(crate) mod node;
mod presence;
mod publish;
pub(crate) mod resp;
mod resubscribe;
pub(crate) mod server;
pub(crate) mod table;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::compare::record::Record;
use crate::compare::server as process;
use crate::cpu::Machine;
use table::Table;

/// What is asked for on the command line.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// What to measure [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Repetitions of what is compared in turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// A hundredth of everything: whether it works at all; its figures mean nothing
    #[arg(long)]
    short: bool,
    /// The server [default: gyre beside this program]
    #[arg(long, value_name = "PATH")]
    gyre: Option<PathBuf>,
    /// Cores of a node
    #[arg(long, default_value_t = 1)]
    cores: u32,
    /// CPU of Redis
    #[arg(long, value_name = "CPU")]
    redis_cpu: Option<usize>,
    /// CPU of the nodes
    #[arg(long, value_name = "CPU")]
    node_cpu: Option<usize>,
    /// CPU of the load generator and of redis-benchmark
    #[arg(long, value_name = "CPU")]
    load_cpu: Option<usize>,
    /// Folder for logs, records and the table
    #[arg(long, default_value = "target/redis")]
    out: PathBuf,
}

/// One of the things that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Publications with history, beside redis-benchmark with the same script
    Publish,
    /// Channels heard again after their connection was cut
    Resubscribe,
    /// What renewing presence entries costs
    Presence,
    /// Publication on one node, delivery on another
    Latency,
    /// Memory of a channel
    Memory,
}

/// One of them, as a function that adds its rows.
type Measure = fn(&mut Bench, &mut Table) -> Result<()>;

const PARTS: [(Part, Measure); 5] = [
    (Part::Publish, publish::measure),
    (Part::Resubscribe, resubscribe::measure),
    (Part::Presence, presence::measure),
    (Part::Latency, latency::measure),
    (Part::Memory, memory::measure),
];

/// Runs what was asked for and prints the table.
pub fn run(options: &Options) -> Result<()> {
    let mut bench = Bench::new(options)?;
    let (started, before) = (Instant::now(), Machine::now()?);
    let mut table = Table::default();
    for (part, measure) in PARTS {
        if options.only.is_empty() || options.only.contains(&part) {
            println!("== {part:?}");
            measure(&mut bench, &mut table).with_context(|| format!("{part:?}"))?;
        }
    }
    bench.report(&table, started, &before)
}

/// What all parts have in common.
pub(crate) struct Bench {
    pub(crate) gyre: PathBuf,
    /// Another server that understands the same configuration.
    pub(crate) reference: Option<PathBuf>,
    pub(crate) out: PathBuf,
    pub(crate) rounds: u32,
    pub(crate) short: bool,
    pub(crate) cores: u32,
    pub(crate) redis_cpu: Option<usize>,
    pub(crate) node_cpu: Option<usize>,
    pub(crate) load_cpu: Option<usize>,
    next_port: u16,
    /// Somebody wants it to end.
    stop: Arc<AtomicBool>,
}

/// Below the ephemeral ports, where no outgoing connection takes one meanwhile.
const FIRST_PORT: u16 = 18_600;

impl Bench {
    fn new(options: &Options) -> Result<Self> {
        Ok(Self {
            rounds: options.rounds,
            short: options.short,
            cores: options.cores,
            redis_cpu: options.redis_cpu,
            node_cpu: options.node_cpu,
            load_cpu: options.load_cpu,
            ..Self::plain(options.gyre.clone(), &options.out)?
        })
    }

    /// One round of nodes with one core, on any CPU. Without a path the server is the one beside this program.
    pub(crate) fn plain(gyre: Option<PathBuf>, out: &Path) -> Result<Self> {
        fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
        let stop = Arc::default();
        signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop))?;
        signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stop))?;
        Ok(Self {
            gyre: gyre.unwrap_or_else(|| beside("gyre")),
            reference: None,
            out: out.to_owned(),
            rounds: 1,
            short: false,
            cores: 1,
            redis_cpu: None,
            node_cpu: None,
            load_cpu: None,
            next_port: FIRST_PORT,
            stop,
        })
    }

    /// What `start` starts, of the reference. `None` = there is none.
    pub(crate) fn of_reference<T>(&mut self, start: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        let Some(reference) = self.reference.clone() else { return Ok(None) };
        let own = std::mem::replace(&mut self.gyre, reference);
        let started = start(self).context("the reference");
        self.gyre = own;
        started.map(Some)
    }

    /// `whole`, or a hundredth of it, but at least `least`.
    pub(crate) fn size(&self, whole: usize, least: usize) -> usize {
        if self.short { (whole / 100).max(least) } else { whole }
    }

    /// `client.presence_update_interval` of a fresh configuration.
    fn presence_interval_s(&self) -> u64 {
        if self.short { 3 } else { 27 }
    }

    /// To be called wherever something is waited for: what was started ends on the way out.
    pub(crate) fn go_on(&self) -> Result<()> {
        ensure!(!self.stop.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }

    pub(crate) fn free_port(&mut self) -> Result<u16> {
        loop {
            let port = self.next_port;
            self.next_port = port.checked_add(1).context("no port is free")?;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Ok(port);
            }
        }
    }

    /// Runs the load generator against a node.
    fn load(&self, name: &str, node: &node::Node, publish_to: &node::Node, args: &[&str]) -> Result<Record> {
        self.go_on()?;
        let path = self.out.join(format!("{name}.json"));
        // A generator that fails must not leave us with the record of last time.
        let _ = fs::remove_file(&path);
        let mut command = Command::new(beside("gyre-loadtest"));
        command.args(args).args(["--url", &node.url(), "--api-url", &publish_to.api_url(), "--api-key", node::API_KEY]);
        command.args(["--server-pid", &publish_to.pid().to_string(), "--quiet", "--json"]).arg(&path);
        command.stdout(std::process::Stdio::null());
        let status = process::run(&mut command, self.load_cpu).context("cannot run gyre-loadtest; build it first")?;
        self.go_on()?;
        ensure!(status.code() != Some(2), "the load generator refused to run: {}", args.join(" "));
        let record = read_record(&path)?;
        let violations = record.verdict.violations.join(", ");
        ensure!(violations.is_empty(), "{name}: {violations}");
        if record.verdict.generator_saturated {
            println!("  {name}: the generator was saturated: rates are lower bounds, latencies upper ones");
        }
        Ok(record)
    }

    /// Writes the table and shows it.
    pub(crate) fn report(&self, table: &Table, started: Instant, before: &Machine) -> Result<()> {
        let stolen = Machine::now()?.stolen_since(before) * 100.0;
        let text = format!(
            "{}\n{}; {:.0} s, of which the hypervisor took {stolen:.1} %.\n",
            table.markdown(),
            self.placement(),
            started.elapsed().as_secs_f64()
        );
        let path = self.out.join("report.md");
        fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("\n{text}");
        Ok(())
    }

    fn placement(&self) -> String {
        let place = |cpu: Option<usize>| cpu.map_or("any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
        format!(
            "Nodes of {} core(s) on {}, Redis on {}, load on {}",
            self.cores,
            place(self.node_cpu),
            place(self.redis_cpu),
            place(self.load_cpu)
        )
    }
}

fn read_record(path: &Path) -> Result<Record> {
    let text =
        fs::read_to_string(path).with_context(|| format!("the load generator left no record at {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))
}

fn beside(name: &str) -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name(name)
}
