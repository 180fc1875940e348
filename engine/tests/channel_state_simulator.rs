//! The seeded simulator of the workers of channel state: several nodes over one store, reached over connections that deliver
//! late, break and lose; backends that are slow, fail or fall silent; nodes that start, stop and die; clients that come, go and
//! are dropped. The truth is what the store has queued and what the backends have been told.
//!
//! `GYRE_SIM_SEED=7` runs one seed and prints its last actions when it fails; `GYRE_SIM_SEEDS=100000` or
//! `GYRE_SIM_SEEDS=5000..9000` runs that many instead of the usual ones.

#[path = "channel_state/backends.rs"]
mod backends;
#[path = "channel_state/judge.rs"]
mod judge;
#[path = "channel_state/link.rs"]
mod link;
#[path = "channel_state/node.rs"]
mod node;
#[path = "channel_state/play.rs"]
mod play;
mod seeds;
#[path = "channel_state/sim.rs"]
mod sim;
#[path = "state_model/mod.rs"]
mod state_model;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sim::Sim;

/// Lost or disordered events, channels called vacant that are not, two nodes that tell at the same time, a backend that waits
/// for ever: whatever breaks a promise shows here first.
#[test]
fn promises_hold_for_every_seed() {
    seeds::for_every_seed(500, run);
}

fn run(seed: u64, trace: Option<&mut VecDeque<String>>) -> std::thread::Result<()> {
    let mut sim = Sim::new(seed, trace.is_some());
    let result = catch_unwind(AssertUnwindSafe(|| {
        sim.play();
        sim.rest();
    }));
    if let Some(trace) = trace {
        *trace = sim.trace.take().unwrap_or_default();
    }
    if result.is_err() {
        eprintln!("seed {seed} failed at {} ms, {:?}", sim.now_ms, sim.mix);
    }
    result
}
