//! `gyre.cores`: `auto`, a number of cores, or a list of CPUs.

use super::types::Cores;

/// The kernel's own bound on CPU numbers is 8192; anything above is a typing mistake.
const CPUS_MAX: usize = 8192;

/// A plain number is a count. One certain CPU is written as a range, `3-3`.
pub(crate) fn parse(text: &str) -> Result<Cores, String> {
    let text = text.trim();
    if text.is_empty() || text.eq_ignore_ascii_case("auto") {
        return Ok(Cores::Auto);
    }
    if let Ok(count) = text.parse::<usize>() {
        return match count {
            0 => Err("at least 1 core is needed".to_owned()),
            1..=CPUS_MAX => Ok(Cores::Count(count)),
            _ => Err(format!("{text} is too large, the most is {CPUS_MAX}")),
        };
    }
    let invalid = || format!("{text:?} is neither auto, nor a number of cores, nor a list of CPUs such as 2-5,8");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first).ok_or_else(invalid)?, number(last).ok_or_else(invalid)?);
        if first > last {
            return Err(format!("the range {first}-{last} runs backwards"));
        }
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Err(format!("CPU {cpu} is listed twice"));
            }
            cpus.push(cpu);
        }
    }
    Ok(Cores::Cpus(cpus))
}

fn number(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|cpu| *cpu < CPUS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_forms() {
        assert_eq!(parse("auto"), Ok(Cores::Auto));
        assert_eq!(parse("8"), Ok(Cores::Count(8)));
        assert_eq!(parse("2-5,8"), Ok(Cores::Cpus(vec![2, 3, 4, 5, 8])));
        assert_eq!(parse("3-3"), Ok(Cores::Cpus(vec![3])));
        assert_eq!(parse("1, 0"), Ok(Cores::Cpus(vec![1, 0])));
    }

    #[test]
    fn mistakes_are_named() {
        for text in ["0", "-1", "5-2", "1,1", "1-3,2", "a", "1-", "0-9000", "all", "1,,2"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("9999").unwrap_err(), "9999 is too large, the most is 8192");
    }
}
