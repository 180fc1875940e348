//! The command line. Without a sub-command the node is started; the others help an operator and end at once.
//!
//! Sub-commands print to stdout, mistakes too, as scripts written for the reference expect. Exit codes: 0, 1 for a
//! refused configuration or token and for failures at run time, 2 for wrong usage.

mod files;
mod flags;
mod pages;
mod tokens;
mod tune;

use crate::config::{Config, Environment, Error, Sources, print};
use anyhow::anyhow;
use clap::{Args, Parser, Subcommand};
use flags::ServeFlags;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Real-time messaging server
///
/// Without a command the node is started. Every option of the configuration can also be set by an environment variable:
/// http_server.port is CENTRIFUGO_HTTP_SERVER_PORT.
#[derive(Debug, Parser)]
#[command(name = "gyre", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    serve: ServeFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a configuration file with fresh keys
    Genconfig(FileArgs),
    /// Say what is wrong with a configuration
    Checkconfig {
        #[command(flatten)]
        file: FileArgs,
        /// Unknown keys are mistakes too
        #[arg(short, long)]
        strict: bool,
    },
    /// Write a configuration file with every option
    ///
    /// Without a base file the values are the defaults, whatever the environment says.
    Defaultconfig {
        #[command(flatten)]
        file: FileArgs,
        /// Take values from this configuration file, and over them from the environment
        #[arg(short, long, value_name = "FILE")]
        base: Option<PathBuf>,
        /// Print instead of writing
        #[arg(short, long)]
        dry_run: bool,
    },
    /// Print every option as an environment variable
    ///
    /// Without a base file the values are the defaults, whatever the environment says.
    Defaultenv {
        /// Take values from this configuration file, and over them from the environment
        #[arg(short, long, value_name = "FILE")]
        base: Option<PathBuf>,
        /// Print only what the base file sets
        #[arg(long)]
        base_non_zero_only: bool,
    },
    /// Print a description of every option in Markdown
    Configdoc {
        /// Has no meaning: Markdown is the only form
        #[arg(short, long)]
        markdown: bool,
        /// Only options whose path starts so
        #[arg(short, long, default_value = "", hide_default_value = true)]
        section: String,
        /// Added to the level of headings
        #[arg(short = 'l', long, default_value_t = 0)]
        base_level: usize,
    },
    /// Make a connection token
    Gentoken(tokens::NewToken),
    /// Make a subscription token
    Gensubtoken {
        #[command(flatten)]
        token: tokens::NewToken,
        /// Channel to subscribe to
        #[arg(short = 's', long, default_value = "", hide_default_value = true)]
        channel: String,
    },
    /// Verify a connection token
    Checktoken(tokens::GivenToken),
    /// Verify a subscription token
    Checksubtoken(tokens::GivenToken),
    /// Check what the host allows, change it, explain it
    Tune(tune::TuneArgs),
    /// Print the completion script of a shell
    ///
    /// For bash: gyre completions bash > /usr/share/bash-completion/completions/gyre
    Completions(pages::CompletionsArgs),
    /// Print the manual page, or write one for each command
    Man(pages::ManArgs),
    /// Print the version
    Version,
}

/// `-c`
#[derive(Debug, Args)]
struct FileArgs {
    /// Configuration file: .json, .yaml, .yml or .toml
    #[arg(short, long, value_name = "FILE", default_value = "config.json")]
    config: PathBuf,
}

/// Everything the program does.
pub(crate) fn run() -> ExitCode {
    let Cli { serve, command } = Cli::parse();
    let Some(command) = command else { return start(serve) };
    match execute(command) {
        Ok(text) => say(&text),
        Err(error) => {
            let _ = writeln!(std::io::stdout(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // Whoever reads may have seen enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let _ = writeln!(std::io::stderr(), "cannot print: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// What a command prints.
fn execute(command: Command) -> anyhow::Result<String> {
    match command {
        Command::Genconfig(file) => files::generate(&file.config),
        Command::Checkconfig { file, strict } => files::check(&file.config, strict),
        Command::Defaultconfig { file, base, dry_run } => files::default_file(&file.config, base.as_deref(), dry_run),
        Command::Defaultenv { base, base_non_zero_only } => {
            files::default_variables(base.as_deref(), base_non_zero_only)
        }
        Command::Configdoc { section, base_level, .. } => Ok(print::document(&section, base_level)),
        Command::Gentoken(token) => tokens::connection(&token),
        Command::Gensubtoken { token, channel } => tokens::subscription(&token, &channel),
        Command::Checktoken(token) => tokens::check_connection(&token),
        Command::Checksubtoken(token) => tokens::check_subscription(&token),
        Command::Tune(args) => tune::run(args),
        Command::Completions(args) => pages::completions(&args),
        Command::Man(args) => pages::man(&args),
        Command::Version => Ok(format!("Gyre v{} ({})\n", env!("CARGO_PKG_VERSION"), platform())),
    }
}

fn platform() -> String {
    format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)
}

fn start(ServeFlags { config, flags, dev }: ServeFlags) -> ExitCode {
    let load = || {
        let mut environment = Environment::of_process();
        environment.add_dotenv(Path::new(".env"))?;
        Config::load(Sources { file: config, is_file_needed: false, environment, flags, dev })
    };
    match load() {
        Ok((config, warnings)) => {
            if dev {
                eprint!("{}", dev_banner(&config));
            }
            crate::serve::run(&config, &warnings)
        }
        Err(error) => {
            crate::logging::fatal(&format!("cannot start: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn dev_banner(config: &Config) -> String {
    let address = format!("{}:{}", config.http_server.address, config.http_server.port);
    let line = "!".repeat(80);
    format!(
        "{line}\n!! gyre --dev on {address}: no keys, no tokens, no permissions, any origin.\n\
         !! For trying things out on this machine. Never let anyone else reach this port.\n{line}\n"
    )
}

/// The configuration for a command: file, environment and defaults, without `.env`.
fn load(file: &Path, is_file_needed: bool) -> Result<Config, Error> {
    let environment = Environment::of_process();
    let sources = Sources { file: file.to_owned(), is_file_needed, environment, ..Sources::default() };
    Config::load(sources).map(|(config, _)| config)
}

/// Texts of errors follow the reference, so that scripts find what they look for.
fn explain(error: Error) -> anyhow::Error {
    match error {
        Error::FileMissing { .. } => anyhow!(error),
        Error::Invalid { .. } => anyhow!(error).context("error validating config"),
        error => anyhow!(error).context("error getting config"),
    }
}

/// Parts of the configuration that only their users can judge: patterns, keys, origins, certificates.
fn engine_rules(config: &Config) -> anyhow::Result<gyre_engine::rules::Rules> {
    crate::settings::Origins::new(&config.client.allowed_origins).map_err(|what| anyhow!(what))?;
    crate::settings::GrpcApiSettings::new(config)?;
    crate::settings::rules(config, &crate::settings::proxies::Proxies::new(config)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    /// A clash of flags would stop every start, but only in debug builds.
    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_options() {
        let cli =
            Cli::try_parse_from(["gyre", "-p", "9000", "--health.enabled", "--admin.enabled=false", "--dev"]).unwrap();
        let flags: Vec<_> = cli.serve.flags.iter().map(|flag| (flag.path.as_str(), flag.value.as_str())).collect();
        assert_eq!(flags, [("http_server.port", "9000"), ("admin.enabled", "false"), ("health.enabled", "true")]);
        assert!(cli.serve.dev && cli.command.is_none());
        assert_eq!(cli.serve.config, Path::new("config.json"));
        assert!(Cli::try_parse_from(["gyre", "--nonsense"]).is_err());
        assert!(Cli::try_parse_from(["gyre", "gentoken", "-u", "1", "-t", "-1"]).is_ok());
    }
}
