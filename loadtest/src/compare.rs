//! Two sides, each one record or several repetitions, side by side with ratios and their spread.
//!
//! Percentiles of repetitions are taken from their merged histograms, never averaged; other numbers are medians. What
//! makes a comparison worthless is said above the table: other machines, other options, a run that failed. Pure but
//! for reading the files.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::record::{Measured, Record};
use crate::units::{bytes, short, time, trimmed};

/// Compares record files; returns the table.
pub fn files(before: &[PathBuf], after: &[PathBuf]) -> Result<String> {
    let read = |paths: &[PathBuf]| paths.iter().map(|path| Record::read(path)).collect::<Result<Vec<_>>>();
    let name = |paths: &[PathBuf]| match paths {
        [one] => one.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
        several => format!("{} ({} runs)", several[0].file_stem().unwrap_or_default().display(), several.len()),
    };
    Ok(table((&name(before), &read(before)?), (&name(after), &read(after)?)))
}

/// The table of two named sides.
#[must_use]
pub fn table(before: (&str, &[Record]), after: (&str, &[Record])) -> String {
    let mut text = String::new();
    for warning in warnings(before, after) {
        _ = writeln!(text, "warning: {warning}");
    }
    let mut rows = vec![["".to_owned(), before.0.to_owned(), after.0.to_owned(), "ratio".to_owned()]];
    for name in ["delivery", "publish", "recovery", "connect"] {
        for (label, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            let sides = [before.1, after.1].map(|records| Value::of_latency(records, name, quantile));
            rows.extend(row(format!("{name} {label}"), sides, time));
        }
    }
    type Measure = fn(&Measured) -> Option<f64>;
    type Write = fn(f64) -> String;
    let plain: [(&str, Measure, Write); 7] = [
        ("deliveries per second", |m| m.delivery_rate().filter(|rate| *rate > 0.0), |rate| short(rate as u64)),
        ("publications per second", |m| m.publish_rate().filter(|rate| *rate > 0.0), |rate| short(rate as u64)),
        ("server CPU per delivery", Measured::cpu_us_per_delivery, time),
        ("server CPU per publication", Measured::cpu_us_per_publication, time),
        ("server CPU per connect", Measured::cpu_us_per_connect, time),
        ("server CPU per connection and s", Measured::cpu_us_per_connection_second, time),
        ("server memory per connection", |m| m.rss_per_connection, bytes),
    ];
    for (name, measure, write) in plain {
        let sides = [before.1, after.1].map(|records| Value::of_plain(records, measure));
        rows.extend(row(name.to_owned(), sides, write));
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    for [name, before, after, ratio] in &rows {
        let line = format!("{name:<0$}  {before:>1$}  {after:>2$}  {ratio}", widths[0], widths[1], widths[2]);
        _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// One number of a side: of all repetitions together, and of each.
struct Value {
    together: f64,
    each: Vec<f64>,
}

impl Value {
    fn of_latency(records: &[Record], name: &str, quantile: f64) -> Option<Self> {
        let samples: Vec<Histogram<u64>> = records.iter().filter_map(|record| record.histogram(name)).collect();
        let mut merged = samples.first()?.clone();
        for more in &samples[1..] {
            // Cannot fail where all are ours; others with wider bounds are made to fit by counting at the bound.
            if merged.add(more).is_err() {
                more.iter_recorded()
                    .for_each(|value| merged.saturating_record_n(value.value_iterated_to(), value.count_at_value()));
            }
        }
        let at = |samples: &Histogram<u64>| samples.value_at_quantile(quantile) as f64;
        Some(Self { together: at(&merged), each: samples.iter().map(at).collect() })
    }

    fn of_plain(records: &[Record], measure: fn(&Measured) -> Option<f64>) -> Option<Self> {
        let each: Vec<f64> = records.iter().filter_map(|record| measure(&record.measured)).collect();
        let mut sorted = each.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let together = match sorted.len() {
            0 => return None,
            odd if odd % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Some(Self { together, each })
    }

    fn write(&self, write: fn(f64) -> String) -> String {
        match spread(&self.each) {
            Some((low, high)) => format!("{} ({} .. {})", write(self.together), write(low), write(high)),
            None => write(self.together),
        }
    }
}

fn row(name: String, sides: [Option<Value>; 2], write: fn(f64) -> String) -> Option<[String; 4]> {
    let [before, after] = sides;
    let ratio = before.as_ref().zip(after.as_ref()).filter(|(before, _)| before.together > 0.0);
    let ratio = ratio.map_or_else(String::new, |(before, after)| {
        let mut text = format!("{:.2}", after.together / before.together);
        // Repetitions are pairs where they were taken in turn; otherwise all against all.
        let is_paired = before.each.len() == after.each.len();
        let ratios: Vec<f64> = match is_paired {
            true => before.each.iter().zip(&after.each).map(|(before, after)| after / before).collect(),
            false => before.each.iter().flat_map(|before| after.each.iter().map(move |after| after / before)).collect(),
        };
        if let Some((low, high)) = spread(&ratios) {
            _ = write!(text, " ({low:.2} .. {high:.2})");
        }
        text
    });
    let shown = |side: &Option<Value>| side.as_ref().map_or_else(|| "-".to_owned(), |value| value.write(write));
    (before.is_some() || after.is_some()).then(|| [name, shown(&before), shown(&after), ratio])
}

/// Smallest and largest of several.
fn spread(values: &[f64]) -> Option<(f64, f64)> {
    let low = values.iter().copied().reduce(f64::min)?;
    let high = values.iter().copied().reduce(f64::max)?;
    (values.len() > 1).then_some((low, high))
}

fn warnings(before: (&str, &[Record]), after: (&str, &[Record])) -> Vec<String> {
    let mut warnings = Vec::new();
    let all = || before.1.iter().chain(after.1);
    let Some(first) = before.1.first() else { return warnings };
    for (is_other, what) in [
        (all().any(|record| record.machine != first.machine), "the machines differ: ratios tell about them too"),
        (all().any(|record| record.workload != first.workload), "the workloads differ"),
        (all().any(|record| record.options["workload"] != first.options["workload"]), "the workloads' options differ"),
        (
            all().any(|record| record.generator_cores != first.generator_cores),
            "the generator had other numbers of cores",
        ),
    ] {
        if is_other {
            warnings.push(what.to_owned());
        }
    }
    for (name, records) in [before, after] {
        let failed = records.iter().filter(|record| !record.verdict.violations.is_empty()).count();
        let saturated = records.iter().filter(|record| record.verdict.generator_saturated).count();
        let of = |count: usize| format!("{} of {} runs", trimmed(count as f64, 0), records.len());
        if failed > 0 {
            warnings.push(format!("{name}: {} had violations and counts for nothing", of(failed)));
        }
        if saturated > 0 {
            warnings
                .push(format!("{name}: in {} the generator was saturated, latencies include its lag", of(saturated)));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::histogram;
    use crate::record::LatencySummary;

    fn run(values: &[u64], rate: u64) -> Record {
        let mut samples = histogram();
        values.iter().for_each(|value| samples.saturating_record(*value));
        let measured = Measured { seconds: 1.0, delivered: rate, ..Measured::default() };
        Record {
            latencies: [("delivery".to_owned(), LatencySummary::of(&samples))].into(),
            measured,
            ..Record::default()
        }
    }

    /// An averaged percentile would hide the one bad run: 99 samples of 1 ms and one of 101 ms have no p99 of 51 ms.
    #[test]
    fn percentiles_are_merged() {
        let before = [run(&[1_000; 99], 100), run(&[101_000; 1], 300), run(&[1_000; 100], 200)];
        let merged = Value::of_latency(&before, "delivery", 0.99).unwrap();
        assert!((merged.together - 1_000.0).abs() < 2.0, "{}", merged.together);
        let table = table(("a", &before), ("b", &[run(&[2_000; 10], 100)]));
        let line = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(line("delivery p50").ends_with("2.00 (0.02 .. 2.00)"), "{table}");
        assert!(line("deliveries per second").contains("200 (100 .. 300)"), "{table}");
        assert!(line("deliveries per second").ends_with("0.50 (0.33 .. 1.00)"), "{table}");
    }

    /// A comparison across machines or with a failed run must not pass for one.
    #[test]
    fn doubts_are_told() {
        let good = run(&[1], 1);
        let mut other = good.clone();
        other.machine.cpus = 64;
        other.verdict.violations.push("lost 1".to_owned());
        other.verdict.generator_saturated = true;
        let table = table(("a", &[good]), ("b", &[other]));
        for part in ["machines differ", "b: 1 of 1 runs had violations", "generator was saturated"] {
            assert!(table.contains(part), "{table}");
        }
    }
}
