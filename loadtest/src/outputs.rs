//! The files that a run is to leave behind, tried before anything is dialled.
//!
//! A path that cannot be written is an option like any other wrong one: refused at once, not after an hour. Nothing is
//! overwritten here, because the run may still be refused for another reason.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use crate::options::Common;

/// Opens all of them; returns the histogram log, or what cannot be written.
pub(crate) fn open(common: &Common) -> Result<Option<File>, Vec<String>> {
    let report = common.report.as_ref().map(|folder| {
        fs::create_dir_all(folder).map_err(|error| format!("--report: cannot make {}: {error}", folder.display()))?;
        writable("--report", &folder.join("report.md"))
    });
    let json = common.json.as_ref().map(|path| writable("--json", path));
    let hlog = common.hlog.as_ref().map(|path| writable("--hlog", path));
    let refusals = [&json, &hlog, &report].into_iter().flatten().filter_map(|tried| tried.as_ref().err().cloned());
    let refusals: Vec<String> = refusals.collect();
    if refusals.is_empty() { Ok(hlog.and_then(Result::ok)) } else { Err(refusals) }
}

fn writable(option: &str, path: &Path) -> Result<File, String> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|error| format!("{option}: cannot write {}: {error}", path.display()))
}
