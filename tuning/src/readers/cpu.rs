//! The CPUs that the cores run on: clock, frequency, neighbours.

use super::process;
use crate::count::of;
use crate::knob::{Reading, Remedy, Setting};
use crate::topology::{Cpu, CpuList};
use crate::{Host, Target};

/// Clocks that are read without a system call.
const FAST_CLOCKS: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];

pub(crate) fn governor(host: &Host, target: &Target) -> Reading {
    let file = |cpu: usize| format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
    let governors: Vec<(usize, String)> =
        process::cpus(host, target).into_iter().filter_map(|cpu| Some((cpu, host.read(&file(cpu)).ok()?))).collect();
    if governors.is_empty() {
        return Reading::absent("no cpufreq: the frequency is set elsewhere");
    }
    let mut names: Vec<&str> = governors.iter().map(|(_, name)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let slow = governors.iter().filter(|(_, name)| name != "performance");
    let settings: Vec<Setting> = slow
        .map(|(cpu, name)| Setting { file: file(*cpu), current: name.clone(), value: "performance".to_owned() })
        .collect();
    Reading::new(settings.is_empty(), names.join(", "), "performance").remedy(Remedy::Write(settings))
}

pub(crate) fn clock(host: &Host, _: &Target) -> Reading {
    let folder = "sys/devices/system/clocksource/clocksource0";
    let file = format!("{folder}/current_clocksource");
    let Ok(current) = host.read(&file) else {
        return Reading::absent("the kernel shows no clock source");
    };
    let available = host.read(&format!("{folder}/available_clocksource")).unwrap_or_default();
    let better = FAST_CLOCKS.iter().find(|fast| available.split_whitespace().any(|name| name == **fast));
    let reading = Reading::new(FAST_CLOCKS.contains(&current.as_str()), current.clone(), FAST_CLOCKS[..2].join(" or "));
    match better {
        Some(better) => reading.remedy(Remedy::Write(vec![Setting { file, current, value: (*better).to_owned() }])),
        None => reading
            .text("the kernel found no better one: look for \"clocksource\" in the kernel log, or ask the provider"),
    }
}

/// What the topology says about the CPUs that cores are pinned to.
fn chosen(host: &Host, target: &Target) -> Vec<Cpu> {
    let cpus = process::topology(host).cpus;
    cpus.into_iter().filter(|cpu| target.cpus.contains(&cpu.cpu)).collect()
}

pub(crate) fn siblings(host: &Host, target: &Target) -> Reading {
    if process::topology(host).is_flat {
        return Reading::absent("the host does not show which CPUs share a physical core");
    }
    let chosen = chosen(host, target);
    if chosen.len() < 2 {
        return Reading::absent("fewer than two cores are pinned");
    }
    let mut physical: Vec<usize> = chosen.iter().map(|cpu| cpu.core).collect();
    physical.sort_unstable();
    physical.dedup();
    let count = physical.len() as u64;
    let current = format!("{} on {}", of(chosen.len() as u64, "core"), of(count, "physical core"));
    Reading::new(physical.len() == chosen.len(), current, "one per physical core")
        .note(if count == chosen.len() as u64 {
            String::new()
        } else {
            format!("siblings among CPUs {} share execution units", CpuList(&numbers(&chosen)))
        })
        .text("gyre.cores = no-smt if latency counts more than the last fifth of throughput")
}

pub(crate) fn numa(host: &Host, target: &Target) -> Reading {
    let chosen = chosen(host, target);
    if chosen.len() < 2 {
        return Reading::absent("fewer than two cores are pinned");
    }
    let mut nodes: Vec<usize> = chosen.iter().map(|cpu| cpu.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let first = nodes.first().copied().unwrap_or(0);
    let current = format!("{} on {}", of(chosen.len() as u64, "core"), of(nodes.len() as u64, "node"));
    Reading::new(nodes.len() == 1, current, "1 node")
        .note(if nodes.len() == 1 { "" } else { "messages between cores of different nodes cross the interconnect" })
        .text(format!("gyre.cores = numa:{first}, and a second Gyre node for the rest"))
}

fn numbers(cpus: &[Cpu]) -> Vec<usize> {
    cpus.iter().map(|cpu| cpu.cpu).collect()
}
