//! What packages install beside the binary: completions for shells and manual pages, both made from the definition of
//! the command line, so that they never lag behind it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::Cli;

/// `completions`
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// Which shell
    shell: clap_complete::Shell,
}

/// `man`
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Write gyre.1 and one page for each command into this directory instead of printing gyre.1
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<String> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "gyre", &mut script);
    Ok(String::from_utf8(script)?)
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<String> {
    match &args.dir {
        Some(dir) => write_all(dir).map(|()| String::new()),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command().disable_help_subcommand(true)).render(&mut page)?;
            Ok(String::from_utf8(page)?)
        }
    }
}

fn write_all(dir: &Path) -> anyhow::Result<()> {
    let write = || {
        std::fs::create_dir_all(dir)?;
        clap_mangen::generate_to(Cli::command(), dir)
    };
    write().with_context(|| format!("cannot write manual pages into {}", dir.display()))
}
