//! Does this host allow the run? The arithmetic of ports, files, memory and connection tracking, printed and checked.
//!
//! [`check`] reads the host and decides before anything is dialled; [`draft`] is the same decision on given numbers.
//! Runs on the main thread and resolves names there; it may block, because nothing else runs yet.

mod cgroup;
mod host;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::options::{Common, CoreCount, Target, Workload};
use crate::units::{bytes, clock, grouped, of, short};

pub(crate) use host::nofile;
pub use host::{Conntrack, Host};

/// What the generator's cores work by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Threads of the generator.
    pub cores: usize,
    /// Client connections in all.
    pub clients: u64,
    /// Most client connections that one core gets.
    pub clients_per_core: u64,
    /// Local addresses to bind to in turn; empty: the kernel chooses.
    pub sources: Vec<IpAddr>,
    /// Where clients connect to, in turn.
    pub targets: Vec<Endpoint>,
    /// Where calls of the server API go.
    pub api: Endpoint,
}

/// A resolved endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// Value of the Host header.
    pub authority: String,
    /// Path with its query.
    pub path: String,
}

/// A plan with its arithmetic.
#[derive(Debug, Clone)]
pub struct Draft {
    pub plan: Plan,
    /// One line per resource.
    pub lines: Vec<String>,
    /// What the host does not allow, each with its remedy; empty: the run may start.
    pub refusals: Vec<String>,
    /// What may spoil the numbers of a run, each with its remedy.
    pub warnings: Vec<String>,
}

/// Connections that a core plans with, of the files it may have: the rest is for rings, logs and the sampler.
const FILES_SHARE: f64 = 0.95;
/// Budget of the generator's user memory per client.
const CLIENT_BYTES: u64 = 1024;
/// Kernel memory of one end of an idle TCP connection: socket, file, inode and dentry, measured from the slab on 6.18.
const SOCKET_BYTES: u64 = 3_891;
/// What the node on the same host may need per connection.
const SERVER_BYTES: u64 = 1024;
/// Pages of socket buffers per connection where both ends are on this host, when everybody is sent something at once: one
/// waits at each end. Over the bound of the host the kernel drops what arrives.
const TCP_PAGES: u64 = 2;

/// Reads this host and resolves the endpoints.
pub fn check(workload: &Workload, common: &Common) -> Result<Draft, String> {
    let targets = common.url.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
    let api = resolve(&common.api())?;
    Ok(draft(workload, common, &Host::read(), targets, api))
}

fn resolve(target: &Target) -> Result<Endpoint, String> {
    let host = target.host.as_str();
    let mut found = (host, target.port)
        .to_socket_addrs()
        .map_err(|error| format!("cannot resolve {host}: {error}; give an address or a name this host knows"))?;
    let address = found.next().ok_or_else(|| format!("{host} has no address; give an address"))?;
    Ok(Endpoint { address, authority: target.authority(), path: target.path.clone() })
}

/// The arithmetic, on given numbers.
#[must_use]
pub fn draft(workload: &Workload, common: &Common, host: &Host, targets: Vec<Endpoint>, api: Endpoint) -> Draft {
    let clients = workload.connections();
    let is_local = targets.iter().any(|target| target.address.ip().is_loopback());
    let files_per_core = ((host.nofile as f64 * FILES_SHARE) as u64).max(1);
    let cores = match common.cores {
        CoreCount::Count(count) => count as u64,
        CoreCount::Auto => {
            let cpus = host.cpus as u64;
            let by_cpu = if is_local { cpus / 2 } else { cpus };
            by_cpu.min(clients).max(clients.div_ceil(files_per_core)).max(1)
        }
    };
    let plan = Plan {
        cores: cores as usize,
        clients,
        clients_per_core: clients.div_ceil(cores),
        sources: common.sources(),
        targets,
        api,
    };
    let everywhere = [
        ports(&plan, host),
        files(&plan, host, files_per_core),
        open_files(clients, host, is_local),
        memory(clients, host, is_local),
        conntrack(clients, host),
    ];
    let findings = everywhere.into_iter().chain(is_local.then(|| tcp_pages(clients, host)));
    let urls: Vec<String> = common.url.iter().map(ToString::to_string).collect();
    let mut lines = vec![format!("{}: {} connections to {}", workload.name(), grouped(clients), urls.join(", "))];
    let (mut refusals, mut warnings) = (Vec::new(), Vec::new());
    for Finding { name, arithmetic, refusal, warning } in findings {
        let verdict = match (&refusal, &warning) {
            (Some(_), _) => "REFUSED",
            (None, Some(_)) => "WARNING",
            (None, None) => "ok",
        };
        lines.push(format!("  {name:<10} {arithmetic:<84} {verdict}"));
        refusals.extend(refusal);
        warnings.extend(warning);
    }
    let rate = common.connect_rate;
    let seconds = clients.div_ceil(rate);
    let ramp = format!("{} / {} per second = {}", short(clients), short(rate), clock(seconds));
    lines.push(format!("  {:<10} {ramp}", "connecting"));
    Draft { plan, lines, refusals, warnings }
}

struct Finding {
    name: &'static str,
    arithmetic: String,
    refusal: Option<String>,
    warning: Option<String>,
}

/// A local port is free once per source address and target: that is what makes a connection unique.
fn ports(plan: &Plan, host: &Host) -> Finding {
    let range = host.ports();
    let (sources, targets) = (plan.sources.len().max(1) as u64, plan.targets.len() as u64);
    let allowed = range * sources * targets;
    let arithmetic = format!(
        "{} ports x {} x {} = {}",
        grouped(range),
        of(sources, "source"),
        of(targets, "target"),
        short(allowed)
    );
    let refusal = (plan.clients > allowed).then(|| {
        let needed = plan.clients.div_ceil((range * targets).max(1));
        let network = match plan.targets[0].address.ip().is_loopback() {
            // All that --source-ip takes.
            _ if needed > 4_094 => "more targets (--url) and generators".to_owned(),
            true => format!("--source-ip 127.0.0.0/{}", 32 - (needed + 2).next_power_of_two().trailing_zeros()),
            false => "--source-ip with addresses of this host".to_owned(),
        };
        format!(
            "{} connections need {needed} source addresses of {} ports each: {network}, or more ports with \
             `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`",
            grouped(plan.clients),
            grouped(range)
        )
    });
    Finding { name: "ports", arithmetic, refusal, warning: None }
}

/// A core's ring has a table of files of its own, as large as one process may open files.
fn files(plan: &Plan, host: &Host, files_per_core: u64) -> Finding {
    let cores = plan.cores as u64;
    let arithmetic = format!(
        "{} per core (95 % of {}) x {} = {}",
        grouped(files_per_core),
        grouped(host.nofile),
        of(cores, "core"),
        short(files_per_core * cores)
    );
    let refusal = (plan.clients > files_per_core * cores).then(|| {
        format!(
            "{} connections need {} cores of the generator: --cores auto, or a higher `ulimit -n`",
            grouped(plan.clients),
            plan.clients.div_ceil(files_per_core)
        )
    });
    Finding { name: "files", arithmetic, refusal, warning: None }
}

/// Every socket counts as an open file of the host, both ends where both are here.
fn open_files(clients: u64, host: &Host, is_local: bool) -> Finding {
    let ends = if is_local { 2 } else { 1 };
    let needed = clients * ends;
    let free = host.file_max.saturating_sub(host.files_open);
    let limit = if host.file_max > 1 << 40 { "no limit".to_owned() } else { format!("{} free", short(free)) };
    let arithmetic = format!("{} connections x {ends} of this host = {}; {limit}", short(clients), short(needed));
    let is_short = needed > free && !host.is_root;
    let refusal = is_short.then(|| {
        let wanted = needed + host.files_open + 10_000;
        format!("the host allows {} open files: `sysctl -w fs.file-max={wanted}`", grouped(host.file_max))
    });
    Finding { name: "sockets", arithmetic, refusal, warning: None }
}

fn memory(clients: u64, host: &Host, is_local: bool) -> Finding {
    let per_client = CLIENT_BYTES + SOCKET_BYTES + if is_local { SOCKET_BYTES + SERVER_BYTES } else { 0 };
    let needed = clients.saturating_mul(per_client);
    let parts = if is_local { "1 client + 2 x 3.8 kernel + 1 server" } else { "1 client + 3.8 kernel" };
    let arithmetic = format!(
        "({parts}) KiB x {} = {}; {} available",
        short(clients),
        bytes(needed as f64),
        bytes(host.memory_available as f64)
    );
    let refusal = (needed > host.memory_available).then(|| {
        let fits = host.memory_available / per_client / 1_000 * 1_000;
        format!(
            "{} connections need {}, {} are available: at most {} fit; free memory or use a larger host",
            grouped(clients),
            bytes(needed as f64),
            bytes(host.memory_available as f64),
            grouped(fits)
        )
    });
    Finding { name: "memory", arithmetic, refusal, warning: None }
}

/// Loaded but without rules that use it, the module tracks nothing, and its limit does not matter.
fn conntrack(clients: u64, host: &Host) -> Finding {
    let (arithmetic, refusal) = match &host.conntrack {
        None => ("not loaded".to_owned(), None),
        Some(Conntrack { tracked: 0, .. }) => ("loaded, tracks nothing".to_owned(), None),
        Some(Conntrack { tracked, max }) => {
            let free = max.saturating_sub(*tracked);
            let wanted = (clients + tracked).next_power_of_two();
            let remedy = format!(
                "connection tracking has room for {} of {} connections: `sysctl -w net.netfilter.nf_conntrack_max=\
                 {wanted}`, or exempt them with a NOTRACK rule",
                grouped(free),
                grouped(clients)
            );
            (
                format!("{} - {} tracked = {}", grouped(*max), grouped(*tracked), short(free)),
                (clients > free).then_some(remedy),
            )
        }
    };
    Finding { name: "conntrack", arithmetic, refusal, warning: None }
}

/// Idle connections hold no page; a broadcast fills one at each end of all of them.
fn tcp_pages(clients: u64, host: &Host) -> Finding {
    let (wanted, allowed) = (clients * TCP_PAGES, host.tcp_pages_max);
    let bound = if allowed == u64::MAX { "no limit".to_owned() } else { format!("{} allowed", short(allowed)) };
    let arithmetic = format!("{} connections x {TCP_PAGES} = {}; {bound}", short(clients), short(wanted));
    let warning = (allowed < wanted).then(|| {
        format!(
            "the buffers of all TCP sockets may fill {} pages, a broadcast to {} connections fills {}: `sysctl -w \
             net.ipv4.tcp_mem=\"{} {} {wanted}\"`",
            grouped(allowed),
            grouped(clients),
            grouped(wanted),
            // The kernel's own proportions, 3 : 4 : 6.
            wanted / 2,
            wanted / 3 * 2,
        )
    });
    Finding { name: "tcp pages", arithmetic, refusal: None, warning }
}

#[cfg(test)]
mod tests;
