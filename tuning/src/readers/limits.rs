//! What a process may open and lock, and whether the kernel lets it have io_uring at all.

use super::process::{self, CAP_SYS_ADMIN};
use super::{at_least, numbers};
use crate::count::{bytes, grouped, of};
use crate::knob::{Limit, Reading, Remedy, Setting, Severity, State};
use crate::{Host, Target};

/// Oldest kernel with everything the driver needs: multishot accept and receive, DEFER_TASKRUN.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// Slots of one core's table of sockets: the kernel's bound for a table of direct descriptors.
const SOCKETS_PER_CORE_MAX: u64 = 1 << 20;

/// Most cores of one node (the interest mask of a channel is one 128-bit word).
const CORES_MAX: usize = 128;

/// Files of the process beside the connections and what a target names. Measured: 7 for each core (rings, wake-ups, listener) and 13 for the rest
/// (logs, control thread); doubled and more for what scrapes and reloads open.
const FILES_PER_CORE: u64 = 16;
const FILES_OF_PROCESS: u64 = 64;

/// Below this the executor of a core refuses to start, whatever the capabilities.
const MEMLOCK_MIN: u64 = 512 * 1024;

/// Buffers that each core's executor registers.
const MEMLOCK_PER_CORE: u64 = 64 * 1024;

/// What other programs of a host have open: a desktop has about 20,000, a database host more.
const FILES_OF_OTHERS: u64 = 65_536;

pub(crate) fn io_uring(host: &Host, _: &Target) -> Reading {
    let Ok(release) = host.read("proc/sys/kernel/osrelease") else {
        return Reading::absent("/proc/sys/kernel/osrelease cannot be read");
    };
    let (major, minor) = KERNEL_MIN;
    let required = format!("kernel >= {major}.{minor}, allowed");
    if version(&release).is_some_and(|version| version < KERNEL_MIN) {
        return Reading::new(false, format!("kernel {release}"), required)
            .text(format!("boot a kernel {major}.{minor} or newer"));
    }
    let file = "proc/sys/kernel/io_uring_disabled";
    // Older kernels have no such switch.
    let disabled = host.read(file).unwrap_or_else(|_| "0".to_owned());
    let setting = |current: &str| Setting { file: file.to_owned(), current: current.to_owned(), value: "0".to_owned() };
    let current = format!("kernel {release}, allowed");
    match disabled.as_str() {
        "0" if process::is_filtered(host) => Reading::new(true, current, required).note(
            "a system-call filter (seccomp) is in force here; whether it allows io_uring shows at the server's start",
        ),
        "0" => Reading::new(true, current, required),
        "1" if process::has_capability(host, CAP_SYS_ADMIN) => Reading::new(true, "privileged only", required).note(
            "kernel.io_uring_disabled is 1 and this process is privileged; an unprivileged server would be refused",
        ),
        value => Reading::new(false, format!("io_uring_disabled = {value}"), required)
            .note("1 allows it to privileged processes and the group kernel.io_uring_group, 2 to nobody")
            .remedy(Remedy::Write(vec![setting(value)])),
    }
}

/// `6.18.44-generic` as (6, 18).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

pub(crate) fn memlock(host: &Host, target: &Target) -> Reading {
    // The node and the generator raise the soft limit themselves.
    let Some((_, hard)) = process::limit(host, "Max locked memory") else {
        return Reading::absent("/proc/self/limits cannot be read");
    };
    let required = (target.cores as u64 * MEMLOCK_PER_CORE).max(MEMLOCK_MIN);
    // Eight times what the most cores need, and never below what the caller may raise itself to; limits.conf counts in KiB.
    let value = hard.map(|hard| hard.max(8 * MEMLOCK_PER_CORE * CORES_MAX as u64));
    let limit = Limit {
        item: "memlock",
        directive: "LimitMEMLOCK",
        item_value: value.map_or_else(|| "unlimited".to_owned(), |value| (value / 1024).to_string()),
        directive_value: value.map_or_else(|| "infinity".to_owned(), |value| value.to_string()),
        otherwise: String::new(),
    };
    let remedy = if hard.is_some() { Remedy::Limit(limit) } else { Remedy::None };
    let current = hard.map_or_else(|| "unlimited".to_owned(), bytes);
    let reading = Reading::new(hard.is_none_or(|hard| hard >= required), current, format!(">= {}", bytes(required)));
    // Between the two a core works without its registered buffer.
    let severity = if hard.is_some_and(|hard| hard < MEMLOCK_MIN) { Severity::Fatal } else { Severity::Hint };
    reading.severity(severity).remedy(remedy)
}

/// Sockets live in the tables of the cores' rings, and each table holds as many as the process may have open.
pub(crate) fn nofile(host: &Host, target: &Target) -> Reading {
    let Some((_, hard)) = process::limit(host, "Max open files") else {
        return Reading::absent("/proc/self/limits cannot be read");
    };
    let hard = hard.unwrap_or(u64::MAX);
    let (cores, connections) = (target.cores as u64, target.connections);
    let own = own_files(target);
    let needed = files_needed(target);
    let table = hard.min(SOCKETS_PER_CORE_MAX);
    let note = if cores == 1 {
        format!("{} on 1 core need RLIMIT_NOFILE >= {}", of(connections, "connection"), grouped(needed))
    } else {
        format!(
            "{} / {cores} cores = {} each, + {} for an uneven spread: RLIMIT_NOFILE >= {}; now at most {cores} x {} = {}",
            of(connections, "connection"),
            grouped(target.connections_per_core()),
            grouped(uneven(target)),
            grouped(needed),
            grouped(table),
            grouped(table.saturating_mul(cores)),
        )
    };
    if hard < own {
        // Not a single connection would be served.
        return Reading::new(false, grouped(hard), format!(">= {}", grouped(own)))
            .note(format!(
                "Gyre itself opens {FILES_OF_PROCESS} files and {FILES_PER_CORE} for each of {}",
                of(cores, "core")
            ))
            .severity(Severity::Fatal)
            .remedy(limit(hard, None));
    }
    if hard < needed && needed == process_files(target) {
        // It works until they are all needed, whatever the number of connections.
        return Reading::new(false, grouped(hard), format!(">= {}", grouped(needed)))
            .note(format!(
                "Gyre itself opens {FILES_OF_PROCESS} files and {FILES_PER_CORE} for each of {}, and up to {} for backends \
                 and the gRPC API",
                of(cores, "core"),
                grouped(target.other_files)
            ))
            .severity(Severity::Warning)
            .remedy(limit(hard, None));
    }
    let reading = Reading::new(hard >= needed, grouped(hard), format!(">= {}", grouped(needed))).note(note);
    if needed > SOCKETS_PER_CORE_MAX {
        let remedy = match cores_for(target, SOCKETS_PER_CORE_MAX) {
            Some(least) => format!("no core holds more than {}: {least}", grouped(SOCKETS_PER_CORE_MAX)),
            None => "more than one node can hold: spread them over several".to_owned(),
        };
        return Reading { state: State::Unmet, ..reading.text(remedy) };
    }
    reading.remedy(limit(hard, cores_for(target, hard)))
}

/// What a core can use at most, the kernel's default for fs.nr_open; never below what is there.
fn limit(hard: u64, more_cores: Option<String>) -> Remedy {
    let value = hard.max(SOCKETS_PER_CORE_MAX).to_string();
    Remedy::Limit(Limit {
        item: "nofile",
        directive: "LimitNOFILE",
        item_value: value.clone(),
        directive_value: value,
        otherwise: more_cores
            .map(|cores| format!(", or {cores} (more cores than CPUs are allowed)"))
            .unwrap_or_default(),
    })
}

/// The number of cores whose tables are large enough together, as the remedy says it.
fn cores_for(target: &Target, files: u64) -> Option<String> {
    let enough = |cores: &usize| files_needed(&Target { cores: *cores, ..target.clone() }) <= files;
    (target.cores + 1..=CORES_MAX).find(enough).map(|cores| target.cores_remedy(cores))
}

/// Without these it cannot start.
fn own_files(target: &Target) -> u64 {
    FILES_OF_PROCESS + FILES_PER_CORE * target.cores as u64
}

/// File descriptors, which connections are not.
fn process_files(target: &Target) -> u64 {
    own_files(target) + target.other_files
}

fn files_needed(target: &Target) -> u64 {
    (target.connections_per_core() + uneven(target)).max(process_files(target))
}

/// The kernel spreads connections over listeners by a hash. With n on each of many cores their standard deviation is the
/// square root of n; four of these leave a chance of one in 200 that any of 128 cores gets more.
fn uneven(target: &Target) -> u64 {
    if target.cores > 1 { 4 * target.connections_per_core().isqrt() } else { 0 }
}

pub(crate) fn nr_open(host: &Host, target: &Target) -> Reading {
    // A hard limit above it cannot be set, whoever asks; the unit of the package asks for 2^20.
    at_least(host, "proc/sys/fs/nr_open", files_needed(target).max(SOCKETS_PER_CORE_MAX))
}

pub(crate) fn file_max(host: &Host, target: &Target) -> Reading {
    let open = numbers(host, "proc/sys/fs/file-nr").and_then(|numbers| numbers.first().copied()).unwrap_or(0);
    let others = open.clamp(FILES_OF_OTHERS, 1 << 40);
    let needed = target.connections + process_files(target) + others;
    let reading = at_least(host, "proc/sys/fs/file-max", needed);
    let note = format!(
        "{} + {} for Gyre itself and the rest of the host = {} files",
        of(target.connections, "connection"),
        grouped(needed - target.connections),
        grouped(needed)
    );
    // Recent kernels have the largest number there is: nothing worth writing down.
    let is_boundless = host.number("proc/sys/fs/file-max").is_some_and(|max| max > 1 << 40);
    if is_boundless {
        return Reading { current: "no bound".to_owned(), ..reading.remedy(Remedy::None) };
    }
    reading.note(note)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,000,000 connections under a limit of 20,000 files: the arithmetic that decides how many cores to run.
    #[test]
    fn cores_multiply_the_limit() {
        let with = |cores| files_needed(&Target { connections: 1_000_000, ..Target::server(cores) });
        assert_eq!(with(1), 1_000_000);
        assert_eq!(with(2), 502_828);
        assert!(with(51) > 20_000 && with(52) <= 20_000, "{} {}", with(51), with(52));
        assert_eq!(files_needed(&Target { connections: 10, ..Target::server(2) }), 64 + 32);
    }

    /// Releases come with all kinds of tails.
    #[test]
    fn kernel_versions() {
        assert_eq!(version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(version("5.15.0-91-generic"), Some((5, 15)));
        assert_eq!(version("6.1"), Some((6, 1)));
        assert_eq!(version("unknown"), None);
    }
}
