//! The table of every configuration option, ours and the whole of v6: one entry each for name, type, default,
//! description and whether this version honours it. Unknown-key detection, weak typing, environment names, defaults,
//! `defaultconfig`, `defaultenv`, `configdoc` and the command line all come from here.
//!
//! To start honouring an option: add `.honoured()` to its entry (and to the objects around it), and read it in
//! `config::types`. Compile-time data only; nothing here may touch a file or the environment.

mod channel;
mod client;
mod consumers;
mod engines;
mod pro;
mod root;
mod shapes;

pub(crate) use root::ROOT;

use serde_json::{Map, Value, json};

/// One option, or an object of options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// Lower case, without dots; empty for [`Kind::Inline`].
    pub(crate) name: &'static str,
    /// Type and default.
    pub(crate) kind: Kind,
    /// One line.
    pub(crate) about: &'static str,
    /// Does this version do what the option says? For an object: may its fields be honoured?
    pub(crate) honoured: bool,
    /// Known from the closed edition's documents only; left out of `defaultconfig` until honoured.
    pub(crate) closed_edition: bool,
    /// Never printed by `defaultconfig` and `defaultenv`.
    pub(crate) hidden: bool,
    /// Values that mean the same as the default.
    pub(crate) neutral: &'static [&'static str],
    /// Smallest and largest integer.
    pub(crate) range: (i64, i64),
}

/// Type and default of a field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Text; numbers are accepted.
    Text(&'static str),
    /// Integer.
    Int(i64),
    /// Always false by default.
    Bool,
    /// Nanoseconds.
    Duration(i64),
    /// List of strings.
    Texts(&'static [&'static str]),
    /// String to string; from an object or a list of `{key, value}`.
    Map,
    /// The same content, from a list only.
    Pairs,
    /// PEM text, its base64, or the path of a file that holds it.
    Pem,
    /// Nested options.
    Object(&'static [Field]),
    /// Options that belong to the object around them.
    Inline(&'static [Field]),
    /// List of objects.
    Items(&'static [Field]),
    /// List of objects with names, which the environment can add to and refine.
    Named(&'static [Field]),
    /// Known by name, content unknown; never looked into.
    Opaque,
}

const fn field(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field {
        name,
        kind,
        about,
        honoured: false,
        closed_edition: false,
        hidden: false,
        neutral: &[],
        range: (i64::MIN, i64::MAX),
    }
}

const fn text(name: &'static str, default: &'static str, about: &'static str) -> Field {
    field(name, Kind::Text(default), about)
}

const fn int(name: &'static str, default: i64, about: &'static str) -> Field {
    field(name, Kind::Int(default), about)
}

const fn boolean(name: &'static str, about: &'static str) -> Field {
    field(name, Kind::Bool, about)
}

const fn duration(name: &'static str, nanos: i64, about: &'static str) -> Field {
    field(name, Kind::Duration(nanos), about)
}

const fn texts(name: &'static str, default: &'static [&'static str], about: &'static str) -> Field {
    field(name, Kind::Texts(default), about)
}

const fn map(name: &'static str, about: &'static str) -> Field {
    field(name, Kind::Map, about)
}

const fn pem(name: &'static str, about: &'static str) -> Field {
    field(name, Kind::Pem, about)
}

const fn object(name: &'static str, fields: &'static [Field], about: &'static str) -> Field {
    field(name, Kind::Object(fields), about)
}

const fn items(name: &'static str, fields: &'static [Field], about: &'static str) -> Field {
    field(name, Kind::Items(fields), about)
}

const fn named(name: &'static str, fields: &'static [Field], about: &'static str) -> Field {
    field(name, Kind::Named(fields), about)
}

const fn inline(fields: &'static [Field]) -> Field {
    field("", Kind::Inline(fields), "").honoured()
}

const fn millis(count: i64) -> i64 {
    count * 1_000_000
}

const fn secs(count: i64) -> i64 {
    millis(count * 1000)
}

const fn mins(count: i64) -> i64 {
    secs(count * 60)
}

const fn hours(count: i64) -> i64 {
    mins(count * 60)
}

impl Field {
    const fn honoured(mut self) -> Self {
        self.honoured = true;
        self
    }

    const fn closed_edition(mut self) -> Self {
        self.closed_edition = true;
        self
    }

    const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    const fn neutral(mut self, words: &'static [&'static str]) -> Self {
        self.neutral = words;
        self
    }

    const fn range(mut self, min: i64, max: i64) -> Self {
        self.range = (min, max);
        self
    }

    /// Fields below this one, `None` for a single value.
    pub(crate) fn children(&self) -> Option<&'static [Self]> {
        match self.kind {
            Kind::Object(fields) | Kind::Items(fields) | Kind::Named(fields) => Some(fields),
            _ => None,
        }
    }

    /// The default as it stands in a normalised tree: durations are integers of nanoseconds.
    pub(crate) fn default_value(&self) -> Value {
        match self.kind {
            Kind::Text(text) => json!(text),
            Kind::Int(int) | Kind::Duration(int) => json!(int),
            Kind::Bool => json!(false),
            Kind::Texts(list) => json!(list),
            Kind::Pem => json!(""),
            Kind::Items(_) | Kind::Named(_) => json!([]),
            Kind::Map | Kind::Pairs | Kind::Opaque => json!({}),
            Kind::Object(fields) => {
                Value::Object(each(fields).map(|field| (field.name.to_owned(), field.default_value())).collect())
            }
            Kind::Inline(_) => Value::Object(Map::new()),
        }
    }

    /// The type in words, for documents and error texts.
    pub(crate) fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Text(_) => "string",
            Kind::Int(_) => "integer",
            Kind::Bool => "boolean",
            Kind::Duration(_) => "duration",
            Kind::Texts(_) => "list of strings",
            Kind::Map => "map of strings",
            Kind::Pairs => "list of key and value",
            Kind::Pem => "PEM data",
            Kind::Object(_) | Kind::Inline(_) | Kind::Opaque => "object",
            Kind::Items(_) | Kind::Named(_) => "list of objects",
        }
    }
}

/// The fields of an object in table order, with those of inlined shapes in their place.
pub(crate) fn each(fields: &'static [Field]) -> Box<dyn Iterator<Item = &'static Field>> {
    Box::new(fields.iter().flat_map(|field| match field.kind {
        Kind::Inline(inner) => each(inner),
        _ => Box::new(std::iter::once(field)),
    }))
}

/// The field called `name`, which must be lower case.
pub(crate) fn find(fields: &'static [Field], name: &str) -> Option<&'static Field> {
    each(fields).find(|field| field.name == name)
}

/// The field at a dotted path of objects, starting at the root.
pub(crate) fn at(path: &str) -> Option<&'static Field> {
    let mut fields = ROOT;
    let mut found = None;
    for name in path.split('.') {
        let field = find(fields, name)?;
        fields = field.children().unwrap_or_default();
        found = Some(field);
    }
    found
}

/// The value at a dotted path of objects in a normalised tree.
pub(crate) fn value_at<'a>(tree: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut names = path.split('.');
    let first = tree.get(names.next()?)?;
    names.try_fold(first, |value, name| value.get(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn walk(fields: &'static [Field], path: &str, visit: &mut impl FnMut(&str, &Field)) {
        for field in each(fields) {
            let path = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
            visit(&path, field);
            walk(field.children().unwrap_or_default(), &path, visit);
        }
    }

    /// A key that is in the table twice, or that is not lower case, could never be set by an operator.
    #[test]
    fn names_are_unique_lower_case_and_described() {
        let mut seen = BTreeSet::new();
        walk(ROOT, "", &mut |path, field| {
            assert!(seen.insert(path.to_owned()), "{path} is in the table twice");
            assert_eq!(path, path.to_lowercase());
            assert!(!field.about.is_empty(), "{path} has no description");
            assert!(!field.about.contains('\n') && field.about.ends_with('.'), "{path}: {}", field.about);
        });
        assert!(seen.len() > 1000, "{}", seen.len());
    }

    /// Two options with one environment name would overwrite each other.
    #[test]
    fn environment_names_do_not_collide() {
        let mut seen = BTreeSet::new();
        walk(ROOT, "", &mut |path, field| {
            if field.children().is_none() {
                assert!(seen.insert(path.replace('.', "_")), "{path}");
            }
        });
    }

    #[test]
    fn a_path_finds_its_field() {
        assert!(matches!(at("http_server.port").map(|field| field.kind), Some(Kind::Int(8000))));
        assert!(matches!(at("client.proxy.connect.http.tls.enabled").map(|field| field.kind), Some(Kind::Bool)));
        assert!(at("http_server.prot").is_none());
        assert!(at("http_server.port.x").is_none());
    }
}
