//! What is compared: servers from a file of the operator's, workloads from the built-in table or a file like it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The workloads of the design, sized for a machine with two CPUs and 20,000 files per process.
const BUILT_IN: &str = include_str!("../../workloads.toml");

/// How to start a server and how to reach it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    pub(crate) name: String,
    /// Program and arguments, relative to the current folder. A name alone is looked for beside this program first.
    pub(crate) command: Vec<String>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    /// WebSocket endpoint, `ws://host:port/path`.
    pub(crate) url: String,
    /// Server API, `http://host:port/path`.
    pub(crate) api_url: String,
    pub(crate) api_key: String,
    /// HS256 key, for the workloads with tokens.
    #[serde(default)]
    pub(crate) token_key: String,
    /// Answers 200 once the server is up, `http://host:port/path`.
    pub(crate) ready_url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServersFile {
    server: Vec<Server>,
}

/// One workload: arguments of the load generator, and which of its results count.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Workload {
    pub(super) id: String,
    /// One line for the report.
    pub(super) about: String,
    /// Sub-command and options; where the server is, is added.
    args: String,
    /// Instead of `args` in a short session. Without it the workload is left out there.
    short: Option<String>,
    /// Names of [`super::record::Metric`]s; the first is the one that the workload is about.
    pub(super) metrics: Vec<String>,
    /// Clients connect with tokens.
    #[serde(default)]
    pub(super) with_tokens: bool,
    /// The bare `send()` loop that deliveries are held against.
    pub(super) floor: Option<FloorPlan>,
    /// The form that is run, chosen when the file is read.
    #[serde(skip)]
    pub(super) chosen: Vec<String>,
}

/// The same number of sockets at the same pace.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FloorPlan {
    pub(super) sockets: usize,
    pub(super) pace: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkloadsFile {
    workload: Vec<Workload>,
}

pub(super) fn servers(path: &Path, only: &[String]) -> Result<Vec<Server>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file: ServersFile = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    let known: Vec<String> = file.server.iter().map(|server| server.name.clone()).collect();
    check_known("server", only, &known)?;
    let mut servers = file.server;
    servers.retain(|server| only.is_empty() || only.contains(&server.name));
    ensure!(!servers.is_empty(), "{} describes no server", path.display());
    for server in &mut servers {
        let program =
            server.command.first_mut().with_context(|| format!("the server {:?} has no command", server.name))?;
        let beside = std::env::current_exe()?.with_file_name(&program);
        if !program.contains('/') && beside.exists() {
            *program = beside.to_string_lossy().into_owned();
        }
    }
    Ok(servers)
}

pub(super) fn workloads(path: Option<&Path>, ids: &[String], short: bool) -> Result<Vec<Workload>> {
    let text = match path {
        Some(path) => fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => BUILT_IN.to_owned(),
    };
    let file: WorkloadsFile = toml::from_str(&text).context("in the table of workloads")?;
    let known: Vec<String> = file.workload.iter().map(|workload| workload.id.clone()).collect();
    check_known("workload", ids, &known)?;
    let mut chosen = Vec::new();
    for mut workload in file.workload {
        let args = if short { workload.short.as_ref() } else { Some(&workload.args) };
        let Some(args) = args else { continue };
        if ids.is_empty() || ids.contains(&workload.id) {
            workload.chosen = args.split_whitespace().map(str::to_owned).collect();
            for metric in &workload.metrics {
                super::record::Metric::named(metric).with_context(|| format!("in workload {}", workload.id))?;
            }
            chosen.push(workload);
        }
    }
    ensure!(!chosen.is_empty(), "none of these workloads has a short form");
    Ok(chosen)
}

fn check_known(what: &str, asked: &[String], known: &[String]) -> Result<()> {
    for name in asked {
        ensure!(known.contains(name), "there is no {what} {name:?}; there are {}", known.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // A typing mistake in the table would end a session of hours at its last workload.
    #[test]
    fn the_built_in_table_is_sound() {
        let all = workloads(None, &[], false).unwrap();
        for id in ["M1", "M2", "C1", "F1-1k", "F1-10k", "F2", "S1", "H1", "L1", "W1"] {
            assert!(all.iter().any(|workload| workload.id == id), "{id}");
        }
        assert!(workloads(None, &[], true).unwrap().len() >= 4);
    }

    // Measuring something else than was asked for.
    #[test]
    fn unknown_ids_are_refused() {
        let error = workloads(None, &["F9".to_owned()], false).unwrap_err().to_string();
        assert!(error.contains("F1-1k"), "{error}");
    }

    // The file in the tree must work as it is.
    #[test]
    fn the_file_of_servers_is_sound() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("compare.toml");
        let servers = servers(&path, &["gyre".to_owned()]).unwrap();
        assert_eq!(servers[0].name, "gyre");
    }
}
