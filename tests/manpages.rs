//! Help, manual pages and completions: all three name every command, and the programs that read them can.

#![allow(clippy::unwrap_used)] // in what tests share

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

fn gyre(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gyre")).args(arguments).env_clear().output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn fine(arguments: &[&str]) -> String {
    let (code, text) = gyre(arguments);
    assert_eq!(code, 0, "{arguments:?}: {text}");
    text
}

/// The commands that the help text lists, and none is missing from it.
fn commands() -> Vec<String> {
    let help = fine(&["--help"]);
    let (_, list) = help.split_once("\nCommands:\n").expect("a list of commands");
    let lines = list.lines().take_while(|line| line.starts_with("  "));
    let names: Vec<String> = lines.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    for known in ["genconfig", "checktoken", "tune", "completions", "man", "version"] {
        assert!(names.iter().any(|name| name == known), "{known} is not in the help text");
    }
    names.into_iter().filter(|name| name != "help").collect()
}

struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A command that the shell does not offer, or a flag, is one that nobody finds.
#[test]
fn completions_know_every_command() {
    let commands = commands();
    for shell in SHELLS {
        let script = fine(&["completions", shell]);
        for name in commands.iter().map(String::as_str).chain(["base-non-zero-only"]) {
            assert!(script.contains(name), "{shell}: {name}");
        }
        // Some of them complete values too.
        assert_eq!(script.contains("somaxconn"), ["bash", "zsh"].contains(&shell), "{shell}");
        // fish knows no flag with a dot in its name, and a script that has one completes nothing at all.
        assert_eq!(script.contains("http_server.port"), shell != "fish", "{shell}");
    }
    let (code, _) = gyre(&["completions", "csh"]);
    assert_eq!(code, 2);
}

/// A script with a mistake breaks the shell of everybody who logs in.
#[test]
fn the_bash_completion_is_sound() {
    let script = fine(&["completions", "bash"]);
    // What completing `gyre check` offers, by bash itself.
    let ask = "\nCOMP_WORDS=(gyre check); COMP_CWORD=1; _gyre gyre check gyre; printf '%s\\n' \"${COMPREPLY[@]}\"\n";
    for (arguments, input) in [(&["-n"][..], script.clone()), (&["--norc"], script + ask)] {
        let mut bash =
            Command::new("bash").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        bash.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = bash.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        if arguments == ["--norc"] {
            let offered = String::from_utf8(output.stdout).unwrap();
            assert_eq!(offered.lines().collect::<Vec<_>>(), ["checkconfig", "checktoken", "checksubtoken"]);
        }
    }
}

/// `man gyre` and `man gyre-genconfig` are where operators look first.
#[test]
fn every_command_has_a_manual_page() {
    let place = Place(std::env::temp_dir().join(format!("gyre-man-{}", std::process::id())));
    let dir = place.0.join("man1");
    assert_eq!(fine(&["man", "--dir", dir.to_str().unwrap()]), "");
    let page = |name: &str| fs::read_to_string(dir.join(format!("{name}.1"))).unwrap();
    let main = page("gyre");
    assert_eq!(main, fine(&["man"]));
    assert!(main.contains("http_server.port"));
    for name in commands() {
        // Hyphens are escaped in manual pages.
        assert!(main.contains(&format!("gyre\\-{name}(1)")), "{name} is not in gyre.1");
        let own = page(&format!("gyre-{name}"));
        assert!(own.contains(".SH NAME") && own.contains(".SH SYNOPSIS"), "{name}");
    }
    assert!(page("gyre-genconfig").contains("config.json"));
    let (code, text) = gyre(&["man", "--dir", "/proc/nowhere"]);
    assert_eq!(code, 1);
    assert!(text.starts_with("cannot write manual pages into /proc/nowhere: "), "{text}");
    formats_cleanly(&dir);
}

/// Where groff is installed it must have nothing to complain about.
fn formats_cleanly(dir: &Path) {
    for page in fs::read_dir(dir).unwrap() {
        let page = page.unwrap().path();
        let Ok(output) = Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(&page).output() else {
            return;
        };
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", page.display());
    }
}
