//! Instructions per operation under callgrind: the same on a noisy machine as on a quiet one.
//!
//! Each case runs in a process of its own under valgrind, which counts only inside [`measured_by_callgrind`]. What is
//! counted is compared with `bench/instructions.json`. Valgrind shows the program an older CPU than the real one, so code
//! that picks its instructions at run time (SHA extensions, AVX-512) is counted in its next best form.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cases::{self, Case};

/// Above the baseline by more than this is a regression. Counts repeat to well under 1 %; a compiler update moves more.
const TOLERANCE: f64 = 0.05;

/// Rounds before counting starts: tables have grown to their size, the allocator has its pages.
const WARM_UP_ROUNDS: u64 = 20;

/// Operations that one count is taken over: enough that an amortized cost (a table that grows) shows as its average.
const OPERATIONS: u64 = 20_000;

/// What is asked for on the command line.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Only cases whose name contains this
    filter: Option<String>,
    /// Write what was counted as the new baseline
    #[arg(long)]
    update: bool,
    /// The baseline
    #[arg(long, default_value_os_t = default_baseline())]
    baseline: PathBuf,
}

fn default_baseline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}

/// Instructions per operation by the name of the case.
type Counts = BTreeMap<String, f64>;

/// Counts, prints, compares. An error if a case needs more instructions than the baseline allows.
pub fn run(options: &Options) -> Result<()> {
    ensure!(
        Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()),
        "cannot run valgrind; install the package valgrind"
    );
    let is_chosen = |case: &Case| options.filter.as_ref().is_none_or(|part| case.name.contains(part.as_str()));
    ensure!(cases::all().iter().any(is_chosen), "no case has such a name");
    let before = read(&options.baseline, options.update)?;
    let mut after = if options.filter.is_some() { before.clone() } else { Counts::new() };
    let mut worse = Vec::new();
    println!("{:<45}{:>12}{:>12}{:>9}", "instructions per operation", "now", "baseline", "change");
    for case in cases::all().into_iter().filter(is_chosen) {
        let count = count(&case)?;
        let label = format!("{} ({})", case.name, case.unit);
        match before.get(case.name) {
            Some(&base) => {
                let change = count / base - 1.0;
                println!("{label:<45}{count:>12.1}{base:>12.1}{:>+8.1}%", change * 100.0);
                if change > TOLERANCE {
                    worse.push(case.name);
                }
            }
            None => println!("{label:<45}{count:>12.1}{:>12}", "-"),
        }
        after.insert(case.name.to_owned(), (count * 10.0).round() / 10.0);
    }
    if options.update {
        let text = serde_json::to_string_pretty(&after)? + "\n";
        return fs::write(&options.baseline, text)
            .with_context(|| format!("cannot write {}", options.baseline.display()));
    }
    ensure!(
        worse.is_empty(),
        "more than {:.0} % above the baseline: {}; find the cause, or accept it with --update",
        TOLERANCE * 100.0,
        worse.join(", ")
    );
    Ok(())
}

fn read(path: &Path, may_be_missing: bool) -> Result<Counts> {
    if may_be_missing && !path.exists() {
        return Ok(Counts::new());
    }
    let text = fs::read(path).with_context(|| format!("cannot read {}; --update makes it", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not a table of counts", path.display()))
}

/// Runs this program again, under callgrind, for one case.
fn count(case: &Case) -> Result<f64> {
    let rounds = OPERATIONS.div_ceil(case.operations).min(500);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*measured_by_callgrind*")
        .arg(std::env::current_exe()?)
        .args(["case", case.name, "--rounds", &rounds.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the case {:?} failed under valgrind:\n{text}", case.name);
    let collected = text.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    match collected.and_then(|count| count.parse::<u64>().ok()) {
        Some(count) if count > 0 => Ok(count as f64 / (rounds * case.operations) as f64),
        _ => bail!("valgrind collected nothing for {:?}; is this a release build?\n{text}", case.name),
    }
}

/// What runs under valgrind.
pub fn run_case(name: &str, rounds: u64) -> Result<()> {
    let case = cases::all().into_iter().find(|case| case.name == name);
    let case = case.with_context(|| format!("there is no case {name:?}"))?;
    let mut round = (case.prepare)();
    (0..WARM_UP_ROUNDS).for_each(|_| round());
    measured_by_callgrind(&mut *round, rounds);
    Ok(())
}

/// Found by valgrind by its name, so it must stay a function.
#[inline(never)]
fn measured_by_callgrind(round: &mut dyn FnMut(), rounds: u64) {
    for _ in 0..rounds {
        round();
    }
}
