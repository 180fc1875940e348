//! Configurations as text: the full tree for `defaultconfig`, variables for `defaultenv`, a page for `configdoc`.
//!
//! What is printed must load back to the same configuration.

use super::layers::{self, join, variable_part};
use super::schema::{Field, Kind, ROOT, each};
use super::{Environment, Error, Format, Object, Sources, duration, validate};

use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A configuration with every option, as it would be written to a file.
#[derive(Debug)]
pub(crate) struct Printable {
    tree: Object,
    /// What the base file sets.
    base: Object,
}

impl Printable {
    /// Defaults; with a base file, its values and then those of the environment over them.
    ///
    /// # Errors
    /// The file cannot be read, or a node would refuse it.
    pub(crate) fn new(base: Option<&Path>, environment: &Environment) -> Result<Self, Error> {
        let sources = Sources {
            // No file has an empty name, so this reads as missing.
            file: base.map_or_else(PathBuf::new, Path::to_owned),
            is_file_needed: base.is_some(),
            environment: base.map(|_| environment.clone()).unwrap_or_default(),
            ..Sources::default()
        };
        let loaded = layers::read(&sources)?;
        validate::check(&loaded.tree, &loaded.origins, false, &mut Vec::new())?;
        Ok(Self { tree: loaded.tree, base: loaded.file })
    }

    /// The text of a file in this format, with a newline at the end.
    ///
    /// # Errors
    /// The format cannot express the tree, which none is known to do.
    pub(crate) fn file(&self, format: Format) -> anyhow::Result<String> {
        to_text(&Value::Object(readable(ROOT, &self.tree)), format)
    }

    /// `NAME=value` lines in the order of names; only what the base file sets to a value other than zero, if asked.
    pub(crate) fn variables(&self, is_only_base: bool) -> String {
        let mut lines = Vec::new();
        let base = is_only_base.then_some(&self.base);
        collect_variables(ROOT, &self.tree, base, "CENTRIFUGO", &mut lines);
        lines.sort();
        lines.into_iter().fold(String::new(), |mut out, (name, value)| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name}={value}");
            out
        })
    }
}

/// As durations are written in configurations.
pub(crate) fn duration_text(nanos: i64) -> String {
    duration::format(nanos)
}

/// Any tree as a file; JSON has two spaces per level.
pub(crate) fn to_text(tree: &Value, format: Format) -> anyhow::Result<String> {
    let mut text = match format {
        Format::Json => serde_json::to_string_pretty(tree)?,
        Format::Yaml => serde_saphyr::to_string(tree)?,
        Format::Toml => toml::to_string(tree)?,
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Options of the closed edition are printed once they are honoured, or when they were set.
fn is_printed(field: &Field, value: &Value) -> bool {
    !field.hidden
        && !matches!(field.kind, Kind::Opaque)
        && (!field.closed_edition || field.honoured || *value != field.default_value())
}

fn readable(fields: &'static [Field], tree: &Object) -> Object {
    let mut found = Object::new();
    for field in each(fields) {
        let Some(value) = tree.get(field.name).filter(|value| is_printed(field, value)) else { continue };
        let value = match (field.kind, value) {
            (Kind::Object(fields), Value::Object(tree)) => Value::Object(readable(fields, tree)),
            (Kind::Items(fields) | Kind::Named(fields), Value::Array(items)) => {
                let items = items.iter().filter_map(Value::as_object);
                items.map(|item| Value::Object(readable(fields, item))).collect()
            }
            (Kind::Duration(_), value) => json!(duration::format(value.as_i64().unwrap_or_default())),
            // Keys of an object would be lowered on reading.
            (Kind::Pairs | Kind::Map, Value::Object(pairs)) if !pairs.is_empty() => {
                pairs.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
            }
            (Kind::Pairs, _) => json!([]),
            (_, value) => value.clone(),
        };
        found.insert(field.name.to_owned(), value);
    }
    found
}

fn collect_variables(
    fields: &'static [Field],
    tree: &Object,
    base: Option<&Object>,
    prefix: &str,
    lines: &mut Vec<(String, String)>,
) {
    let none = Object::new();
    for field in each(fields) {
        let Some(value) = tree.get(field.name).filter(|value| is_printed(field, value)) else { continue };
        let name = format!("{prefix}_{}", field.name.to_uppercase());
        let in_base = base.map(|base| base.get(field.name).unwrap_or(&Value::Null));
        let is_left_out = in_base.is_some_and(super::convert::is_zero);
        match (field.kind, value) {
            (Kind::Object(fields), Value::Object(tree)) => {
                let base = in_base.map(|base| base.as_object().unwrap_or(&none));
                collect_variables(fields, tree, base, &name, lines);
            }
            _ if is_left_out => {}
            (Kind::Named(fields), Value::Array(items)) => {
                let names: Vec<&str> = items.iter().filter_map(|item| item.get("name")?.as_str()).collect();
                for (at, item) in items.iter().enumerate() {
                    let base = in_base.map(|base| base.get(at).and_then(Value::as_object).unwrap_or(&none));
                    let part = item.get("name").and_then(Value::as_str).map(variable_part).unwrap_or_default();
                    if let Some(item) = item.as_object() {
                        collect_variables(fields, item, base, &format!("{name}_{part}"), lines);
                    }
                }
                lines.push((name, json!(names.join(" ")).to_string()));
            }
            _ => lines.push((name, variable_value(field, value))),
        }
    }
}

/// Strings in quotes, numbers and booleans bare.
fn variable_value(field: &Field, value: &Value) -> String {
    let quoted = |text: String| json!(text).to_string();
    match (field.kind, value) {
        (Kind::Duration(_), value) => duration::format(value.as_i64().unwrap_or_default()),
        (Kind::Texts(_), Value::Array(items)) => {
            quoted(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "))
        }
        (Kind::Items(fields), Value::Array(items)) => {
            let items: Value =
                items.iter().filter_map(Value::as_object).map(|item| Value::Object(readable(fields, item))).collect();
            quoted(items.to_string())
        }
        (Kind::Map | Kind::Pairs | Kind::Opaque, value) => quoted(value.to_string()),
        (_, value) => value.to_string(),
    }
}

/// Markdown: one heading per option whose path starts with `section`; `base_level` is added to the depth of headings.
pub(crate) fn document(section: &str, base_level: usize) -> String {
    let mut out = String::new();
    describe(ROOT, "", section, base_level, &mut out);
    out
}

fn describe(fields: &'static [Field], path: &str, section: &str, base_level: usize, out: &mut String) {
    for field in each(fields).filter(|field| !field.hidden) {
        let path = join(path, field.name);
        if path.starts_with(section) {
            let level = (path.matches('.').count() + 1 + base_level).min(6);
            let type_name = field.type_name();
            let default = match field.kind {
                Kind::Duration(nanos) => duration::format(nanos),
                _ => field.default_value().to_string(),
            };
            let _ = write!(out, "{} `{path}`\n\n{}\n\nType: {type_name}", "#".repeat(level), field.about);
            if field.children().is_none() {
                let _ = write!(out, ". Default: `{default}`");
            }
            if !path.contains("[]") && !matches!(field.kind, Kind::Object(_)) {
                let _ = write!(out, ". Variable: `CENTRIFUGO_{}`", path.to_uppercase().replace('.', "_"));
            }
            out.push_str(if field.honoured || field.children().is_some() {
                ".\n\n"
            } else {
                ". Not supported yet.\n\n"
            });
        }
        let below = match field.kind {
            Kind::Items(_) | Kind::Named(_) => format!("{path}[]"),
            _ => path,
        };
        describe(field.children().unwrap_or_default(), &below, section, base_level, out);
    }
}
