//! The sending side of the floor probe: accepts, then sends the same bytes to every socket in turn.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use super::Floor;
use crate::cpu;
use crate::stats::Spread;

/// Files that a process needs beside its sockets.
const OTHER_FILES: usize = 64;

/// A process may have so many files open; asks for as many as are allowed.
pub(super) fn lift_file_limit(sockets: usize) -> Result<()> {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).context("cannot raise the file limit")?;
    let limit = hard.unwrap_or(u64::MAX);
    let needed = (sockets + OTHER_FILES) as u64;
    ensure!(needed <= limit, "{sockets} sockets need {needed} open files, {limit} are allowed; raise `ulimit -Hn`");
    Ok(())
}

/// Sockets, and the process that drains them.
pub(super) struct Sender {
    sockets: Vec<Socket>,
    payload: Vec<u8>,
    drain: Child,
    sent: u64,
    socket_bytes: f64,
}

impl Sender {
    pub(super) fn open(count: usize, bytes: usize, send_cpu: usize, drain_cpu: usize) -> Result<Self> {
        lift_file_limit(count)?;
        cpu::pin(send_cpu)?;
        let before = cpu::kernel_bytes()?;
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        listener.listen(4096)?;
        let address = listener.local_addr()?.as_socket().context("an address of the internet")?;
        let drain = Command::new(std::env::current_exe()?)
            .args(["drain", &address.to_string(), &count.to_string(), &drain_cpu.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the receiving process")?;
        // If it ends early, nobody connects: the accept gives up instead of waiting for ever.
        listener.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut sockets = Vec::with_capacity(count);
        for _ in 0..count {
            let (socket, _) = listener.accept().context("the receiving process does not connect")?;
            socket.set_tcp_nodelay(true)?;
            socket.set_nonblocking(true)?;
            sockets.push(socket);
        }
        // Both ends are on this machine.
        let socket_bytes = cpu::kernel_bytes()?.saturating_sub(before) as f64 / (2 * count) as f64;
        Ok(Self { sockets, payload: vec![b'x'; bytes], drain, sent: 0, socket_bytes })
    }

    /// `pace` in sends per second, 0 = rounds back to back.
    pub(super) fn measure(&mut self, repetitions: usize, seconds: f64, pace: f64) -> Result<Floor> {
        let mut blocked = 0;
        self.repeat(seconds / 4.0, pace, &mut 0)?;
        let (mut nanoseconds, mut rates) = (Vec::new(), Vec::new());
        for _ in 0..repetitions {
            let (began, began_cpu, sent_before) = (Instant::now(), cpu::of_this_thread(), self.sent);
            self.repeat(seconds, pace, &mut blocked)?;
            let sends = (self.sent - sent_before) as f64;
            nanoseconds.push((cpu::of_this_thread() - began_cpu).as_nanos() as f64 / sends);
            rates.push(sends / began.elapsed().as_secs_f64());
        }
        let nanoseconds = Spread::of(nanoseconds).context("at least one repetition is needed")?;
        let rate = Spread::of(rates).map_or(0.0, |spread| spread.median);
        Ok(Floor { sockets: self.sockets.len(), pace, nanoseconds, rate, blocked, socket_bytes: self.socket_bytes })
    }

    fn repeat(&mut self, seconds: f64, pace: f64, blocked: &mut u64) -> Result<()> {
        let began = Instant::now();
        let until = began + Duration::from_secs_f64(seconds);
        let period = if pace > 0.0 { self.sockets.len() as f64 / pace } else { 0.0 };
        let mut rounds = 0;
        while Instant::now() < until {
            self.round(blocked)?;
            rounds += 1;
            if pace > 0.0 {
                let next = began + Duration::from_secs_f64(period * f64::from(rounds));
                sleep(next.saturating_duration_since(Instant::now()));
            }
        }
        Ok(())
    }

    fn round(&mut self, blocked: &mut u64) -> Result<()> {
        for socket in &self.sockets {
            let mut rest = &self.payload[..];
            while !rest.is_empty() {
                match send(socket, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                    Ok(count) => rest = &rest[count..],
                    Err(Errno::AGAIN) => {
                        *blocked += 1;
                        sleep(Duration::from_millis(1));
                    }
                    Err(error) => return Err(error).context("the receiving process has gone"),
                }
            }
        }
        self.sent += self.sockets.len() as u64;
        Ok(())
    }

    /// Closes everything and checks that all bytes have arrived.
    pub(super) fn finish(mut self) -> Result<()> {
        self.sockets.clear();
        let mut said = String::new();
        if let Some(output) = &mut self.drain.stdout {
            output.read_to_string(&mut said)?;
        }
        ensure!(self.drain.wait()?.success(), "the receiving process failed");
        let (received, sent) = (said.trim().parse::<u64>()?, self.sent * self.payload.len() as u64);
        ensure!(received == sent, "{sent} bytes were sent and {received} received");
        Ok(())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // After `finish` it has ended, and this does nothing.
        let _ = self.drain.kill();
        let _ = self.drain.wait();
    }
}
