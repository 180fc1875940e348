//! The binary as an operator meets it: help, refusals, exit codes, and what it makes of recorded runs.
//!
//! Starts the binary and reads what it prints; no server is needed, because nothing here connects.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    let records = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/records");
    let mut command = Command::new(env!("CARGO_BIN_EXE_gyre-loadtest"));
    command.args(arguments).current_dir(records).output().expect("the binary starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    _ = fs::remove_dir_all(&folder);
    folder
}

/// Who installs the tool finds its commands and an example for each from the help alone.
#[test]
fn help_shows_commands_and_examples() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    let commands = ["idle", "fanout", "mesh", "churn", "storm", "publish", "plan", "compare", "report"];
    for command in commands {
        assert!(stdout(&help).contains(&format!("\n  {command} ")), "{command} is not in\n{}", stdout(&help));
        let own = stdout(&run(&[command, "--help"]));
        assert!(own.contains(&format!("gyre-loadtest {command} ")) && own.contains("  gyre-loadtest"), "{own}");
    }
    assert!(stdout(&help).contains("Examples:"));
}

/// Scripts tell a wrong command line (2) from a failed run (1).
#[test]
fn wrong_options_exit_with_2() {
    for (arguments, part) in [
        (&["idle", "--clients", "1x"][..], "such as 5000, 20k or 1.5m"),
        (&["publish", "--batch", "65536"], "between 1 and 10,000"),
        (&["fanout", "--assert", "p98<1ms"], "known are p50, p90, p99"),
        (&["fanout", "--size", "8"], "between 64 and"),
        (&["idle", "--url", "wss://127.0.0.1/"], "TLS is not supported"),
        (&["fanout", "--nonsense"], "--nonsense"),
        (&["fanout", "--subscribers", "5", "--stalled", "5"], "leaves no subscriber"),
        (&["plan", "idle", "--prefix", "a b"], "only letters"),
        (&[], "Usage"),
        (&["idle", "--clients", "1", "--server-pid", "4294967295"], "no process 4294967295"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(part), "{arguments:?}: {}", stderr(&output));
    }
}

/// An hour of load must not end with a record that has nowhere to go; and what was recorded before must survive it.
#[test]
fn outputs_are_tried_first() {
    let folder = folder("outputs");
    fs::create_dir_all(&folder).expect("a folder");
    let old = folder.join("old.json");
    fs::write(&old, "kept").expect("a file");
    let old = old.to_str().expect("a path that is text");
    for option in ["--json", "--hlog", "--report"] {
        // A file is no folder.
        let path = format!("{old}/run");
        // Port 9: whoever connects, and fails, ends with 1.
        let url = "ws://127.0.0.1:9/connection/websocket";
        let mut arguments = vec!["idle", "--clients", "1", "--url", url, option, &path];
        if option != "--json" {
            arguments.extend(["--json", old]);
        }
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{option}: {}", stderr(&output));
        assert!(stderr(&output).contains(&path) && stderr(&output).contains(option), "{}", stderr(&output));
    }
    assert_eq!(fs::read_to_string(old).expect("a file"), "kept");
}

/// The arithmetic must be printed before ten minutes are spent, and what is not allowed refused with its remedy.
#[test]
fn plan_prints_the_arithmetic() {
    let small = run(&["plan", "fanout", "--subscribers", "100", "--source-ip", "127.0.0.1,127.0.0.2"]);
    assert!(small.status.success(), "{}", stderr(&small));
    for part in ["ports x 2 sources x 1 target = ", " per core (95 % of ", "KiB x 100 = ", "conntrack"] {
        assert!(stdout(&small).contains(part), "{part} is not in\n{}", stdout(&small));
    }
    let large = run(&["plan", "idle", "--clients", "900m"]);
    assert_eq!(large.status.code(), Some(2));
    assert!(stdout(&large).contains("REFUSED") && stderr(&large).contains("refused: 900,000,000 connections need"));
}

/// Two runs side by side: the ratio is what a change is judged by.
#[test]
fn compare_shows_ratios() {
    let output = run(&["compare", "before.json", "after.json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for row in
        ["delivery p50", "delivery p99.9", "connect max", "server CPU per delivery", "server memory per connection"]
    {
        assert!(text.lines().any(|line| line.starts_with(row)), "{row} is not in\n{text}");
    }
    let same = stdout(&run(&["compare", "before.json,before.json", "before.json,before.json"]));
    let row = same.lines().find(|line| line.starts_with("delivery p99 ")).expect("a row");
    assert!(row.ends_with("1.00 (1.00 .. 1.00)"), "{row}");
    let broken = run(&["compare", "before.json", "missing.json"]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(stderr(&broken).contains("cannot read missing.json"), "{}", stderr(&broken));
}

/// The report of two runs has every chart with both series, and its Markdown names only files that are there.
#[test]
fn report_draws_both_series() {
    let folder = folder("report");
    let out = folder.to_str().expect("a path that is text");
    let output = run(&["report", "before.json", "after.json", "--out", out]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = fs::read_to_string(folder.join("report.md")).expect("report.md");
    assert!(text.contains("| | before | after |") && text.contains("| verdict | PASS"), "{text}");
    let charts: Vec<&str> = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(charts.contains(&"delivery-by-percentile.svg") && charts.contains(&"memory-per-connection.svg"), "{text}");
    for chart in charts {
        let svg = fs::read_to_string(folder.join(chart)).expect(chart);
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{chart}");
        assert!(svg.contains("before") && svg.contains("after"), "{chart} lacks a series");
        assert!(!svg.contains("href"), "{chart} is not self-contained");
    }
}
