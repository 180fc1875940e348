//! A server under measurement: started fresh for a run, awaited, stopped.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::plan::Server;
use crate::cpu;

/// Runtimes that warm up before they listen take a second or two.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Closing thousands of connections politely takes a while.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct Running(Child);

impl Running {
    /// Starts it on a CPU and waits until it answers. Its output goes to `log`.
    pub(crate) fn start(server: &Server, on: Option<usize>, log: &Path) -> Result<Self> {
        let (address, path) = split_url(&server.ready_url)?;
        let is_free = TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err();
        ensure!(is_free, "something listens on {address} already; stop it, or give {:?} another port", server.name);
        let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(&server.command[0]);
        command.args(&server.command[1..]).envs(&server.environment);
        command.stdout(output.try_clone()?).stderr(output);
        let child = spawn(&mut command, on).with_context(|| format!("cannot start {:?}", server.command))?;
        let mut running = Self(child);
        let deadline = Instant::now() + START_TIMEOUT;
        while !is_ready(address, &path) {
            if let Some(status) = running.0.try_wait()? {
                bail!("{} ended at its start ({status}); see {}", server.name, log.display());
            }
            ensure!(Instant::now() < deadline, "{} is not ready after {START_TIMEOUT:?}", server.name);
            sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end; insists after a while.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = Pid::from_child(&self.0);
        // It may have ended by itself, which `try_wait` tells.
        let _ = kill_process(pid, Signal::TERM);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.0.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.0.kill()?;
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `stop` it has ended, and this does nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a process on one CPU: it inherits the CPUs of the thread that starts it.
pub(crate) fn spawn(command: &mut Command, on: Option<usize>) -> Result<Child> {
    let start = move || -> Result<Child> {
        if let Some(on) = on {
            cpu::pin(on)?;
        }
        Ok(command.spawn()?)
    };
    scope(|threads| threads.spawn(start).join()).unwrap_or_else(|_| Err(anyhow!("the starting thread panicked")))
}

/// Runs a process on one CPU to its end.
pub(crate) fn run(command: &mut Command, on: Option<usize>) -> Result<ExitStatus> {
    Ok(spawn(command, on)?.wait()?)
}

fn is_ready(address: SocketAddr, path: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut start = [0; 12];
        stream.read_exact(&mut start)?;
        Ok(&start[9..] == b"200")
    };
    ask().unwrap_or(false)
}

/// Address and path of an `http://` URL.
fn split_url(url: &str) -> Result<(SocketAddr, String)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url:?} is no http:// URL"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut addresses = host.to_socket_addrs().with_context(|| format!("{host:?} is no host and port"))?;
    let address = addresses.next().with_context(|| format!("{host:?} has no address"))?;
    Ok((address, format!("/{path}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A server would be asked on the wrong path, and never be ready.
    #[test]
    fn urls_are_split() {
        let (address, path) = split_url("http://127.0.0.1:8000/health?x=1").unwrap();
        assert_eq!((address.port(), path.as_str()), (8000, "/health?x=1"));
        assert_eq!(split_url("http://127.0.0.1:1").unwrap().1, "/");
        assert!(split_url("ws://127.0.0.1:1/").is_err());
    }
}
