//! Which charts a report has and which numbers of the records they show.
//!
//! A chart without a single point is left out: an idle run has no deliveries, a server elsewhere no memory. Pure.

use super::chart::{Axis, Chart, Scale, Series};
use crate::record::{Record, Second};

/// Points of a percentile curve per factor of ten.
const POINTS_PER_NINE: u32 = 20;

/// File names with their charts.
pub(super) fn all(records: &[(String, Record)]) -> Vec<(&'static str, Chart)> {
    let percentiles = ["delivery", "publish", "recovery", "connect"].map(by_percentile_of);
    let charts = percentiles.map(|(file, of)| (file, by_percentile(records, of)));
    let others = [
        ("latency-over-time.svg", latency_over_time(records)),
        ("throughput.svg", throughput(records)),
        ("connections.svg", connections(records)),
        ("memory-per-connection.svg", memory(records)),
        ("server-cpu.svg", server_cpu(records)),
    ];
    let drawable = |chart: &Chart| chart.series.iter().any(|series| series.points.len() > 1);
    charts.into_iter().chain(others).filter(|(_, chart)| drawable(chart)).collect()
}

fn by_percentile_of(of: &'static str) -> (&'static str, &'static str) {
    let file = match of {
        "delivery" => "delivery-by-percentile.svg",
        "publish" => "publish-by-percentile.svg",
        "recovery" => "recovery-by-percentile.svg",
        _ => "connect-by-percentile.svg",
    };
    (file, of)
}

fn by_percentile(records: &[(String, Record)], of: &'static str) -> Chart {
    let curve = |record: &Record| {
        let Some(samples) = record.histogram(of) else { return Vec::new() };
        // Beyond the last sample there is nothing to tell apart.
        let end = (samples.len() as f64).log10().min(7.0);
        let steps = (end * f64::from(POINTS_PER_NINE)) as u32;
        let quantiles = (0..=steps).map(|step| 1.0 - 10_f64.powf(-f64::from(step) / f64::from(POINTS_PER_NINE)));
        quantiles.map(|quantile| (quantile, samples.value_at_quantile(quantile).max(1) as f64)).collect()
    };
    Chart {
        title: format!("{} latency by percentile", capital(of)),
        x: Axis::new("percentile", Scale::Nines, 1.0),
        y: Axis::new("latency, ms", Scale::Log, 1e-3),
        series: each(records, curve),
    }
}

fn latency_over_time(records: &[(String, Record)]) -> Chart {
    let points = |record: &Record, of: fn(&Second) -> u64| -> Vec<(f64, f64)> {
        let loaded = record.seconds.iter().filter(|second| second.max_us > 0);
        loaded.map(|second| (second.at_ms as f64, of(second) as f64)).collect()
    };
    let series = match records {
        [(_, record)] => [
            ("p50", (|second| second.p50_us) as fn(&Second) -> u64),
            ("p99", |second| second.p99_us),
            ("p99.9", |second| second.p999_us),
            ("max", |second| second.max_us),
        ]
        .map(|(name, of)| Series { name: name.to_owned(), points: points(record, of) })
        .into(),
        _ => each(records, |record| points(record, |second| second.p99_us)),
    };
    let title = if records.len() == 1 { "Delivery latency over time" } else { "Delivery latency over time, p99" };
    Chart { title: title.to_owned(), x: seconds(), y: Axis::new("latency, ms", Scale::Log, 1e-3), series }
}

fn throughput(records: &[(String, Record)]) -> Chart {
    let has_deliveries = records.iter().any(|(_, record)| record.totals.delivered > 0);
    let of: fn(&Second) -> u64 = if has_deliveries { |second| second.delivered } else { |second| second.published };
    let unit = if has_deliveries { "deliveries" } else { "publications" };
    Chart {
        title: format!("{} over time", capital(unit)),
        x: seconds(),
        y: Axis::new(&format!("{unit} per second"), Scale::Linear, 1.0),
        series: each(records, |record| if peak(record, of) == 0 { Vec::new() } else { rates(record, of, 1e3) }),
    }
}

fn connections(records: &[(String, Record)]) -> Chart {
    let points = |record: &Record| {
        if peak(record, |second| second.open) == 0 {
            return Vec::new();
        }
        record.seconds.iter().map(|second| (second.at_ms as f64, second.open as f64)).collect()
    };
    Chart {
        title: "Open connections".to_owned(),
        x: seconds(),
        y: Axis::new("connections", Scale::Linear, 1.0),
        series: each(records, points),
    }
}

/// Growth since the first line, which was taken without a connection, divided by the connections. While few are open
/// the buffers that a node makes once would hide what one connection costs.
fn memory(records: &[(String, Record)]) -> Chart {
    let server = |record: &Record| {
        let most = record.memory.iter().map(|point| point.connections).max().unwrap_or(0);
        let Some(without) = record.memory.first().and_then(|point| point.server_rss_bytes) else { return Vec::new() };
        let rising = record.memory.iter().take_while(|point| point.connections < most).count();
        let points = record.memory.iter().take(rising + 1).filter(|point| point.connections * 50 >= most.max(1));
        let per_connection = points.filter_map(|point| {
            let growth = point.server_rss_bytes?.saturating_sub(without) as f64;
            Some((point.connections as f64, growth / point.connections as f64))
        });
        per_connection.collect()
    };
    Chart {
        title: "Memory of the server per connection, user space".to_owned(),
        x: Axis::new("connections", Scale::Linear, 1.0),
        y: Axis::new("bytes per connection", Scale::Linear, 1.0),
        series: each(records, server),
    }
}

fn server_cpu(records: &[(String, Record)]) -> Chart {
    let points = |record: &Record| {
        if record.seconds.iter().any(|second| second.server_cpu_us.is_none()) {
            return Vec::new();
        }
        // Microseconds per millisecond are thousandths of a CPU.
        rates(record, |second| second.server_cpu_us.unwrap_or(0), 0.1)
    };
    Chart {
        title: "CPU of the server".to_owned(),
        x: seconds(),
        y: Axis::new("% of one CPU", Scale::Linear, 1.0),
        series: each(records, points),
    }
}

/// Growth of a total per millisecond, times a factor. Lines shorter than half a second are joined with the next one.
fn rates(record: &Record, of: fn(&Second) -> u64, factor: f64) -> Vec<(f64, f64)> {
    let Some(mut before) = record.seconds.first() else { return Vec::new() };
    let mut points = Vec::new();
    for second in &record.seconds[1..] {
        let ms = second.at_ms.saturating_sub(before.at_ms);
        if ms >= 500 {
            points.push((second.at_ms as f64, of(second).saturating_sub(of(before)) as f64 / ms as f64 * factor));
            before = second;
        }
    }
    points
}

fn peak(record: &Record, of: fn(&Second) -> u64) -> u64 {
    record.seconds.iter().map(of).max().unwrap_or(0)
}

fn each(records: &[(String, Record)], points: impl Fn(&Record) -> Vec<(f64, f64)>) -> Vec<Series> {
    let series = records.iter().map(|(name, record)| Series { name: name.clone(), points: points(record) });
    series.filter(|series| !series.points.is_empty()).collect()
}

fn seconds() -> Axis {
    Axis::new("seconds since the start", Scale::Linear, 1e-3)
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::MemoryPoint;

    /// The memory chart is what servers are chosen by: neither the start-up nor the time after may distort it.
    #[test]
    fn memory_rises_with_connections() {
        let point =
            |connections, rss| MemoryPoint { connections, server_rss_bytes: Some(rss), ..MemoryPoint::default() };
        let memory =
            vec![point(0, 1_000), point(1, 9_000), point(500, 301_000), point(1_000, 601_000), point(0, 5_000)];
        let records = [("a".to_owned(), Record { memory, ..Record::default() })];
        assert_eq!(self::memory(&records).series[0].points, [(500.0, 600.0), (1_000.0, 600.0)]);
    }

    /// A short line at the end of a phase must not show as a spike.
    #[test]
    fn short_lines_are_joined() {
        let line = |at_ms, delivered| Second { at_ms, delivered, ..Second::default() };
        let seconds = vec![line(0, 0), line(1_000, 100), line(1_001, 150), line(2_000, 200)];
        let record = Record { seconds, ..Record::default() };
        assert_eq!(rates(&record, |second| second.delivered, 1e3), [(1_000.0, 100.0), (2_000.0, 100.0)]);
    }
}
