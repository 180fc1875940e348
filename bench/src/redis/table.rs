//! The table of figures: each beside its reference of the same run and its goal.

use std::fmt::Write;

use crate::stats::Spread;

#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

/// One figure. Without values it is left out.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) values: Vec<f64>,
    /// What it is held against: its name and values.
    pub(crate) reference: Option<(&'static str, Vec<f64>)>,
    pub(crate) goal: Goal,
}

/// What the medians have to be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    None,
    /// The figure.
    AtMost(f64),
    /// Figure through reference.
    RatioAtLeast(f64),
}

impl Table {
    /// Adds a row and shows it.
    pub(crate) fn add(&mut self, row: Row) {
        println!("  {}", row.line().trim_matches(['|', ' ']));
        self.rows.push(row);
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("| figure | Gyre | reference | ratio | goal |\n|---|---:|---:|---:|---|\n");
        for row in &self.rows {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}", row.line());
        }
        text
    }
}

impl Row {
    fn line(&self) -> String {
        let ours = Spread::of(self.values.iter().copied());
        let (name, other) = match &self.reference {
            Some((name, values)) => (*name, Spread::of(values.iter().copied())),
            None => ("", None),
        };
        let ratio =
            ours.zip(other).filter(|(_, other)| other.median > 0.0).map(|(ours, other)| ours.median / other.median);
        let reference = other.map_or(String::new(), |other| format!("{name} {}", shown(&other)));
        format!(
            "| {}, {} | {} | {reference} | {} | {} |",
            self.what,
            self.unit,
            ours.map_or("-".to_owned(), |ours| shown(&ours)),
            ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")),
            self.goal.judged(ours.map(|ours| ours.median), ratio)
        )
    }
}

impl Goal {
    fn judged(self, value: Option<f64>, ratio: Option<f64>) -> String {
        let (text, is_met) = match self {
            Self::None => return String::new(),
            Self::AtMost(most) => (format!("at most {most}"), value.is_some_and(|value| value <= most)),
            Self::RatioAtLeast(least) => (format!("ratio at least {least}"), ratio.is_some_and(|ratio| ratio >= least)),
        };
        format!("{text}: {}", if is_met { "met" } else { "missed" })
    }
}

fn shown(spread: &Spread) -> String {
    let Spread { median, min, max } = *spread;
    let digits = match median.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    if min == max {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({min:.digits$} .. {max:.digits$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    // A goal that is missed would be shown as met, or the ratio upside down.
    #[test]
    fn a_row_says_whether_its_goal_is_met() {
        let row = |goal| Row {
            what: "rate".to_owned(),
            unit: "/s",
            values: vec![90.0, 80.0, 70.0],
            reference: Some(("other", vec![100.0])),
            goal,
        };
        assert_eq!(
            row(Goal::RatioAtLeast(0.8)).line(),
            "| rate, /s | 80.0 (70.0 .. 90.0) | other 100 | 0.80 | ratio at least 0.8: met |"
        );
        assert!(row(Goal::RatioAtLeast(0.81)).line().ends_with("missed |"));
        assert!(row(Goal::AtMost(79.0)).line().ends_with("missed |"));
        assert!(row(Goal::AtMost(80.0)).line().ends_with("met |"));
        assert!(Row { values: vec![], ..row(Goal::AtMost(80.0)) }.line().ends_with("missed |"));
    }
}
