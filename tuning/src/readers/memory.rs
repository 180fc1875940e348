//! Memory: what the planned connections take, and huge pages.

use crate::count::{bytes, of};
use crate::knob::{Reading, Remedy, Setting};
use crate::topology::cgroup;
use crate::{Host, Target};

/// An idle TCP connection in the kernel: socket, file, inode and dentry, rounded up.
const KERNEL_BYTES: u64 = 4096;

/// Its user-space part in a node.
const USER_BYTES: u64 = 1024;

pub(crate) fn memory(host: &Host, target: &Target) -> Reading {
    let total = host.read("proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    let Some(total) = total.map(|kib| kib.saturating_mul(1024)) else {
        return Reading::absent("/proc/meminfo cannot be read");
    };
    let limit = cgroup::memory_max(host).filter(|limit| *limit < total);
    let (current, allowed) = match limit {
        Some(limit) => (format!("{} (cgroup)", bytes(limit)), limit),
        None => (bytes(total), total),
    };
    let held = target.connections * (KERNEL_BYTES + USER_BYTES);
    // A quarter stays for buffers under load and the rest of the host.
    let needed = held + held / 3;
    Reading::new(allowed >= needed, current, format!(">= {}", bytes(needed)))
        .note(format!(
            "{} x ({} in the kernel + {} in Gyre) = {}, and a third of that for buffers under load",
            of(target.connections, "connection"),
            bytes(KERNEL_BYTES),
            bytes(USER_BYTES),
            bytes(held)
        ))
        .text("fewer connections, or more memory for the host or its cgroup")
}

pub(crate) fn huge_pages(host: &Host, _: &Target) -> Reading {
    let file = "sys/kernel/mm/transparent_hugepage/enabled";
    let Ok(text) = host.read(file) else {
        return Reading::absent("the kernel has no transparent huge pages");
    };
    let chosen = text.split(['[', ']']).nth(1).unwrap_or(&text).to_owned();
    let setting = Setting { file: file.to_owned(), current: chosen.clone(), value: "madvise".to_owned() };
    Reading::new(chosen != "always", chosen, "madvise or never").remedy(Remedy::Write(vec![setting]))
}
