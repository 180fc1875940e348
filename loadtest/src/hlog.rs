//! The HDR histogram log: the text format of the HdrHistogram tools, one line per interval and kind of latency.
//!
//! Deliveries have no tag, because the standard tools read lines without a tag unless told otherwise; the others are
//! tagged with their names. Values are microseconds, the column of maxima is milliseconds. Written by the watch thread
//! as the run goes on, because the histograms of ten minutes would fill more memory than the clients.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriter, IntervalLogWriterBuilder, Tag};

/// A log that has its head.
pub type Log<'a, W> = IntervalLogWriter<'a, 'a, W, V2DeflateSerializer>;

/// Writes the head of a log.
pub fn begin<'a, W: Write>(
    sink: &'a mut W,
    serializer: &'a mut V2DeflateSerializer,
    started: SystemTime,
) -> io::Result<Log<'a, W>> {
    IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(
            "gyre-loadtest: values in microseconds, maxima in milliseconds; lines without a tag are deliveries",
        )
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(1_000.0)
        .begin_log_with(sink, serializer)
}

/// Writes one interval; `start` counts from the start of the run.
pub fn append<W: Write>(
    log: &mut Log<'_, W>,
    name: &'static str,
    start: Duration,
    length: Duration,
    samples: &Histogram<u64>,
) -> io::Result<()> {
    let tag = if name == "delivery" { None } else { Tag::new(name) };
    log.write_histogram(samples, start, length, tag).map_err(|error| io::Error::other(format!("{error:?}")))
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::live::histogram;

    /// What a standard reader makes of the log must be what was measured.
    #[test]
    fn round_trip() {
        let mut samples = histogram();
        for value in [100, 2_000, 2_000, 90_000] {
            samples.saturating_record(value);
        }
        let (start, length) = (Duration::from_millis(1_500), Duration::from_secs(1));
        let (mut text, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let mut log = begin(&mut text, &mut serializer, started).unwrap();
        for name in ["delivery", "connect"] {
            append(&mut log, name, start, length, &samples).unwrap();
        }
        assert!(text.starts_with(b"#[Histogram log format version 1.3]\n"), "{}", String::from_utf8_lossy(&text));
        let entries: Vec<LogEntry<'_>> = IntervalLogIterator::new(&text).map(|entry| entry.unwrap()).collect();
        let intervals: Vec<_> = entries
            .iter()
            .filter_map(|entry| if let LogEntry::Interval(interval) = entry { Some(interval) } else { None })
            .collect();
        assert_eq!(intervals.len(), 2);
        for (interval, tag) in intervals.iter().zip([None, Some("connect")]) {
            assert_eq!(interval.tag().map(|tag| tag.as_str().to_owned()), tag.map(str::to_owned));
            assert_eq!((interval.start_timestamp(), interval.duration()), (start, length));
            assert!((interval.max() - 90.0).abs() < 0.1, "{}", interval.max());
            let blob = BASE64_STANDARD.decode(interval.encoded_histogram()).unwrap();
            let read: Histogram<u64> = Deserializer::new().deserialize(&mut blob.as_slice()).unwrap();
            assert_eq!(read, samples);
        }
    }
}
