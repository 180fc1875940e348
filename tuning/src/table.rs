//! Findings as people read them: aligned columns, wrapped to the width of the terminal.

use crate::check::{Finding, Report};
use crate::count::of;
use crate::knob::{Knob, Severity, State};
use std::fmt::Write as _;

const HEADS: [&str; 5] = ["CONDITION", "CURRENT", "REQUIRED", "SEVERITY", "FIX"];

/// Cells beyond this wrap, so that a long value does not push the remedy off the screen.
const CELL_MAX: usize = 20;

/// Where less is left for the last column, remedies get lines of their own: most are commands of about this length.
const FIX_MIN: usize = 44;

/// No terminal is narrower.
const TEXT_MIN: usize = 24;

/// The whole check: head line, table, what does not apply, sum.
#[must_use]
pub fn table(report: &Report, width: usize, is_fatal_only: bool) -> String {
    let mut text = head(report);
    let is_shown =
        |finding: &&Finding| finding.is_fatal() || (!is_fatal_only && finding.reading.state != State::Absent);
    let shown: Vec<&Finding> = report.findings.iter().filter(is_shown).collect();
    if !shown.is_empty() {
        text.push('\n');
        rows(&mut text, &shown, width);
    }
    if !is_fatal_only {
        let absent = report.findings.iter().filter(|finding| finding.reading.state == State::Absent);
        let absent: Vec<String> =
            absent.map(|finding| format!("{} ({})", finding.knob.id, finding.reading.current)).collect();
        if !absent.is_empty() {
            text.push('\n');
            paragraph(&mut text, &format!("does not apply here: {}", absent.join(", ")), "", width);
        }
    }
    text.push('\n');
    paragraph(&mut text, &sum(report), "", width);
    text
}

fn head(report: &Report) -> String {
    let target = &report.target;
    let assumed = if target.is_planned { "" } else { " (assumed; --connections says how many are planned)" };
    format!(
        "{}, {}, {}{assumed}\n",
        target.role.name(),
        of(target.cores as u64, "core"),
        of(target.connections, "connection")
    )
}

fn sum(report: &Report) -> String {
    let counts =
        [Severity::Fatal, Severity::Warning, Severity::Hint].map(|severity| (report.count(severity), severity));
    let parts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, severity)| match severity {
        Severity::Fatal | Severity::Capacity => format!("{count} fatal"),
        severity => of(*count as u64, severity.name()),
    });
    let parts: Vec<String> = parts.collect();
    let worst = report.findings.iter().find(|finding| finding.is_unmet());
    match worst {
        None => "all conditions are met".to_owned(),
        Some(worst) => format!(
            "{}; gyre tune apply --dry-run prints what would be written, gyre tune explain {} says why",
            parts.join(", "),
            worst.knob.id
        ),
    }
}

fn rows(text: &mut String, findings: &[&Finding], width: usize) {
    let cells = findings.iter().map(|finding| {
        let severity = if finding.is_unmet() { finding.severity.name() } else { "ok" };
        let reading = &finding.reading;
        [
            finding.knob.id.to_owned(),
            reading.current.clone(),
            reading.required.clone(),
            severity.to_owned(),
            finding.fix(),
        ]
    });
    let cells: Vec<[String; 5]> = cells.collect();
    let mut widths = HEADS.map(str::len);
    for row in &cells {
        for (cell, widest) in row.iter().zip(&mut widths) {
            *widest = (*widest).max(cell.chars().count().min(CELL_MAX));
        }
    }
    let before_fix: usize = widths[..4].iter().map(|width| width + 2).sum();
    let is_wide = width >= before_fix + FIX_MIN;
    widths[4] = if is_wide { width - before_fix } else { usize::MAX };
    let columns = if is_wide { 5 } else { 4 };
    line(text, &HEADS.map(str::to_owned)[..columns], &widths);
    for (finding, row) in findings.iter().zip(&cells) {
        line(text, &row[..columns], &widths);
        let Finding { knob, reading, .. } = finding;
        // Met conditions show their arithmetic only where it is about what fits.
        let is_noted = finding.is_unmet() || knob.severity == Severity::Capacity;
        if is_noted && !reading.note.is_empty() {
            paragraph(text, &reading.note, "    ", width);
        }
        if !is_wide && !row[4].is_empty() {
            paragraph(text, &format!("fix: {}", row[4]), "    ", width);
        }
    }
}

/// One row of the table, over as many lines as its longest cell needs.
fn line(text: &mut String, row: &[String], widths: &[usize; 5]) {
    let cells: Vec<Vec<String>> = row.iter().zip(widths).map(|(cell, width)| wrapped(cell, *width)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(1);
    for at in 0..height {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let width = if column == 4 { 0 } else { *width };
            // Writing to a string cannot fail.
            let _ = write!(line, "{:width$}  ", cell.get(at).map_or("", String::as_str));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn paragraph(text: &mut String, words: &str, indent: &str, width: usize) {
    for line in wrapped(words, width.saturating_sub(indent.len()).max(TEXT_MIN)) {
        let _ = writeln!(text, "{indent}{line}");
    }
}

/// Lines of at most `width` characters, broken at spaces; a longer word has a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// One knob in a paragraph, with its value here.
#[must_use]
pub fn explain(finding: &Finding, width: usize) -> String {
    let (knob, reading) = (finding.knob, &finding.reading);
    let mut text = format!("{}: {}", knob.id, knob.title);
    if knob.setting != knob.id {
        let _ = write!(text, " ({})", knob.setting);
    }
    text += "\n\n";
    paragraph(&mut text, knob.why, "", width);
    let state = match reading.state {
        State::Absent => format!("Does not apply here: {}.", reading.current),
        State::Met => format!("Here: {}, required {}: ok.", reading.current, reading.required),
        State::Unmet => {
            format!("Here: {}, required {}: {}.", reading.current, reading.required, finding.severity.name())
        }
    };
    text.push('\n');
    paragraph(&mut text, &state, "", width);
    if !reading.note.is_empty() {
        paragraph(&mut text, &format!("Arithmetic: {}.", reading.note), "", width);
    }
    let fix = finding.fix();
    if !fix.is_empty() {
        paragraph(&mut text, &format!("Fix: {fix}"), "", width);
    }
    text
}

/// All knobs with their titles.
#[must_use]
pub fn index<'a>(knobs: impl Iterator<Item = &'a Knob>) -> String {
    let mut text = String::new();
    for knob in knobs {
        let _ = writeln!(text, "{:18} {:34} {}", knob.id, knob.setting, knob.title);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A long remedy in a narrow terminal must stay readable, not be cut.
    #[test]
    fn words_wrap_and_none_is_lost() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("averylongword x", 4), ["averylongword", "x"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
