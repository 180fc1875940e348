//! Configuration files: three formats, one tree, keys in lower case. Error texts never quote the file.

use super::{Error, Object};
use serde_json::Value;
use std::fs;
use std::io;
use std::path::Path;

/// How a configuration is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `.json`
    Json,
    /// `.yaml` or `.yml`
    Yaml,
    /// `.toml`
    Toml,
}

impl Format {
    /// # Errors
    /// The extension names no format.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        match extension.as_ref().and_then(|extension| extension.to_str()) {
            Some("json") => Ok(Self::Json),
            Some("yaml" | "yml") => Ok(Self::Yaml),
            Some("toml") => Ok(Self::Toml),
            _ => Err(Error::Format { path: path.to_owned() }),
        }
    }
}

/// The tree of a file, `None` if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Object>, Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(Error::Read { path: path.to_owned(), cause }),
    };
    let text = text.trim_start_matches('\u{feff}');
    let syntax = |(line, message)| Error::Syntax { path: path.to_owned(), line, message };
    match parse(text, Format::of(path)?).map_err(syntax)? {
        Value::Object(fields) => Ok(Some(lowered(fields))),
        Value::Null => Ok(Some(Object::new())),
        _ => Err(syntax((1, "expected an object of options at the top".to_owned()))),
    }
}

/// The error has a line counted from 1, and no part of the text.
fn parse(text: &str, format: Format) -> Result<Value, (usize, String)> {
    match format {
        Format::Json => serde_json::from_str(text).map_err(|error| {
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            (error.line(), format!("not valid JSON: {message}"))
        }),
        Format::Yaml if text.trim().is_empty() => Ok(Value::Null),
        Format::Yaml => serde_saphyr::from_str(text).map_err(|error: serde_saphyr::Error| {
            let line = error.location().map_or(0, |location| location.line() as usize);
            (line, format!("not valid YAML: {}", yaml_cause(&error)))
        }),
        Format::Toml => toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error.span().map_or(0, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            // The message alone is made of fixed texts; `Display` shows the line.
            (line, format!("not valid TOML: {}", error.message()))
        }),
    }
}

/// Only causes whose texts never quote a scalar, which may be a secret.
fn yaml_cause(error: &serde_saphyr::Error) -> &str {
    use serde_saphyr::Error;
    match error.without_snippet() {
        Error::ExternalMessage { msg, .. } => msg,
        Error::Eof { .. } => "the text ends too early",
        Error::DuplicateMappingKey { .. } => "a key is there twice",
        Error::UnknownAnchor { .. } => "an alias without its anchor; text that starts with * needs quotes",
        Error::MultipleDocuments { .. } => "more than one document",
        Error::UnsupportedTag { .. } => "tags are not supported; text that starts with ! needs quotes",
        _ => "a value that options cannot have",
    }
}

/// Keys in lower case at every level; a dot in a key is a level of nesting.
pub(super) fn lowered(fields: Object) -> Object {
    let mut found = Object::new();
    for (key, value) in fields {
        let key = key.to_lowercase();
        let parts: Vec<&str> = if key.split('.').any(str::is_empty) { vec![&key] } else { key.split('.').collect() };
        put(&mut found, &parts, lowered_value(value));
    }
    found
}

fn lowered_value(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(lowered(fields)),
        Value::Array(items) => Value::Array(items.into_iter().map(lowered_value).collect()),
        value => value,
    }
}

/// Sets the value at a path; two objects at one place are merged, otherwise the later one stays.
pub(super) fn put(fields: &mut Object, path: &[&str], value: Value) {
    let [name, rest @ ..] = path else { return };
    let slot = fields.entry(*name).or_insert(Value::Null);
    match (rest, value) {
        ([], Value::Object(more)) if slot.is_object() => {
            if let Value::Object(slot) = slot {
                more.into_iter().for_each(|(key, value)| put(slot, &[key.as_str()], value));
            }
        }
        ([], value) => *slot = value,
        (rest, value) => {
            if !slot.is_object() {
                *slot = Value::Object(Object::new());
            }
            if let Value::Object(slot) = slot {
                put(slot, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Whoever moves from one format to another gets the same node.
    #[test]
    fn three_formats_give_one_tree() {
        let json = r#"{"http_server": {"port": 8001}, "channel": {"namespaces": [{"name": "a1", "presence": true}]}, "x": 1.5}"#;
        let yaml =
            "http_server:\n  port: 8001\nchannel:\n  namespaces:\n    - name: a1\n      presence: true\nx: 1.5\n";
        let toml = "x = 1.5\n[http_server]\nport = 8001\n[[channel.namespaces]]\nname = \"a1\"\npresence = true\n";
        let tree = parse(json, Format::Json).unwrap();
        assert_eq!(parse(yaml, Format::Yaml).unwrap(), tree);
        assert_eq!(parse(toml, Format::Toml).unwrap(), tree);
    }

    #[test]
    fn syntax_errors_have_a_line_and_no_content() {
        for (text, format) in [
            ("{\n\"key\": s3cret}", Format::Json),
            ("a: 1\nb: [s3cret\n", Format::Yaml),
            ("a: 1\nb: s3cret: s3cret\n", Format::Yaml),
            ("a: 1\ns3cret: 1\ns3cret: 2\n", Format::Yaml),
            ("a: 1\nb: \"s3cret\n", Format::Yaml),
            ("a: 1\nb: *s3cret\n", Format::Yaml),
            ("a: 1\nb: !s3cret x\nc: 's3cret\n", Format::Yaml),
            ("a = 1\nb = s3cret\n", Format::Toml),
            ("a = 1\nb = \"s3cret\n", Format::Toml),
            ("s3cret = 1\ns3cret = 2\n", Format::Toml),
            ("a = 1\nb = 2026-13-01s3cret\n", Format::Toml),
            ("a = 1\n[s3cret\n", Format::Toml),
        ] {
            let (line, message) = parse(text, format).unwrap_err();
            assert!(line >= 2, "{format:?} {line}");
            assert!(!message.contains("s3cret"), "{message}");
            let cause = message.split_once(": ").map(|(_, cause)| cause).unwrap_or_default();
            assert!(cause.len() > 5 && !cause.contains('\n'), "{text:?}: {message}");
        }
    }

    #[test]
    fn keys_are_lowered_and_dots_nest() {
        let Value::Object(fields) = json!({"Client.Token": {"A": 1}, "client": {"token": {"b": 2}}, "x": [{"Y": 1}]})
        else {
            unreachable!()
        };
        assert_eq!(Value::Object(lowered(fields)), json!({"client": {"token": {"a": 1, "b": 2}}, "x": [{"y": 1}]}));
    }

    #[test]
    fn the_extension_names_the_format() {
        assert_eq!(Format::of(Path::new("a.YML")).unwrap(), Format::Yaml);
        assert!(Format::of(Path::new("config")).is_err());
    }
}
