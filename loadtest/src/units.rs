//! Numbers as people read them: one way to write counts, times and bytes for the screen, the summary and the report.
//!
//! Pure functions.

pub use gyre_tuning::count::{grouped, of};

/// A count in few characters: `9,500`, `28.2k`, `200k`, `1.016m`.
#[must_use]
pub fn short(value: u64) -> String {
    match value {
        0..=9_999 => grouped(value),
        10_000..=999_949 => format!("{}k", trimmed(value as f64 / 1e3, 1)),
        _ => format!("{:.3}m", value as f64 / 1e6),
    }
}

/// A time given in microseconds: `870 us`, `12.3 ms`, `4.56 s`.
#[must_use]
pub fn time(us: f64) -> String {
    match us {
        us if us < 10.0 => format!("{} us", trimmed(us, 2)),
        us if us < 1_000.0 => format!("{} us", trimmed(us, 1)),
        us if us < 100_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 1_000_000.0 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// Bytes: `512 B`, `3.8 KiB`, `1.21 GiB`.
#[must_use]
pub fn bytes(value: f64) -> String {
    match value.abs() {
        size if size < 1024.0 => format!("{} B", trimmed(value, 0)),
        size if size < 1_048_576.0 => format!("{:.2} KiB", value / 1024.0),
        size if size < 1_073_741_824.0 => format!("{:.1} MiB", value / 1_048_576.0),
        _ => format!("{:.2} GiB", value / 1_073_741_824.0),
    }
}

/// Whole seconds: `42 s`, `3m20s`, `1h05m`.
#[must_use]
pub fn clock(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=3_599 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
    }
}

/// At most so many digits behind the point, without zeros at the end.
#[must_use]
pub fn trimmed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything an operator reads goes through here.
    #[test]
    fn numbers() {
        assert_eq!([short(9_500), short(28_232), short(200_000)], ["9,500", "28.2k", "200k"]);
        assert_eq!([short(28_232 * 36), short(999_950)], ["1.016m", "1.000m"]);
        assert_eq!(
            [time(1.25), time(870.0), time(12_345.0), time(4.56e6)],
            ["1.25 us", "870 us", "12.35 ms", "4.56 s"]
        );
        assert_eq!([bytes(512.0), bytes(3_891.0), bytes(1.3e9)], ["512 B", "3.80 KiB", "1.21 GiB"]);
        assert_eq!([clock(42), clock(200), clock(3_900)], ["42 s", "3m20s", "1h05m"]);
    }
}
