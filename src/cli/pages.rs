//! What packages install beside the binary: completions for shells and manual pages, both made from the definition of
//! the command line, so that they never lag behind it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Arg, Command, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;

/// `completions`
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
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
    clap_complete::generate(args.shell, &mut command_for(args.shell), "gyre", &mut script);
    Ok(String::from_utf8(script)?)
}

/// For fish without the flags of options: it has a dot in no flag's name, and with one in a script it completes nothing.
fn command_for(shell: Shell) -> Command {
    let all = Cli::command();
    if shell != Shell::Fish {
        return all;
    }
    let is_known = |arg: &&Arg| arg.get_long().is_none_or(|name| !name.contains('.'));
    let mut command = Command::new("gyre").version(env!("CARGO_PKG_VERSION"));
    command = command.args(all.get_arguments().filter(is_known).cloned());
    command.subcommands(all.get_subcommands().cloned())
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
