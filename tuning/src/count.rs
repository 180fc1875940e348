//! Numbers as people write and read them: `20k`, `1.5m`, `1,000,000`, `3.8 GiB`.

/// Reads `100000`, `100_000`, `100,000`, `20k`, `1.5m`, `2g`; the suffixes are powers of ten.
///
/// # Errors
/// A sentence for the operator.
pub fn parse(text: &str) -> Result<u64, String> {
    let invalid = || format!("{text:?} is not a number such as 5000, 20k or 1.5m");
    let plain: String = text.trim().chars().filter(|c| !matches!(c, '_' | ',')).collect();
    let (digits, factor) = match plain.char_indices().last() {
        Some((at, 'k' | 'K')) => (&plain[..at], 1_000),
        Some((at, 'm' | 'M')) => (&plain[..at], 1_000_000),
        Some((at, 'g' | 'G')) => (&plain[..at], 1_000_000_000),
        _ => (&*plain, 1_u64),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    // At most nine digits behind the point: the largest factor has nine zeros.
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
        return Err(invalid());
    }
    let parts = 10_u64.pow(fraction.len() as u32);
    if factor < parts {
        return Err(invalid());
    }
    let fraction: u64 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| invalid())? };
    let whole: u64 = whole.parse().map_err(|_| format!("{text} is too large"))?;
    let scaled = whole.checked_mul(factor).and_then(|scaled| scaled.checked_add(fraction * (factor / parts)));
    scaled.ok_or_else(|| format!("{text} is too large"))
}

/// `1,000,000`
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `512 KiB`, `3.8 GiB`
#[must_use]
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let (mut value, mut unit) = (number as f64 / 1024.0, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value >= 100.0 || (value - value.round()).abs() < 0.05 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// `1 core`, `2 cores`, `3 addresses`
#[must_use]
pub fn of(number: u64, noun: &str) -> String {
    let ending = match number {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {noun}{ending}", grouped(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `--connections 1m` must not be read as 1 or as a mebi.
    #[test]
    fn suffixes() {
        for (text, number) in
            [("0", 0), ("5000", 5000), ("20k", 20_000), ("1m", 1_000_000), ("1.5M", 1_500_000), ("1_000", 1000)]
        {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for text in ["", "k", "-1", "1.5", "1mm", "ten", "1.k.", "99999999999999999999", "99999999999999999g", "0.5"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    /// An operator compares these by eye.
    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1000, 28_232, 1_016_352].map(grouped), ["0", "999", "1,000", "28,232", "1,016,352"]);
        assert_eq!([512, 1024, 4_096_000_000].map(bytes), ["512 B", "1 KiB", "3.8 GiB"]);
        assert_eq!([of(1, "core"), of(2_000, "core"), of(0, "address")], ["1 core", "2,000 cores", "0 addresses"]);
    }
}
