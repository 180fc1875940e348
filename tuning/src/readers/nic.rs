//! Receive and transmit queues of network interfaces with hardware behind them. Loopback, bridges and the like have
//! nothing to set.

use super::process;
use crate::count::of;
use crate::knob::{Reading, Remedy, Setting};
use crate::{Host, Target};

const NET: &str = "sys/class/net";

/// Interfaces that are up and have a device.
pub(super) fn interfaces(host: &Host) -> Vec<String> {
    let mut names = host.list(NET);
    names.retain(|name| {
        let is_up = host.read(&format!("{NET}/{name}/operstate")).is_ok_and(|state| state == "up");
        is_up && host.exists(&format!("{NET}/{name}/device"))
    });
    names
}

/// Interfaces whose packets arrive in fewer places than there are cores and are not spread by the kernel either.
pub(crate) fn receive(host: &Host, target: &Target) -> Reading {
    spread(host, target, "rx-", "rps_cpus", "receive")
}

/// Interfaces with several transmit queues, none of them tied to CPUs.
pub(crate) fn transmit(host: &Host, target: &Target) -> Reading {
    spread(host, target, "tx-", "xps_cpus", "transmit")
}

fn spread(host: &Host, target: &Target, queue: &str, attribute: &str, noun: &str) -> Reading {
    let cpus = process::cpus(host, target);
    // Cores beyond the CPUs share them.
    let wanted = target.cores.min(cpus.len());
    let is_receive = queue == "rx-";
    let mut settings = Vec::new();
    let mut seen = Vec::new();
    let mut unset = 0;
    for name in interfaces(host) {
        let mut queues = host.list(&format!("{NET}/{name}/queues"));
        queues.retain(|entry| entry.starts_with(queue));
        let files = queues.iter().map(|entry| format!("{NET}/{name}/queues/{entry}/{attribute}"));
        let files: Vec<(String, String)> = files.filter_map(|file| Some((host.read(&file).ok()?, file))).collect();
        seen.push(format!("{name}: {}", of(queues.len() as u64, "queue")));
        // Enough queues need no receive steering; a single transmit queue leaves nothing to choose.
        let is_even = if is_receive { queues.len() >= wanted } else { queues.len() < 2 };
        let is_set = files.iter().any(|(mask, _)| mask.bytes().any(|byte| byte.is_ascii_hexdigit() && byte != b'0'));
        if is_even || is_set || files.is_empty() {
            continue;
        }
        unset += 1;
        for (at, (current, file)) in files.iter().enumerate() {
            let share: Vec<usize> = if is_receive {
                cpus.clone()
            } else {
                cpus.iter()
                    .copied()
                    .enumerate()
                    .filter(|(index, _)| index % files.len() == at)
                    .map(|(_, cpu)| cpu)
                    .collect()
            };
            settings.push(Setting { file: file.clone(), current: current.clone(), value: mask(&share) });
        }
    }
    if seen.is_empty() {
        return Reading::absent("no network hardware is visible here");
    }
    let required = if is_receive {
        format!("{} or RPS", of(wanted as u64, "queue"))
    } else {
        "XPS where there are several".to_owned()
    };
    Reading::new(unset == 0, seen.join(", "), required)
        .note(if unset == 0 { String::new() } else { format!("{} without {noun} steering", of(unset, "interface")) })
        .remedy(Remedy::Write(settings))
}

/// The kernel's form of a set of CPUs: 32-bit groups in hexadecimal, the highest first.
fn mask(cpus: &[usize]) -> String {
    let groups = cpus.iter().max().map_or(1, |highest| highest / 32 + 1);
    let mut words = vec![0_u32; groups];
    for cpu in cpus {
        words[cpu / 32] |= 1 << (cpu % 32);
    }
    let mut text = String::new();
    for word in words.iter().rev() {
        text += &if text.is_empty() { format!("{word:x}") } else { format!(",{word:08x}") };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mask in the wrong order would steer the packets to CPUs that run something else.
    #[test]
    fn masks() {
        assert_eq!(mask(&[0, 1]), "3");
        assert_eq!(mask(&[]), "0");
        assert_eq!(mask(&[4, 35]), "8,00000010");
        assert_eq!(mask(&[64]), "1,00000000,00000000");
    }
}
