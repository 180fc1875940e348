//! What a host allows, read from `/proc` and the limits of this process.
//!
//! A file that cannot be read or understood counts as the kernel's default or as no limit: a plan is a forecast, and the
//! run itself will tell. Reads a handful of small files; runs on the main thread.

use std::fs;

use gyre_tuning::Host as Files;
use rustix::process::{Resource, getrlimit};

use super::cgroup;

/// The numbers that a plan needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// First and last local port that the kernel gives out, both included.
    pub port_range: (u64, u64),
    /// Ports within that range that it does not give out.
    pub ports_reserved: u64,
    /// Files one process may open: the hard limit, to which the generator raises its own.
    pub nofile: u64,
    /// Files the whole host may open, and has open.
    pub file_max: u64,
    pub files_open: u64,
    /// `MemAvailable`, or what the control groups leave of it.
    pub memory_available: u64,
    /// Pages that all TCP sockets of the host may fill: the last number of `net.ipv4.tcp_mem`.
    pub tcp_pages_max: u64,
    pub cpus: usize,
    pub conntrack: Option<Conntrack>,
    /// The superuser is not bound by `fs.file-max`.
    pub is_root: bool,
}

/// Connection tracking of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conntrack {
    pub tracked: u64,
    pub max: u64,
}

impl Host {
    /// Reads this host.
    #[must_use]
    pub fn read() -> Self {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let number = |path: &str| file(path).trim().parse::<u64>().ok();
        let port_range = numbers(&file("/proc/sys/net/ipv4/ip_local_port_range"));
        let port_range = match port_range[..] {
            [first, last] if first <= last => (first, last),
            _ => (32_768, 60_999),
        };
        let reserved = file("/proc/sys/net/ipv4/ip_local_reserved_ports");
        let file_nr = numbers(&file("/proc/sys/fs/file-nr"));
        let max = number("/proc/sys/net/netfilter/nf_conntrack_max");
        let tracked = number("/proc/sys/net/netfilter/nf_conntrack_count");
        Self {
            port_range,
            ports_reserved: reserved_within(&reserved, port_range),
            nofile: nofile(),
            file_max: file_nr.get(2).copied().unwrap_or(u64::MAX),
            files_open: file_nr.first().copied().unwrap_or(0),
            memory_available: memory_available(&file("/proc/meminfo")),
            tcp_pages_max: numbers(&file("/proc/sys/net/ipv4/tcp_mem")).get(2).copied().unwrap_or(u64::MAX),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            conntrack: max.zip(tracked).map(|(max, tracked)| Conntrack { tracked, max }),
            is_root: rustix::process::geteuid().is_root(),
        }
    }

    /// Local ports per source address and target.
    #[must_use]
    pub fn ports(&self) -> u64 {
        (self.port_range.1 - self.port_range.0 + 1).saturating_sub(self.ports_reserved)
    }
}

/// Files that this process may open at most.
#[must_use]
pub(crate) fn nofile() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(1 << 20)
}

fn memory_available(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let host = kib.map_or(u64::MAX, |kib| kib * 1024);
    host.min(cgroup::memory_free(&Files::real()).unwrap_or(u64::MAX))
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_ascii_whitespace().filter_map(|part| part.parse().ok()).collect()
}

/// Ports of a list such as `8080,9000-9100` that lie within the range.
fn reserved_within(list: &str, (first, last): (u64, u64)) -> u64 {
    let parts = list.trim().split(',').filter_map(|part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.parse::<u64>().ok()?.max(first), to.parse::<u64>().ok()?.min(last));
        (from <= to).then(|| to - from + 1)
    });
    parts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reserved port counted as usable makes the last connections of a full run fail.
    #[test]
    fn reserved_ports() {
        let range = (32_768, 60_999);
        assert_eq!(reserved_within("\n", range), 0);
        assert_eq!(reserved_within("8080,40000,50000-50009,60990-61010\n", range), 1 + 10 + 10);
    }

    /// Reading this very host must give numbers that a plan can work with.
    #[test]
    fn this_host() {
        let host = Host::read();
        assert!(host.ports() > 1_000 && host.nofile >= 256 && host.cpus >= 1, "{host:?}");
        assert!(host.memory_available > 1 << 20, "{host:?}");
    }
}
