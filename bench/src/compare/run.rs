//! One run: a fresh server, the load generator as a process of its own, and what its record says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;

use super::plan::{Server, Workload};
use super::record::{Metric, Record};
use super::server::{self, Running};
use crate::cpu::{self, Machine};
use crate::floor;

/// Share of the machine's time that may be taken away during a run.
const STOLEN_MAX: f64 = 0.02;
/// Attempts at a run until it was left alone.
const ATTEMPTS: usize = 3;

/// What all runs have in common.
pub(super) struct Bench {
    pub(super) loadtest: PathBuf,
    pub(super) out: PathBuf,
    pub(super) server_cpu: Option<usize>,
    pub(super) client_cpu: Option<usize>,
}

/// What came of a run.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) workload: String,
    pub(super) server: String,
    pub(super) round: usize,
    /// By the name of the metric.
    pub(super) values: BTreeMap<String, f64>,
    /// Share of the machine's time that the hypervisor took.
    pub(super) stolen: f64,
    /// Share of the machine's time that others used: neither server nor generator.
    pub(super) others: f64,
    /// The generator could not keep its schedule: the figures say "at least".
    pub(super) generator_saturated: bool,
    /// Why the run does not count.
    pub(super) invalid: Option<String>,
}

impl Bench {
    pub(super) fn run(&self, workload: &Workload, server: &Server, round: usize) -> Result<Run> {
        let mut run = self.attempt(workload, server, round)?;
        for _ in 1..ATTEMPTS {
            if run.stolen <= STOLEN_MAX {
                break;
            }
            eprintln!("  again: {:.1} % of the time was taken away", run.stolen * 100.0);
            run = self.attempt(workload, server, round)?;
        }
        if run.stolen > STOLEN_MAX {
            run.invalid = Some(format!("{:.1} % of the time was taken away", run.stolen * 100.0));
        }
        Ok(run)
    }

    fn attempt(&self, workload: &Workload, server: &Server, round: usize) -> Result<Run> {
        let path = self.record_path(workload, server, round);
        // A generator that fails must not leave us with the record of last time.
        let _ = fs::remove_file(&path);
        let running = Running::start(server, self.server_cpu, &path.with_extension("server.log"))?;
        let before = Machine::now()?;
        let status = server::run(&mut self.generator(workload, server, running.pid(), &path), self.client_cpu)?;
        let after = Machine::now()?;
        // From its start on, which is little compared with a run.
        let server_cpu = cpu::of_process(running.pid())?;
        running.stop()?;
        // 1 = a violation, which the record tells; anything else is a mistake of ours or of the table.
        ensure!(matches!(status.code(), Some(0 | 1)), "the load generator ended with {status}");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("the load generator left no record at {} ({status})", path.display()))?;
        let record: Record = serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        let mut values = BTreeMap::new();
        for name in &workload.metrics {
            if let Some(value) = Metric::named(name)?.of(&record) {
                values.insert(name.clone(), value);
            }
        }
        let violations = record.verdict.violations.join(", ");
        Ok(Run {
            workload: workload.id.clone(),
            server: server.name.clone(),
            round,
            values,
            stolen: after.stolen_since(&before),
            others: after.others_since(&before, server_cpu + record.generator_cpu()),
            generator_saturated: record.verdict.generator_saturated,
            invalid: (!violations.is_empty()).then_some(violations),
        })
    }

    fn generator(&self, workload: &Workload, server: &Server, pid: u32, record: &Path) -> Command {
        let mut command = Command::new(&self.loadtest);
        command.args(&workload.chosen).args(["--url", &server.url, "--api-url", &server.api_url]);
        command.args(["--api-key", &server.api_key, "--server-pid", &pid.to_string(), "--quiet"]);
        if workload.with_tokens {
            command.args(["--token-key", &server.token_key]);
        }
        command.arg("--json").arg(record).stdout(std::process::Stdio::null());
        command
    }

    fn record_path(&self, workload: &Workload, server: &Server, round: usize) -> PathBuf {
        self.out.join(format!("{}-{}-{}.json", workload.id, server.name, round + 1))
    }

    /// CPU microseconds of a bare `send()` for this workload, where it has such a floor.
    pub(super) fn floor(&self, workload: &Workload) -> Result<Option<f64>> {
        let Some(plan) = workload.floor else { return Ok(None) };
        let (send_cpu, drain_cpu) = (self.server_cpu.unwrap_or(0), self.client_cpu.unwrap_or(1));
        // On a thread of its own, because measuring binds it to a CPU.
        let probe = std::thread::spawn(move || floor::probe(plan.sockets, plan.pace, send_cpu, drain_cpu));
        let floor = probe.join().map_err(|_| anyhow!("the floor probe panicked"))??;
        Ok(Some(floor.nanoseconds.median / 1000.0))
    }

    /// Has the generator draw the charts of the last round.
    pub(super) fn draw(&self, workload: &Workload, servers: &[Server]) -> Result<()> {
        let last = |server: &Server| {
            let rounds = (0..).map(|round| self.record_path(workload, server, round));
            rounds.take_while(|path| path.exists()).last()
        };
        let records: Vec<PathBuf> = servers.iter().filter_map(last).collect();
        let mut command = Command::new(&self.loadtest);
        command.arg("report").args(&records).arg("--out").arg(self.out.join(&workload.id));
        let status = command.stdout(std::process::Stdio::null()).status()?;
        ensure!(status.success(), "the load generator cannot draw its records: {status}");
        Ok(())
    }
}
