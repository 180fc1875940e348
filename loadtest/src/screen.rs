//! What an operator sees while a run goes on: a few lines that are painted over on a terminal, one line per second
//! otherwise, nothing with `--quiet`.
//!
//! Writes to standard error, so that the summary on standard output can be kept by itself. Runs on the watch thread; a
//! terminal that is gone is no reason to end a run.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use crate::live::{Counts, Latencies};
use crate::sample::Sample;
use crate::units::{bytes, clock, grouped, short, time};

/// Where and how to show.
#[derive(Debug)]
pub enum Screen {
    /// A terminal: lines painted over.
    Painted {
        lines: usize,
        p99_us: VecDeque<u64>,
    },
    /// A pipe or a file: one line each time.
    Lines,
    Quiet,
}

/// One moment of a run.
#[derive(Debug)]
pub struct View<'a> {
    pub header: &'a str,
    pub phase: &'a str,
    pub at_ms: u64,
    /// Since the view before.
    pub seconds: f64,
    /// Connections to reach.
    pub goal: u64,
    pub counts: &'a Counts,
    pub before: &'a Counts,
    pub interval: &'a Latencies,
    /// Share of one CPU that each core of the generator uses.
    pub generator_cpu: &'a [f64],
    pub server: Option<Sample>,
    /// In CPUs.
    pub server_cpu: Option<f64>,
}

const SPARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const SPARKS_MAX: usize = 30;
const BAR: usize = 30;

impl Screen {
    /// Chooses by where standard error goes.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        match quiet {
            true => Self::Quiet,
            false if std::io::stderr().is_terminal() => Self::Painted { lines: 0, p99_us: VecDeque::new() },
            false => Self::Lines,
        }
    }

    /// Shows one moment.
    pub fn show(&mut self, view: &View<'_>) {
        let text = match self {
            Self::Quiet => return,
            Self::Lines => view.line() + "\n",
            Self::Painted { lines, p99_us } => {
                if view.latency().1 > 0 {
                    p99_us.push_back(view.latency().0.value_at_quantile(0.99));
                    p99_us.drain(..p99_us.len().saturating_sub(SPARKS_MAX));
                }
                let painted = view.painted(&sparks(p99_us));
                let width = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| size.ws_col);
                // Some terminals do not know their width.
                let width = if width < 20 { 100 } else { width };
                let mut text = String::new();
                if *lines > 0 {
                    _ = write!(text, "\x1b[{lines}A");
                }
                for line in &painted {
                    let cut: String = line.chars().take(usize::from(width) - 1).collect();
                    _ = writeln!(text, "\r\x1b[2K{cut}");
                }
                *lines = painted.len();
                text
            }
        };
        _ = std::io::stderr().write_all(text.as_bytes());
    }
}

impl View<'_> {
    fn rate(&self, of: fn(&Counts) -> u64) -> f64 {
        of(self.counts).saturating_sub(of(self.before)) as f64 / self.seconds.max(1e-3)
    }

    /// The latency worth showing now, with its number of samples: deliveries, before them connects.
    fn latency(&self) -> (&hdrhistogram::Histogram<u64>, u64, &'static str) {
        let all = [
            (&self.interval.delivery, "delivery"),
            (&self.interval.publish, "publish"),
            (&self.interval.recovery, "recovery"),
            (&self.interval.connect, "connect"),
        ];
        let found = all.into_iter().find(|(histogram, _)| !histogram.is_empty());
        found.map_or((all[0].0, 0, ""), |(histogram, name)| (histogram, histogram.len(), name))
    }

    fn percentiles(&self) -> String {
        let (histogram, samples, name) = self.latency();
        if samples == 0 {
            return "-".to_owned();
        }
        let at = |quantile| time(histogram.value_at_quantile(quantile) as f64);
        let max = time(histogram.max() as f64);
        format!("{name} p50 {}  p99 {}  p99.9 {}  max {max}", at(0.5), at(0.99), at(0.999))
    }

    fn line(&self) -> String {
        let counts = self.counts;
        let mut line = format!(
            "{:>6}  {}  open {} of {}  published {}/s  delivered {}/s  {}  errors {}",
            clock(self.at_ms / 1_000),
            self.phase,
            grouped(counts.open),
            grouped(self.goal),
            short(self.rate(|counts| counts.published) as u64),
            short(self.rate(|counts| counts.delivered) as u64),
            self.percentiles(),
            counts.errors_total()
        );
        if let Some(server) = self.server {
            _ = write!(
                line,
                "  server {} {:.0} %",
                bytes(server.rss_bytes as f64),
                100.0 * self.server_cpu.unwrap_or(0.0)
            );
        }
        line
    }

    fn painted(&self, sparks: &str) -> Vec<String> {
        let counts = self.counts;
        let mut lines = vec![
            format!("{}  {} at {}", self.header, self.phase, clock(self.at_ms / 1_000)),
            format!("connected  {}", self.bar()),
            format!(
                "rates      published {}/s  delivered {}/s  in {}/s  out {}/s",
                short(self.rate(|counts| counts.published) as u64),
                short(self.rate(|counts| counts.delivered) as u64),
                bytes(self.rate(|counts| counts.bytes_in)),
                bytes(self.rate(|counts| counts.bytes_out))
            ),
            format!("latency    {}  {sparks}", self.percentiles()),
        ];
        let checked = [("lost", counts.lost), ("duplicated", counts.duplicated), ("disordered", counts.disordered)];
        let checked = checked.into_iter().map(|(name, count)| (name.to_owned(), count));
        let errors = counts.errors.iter().map(|(name, count)| (name.clone(), *count));
        let wrong: Vec<String> = checked
            .chain(errors)
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} x {}", grouped(count)))
            .collect();
        lines.push(format!("errors     {}", if wrong.is_empty() { "none".to_owned() } else { wrong.join("   ") }));
        let cpu: Vec<String> = self.generator_cpu.iter().map(|share| format!("{:.0}", share * 100.0)).collect();
        let late = time(counts.late_us_max as f64);
        lines.push(format!("generator  CPU % {}  late at most {late}", cpu.join(" ")));
        if let Some(server) = self.server {
            let cpu = 100.0 * self.server_cpu.unwrap_or(0.0);
            lines.push(format!("server     {}  CPU {cpu:.0} %", bytes(server.rss_bytes as f64)));
        }
        lines
    }

    fn bar(&self) -> String {
        let (open, goal) = (self.counts.open, self.goal.max(1));
        let share = (open as f64 / goal as f64).min(1.0);
        let filled = (share * BAR as f64) as usize;
        let rate = self.rate(|counts| counts.open);
        let left = goal.saturating_sub(open);
        let eta = match left {
            0 => String::new(),
            _ if rate < 1.0 => "  ETA unknown".to_owned(),
            _ => format!("  {}/s  ETA {}", short(rate as u64), clock((left as f64 / rate).ceil() as u64)),
        };
        let bar = format!("{}{}", "#".repeat(filled), "-".repeat(BAR - filled));
        format!("[{bar}] {} of {}  {:.0} %{eta}", grouped(open), grouped(goal), share * 100.0)
    }
}

/// The last p99 values, between their smallest and their largest.
fn sparks(values: &VecDeque<u64>) -> String {
    let (Some(low), Some(high)) = (values.iter().min(), values.iter().max()) else { return String::new() };
    let span = (high - low).max(1);
    values.iter().map(|value| SPARKS[((value - low) * 7 / span) as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view<'a>(counts: &'a Counts, before: &'a Counts, interval: &'a Latencies) -> View<'a> {
        View {
            header: "fanout",
            phase: "connect",
            at_ms: 2_000,
            seconds: 1.0,
            goal: 100_000,
            counts,
            before,
            interval,
            generator_cpu: &[0.431],
            server: Some(Sample { rss_bytes: 50 << 20, cpu_us: 1 }),
            server_cpu: Some(0.9),
        }
    }

    /// The bar and its forecast are what an operator waits in front of.
    #[test]
    fn bar_and_forecast() {
        let (before, counts) =
            (Counts { open: 30_000, ..Counts::default() }, Counts { open: 50_000, ..Counts::default() });
        let text = view(&counts, &before, &Latencies::default()).bar();
        assert_eq!(text, "[###############---------------] 50,000 of 100,000  50 %  20k/s  ETA 3 s");
        let done = Counts { open: 100_000, ..Counts::default() };
        assert!(view(&done, &done, &Latencies::default()).bar().ends_with("100,000 of 100,000  100 %"));
    }

    /// Logs of a run without a terminal are read by people and by grep.
    #[test]
    fn plain_line() {
        let mut counts = Counts { open: 10, delivered: 500, published: 50, ..Counts::default() };
        counts.error("error 105");
        let mut interval = Latencies::default();
        interval.delivery.saturating_record(1_500);
        let before = Counts::default();
        let view = view(&counts, &before, &interval);
        assert_eq!(
            view.line(),
            "   2 s  connect  open 10 of 100,000  published 50/s  delivered 500/s  delivery p50 1.50 ms  p99 1.50 ms  \
             p99.9 1.50 ms  max 1.50 ms  errors 1  server 50.0 MiB 90 %"
        );
        assert!(view.painted("").iter().any(|line| line == "errors     error 105 x 1"));
    }
}
