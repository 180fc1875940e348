//! What a person reads at the end of a run: some aligned lines, the verdict in the last one.
//!
//! A pure function of the record, so `report` prints the same for an old file.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::{Context as _, Result};

use crate::codes::explained;
use crate::live::Counts;
use crate::record::Record;
use crate::units::{bytes, clock, grouped, of, short, time};

/// The summary, with a line feed at its end.
#[must_use]
pub fn text(record: &Record) -> String {
    let mut text = String::new();
    let measured = &record.measured;
    let mut row = |name: &str, value: String| _ = writeln!(text, "  {name:<12} {value}");
    if record.measured.connected + record.totals.connect_failed > 0 {
        row("connections", connections(record));
    }
    let Counts { published, publish_failed, not_made, .. } = record.totals;
    if published + publish_failed + not_made > 0 {
        let mut text = grouped(published);
        for (count, what) in [(publish_failed, "failed"), (not_made, "not made")] {
            if count > 0 {
                _ = write!(text, ", {} {what}", grouped(count));
            }
        }
        row("published", text + &rate_of(measured.publish_rate()));
    }
    if record.totals.expected + record.totals.delivered > 0 {
        let totals = &record.totals;
        let rate = rate_of(measured.delivery_rate());
        row("delivered", format!("{} of {}{rate}", grouped(totals.delivered), grouped(totals.expected)));
        row(
            "checked",
            format!("lost {}, duplicated {}, disordered {}", totals.lost, totals.duplicated, totals.disordered),
        );
    }
    for (name, latency) in ["delivery", "publish", "recovery", "connect"].into_iter().filter_map(|name| {
        record.latencies.get(name).filter(|latency| latency.count > 0).map(|latency| (name, latency))
    }) {
        let cells = [("p50", latency.p50), ("p99", latency.p99), ("p99.9", latency.p999), ("max", latency.max)];
        let cells = cells.map(|(quantile, us)| format!("{quantile} {:>9}", time(us as f64)));
        row(name, cells.join("   "));
    }
    if let Some(server) = server(record) {
        row("server", server);
    }
    row("generator", generator(record));
    for (error, count) in &record.totals.errors {
        row("error", format!("{} x {}", explained(error), grouped(*count)));
    }
    for note in &record.notes {
        row("note", note.clone());
    }
    for (condition, holds, measured) in &record.verdict.assertions {
        let verdict = if *holds { "holds" } else { "FAILED" };
        let is = if measured.starts_with("not measured") { "" } else { "measured " };
        row("assert", format!("{condition}: {verdict}, {is}{measured}"));
    }
    for violation in &record.verdict.violations {
        // Those of older records are bare.
        row("violation", explained(violation));
    }
    if record.verdict.generator_saturated {
        row("warning", "generator saturated: latencies include its own lag; lower the rate or add --cores".to_owned());
    }
    text + &verdict(record) + "\n"
}

/// Prints what a command has to say. A reader that went away wants no more of it; another failure is told.
///
/// # Errors
/// The output cannot be written.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("cannot print the result"),
        _ => Ok(()),
    }
}

/// The last line.
#[must_use]
pub fn verdict(record: &Record) -> String {
    let verdict = &record.verdict;
    let failed = verdict.assertions.iter().filter(|(_, holds, _)| !holds).count();
    let counts = [(verdict.violations.len(), "violation"), (failed, "failed assertion")];
    let reasons: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| of(*count as u64, what)).collect();
    let doubt = if verdict.generator_saturated { " (generator saturated)" } else { "" };
    if reasons.is_empty() { format!("PASS{doubt}") } else { format!("FAIL: {}{doubt}", reasons.join(", ")) }
}

/// Nothing where the measured part had none: the broadcast of `idle` comes after it.
fn rate_of(rate: Option<f64>) -> String {
    rate.filter(|rate| *rate > 0.0).map_or_else(String::new, |rate| format!(", {}/s", rounded(rate)))
}

fn connections(record: &Record) -> String {
    let totals = &record.totals;
    let phase = record.phases.iter().find(|phase| phase.name == "connect");
    let mut text = format!("{} open at most", grouped(record.measured.connected));
    if let Some(phase) = phase {
        let ms = phase.end_ms.saturating_sub(phase.start_ms);
        let took = if ms < 120_000 { format!("{:.1} s", ms as f64 / 1e3) } else { clock(ms / 1_000) };
        _ = write!(text, ", connected in {took}");
    }
    for (name, count) in [("failed", totals.connect_failed), ("ended by the server", totals.closed)] {
        if count > 0 {
            _ = write!(text, ", {} {name}", grouped(count));
        }
    }
    if totals.pings > 0 {
        _ = write!(text, ", {} pings answered", grouped(totals.pings));
    }
    text
}

fn server(record: &Record) -> Option<String> {
    let measured = &record.measured;
    let peak = record.memory.iter().filter_map(|point| point.server_rss_bytes).max()?;
    let mut parts = vec![format!("memory at most {}", bytes(peak as f64))];
    parts.extend(measured.rss_per_connection.map(|size| format!("{} per connection", bytes(size))));
    let share = measured.server_cpu_us.filter(|_| measured.seconds > 0.0);
    parts.extend(share.map(|us| format!("CPU {:.1} %", us as f64 / 1e4 / measured.seconds)));
    parts.extend(measured.cpu_us_per_connect().map(|us| format!("{} per connect", time(us))));
    let per_delivery = measured.cpu_us_per_delivery().map(|us| format!("{} per delivery", time(us)));
    let per_publication = || measured.cpu_us_per_publication().map(|us| format!("{} per publication", time(us)));
    let per_second =
        || measured.cpu_us_per_connection_second().map(|us| format!("{} per connection and second", time(us)));
    parts.extend(per_delivery.or_else(per_publication).or_else(per_second));
    Some(parts.join(", "))
}

fn generator(record: &Record) -> String {
    let mut text = of(record.generator_cores as u64, "core");
    let mut busiest = 0.0_f64;
    for pair in record.seconds.windows(2) {
        let (us, ms) =
            (pair[1].generator_cpu_us.saturating_sub(pair[0].generator_cpu_us), pair[1].at_ms - pair[0].at_ms);
        // Shorter lines are those at the end of a phase: too short for a share.
        if ms >= 500 {
            busiest = busiest.max(us as f64 / 10.0 / ms as f64);
        }
    }
    if busiest > 0.0 {
        _ = write!(text, ", CPU {busiest:.0} % in its busiest second");
    }
    if let Some(lag) = record.latencies.get("lag").filter(|lag| lag.count > 0) {
        _ = write!(text, ", behind its schedule p99 {}, max {}", time(lag.p99 as f64), time(lag.max as f64));
    }
    let rss = record.memory.iter().map(|point| point.generator_rss_bytes).max().unwrap_or(0);
    if rss > 0 {
        _ = write!(text, ", memory {}", bytes(rss as f64));
    }
    text
}

fn rounded(rate: f64) -> String {
    if rate < 100.0 { crate::units::trimmed(rate, 1) } else { short(rate.round() as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{LatencySummary, Measured, MemoryPoint, Verdict};

    /// The last line is what a person and a script look at first; it must say why a run failed.
    #[test]
    fn verdicts() {
        let mut record = Record::default();
        assert_eq!(verdict(&record), "PASS");
        record.verdict.assertions.push(("p99<50ms".to_owned(), false, "61 ms".to_owned()));
        assert_eq!(verdict(&record), "FAIL: 1 failed assertion");
        record.verdict.violations = vec!["lost 1".to_owned(), "closed 2".to_owned()];
        record.verdict.generator_saturated = true;
        assert_eq!(verdict(&record), "FAIL: 2 violations, 1 failed assertion (generator saturated)");
    }

    /// A code alone sends people to the documentation; a wrong word beside it would mislead them.
    #[test]
    fn codes_are_explained() {
        let mut record = Record::default();
        for name in ["publish: disconnect 3500", "subscribe: error 103", "upgrade: http 103", "unsubscribed 102"] {
            record.totals.errors.insert(name.into(), 2);
        }
        record.verdict.assertions = vec![("publish.p99<1s".into(), false, "not measured".into())];
        let text = text(&record);
        for line in [
            "disconnect 3500 (invalid token) x 2\n",
            "error 103 (permission denied) x 2\n",
            "http 103 x 2\n",
            "unsubscribed 102 x 2\n",
            "publish.p99<1s: FAILED, not measured\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    /// Everything that was measured of the server must be told, in the units people compare.
    #[test]
    fn server_costs() {
        let measured = Measured {
            seconds: 10.0,
            delivered: 1_000_000,
            published: 1_000,
            server_cpu_us: Some(1_250_000),
            connect_cpu_us: Some(40_000),
            connected: 1_000,
            rss_per_connection: Some(614.0),
            pings_min: None,
        };
        let memory = vec![MemoryPoint { server_rss_bytes: Some(40 << 20), ..MemoryPoint::default() }];
        let delivery =
            LatencySummary { count: 5, p50: 1_200, p99: 3_400, p999: 8_100, max: 12_000, ..LatencySummary::default() };
        let record = Record {
            measured,
            memory,
            generator_cores: 1,
            totals: Counts { published: 1_000, expected: 1_000_000, delivered: 1_000_000, ..Counts::default() },
            latencies: [("delivery".to_owned(), delivery)].into(),
            verdict: Verdict { assertions: vec![("p99<50ms".into(), true, "3.40 ms".into())], ..Verdict::default() },
            ..Record::default()
        };
        assert_eq!(
            text(&record),
            "  connections  1,000 open at most\n\
            \x20 published    1,000, 100/s\n\
            \x20 delivered    1,000,000 of 1,000,000, 100k/s\n\
            \x20 checked      lost 0, duplicated 0, disordered 0\n\
            \x20 delivery     p50   1.20 ms   p99   3.40 ms   p99.9   8.10 ms   max  12.00 ms\n\
            \x20 server       memory at most 40.0 MiB, 614 B per connection, CPU 12.5 %, 40 us per connect, 1.25 us per delivery\n\
            \x20 generator    1 core\n\
            \x20 assert       p99<50ms: holds, measured 3.40 ms\n\
            PASS\n"
        );
    }
}
