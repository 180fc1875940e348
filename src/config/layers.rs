//! One normalised tree out of all sources: every option of the schema is in it, in the schema's order and type.
//!
//! A zero in the file does not replace a default, because the reference cannot tell it from an absent key; a zero in a
//! variable or a flag does. Unknown names become warnings, values of a wrong type errors.

use super::convert::{from_file, from_text, is_zero, type_of};
use super::nearest::{nearest_key, nearest_variable};
use super::origins::Origins;
use super::schema::{Field, Kind, ROOT, each, find};
use super::sources::dev_default;
use super::{Environment, Error, Object, Sources, Warning, aliases, file};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Prefixes of variables; the first that has a value counts.
const PREFIXES: [&str; 2] = ["GYRE_", "CENTRIFUGO_"];

/// What was read.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Normalised and complete.
    pub(super) tree: Object,
    /// Normalised, only what the file says.
    pub(super) file: Object,
    /// For errors.
    pub(super) origins: Origins,
    /// In the order of discovery.
    pub(super) warnings: Vec<Warning>,
}

/// Reads the file and lays the other sources around it.
pub(super) fn read(sources: &Sources) -> Result<Loaded, Error> {
    let mut warnings = Vec::new();
    let path = sources.file.display().to_string();
    let (origin, given) = match file::read(&sources.file)? {
        Some(mut raw) => {
            aliases::apply(&mut raw, &mut warnings);
            let mut reading =
                Reading { origin: &path, variable: None, environment: &sources.environment, warnings: &mut warnings };
            let given = reading.object(ROOT, raw, "")?;
            (path, given)
        }
        None if sources.is_file_needed => return Err(Error::FileMissing { path: sources.file.clone() }),
        None => {
            if !sources.dev {
                warnings.push(Warning::FileMissing { path });
            }
            ("configuration".to_owned(), Object::new())
        }
    };
    let origins = Origins::new(origin);
    let mut filling = Filling { sources, known: BTreeSet::new(), origins, warnings: &mut warnings };
    let tree = filling.object(ROOT, given.clone(), "", Some(""))?;
    filling.report_unknown_variables();
    let origins = filling.origins;
    Ok(Loaded { tree, file: given, origins, warnings })
}

/// `path.name`, or `name` at the top.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Brings what was written into the schema's types; only what was written comes out.
struct Reading<'a> {
    origin: &'a str,
    /// Set when the text is JSON in a variable.
    variable: Option<&'a str>,
    environment: &'a Environment,
    warnings: &'a mut Vec<Warning>,
}

impl Reading<'_> {
    fn object(&mut self, fields: &'static [Field], raw: Object, path: &str) -> Result<Object, Error> {
        let mut found = Object::new();
        for (key, value) in raw {
            let at = join(path, &key);
            let Some(field) = find(fields, &key) else {
                self.unknown(at, nearest_key(&key, fields, path.is_empty()));
                continue;
            };
            if !value.is_null() {
                found.insert(key, self.value(field, value, &at)?);
            }
        }
        Ok(found)
    }

    fn value(&mut self, field: &Field, value: Value, path: &str) -> Result<Value, Error> {
        match (field.kind, value) {
            (Kind::Object(fields), Value::Object(raw)) => self.object(fields, raw, path).map(Value::Object),
            (Kind::Items(fields) | Kind::Named(fields), Value::Array(items)) => {
                let items = items.into_iter().enumerate().map(|(index, item)| {
                    let at = format!("{path}.[{index}]");
                    match item {
                        Value::Object(raw) => self.object(fields, raw, &at).map(Value::Object),
                        item => Err(self.wrong(&at, format!("expected object but found {}", type_of(&item)))),
                    }
                });
                items.collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            (_, value) => {
                if let (Kind::Duration(_), Some(nanos @ 1..1_000_000)) = (field.kind, value.as_i64()) {
                    let note = format!("{path}: the number {nanos} means nanoseconds; write {nanos}s for seconds");
                    self.warnings.push(Warning::Note(note));
                }
                from_file(field, &value, self.environment).map_err(|message| self.wrong(path, message))
            }
        }
    }

    fn wrong(&self, path: &str, message: String) -> Error {
        Error::Value { origin: self.origin.to_owned(), key: path.to_owned(), message }
    }

    fn unknown(&mut self, key: String, meant: Option<String>) {
        self.warnings.push(match self.variable {
            Some(variable) => Warning::UnknownVariable { variable: format!("{variable}: {key}"), meant },
            None => Warning::UnknownKey { key, meant },
        });
    }
}

/// Gives every option its value: flag, variable, file, default.
struct Filling<'a> {
    sources: &'a Sources,
    /// Names of variables that an option has, without prefix.
    known: BTreeSet<String>,
    origins: Origins,
    warnings: &'a mut Vec<Warning>,
}

impl Filling<'_> {
    /// `names` starts the names of variables of this object, without the prefix; `None` = no variable reaches it.
    fn object(
        &mut self,
        fields: &'static [Field],
        mut given: Object,
        path: &str,
        names: Option<&str>,
    ) -> Result<Object, Error> {
        let mut found = Object::new();
        for field in each(fields) {
            let at = join(path, field.name);
            let name = names.map(|names| match names {
                "" => field.name.to_uppercase(),
                names => format!("{names}_{}", field.name.to_uppercase()),
            });
            let given = given.shift_remove(field.name);
            found.insert(field.name.to_owned(), self.value(field, given, &at, name)?);
        }
        Ok(found)
    }

    fn value(
        &mut self,
        field: &'static Field,
        given: Option<Value>,
        path: &str,
        name: Option<String>,
    ) -> Result<Value, Error> {
        if let Kind::Object(fields) = field.kind {
            let given = given.and_then(object_of).unwrap_or_default();
            return self.object(fields, given, path, name.as_deref()).map(Value::Object);
        }
        if let Some(name) = &name {
            self.known.insert(name.clone());
        }
        match field.kind {
            Kind::Items(fields) => self.items(fields, given, path, name).map(Value::Array),
            Kind::Named(fields) => self.named(fields, given, path, name).map(Value::Array),
            _ => self.single(field, given, path, name),
        }
    }

    fn single(
        &mut self,
        field: &Field,
        given: Option<Value>,
        path: &str,
        name: Option<String>,
    ) -> Result<Value, Error> {
        let (origin, text) = if let Some(flag) = self.sources.flags.iter().rfind(|flag| flag.path == path) {
            (format!("flag --{path}"), flag.value.as_str())
        } else if let Some((variable, text)) = name.and_then(|name| variable(self.sources, &name)) {
            (origin_of(&variable), text)
        } else {
            let default = || {
                let dev = self.sources.dev.then(|| dev_default(path)).flatten();
                dev.unwrap_or_else(|| field.default_value())
            };
            return Ok(given.filter(|given| !is_zero(given)).unwrap_or_else(default));
        };
        self.origins.record(path, origin.clone());
        from_text(field, text, &self.sources.environment).map_err(|message| Error::Value {
            origin,
            key: path.to_owned(),
            message,
        })
    }

    fn items(
        &mut self,
        fields: &'static [Field],
        given: Option<Value>,
        path: &str,
        name: Option<String>,
    ) -> Result<Vec<Value>, Error> {
        let mut items = given.map(objects_of).unwrap_or_default();
        if let Some((variable, text)) = name.and_then(|name| variable(self.sources, &name)) {
            items = self.json_items(fields, &variable, text, path)?;
        }
        let filled = items
            .into_iter()
            .enumerate()
            .map(|(index, item)| self.object(fields, item, &format!("{path}.[{index}]"), None).map(Value::Object));
        filled.collect()
    }

    /// A JSON array in the variable replaces the file's items, names add to them; then each item has its own variables.
    fn named(
        &mut self,
        fields: &'static [Field],
        given: Option<Value>,
        path: &str,
        name: Option<String>,
    ) -> Result<Vec<Value>, Error> {
        let mut items = given.map(objects_of).unwrap_or_default();
        match name.as_ref().and_then(|name| variable(self.sources, name)) {
            // No name has a bracket, so broken JSON is told apart from names.
            Some((variable, text)) if text.trim_start().starts_with(['[', '{']) => {
                items = self.json_items(fields, &variable, text, path)?;
            }
            Some((variable, text)) => {
                for name in text.split(' ').filter(|name| !name.is_empty()) {
                    self.origins.record(&format!("{path}.[{}]", items.len()), origin_of(&variable));
                    items.push(Object::from_iter([("name".to_owned(), json!(name))]));
                }
            }
            None => {}
        }
        let mut filled = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let own = item.get("name").and_then(Value::as_str).map(variable_part).filter(|own| !own.is_empty());
            let names = name.as_ref().zip(own).map(|(name, own)| format!("{name}_{own}"));
            let item = self.object(fields, item, &format!("{path}.[{index}]"), names.as_deref())?;
            filled.push(Value::Object(item));
        }
        Ok(filled)
    }

    /// Items of a list from a variable that replaces the file's list.
    fn json_items(
        &mut self,
        fields: &'static [Field],
        variable: &str,
        text: &str,
        path: &str,
    ) -> Result<Vec<Object>, Error> {
        let origin = origin_of(variable);
        let wrong = |message: String| Error::Value { origin: origin.clone(), key: path.to_owned(), message };
        // Errors of syntax do not quote the text; those of type would.
        let parsed: Value = serde_json::from_str(text).map_err(|error| wrong(format!("not valid JSON: {error}")))?;
        let parsed: Vec<Object> =
            serde_json::from_value(parsed).map_err(|_| wrong("expected a JSON array of objects".to_owned()))?;
        let mut reading = Reading {
            origin: &origin,
            variable: Some(variable),
            environment: &self.sources.environment,
            warnings: self.warnings,
        };
        let items = parsed
            .into_iter()
            .enumerate()
            .map(|(index, item)| reading.object(fields, file::lowered(item), &format!("{path}.[{index}]")));
        let items = items.collect::<Result<_, _>>()?;
        self.origins.record(path, origin);
        Ok(items)
    }

    fn report_unknown_variables(&mut self) {
        for name in self.sources.environment.names() {
            let Some((prefix, rest)) = PREFIXES.iter().find_map(|prefix| Some((prefix, name.strip_prefix(prefix)?)))
            else {
                continue;
            };
            // Kubernetes sets X_PORT and X_SERVICE_HOST for every service X of its namespace.
            let is_injected = rest.starts_with("PORT")
                || rest.starts_with("SERVICE_")
                || rest.contains("_PORT")
                || rest.contains("_SERVICE_");
            if self.known.contains(rest) || self.known.contains(name) || rest.starts_with("VAR_") || is_injected {
                continue;
            }
            let meant = nearest_variable(rest, self.known.iter().map(String::as_str));
            let meant = meant.map(|meant| format!("{prefix}{meant}"));
            self.warnings.push(Warning::UnknownVariable { variable: name.to_owned(), meant });
        }
    }
}

/// Full name and value of the variable with this name after the prefix.
fn variable<'a>(sources: &'a Sources, name: &str) -> Option<(String, &'a str)> {
    // GYRE_CORES, not GYRE_GYRE_CORES, for the options of our own section.
    let own = name.starts_with("GYRE_").then(|| name.to_owned());
    let mut candidates = own.into_iter().chain(PREFIXES.iter().map(|prefix| format!("{prefix}{name}")));
    candidates.find_map(|candidate| {
        let value = sources.environment.value(&candidate)?;
        Some((candidate, value))
    })
}

/// What a name of a list item becomes in names of variables.
pub(super) fn variable_part(name: &str) -> String {
    name.to_uppercase().replace(['.', '-'], "_")
}

/// How errors name a variable.
fn origin_of(variable: &str) -> String {
    format!("environment variable {variable}")
}

fn object_of(value: Value) -> Option<Object> {
    match value {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}

fn objects_of(value: Value) -> Vec<Object> {
    match value {
        Value::Array(items) => items.into_iter().filter_map(object_of).collect(),
        _ => Vec::new(),
    }
}
