//! The report: for each workload and metric the median of the rounds, how far they lie apart, and the ratio.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::plan::{Server, Workload};
use super::record::Metric;
use super::run::{Bench, Run};
use crate::stats::Spread;

/// Share of the machine's time used by others from which the report mentions it. The kernel's own threads take a few
/// per cent under load.
const OTHERS_MAX: f64 = 0.1;

/// Everything measured so far.
#[derive(Serialize)]
pub(super) struct Outcome {
    machine: String,
    placement: String,
    servers: Vec<(String, Vec<String>)>,
    pub(super) runs: Vec<Run>,
    /// Workload, CPU microseconds of a bare `send()`; one per round.
    pub(super) floors: Vec<(String, f64)>,
}

impl Outcome {
    pub(super) fn begin(servers: &[Server], bench: &Bench) -> Self {
        let place = |cpu: Option<usize>| cpu.map_or("any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
        Self {
            machine: machine(),
            placement: format!("server on {}, generator on {}", place(bench.server_cpu), place(bench.client_cpu)),
            servers: servers.iter().map(|server| (server.name.clone(), server.command.clone())).collect(),
            runs: Vec::new(),
            floors: Vec::new(),
        }
    }

    /// What does not count, each with its reason.
    pub(super) fn invalid(&self) -> Vec<String> {
        let invalid = self.runs.iter().filter_map(|run| {
            let why = run.invalid.as_ref()?;
            Some(format!("{} round {} of {}: {why}", run.workload, run.round + 1, run.server))
        });
        invalid.collect()
    }

    /// Writes `results.json` and `report.md`.
    pub(super) fn write(&self, folder: &Path, workloads: &[Workload]) -> Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        for (name, text) in [("results.json", json), ("report.md", self.markdown(workloads))] {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    pub(super) fn markdown(&self, workloads: &[Workload]) -> String {
        let mut text = format!("# Benchmark\n\n{}; {}.\n\n", self.machine, self.placement);
        for (name, command) in &self.servers {
            // Writing to a string does not fail.
            let _ = writeln!(text, "- {name}: `{}`", command.join(" "));
        }
        text.push_str(
            "\nMedian of the rounds, smallest .. largest. A ratio above 1 is in favour of the first server.\n",
        );
        for workload in workloads.iter().filter(|workload| self.runs.iter().any(|run| run.workload == workload.id)) {
            self.section(workload, &mut text);
        }
        for why in self.invalid() {
            let _ = writeln!(text, "\nDoes not count: {why}.");
        }
        text
    }

    fn section(&self, workload: &Workload, text: &mut String) {
        let _ = writeln!(
            text,
            "\n## {}: {}\n\n`gyre-loadtest {}`\n",
            workload.id,
            workload.about,
            workload.chosen.join(" ")
        );
        let names: Vec<&str> = self.servers.iter().map(|(name, _)| name.as_str()).collect();
        let ratio = names.len() == 2;
        let _ = writeln!(text, "| | {} |{}", names.join(" | "), if ratio { " ratio |" } else { "" });
        let _ = writeln!(text, "|---|{}{}", "---:|".repeat(names.len()), if ratio { "---:|" } else { "" });
        for name in &workload.metrics {
            let Ok(metric) = Metric::named(name) else { continue };
            let spreads: Vec<Option<Spread>> = names.iter().map(|server| self.spread(workload, server, name)).collect();
            if spreads.iter().all(Option::is_none) {
                continue;
            }
            let cells: Vec<String> = spreads.iter().map(|spread| spread.map_or("-".to_owned(), cell)).collect();
            let _ = write!(text, "| {name}, {} | {} |", metric.unit, cells.join(" | "));
            if let [Some(ours), Some(other)] = spreads[..] {
                let (above, below) =
                    if metric.more_is_better { (ours.median, other.median) } else { (other.median, ours.median) };
                let _ = write!(text, " {:.2} |", above / below);
            }
            text.push('\n');
            if name == "CPU per delivery" {
                self.floor_row(workload, &spreads, text);
            }
        }
        let runs = || self.runs.iter().filter(|run| run.workload == workload.id);
        if runs().any(|run| run.generator_saturated) {
            text.push_str(
                "\nThe generator was saturated in some rounds: rates are lower bounds, latencies upper ones.\n",
            );
        }
        let others = runs().map(|run| run.others).fold(0.0, f64::max);
        if others > OTHERS_MAX {
            let _ = writeln!(text, "\nOther processes used up to {:.0} % of the machine meanwhile.", others * 100.0);
        }
    }

    fn floor_row(&self, workload: &Workload, spreads: &[Option<Spread>], text: &mut String) {
        let floors = self.floors.iter().filter(|(id, _)| *id == workload.id).map(|(_, floor)| *floor);
        let Some(floor) = Spread::of(floors) else { return };
        let times = |spread: &Option<Spread>| {
            spread.map_or("-".to_owned(), |spread| format!("{:.2}", spread.median / floor.median))
        };
        let cells: Vec<String> = spreads.iter().map(times).collect();
        let ending = if spreads.len() == 2 { " |" } else { "" };
        let _ = writeln!(text, "| x bare send(), {} us | {} |{ending}", cell(floor), cells.join(" | "));
    }

    /// Over the rounds that count.
    fn spread(&self, workload: &Workload, server: &str, metric: &str) -> Option<Spread> {
        let counts = |run: &&Run| run.workload == workload.id && run.server == server && run.invalid.is_none();
        Spread::of(self.runs.iter().filter(counts).filter_map(|run| run.values.get(metric).copied()))
    }
}

/// Three significant digits are more than a shared machine gives.
fn cell(spread: Spread) -> String {
    let digits = match spread.median {
        median if median < 10.0 => 2,
        median if median < 100.0 => 1,
        _ => 0,
    };
    let Spread { median, min, max } = spread;
    format!("{median:.digits$} ({min:.digits$} .. {max:.digits$})")
}

/// Kernel and processors.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let release = read("/proc/sys/kernel/osrelease");
    format!("{cpus} x {}, Linux {}", model.trim_start_matches([' ', '\t', ':']), release.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::plan;

    fn run(server: &str, value: f64, invalid: Option<&str>) -> Run {
        Run {
            workload: "F1-1k".to_owned(),
            server: server.to_owned(),
            round: 0,
            values: [("CPU per delivery".to_owned(), value)].into(),
            stolen: 0.0,
            others: 0.0,
            generator_saturated: false,
            invalid: invalid.map(str::to_owned),
        }
    }

    // A report that mixes in what does not count, or turns a ratio round, praises the wrong server.
    #[test]
    fn medians_and_ratio() {
        let workloads = plan::workloads(None, &["F1-1k".to_owned()], false).unwrap();
        let outcome = Outcome {
            machine: "a machine".to_owned(),
            placement: "anywhere".to_owned(),
            servers: vec![("ours".to_owned(), vec![]), ("other".to_owned(), vec![])],
            runs: vec![
                run("ours", 4.0, None),
                run("ours", 5.0, None),
                run("ours", 6.0, None),
                run("ours", 900.0, Some("1 message lost")),
                run("other", 10.0, None),
            ],
            floors: vec![("F1-1k".to_owned(), 4.0)],
        };
        let text = outcome.markdown(&workloads);
        assert!(text.contains("| CPU per delivery, us | 5.00 (4.00 .. 6.00) | 10.0 (10.0 .. 10.0) | 2.00 |"), "{text}");
        assert!(text.contains("| x bare send(), 4.00 (4.00 .. 4.00) us | 1.25 | 2.50 | |"), "{text}");
        assert!(text.contains("Does not count: F1-1k round 1 of ours: 1 message lost."), "{text}");
    }
}
