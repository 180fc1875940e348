//! Changing a host, on copies of recorded trees: apply, script, files that stay.

#![allow(clippy::unwrap_used)] // in what tests share

use gyre_tuning::knob::Knob;
use gyre_tuning::{Finding, Host, Outcome, Role, Target, apply, knobs, persistent_files, plan, script};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A recorded tree that may be written to.
struct Copy {
    folder: TempDir,
    host: Host,
}

impl Copy {
    fn of(name: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(name);
        copy(&tree, folder.path());
        let host = Host::at(folder.path());
        Self { folder, host }
    }

    fn read(&self, file: &str) -> String {
        self.host.read(file).unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

fn target() -> Target {
    Target { cpus: (0..16).collect(), connections: 1_000_000, is_planned: true, ..Target::server(16) }
}

fn every() -> Vec<&'static Knob> {
    knobs::of(Role::Server).collect()
}

fn findings(host: &Host, target: &Target) -> Vec<Finding> {
    every().into_iter().map(|knob| Finding::read(knob, host, target)).collect()
}

fn text_of(root: &Host, findings: &[Finding], path: &str) -> String {
    let files = persistent_files(root, findings);
    files.into_iter().find(|file| file.path == path).map(|file| file.text).unwrap_or_default()
}

const SYSCTL: &str = "etc/sysctl.d/60-gyre.conf";

/// After `apply` the kernel must have the values, and a second run must find nothing to write.
#[test]
fn apply_acts_and_believes_only_what_it_reads() {
    let copy = Copy::of("numa-smt");
    let lines: Vec<String> = apply(&copy.host, &target(), &every()).iter().map(ToString::to_string).collect();
    for expected in [
        "changed  somaxconn: 4,096 -> 65,535",
        "changed  conntrack: 262,144 -> 1,100,412",
        "changed  huge_pages: always -> madvise",
        "changed  governor: powersave -> performance",
        "changed  irq_affinity: 2 interrupts on CPU 0 -> 2 interrupts on CPU 0-1",
        "ok       nofile",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected}\n{}", lines.join("\n"));
    }
    assert_eq!(copy.read("proc/sys/net/core/somaxconn"), "65535");
    assert_eq!(copy.read("sys/devices/system/cpu/cpu15/cpufreq/scaling_governor"), "performance");
    assert_eq!(copy.read("sys/class/net/ens1f0/queues/rx-1/rps_cpus"), "ffff");
    assert_eq!(copy.read("sys/class/net/ens1f0/queues/tx-1/xps_cpus"), "aaaa");
    assert_eq!(copy.read("proc/irq/121/smp_affinity_list"), "1");
    let again = apply(&copy.host, &target(), &[knobs::named("somaxconn").unwrap()]);
    assert_eq!(again[0].outcome, Outcome::Fine);
}

/// What cannot be changed must be said with its reason, not passed over.
#[test]
fn apply_says_what_it_could_not_do() {
    let copy = Copy::of("container");
    let target = Target::server(4);
    let one = |id: &str| apply(&copy.host, &target, &[knobs::named(id).unwrap()]).remove(0).to_string();
    assert_eq!(
        one("nofile"),
        "by hand  nofile: a limit belongs to whoever starts the process: systemd: LimitNOFILE=1048576, or gyre.cores = 26 \
         (more cores than CPUs are allowed)"
    );
    assert_eq!(one("conntrack"), "absent   conntrack: no connection tracker is loaded");
    assert!(one("cpu_quota").starts_with("by hand  cpu_quota: no quota but whole CPUs"));
    // A file that can be read and does not take what is written, even from root.
    let governor = "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor";
    copy.host.create(governor, "").unwrap();
    fs::remove_file(copy.host.path(governor)).unwrap();
    std::os::unix::fs::symlink("/proc/version", copy.host.path(governor)).unwrap();
    let line = one("governor");
    assert!(line.starts_with(&format!("failed   governor: cannot write performance to /{governor}: ")), "{line}");
    // The others are not affected.
    assert_eq!(one("syn_backlog"), "changed  syn_backlog: 4,096 -> 65,535");
}

/// A dry run must touch nothing.
#[test]
fn planning_writes_nothing() {
    let copy = Copy::of("numa-smt");
    assert_eq!(plan(&copy.host, &target(), &every()).len(), 12);
    assert_eq!(copy.read("proc/sys/net/core/somaxconn"), "4096");
}

/// The script is read by people before root runs it: every command has its reason, and a shell accepts it.
#[test]
fn the_script_explains_itself() {
    let copy = Copy::of("numa-smt");
    let text = script(&target(), &plan(&copy.host, &target(), &every()));
    let part = "\n# somaxconn: accept queue (warning)\n# now 4,096, needed >= 65,535\n";
    assert!(text.starts_with("#!/bin/sh\n") && text.contains(part), "{text}");
    assert!(text.contains("\nsysctl -w net.core.somaxconn=65535 || status=1\n"), "{text}");
    assert!(text.contains("\necho madvise > /sys/kernel/mm/transparent_hugepage/enabled || status=1\n"), "{text}");
    assert!(text.contains("\n# by hand: systemctl disable --now irqbalance"), "{text}");
    let path = copy.folder.path().join("out.sh");
    fs::write(&path, &text).unwrap();
    let checked = std::process::Command::new("sh").arg("-n").arg(&path).status().unwrap();
    assert!(checked.success(), "{text}");
}

/// After a restart of the machine all of it must be there again, in the places that the system reads.
#[test]
fn persistent_files_hold_everything() {
    let copy = Copy::of("numa-smt");
    let all = findings(&copy.host, &target());
    let sysctl = text_of(&copy.host, &all, SYSCTL);
    for line in [
        "net.core.somaxconn = 65535",
        "net.netfilter.nf_conntrack_max = 1100412",
        // Met already, and perhaps by an earlier apply: kept as it is, never lowered.
        "net.ipv4.tcp_mem = 770000 1030000 1540000",
        "fs.nr_open = 1048576",
    ] {
        assert!(sysctl.lines().any(|found| found == line), "{line}\n{sysctl}");
    }
    assert!(!sysctl.contains("fs.file-max"), "a value without bound is not worth a line");
    let boot = text_of(&copy.host, &all, "etc/tmpfiles.d/60-gyre.conf");
    assert!(boot.contains("\nw /sys/kernel/mm/transparent_hugepage/enabled - - - - madvise\n"), "{boot}");
    assert!(!boot.contains("/proc/irq"), "numbers of interrupts change: {boot}");
    let limits = text_of(&copy.host, &all, "etc/security/limits.d/60-gyre.conf");
    assert!(
        limits.contains("\n* hard nofile 1048576\n") && limits.contains("\nroot hard nofile 1048576\n"),
        "{limits}"
    );
    let unit = text_of(&copy.host, &all, "etc/systemd/system/gyre.service.d/60-gyre-tuning.conf");
    assert!(unit.contains("\n[Service]\nLimitMEMLOCK=67108864\nLimitNOFILE=1048576\n"), "{unit}");
}

/// Keeping one more knob must not drop what an earlier run has kept.
#[test]
fn earlier_lines_stay() {
    let copy = Copy::of("numa-smt");
    copy.host.create(SYSCTL, "# note\nnet.core.somaxconn = 99\nvm.swappiness = 1\n").unwrap();
    let one = [Finding::read(knobs::named("net.core.somaxconn").unwrap(), &copy.host, &target())];
    let text = text_of(&copy.host, &one, SYSCTL);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, ["net.core.somaxconn = 65535", "vm.swappiness = 1"]);
}
