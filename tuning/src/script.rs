//! A shell script that does what `apply` would do, for those who want to read it first or run it elsewhere.

use crate::check::Finding;
use crate::count::{grouped, of};
use crate::knob::{Remedy, Setting};
use crate::{Role, Target};
use std::fmt::Write as _;

/// The script for these findings; met ones are left out.
#[must_use]
pub fn script(target: &Target, findings: &[Finding]) -> String {
    let mut text = format!(
        "#!/bin/sh\n# What this host needs for a Gyre {} with {} and {} connections.\n# Written by gyre tune apply \
         --script. Values last until the machine restarts; gyre tune apply --persist keeps them.\nset -u\nstatus=0\n",
        if target.role == Role::Server { "server" } else { "load generator" },
        of(target.cores as u64, "core"),
        grouped(target.connections),
    );
    for finding in findings.iter().filter(|finding| finding.is_unmet()) {
        let (knob, reading) = (finding.knob, &finding.reading);
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n# {}: {} ({})\n# now {}, needed {}\n",
            knob.id,
            knob.title,
            finding.severity.name(),
            reading.current,
            reading.required
        );
        if !reading.note.is_empty() {
            let _ = writeln!(text, "# {}", reading.note);
        }
        match &reading.remedy {
            Remedy::Write(settings) => settings.iter().for_each(|setting| {
                let _ = writeln!(text, "{} || status=1", command(setting));
            }),
            Remedy::Limit(_) | Remedy::Text(_) | Remedy::None => {
                let _ = writeln!(text, "# by hand: {}", finding.fix());
            }
        }
    }
    text + "\nexit $status\n"
}

fn command(setting: &Setting) -> String {
    match setting.sysctl() {
        Some(name) => format!("sysctl -w {}", quoted(&format!("{name}={}", setting.value))),
        None => format!("echo {} > {}", quoted(&setting.value), quoted(&format!("/{}", setting.file))),
    }
}

/// Names of interfaces may hold what a shell takes for its own.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._=-,:".contains(c);
    if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A strange interface name must not run as a command of root.
    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("net.core.somaxconn=65535"), "net.core.somaxconn=65535");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("$(x)'y"), "'$(x)'\\''y'");
    }
}
