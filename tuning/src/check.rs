//! Reads all knobs of a role and sums up.

use crate::knob::{Knob, Reading, Remedy, Severity, State};
use crate::{Host, Target, knobs};

/// One knob and what it found.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Which.
    pub knob: &'static Knob,
    /// What the host says.
    pub reading: Reading,
    /// How bad it is if unmet.
    pub severity: Severity,
}

/// What one check of a host found.
#[derive(Debug)]
pub struct Report {
    /// What was checked against.
    pub target: Target,
    /// Worst first, then in the order of the table; met ones and those that do not apply last.
    pub findings: Vec<Finding>,
}

/// Reads every knob of the target's role.
#[must_use]
pub fn check(host: &Host, target: &Target) -> Report {
    let mut findings: Vec<Finding> = knobs::of(target.role).map(|knob| Finding::read(knob, host, target)).collect();
    findings.sort_by_key(Finding::rank);
    Report { target: target.clone(), findings }
}

impl Finding {
    /// Reads one knob.
    #[must_use]
    pub fn read(knob: &'static Knob, host: &Host, target: &Target) -> Self {
        let reading = (knob.read)(host, target);
        let severity = reading.severity.unwrap_or(knob.severity).under(target);
        Self { knob, reading, severity }
    }

    /// Something to do?
    #[must_use]
    pub fn is_unmet(&self) -> bool {
        self.reading.state == State::Unmet
    }

    /// Something that must be done?
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.is_unmet() && self.severity == Severity::Fatal
    }

    fn rank(&self) -> u8 {
        match (self.reading.state, self.severity) {
            (State::Unmet, Severity::Fatal | Severity::Capacity) => 0,
            (State::Unmet, Severity::Warning) => 1,
            (State::Unmet, Severity::Hint) => 2,
            (State::Met, _) => 3,
            (State::Absent, _) => 4,
        }
    }

    /// What to do about it, in one line; empty when there is nothing to do.
    #[must_use]
    pub fn fix(&self) -> String {
        match &self.reading.remedy {
            _ if !self.is_unmet() => String::new(),
            Remedy::Write(settings) => match &settings[..] {
                [] => String::new(),
                [setting] => setting.command(),
                [first, rest @ ..] => format!("{} and {} more", first.command(), rest.len()),
            },
            Remedy::Limit(limit) => {
                format!("systemd: {}={}{}", limit.directive, limit.directive_value, limit.otherwise)
            }
            Remedy::Text(text) => text.clone(),
            Remedy::None => String::new(),
        }
    }

    /// The finding as an error: the thing, its value, and the remedy.
    #[must_use]
    pub fn error(&self) -> String {
        let Reading { current, required, note, .. } = &self.reading;
        let fix = self.fix();
        let circumstances = if note.is_empty() { String::new() } else { format!(" ({note})") };
        let fix = if fix.is_empty() { String::new() } else { format!("; {fix}") };
        format!("{} is {current}, needed is {required}{circumstances}{fix}", self.knob.setting)
    }
}

impl Report {
    /// Those that would stop the target.
    pub fn fatal(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.is_fatal())
    }

    /// Unmet ones of a severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.is_unmet() && finding.severity == severity).count()
    }

    /// Unmet ones that are not fatal.
    #[must_use]
    pub fn hints(&self) -> usize {
        self.findings.iter().filter(|finding| finding.is_unmet() && !finding.is_fatal()).count()
    }

    /// An attempt says more than files do: somebody tried io_uring, and it worked or was refused with these words.
    pub fn tried_io_uring(&mut self, result: Result<(), String>) {
        if let Some(finding) = self.findings.iter_mut().find(|finding| finding.knob.id == "io_uring") {
            let required = &*finding.reading.required;
            finding.reading = match result {
                Ok(()) => Reading::new(true, "works (tried)", required),
                Err(refusal) => Reading::new(false, "refused (tried)", required).text(refusal),
            };
        }
        self.findings.sort_by_key(Finding::rank);
    }
}
