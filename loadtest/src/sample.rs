//! Memory and CPU time of processes on this host, read from `/proc`.
//!
//! Used by the watch thread about once a second. Reads files of a few hundred bytes; a process that has ended gives no
//! sample, which is no error: the connections will tell.

use std::collections::HashMap;
use std::fs;

/// One look at a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub rss_bytes: u64,
    /// CPU time since the first look or the start of the process, whichever is longer.
    pub cpu_us: u64,
}

/// A process that is looked at again and again.
#[derive(Debug)]
pub struct Process {
    folder: String,
    /// Last CPU time of every thread ever seen, in nanoseconds.
    threads: HashMap<u32, u64>,
    /// CPU time of ended threads whose number another thread has got since.
    gone_ns: u64,
}

impl Process {
    /// A process by its number; none if it does not run.
    #[must_use]
    pub fn open(pid: u32) -> Option<Self> {
        let mut process = Self { folder: format!("/proc/{pid}"), threads: HashMap::new(), gone_ns: 0 };
        process.sample().map(|_| process)
    }

    /// Looks at it now.
    pub fn sample(&mut self) -> Option<Sample> {
        let rss_bytes = kib(&fs::read_to_string(format!("{}/status", self.folder)).ok()?, "VmRSS:")? * 1024;
        for thread in fs::read_dir(format!("{}/task", self.folder)).ok()?.flatten() {
            let number = thread.file_name().to_str().and_then(|name| name.parse().ok());
            // A thread may end between the listing and the reading; what it had at the last look stays counted.
            let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            let ns = text.split_ascii_whitespace().next().and_then(|ns| ns.parse().ok());
            if let (Some(number), Some(ns)) = (number, ns) {
                self.note(number, ns);
            }
        }
        let total_ns = self.gone_ns + self.threads.values().sum::<u64>();
        Some(Sample { rss_bytes, cpu_us: total_ns / 1_000 })
    }

    fn note(&mut self, thread: u32, ns: u64) {
        if let Some(before) = self.threads.insert(thread, ns)
            && before > ns
        {
            self.gone_ns += before;
        }
    }
}

/// Memory of this process.
#[must_use]
pub fn own_rss_bytes() -> u64 {
    kib(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmRSS:").unwrap_or(0) * 1024
}

/// Slab of the whole host: where the kernel keeps sockets and what belongs to them.
#[must_use]
pub fn slab_bytes() -> u64 {
    kib(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "Slab:").unwrap_or(0) * 1024
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPU time must never run backwards, or the cost of a delivery would come out negative.
    #[test]
    fn ended_threads_stay_counted() {
        let mut process = Process::open(std::process::id()).unwrap();
        process.threads.clear();
        process.note(1, 500);
        process.note(2, 700);
        process.note(2, 100);
        assert_eq!(process.gone_ns + process.threads.values().sum::<u64>(), 1_300);
    }

    /// The sampler must see this very process, and none where there is none.
    #[test]
    fn this_process() {
        let mut process = Process::open(std::process::id()).unwrap();
        let first = process.sample().unwrap();
        let second = process.sample().unwrap();
        assert!(first.rss_bytes > 100_000 && second.cpu_us >= first.cpu_us);
        assert!(own_rss_bytes() > 100_000 && slab_bytes() > 0);
        assert!(Process::open(u32::MAX).is_none());
    }
}
