//! What /proc/self says about the caller: limits, capabilities, CPUs. Children inherit it, so a check run by the unit or
//! the shell that starts the server answers for the server.

use crate::topology::{Topology, cpu_list};
use crate::{Host, Target};

/// Bits of `CapEff` (capability.h).
pub(super) const CAP_SYS_ADMIN: u32 = 21;

/// Soft and hard value of a line of /proc/self/limits; `None` inside is unlimited.
pub(super) fn limit(host: &Host, name: &str) -> Option<(Option<u64>, Option<u64>)> {
    let text = host.read("proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = line.split_whitespace();
    let mut value = || match words.next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    };
    Some((value()?, value()?))
}

/// The value of a line of /proc/self/status, as text.
fn status(host: &Host, name: &str) -> Option<String> {
    let text = host.read("proc/self/status").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

pub(super) fn has_capability(host: &Host, bit: u32) -> bool {
    let bits = status(host, "CapEff").and_then(|text| u64::from_str_radix(&text, 16).ok());
    bits.is_some_and(|bits| bits >> bit & 1 == 1)
}

/// A system-call filter is in force, as in containers.
pub(super) fn is_filtered(host: &Host) -> bool {
    status(host, "Seccomp").as_deref() == Some("2")
}

/// CPUs the caller may run on: its affinity within its cgroup's CPU set.
pub(super) fn topology(host: &Host) -> Topology {
    let affinity = status(host, "Cpus_allowed_list").and_then(|list| cpu_list::parse(&list));
    Topology::read(host, &affinity.unwrap_or_default())
}

/// The CPUs a target is about: those its cores are pinned to, or every usable one.
pub(super) fn cpus(host: &Host, target: &Target) -> Vec<usize> {
    if !target.cpus.is_empty() {
        return target.cpus.clone();
    }
    topology(host).cpus.iter().map(|cpu| cpu.cpu).collect()
}

/// Is a program of this name running?
pub(super) fn is_running(host: &Host, name: &str) -> bool {
    let processes = host.list("proc").into_iter().filter(|entry| entry.bytes().all(|byte| byte.is_ascii_digit()));
    processes.into_iter().any(|id| host.read(&format!("proc/{id}/comm")).is_ok_and(|comm| comm == name))
}
