//! Whole checks of recorded machines: the lines an administrator of each would act on.

#![allow(clippy::unwrap_used)] // in what tests share

use gyre_tuning::knob::{Severity, State};
use gyre_tuning::{Finding, Host, Report, Role, Target, check, table};

fn host(name: &str) -> Host {
    Host::at(format!("{}/tests/hosts/{name}", env!("CARGO_MANIFEST_DIR")))
}

fn planned(cores: usize, connections: u64) -> Target {
    Target { connections, is_planned: true, ..Target::server(cores) }
}

fn finding<'a>(report: &'a Report, id: &str) -> &'a Finding {
    report.findings.iter().find(|finding| finding.knob.id == id).unwrap()
}

/// `nofile warning 4,096 | >= 50,500`, for those that are not met.
fn unmet(report: &Report) -> Vec<String> {
    let unmet = report.findings.iter().filter(|finding| finding.is_unmet());
    let lines = unmet.map(|finding| {
        let reading = &finding.reading;
        format!("{} {} {} | {}", finding.severity.name(), finding.knob.id, reading.current, reading.required)
    });
    lines.collect()
}

fn absent(report: &Report) -> Vec<&'static str> {
    let absent = report.findings.iter().filter(|finding| finding.reading.state == State::Absent);
    absent.map(|finding| finding.knob.id).collect()
}

/// A million connections on a two-socket machine: the administrator must hear of everything that is in the way, in the
/// order of importance, and of nothing else.
#[test]
fn two_numa_nodes_with_smt() {
    let target = Target { cpus: (0..16).collect(), ..planned(16, 1_000_000) };
    let report = check(&host("numa-smt"), &target);
    assert_eq!(
        unmet(&report),
        [
            "fatal conntrack 262,144 | >= 1,100,412",
            "warning somaxconn 4,096 | >= 65,535",
            "warning huge_pages always | madvise or never",
            "hint syn_backlog 4,096 | >= 65,535",
            "hint device_backlog 1,000 | >= 4,096",
            "hint governor powersave | performance",
            "hint smt 16 cores on 8 physical cores | one per physical core",
            "hint numa 16 cores on 2 nodes | 1 node",
            "hint receive_steering ens1f0: 2 queues | 16 queues or RPS",
            "hint transmit_steering ens1f0: 2 queues | XPS where there are several",
            "hint irq_affinity 2 interrupts on CPU 0 | on 2 CPUs or more",
            "hint irqbalance running | not running",
        ]
    );
    assert_eq!(absent(&report), ["cpu_quota"]);
    let fix = finding(&report, "irqbalance").fix();
    assert!(fix.contains("IRQBALANCE_BANNED_CPULIST=0-15"), "{fix}");
    assert!(finding(&report, "receive_steering").fix().starts_with("echo ffff > /sys/class/net/ens1f0/queues/rx-0/"));
    assert!(finding(&report, "transmit_steering").fix().starts_with("echo 5555 > "), "every other CPU");
}

/// The same machine with cores on the four physical cores of one node: the hints about neighbours must go away.
#[test]
fn cores_on_one_node_without_siblings() {
    let target = Target { cpus: (0..4).collect(), ..planned(4, 100_000) };
    let report = check(&host("numa-smt"), &target);
    for id in ["smt", "numa", "cpu_set", "conntrack"] {
        assert_eq!(finding(&report, id).reading.state, State::Met, "{id}");
    }
    assert_eq!(finding(&report, "governor").fix().matches("cpu").count(), 3, "cpu0, cpufreq and 3 more");
}

/// In a container nearly everything is decided outside: limits, quota and memory must be named with their arithmetic.
#[test]
fn a_container_with_a_quota() {
    let report = check(&host("container"), &Target::server(4));
    assert_eq!(
        unmet(&report),
        [
            "fatal memlock 64 KiB | >= 512 KiB",
            "warning nofile 4,096 | >= 25,632",
            "warning memory 512 MiB (cgroup) | >= 651 MiB",
            "warning somaxconn 4,096 | >= 65,535",
            "warning cpu_quota 1.5 CPUs | >= 4 CPUs",
            "hint syn_backlog 4,096 | >= 65,535",
            "hint device_backlog 1,000 | >= 4,096",
        ]
    );
    let nofile = finding(&report, "nofile");
    assert_eq!(
        nofile.reading.note,
        "100,000 connections / 4 cores = 25,000 each, + 632 for an uneven spread: RLIMIT_NOFILE >= 25,632; now at most 4 x \
         4,096 = 16,384"
    );
    assert_eq!(nofile.fix(), "systemd: LimitNOFILE=1048576, or gyre.cores = 26 (more cores than CPUs are allowed)");
    assert!(finding(&report, "cpu_quota").fix().ends_with("or gyre.cores = 1"));
    assert!(finding(&report, "io_uring").reading.note.contains("seccomp"));
    assert_eq!(finding(&report, "cpu_set").reading.current, "4 CPUs (2-5)");
    assert!(absent(&report).contains(&"irq_affinity"));
}

/// An assumed number of connections must never be fatal, a planned one must be.
#[test]
fn only_a_planned_load_is_fatal() {
    let container = host("container");
    let severity = |target| finding(&check(&container, &target), "nofile").severity;
    assert_eq!(severity(Target::server(4)), Severity::Warning);
    assert_eq!(severity(planned(4, 100_000)), Severity::Fatal);
    let small = check(&container, &planned(4, 10_000));
    assert_eq!(finding(&small, "nofile").reading.state, State::Met);
}

/// With fewer files than the node itself opens it cannot start, whatever the load; the message must be about that.
#[test]
fn a_node_needs_files_of_its_own() {
    let report = check(&host("container"), &Target { connections: 1, ..Target::server(300) });
    let nofile = finding(&report, "nofile");
    assert!(nofile.is_fatal());
    assert_eq!(
        nofile.error(),
        "RLIMIT_NOFILE is 4,096, needed is >= 4,864 (Gyre itself opens 64 files and 16 for each of 300 cores); systemd: \
         LimitNOFILE=1048576"
    );
}

/// With fewer files than backends may need a node works until all of them are slow at once. It must start, and say so.
#[test]
fn files_for_backends_are_a_warning() {
    let container = host("container");
    for is_planned in [false, true] {
        let target = Target { is_planned, connections: 1000, other_files: 3968, ..Target::server(4) };
        let report = check(&container, &target);
        assert_eq!(finding(&report, "nofile").reading.state, State::Met, "4,096 are just enough");
        let report = check(&container, &Target { other_files: 3969, ..target });
        let nofile = finding(&report, "nofile");
        assert_eq!((nofile.reading.state, nofile.severity), (State::Unmet, Severity::Warning));
        assert_eq!(nofile.reading.required, ">= 4,097");
        assert_eq!(
            nofile.reading.note,
            "Gyre itself opens 64 files and 16 for each of 4 cores, and up to 3,969 for backends and the gRPC API"
        );
        assert_eq!(nofile.fix(), "systemd: LimitNOFILE=1048576");
    }
    // Connections live elsewhere: their number and that of files are no sum.
    let target = Target { connections: 10_000, other_files: 3_000, ..Target::server(4) };
    assert_eq!(finding(&check(&container, &target), "nofile").reading.state, State::Met);
    assert_eq!(
        finding(&check(&container, &Target { connections: 100_000, ..target }), "nofile").reading.required,
        ">= 25,632"
    );
}

/// `gyre` on a laptop must start, and say little.
#[test]
fn a_laptop_starts() {
    let report = check(&host("laptop"), &Target { cpus: (0..8).collect(), ..Target::server(8) });
    assert_eq!(report.fatal().count(), 0);
    assert_eq!(
        unmet(&report),
        [
            "warning somaxconn 4,096 | >= 65,535",
            "hint syn_backlog 4,096 | >= 65,535",
            "hint device_backlog 1,000 | >= 4,096",
            "hint governor powersave | performance",
            "hint smt 8 cores on 4 physical cores | one per physical core",
            "hint receive_steering wlp2s0: 1 queue | 8 queues or RPS",
        ]
    );
    assert_eq!(report.hints(), 6);
}

/// Kernel too old, all limits low, old cgroups: nothing may be missed or misread.
#[test]
fn an_old_host() {
    let report = check(&host("old"), &planned(2, 200_000));
    assert_eq!(
        unmet(&report),
        [
            "fatal io_uring kernel 5.15.0-91-generic | kernel >= 6.1, allowed",
            "fatal memlock 64 KiB | >= 512 KiB",
            "fatal nofile 65,536 | >= 101,264",
            "fatal file_max 98,304 | >= 265,632",
            "fatal memory 1 GiB (cgroup) | >= 1.3 GiB",
            "warning nr_open 65,536 | >= 1,048,576",
            "warning tcp_mem pressure at 26,000 | >= 200,000 pages",
            "warning somaxconn 128 | >= 65,535",
            "warning cpu_quota 0.5 CPUs | >= 2 CPUs",
            "warning clock_source hpet | tsc or kvm-clock",
            "hint syn_backlog 4,096 | >= 65,535",
            "hint device_backlog 1,000 | >= 8,192",
            "hint tcp_rmem 87,380 / 1,048,576 | min <= 4,096, default <= 131,072",
            "hint tcp_wmem 65,536 / 1,048,576 | min <= 4,096, default <= 65,536",
        ]
    );
    assert_eq!(finding(&report, "tcp_mem").fix(), "sysctl -w net.ipv4.tcp_mem='150000 200000 300000'");
    assert_eq!(finding(&report, "tcp_rmem").fix(), "sysctl -w net.ipv4.tcp_rmem='4096 131072 16777216'");
}

/// The generator's side has other knobs, and its arithmetic says how many addresses a run needs.
#[test]
fn the_generator_counts_ports() {
    let target = Target { role: Role::Generator, ..planned(8, 1_000_000) };
    let report = check(&host("laptop"), &target);
    let ports = finding(&report, "port_range");
    assert_eq!(
        ports.reading.note,
        "1,000,000 connections to one address and port: 28,232 ports x 36 source addresses = 1,016,352; 19 would do with \
         55,296 ports"
    );
    assert_eq!(ports.fix(), "sysctl -w net.ipv4.ip_local_port_range='10240 65535'");
    assert!(!report.findings.iter().any(|finding| finding.knob.id == "somaxconn"));
    let small = check(&host("laptop"), &Target { connections: 20_000, ..target });
    assert_eq!(finding(&small, "port_range").reading.state, State::Met);
}

/// More than one core can hold needs more cores, whatever the limit; the remedy must not ask for a limit in vain.
#[test]
fn a_core_holds_a_million_at_most() {
    let report = check(&host("laptop"), &planned(1, 3_000_000));
    assert_eq!(finding(&report, "nofile").fix(), "no core holds more than 1,048,576: gyre.cores = 3");
}

/// A tree without anything must be a table of absences, not a panic or a page of false alarms.
#[test]
fn nothing_to_read() {
    let report = check(&host("no-such-host"), &planned(2, 1_000_000));
    assert_eq!(report.fatal().count(), 0, "{:?}", unmet(&report));
    assert!(report.findings.iter().filter(|finding| finding.is_unmet()).count() <= 1, "{:?}", unmet(&report));
}

/// An absurd plan must be refused by arithmetic that holds, not by an overflow.
#[test]
fn the_largest_plan() {
    for name in ["numa-smt", "container", "laptop", "old"] {
        for role in [Role::Server, Role::Generator] {
            let report = check(&host(name), &Target { role, ..planned(128, gyre_tuning::CONNECTIONS_MAX) });
            assert!(finding(&report, "nofile").is_fatal());
            assert!(finding(&report, "nofile").fix().contains("spread them over several"));
        }
    }
}

/// Columns must line up and no line may be wider than the terminal.
#[test]
fn the_table_is_aligned() {
    let report = check(&host("container"), &planned(4, 100_000));
    let wide = table(&report, 120, false);
    assert!(wide.starts_with("server, 4 cores, 100,000 connections\n\nCONDITION "), "{wide}");
    let column = wide.lines().find_map(|line| line.find("SEVERITY")).unwrap();
    for word in ["fatal  ", "warning  ", "hint  "] {
        let row = wide.lines().find(|line| line.contains(word) && !line.starts_with(' ')).unwrap();
        assert_eq!(row.find(word), Some(column), "{row}");
    }
    assert!(wide.contains("\n    100,000 connections x (4 KiB in the kernel + 1 KiB in Gyre) = 488 MiB"), "{wide}");
    assert!(wide.contains("\n3 fatal, "), "{wide}");
    let narrow = table(&report, 80, false);
    assert!(narrow.contains("\n    fix: systemd: LimitNOFILE=1048576"), "{narrow}");
    for (text, width) in [(&wide, 120), (&narrow, 80)] {
        let long = text.lines().find(|line| line.chars().count() > width);
        assert_eq!(long, None);
    }
    let fatal = table(&report, 120, true);
    assert!(!fatal.contains("somaxconn") && fatal.contains("nofile"), "{fatal}");
}
