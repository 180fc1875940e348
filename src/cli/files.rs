//! Commands that write and check configuration files. Files hold secrets, so only their owner may read them.

use super::{engine_rules, explain, load};
use crate::config::print::{Printable, to_text};
use crate::config::{Config, Environment, Format, Sources, Warning};
use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// `genconfig`
pub(super) fn generate(path: &Path) -> anyhow::Result<String> {
    let format = Format::of(path)?;
    let tree = json!({
        "client": {"token": {"hmac_secret_key": secret::<64>()?}, "allowed_origins": []},
        "admin": {"enabled": false, "password": secret::<16>()?, "secret": secret::<64>()?},
        "http_api": {"key": secret::<64>()?},
    });
    write_new(path, &to_text(&tree, format)?, "error: output config file already exists")?;
    let checked = load(path, true).map_err(anyhow::Error::new).and_then(|config| engine_rules(&config));
    if let Err(error) = checked {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        return Err(error.context("error: the environment does not fit a new configuration"));
    }
    Ok(String::new())
}

/// `checkconfig`
pub(super) fn check(path: &Path, is_strict: bool) -> anyhow::Result<String> {
    let environment = Environment::of_process();
    let sources = Sources { file: path.to_owned(), is_file_needed: true, environment, ..Sources::default() };
    let (config, warnings) = Config::load(sources).map_err(explain)?;
    engine_rules(&config).context("error validating config")?;
    if is_strict {
        let unknown: Vec<String> = warnings.iter().filter_map(unknown_key).collect();
        if !unknown.is_empty() {
            bail!("unknown keys in config: {}", unknown.join(", "));
        }
    }
    Ok(String::new())
}

fn unknown_key(warning: &Warning) -> Option<String> {
    match warning {
        Warning::UnknownKey { key, meant: None } => Some(key.clone()),
        Warning::UnknownKey { key, meant: Some(meant) } => Some(format!("{key} (did you mean {meant}?)")),
        Warning::GoneKey { key, advice } => Some(format!("{key} ({advice})")),
        _ => None,
    }
}

/// `defaultconfig`
pub(super) fn default_file(path: &Path, base: Option<&Path>, is_dry_run: bool) -> anyhow::Result<String> {
    let format = Format::of(path)?;
    if !is_dry_run && path.exists() {
        bail!("error: target file already exists: {}", path.display());
    }
    let text = Printable::new(base, &Environment::of_process()).map_err(explain)?.file(format)?;
    if is_dry_run {
        return Ok(text);
    }
    write_new(path, &text, "error: target file already exists")?;
    Ok(String::new())
}

/// `defaultenv`
pub(super) fn default_variables(base: Option<&Path>, is_only_base: bool) -> anyhow::Result<String> {
    Ok(Printable::new(base, &Environment::of_process()).map_err(explain)?.variables(is_only_base))
}

/// Random bytes as text that needs no quoting anywhere.
fn secret<const BYTES: usize>() -> anyhow::Result<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("the kernel gives no entropy: {error}"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn write_new(path: &Path, text: &str, exists: &str) -> anyhow::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => anyhow!("{exists}: {}", path.display()),
            _ => anyhow!("error: cannot write {}: {error}", path.display()),
        })?;
    file.write_all(text.as_bytes()).with_context(|| format!("error: cannot write {}", path.display()))
}
