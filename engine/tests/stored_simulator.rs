//! The seeded simulator for channels in a store outside: one node or two, whose cores reach the store over connections
//! that deliver late, fail, break and lose. The truth is the order in which the store did things.
//!
//! `GYRE_SIM_SEED=7` runs one seed and prints its last actions when it fails; `GYRE_SIM_SEEDS=100000` or
//! `GYRE_SIM_SEEDS=5000..9000` runs that many instead of the usual ones.

#[path = "stored/backend.rs"]
mod backend;
#[path = "stored/faults.rs"]
mod faults;
#[path = "simulator/heard.rs"]
mod heard;
#[path = "stored/judge.rs"]
mod judge;
#[path = "stored/play.rs"]
mod play;
mod seeds;
#[path = "stored/sim.rs"]
mod sim;
#[allow(dead_code, reason = "clients here say less")]
#[path = "simulator/wire.rs"]
mod wire;
mod world;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sim::Sim;

/// Lost, doubled or disordered messages, recoveries with holes, presence that lies, calls without an answer, memory that
/// never goes: whatever breaks a promise when the store is slow, deaf or gone shows here first.
#[test]
fn promises_hold_for_every_seed() {
    seeds::for_every_seed(2_000, run);
}

fn run(seed: u64, trace: Option<&mut VecDeque<String>>) -> std::thread::Result<()> {
    let mut sim = Sim::new(seed, trace.is_some());
    let result = catch_unwind(AssertUnwindSafe(|| {
        sim.play();
        sim.end();
    }));
    if let Some(trace) = trace {
        *trace = sim.trace.take().unwrap_or_default();
    }
    if result.is_err() {
        eprintln!("seed {seed} failed, {:?}", sim.mix);
    }
    result
}
