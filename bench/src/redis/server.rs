//! A Redis of its own, and redis-benchmark against it.
//!
//! The program is redis-server or valkey-server of the PATH, else redis-check-rdb: Debian's package redis-tools holds the
//! whole server under that name; what it is called by decides what it is. Nothing is kept on disk.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::resp::Resp;
use super::{Bench, process};
use crate::cpu;

const START_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Redis {
    child: Child,
    pub(crate) port: u16,
}

impl Redis {
    pub(crate) fn start(bench: &mut Bench) -> Result<Self> {
        let port = bench.free_port()?;
        let log = bench.out.join(format!("redis-{port}.log"));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(program()?);
        command.arg0("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args([OsStr::new("--dir"), bench.out.as_os_str()]);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = process::spawn(&mut command, bench.redis_cpu).context("cannot start redis")?;
        let mut redis = Self { child, port };
        let deadline = Instant::now() + START_TIMEOUT;
        while redis.client().and_then(|mut client| client.ask(&["PING"])).is_err() {
            if let Some(status) = redis.child.try_wait()? {
                bail!("redis ended at its start ({status}); see {}", log.display());
            }
            ensure!(Instant::now() < deadline, "redis is not ready after {START_TIMEOUT:?}");
            bench.go_on()?;
            sleep(Duration::from_millis(20));
        }
        Ok(redis)
    }

    pub(crate) fn client(&self) -> Result<Resp> {
        Resp::connect(self.port)
    }

    /// CPU time so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu::of_process(self.child.id())
    }

    /// Calls of a command so far, as Redis counts them.
    pub(crate) fn calls(&self, command: &str) -> Result<u64> {
        let text = self.client()?.ask(&["INFO", "commandstats"])?.text();
        let key = format!("cmdstat_{command}:calls=");
        let rest = text.lines().find_map(|line| line.strip_prefix(&*key));
        Ok(rest.and_then(|rest| rest.split(',').next()).and_then(|calls| calls.parse().ok()).unwrap_or(0))
    }

    /// Requests per second that redis-benchmark reaches with a command.
    pub(crate) fn benchmark(&self, bench: &Bench, plan: Benchmark, command: &[&str]) -> Result<f64> {
        let mut benchmark = Command::new("redis-benchmark");
        benchmark.args(["-p", &self.port.to_string(), "-n", &plan.requests.to_string(), "--csv"]);
        benchmark.args(["-c", &plan.connections.to_string(), "-P", &plan.pipeline.to_string()]).args(command);
        benchmark.stdout(Stdio::piped());
        let child = process::spawn(&mut benchmark, bench.load_cpu)
            .context("cannot run redis-benchmark; install it with: apt-get install redis-tools")?;
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "redis-benchmark ended with {}: {text}", output.status);
        rate(&text).with_context(|| format!("redis-benchmark said: {text}"))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It keeps nothing that had to be saved.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How much redis-benchmark has to do, and how.
#[derive(Clone, Copy)]
pub(crate) struct Benchmark {
    pub(crate) requests: usize,
    pub(crate) connections: usize,
    pub(crate) pipeline: usize,
}

/// The second column of the last line.
fn rate(csv: &str) -> Option<f64> {
    csv.lines().next_back()?.split("\",\"").nth(1)?.parse().ok()
}

fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = |name| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    let found = ["redis-server", "valkey-server", "redis-check-rdb"].into_iter().find_map(in_path);
    found.context("there is no redis-server in the PATH; install it with: apt-get install redis-tools")
}

#[cfg(test)]
mod tests {
    use super::*;

    // The reference would be the latency of a request.
    #[test]
    fn the_rate_is_read() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"EVALSHA a, b\",\"81234.50\",\"1.5\"\n";
        assert_eq!(rate(csv), Some(81_234.5));
        assert_eq!(rate(""), None);
    }
}
