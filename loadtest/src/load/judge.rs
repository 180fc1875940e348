//! What the counters of a run mean: violations, and notes that say what to do about them.
//!
//! On the main thread, when the cores have ended. Pure.

use super::Outcome;
use super::spec::{Pace, Publishing, Spec};
use crate::codes::explained;
use crate::options::Via;

/// Turns counters into violations and notes. `is_stopped`: the operator ended the run before its schedule did.
pub(super) fn judge(spec: &Spec, outcome: &mut Outcome, is_stopped: bool) {
    let totals = &outcome.totals;
    let mut violations = Vec::new();
    // Whoever stops a run takes the rest of its schedule from it.
    let not_made = if is_stopped { 0 } else { totals.not_made };
    for (count, what) in [
        (totals.lost, "deliveries were lost"),
        (totals.duplicated, "deliveries came twice"),
        (totals.disordered, "deliveries came out of order"),
        (totals.closed, "connections were ended by the server"),
        (totals.publish_failed, "publications were refused or not answered"),
        (not_made, "publications of the schedule were not made"),
    ] {
        if count > 0 {
            violations.push(format!("{count} {what}"));
        }
    }
    let known = ["connect", "upgrade", "disconnect", "connection", "publish"];
    for (error, count) in &totals.errors {
        let is_counted = known.iter().any(|prefix| error.starts_with(prefix));
        if !is_counted || error.starts_with("publication of") {
            violations.push(format!("{count} x {}", explained(error)));
        }
    }
    if totals.publish_failed > 0 && totals.lost > 0 {
        outcome.notes.push("publications that failed leave gaps, which count as lost".to_owned());
    }
    let batched = |publishing: &Publishing| publishing.via == Via::Http && publishing.batch > 1 && !publishing.burst;
    if totals.errors.contains_key("publish: http 404") {
        outcome.notes.push(match spec.publishing.as_ref().is_some_and(batched) {
            true => "http 404: the server API has no method `batch`; use --batch 1, or --via ws".to_owned(),
            false => "http 404: the server API is elsewhere; say where with --api-url".to_owned(),
        });
    }
    if totals.errors.contains_key("publish: http 401") {
        outcome.notes.push("http 401: the key was refused, see --api-key".to_owned());
    }
    if outcome.never_ready > 0 {
        violations.push(format!("{} clients could not connect", outcome.never_ready));
    }
    let published = matches!(&spec.publishing, Some(publishing) if publishing.pace != Pace::Ordered);
    if published && outcome.totals.published == 0 {
        violations.push("nothing was published".to_owned());
    }
    outcome.violations.append(&mut violations);
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::live::Counts;
    use crate::options::{Cli, Command};
    use crate::plan::{Endpoint, Plan};

    fn judged(totals: Counts, is_stopped: bool) -> Vec<String> {
        let Command::Run(run) = Cli::try_parse_from(["gyre-loadtest", "idle"]).unwrap().command else {
            panic!("a run")
        };
        let (workload, common) = run.split();
        let api = Endpoint { address: ([127, 0, 0, 1], 1).into(), authority: String::new(), path: String::new() };
        let targets = vec![api.clone()];
        let plan = Plan { cores: 1, clients: 1, clients_per_core: 1, sources: Vec::new(), targets, api };
        let spec = Spec::new(&plan, &workload, &common).unwrap();
        let mut outcome = Outcome { totals, ..Outcome::default() };
        judge(&spec, &mut outcome, is_stopped);
        outcome.violations
    }

    /// A server that died on the way delivered everything it was given; an operator who has seen enough broke nothing.
    #[test]
    fn a_schedule_must_be_kept_to_its_end() {
        let totals = Counts { published: 30, not_made: 59, ..Counts::default() };
        assert_eq!(judged(totals.clone(), false), ["59 publications of the schedule were not made"]);
        assert_eq!(judged(totals, true), Vec::<String>::new());
    }

    /// Whoever reads a violation in a build log has no table of codes at hand.
    #[test]
    fn codes_in_violations_have_words() {
        let errors = [("unsubscribed 2500".to_owned(), 3), ("connect: ECONNREFUSED".to_owned(), 1)].into();
        let violations = judged(Counts { errors, ..Counts::default() }, false);
        assert_eq!(violations, ["3 x unsubscribed 2500 (insufficient state)"]);
    }
}
