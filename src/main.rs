//! Gyre: a real-time messaging server, one pinned thread per core on io_uring.
//!
//! `cli` reads the command line, `config` the configuration, `serve` starts a node: the control thread
//! (`control_plane`) and the cores (`data_plane`).

#![forbid(unsafe_code)]

mod base64_text;
mod cli;
mod config;
mod control_plane;
mod data_plane;
mod discovery;
mod host_check;
mod layout;
mod limits;
mod logging;
mod placement;
mod serve;
mod settings;

use std::process::ExitCode;

#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
