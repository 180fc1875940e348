//! Check, act, check again: writes what unmet knobs need and believes only what it reads afterwards.

use crate::check::Finding;
use crate::knob::{Knob, Remedy, Setting, State};
use crate::{Host, Target};
use std::fmt;
use std::io;

/// What became of one knob.
#[derive(Debug)]
pub struct Change {
    /// Which.
    pub knob: &'static Knob,
    /// What became of it.
    pub outcome: Outcome,
}

/// What acting came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was met before.
    Fine,
    /// It is met now.
    Changed {
        /// Before.
        from: String,
        /// After.
        to: String,
    },
    /// This host has no such thing.
    Absent(String),
    /// Writing was tried and did not help.
    Failed(String),
    /// Nothing can be written from here; what a person can do.
    Left(String),
}

/// Those of the named knobs that are unmet, or of all.
#[must_use]
pub fn plan(host: &Host, target: &Target, chosen: &[&'static Knob]) -> Vec<Finding> {
    let findings = chosen.iter().map(|knob| Finding::read(knob, host, target));
    findings.filter(Finding::is_unmet).collect()
}

/// Meets the conditions of the given knobs where that is a matter of writing.
#[must_use]
pub fn apply(host: &Host, target: &Target, chosen: &[&'static Knob]) -> Vec<Change> {
    chosen.iter().map(|knob| Change { knob, outcome: act(host, target, knob) }).collect()
}

fn act(host: &Host, target: &Target, knob: &'static Knob) -> Outcome {
    let before = Finding::read(knob, host, target);
    match (before.reading.state, &before.reading.remedy) {
        (State::Met, _) => Outcome::Fine,
        (State::Absent, _) => Outcome::Absent(before.reading.current),
        (State::Unmet, Remedy::Write(settings)) => {
            // All of them, also after a failure: the rest may be allowed.
            let failures: Vec<String> = settings.iter().filter_map(|setting| write(host, setting).err()).collect();
            let after = Finding::read(knob, host, target);
            match failures.first() {
                Some(failure) if after.is_unmet() => Outcome::Failed(failure.clone()),
                _ if after.is_unmet() => {
                    Outcome::Failed(format!("written, but the kernel says {}", after.reading.current))
                }
                _ => Outcome::Changed { from: before.reading.current, to: after.reading.current },
            }
        }
        (State::Unmet, Remedy::Limit(_)) => {
            Outcome::Left(format!("a limit belongs to whoever starts the process: {}", before.fix()))
        }
        (State::Unmet, Remedy::Text(_) | Remedy::None) => Outcome::Left(before.fix()),
    }
}

fn write(host: &Host, setting: &Setting) -> Result<(), String> {
    host.write(&setting.file, &setting.value).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "permission denied; run it as root",
            io::ErrorKind::ReadOnlyFilesystem => "read-only here, as in most containers; set it on the host",
            io::ErrorKind::NotFound => "no such file: this kernel or network namespace does not have it",
            _ => return format!("cannot write {} to /{}: {error}", setting.value, setting.file),
        };
        format!("cannot write {} to /{}: {remedy}", setting.value, setting.file)
    })
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.knob.id;
        match &self.outcome {
            Outcome::Fine => write!(f, "ok       {id}"),
            Outcome::Changed { from, to } => write!(f, "changed  {id}: {from} -> {to}"),
            Outcome::Absent(reason) => write!(f, "absent   {id}: {reason}"),
            Outcome::Failed(reason) => write!(f, "failed   {id}: {reason}"),
            Outcome::Left(reason) => write!(f, "by hand  {id}: {reason}"),
        }
    }
}
