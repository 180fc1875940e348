//! The kernel's notation for a set of CPUs, `0-3,6`: read from its files, written for people.

use std::fmt;

/// Above what any kernel is built for (`NR_CPUS` is at most 8192); a broken file must not make us allocate.
const CPUS_MAX: usize = 8192;

/// `None` for anything that is no list. An empty list is none too: the files say that where nothing is set.
pub(crate) fn parse(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last >= CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Shows CPUs as `0-3,6`, in the order they have.
#[derive(Debug, Clone, Copy)]
pub struct CpuList<'a>(pub &'a [usize]);

impl fmt::Display for CpuList<'_> {
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

    /// A misread list pins cores to CPUs that do not exist.
    #[test]
    fn lists_are_read_and_written() {
        for text in ["0", "0-3", "0-7,16-23", "2,4,6", "5,1"] {
            assert_eq!(CpuList(&parse(text).expect("a list")).to_string(), text);
        }
        for text in ["", "\n", "a", "1-", "-1", "0-99999999999", "0-9000", "1,,2"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
