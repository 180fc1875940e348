//! What processors did: CPU time of a thread and of a process, time stolen by the hypervisor, and pinning.
//!
//! All by the scheduler's nanoseconds (what `schedstat` shows), never by ticks: a turn of a core is far shorter than one.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of the calling thread so far.
pub fn of_this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // The clock starts at 0 with the thread: both parts are positive.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU time of all living threads of a process so far. A thread that ends takes its share along: fine for a server whose
/// threads live as long as it does.
pub fn of_process(pid: u32) -> Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let mut nanoseconds = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}: the process is gone"))? {
        // A thread may have ended since.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanoseconds += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Binds the calling thread, and what it starts, to one processor.
pub fn pin(cpu: usize) -> Result<()> {
    ensure!(cpu < CpuSet::MAX_CPU, "there is no CPU {cpu}");
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on CPU {cpu}"))
}

/// Ticks of `/proc/stat`: the unit is fixed at 100 towards user space, whatever the kernel's own is.
const TICKS_PER_SECOND: f64 = 100.0;

/// The machine's time since boot, in ticks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// Of all processors, in any state.
    total: u64,
    stolen: u64,
    idle: u64,
}

impl Machine {
    /// Reads `/proc/stat`.
    pub fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        // cpu  user nice system idle iowait irq softirq steal; guest time is in user already.
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|tick| tick.parse().ok()).collect();
        let at = |index: usize| ticks.get(index).copied().unwrap_or(0);
        Self { total: ticks.iter().sum(), stolen: at(7), idle: at(3) + at(4) }
    }

    /// Share of the time since `before` that the hypervisor gave to others, 0 to 1.
    pub fn stolen_since(&self, before: &Self) -> f64 {
        share(self.stolen - before.stolen, self.total - before.total)
    }

    /// Share of the time since `before` in which a processor worked, but not for `known`, 0 to 1. The kernel's own
    /// threads count as others.
    pub fn others_since(&self, before: &Self, known: Duration) -> f64 {
        let total = self.total - before.total;
        let known_ticks = (known.as_secs_f64() * TICKS_PER_SECOND) as u64;
        let worked = total.saturating_sub(self.idle - before.idle).saturating_sub(self.stolen - before.stolen);
        share(worked.saturating_sub(known_ticks), total)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Resident memory of a process in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}: the process is gone"))?;
    Ok(kilobytes(&text, "VmRSS:") * 1024)
}

/// Kernel memory in slabs and page tables, in bytes.
pub fn kernel_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    Ok((kilobytes(&text, "Slab:") + kilobytes(&text, "PageTables:")) * 1024)
}

fn kilobytes(text: &str, key: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(key));
    rest.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Rounds on a machine that was given to others meanwhile would count as the server's fault.
    #[test]
    fn time_of_others_is_a_share_of_all_time() {
        let before = Machine::parse("cpu  100 0 50 800 10 5 5 30 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n");
        let after = Machine::parse("cpu  130 0 60 840 10 5 5 50 0 0\n");
        assert!((after.stolen_since(&before) - 0.2).abs() < 1e-9);
        // 40 ticks of work, of which 300 ms were known.
        assert!((after.others_since(&before, Duration::from_millis(300)) - 0.1).abs() < 1e-9);
        assert!(after.others_since(&before, Duration::from_secs(9)).abs() < 1e-9);
        assert!(before.stolen_since(&before).abs() < 1e-9);
    }

    // Memory per connection would be a thousandth or nothing.
    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(kilobytes("VmSize:\t 9 kB\nVmRSS:\t    1234 kB\n", "VmRSS:"), 1234);
        let own = resident_bytes(std::process::id()).unwrap();
        assert!(own > 100_000, "{own}");
    }

    // The unit of every result: a thread that spins for 20 ms has used 20 ms.
    #[test]
    fn cpu_time_counts_work() {
        let before = (of_this_thread(), of_process(std::process::id()).unwrap());
        while of_this_thread() - before.0 < Duration::from_millis(20) {}
        std::thread::yield_now();
        assert!(of_process(std::process::id()).unwrap() - before.1 >= Duration::from_millis(10));
    }
}
