//! CPUs that a container or a unit grants.

use super::process;
use crate::count::of;
use crate::knob::Reading;
use crate::topology::CpuList;
use crate::{Host, Target};

pub(crate) fn cpu_set(host: &Host, target: &Target) -> Reading {
    let usable: Vec<usize> = process::topology(host).cpus.iter().map(|cpu| cpu.cpu).collect();
    let cpus = of(usable.len() as u64, "CPU");
    Reading::new(
        usable.len() >= target.cores,
        format!("{cpus} ({})", CpuList(&usable)),
        format!(">= {}", of(target.cores as u64, "CPU")),
    )
    .note(format!("{} on {cpus}", of(target.cores as u64, "core")))
    .text(format!(
        "{} or a larger CPU set; fine as it is where the extra cores are for their tables of sockets",
        target.cores_remedy(usable.len())
    ))
}

pub(crate) fn cpu_quota(host: &Host, target: &Target) -> Reading {
    let topology = process::topology(host);
    let Some(quota) = topology.quota else {
        return Reading::absent("no CPU quota is in force");
    };
    // Several cores may share a CPU; more than the usable ones never run at a time.
    let busy = target.cores.min(topology.cpus.len()) as u64;
    let granted = format!("{quota:.2}");
    let granted = granted.trim_end_matches('0').trim_end_matches('.').to_owned();
    Reading::new(quota >= busy as f64, format!("{granted} CPUs"), format!(">= {}", of(busy, "CPU")))
        .note(format!(
            "{} together use up {granted} CPUs' worth of a period early, then all stand still until the next one",
            of(busy, "busy core")
        ))
        .text(format!(
            "no quota but whole CPUs (a CPU set; static CPU manager in Kubernetes), or {}",
            target.cores_remedy((quota as usize).max(1))
        ))
}
