//! Stand-in.
use crate::config::{Config, Sources};
pub(crate) fn run() -> std::process::ExitCode {
    let mut sources = Sources { dev: true, ..Sources::default() };
    if let Some(file) = std::env::args().nth(1) { sources.file = file.into(); sources.is_file_needed = true; sources.dev = false; }
    match Config::load(sources) { Ok((c, w)) => crate::serve::run(&c, &w), Err(e) => { eprintln!("{e}"); std::process::ExitCode::FAILURE } }
}
