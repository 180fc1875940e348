//! Conditions given with `--assert`: a metric of the record, an operator, a value with a unit.
//!
//! Parsed before the run, so that a typo does not cost ten minutes, and checked against the finished record. A metric
//! that was not measured fails its condition: silence is no proof.

use std::str::FromStr;

use gyre_tuning::count;
use serde::{Serialize, Serializer};

use crate::record::Record;
use crate::units;

/// `p99<50ms`.
#[derive(Debug, Clone, PartialEq)]
pub struct Assertion {
    text: String,
    metric: Metric,
    operator: Operator,
    /// In microseconds, bytes or pieces.
    limit: f64,
}

/// What became of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub holds: bool,
    /// The measured value, or why there is none.
    pub measured: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Metric {
    Latency { of: &'static str, quantile: &'static str },
    Plain(&'static Plain),
}

#[derive(Debug)]
struct Plain {
    name: &'static str,
    unit: Unit,
    measure: fn(&Record) -> Option<f64>,
    /// What the record lacks when there is no value.
    needs: &'static str,
}

impl PartialEq for Plain {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Time,
    Count,
    Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
}

const LATENCIES: [&str; 5] = ["delivery", "connect", "publish", "recovery", "lag"];
const QUANTILES: [&str; 5] = ["p50", "p90", "p99", "p999", "max"];

const fn total(name: &'static str, measure: fn(&Record) -> Option<f64>) -> Plain {
    Plain { name, unit: Unit::Count, measure, needs: "" }
}

const fn server(name: &'static str, unit: Unit, measure: fn(&Record) -> Option<f64>) -> Plain {
    Plain { name, unit, measure, needs: "needs --server-pid and something to divide by" }
}

static PLAIN: [Plain; 17] = [
    total("lost", |record| Some(record.totals.lost as f64)),
    total("duplicated", |record| Some(record.totals.duplicated as f64)),
    total("disordered", |record| Some(record.totals.disordered as f64)),
    total("errors", |record| Some(record.totals.errors_total() as f64)),
    total("closed", |record| Some(record.totals.closed as f64)),
    total("connect_failed", |record| Some(record.totals.connect_failed as f64)),
    total("publish_failed", |record| Some(record.totals.publish_failed as f64)),
    total("connected", |record| record.seconds.iter().map(|second| second.open as f64).reduce(f64::max)),
    total("published", |record| Some(record.totals.published as f64)),
    total("delivered", |record| Some(record.totals.delivered as f64)),
    total("pings", |record| record.measured.pings_min.map(f64::from)),
    total("rate", |record| record.measured.delivery_rate()),
    total("publish_rate", |record| record.measured.publish_rate()),
    server("rss_per_connection", Unit::Bytes, |record| record.measured.rss_per_connection),
    server("cpu_per_connection", Unit::Time, |record| record.measured.cpu_us_per_connect()),
    server("cpu_per_delivery", Unit::Time, |record| record.measured.cpu_us_per_delivery()),
    server("cpu_per_connection_s", Unit::Time, |record| record.measured.cpu_us_per_connection_second()),
];

impl Assertion {
    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the condition holds for a run.
    #[must_use]
    pub fn check(&self, record: &Record) -> Outcome {
        let Some(measured) = self.metric.measure(record) else {
            return Outcome { holds: false, measured: format!("not measured{}", self.metric.needs()) };
        };
        let holds = match self.operator {
            Operator::Less => measured < self.limit,
            Operator::LessOrEqual => measured <= self.limit,
            Operator::Greater => measured > self.limit,
            Operator::GreaterOrEqual => measured >= self.limit,
            Operator::Equal => (measured - self.limit).abs() < 1e-9,
        };
        Outcome { holds, measured: self.metric.unit().write(measured) }
    }
}

impl Metric {
    fn parse(name: &str) -> Result<Self, String> {
        if let Some(plain) = PLAIN.iter().find(|plain| plain.name == name) {
            return Ok(Self::Plain(plain));
        }
        let (of, quantile) = name.split_once('.').unwrap_or(("delivery", name));
        let of = LATENCIES.into_iter().find(|known| *known == of);
        let quantile = QUANTILES.into_iter().find(|known| *known == quantile);
        match (of, quantile) {
            (Some(of), Some(quantile)) => Ok(Self::Latency { of, quantile }),
            _ => Err(format!("unknown metric `{name}`; known are {}", known())),
        }
    }

    fn unit(&self) -> Unit {
        match self {
            Self::Latency { .. } => Unit::Time,
            Self::Plain(plain) => plain.unit,
        }
    }

    fn measure(&self, record: &Record) -> Option<f64> {
        match self {
            Self::Plain(plain) => (plain.measure)(record),
            Self::Latency { of, quantile } => {
                let latency = record.latencies.get(*of).filter(|latency| latency.count > 0)?;
                let value = match *quantile {
                    "p50" => latency.p50,
                    "p90" => latency.p90,
                    "p99" => latency.p99,
                    "p999" => latency.p999,
                    _ => latency.max,
                };
                Some(value as f64)
            }
        }
    }

    fn needs(&self) -> String {
        match self {
            Self::Plain(plain) if !plain.needs.is_empty() => format!("; {}", plain.needs),
            _ => String::new(),
        }
    }
}

fn known() -> String {
    let latencies = LATENCIES[1..].iter().map(|of| format!("{of}.p50 ... {of}.max"));
    let plain = PLAIN.iter().map(|plain| plain.name.to_owned());
    let all: Vec<String> = QUANTILES.iter().map(|q| (*q).to_owned()).chain(latencies).chain(plain).collect();
    all.join(", ")
}

impl Unit {
    fn parse(self, text: &str) -> Result<f64, String> {
        let number_end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, suffix) = (text[..number_end].trim(), text[number_end..].trim());
        let factor = match (self, suffix) {
            (Self::Time, "us") => 1.0,
            (Self::Time, "ms") => 1e3,
            (Self::Time, "s") => 1e6,
            (Self::Time, _) => return Err(format!("`{text}` is no time; write 500us, 50ms or 1.5s")),
            (Self::Bytes, "" | "B") => 1.0,
            (Self::Bytes, "KiB") => 1024.0,
            (Self::Bytes, "MiB") => 1_048_576.0,
            (Self::Bytes, _) => return Err(format!("`{text}` is no number of bytes; write 600, 0.6KiB or 1MiB")),
            (Self::Count, "") => 1.0,
            (Self::Count, "k" | "m") => return count::parse(text).map(|count| count as f64),
            (Self::Count, _) => return Err(format!("`{text}` is no count; write 250, 20k or 1.5m")),
        };
        let value: f64 = number.parse().map_err(|_| format!("`{text}` is no number"))?;
        if value.is_finite() { Ok(value * factor) } else { Err(format!("`{text}` is no number")) }
    }

    fn write(self, value: f64) -> String {
        match self {
            Self::Time => units::time(value),
            Self::Bytes => units::bytes(value),
            Self::Count => units::trimmed(value, 1),
        }
    }
}

impl FromStr for Assertion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Longest first: `<=` begins with `<`.
        const OPERATORS: [(&str, Operator); 5] = [
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("==", Operator::Equal),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let found = OPERATORS.into_iter().find_map(|(sign, operator)| Some((text.split_once(sign)?, operator)));
        let ((name, value), operator) = found.ok_or("write a metric, one of < <= > >= ==, and a value: p99<50ms")?;
        let metric = Metric::parse(name.trim())?;
        let limit = metric.unit().parse(value.trim())?;
        Ok(Self { text: text.to_owned(), metric, operator, limit })
    }
}

impl Serialize for Assertion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{LatencySummary, Measured};

    fn record() -> Record {
        let p99 = |value| LatencySummary { count: 10, p99: value, ..LatencySummary::default() };
        let latencies = [("delivery".to_owned(), p99(48_300)), ("connect".to_owned(), p99(900))].into();
        let measured =
            Measured { seconds: 2.0, delivered: 3_000, rss_per_connection: Some(614.0), ..Measured::default() };
        Record { latencies, measured, ..Record::default() }
    }

    /// A continuous build relies on these: one that always passes would hide a regression.
    #[test]
    fn conditions_hold_or_not() {
        for (text, holds, measured) in [
            ("p99<50ms", true, "48.30 ms"),
            ("p99 < 0.0483s", false, "48.30 ms"),
            ("p99<=48.3ms", true, "48.30 ms"),
            ("connect.p99>=900us", true, "900 us"),
            ("lost==0", true, "0"),
            ("errors>0", false, "0"),
            ("rate>=1.5k", true, "1500"),
            ("rss_per_connection<0.6KiB", true, "614 B"),
            ("publish.p99<1s", false, "not measured"),
            ("cpu_per_delivery<1us", false, "not measured; needs --server-pid and something to divide by"),
        ] {
            let outcome = text.parse::<Assertion>().unwrap().check(&record());
            assert_eq!(outcome, Outcome { holds, measured: measured.to_owned() }, "{text}");
        }
    }

    /// A typo must be told before the run, with what would have been right.
    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("p98<1ms", "unknown metric `p98`; known are p50, p90"),
            ("tcp.p99<1ms", "unknown metric"),
            ("p99<50", "is no time"),
            ("p99", "one of <"),
            ("lost==zero", "is no count"),
            ("rate>infinity", "is no count"),
            ("rss_per_connection<1kb", "is no number of bytes"),
        ] {
            let error = text.parse::<Assertion>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
