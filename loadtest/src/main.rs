//! The binary: reads the command line and hands over to the library. Exit codes: 0 passed, 1 violated or failed,
//! 2 usage or refused.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use gyre_loadtest::options::{Cli, Command};
use gyre_loadtest::{compare, report, session, summary};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(run) => {
            let (workload, common) = run.split();
            let arguments: Vec<String> = std::env::args().skip(1).collect();
            session::run(&workload, &common, &arguments)
        }
        Command::Plan(run) => {
            let (workload, common) = run.split();
            session::plan(&workload, &common)
        }
        Command::Compare { before, after } => {
            compare::files(&before, &after).and_then(|text| summary::print(&text)).map(|()| ExitCode::SUCCESS)
        }
        Command::Report { records, out } => {
            report::files(&records, &out).and_then(|text| summary::print(&text)).map(|()| ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("gyre-loadtest: {error:#}");
        ExitCode::FAILURE
    })
}
