//! One run from preflight to verdict: what the commands with a workload do.
//!
//! On the main thread, which blocks in [`load::run`] while the cores and the watch work. Returns an exit code: 0 passed,
//! 1 violated, asserted in vain or failed, 2 refused before anything was dialled.

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::live::Live;
use crate::load::probe::{self, Probe};
use crate::load::{self, Outcome, Spec, Window};
use crate::options::{Common, Via, Workload};
use crate::plan::{self, Draft, Plan};
use crate::record::{LatencySummary, Machine, Measured, Record, SCHEMA, Second, Verdict};
use crate::sample::Process;
use crate::screen::Screen;
use crate::watch::{self, Seen};
use crate::{outputs, report, summary};

/// Lag of the generator at its 99th percentile from which its other numbers are doubtful.
const LAG_US_MAX: u64 = 1_000;
/// Time for the first call of the server API: it is one, to a server without load.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Prints what a run would need; connects to nothing.
///
/// # Errors
/// The output cannot be written.
pub fn plan(workload: &Workload, common: &Common) -> Result<ExitCode> {
    match check(workload, common) {
        Ok((draft, _)) => {
            summary::print(&(draft.lines.join("\n") + "\n"))?;
            warn(&draft.warnings);
            Ok(refuse(&draft.refusals))
        }
        Err(error) => Ok(refuse(&[error])),
    }
}

/// What the host must allow, and what a run would do.
///
/// # Errors
/// Options that contradict each other, or a name that is not known.
fn check(workload: &Workload, common: &Common) -> Result<(Draft, Spec), String> {
    let draft = plan::check(workload, common)?;
    let spec = Spec::new(&draft.plan, workload, common).map_err(|error| format!("{error:#}"))?;
    Ok((draft, spec))
}

/// Runs a workload. `arguments` is the command line for the record.
pub fn run(workload: &Workload, common: &Common, arguments: &[String]) -> Result<ExitCode> {
    let (draft, spec) = match check(workload, common) {
        Ok(checked) => checked,
        Err(error) => return Ok(refuse(&[error])),
    };
    let mut refusals = draft.refusals;
    let server = common.server_pid.and_then(Process::open);
    if let (Some(pid), None) = (common.server_pid, &server) {
        refusals.push(format!("no process {pid} on this host; leave --server-pid out for a server elsewhere"));
    }
    if !refusals.is_empty() {
        summary::print(&(draft.lines.join("\n") + "\n"))?;
        return Ok(refuse(&refusals));
    }
    let hlog = match outputs::open(common) {
        Ok(hlog) => hlog,
        Err(refusals) => return Ok(refuse(&refusals)),
    };
    let mut warnings = draft.warnings;
    if let Some(publishing) = spec.publishing.as_ref().filter(|publishing| publishing.via == Via::Http) {
        match probe::probe(publishing, common.connect_timeout.min(PROBE_TIMEOUT)) {
            Probe::Fine => {}
            Probe::Noted(text) => warnings.push(text),
            Probe::Refused(text) => return Ok(refuse(&[text])),
        }
    }
    warn(&warnings);
    if let Some(file) = &hlog {
        // Of an earlier run. A pipe has no length to set.
        _ = file.set_len(0);
    }
    raise_limits();

    let plan = draft.plan;
    let live = Live::new(plan.cores);
    // The first Ctrl-C ends the run politely, the second one at once.
    signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGINT, 130, live.stop_flag())?;
    signal_hook::flag::register(signal_hook::consts::SIGINT, live.stop_flag())?;
    signal_hook::flag::register(signal_hook::consts::SIGTERM, live.stop_flag())?;
    let started = SystemTime::now();
    let header = format!("gyre-loadtest {} to {}", workload.name(), common.url[0].authority());
    let screen = Screen::new(common.quiet);
    let setup = watch::Setup { live: Arc::clone(&live), header, goal: plan.clients, server, hlog, screen };
    let watch = watch::start(setup);
    let stop = live.stop_flag();
    let outcome = load::run(spec, plan.cores, workload, common, live);
    let mut seen = watch.finish();
    if let Some(error) = seen.hlog_error.take() {
        eprintln!("the histogram log is not complete: {error}");
    }
    let mut record = record(workload, common, &plan, arguments, started, outcome?, seen);
    record.notes.splice(0..0, warnings);
    if stop.load(Ordering::Relaxed) {
        record.notes.push("stopped early by a signal".to_owned());
    }
    record.verdict.assertions = common
        .assertions
        .iter()
        .map(|assertion| (assertion, assertion.check(&record)))
        .map(|(assertion, outcome)| (assertion.text().to_owned(), outcome.holds, outcome.measured))
        .collect();

    let (text, is_pass) = (summary::text(&record), record.verdict.is_pass());
    // Files first: a terminal that is gone must not take the record with it. A file that fails still leaves the text.
    let written = write_files(common, record);
    summary::print(&text)?;
    written?;
    Ok(if is_pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write_files(common: &Common, record: Record) -> Result<()> {
    if let Some(path) = &common.json {
        record.write(path)?;
    }
    if let Some(folder) = &common.report {
        let path = report::write(&[("run".to_owned(), record)], folder)?;
        eprintln!("report: {}", path.display());
    }
    Ok(())
}

fn refuse(refusals: &[String]) -> ExitCode {
    for refusal in refusals {
        eprintln!("refused: {refusal}");
    }
    if refusals.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}

/// The plan counts with the hard limits. Where they cannot be reached the ring says so.
fn raise_limits() {
    for resource in [Resource::Nofile, Resource::Memlock] {
        let limit = getrlimit(resource);
        _ = setrlimit(resource, Rlimit { current: limit.maximum, ..limit });
    }
}

fn record(
    workload: &Workload,
    common: &Common,
    plan: &Plan,
    arguments: &[String],
    started: SystemTime,
    outcome: Outcome,
    seen: Seen,
) -> Record {
    let latencies =
        outcome.latencies.iter().map(|(name, histogram)| ((*name).to_owned(), LatencySummary::of(histogram)));
    let is_late = |histogram: &hdrhistogram::Histogram<u64>| histogram.value_at_quantile(0.99) > LAG_US_MAX;
    let verdict = Verdict {
        violations: outcome.violations,
        assertions: Vec::new(),
        generator_saturated: outcome.latencies.get("lag").is_some_and(is_late),
    };
    Record {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: option_env!("GYRE_COMMIT").map(str::to_owned),
        workload: workload.name().to_owned(),
        command: without_secrets(arguments),
        started: humantime::format_rfc3339_seconds(started).to_string(),
        machine: machine(),
        options: serde_json::json!({ "workload": workload, "common": common }),
        generator_cores: plan.cores,
        phases: outcome.phases,
        latencies: latencies.collect(),
        totals: outcome.totals,
        measured: Measured { pings_min: outcome.pings_min, ..measured(&seen.seconds, outcome.window) },
        seconds: seen.seconds,
        memory: seen.memory,
        notes: outcome.notes,
        verdict,
    }
}

/// What the measured part adds up to, from the lines of the watch: they are cut where the phases are. `window` is the
/// same part as the cores have counted it, where they have: exact to the publication.
fn measured(seconds: &[Second], window: Option<Window>) -> Measured {
    let is_measured = |second: &&Second| matches!(second.phase.as_str(), "measure" | "hold");
    let connected = seconds.iter().map(|second| second.open).max().unwrap_or(0);
    let mut measured = Measured { connected, ..Measured::default() };
    let first = seconds.iter().position(|second| is_measured(&second));
    let last = seconds.iter().rposition(|second| is_measured(&second));
    if let (Some(first @ 1..), Some(last)) = (first, last) {
        // A line tells how things were at its end, so the one before is the start.
        let (start, end) = (&seconds[first - 1], &seconds[last]);
        measured.seconds = (end.at_ms - start.at_ms) as f64 / 1e3;
        measured.published = end.published.saturating_sub(start.published);
        measured.delivered = end.delivered.saturating_sub(start.delivered);
        measured.server_cpu_us = cpu_between(start, end);
        let mut rss: Vec<u64> = seconds[first..=last].iter().filter_map(|second| second.server_rss_bytes).collect();
        rss.sort_unstable();
        let without = seconds[0].server_rss_bytes.zip(rss.get(rss.len() / 2));
        let growth = without.map(|(without, median)| *median as f64 - without as f64);
        measured.rss_per_connection =
            growth.filter(|growth| connected > 0 && *growth > 0.0).map(|growth| growth / connected as f64);
    }
    if let Some(Window { us, published, delivered }) = window {
        (measured.seconds, measured.published, measured.delivered) = (us as f64 / 1e6, published, delivered);
    }
    if let Some(last) = seconds.iter().rfind(|second| second.phase == "connect") {
        measured.connect_cpu_us = cpu_between(&seconds[0], last);
    }
    measured
}

fn cpu_between(start: &Second, end: &Second) -> Option<u64> {
    Some(end.server_cpu_us?.saturating_sub(start.server_cpu_us?))
}

fn machine() -> Machine {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    Machine {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        cpu: model.map_or_else(String::new, |(_, name)| name.trim().to_owned()),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        memory_bytes: rustix::system::sysinfo().totalram as u64 * u64::from(rustix::system::sysinfo().mem_unit),
        nofile: plan::nofile(),
    }
}

/// The command line without what must not be published: `--api-key ***`.
fn without_secrets(arguments: &[String]) -> Vec<String> {
    const SECRETS: [&str; 3] = ["--api-key", "--token-key", "--token"];
    let mut is_secret = false;
    let clean = arguments.iter().map(|argument| {
        if std::mem::take(&mut is_secret) {
            return "***".to_owned();
        }
        is_secret = SECRETS.contains(&argument.as_str());
        match argument.split_once('=') {
            Some((name, _)) if SECRETS.contains(&name) => format!("{name}=***"),
            _ => argument.clone(),
        }
    });
    clean.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records are published; a key in one would have to be changed.
    #[test]
    fn secrets() {
        let given = ["idle", "--api-key", "k", "--token=t", "--token-key=x", "--seed", "1"].map(str::to_owned);
        let clean = ["idle", "--api-key", "***", "--token=***", "--token-key=***", "--seed", "1"];
        assert_eq!(without_secrets(&given), clean);
    }

    /// The cost of a delivery is what people compare servers by: only the measured part may count, and all of it.
    #[test]
    fn measured_part() {
        let line = |at_ms, phase: &str, open, delivered, cpu_us, rss| Second {
            at_ms,
            phase: phase.to_owned(),
            open,
            delivered,
            published: delivered / 10,
            server_cpu_us: Some(cpu_us),
            server_rss_bytes: Some(rss),
            ..Second::default()
        };
        let lines = [
            line(0, "start", 0, 0, 1_000, 1_000_000),
            line(1_000, "connect", 60, 0, 3_000, 1_050_000),
            line(1_500, "connect", 100, 0, 5_000, 1_050_000),
            line(2_000, "warm-up", 100, 50, 6_000, 1_060_000),
            line(3_000, "measure", 100, 150, 16_000, 1_061_000),
            line(4_000, "measure", 100, 250, 26_000, 1_061_400),
            line(4_100, "drain", 100, 260, 27_000, 1_090_000),
            line(4_200, "leave", 0, 260, 37_000, 1_000_000),
        ];
        let exact = super::measured(&lines, Some(Window { us: 1_990_000, published: 19, delivered: 199 }));
        assert_eq!((exact.seconds, exact.delivered, exact.published), (1.99, 199, 19));
        assert_eq!((exact.delivery_rate(), exact.server_cpu_us), (Some(100.0), Some(20_000)));
        let measured = measured(&lines, None);
        assert_eq!((measured.seconds, measured.delivered, measured.published), (2.0, 200, 20));
        assert_eq!(measured.cpu_us_per_delivery(), Some(100.0));
        assert_eq!(measured.cpu_us_per_connect(), Some(40.0));
        assert_eq!(measured.cpu_us_per_connection_second(), Some(100.0));
        assert_eq!(measured.rss_per_connection, Some(614.0));
    }
}
