//! The phases of a run, one after the other, and what they add up to.
//!
//! On the main thread: gives orders, waits for the cores' status, and looks at the operator's wish to stop meanwhile.
//! Every wait has a deadline, so that a dead server ends a run too.

use std::time::Duration;

use super::shared::{Shared, Status, lock};
use super::stalled::Stalled;
use super::{Outcome, Window};
use crate::options::{Common, Workload};
use crate::record::PhaseSpan;

/// How often the status of the cores is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Time for what was published to arrive everywhere.
const DRAIN: Duration = Duration::from_secs(10);
/// Time for everything to calm down after the last client has come in.
const SETTLE: Duration = Duration::from_millis(500);
/// A server that is not told otherwise pings every 25 s; a hold of this length has seen one.
const PING: Duration = Duration::from_secs(30);
/// Time until orders are spread before a schedule begins.
const LEAD_US: u64 = 200_000;

/// Runs all phases.
pub(super) fn direct(shared: &Shared, workload: &Workload, common: &Common) -> Outcome {
    let mut run = Run { shared, outcome: Outcome::default(), stalled: None };
    run.connect();
    let is_cut_short = run.is_over();
    if !is_cut_short {
        run.settle();
        match workload {
            Workload::Idle(idle) => run.idle(idle.hold, idle.broadcast),
            Workload::Fanout(_) | Workload::Mesh(_) | Workload::Publish(_) => run.load(common, |_, _, _| {}),
            Workload::Churn(_) => run.load(common, |run, from_us, until_us| {
                run.shared.order(|orders| {
                    (orders.churn_from_us, orders.churn_until_us) = (from_us, until_us);
                    orders.returning = true;
                });
            }),
            Workload::Storm(storm) => {
                let drop_all = storm.drop_all;
                run.load(common, move |run, _, until_us| run.storm(drop_all, until_us));
                // The recovery stands between: what is measured is what the phases say.
                run.outcome.window = None;
            }
        }
    }
    run.leave();
    let status = shared.status();
    // A stop while they come in leaves clients that were not dialled, or not answered yet: that is no failure. What had
    // failed by then is one.
    run.outcome.never_ready = match is_cut_short {
        true => status.never_ready,
        false => (shared.spec.layout.clients as u64).saturating_sub(status.ever_ready),
    };
    if status.not_returned > 0 {
        run.outcome.violations.push(format!("{} clients could not come back", status.not_returned));
    }
    run.outcome
}

struct Run<'a> {
    shared: &'a Shared,
    outcome: Outcome,
    stalled: Option<Stalled>,
}

impl Run<'_> {
    /// All clients come in, as fast as the rate and the server allow.
    fn connect(&mut self) {
        let clients = self.shared.spec.layout.clients as u64;
        if clients > 0 {
            self.enter("connect");
            let version = self.shared.order(|orders| orders.connect_from_us = self.shared.now_us());
            // A server that takes no more is given up when nothing has moved for this long.
            let patience = Duration::from_micros(self.shared.spec.connect_timeout_us) * 3 + DRAIN;
            let mut last = (u64::MAX, Duration::ZERO);
            self.wait(Duration::MAX, |status, now| {
                let settled = status.ready + status.given_up;
                if settled != last.0 {
                    last = (settled, now);
                }
                status.version >= version && (settled >= clients || now.saturating_sub(last.1) > patience)
            });
        }
        if self.shared.spec.stalled > 0 && !self.is_over() {
            match Stalled::connect(&self.shared.spec) {
                Ok(stalled) => self.stalled = Some(stalled),
                Err(error) => {
                    self.outcome.violations.push(format!("cannot connect the stalled subscribers: {error:#}"))
                }
            }
        }
    }

    fn settle(&mut self) {
        self.enter("settle");
        self.wait(SETTLE, |_, _| false);
    }

    /// Holds the connections; then perhaps everybody must hear one publication per channel.
    fn idle(&mut self, hold: Duration, broadcast: bool) {
        self.enter("hold");
        self.wait(hold, |_, _| false);
        let version = self.shared.order(|orders| orders.scans += 1);
        let status = self.wait(DRAIN, |status, _| status.version >= version);
        if status.pings_min != u32::MAX {
            self.outcome.pings_min = Some(status.pings_min);
            if status.pings_min > 0 || hold >= PING {
                self.outcome.notes.push(format!("every client has answered at least {} pings", status.pings_min));
            }
        }
        if broadcast && !self.is_over() {
            self.enter("broadcast");
            if self.connect_publishers() {
                let version = self.shared.order(|orders| {
                    orders.measure_from_us = 0;
                    orders.broadcasts += 1;
                });
                self.wait(DRAIN, |status, _| status.version >= version);
                self.drain(DRAIN * 6);
            }
        }
    }

    /// Warm-up and measuring; `during` is what else happens while it measures.
    fn load(&mut self, common: &Common, during: impl FnOnce(&mut Self, u64, u64)) {
        if !self.connect_publishers() {
            return;
        }
        self.enter("warm-up");
        let from_us = self.shared.now_us() + LEAD_US;
        let measure_us = from_us + common.warmup.as_micros() as u64;
        let until_us = measure_us + common.duration.as_micros() as u64;
        self.shared.order(|orders| {
            (orders.publish_from_us, orders.publish_until_us) = (from_us, until_us);
            orders.measure_from_us = measure_us;
        });
        self.wait_until(measure_us);
        self.enter("measure");
        if let Some(stalled) = &self.stalled {
            stalled.stop_reading();
        }
        during(self, measure_us, until_us);
        self.wait_until(until_us);
        let mut end_us = until_us;
        if self.is_over() {
            // The schedule ends here; what is in flight may still arrive.
            end_us = end_us.min(self.shared.now_us());
            self.shared.order(|orders| {
                orders.publish_until_us = end_us;
                orders.churn_until_us = orders.churn_until_us.min(end_us);
            });
        }
        self.outcome.window = Some(Window { us: end_us.saturating_sub(measure_us), ..Window::default() });
        self.enter("drain");
        self.wait_ready(DRAIN);
        self.drain(DRAIN);
        if let Some(stalled) = self.stalled.take() {
            self.outcome.notes.push(stalled.end());
        }
    }

    /// Everybody loses the connection and comes back.
    fn storm(&mut self, drop_all: bool, until_us: u64) {
        let clients = self.shared.spec.layout.clients as u64;
        let version = self.shared.order(|orders| {
            orders.returning = true;
            orders.drops += u32::from(drop_all);
        });
        let began_us = self.shared.now_us();
        self.enter("recovery");
        let left = Duration::from_micros(until_us.saturating_sub(began_us));
        if !drop_all {
            // The operator ends the server's side.
            let status = self.wait(left, |status, _| status.ready < clients);
            if status.ready == clients {
                self.outcome.notes.push("the server ended no connection".to_owned());
                return;
            }
        } else {
            self.wait(DRAIN, |status, _| status.version >= version);
        }
        self.wait_ready(DRAIN * 12);
        let seconds = (self.shared.now_us() - began_us) as f64 / 1e6;
        let status = self.shared.status();
        if status.ready == clients {
            self.outcome.notes.push(format!("all {clients} clients were back after {seconds:.2} s"));
        }
        self.enter("measure");
    }

    /// Waits until every client is ready or given up.
    fn wait_ready(&mut self, at_most: Duration) {
        let clients = self.shared.spec.layout.clients as u64;
        let status = self.wait(at_most, |status, _| status.ready + status.given_up >= clients);
        let missing = clients.saturating_sub(status.ready + status.given_up);
        if missing > 0 && !self.is_over() {
            self.outcome.violations.push(format!("{missing} clients did not come back in time"));
        }
    }

    /// Waits until everything published has arrived, and calls the rest lost.
    fn drain(&mut self, at_most: Duration) {
        let status = self.wait_in_any_case(at_most, |status, _| !status.publishing);
        if status.publishing {
            if status.unanswered > 0 {
                let text = format!("{} publications were unanswered at the end of the drain", status.unanswered);
                self.outcome.violations.push(text);
            }
            self.shared.order(|orders| orders.publish_until_us = 0);
        }
        let mut missing = u64::MAX;
        let began_us = self.shared.now_us();
        while missing > 0 && self.shared.now_us() - began_us < at_most.as_micros() as u64 {
            let mut scan = 0;
            self.shared.order(|orders| {
                orders.scans += 1;
                scan = orders.scans;
            });
            let status = self.wait_in_any_case(DRAIN, |status, _| status.scans >= scan);
            missing = status.missing;
            if missing > 0 {
                std::thread::sleep(LOOK * 5);
            }
        }
        let mut scan = 0;
        self.shared.order(|orders| {
            orders.scans += 1;
            orders.settle = true;
            scan = orders.scans;
        });
        self.wait_in_any_case(DRAIN, |status, _| status.scans >= scan);
    }

    fn connect_publishers(&mut self) -> bool {
        let Some(publishing) = &self.shared.spec.publishing else { return true };
        let wanted = publishing.connections as u64;
        self.shared.order(|orders| orders.publishers = true);
        let shared = self.shared;
        let status = self.wait(DRAIN, |status, _| status.publishers >= wanted || !lock(&shared.failures).is_empty());
        if status.publishers < wanted && !self.is_over() {
            let text = format!("{} of {wanted} publishers could connect", status.publishers);
            self.outcome.violations.push(text);
        }
        status.publishers >= wanted
    }

    /// Everybody goes, at a bounded rate.
    fn leave(&mut self) {
        self.enter("leave");
        let version = self.shared.order(|orders| orders.leave_from_us = self.shared.now_us());
        let clients = self.shared.spec.layout.clients as f64;
        let at_most = Duration::from_secs_f64(clients / self.shared.spec.connect_rate);
        let gone = |status: Status, _| status.version >= version && status.connections == 0;
        let status = self.wait_in_any_case(at_most + DRAIN * 2, gone);
        if status.connections > 0 {
            self.outcome.notes.push(format!("{} connections had not ended when the run did", status.connections));
        }
        self.end_phase();
    }

    fn enter(&mut self, name: &str) {
        self.end_phase();
        let now_ms = self.shared.now_us() / 1000;
        self.shared.live.enter(name);
        self.outcome.phases.push(PhaseSpan { name: name.to_owned(), start_ms: now_ms, end_ms: now_ms });
    }

    fn end_phase(&mut self) {
        if let Some(phase) = self.outcome.phases.last_mut() {
            phase.end_ms = self.shared.now_us() / 1000;
        }
    }

    fn is_over(&self) -> bool {
        self.shared.live.is_stopping()
    }

    fn wait_until(&mut self, at_us: u64) {
        self.wait(Duration::from_micros(at_us.saturating_sub(self.shared.now_us())), |_, _| false);
    }

    /// Waits for `done`, a deadline or the operator; returns the last status.
    fn wait(&mut self, at_most: Duration, mut done: impl FnMut(Status, Duration) -> bool) -> Status {
        let live = &self.shared.live;
        self.wait_in_any_case(at_most, |status, now| live.is_stopping() || done(status, now))
    }

    /// Waits for `done` or a deadline; what must be finished even if the operator wants the run to end.
    fn wait_in_any_case(&self, at_most: Duration, mut done: impl FnMut(Status, Duration) -> bool) -> Status {
        let began = std::time::Instant::now();
        loop {
            let status = self.shared.status();
            let now = began.elapsed();
            if done(status, now) || now >= at_most {
                return status;
            }
            std::thread::sleep(LOOK.min(at_most.saturating_sub(now)));
        }
    }
}
