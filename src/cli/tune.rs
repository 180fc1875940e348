//! `gyre tune`: what the host must allow, how it is, and how to change it. Judging and acting is in the tuning package;
//! here are arguments, the target from the configuration, and what is printed. Exit code 1 while something fatal is left.

use super::explain as explain_config;
use crate::config::Config;
use crate::config::types::Cores;
use crate::host_check;
use crate::layout::Layout;
use crate::settings::proxies::Proxies;
use anyhow::{Context as _, anyhow};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Subcommand, ValueEnum};
use gyre_tuning::knob::{Remedy, State};
use gyre_tuning::{CONNECTIONS_ASSUMED, CONNECTIONS_MAX, Finding, Host, Outcome, Report, Role, Target, count, knobs};
use serde_json::json;
use std::fmt::Write as _;
use std::fs;
use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Columns where the output goes to a file or a pipe.
const WIDTH_WITHOUT_TERMINAL: usize = 120;

#[derive(Debug, Args)]
pub(super) struct TuneArgs {
    #[command(subcommand)]
    command: TuneCommand,
}

#[derive(Debug, Subcommand)]
enum TuneCommand {
    /// Compare this host with what the planned load needs
    ///
    /// Exit code 1 if something fatal is found.
    Check {
        #[command(flatten)]
        target: TargetArgs,
        /// Only what would stop the node from starting or from holding the planned connections
        #[arg(long)]
        fatal_only: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change what can be changed: check, act, check again
    Apply(ApplyArgs),
    /// Say what a knob is about and how it is here; without a name list all
    Explain {
        /// Such as somaxconn or net.core.somaxconn
        #[arg(value_parser = knob_names(), ignore_case = true, hide_possible_values = true)]
        knob: Option<String>,
        #[command(flatten)]
        target: TargetArgs,
    },
}

#[derive(Debug, Args)]
struct ApplyArgs {
    /// Only these knobs
    #[arg(value_parser = knob_names(), ignore_case = true, hide_possible_values = true)]
    knobs: Vec<String>,
    #[command(flatten)]
    target: TargetArgs,
    /// Print what would be written
    #[arg(long)]
    dry_run: bool,
    /// Write a shell script that does it instead; - prints it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dry_run", "persist"])]
    script: Option<PathBuf>,
    /// Also write sysctl.d, tmpfiles.d, limits.d and systemd files that keep it over a restart
    #[arg(long)]
    persist: bool,
    /// Root of the file system for the files of --persist
    #[arg(long, value_name = "DIR", requires = "persist")]
    root: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct TargetArgs {
    /// Configuration file: cores, and what else opens files
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Cores; otherwise those of the configuration
    #[arg(long, value_name = "NUMBER")]
    cores: Option<usize>,
    /// Connections to plan for, such as 20k or 1m
    #[arg(long, value_name = "NUMBER", value_parser = connections)]
    connections: Option<u64>,
    /// Which side of the connections this host is
    #[arg(long, value_enum, default_value_t = Side::Server)]
    role: Side,
    /// A recorded tree of /proc and /sys in place of this host
    #[arg(long, value_name = "DIR", hide = true, value_parser = directory)]
    host: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Side {
    Server,
    Generator,
}

fn connections(text: &str) -> Result<u64, String> {
    let connections = count::parse(text)?;
    if connections > CONNECTIONS_MAX { Err(format!("{text} is too large")) } else { Ok(connections) }
}

fn directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_dir() { Ok(path) } else { Err("no such directory".to_owned()) }
}

/// Ids to complete; what the host calls a knob is understood too.
fn knob_names() -> PossibleValuesParser {
    knobs::all().map(|knob| PossibleValue::new(knob.id).alias(knob.setting).help(knob.title)).collect::<Vec<_>>().into()
}

/// Everything `gyre tune` does.
///
/// # Errors
/// What is printed when something fatal is left, besides mistakes.
pub(super) fn run(args: TuneArgs) -> anyhow::Result<String> {
    let (text, is_fine) = match args.command {
        TuneCommand::Check { target, fatal_only, json } => check(&target, fatal_only, json)?,
        TuneCommand::Apply(args) => apply(&args)?,
        TuneCommand::Explain { knob, target } => (explain(knob.as_deref(), &target)?, true),
    };
    if is_fine { Ok(text) } else { Err(anyhow!("{}", text.trim_end())) }
}

/// What is printed, and whether nothing fatal was found.
type Answer = anyhow::Result<(String, bool)>;

fn check(args: &TargetArgs, is_fatal_only: bool, is_json: bool) -> Answer {
    let (host, target) = args.host_and_target()?;
    let report = checked(&host, &target);
    let is_fine = report.fatal().next().is_none();
    let text =
        if is_json { as_json(&report, is_fatal_only) } else { gyre_tuning::table(&report, width(), is_fatal_only) };
    Ok((text, is_fine))
}

/// The files of a host say what it intends; for io_uring an attempt says more.
fn checked(host: &Host, target: &Target) -> Report {
    let mut report = gyre_tuning::check(host, target);
    if host.is_real() {
        // As the node does before it tries.
        crate::serve::raise_limits();
        report.tried_io_uring(gyre_io::probe().map_err(|error| error.to_string()));
    }
    report
}

fn as_json(report: &Report, is_fatal_only: bool) -> String {
    let shown = report.findings.iter().filter(|finding| !is_fatal_only || finding.is_fatal());
    let findings = shown.map(|finding| {
        json!({
            "id": finding.knob.id,
            "setting": finding.knob.setting,
            "title": finding.knob.title,
            "state": match finding.reading.state {
                State::Met => "ok",
                State::Unmet => finding.severity.name(),
                State::Absent => "absent",
            },
            "current": finding.reading.current,
            "required": finding.reading.required,
            "note": finding.reading.note,
            "fix": finding.fix(),
        })
    });
    let target = &report.target;
    let tree = json!({
        "schema": 1,
        "target": {
            "role": target.role.name(),
            "cores": target.cores,
            "cpus": target.cpus,
            "connections": target.connections,
            "planned": target.is_planned,
        },
        "conditions": findings.collect::<Vec<_>>(),
        "fatal": report.fatal().count(),
        "hints": report.hints(),
    });
    format!("{tree:#}\n")
}

fn apply(args: &ApplyArgs) -> Answer {
    let (host, target) = args.target.host_and_target()?;
    let chosen: Vec<_> = match &args.knobs[..] {
        [] => knobs::of(target.role).collect(),
        names => names.iter().filter_map(|name| knobs::named(name)).collect(),
    };
    if let Some(path) = &args.script {
        return script(path, &target, &gyre_tuning::plan(&host, &target, &chosen));
    }
    let files = match &args.root {
        Some(root) => Host::at(root),
        None => host.clone(),
    };
    // Read before acting: afterwards nothing is left to be done, and so nothing to be kept.
    let before: Vec<Finding> = chosen.iter().map(|knob| Finding::read(knob, &host, &target)).collect();
    let kept = if args.persist { gyre_tuning::persistent_files(&files, &before) } else { Vec::new() };
    if args.dry_run {
        let mut text = would_write(&before);
        for file in kept {
            let _ = write!(text, "\n{} would hold:\n{}", files.path(file.path).display(), file.text);
        }
        return Ok((text, true));
    }
    let mut text = String::new();
    let mut is_fine = true;
    let mut met = 0;
    for change in gyre_tuning::apply(&host, &target, &chosen) {
        match change.outcome {
            Outcome::Fine => met += 1,
            // Asked for everything, what the host does not have is no news.
            Outcome::Absent(_) if args.knobs.is_empty() => {}
            _ => drop(writeln!(text, "{change}")),
        }
        is_fine &= !matches!(change.outcome, Outcome::Failed(_));
    }
    for file in kept {
        let path = files.path(file.path);
        match files.create(file.path, &file.text) {
            Ok(()) => drop(writeln!(text, "wrote    {} (in force after: {})", path.display(), file.activate)),
            Err(error) => {
                is_fine = false;
                let _ = writeln!(text, "failed   cannot write {}: {error}", path.display());
            }
        }
    }
    let left: Vec<Finding> = gyre_tuning::plan(&host, &target, &chosen);
    let _ = writeln!(text, "{}{met} met before, {} left", if text.is_empty() { "" } else { "\n" }, left.len());
    for fatal in left.iter().filter(|finding| finding.is_fatal()) {
        is_fine = false;
        let _ = writeln!(text, "fatal: {}", fatal.error());
    }
    if !args.persist {
        text += "values last until the machine restarts; --persist keeps them\n";
    }
    Ok((text, is_fine))
}

fn would_write(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings.iter().filter(|finding| finding.is_unmet()) {
        let reading = &finding.reading;
        let _ = writeln!(text, "# {}: {} -> {}", finding.knob.id, reading.current, reading.required);
        match &reading.remedy {
            Remedy::Write(settings) => settings.iter().for_each(|setting| {
                let _ = writeln!(text, "{}", setting.command());
            }),
            _ => drop(writeln!(text, "# by hand: {}", finding.fix())),
        }
    }
    if text.is_empty() { "nothing to change\n".to_owned() } else { text }
}

fn script(path: &Path, target: &Target, findings: &[Finding]) -> Answer {
    let text = gyre_tuning::script(target, findings);
    if path == Path::new("-") {
        return Ok((text, true));
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(path, mode).with_context(|| format!("cannot make {} executable", path.display()))?;
    Ok((format!("wrote {}: read it, then run it as root\n", path.display()), true))
}

fn explain(name: Option<&str>, args: &TargetArgs) -> anyhow::Result<String> {
    let Some(knob) = name.and_then(knobs::named) else { return Ok(gyre_tuning::index(knobs::all())) };
    let (host, target) = args.host_and_target()?;
    Ok(gyre_tuning::explain(&Finding::read(knob, &host, &target), width().min(100)))
}

impl TargetArgs {
    fn host_and_target(&self) -> anyhow::Result<(Host, Target)> {
        let host = self.host.as_ref().map_or_else(Host::real, Host::at);
        let role = match self.role {
            Side::Server => Role::Server,
            Side::Generator => Role::Generator,
        };
        let (cores, reserved, other_files) = match (self.cores, self.role) {
            (Some(0), _) => return Err(anyhow!("--cores: at least 1 core is needed")),
            (Some(count), _) => (Cores::Count(count), 0, 0),
            (None, Side::Generator) => (Cores::AUTO, 0, 0),
            (None, Side::Server) => {
                let config = self.configuration()?;
                // A proxy that cannot be used is no matter of the host.
                let other_files = host_check::other_files(&config, &Proxies::new(&config).unwrap_or_default());
                (config.gyre.cores, config.gyre.reserved_cores, other_files)
            }
        };
        let layout = Layout::new(&cores, reserved, &gyre_tuning::usable(&host))?;
        let target = Target {
            connections: self.connections.unwrap_or(CONNECTIONS_ASSUMED),
            other_files,
            is_planned: self.connections.is_some(),
            role,
            ..host_check::target(&layout)
        };
        Ok((host, target))
    }

    fn configuration(&self) -> anyhow::Result<Config> {
        let file = self.config.as_deref().unwrap_or(Path::new("config.json"));
        super::load(file, self.config.is_some()).map_err(explain_config)
    }
}

fn width() -> usize {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return WIDTH_WITHOUT_TERMINAL;
    }
    let size = rustix::termios::tcgetwinsize(stdout);
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(WIDTH_WITHOUT_TERMINAL)
}
