//! A million connections on one machine: one server process, the load generator, twice.
//!
//! First every client has a channel of its own, then also one of many groups. In both all answer pings for more than
//! three intervals, get a broadcast, and leave; then the server's memory is looked at once more. Blocks throughout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process};
use serde::Serialize;

use crate::compare::plan::Server;
use crate::compare::server::Running;
use crate::cpu;

/// What is asked for on the command line.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Connections
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    clients: u64,
    /// Connections begun per second
    #[arg(long, default_value_t = 10_000)]
    connect_rate: u64,
    /// How long they are held: more than three ping intervals of 40 s
    #[arg(long, default_value = "125s")]
    hold: String,
    /// Groups of the second run
    #[arg(long, default_value_t = 10_000)]
    groups: u64,
    /// Bytes of server memory per connection that are accepted
    #[arg(long, default_value = "1KiB")]
    memory: String,
    /// Folder for records and report
    #[arg(long, default_value = "target/million")]
    out: PathBuf,
}

/// Share of a core's file table that is planned with: the kernel spreads connections by hash, not evenly.
const SPREAD: f64 = 0.9;

/// How long the server's memory may take to go down after the last client has left: a core gives back what the last few
/// have left after ten seconds.
const SETTLE: Duration = Duration::from_secs(15);

const PORT: u16 = 18_500;

/// Memory of the server around a run.
#[derive(Serialize)]
struct Memory {
    before_bytes: u64,
    after_bytes: u64,
}

/// Runs both and writes the report.
pub fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.out).with_context(|| format!("cannot create {}", options.out.display()))?;
    let stop = Stop::watch()?;
    let _until_the_end = SocketMemory::allow(options.clients);
    let groups = options.groups.to_string();
    let groups = ["--groups", &groups];
    let runs: [(&str, &[&str]); 2] = [("personal", &[]), ("groups", &groups)];
    let mut records = Vec::new();
    let mut lines = String::from("\n## After the last client has left\n\n| run | before | after |\n|---|---|---|\n");
    for (name, more) in runs {
        println!("== {name}");
        let record = options.out.join(format!("{name}.json"));
        let memory = hold(options, more, &record, &stop)?;
        lines += &format!("| {name} | {} | {} |\n", mebibytes(memory.before_bytes), mebibytes(memory.after_bytes));
        records.push(record);
    }
    let done =
        Command::new(beside("gyre-loadtest")).arg("report").args(&records).arg("--out").arg(&options.out).status()?;
    ensure!(done.success(), "the report was not written");
    let report = options.out.join("report.md");
    fs::write(&report, fs::read_to_string(&report)? + &lines)?;
    println!("{lines}\nreport: {}", report.display());
    Ok(())
}

/// The kernel's bound on the memory of all socket buffers, raised for as long as this lives.
///
/// Each connection whose bytes nobody has read yet takes a page of it, and after a broadcast that is every one: over the
/// bound the kernel drops what arrives, and pongs are late by seconds.
struct SocketMemory {
    before: String,
}

impl SocketMemory {
    const PATH: &str = "/proc/sys/net/ipv4/tcp_mem";

    /// None if it is enough as it is, or if it cannot be changed, which is said.
    fn allow(connections: u64) -> Option<Self> {
        let before = fs::read_to_string(Self::PATH).ok()?;
        let max: u64 = before.split_whitespace().next_back()?.parse().ok()?;
        let [low, pressure, needed] = [connections, connections * 3 / 2, connections * 2];
        if max >= needed {
            return None;
        }
        let shown = before.split_whitespace().collect::<Vec<_>>().join(" ");
        match fs::write(Self::PATH, format!("{low} {pressure} {needed}")) {
            Ok(()) => println!("net.ipv4.tcp_mem: {shown} is raised to {low} {pressure} {needed} pages until the end"),
            Err(error) => {
                println!("net.ipv4.tcp_mem: {shown} is below the {needed} pages that a broadcast needs: {error}");
                println!("as root: sysctl -w net.ipv4.tcp_mem=\"{low} {pressure} {needed}\"");
                return None;
            }
        }
        Some(Self { before })
    }
}

impl Drop for SocketMemory {
    fn drop(&mut self) {
        if let Err(error) = fs::write(Self::PATH, &self.before) {
            println!("net.ipv4.tcp_mem could not be set back to {}: {error}", self.before.trim());
        }
    }
}

/// Whether somebody wants this to end, which must not be before the host is set back.
struct Stop {
    /// Ctrl-C: the generator and the server have got it, too.
    interrupted: Arc<AtomicBool>,
    terminated: Arc<AtomicBool>,
}

impl Stop {
    fn watch() -> Result<Self> {
        let stop = Self { interrupted: Arc::default(), terminated: Arc::default() };
        signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop.interrupted))?;
        signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stop.terminated))?;
        Ok(stop)
    }

    /// Runs the generator to its end; asked to terminate, passes that on as the wish to stop.
    fn run(&self, command: &mut Command) -> Result<ExitStatus> {
        let mut child = command.spawn().context("cannot start gyre-loadtest; build it first")?;
        let mut is_told = false;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if self.terminated.load(Ordering::Relaxed) && !is_told {
                is_told = true;
                kill_process(Pid::from_child(&child), Signal::INT)?;
            }
            sleep(Duration::from_millis(100));
        };
        let is_wanted = self.interrupted.load(Ordering::Relaxed) || self.terminated.load(Ordering::Relaxed);
        ensure!(!is_wanted, "interrupted");
        Ok(status)
    }
}

/// One server, one run.
fn hold(options: &Options, more: &[&str], record: &Path, stop: &Stop) -> Result<Memory> {
    let (clients, connect_rate) = (options.clients.to_string(), options.connect_rate.to_string());
    let server = server(options.clients);
    let running = Running::start(&server, None, &record.with_extension("log"))?;
    // What the start itself needs has settled.
    sleep(Duration::from_secs(2));
    let before_bytes = cpu::resident_bytes(running.pid())?;
    let mut command = Command::new(beside("gyre-loadtest"));
    command.args(["idle", "--personal", "--broadcast", "--source-ip", "127.0.0.0/25"]);
    command.args(["--clients", &clients, "--connect-rate", &connect_rate, "--hold", &options.hold]);
    command.args(["--url", &server.url, "--api-url", &server.api_url, "--api-key", &server.api_key]);
    command.args(["--server-pid", &running.pid().to_string(), "--json"]).arg(record).args(more);
    let connected = format!("connected=={clients}");
    let memory = format!("rss_per_connection<={}", options.memory);
    for condition in [&*connected, &memory, "pings>=3", "errors==0"] {
        command.args(["--assert", condition]);
    }
    ensure!(stop.run(&mut command)?.success(), "the run failed, see above");
    let deadline = Instant::now() + SETTLE;
    let mut after_bytes = cpu::resident_bytes(running.pid())?;
    while Instant::now() < deadline {
        sleep(Duration::from_secs(1));
        after_bytes = after_bytes.min(cpu::resident_bytes(running.pid())?);
    }
    running.stop()?;
    Ok(Memory { before_bytes, after_bytes })
}

/// The settings of bench/gyre.toml on a port of its own, with as many cores as the limit of open files asks for: a
/// core's table holds no more sockets than a process may have files open.
fn server(clients: u64) -> Server {
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let cores = (clients as f64 / (files as f64 * SPREAD)).ceil() as usize;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let address = format!("127.0.0.1:{PORT}");
    let settings = [
        ("GYRE_CORES", cores.max(cpus).to_string()),
        ("GYRE_HTTP_SERVER_PORT", PORT.to_string()),
        // A broadcast to a million takes two CPUs that both sides share 20 s and more. Pongs wait behind it, and every
        // client that is given up meanwhile makes it longer.
        ("GYRE_CLIENT_PING_INTERVAL", "40s".to_owned()),
        ("GYRE_CLIENT_PONG_TIMEOUT", "35s".to_owned()),
    ];
    Server {
        name: "gyre".to_owned(),
        command: vec![beside("gyre").display().to_string(), "--config".to_owned(), "bench/gyre.toml".to_owned()],
        environment: settings.map(|(name, value)| (name.to_owned(), value)).into(),
        url: format!("ws://{address}/connection/websocket"),
        api_url: format!("http://{address}/api"),
        api_key: "bench".to_owned(),
        token_key: String::new(),
        ready_url: format!("http://{address}/health"),
    }
}

fn beside(name: &str) -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name(name)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / 1_048_576.0)
}
