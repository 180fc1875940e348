//! Files that keep the values over a restart of the machine: sysctl.d, tmpfiles.d, limits.d and a systemd drop-in.
//!
//! Values that are met already are written too where they are sysctls or limits, because they may have been applied by
//! hand before; a value is never lowered. Lines of an earlier run about something else stay.

use crate::Host;
use crate::check::Finding;
use crate::knob::{Limit, Remedy, Setting, State};
use std::collections::BTreeMap;

const SYSCTL: &str = "etc/sysctl.d/60-gyre.conf";
const BOOT: &str = "etc/tmpfiles.d/60-gyre.conf";
const LIMITS: &str = "etc/security/limits.d/60-gyre.conf";
const UNIT: &str = "etc/systemd/system/gyre.service.d/60-gyre-tuning.conf";

/// A file that keeps something.
#[derive(Debug)]
pub struct Kept {
    /// Relative to the root of the file system.
    pub path: &'static str,
    /// Its whole new text.
    pub text: String,
    /// What puts it into force without a restart of the machine.
    pub activate: &'static str,
}

/// Lines of a file by what they are about.
type Lines = BTreeMap<String, String>;

/// The files for these findings. `root` is where they will be written and where earlier ones are looked for.
#[must_use]
pub fn persistent_files(root: &Host, findings: &[Finding]) -> Vec<Kept> {
    let (mut sysctl, mut boot, mut limits, mut unit) = (Lines::new(), Lines::new(), Lines::new(), Lines::new());
    for finding in findings.iter().filter(|finding| finding.reading.state != State::Absent) {
        match &finding.reading.remedy {
            Remedy::Write(settings) => {
                settings.iter().for_each(|setting| keep(setting, finding.is_unmet(), &mut sysctl, &mut boot));
            }
            Remedy::Limit(limit) => keep_limit(limit, &mut limits, &mut unit),
            Remedy::Text(_) | Remedy::None => {}
        }
    }
    let files = [
        (SYSCTL, "", sysctl, "sysctl --system"),
        (BOOT, "", boot, "systemd-tmpfiles --create"),
        (LIMITS, "", limits, "log in again"),
        (UNIT, "[Service]\n", unit, "systemctl daemon-reload && systemctl restart gyre"),
    ];
    let merged = files.into_iter().map(|(path, head, mut lines, activate)| {
        let before = root.read(path).unwrap_or_default();
        for (key, line) in before.lines().filter_map(|line| Some((key_of(path, line)?, line))) {
            lines.entry(key).or_insert_with(|| line.to_owned());
        }
        let text: String = lines.values().map(|line| format!("{line}\n")).collect();
        let head = format!("# Written by gyre tune apply --persist; gyre tune explain says why.\n{head}");
        (!lines.is_empty()).then_some(Kept { path, text: head + &text, activate })
    });
    merged.flatten().collect()
}

fn keep(setting: &Setting, is_unmet: bool, sysctl: &mut Lines, boot: &mut Lines) {
    if let Some(name) = setting.sysctl() {
        sysctl.insert(name.clone(), format!("{name} = {}", setting.value));
    } else if setting.file.starts_with("sys/") && is_unmet {
        let path = format!("/{}", setting.file);
        boot.insert(path.clone(), format!("w {path} - - - - {}", setting.value));
    }
    // Interrupt numbers change from start to start: nothing to keep for files below proc/irq.
}

/// `*` does not cover root in limits.conf. Only the hard limit of open files: Gyre raises its soft one itself, and a high
/// soft one breaks programs that use `select`.
fn keep_limit(limit: &Limit, limits: &mut Lines, unit: &mut Lines) {
    let kind = if limit.item == "nofile" { "hard" } else { "-" };
    for who in ["*", "root"] {
        let key = format!("{who} {kind} {}", limit.item);
        limits.insert(key.clone(), format!("{key} {}", limit.item_value));
    }
    unit.insert(limit.directive.to_owned(), format!("{}={}", limit.directive, limit.directive_value));
}

/// What a line of one of the files is about; `None` for comments and heads.
fn key_of(path: &str, line: &str) -> Option<String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', '[', ';']) {
        return None;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    match path {
        LIMITS => Some(words.get(..3)?.join(" ")),
        BOOT => words.get(1).map(|word| (*word).to_owned()),
        _ => line.split_once('=').map(|(key, _)| key.trim().to_owned()),
    }
}
