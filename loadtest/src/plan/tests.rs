//! The arithmetic on recorded hosts: what must be allowed, what refused, and with which words.

use std::net::SocketAddr;

use clap::Parser as _;

use super::*;
use crate::options::{Cli, Command};

/// Two CPUs, 24 GiB, 20,000 files per process, the kernel's default ports.
fn recorded() -> Host {
    Host {
        port_range: (32_768, 60_999),
        ports_reserved: 0,
        nofile: 20_000,
        file_max: i64::MAX as u64,
        files_open: 1_200,
        memory_available: 22 << 30,
        tcp_pages_max: 575_802,
        cpus: 2,
        conntrack: None,
        is_root: false,
    }
}

fn drafted(line: &str, host: &Host) -> Draft {
    let cli = Cli::try_parse_from(format!("gyre-loadtest {line}").split_whitespace()).unwrap();
    let Command::Run(run) = cli.command else { panic!("a run") };
    let (workload, common) = run.split();
    let endpoint = |target: &Target| Endpoint {
        address: SocketAddr::new(target.host.parse().unwrap(), target.port),
        authority: target.authority(),
        path: target.path.clone(),
    };
    let targets = common.url.iter().map(endpoint).collect();
    draft(&workload, &common, host, targets, endpoint(&common.api()))
}

/// The million on the recorded host: every number of the printed arithmetic is known.
#[test]
fn a_million_fits() {
    let sources: Vec<String> = (1..=36).map(|n| format!("127.0.0.{n}")).collect();
    let line = format!("idle --clients 1m --connect-rate 20k --source-ip {}", sources.join(","));
    let draft = drafted(&line, &recorded());
    assert_eq!(draft.refusals, Vec::<String>::new());
    assert_eq!((draft.plan.cores, draft.plan.clients_per_core), (53, 18_868));
    let text = draft.lines.join("\n");
    for part in [
        "28,232 ports x 36 sources x 1 target = 1.016m",
        "19,000 per core (95 % of 20,000) x 53 cores = 1.007m",
        "1.000m connections x 2 of this host = 2.000m; no limit",
        "(1 client + 2 x 3.8 kernel + 1 server) KiB x 1.000m = 9.15 GiB; 22.00 GiB available",
        "1.000m / 20k per second = 50 s",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

/// Each refusal must name what is short and what to do about it.
#[test]
fn refusals_name_the_remedy() {
    let small = Host { memory_available: 1 << 30, ..recorded() };
    let tracked = Host { conntrack: Some(Conntrack { tracked: 500, max: 65_536 }), ..recorded() };
    let few = Host { file_max: 150_000, ..recorded() };
    for (line, host, part) in [
        ("idle --clients 1m", &recorded(), "--source-ip 127.0.0.0/26"),
        ("idle --clients 100k", &recorded(), "need 4 source addresses of 28,232 ports each: --source-ip 127.0.0.0/29"),
        ("idle --clients 25k --cores 1", &recorded(), "need 2 cores of the generator"),
        ("idle --clients 200k --source-ip 127.0.0.0/26", &small, "at most 109,000 fit"),
        ("idle --clients 100k --source-ip 127.0.0.0/26", &tracked, "nf_conntrack_max=131072"),
        ("idle --clients 100k --source-ip 127.0.0.0/26", &few, "fs.file-max=211200"),
    ] {
        let draft = drafted(line, host);
        assert_eq!(draft.refusals.len(), 1, "{line}: {:?}", draft.refusals);
        assert!(draft.refusals[0].contains(part), "{line}: {}", draft.refusals[0]);
        assert!(draft.lines.iter().any(|line| line.ends_with("REFUSED")));
    }
}

/// Two target ports double what one source address carries; a loaded but idle conntrack limits nothing.
#[test]
fn what_is_not_refused() {
    let idle = Host { conntrack: Some(Conntrack { tracked: 0, max: 10 }), ..recorded() };
    let draft = drafted("idle --clients 50k --url ws://127.0.0.1:8000/c,ws://127.0.0.1:8001/c", &idle);
    assert_eq!(draft.refusals, Vec::<String>::new());
    assert!(draft.lines[1].contains("28,232 ports x 1 source x 2 targets = 56.5k"), "{}", draft.lines[1]);
}

/// Cores for the CPUs where files are plenty; half of them stay for a server on the same host.
#[test]
fn cores_follow_the_cpus() {
    let large = Host { nofile: 1 << 20, cpus: 16, ..recorded() };
    assert_eq!(drafted("idle --clients 10k", &large).plan.cores, 8);
    assert_eq!(drafted("idle --clients 10k --url ws://10.0.0.1:8000/c", &large).plan.cores, 16);
    assert_eq!(drafted("idle --clients 3", &large).plan.cores, 3);
    assert_eq!(drafted("idle --clients 10k --cores 5", &large).plan.cores, 5);
}

/// A million clients of a server on this host take one broadcast that the kernel's bound cuts short, and the operator looks
/// for the loss in the server.
#[test]
fn too_few_tcp_pages_are_a_warning() {
    let line = "idle --clients 300k --source-ip 127.0.0.0/26";
    let draft = drafted(line, &recorded());
    assert_eq!(draft.refusals, Vec::<String>::new());
    assert!(draft.warnings[0].contains("net.ipv4.tcp_mem=\"300000 400000 600000\""), "{:?}", draft.warnings);
    assert!(draft.lines.iter().any(|line| line.contains("300k connections x 2 = 600k") && line.ends_with("WARNING")));
    for (line, host) in [
        (line, Host { tcp_pages_max: 600_000, ..recorded() }),
        ("idle --clients 280k --source-ip 127.0.0.0/26", recorded()),
        ("idle --clients 300k --source-ip 10.0.0.0/26 --url ws://10.0.1.1:8000/c", recorded()),
    ] {
        assert_eq!(drafted(line, &host).warnings, Vec::<String>::new(), "{line}");
    }
}
