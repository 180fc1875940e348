//! Environment variables as a value, so that a `.env` file can add to them and tests can make them up.
//!
//! The process environment is read once and never written: writing it is not safe once threads run.

use super::Error;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// Name to value. `Debug` shows only how many there are, since values may be secrets.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Environment {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

impl Environment {
    /// The variables of this process that are text.
    pub(crate) fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        )
    }

    /// Adds the variables of a `.env` file, if there is one; those already present stay.
    pub(crate) fn add_dotenv(&mut self, path: &Path) -> Result<(), Error> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(cause) => return Err(Error::Read { path: path.to_owned(), cause }),
        };
        let pairs = dotenv(&text).map_err(|(line, message)| Error::Dotenv { path: path.to_owned(), line, message })?;
        for (name, value) in pairs {
            self.0.entry(name).or_insert(value);
        }
        Ok(())
    }

    /// A variable that is set and not empty.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Lines of `NAME=value`, with `export`, comments and quotes; the error has a line number counted from 1.
fn dotenv(text: &str) -> Result<Vec<(String, String)>, (usize, &'static str)> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start_matches('\u{feff}');
    loop {
        rest = rest.trim_start();
        let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
        if rest.is_empty() {
            return Ok(pairs);
        }
        if rest.starts_with('#') {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
            continue;
        }
        let equals =
            rest.find(['=', '\n']).filter(|at| rest.as_bytes()[*at] == b'=').ok_or((line, "expected NAME=value"))?;
        let name = rest[..equals].trim();
        let name = name.strip_prefix("export ").unwrap_or(name).trim();
        if name.is_empty() || name.contains(|c: char| !c.is_ascii_alphanumeric() && !"_.-".contains(c)) {
            return Err((line, "expected a variable name before ="));
        }
        rest = rest[equals + 1..].trim_start_matches([' ', '\t']);
        let (value, used) = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let (value, used) = quoted(&rest[1..], quote).ok_or((line, "a quoted value has no end"))?;
                (value, used + 1)
            }
            _ => {
                let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
                let value = line.split(" #").next().unwrap_or_default();
                (value.trim_end().to_owned(), line.len())
            }
        };
        pairs.push((name.to_owned(), value));
        let tail = &rest[used..];
        rest = &tail[tail.find('\n').unwrap_or(tail.len())..];
        let tail = tail[..tail.len() - rest.len()].trim();
        if !tail.is_empty() && !tail.starts_with('#') {
            return Err((line, "unexpected text after a quoted value"));
        }
    }
}

/// The value up to the closing quote and the bytes read including it; backslashes count in double quotes only.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Some((value, at + 1)),
            '\\' if quote == '"' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                other => value.push(other),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        dotenv(text).unwrap()
    }

    #[test]
    fn dotenv_lines() {
        let text = "# comment\n\nA=1\nexport B = two words # not this\nC=\"x \\\"y\\\" # z\\nw\"\nD='$raw\\n' # c\nE=\nF=a#b\nG=\"two\nlines\"\n";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "x \"y\" # z\nw"),
            ("D", "$raw\\n"),
            ("E", ""),
            ("F", "a#b"),
            ("G", "two\nlines"),
        ];
        assert_eq!(pairs(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn malformed_dotenv_names_the_line_but_not_its_content() {
        assert_eq!(dotenv("A=1\nsecret\n"), Err((2, "expected NAME=value")));
        assert_eq!(dotenv("\n\nA=\"secret\n"), Err((3, "a quoted value has no end")));
        assert_eq!(dotenv("A B=1"), Err((1, "expected a variable name before =")));
        assert_eq!(dotenv("A='x' y"), Err((1, "unexpected text after a quoted value")));
    }

    #[test]
    fn the_process_wins_over_the_file() {
        let mut environment = Environment::from_iter([("A", "process")]);
        let path = std::env::temp_dir().join(format!("gyre-dotenv-{}", std::process::id()));
        fs::write(&path, "A=file\nB=file\n").unwrap();
        environment.add_dotenv(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(environment.value("A"), Some("process"));
        assert_eq!(environment.value("B"), Some("file"));
        assert!(environment.add_dotenv(Path::new("/nonexistent/.env")).is_ok());
    }
}
