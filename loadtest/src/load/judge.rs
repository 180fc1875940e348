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
    // Whoever stops a run cuts its schedule there; what was due before that counts. A broadcast has no schedule to cut.
    let is_ordered = spec.publishing.as_ref().is_some_and(|publishing| publishing.pace == Pace::Ordered);
    let not_made = if is_stopped && is_ordered { 0 } else { totals.not_made };
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

    fn judged(workload: &[&str], totals: Counts, is_stopped: bool) -> Vec<String> {
        let arguments = ["gyre-loadtest"].iter().chain(workload);
        let Command::Run(run) = Cli::try_parse_from(arguments).unwrap().command else { panic!("a run") };
        let (workload, common) = run.split();
        let api = Endpoint { address: ([127, 0, 0, 1], 1).into(), authority: String::new(), path: String::new() };
        let targets = vec![api.clone()];
        let plan = Plan { cores: 1, clients: 1, clients_per_core: 1, sources: Vec::new(), targets, api };
        let spec = Spec::new(&plan, &workload, &common).unwrap();
        let mut outcome = Outcome { totals, ..Outcome::default() };
        judge(&spec, &mut outcome, is_stopped);
        outcome.violations
    }

    /// A server that died on the way delivered everything it was given. An operator who has seen enough hides nothing that
    /// was due before; a broadcast that he did not wait for is no failure.
    #[test]
    fn a_schedule_must_be_kept_to_its_end() {
        let totals = Counts { published: 30, not_made: 59, ..Counts::default() };
        let (paced, ordered) = (&["fanout", "--subscribers", "1"], &["idle", "--broadcast"]);
        for (workload, is_stopped) in [(&paced[..], false), (&paced[..], true), (&ordered[..], false)] {
            let violations = judged(workload, totals.clone(), is_stopped);
            assert_eq!(violations, ["59 publications of the schedule were not made"], "{workload:?}");
        }
        assert_eq!(judged(ordered, totals, true), Vec::<String>::new());
    }

    /// Whoever reads a violation in a build log has no table of codes at hand.
    #[test]
    fn codes_in_violations_have_words() {
        let errors = [("unsubscribed 2500".to_owned(), 3), ("connect: ECONNREFUSED".to_owned(), 1)].into();
        let violations = judged(&["idle"], Counts { errors, ..Counts::default() }, false);
        assert_eq!(violations, ["3 x unsubscribed 2500 (insufficient state)"]);
    }
}
