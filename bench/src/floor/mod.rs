//! The floor: what the kernel asks for one small `send()` to each of many sockets, and for an idle socket.
//!
//! No server can deliver for less. The sockets are like the server's (loopback, no delay, accepted, as many), and a
//! process of its own on another CPU drains them. Measured by the sender's CPU time, which is where loopback does the
//! receiver's share as well.

mod drain;
mod send;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

pub use drain::{DrainOptions, run as drain};
use send::Sender;

use crate::stats::Spread;

/// A JSON push of 128 bytes of data in a short channel, with its frame header.
const PUSH_BYTES: usize = 180;

/// What is asked for on the command line.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Numbers of sockets
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 19_000])]
    sockets: Vec<usize>,
    /// Bytes of one send: the default is a JSON push of 128 bytes with its frame header
    #[arg(long, default_value_t = PUSH_BYTES)]
    bytes: usize,
    /// Repetitions; the result is their median
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Length of a repetition in seconds
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Sends per second when paced: a round to all sockets, then a sleep. Rounds back to back are measured as well
    #[arg(long, default_value_t = 20_000.0)]
    pace: f64,
    /// CPU of the sender
    #[arg(long, default_value_t = 0)]
    send_cpu: usize,
    /// CPU of the receivers
    #[arg(long, default_value_t = 1)]
    drain_cpu: usize,
    /// Write the results here too
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One line of the result.
#[derive(Debug, Serialize)]
pub struct Floor {
    /// Sockets, all on one thread.
    pub sockets: usize,
    /// Sends per second aimed at; 0 = back to back.
    pub pace: f64,
    /// CPU nanoseconds of one send, over the repetitions.
    pub nanoseconds: Spread,
    /// Sends per second reached, by the clock on the wall.
    pub rate: f64,
    /// Sends that found a full socket; they make the figure worthless.
    pub blocked: u64,
    /// Kernel memory of one socket of an idle pair, by the growth of the slabs.
    pub socket_bytes: f64,
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    ensure!(!options.sockets.contains(&0), "--sockets: at least one is needed");
    ensure!((0.01..=3_600.0).contains(&options.seconds), "--seconds: between 0.01 and 3600");
    let floors = measure(options)?;
    println!("send() of {} bytes to each socket in turn, receivers on another CPU", options.bytes);
    println!(
        "{:>8} {:>12} {:>12} {:>21} {:>10} {:>8} {:>13}",
        "sockets", "pace/s", "ns CPU/send", "min .. max", "rate/s", "blocked", "kernel B/sock"
    );
    for floor in &floors {
        let Spread { median, min, max } = floor.nanoseconds;
        let pace = if floor.pace > 0.0 { format!("{:.0}", floor.pace) } else { "back to back".to_owned() };
        let spread = format!("{min:.0} .. {max:.0}");
        println!(
            "{:>8} {pace:>12} {median:>12.0} {spread:>21} {:>10.0} {:>8} {:>13.0}",
            floor.sockets, floor.rate, floor.blocked, floor.socket_bytes
        );
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&floors)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// One figure, for a workload with so many sockets at this pace (0 = back to back).
pub fn probe(sockets: usize, pace: f64, send_cpu: usize, drain_cpu: usize) -> Result<Floor> {
    let mut sender = Sender::open(sockets, PUSH_BYTES, send_cpu, drain_cpu)?;
    let floor = sender.measure(3, 1.0, pace)?;
    sender.finish()?;
    Ok(floor)
}

fn measure(options: &Options) -> Result<Vec<Floor>> {
    let mut floors = Vec::new();
    for &sockets in &options.sockets {
        let mut sender = Sender::open(sockets, options.bytes, options.send_cpu, options.drain_cpu)?;
        let paces = if options.pace > 0.0 { vec![0.0, options.pace] } else { vec![0.0] };
        for pace in paces {
            floors.push(sender.measure(options.repetitions, options.seconds, pace)?);
        }
        sender.finish()?;
    }
    Ok(floors)
}
