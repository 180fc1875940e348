//! `gyre tune` as operators and their scripts meet it: what is printed and written, exit codes. Never touches the host of
//! the test: what acts, acts on a copy of a recorded tree.

#![allow(clippy::unwrap_used)] // in what tests share

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An empty working directory with a copy of a recorded host in `host`, removed at the end.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Place {
    fn new(host: &str) -> Self {
        static PLACES: AtomicUsize = AtomicUsize::new(0);
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gyre-tune-{}-{number}", std::process::id()));
        let place = Self(path);
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/tests/hosts").join(host);
        copy(&tree, &place.0.join("host"));
        place
    }

    /// Exit code and output of `gyre tune ... --host host`.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_gyre"))
            .arg("tune")
            .args(arguments)
            .args(["--host", "host"])
            .current_dir(&self.0)
            .env_clear()
            .output()
            .unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// A unit runs `gyre tune check --fatal-only` before the server: it must pass where the server would run, and stop where a
/// plan cannot be met.
#[test]
fn the_exit_code_tells_fatal_from_advice() {
    let place = Place::new("laptop");
    let (code, text) = place.run(&["check"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("server, 8 cores, 100,000 connections (assumed; "), "{text}");
    assert!(text.contains("\nsomaxconn ") && text.contains("sysctl -w net.core.somaxconn=65535"), "{text}");
    let (code, text) = place.run(&["check", "--fatal-only", "--connections", "10m"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("10,000,000 connections / 8 cores = 1,250,000 each"), "{text}");
    assert!(text.contains("no core holds more than") && !text.contains("somaxconn"), "{text}");
}

/// Cores come from the configuration that the server will read, or from the command line.
#[test]
fn cores_follow_the_configuration() {
    let place = Place::new("numa-smt");
    fs::write(place.0.join("config.json"), r#"{"gyre": {"cores": "4"}}"#).unwrap();
    let (_, text) = place.run(&["check", "--connections", "1.5m"]);
    assert!(text.starts_with("server, 4 cores, 1,500,000 connections\n"), "{text}");
    let (_, text) = place.run(&["check", "--cores", "6"]);
    assert!(text.starts_with("server, 6 cores, "), "{text}");
    let (_, text) = place.run(&["check", "--role", "generator"]);
    assert!(text.starts_with("generator, 16 cores, ") && text.contains("\nport_range "), "{text}");
    let (code, text) = place.run(&["check", "-c", "missing.json"]);
    assert!(code == 1 && text.contains("missing.json"), "{text}");
}

/// Monitoring reads the numbers from here.
#[test]
fn json_holds_every_condition() {
    let place = Place::new("container");
    let (code, text) = place.run(&["check", "--json", "--connections", "100k"]);
    assert_eq!(code, 1);
    let tree: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(tree["schema"], 1);
    assert_eq!(tree["target"]["connections"], 100_000);
    let conditions = tree["conditions"].as_array().unwrap();
    let nofile = conditions.iter().find(|condition| condition["id"] == "nofile").unwrap();
    assert_eq!((&nofile["state"], &nofile["current"]), (&"fatal".into(), &"4,096".into()));
    assert!(conditions.iter().any(|condition| condition["state"] == "absent"));
    let (_, text) = place.run(&["check", "--json", "--fatal-only", "--connections", "100k"]);
    let tree: Value = serde_json::from_str(&text).unwrap();
    let conditions = tree["conditions"].as_array().unwrap();
    assert!(!conditions.is_empty() && conditions.iter().all(|condition| condition["state"] == "fatal"), "{text}");
}

/// Apply changes what was named and nothing else, says so, and leaves files where a package would put them.
#[test]
fn apply_changes_and_keeps() {
    let place = Place::new("numa-smt");
    let (code, text) = place.run(&["apply", "somaxconn", "--dry-run"]);
    assert_eq!((code, &*text), (0, "# somaxconn: 4,096 -> >= 65,535\nsysctl -w net.core.somaxconn=65535\n"));
    assert_eq!(place.read("host/proc/sys/net/core/somaxconn"), "4096\n");
    let (code, text) = place.run(&["apply", "net.core.somaxconn", "irqbalance"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("changed  somaxconn: 4,096 -> 65,535\nby hand  irqbalance: systemctl disable"), "{text}");
    assert!(text.contains("--persist keeps them"), "{text}");
    assert_eq!(place.read("host/proc/sys/net/core/somaxconn"), "65535\n");
    assert_eq!(place.read("host/proc/sys/net/core/netdev_max_backlog"), "1000\n");
    let (code, text) = place.run(&["apply", "--persist", "--root", "files"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("\nwrote    files/etc/sysctl.d/60-gyre.conf (in force after: sysctl --system)\n"), "{text}");
    assert!(place.read("files/etc/sysctl.d/60-gyre.conf").contains("\nnet.core.somaxconn = 65535\n"));
    assert!(place.read("files/etc/systemd/system/gyre.service.d/60-gyre-tuning.conf").contains("LimitNOFILE=1048576"));
    assert!(!place.0.join("host/etc").exists());
}

/// A plan that writing cannot reach ends with the reason and exit code 1.
#[test]
fn apply_ends_with_what_is_still_fatal() {
    let place = Place::new("container");
    let (code, text) = place.run(&["apply", "--connections", "100k"]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("\nfatal: RLIMIT_NOFILE is 4,096, needed is >= 25,632 (100,000 connections / 4 cores"),
        "{text}"
    );
}

/// The script can be run as it is.
#[test]
fn the_script_is_executable() {
    let place = Place::new("laptop");
    let (code, text) = place.run(&["apply", "--script", "out.sh"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(fs::metadata(place.0.join("out.sh")).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(place.read("out.sh").contains("sysctl -w net.core.somaxconn=65535"));
    assert_eq!(place.read("host/proc/sys/net/core/somaxconn"), "4096\n");
}

/// An operator mistypes names and numbers; each time the remedy is in the message.
#[test]
fn explain_and_mistakes() {
    let place = Place::new("laptop");
    let (code, text) = place.run(&["explain", "somaxconn"]);
    assert_eq!(code, 0);
    assert!(text.starts_with("somaxconn: accept queue (net.core.somaxconn)\n\nEach core listens"), "{text}");
    assert!(text.contains("Here: 4,096, required >= 65,535: warning."), "{text}");
    assert_eq!(place.run(&["explain", "NET.core.SomaxConn"]), (0, text));
    let (_, list) = place.run(&["explain"]);
    assert!(list.lines().count() > 20 && list.contains("\nnofile "), "{list}");
    for (arguments, expected) in [
        (&["explain", "somaxcon"][..], "a similar value exists: 'somaxconn'"),
        (&["apply", "xyzzy"], "[possible values: "),
        (&["check", "--connections", "many"], "is not a number such as 5000, 20k or 1.5m"),
        (&["check", "--host", "/nowhere"], "no such directory"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_gyre")).arg("tune").args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && text.contains(expected), "{arguments:?}: {text}");
    }
}
