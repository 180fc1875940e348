//! The report of one or several records: `report.md` with its charts beside it as SVG files.
//!
//! Reads records only, never a live run, so a chart can always be drawn again. Several records become several series
//! of the same charts. Runs on the main thread.

mod chart;
mod charts;
mod markdown;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::record::Record;

/// Draws the report of record files; returns what to print.
pub fn files(paths: &[PathBuf], folder: &Path) -> Result<String> {
    let records = paths.iter().map(|path| Record::read(path)).collect::<Result<Vec<_>>>()?;
    let named: Vec<(String, Record)> = names(paths).into_iter().zip(records).collect();
    let mut text = String::new();
    for (name, record) in &named {
        _ = write!(text, "{name}\n{}", crate::summary::text(record));
    }
    let path = write(&named, folder)?;
    _ = writeln!(text, "report: {}", path.display());
    Ok(text)
}

/// Writes the report; returns the path of `report.md`.
pub fn write(records: &[(String, Record)], folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut drawn = Vec::new();
    for (file, chart) in charts::all(records) {
        let svg = chart.draw().with_context(|| format!("cannot draw {file}"))?;
        let path = folder.join(file);
        fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
        drawn.push((file, chart.title));
    }
    let path = folder.join("report.md");
    let text = markdown::text(records, &drawn);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Names of series: the files' names without their ending, with the folder where two are the same.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let stem = |path: &PathBuf| path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let stems: Vec<String> = paths.iter().map(stem).collect();
    let is_unique = |name: &String| stems.iter().filter(|other| *other == name).count() == 1;
    let pairs = stems.iter().zip(paths);
    pairs
        .map(|(stem, path)| if is_unique(stem) { stem.clone() } else { path.with_extension("").display().to_string() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two series of the same name could not be told apart.
    #[test]
    fn series_have_different_names() {
        let paths = ["a/run.json", "b/run.json", "c.json"].map(PathBuf::from);
        assert_eq!(names(&paths), ["a/run", "b/run", "c"]);
    }
}
