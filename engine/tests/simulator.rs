//! A seeded simulator: several engines, rings that deliver late, clients that come and go, a backend
//! of whims, and a model outside the
//! engines that knows what everybody must be told. A failure names its seed; the seed replays it.
//!
//! `GYRE_SIM_SEED=7` runs one seed and prints its last actions when it fails; `GYRE_SIM_SEEDS=100000` or
//! `GYRE_SIM_SEEDS=5000..9000` runs that many instead of the usual few hundred.

#[path = "simulator/backend.rs"]
mod backend;
#[path = "simulator/digest.rs"]
mod digest;
#[path = "simulator/given.rs"]
mod given;
#[path = "simulator/heard.rs"]
mod heard;
#[path = "simulator/judge.rs"]
mod judge;
#[path = "simulator/model.rs"]
mod model;
#[path = "simulator/peer.rs"]
mod peer;
#[path = "simulator/play.rs"]
mod play;
#[path = "simulator/rest.rs"]
mod rest;
mod seeds;
#[path = "simulator/setup.rs"]
mod setup;
#[path = "simulator/sim.rs"]
mod sim;
#[path = "simulator/talk.rs"]
mod talk;
#[path = "simulator/wire.rs"]
mod wire;
mod world;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;

use sim::Sim;

/// Every so many seeds there is a crowd.
const CROWDS: u64 = 50;

/// Lost, doubled or disordered messages, presence that lies, channels that never go: whatever breaks a promise of the
/// protocol in some interleaving shows here first.
#[test]
fn promises_hold_for_every_seed() {
    seeds::for_every_seed(300, run);
}

fn run(seed: u64, trace: Option<&mut VecDeque<String>>) -> std::thread::Result<()> {
    let mut rng = Rng::with_seed(seed);
    let setup = setup::draw(&mut rng, seed % CROWDS == CROWDS - 1);
    let mut sim = Sim::new(setup, rng, seed, trace.is_some());
    let result = catch_unwind(AssertUnwindSafe(|| {
        sim.play();
        if sim.rng.u32(..4) == 0 {
            sim.rest();
        }
        sim.end();
    }));
    if let Some(trace) = trace {
        *trace = sim.trace.take().unwrap_or_default();
    }
    if result.is_err() {
        eprintln!("seed {seed} failed, cores: {}", sim.setup.cores);
    }
    result
}
