//! Where interrupts of network hardware land, and who moves them.

use super::{nic, process};
use crate::count::of;
use crate::knob::{Reading, Remedy, Setting};
use crate::topology::{CpuList, cpu_list};
use crate::{Host, Target};

/// Interrupts of the queues of an interface. A paravirtual device has them at its parent.
fn of_interface(host: &Host, name: &str) -> Vec<String> {
    let device = format!("sys/class/net/{name}/device");
    let own = host.list(&format!("{device}/msi_irqs"));
    let all = if own.is_empty() { host.list(&format!("{device}/../msi_irqs")) } else { own };
    all.into_iter().filter(|irq| host.exists(&format!("proc/irq/{irq}/smp_affinity_list"))).collect()
}

pub(crate) fn affinity(host: &Host, target: &Target) -> Reading {
    let cpus = process::cpus(host, target);
    let mut irqs: Vec<String> = nic::interfaces(host).iter().flat_map(|name| of_interface(host, name)).collect();
    irqs.dedup();
    if irqs.len() < 2 || cpus.len() < 2 {
        return Reading::absent("fewer than two network interrupts or CPUs to spread them over");
    }
    let place = |irq: &String| {
        let read = |file| cpu_list::parse(&host.read(&format!("proc/irq/{irq}/{file}")).ok()?);
        // Where several CPUs are allowed the kernel has chosen one; a new choice shows only with the next interrupt.
        let allowed = read("smp_affinity_list")?;
        if allowed.len() == 1 { Some(allowed) } else { read("effective_affinity_list").or(Some(allowed)) }
    };
    let mut places: Vec<usize> = irqs.iter().filter_map(place).flatten().collect();
    places.sort_unstable();
    places.dedup();
    let wanted = irqs.len().min(cpus.len()).min(target.cores);
    let settings = irqs.iter().zip(cpus.iter().cycle()).map(|(irq, cpu)| {
        let file = format!("proc/irq/{irq}/smp_affinity_list");
        let current = host.read(&file).unwrap_or_default();
        Setting { file, current, value: cpu.to_string() }
    });
    // Two places are a spread; how even it is, only the load shows.
    let is_met = places.len() >= wanted.div_ceil(2).max(2).min(wanted);
    let remedy = if is_met { Remedy::None } else { Remedy::Write(settings.collect()) };
    let current = format!("{} on CPU {}", of(irqs.len() as u64, "interrupt"), CpuList(&places));
    Reading::new(is_met, current, format!("on {} or more", of(wanted.div_ceil(2).max(2) as u64, "CPU"))).remedy(remedy)
}

pub(crate) fn balancer(host: &Host, target: &Target) -> Reading {
    if nic::interfaces(host).is_empty() {
        return Reading::absent("no network hardware is visible here");
    }
    let is_running = process::is_running(host, "irqbalance");
    let cpus = process::cpus(host, target);
    Reading::new(!is_running, if is_running { "running" } else { "not running" }, "not running").text(format!(
        "systemctl disable --now irqbalance, or IRQBALANCE_BANNED_CPULIST={} in its environment",
        CpuList(&cpus)
    ))
}
