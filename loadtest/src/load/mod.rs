//! The generator: cores with clients and publishers, and the phases of a run.
//!
//! [`run`] blocks the thread that calls it and directs the cores; it reads their status some times a second and never
//! touches a connection. Cores never wait for it. It knows the client protocol only as far as a witness must and shares
//! no decision with any server.

mod checker;
mod clients;
mod connecting;
mod core;
mod judge;
mod layout;
mod leaving;
mod phases;
mod publish;
mod receiving;
mod schedule;
mod shared;
mod spec;
mod stalled;
mod tally;
mod token;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use crate::live::{Counts, Live};
use crate::options::{Common, Workload};
use crate::record::PhaseSpan;
pub(crate) use publish::probe;
use shared::{Shared, lock};
pub(crate) use spec::Spec;

/// What a run has found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The phases in order, in milliseconds since the start of the run.
    pub phases: Vec<PhaseSpan>,
    /// Histograms of the measured part by name: delivery, connect, publish, recovery, lag. Empty ones are left out.
    pub latencies: BTreeMap<&'static str, Histogram<u64>>,
    /// Everything counted, at the end.
    pub totals: Counts,
    /// What must not happen and did; empty: the run passed.
    pub violations: Vec<String>,
    /// Clients that were to connect and never had all their replies.
    pub(crate) never_ready: u64,
    /// The measured part of a load, by the clock of the run.
    pub window: Option<Window>,
    /// Pings that the client with the fewest has answered, where that was counted.
    pub pings_min: Option<u32>,
    /// What a reader of the numbers should know.
    pub notes: Vec<String>,
}

/// A span of the run's clock, and what was counted between its two ends: a rate of it has one and the same span above
/// and below the line. The lines of the watch are not as exact: cores report about ten times a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    pub us: u64,
    pub published: u64,
    pub delivered: u64,
}

/// Runs a workload until its end, or until the operator stops it: then it ends politely and reports what there is.
///
/// # Errors
/// The generator could not be set up. What goes wrong later is part of the outcome.
pub(crate) fn run(spec: Spec, cores: usize, workload: &Workload, common: &Common, live: Arc<Live>) -> Result<Outcome> {
    let shared = Arc::new(Shared::new(spec, live, cores).context("cannot make the generator's wake-ups")?);
    let cores = (0..cores)
        .map(|id| core::start(&shared, id).with_context(|| format!("cannot start core {id} of the generator")))
        .collect::<Result<Vec<_>>>();
    let cores = match cores {
        Ok(cores) => cores,
        Err(error) => {
            shared.order(|orders| orders.stop = true);
            return Err(error);
        }
    };
    let mut outcome = phases::direct(&shared, workload, common);
    shared.order(|orders| orders.stop = true);
    for core in cores {
        core.join().context("a core of the generator failed")?;
    }
    let mut measured = crate::live::Latencies::default();
    for result in shared.take_results() {
        outcome.totals.add(&result.counts);
        measured.add(&result.measured);
        if let Some(window) = &mut outcome.window {
            window.published += result.window.published;
            window.delivered += result.window.delivered;
        }
    }
    if !shared.spec.deliveries_known {
        outcome.totals.expected = outcome.totals.delivered + outcome.totals.lost;
    }
    for (name, histogram) in measured.each() {
        if !histogram.is_empty() {
            outcome.latencies.insert(name, histogram.clone());
        }
    }
    outcome.violations.append(&mut lock(&shared.failures));
    judge::judge(&shared.spec, &mut outcome, shared.live.is_stopping());
    Ok(outcome)
}
