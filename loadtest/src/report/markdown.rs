//! `report.md`: machine, commands, a table of results, the charts, the summaries.
//!
//! A pure function of the records.

use std::fmt::Write as _;

use crate::record::{Machine, Record};
use crate::summary;
use crate::units::{bytes, grouped, short, time};

/// The text; `charts` are file names with titles.
pub(super) fn text(records: &[(String, Record)], charts: &[(&'static str, String)]) -> String {
    let mut text = String::from("# Load test\n\n");
    table(&mut text, records);
    for (file, title) in charts {
        _ = write!(text, "\n![{title}]({file})\n");
    }
    text.push_str("\n## How it was run\n\n");
    let mut machines: Vec<&Machine> = records.iter().map(|(_, record)| &record.machine).collect();
    machines.dedup();
    if machines.len() > 1 {
        text.push_str("The runs are from **different machines**.\n\n");
    }
    for (name, record) in records {
        let Machine { kernel, cpu, cpus, memory_bytes, nofile } = &record.machine;
        let commit = record.commit.as_ref().map_or_else(String::new, |commit| format!(", commit {commit}"));
        _ = write!(
            text,
            "**{name}**: {}, gyre-loadtest {}{commit}, on {cpus} CPUs ({cpu}), {}, kernel {kernel}, {} files per \
             process.\n\n```\ngyre-loadtest {}\n\n{}```\n\n",
            record.started,
            record.version,
            bytes(*memory_bytes as f64),
            grouped(*nofile),
            record.command.join(" "),
            summary::text(record)
        );
    }
    text.push_str(
        "Latency counts from the intended time of a publication, not from when it was sent: a server that stalls is \
         charged for every publication that was due meanwhile. Percentiles come from merged histograms.\n",
    );
    text
}

fn table(text: &mut String, records: &[(String, Record)]) {
    type Cell = fn(&Record) -> Option<String>;
    let rows: [(&str, Cell); 14] = [
        ("connections", |record| Some(grouped(record.measured.connected))),
        ("deliveries per second", |record| record.measured.delivery_rate().filter(|rate| *rate > 0.0).map(rate)),
        ("publications per second", |record| record.measured.publish_rate().filter(|rate| *rate > 0.0).map(rate)),
        ("delivery p50", |record| latency(record, "delivery", 0.5)),
        ("delivery p99", |record| latency(record, "delivery", 0.99)),
        ("delivery p99.9", |record| latency(record, "delivery", 0.999)),
        ("delivery max", |record| latency(record, "delivery", 1.0)),
        ("publish p99", |record| latency(record, "publish", 0.99)),
        ("connect p99", |record| latency(record, "connect", 0.99)),
        ("server CPU per delivery", |record| record.measured.cpu_us_per_delivery().map(time)),
        ("server CPU per connect", |record| record.measured.cpu_us_per_connect().map(time)),
        ("server CPU per connection and second", |record| record.measured.cpu_us_per_connection_second().map(time)),
        ("server memory per connection", |record| record.measured.rss_per_connection.map(bytes)),
        ("verdict", |record| Some(summary::verdict(record))),
    ];
    let names: Vec<&str> = records.iter().map(|(name, _)| name.as_str()).collect();
    _ = write!(text, "| | {} |\n|---|{}\n", names.join(" | "), "---:|".repeat(names.len()));
    for (name, cell) in rows {
        let cells: Vec<Option<String>> = records.iter().map(|(_, record)| cell(record)).collect();
        if cells.iter().any(Option::is_some) {
            let cells: Vec<String> = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned())).collect();
            _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
        }
    }
}

fn latency(record: &Record, of: &str, quantile: f64) -> Option<String> {
    record.histogram(of).map(|histogram| time(histogram.value_at_quantile(quantile) as f64))
}

fn rate(rate: f64) -> String {
    short(rate.round() as u64)
}
