//! The CPUs of threads: which ones this process may use, and starting or moving threads to some of them.
//!
//! A thread inherits the mask of the one that starts it. That is how cores get theirs, so that their first allocations,
//! the stack included, are local to their NUMA node, and the kernel need not show its topology for it. Start-up only.

use std::thread;

use anyhow::{Context as _, bail};
use gyre_tuning::topology::CpuList;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The calling thread's mask; empty if the kernel does not say (it knows more CPUs than a mask holds).
pub(crate) fn affinity() -> Vec<usize> {
    let set = sched_getaffinity(None);
    set.map_or_else(|_| Vec::new(), |set| (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Runs `start` such that threads which it starts are on these CPUs. The calling thread itself stays where it is:
/// a mask once set would no longer follow changes of the cgroup.
///
/// # Errors
/// When the kernel refuses the CPUs; those of `start`.
pub(crate) fn starting_on<T: Send>(
    cpus: &[usize],
    start: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let starter = || {
        place(None, cpus)?;
        start()
    };
    thread::scope(|scope| scope.spawn(starter).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Moves the threads that the process has now to these CPUs.
///
/// # Errors
/// When the kernel refuses the CPUs.
pub(crate) fn move_all_threads(cpus: &[usize]) -> anyhow::Result<()> {
    place(None, cpus)?;
    // Without procfs only the calling thread is known, which is the one that matters.
    for entry in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let thread = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        place(thread, cpus)?;
    }
    Ok(())
}

/// `None` = the calling thread.
fn place(thread: Option<Pid>, cpus: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        if *cpu >= CpuSet::MAX_CPU {
            bail!("CPU {cpu} cannot be chosen, only those below {}; see gyre.cores", CpuSet::MAX_CPU);
        }
        set.set(*cpu);
    }
    sched_setaffinity(thread, &set)
        .with_context(|| format!("cannot place a thread on CPU {}; see gyre.cores", CpuList(cpus)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every thread started later, Tokio's included, would share the CPU of the last core.
    #[test]
    fn the_starting_thread_stays_where_it_is() {
        let before = affinity();
        let last = *before.last().expect("a CPU");
        let inherited = starting_on(&[last], || Ok(thread::spawn(affinity).join().expect("a mask"))).expect("placed");
        assert_eq!((inherited, affinity()), (vec![last], before));
        assert!(starting_on(&[CpuSet::MAX_CPU], || Ok(())).is_err());
    }
}
