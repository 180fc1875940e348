//! The forms of `gyre.cores`: `auto`, a number of cores, a list of CPUs, or kinds of CPUs (`numa:0`, `no-smt`).
//!
//! Only the text: whether this machine has such CPUs is found out at start (`layout`), so that `checkconfig` can run
//! anywhere.

use super::types::Cores;

/// The kernel's own bound on CPU numbers is 8192; anything above is a typing mistake.
const CPUS_MAX: usize = 8192;

/// A plain number is a count. One certain CPU is written as a range, `3-3`.
pub(crate) fn parse(text: &str) -> Result<Cores, String> {
    let text = text.trim().to_ascii_lowercase();
    if text.is_empty() || text == "auto" {
        return Ok(Cores::AUTO);
    }
    if let Ok(count) = text.parse::<usize>() {
        return match count {
            0 => Err("at least 1 core is needed".to_owned()),
            1..=CPUS_MAX => Ok(Cores::Count(count)),
            _ => Err(format!("{text} is too large, the most is {CPUS_MAX}")),
        };
    }
    let parts = text.split(',').map(str::trim);
    if parts.clone().any(|part| part == "no-smt" || part.starts_with("numa:")) { kinds(parts) } else { list(parts) }
        .unwrap_or_else(|| {
            Err(format!(
                "{text:?} is neither auto, nor a number of cores, nor a list of CPUs such as 2-5,8, nor numa:0, nor no-smt"
            ))
        })
}

/// `numa:0,numa:1,no-smt`; `None` = something else is among them.
fn kinds<'a>(parts: impl Iterator<Item = &'a str>) -> Option<Result<Cores, String>> {
    let (mut nodes, mut no_smt) = (Vec::new(), false);
    for part in parts {
        let is_repeated = match part.strip_prefix("numa:") {
            Some(node) => {
                let node = number(node)?;
                let is_repeated = nodes.contains(&node);
                nodes.push(node);
                is_repeated
            }
            None if part == "no-smt" => std::mem::replace(&mut no_smt, true),
            None => return None,
        };
        if is_repeated {
            return Some(Err(format!("{part} is listed twice")));
        }
    }
    Some(Ok(Cores::Every { nodes, no_smt }))
}

/// `2-5,8`; `None` = no list.
fn list<'a>(parts: impl Iterator<Item = &'a str>) -> Option<Result<Cores, String>> {
    let mut cpus = Vec::new();
    for part in parts {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Some(Err(format!("the range {first}-{last} runs backwards")));
        }
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Some(Err(format!("CPU {cpu} is listed twice")));
            }
            cpus.push(cpu);
        }
    }
    Some(Ok(Cores::Cpus(cpus)))
}

fn number(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|number| *number < CPUS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A form that is read as another one starts the wrong cores, or a count where CPUs were meant.
    #[test]
    fn forms() {
        assert_eq!(parse("auto"), Ok(Cores::AUTO));
        assert_eq!(parse("8"), Ok(Cores::Count(8)));
        assert_eq!(parse("2-5,8"), Ok(Cores::Cpus(vec![2, 3, 4, 5, 8])));
        assert_eq!(parse("3-3"), Ok(Cores::Cpus(vec![3])));
        assert_eq!(parse("1, 0"), Ok(Cores::Cpus(vec![1, 0])));
        assert_eq!(parse("numa:1"), Ok(Cores::Every { nodes: vec![1], no_smt: false }));
        assert_eq!(parse("No-SMT"), Ok(Cores::Every { nodes: vec![], no_smt: true }));
        assert_eq!(parse("numa:0, numa:2,no-smt"), Ok(Cores::Every { nodes: vec![0, 2], no_smt: true }));
    }

    /// Half a list taken for all of it would leave CPUs idle without a word.
    #[test]
    fn mistakes_are_named() {
        for text in ["0", "-1", "5-2", "1,1", "1-3,2", "a", "1-", "0-9000", "all", "1,,2"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in ["numa", "numa:", "numa:a", "numa:0-1", "numa:0,1", "no-smt,2-3", "auto,no-smt", "smt"] {
            assert!(parse(text).unwrap_err().contains("is neither"), "{text}");
        }
        assert_eq!(parse("numa:0,numa:0").unwrap_err(), "numa:0 is listed twice");
        assert_eq!(parse("no-smt,no-smt").unwrap_err(), "no-smt is listed twice");
        assert_eq!(parse("9999").unwrap_err(), "9999 is too large, the most is 8192");
    }
}
