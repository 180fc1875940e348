//! The shape of a knob: one condition of the host, how it is judged, and what would meet it. Data only.

use crate::{Host, Role, Target};

/// One condition that Gyre wants of its host.
#[derive(Debug)]
pub struct Knob {
    /// As on the command line: `somaxconn`.
    pub id: &'static str,
    /// What an administrator knows it by: `net.core.somaxconn`, `RLIMIT_NOFILE`.
    pub setting: &'static str,
    /// What it is, in a few words.
    pub title: &'static str,
    /// One paragraph: what goes wrong without it, why this value, what it costs.
    pub why: &'static str,
    /// The side that needs it; `None` for both.
    pub role: Option<Role>,
    /// How bad it is when it is not met.
    pub severity: Severity,
    /// Reads the host and judges it against the target.
    pub(crate) read: fn(&Host, &Target) -> Reading,
}

/// What an unmet condition means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Works, but leaves speed or memory on the table.
    Hint,
    /// Works until the load comes.
    Warning,
    /// Too small for the planned load, or for running at all.
    Fatal,
    /// Fatal when somebody planned the number of connections, else a warning.
    Capacity,
}

impl Severity {
    /// Resolves [`Self::Capacity`].
    #[must_use]
    pub fn under(self, target: &Target) -> Self {
        match self {
            Self::Capacity if target.is_planned => Self::Fatal,
            Self::Capacity => Self::Warning,
            severity => severity,
        }
    }

    /// As in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hint => "hint",
            Self::Warning => "warning",
            Self::Fatal | Self::Capacity => "fatal",
        }
    }
}

/// Is the condition met?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing to do.
    Met,
    /// Something to do.
    Unmet,
    /// This host has no such thing, or does not show it.
    Absent,
}

/// What a knob found on the host.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The verdict.
    pub state: State,
    /// Value now; for an absent one the reason why there is none.
    pub current: String,
    /// Value needed.
    pub required: String,
    /// Arithmetic or circumstances, one sentence; may be empty.
    pub note: String,
    /// What meets the condition. Present on a met one too where it is worth keeping over a restart of the machine.
    pub remedy: Remedy,
    /// Set where the finding is worse or milder than the knob's usual severity.
    pub severity: Option<Severity>,
}

/// How a condition is met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Values to write, and where.
    Write(Vec<Setting>),
    /// A resource limit: set by whoever starts the process.
    Limit(Limit),
    /// Something only a person can do.
    Text(String),
    /// Nothing.
    None,
}

/// A file of /proc or /sys with the value it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Relative to the host's root: `proc/sys/net/core/somaxconn`.
    pub file: String,
    /// What it holds now.
    pub current: String,
    /// What it should hold.
    pub value: String,
}

impl Setting {
    /// `net.core.somaxconn` for a file below proc/sys.
    #[must_use]
    pub fn sysctl(&self) -> Option<String> {
        self.file.strip_prefix("proc/sys/").map(|name| name.replace('/', "."))
    }

    /// What an administrator would type.
    #[must_use]
    pub fn command(&self) -> String {
        match self.sysctl() {
            Some(name) if self.value.contains(' ') => format!("sysctl -w {name}='{}'", self.value),
            Some(name) => format!("sysctl -w {name}={}", self.value),
            None => format!("echo {} > /{}", self.value, self.file),
        }
    }
}

/// A resource limit by its names in the two places where it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// In limits.conf: `nofile`.
    pub item: &'static str,
    /// In a systemd unit: `LimitNOFILE`.
    pub directive: &'static str,
    /// For limits.conf, in its unit.
    pub item_value: String,
    /// For the unit.
    pub directive_value: String,
    /// Another way out, with a leading space; may be empty.
    pub otherwise: String,
}

impl Reading {
    /// A verdict on two printable values.
    pub(crate) fn new(is_met: bool, current: impl Into<String>, required: impl Into<String>) -> Self {
        Self {
            state: if is_met { State::Met } else { State::Unmet },
            current: current.into(),
            required: required.into(),
            note: String::new(),
            remedy: Remedy::None,
            severity: None,
        }
    }

    /// Does not apply to this host.
    pub(crate) fn absent(reason: impl Into<String>) -> Self {
        Self { state: State::Absent, ..Self::new(true, reason, "") }
    }

    pub(crate) fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    pub(crate) fn remedy(self, remedy: Remedy) -> Self {
        Self { remedy, ..self }
    }

    pub(crate) fn text(self, remedy: impl Into<String>) -> Self {
        self.remedy(Remedy::Text(remedy.into()))
    }

    pub(crate) fn severity(self, severity: Severity) -> Self {
        Self { severity: Some(severity), ..self }
    }
}
