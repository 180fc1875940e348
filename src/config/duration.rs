//! Durations as Go writes them: `300ms`, `1h30m`, `-1s`. Nanoseconds in an `i64`, as in the normalised tree.

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // micro sign
    ("μs", 1_000), // Greek mu
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration; the error says what is wrong with the text, not where it stood.
///
/// A bare `-1` is taken as a negative duration, because documents say so; any other number needs a unit.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    if matches!(text, "0" | "+0" | "-0") {
        return Ok(0);
    }
    if text == "-1" {
        return Ok(-1);
    }
    let invalid = || format!("{text:?} is not a duration; write it like 300ms, 25s or 1h30m");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut nanos = 0_i128;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let number = &rest[..rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len())];
        rest = &rest[number.len()..];
        let unit = &rest[..rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len())];
        rest = &rest[unit.len()..];
        if unit.is_empty() && !number.is_empty() {
            return Err(format!("{text:?} has no unit; write {number}s or {number}ms"));
        }
        let scale = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?.1;
        nanos += scaled(number, scale).ok_or_else(invalid)?;
        if nanos > i128::from(i64::MAX) {
            return Err(format!("{text:?} is too long, the limit is 292 years"));
        }
    }
    i64::try_from(sign * nanos).map_err(|_| invalid())
}

/// `number` has digits and dots only.
fn scaled(number: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
        return None;
    }
    let mut nanos = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()? * scale };
    // 18 digits are more than the 13 that a fraction of an hour can need.
    let fraction = &fraction[..fraction.len().min(18)];
    if !fraction.is_empty() {
        nanos += fraction.parse::<i128>().ok()? * scale / 10_i128.pow(fraction.len() as u32);
    }
    Some(nanos)
}

/// Writes a duration the way Go prints it: `1s`, `1m0s`, `720h0m0s`, `300ms`.
pub(crate) fn format(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    if size == 0 {
        return "0s".to_owned();
    }
    if size < 1_000_000_000 {
        let (scale, unit) = match size {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{unit}", decimal(size, scale));
    }
    let minutes = size / 60_000_000_000;
    let seconds = decimal(size % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

fn decimal(value: u64, scale: u64) -> String {
    let (whole, rest) = (value / scale, value % scale);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = scale.ilog10() as usize;
    format!("{whole}.{rest:0digits$}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("300ms", 300_000_000),
            ("1s", 1_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("-1s", -1_000_000_000),
            ("-1", -1),
            ("+2us", 2_000),
            ("2µs", 2_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
        ] {
            assert_eq!(parse(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn a_number_without_unit_is_refused() {
        assert_eq!(parse("10").unwrap_err(), "\"10\" has no unit; write 10s or 10ms");
        for text in ["", "s", "-", "1x", "1d", "1s2", ".", "1..5s", "1 s", "-2", "300000h1h1h9999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn writes_what_go_writes() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (-1, "-1ns"),
            (1_500, "1.5µs"),
            (300_000_000, "300ms"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (2_592_000_000_000_000, "720h0m0s"),
            (-5_400_000_000_000, "-1h30m0s"),
        ] {
            assert_eq!(format(nanos), text);
            assert_eq!(parse(text), Ok(nanos), "{text}");
        }
    }
}
