//! The watch thread: once a second it takes what the cores have counted, looks at the server's process, paints the screen
//! and keeps the line for the record.
//!
//! It also wakes with every change of phase, so that the CPU time of a phase is cut where the phase was. It never touches
//! the cores beyond [`Live::take`]; what it costs is its own thread, outside the generator's cores.

use std::fs::File;
use std::io::{self, BufWriter};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;

use crate::hlog;
use crate::live::{Counts, Live, Snapshot};
use crate::record::{MemoryPoint, Second};
use crate::sample::{Process, Sample, own_rss_bytes, slab_bytes};
use crate::screen::{Screen, View};

const INTERVAL: Duration = Duration::from_secs(1);
/// The phase after the last one: the watch ends.
const OVER: &str = "over";

/// What to watch, and for whom.
#[derive(Debug)]
pub struct Setup {
    pub live: Arc<Live>,
    pub header: String,
    /// Connections to reach.
    pub goal: u64,
    pub server: Option<Process>,
    pub hlog: Option<File>,
    pub screen: Screen,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub seconds: Vec<Second>,
    pub memory: Vec<MemoryPoint>,
    /// Why the histogram log is not complete.
    pub hlog_error: Option<io::Error>,
}

/// A running watch.
#[derive(Debug)]
pub struct Watch {
    live: Arc<Live>,
    thread: JoinHandle<Seen>,
}

/// Starts watching. The first line is taken before it returns: it is the server's memory without connections.
#[must_use]
pub fn start(setup: Setup) -> Watch {
    let (ready, is_ready) = mpsc::channel();
    let watched = Arc::clone(&setup.live);
    let thread = thread::spawn(move || {
        let Setup { live, header, goal, server, hlog, screen } = setup;
        let (mut serializer, mut sink) = (V2DeflateSerializer::new(), hlog.map(BufWriter::new));
        let mut seen = Seen::default();
        let log = sink.as_mut().map(|sink| hlog::begin(sink, &mut serializer, SystemTime::now())).transpose();
        let log = log.unwrap_or_else(|error| {
            seen.hlog_error = Some(error);
            None
        });
        let mut watcher = Watcher {
            live: &live,
            header: &header,
            goal,
            server,
            log,
            screen,
            started: Instant::now(),
            last: Instant::now(),
            before: Snapshot::default(),
            server_before: None,
            seen,
        };
        let mut phase = live.phase();
        watcher.look(&phase);
        _ = ready.send(());
        while phase != OVER {
            let now = live.phase_after(&phase, INTERVAL.saturating_sub(watcher.last.elapsed()));
            // What happened until now belongs to the phase that ends.
            watcher.look(&phase);
            phase = now;
        }
        watcher.seen
    });
    _ = is_ready.recv();
    Watch { live: watched, thread }
}

impl Watch {
    /// Takes a last line and ends.
    #[must_use]
    pub fn finish(self) -> Seen {
        self.live.enter(OVER);
        self.thread.join().unwrap_or_default()
    }
}

struct Watcher<'a> {
    live: &'a Live,
    header: &'a str,
    goal: u64,
    server: Option<Process>,
    log: Option<hlog::Log<'a, BufWriter<File>>>,
    screen: Screen,
    started: Instant,
    last: Instant,
    before: Snapshot,
    server_before: Option<Sample>,
    seen: Seen,
}

impl Watcher<'_> {
    fn look(&mut self, phase: &str) {
        let length = self.last.elapsed();
        let begun = self.last.duration_since(self.started);
        self.last = Instant::now();
        let snapshot = self.live.take();
        let server = self.server.as_mut().and_then(Process::sample);
        let second = self.second(phase, &snapshot, server);
        self.log(begun, length, &snapshot);
        self.show(phase, length, &snapshot, server);
        self.seen.memory.push(MemoryPoint {
            connections: snapshot.counts.open,
            server_rss_bytes: server.map(|server| server.rss_bytes),
            generator_rss_bytes: own_rss_bytes(),
            kernel_slab_bytes: slab_bytes(),
        });
        self.seen.seconds.push(second);
        self.before = snapshot;
        self.server_before = server;
    }

    fn second(&self, phase: &str, snapshot: &Snapshot, server: Option<Sample>) -> Second {
        let delivery = &snapshot.interval.delivery;
        let at = |quantile| if delivery.is_empty() { 0 } else { delivery.value_at_quantile(quantile) };
        let Counts { open, published, delivered, .. } = snapshot.counts;
        Second {
            at_ms: self.last.duration_since(self.started).as_millis() as u64,
            phase: phase.to_owned(),
            open,
            published,
            delivered,
            errors: snapshot.counts.errors_total(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: delivery.max(),
            server_rss_bytes: server.map(|server| server.rss_bytes),
            server_cpu_us: server.map(|server| server.cpu_us),
            generator_cpu_us: snapshot.cpu_ns.iter().sum::<u64>() / 1_000,
        }
    }

    /// A log that cannot be written is given up at the first error; the run goes on.
    fn log(&mut self, begun: Duration, length: Duration, snapshot: &Snapshot) {
        let Some(log) = &mut self.log else { return };
        let kinds = snapshot.interval.each().into_iter().filter(|(_, samples)| !samples.is_empty());
        for (name, samples) in kinds {
            if let Err(error) = hlog::append(log, name, begun, length, samples) {
                self.seen.hlog_error = Some(error);
                self.log = None;
                return;
            }
        }
    }

    fn show(&mut self, phase: &str, length: Duration, snapshot: &Snapshot, server: Option<Sample>) {
        let seconds = length.as_secs_f64().max(1e-3);
        let used = |(now, before): (&u64, u64)| now.saturating_sub(before) as f64 / 1e9 / seconds;
        let before = self.before.cpu_ns.iter().copied().chain(std::iter::repeat(0));
        let generator_cpu: Vec<f64> = snapshot.cpu_ns.iter().zip(before).map(used).collect();
        let server_cpu = server.zip(self.server_before);
        let view = View {
            header: self.header,
            phase,
            at_ms: self.last.duration_since(self.started).as_millis() as u64,
            seconds,
            goal: self.goal,
            counts: &snapshot.counts,
            before: &self.before.counts,
            interval: &snapshot.interval,
            generator_cpu: &generator_cpu,
            server,
            server_cpu: server_cpu.map(|(now, before)| (now.cpu_us - before.cpu_us) as f64 / 1e6 / seconds),
        };
        self.screen.show(&view);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Latencies;

    /// The memory of the server without connections is the first line; what happens last must not be missing.
    #[test]
    fn first_and_last_line() {
        let live = Live::new(1);
        let path = std::env::temp_dir().join(format!("gyre-loadtest-watch-{}.hlog", std::process::id()));
        let hlog = Some(File::create(&path).unwrap());
        let server = Process::open(std::process::id());
        let setup =
            Setup { live: Arc::clone(&live), header: String::new(), goal: 1, server, hlog, screen: Screen::Quiet };
        let watch = start(setup);
        live.enter("measure");
        let counts = Counts { open: 3, delivered: 7, ..Counts::default() };
        let mut fresh = Latencies::default();
        fresh.delivery.saturating_record(50);
        live.publish(0, &counts, &mut fresh, 1_000_000);
        let seen = watch.finish();
        let (first, last) = (seen.seconds.first().unwrap(), seen.seconds.last().unwrap());
        assert_eq!((first.open, first.phase.as_str()), (0, "start"));
        assert!(first.server_rss_bytes.is_some());
        assert_eq!((last.open, last.delivered, last.generator_cpu_us), (3, 7, 1_000));
        assert!(seen.seconds.iter().any(|second| second.p50_us == 50));
        assert_eq!(seen.memory.len(), seen.seconds.len());
        let log = std::fs::read_to_string(&path).unwrap();
        assert_eq!(log.lines().filter(|line| !line.starts_with('#')).count(), 1, "{log}");
        std::fs::remove_file(&path).unwrap();
    }
}
