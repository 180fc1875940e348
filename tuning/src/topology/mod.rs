//! Which CPUs this process may use, and how they hang together: physical core, NUMA node, SMT position.
//!
//! Read once at start from sysfs, procfs and the process's affinity mask. What a container or another kernel does not
//! show is assumed flat (every CPU a physical core of its own on node 0), never an error: a node must start there too.
//! Decides nothing: which CPUs run a core is up to the caller.

pub(crate) mod cgroup;
pub(crate) mod cpu_list;

use std::collections::{BTreeMap, BTreeSet};

use crate::Host;

pub use cpu_list::CpuList;

const CPUS: &str = "/sys/devices/system/cpu";
const NODES: &str = "/sys/devices/system/node";

/// One CPU (hardware thread) that this process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// The kernel's number.
    pub cpu: usize,
    /// Physical core, counted over all online CPUs of the machine as `lscpu -e` does.
    pub core: usize,
    /// NUMA node.
    pub node: usize,
    /// Place among the usable hardware threads of its physical core, 0 = the first.
    pub smt: usize,
}

/// The CPUs of this process.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// Usable CPUs in ascending order, at least one.
    pub cpus: Vec<Cpu>,
    /// CPU time that the cgroup may use, in CPUs; `None` = no quota.
    pub quota: Option<f64>,
    /// The machine does not show which CPUs share a physical core.
    pub is_flat: bool,
}

impl Topology {
    /// `affinity` is the process's mask of allowed CPUs; empty = not known.
    #[must_use]
    pub fn read(host: &Host, affinity: &[usize]) -> Self {
        let cpu_list = |file: &str| cpu_list::parse(&host.read(file).ok()?);
        let online = cpu_list(&format!("{CPUS}/online"));
        let usable = usable(affinity, [online.clone(), cgroup::cpu_set(host)]);

        let siblings = |cpu: &usize| cpu_list(&format!("{CPUS}/cpu{cpu}/topology/thread_siblings_list"));
        let mut known: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for cpu in usable.iter().chain(online.iter().flatten()) {
            if !known.contains_key(cpu) {
                known.insert(*cpu, siblings(cpu).unwrap_or_default());
            }
        }
        let is_flat = known.values().all(Vec::is_empty);
        // A physical core goes by its lowest CPU; its number is the rank of that.
        let first = |cpu: usize| known.get(&cpu).and_then(|all| all.iter().min()).copied().unwrap_or(cpu);
        let firsts: BTreeSet<usize> = known.keys().map(|cpu| first(*cpu)).collect();
        let numbers: BTreeMap<usize, usize> = firsts.into_iter().zip(0..).collect();

        let nodes = nodes(host);
        let mut threads: BTreeMap<usize, usize> = BTreeMap::new();
        let cpus = usable.into_iter().map(|cpu| {
            let threads = threads.entry(first(cpu)).or_default();
            let smt = *threads;
            *threads += 1;
            Cpu {
                cpu,
                core: numbers.get(&first(cpu)).copied().unwrap_or(cpu),
                node: nodes.get(&cpu).copied().unwrap_or(0),
                smt,
            }
        });
        Self { cpus: cpus.collect(), quota: cgroup::quota(host), is_flat }
    }
}

/// What is in every set that is known. Sets that exclude each other come from files about another view of the machine
/// (a cgroup tree mounted from the host): the mask is what the kernel enforces, so it wins.
fn usable(affinity: &[usize], sets: [Option<Vec<usize>>; 2]) -> Vec<usize> {
    let affinity = Some(affinity.to_vec()).filter(|cpus| !cpus.is_empty());
    let mut usable: Vec<usize> = Vec::new();
    for set in std::iter::once(affinity).chain(sets).flatten() {
        let both: Vec<usize> = usable.iter().copied().filter(|cpu| set.contains(cpu)).collect();
        if usable.is_empty() {
            usable = set;
        } else if !both.is_empty() {
            usable = both;
        }
    }
    if usable.is_empty() {
        usable.push(0);
    }
    usable.sort_unstable();
    usable.dedup();
    usable
}

/// NUMA node of each CPU; nodes of memory alone have none.
fn nodes(host: &Host) -> BTreeMap<usize, usize> {
    let mut nodes = BTreeMap::new();
    for name in host.list(NODES) {
        let Some(node) = name.strip_prefix("node").and_then(|number| number.parse().ok()) else { continue };
        let cpus = host.read(&format!("{NODES}/{name}/cpulist")).ok().and_then(|text| cpu_list::parse(&text));
        nodes.extend(cpus.into_iter().flatten().map(|cpu| (cpu, node)));
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A container whose files show the host's CPUs must not end up without any.
    #[test]
    fn the_mask_wins_over_files_about_other_cpus() {
        assert_eq!(usable(&[2, 3, 4], [Some(vec![0, 1, 2, 3]), Some(vec![3, 4])]), [3]);
        assert_eq!(usable(&[2, 3], [Some(vec![0, 1]), Some(vec![3])]), [3]);
        assert_eq!(usable(&[], [Some(vec![0, 1]), None]), [0, 1]);
        assert_eq!(usable(&[], [None, None]), [0]);
    }
}
