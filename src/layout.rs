//! Which cores run and where: `gyre.cores` against the CPUs this process may use.

use std::fmt;

use anyhow::bail;
use gyre_engine::limits::CORES_MAX;

use crate::config::types::Cores;

/// For each core the CPU it is pinned to, or `None` where the scheduler chooses.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout(pub(crate) Vec<Option<usize>>);

impl Layout {
    /// # Errors
    /// A listed CPU that this process may not use, or more cores than Gyre can number.
    pub(crate) fn new(cores: &Cores, usable: &[usize]) -> anyhow::Result<Self> {
        let layout = match cores {
            Cores::Auto => usable.iter().take(CORES_MAX).map(|cpu| Some(*cpu)).collect(),
            // More cores than CPUs would share one CPU under pins and leave another idle.
            Cores::Count(count) if *count > usable.len() => vec![None; *count],
            Cores::Count(count) => usable.iter().take(*count).map(|cpu| Some(*cpu)).collect::<Vec<_>>(),
            Cores::Cpus(cpus) => {
                if let Some(cpu) = cpus.iter().find(|cpu| !usable.contains(cpu)) {
                    bail!("gyre.cores: CPU {cpu} cannot be used by this process; usable are {}", Cpus(usable));
                }
                cpus.iter().map(|cpu| Some(*cpu)).collect()
            }
        };
        if layout.len() > CORES_MAX {
            bail!("gyre.cores: {} cores are more than the {CORES_MAX} that are supported", layout.len());
        }
        Ok(Self(layout))
    }

    /// Cores on this machine as the operating system lets the process see it.
    pub(crate) fn usable_cpus() -> Vec<usize> {
        let set = rustix::thread::sched_getaffinity(None);
        let cpus: Vec<usize> = set.map_or_else(
            |_| Vec::new(),
            |set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
        );
        if cpus.is_empty() { vec![0] } else { cpus }
    }

    pub(crate) fn cores(&self) -> u16 {
        // At most CORES_MAX.
        self.0.len() as u16
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus: Vec<usize> = self.0.iter().flatten().copied().collect();
        match &*cpus {
            [] => write!(f, "{} unpinned", self.0.len()),
            cpus => write!(f, "{} on CPU {}", self.0.len(), Cpus(cpus)),
        }
    }
}

/// `0-3,6`
struct Cpus<'a>(&'a [usize]);

impl fmt::Display for Cpus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| *b == a + 1);
        for (at, run) in runs.enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match run {
                [cpu] => write!(f, "{comma}{cpu}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong pin halves the throughput without any message.
    #[test]
    fn layouts() {
        let usable = [0, 1, 2, 5];
        let text = |cores| Layout::new(&cores, &usable).map(|layout| layout.to_string()).map_err(|e| e.to_string());
        assert_eq!(text(Cores::Auto), Ok("4 on CPU 0-2,5".to_owned()));
        assert_eq!(text(Cores::Count(2)), Ok("2 on CPU 0-1".to_owned()));
        assert_eq!(text(Cores::Count(9)), Ok("9 unpinned".to_owned()));
        assert_eq!(text(Cores::Cpus(vec![5, 1])), Ok("2 on CPU 5,1".to_owned()));
        let error = text(Cores::Cpus(vec![3])).expect_err("not usable");
        assert_eq!(error, "gyre.cores: CPU 3 cannot be used by this process; usable are 0-2,5");
        assert!(text(Cores::Count(CORES_MAX + 1)).is_err());
    }
}
