//! Functions that read one condition of a host each and judge it against the target. The tables that name them are in
//! `knobs`; what a value means to people is written there.

pub(crate) mod cgroup;
pub(crate) mod cpu;
pub(crate) mod interrupts;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod network;
pub(crate) mod nic;
pub(crate) mod process;

use crate::Host;
use crate::count::grouped;
use crate::knob::{Reading, Remedy, Setting};
use crate::topology::Topology;

/// The CPUs of the calling process as the host's own files tell them, the affinity mask included.
#[must_use]
pub fn usable(host: &Host) -> Topology {
    process::topology(host)
}

/// A sysctl with one number that must be at least `required`. Never proposes less than is there.
fn at_least(host: &Host, file: &str, required: u64) -> Reading {
    match host.read(file).map(|text| text.parse::<u64>()) {
        Ok(Ok(current)) => {
            let setting = Setting {
                file: file.to_owned(),
                current: current.to_string(),
                value: current.max(required).to_string(),
            };
            Reading::new(current >= required, grouped(current), format!(">= {}", grouped(required)))
                .remedy(Remedy::Write(vec![setting]))
        }
        _ => Reading::absent(format!("/{file} cannot be read")),
    }
}

/// The numbers of a sysctl with several.
fn numbers(host: &Host, file: &str) -> Option<Vec<u64>> {
    host.read(file).ok()?.split_whitespace().map(|word| word.parse().ok()).collect()
}
