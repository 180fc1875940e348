//! Which cores run and where: `gyre.cores` and `gyre.reserved_cores` against the CPUs this process may use.
//!
//! Decides only; `placement` does it. Runs once, at start.

use std::fmt;

use anyhow::bail;
use gyre_engine::limits::CORES_MAX;
use gyre_tuning::topology::{Cpu, CpuList, Topology};

use crate::config::types::Cores;

/// More cores than this are one line of the map: beyond it nobody reads them.
const MAP_LINES_MAX: usize = 64;

/// Where every thread of the node runs.
#[derive(Debug)]
pub(crate) struct Layout {
    /// For each core the CPU it is pinned to, or `None` where the scheduler chooses. Either all of them or none.
    pins: Vec<Option<Cpu>>,
    /// What is left to cores that are not pinned; empty = whatever the process may use.
    shared: Vec<usize>,
    /// CPUs of the control thread and the log writer; empty = whatever the process may use.
    reserved: Vec<Cpu>,
    is_flat: bool,
    /// What the operator should know: it works, but not as well as it could.
    pub(crate) warnings: Vec<String>,
}

impl Layout {
    /// # Errors
    /// CPUs or NUMA nodes that this process cannot use, none left after the reservation, more cores than Gyre can number.
    pub(crate) fn new(cores: &Cores, reserved: usize, topology: &Topology) -> anyhow::Result<Self> {
        let usable = &topology.cpus;
        let reserved = match cores {
            Cores::Cpus(listed) => reserve_beside(listed, reserved, usable)?,
            _ => reserve(reserved, usable)?,
        };
        let free: Vec<Cpu> = usable.iter().filter(|cpu| !reserved.contains(cpu)).copied().collect();
        let mut warnings = Vec::new();
        let pins = match cores {
            Cores::Every { nodes, no_smt } => {
                let chosen = every(nodes, *no_smt, usable, &free)?;
                if chosen.len() > CORES_MAX {
                    let count = chosen.len();
                    warnings.push(format!("gyre.cores: {count} CPUs, but only {CORES_MAX} cores are supported"));
                }
                if *no_smt && topology.is_flat {
                    warnings.push("gyre.cores: no-smt has no effect, the kernel does not show which CPUs share a physical core; list the CPUs".to_owned());
                }
                spread(chosen, CORES_MAX).into_iter().map(Some).collect()
            }
            // More cores than CPUs would share one CPU under pins and leave another idle.
            Cores::Count(count) if *count > free.len() => vec![None; *count],
            Cores::Count(count) => spread(free.clone(), *count).into_iter().map(Some).collect(),
            Cores::Cpus(listed) => {
                let found = listed.iter().map(|number| usable.iter().find(|cpu| cpu.cpu == *number).copied());
                found.collect::<Vec<_>>()
            }
        };
        if pins.len() > CORES_MAX {
            bail!("gyre.cores: {} cores are more than the {CORES_MAX} that are supported", pins.len());
        }
        warnings.extend(topology.quota.and_then(|quota| throttled(pins.len(), pins.len().min(free.len()), quota)));
        let shared = if reserved.is_empty() { Vec::new() } else { numbers(&free) };
        Ok(Self { pins, shared, reserved, is_flat: topology.is_flat, warnings })
    }

    pub(crate) fn cores(&self) -> u16 {
        // At most CORES_MAX.
        self.pins.len() as u16
    }

    /// CPUs of a core's thread; empty = whatever the process may use.
    pub(crate) fn core_cpus(&self, core: usize) -> Vec<usize> {
        match self.pins.get(core).copied().flatten() {
            Some(cpu) => vec![cpu.cpu],
            None => self.shared.clone(),
        }
    }

    /// CPUs of the control thread and the log writer; empty = whatever the process may use.
    pub(crate) fn control_cpus(&self) -> Vec<usize> {
        numbers(&self.reserved)
    }

    /// One line per core and one for the control thread.
    pub(crate) fn map(&self) -> Vec<String> {
        let mut lines: Vec<String> = match self.pins.iter().copied().collect::<Option<Vec<Cpu>>>() {
            Some(cpus) if cpus.len() <= MAP_LINES_MAX => {
                cpus.iter().enumerate().map(|(core, cpu)| self.line(core, *cpu, &cpus)).collect()
            }
            Some(cpus) => vec![format!("cores 0-{}: in order on CPU {}", cpus.len() - 1, CpuList(&numbers(&cpus)))],
            None if self.shared.is_empty() => vec![format!("cores 0-{}: not pinned", self.pins.len() - 1)],
            None => vec![format!("cores 0-{}: on any of CPU {}", self.pins.len() - 1, CpuList(&self.shared))],
        };
        lines.push(match &*self.control_cpus() {
            [] => "control thread: not pinned".to_owned(),
            cpus => format!("control thread: CPU {}, reserved", CpuList(cpus)),
        });
        lines
    }

    fn line(&self, core: usize, cpu: Cpu, cpus: &[Cpu]) -> String {
        if self.is_flat {
            return format!("core {core}: CPU {}", cpu.cpu);
        }
        let mut line = format!("core {core}: CPU {}, physical core {}, NUMA node {}", cpu.cpu, cpu.core, cpu.node);
        let siblings = cpus.iter().enumerate().filter(|(other, at)| *other != core && at.core == cpu.core);
        let mut siblings: Vec<String> = siblings.map(|(other, _)| format!("core {other}")).collect();
        if self.reserved.iter().any(|reserved| reserved.core == cpu.core) {
            siblings.push("the control thread".to_owned());
        }
        if !siblings.is_empty() {
            line += &format!(", SMT sibling of {}", siblings.join(" and "));
        }
        line
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus: Vec<usize> = self.pins.iter().flatten().map(|cpu| cpu.cpu).collect();
        match &*cpus {
            [] => write!(f, "{} unpinned", self.pins.len()),
            cpus => write!(f, "{} on CPU {}", self.pins.len(), CpuList(cpus)),
        }
    }
}

/// The first ones, by whole physical cores: Linux does its own chores and the interrupts that nobody steered on the
/// lowest CPUs, and one physical core given away whole disturbs fewer cores than two halves.
fn reserve(count: usize, usable: &[Cpu]) -> anyhow::Result<Vec<Cpu>> {
    if count >= usable.len() {
        let remedy = match usable.len() - 1 {
            0 => "set it to 0".to_owned(),
            most => format!("the most is {most}"),
        };
        bail!("gyre.reserved_cores: {count} leaves no CPU for cores, usable are {}; {remedy}", list(usable));
    }
    Ok(lowest(usable.to_vec(), count, |_| false))
}

/// A list is the operator's word: the reservation must fit beside it.
fn reserve_beside(listed: &[usize], count: usize, usable: &[Cpu]) -> anyhow::Result<Vec<Cpu>> {
    if let Some(cpu) = listed.iter().find(|cpu| !usable.iter().any(|usable| usable.cpu == **cpu)) {
        bail!("gyre.cores: CPU {cpu} cannot be used by this process; usable are {}", list(usable));
    }
    let rest: Vec<Cpu> = usable.iter().filter(|cpu| !listed.contains(&cpu.cpu)).copied().collect();
    if count > rest.len() {
        bail!(
            "gyre.reserved_cores: cannot keep {count} free beside the {} CPUs of gyre.cores, usable are {}; shorten the list or set it to {}",
            listed.len(),
            list(usable),
            rest.len()
        );
    }
    let has_listed = |core| usable.iter().any(|cpu| cpu.core == core && listed.contains(&cpu.cpu));
    Ok(lowest(rest, count, |cpu| has_listed(cpu.core)))
}

/// By whole physical cores; the `unwanted` ones only when there are no others.
fn lowest(mut cpus: Vec<Cpu>, count: usize, unwanted: impl Fn(&Cpu) -> bool) -> Vec<Cpu> {
    cpus.sort_by_key(|cpu| (unwanted(cpu), cpu.core, cpu.cpu));
    cpus.truncate(count);
    cpus.sort_by_key(|cpu| cpu.cpu);
    cpus
}

/// Those of `free` on these nodes, or on any; one hardware thread of each physical core, or all.
fn every(nodes: &[usize], no_smt: bool, usable: &[Cpu], free: &[Cpu]) -> anyhow::Result<Vec<Cpu>> {
    if let Some(node) = nodes.iter().find(|node| !usable.iter().any(|cpu| cpu.node == **node)) {
        let mut known: Vec<usize> = usable.iter().map(|cpu| cpu.node).collect();
        known.sort_unstable();
        known.dedup();
        bail!(
            "gyre.cores: no NUMA node {node} with CPUs for this process; it can use those of node {}",
            CpuList(&known)
        );
    }
    let is_chosen = |cpu: &&Cpu| (nodes.is_empty() || nodes.contains(&cpu.node)) && (!no_smt || cpu.smt == 0);
    let chosen: Vec<Cpu> = free.iter().filter(is_chosen).copied().collect();
    if chosen.is_empty() {
        bail!(
            "gyre.reserved_cores leaves none of the CPUs that gyre.cores asks for; lower it, or let gyre.cores take more"
        );
    }
    Ok(chosen)
}

/// `count` of them: first the physical cores, node by node, then their second hardware threads.
fn spread(mut cpus: Vec<Cpu>, count: usize) -> Vec<Cpu> {
    cpus.sort_by_key(|cpu| (cpu.smt, cpu.node, cpu.cpu));
    cpus.truncate(count);
    cpus.sort_by_key(|cpu| cpu.cpu);
    cpus
}

/// `running` of the cores can run at once.
fn throttled(cores: usize, running: usize, quota: f64) -> Option<String> {
    let remedy = match quota.floor() {
        0.0 => String::new(),
        whole => format!(" or set gyre.cores to {whole}"),
    };
    (running as f64 > quota).then(|| {
        format!(
            "gyre.cores: the cgroup's quota of {quota} CPUs is less than {cores} cores can use; once it is spent they stop until its next period: raise it to {running}{remedy}"
        )
    })
}

fn numbers(cpus: &[Cpu]) -> Vec<usize> {
    cpus.iter().map(|cpu| cpu.cpu).collect()
}

fn list(cpus: &[Cpu]) -> String {
    CpuList(&numbers(cpus)).to_string()
}

#[cfg(test)]
mod tests {
    use gyre_tuning::Host;

    use super::*;

    /// `gyre.cores` and `gyre.reserved_cores` on a recorded machine.
    fn layout(tree: &str, cores: &str, reserved: usize) -> anyhow::Result<Layout> {
        let tree = format!("{}/tuning/tests/topology/{tree}", env!("CARGO_MANIFEST_DIR"));
        let affinity: Vec<usize> = (0..32).collect();
        let cores: Cores = serde_json::from_value(cores.into()).expect("a form");
        Layout::new(&cores, reserved, &Topology::read(&Host::at(tree), &affinity))
    }

    /// Cores, then what is reserved.
    fn check(tree: &str, cores: &str, reserved: usize, expected: &str) {
        let text = match layout(tree, cores, reserved) {
            Ok(layout) if layout.reserved.is_empty() => layout.to_string(),
            Ok(layout) => format!("{layout}; {}", list(&layout.reserved)),
            Err(error) => format!("{error:#}"),
        };
        assert_eq!(text, expected, "{cores} and {reserved} reserved on {tree}");
    }

    /// A wrong pin halves the throughput without any message.
    #[test]
    fn two_nodes_with_smt() {
        let tree = "two-nodes-smt";
        check(tree, "auto", 0, "32 on CPU 0-31");
        check(tree, "auto", 1, "31 on CPU 1-31; 0");
        check(tree, "auto", 2, "30 on CPU 1-15,17-31; 0,16");
        check(tree, "auto", 3, "29 on CPU 2-15,17-31; 0-1,16");
        check(tree, "8", 0, "8 on CPU 0-7");
        check(tree, "20", 0, "20 on CPU 0-19");
        check(tree, "8", 2, "8 on CPU 1-8; 0,16");
        check(tree, "31", 2, "31 unpinned; 0,16");
        check(tree, "52", 0, "52 unpinned");
        check(tree, "9,1,25", 0, "3 on CPU 9,1,25");
        check(tree, "0-3", 2, "4 on CPU 0-3; 4,20");
        check(tree, "1-15", 3, "15 on CPU 1-15; 0,16-17");
        check(tree, "2-31", 2, "30 on CPU 2-31; 0-1");
        check(tree, "numa:1", 0, "16 on CPU 8-15,24-31");
        check(tree, "numa:1", 2, "16 on CPU 8-15,24-31; 0,16");
        check(tree, "numa:0", 2, "14 on CPU 1-7,17-23; 0,16");
        check(tree, "numa:0,numa:1", 0, "32 on CPU 0-31");
        check(tree, "no-smt", 0, "16 on CPU 0-15");
        check(tree, "no-smt", 1, "15 on CPU 1-15; 0");
        check(tree, "numa:1,no-smt", 0, "8 on CPU 8-15");
    }

    /// A limit of the container that is not seen starts cores where they cannot run.
    #[test]
    fn other_machines() {
        check("one-node-no-smt", "no-smt", 0, "8 on CPU 0-7");
        check("container", "auto", 0, "4 on CPU 2-5");
        check("container", "no-smt", 0, "2 on CPU 2,4");
        check("container", "2", 0, "2 on CPU 2,4");
        check("container", "auto", 2, "2 on CPU 4-5; 2-3");
        check("offline", "auto", 0, "5 on CPU 0-2,4,6");
        check("offline", "no-smt", 1, "2 on CPU 1-2; 0");
        check("nothing-shown", "numa:0,no-smt", 0, "32 on CPU 0-31");
    }

    /// What an operator reads instead of a stack trace.
    #[test]
    fn mistakes_are_named() {
        let tree = "container";
        check(tree, "1-2", 0, "gyre.cores: CPU 1 cannot be used by this process; usable are 2-5");
        check(tree, "numa:3", 0, "gyre.cores: no NUMA node 3 with CPUs for this process; it can use those of node 0");
        check(tree, "numa:0", 4, "gyre.reserved_cores: 4 leaves no CPU for cores, usable are 2-5; the most is 3");
        check(
            tree,
            "3-5",
            2,
            "gyre.reserved_cores: cannot keep 2 free beside the 3 CPUs of gyre.cores, usable are 2-5; shorten the list or set it to 1",
        );
        let all_of_the_node = "gyre.reserved_cores leaves none of the CPUs that gyre.cores asks for; lower it, or let gyre.cores take more";
        check("two-nodes-smt", "numa:0", 16, all_of_the_node);
        let two_nodes = "gyre.cores: no NUMA node 2 with CPUs for this process; it can use those of node 0-1";
        check("two-nodes-smt", "numa:0,numa:2", 0, two_nodes);
        assert!(layout("two-nodes-smt", "129", 0).is_err());
    }

    /// Throttled cores look like a network that stalls ten times a second.
    #[test]
    fn a_quota_below_the_cores_is_warned_about() {
        let warnings = |cores| layout("container", cores, 0).expect("a layout").warnings;
        assert_eq!(
            warnings("auto"),
            [
                "gyre.cores: the cgroup's quota of 1.5 CPUs is less than 4 cores can use; once it is spent they stop until its next period: raise it to 4 or set gyre.cores to 1"
            ]
        );
        assert!(warnings("52")[0].contains("raise it to 4 or"));
        assert_eq!(warnings("1"), [""; 0]);
        assert_eq!(layout("nothing-shown", "no-smt", 0).expect("a layout").warnings.len(), 1);
    }

    /// What the operator compares with the interrupts of the network card.
    #[test]
    fn the_map_names_every_core() {
        let map = |tree, cores, reserved| layout(tree, cores, reserved).expect("a layout").map();
        assert_eq!(
            map("two-nodes-smt", "5,24,8", 1),
            [
                "core 0: CPU 5, physical core 5, NUMA node 0",
                "core 1: CPU 24, physical core 8, NUMA node 1, SMT sibling of core 2",
                "core 2: CPU 8, physical core 8, NUMA node 1, SMT sibling of core 1",
                "control thread: CPU 0, reserved",
            ]
        );
        let shares_a_core = "core 0: CPU 3, physical core 1, NUMA node 0, SMT sibling of the control thread";
        assert_eq!(map("container", "auto", 1)[0], shares_a_core);
        assert_eq!(map("two-nodes-smt", "52", 0), ["cores 0-51: not pinned", "control thread: not pinned"]);
        assert_eq!(
            map("two-nodes-smt", "52", 2),
            ["cores 0-51: on any of CPU 1-15,17-31", "control thread: CPU 0,16, reserved"]
        );
        assert_eq!(map("nothing-shown", "1", 0), ["core 0: CPU 0", "control thread: not pinned"]);
    }
}
