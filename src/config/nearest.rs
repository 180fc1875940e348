//! What an operator probably meant by a name that no option has.

use super::schema::{Field, ROOT, each};

/// The closest candidate, if it is close enough to be a typing mistake and not just another word.
pub(crate) fn nearest<S: AsRef<str>>(name: &str, candidates: impl IntoIterator<Item = S>) -> Option<S> {
    // One edit in short names, up to a quarter of long ones.
    let edits_max = (name.chars().count() / 4).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate.as_ref()), candidate))
        .filter(|(edits, _)| *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// For a key of an object with these fields; at the top also what older versions wrote flat (`client_insecure`), and
/// options that are one level below (`port`).
pub(super) fn nearest_key(key: &str, fields: &'static [Field], is_top: bool) -> Option<String> {
    if let Some(sibling) = nearest(key, each(fields).map(|field| field.name)) {
        return Some(sibling.to_owned());
    }
    if !is_top {
        return None;
    }
    let flat = |path: &String| path.replace('.', "_") == key;
    let below = |path: &String| path.rsplit('.').next() == Some(key);
    let paths = paths();
    paths.iter().find(|path| flat(path)).or_else(|| paths.iter().find(|path| below(path))).cloned()
}

/// For a variable name without its prefix.
pub(super) fn nearest_variable<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest(name, known)
}

/// Paths of all single values outside lists.
fn paths() -> Vec<String> {
    fn walk(fields: &'static [Field], path: &str, found: &mut Vec<String>) {
        for field in each(fields) {
            let path = super::layers::join(path, field.name);
            match field.children() {
                Some(children) => walk(children, &path, found),
                None => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(ROOT, "", &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let names = ["history_size", "history_ttl", "presence"];
        assert_eq!(nearest("histroy_size", names), Some("history_size"));
        assert_eq!(nearest("presense", names), Some("presence"));
        assert_eq!(nearest("colour", names), None);
    }

    #[test]
    fn keys_of_older_versions_find_their_place() {
        assert_eq!(nearest_key("port", ROOT, true).as_deref(), Some("http_server.port"));
        assert_eq!(nearest_key("client_ping_interval", ROOT, true).as_deref(), Some("client.ping_interval"));
        assert_eq!(nearest_key("clint", ROOT, true).as_deref(), Some("client"));
        assert_eq!(nearest_key("wholly_unknown", ROOT, true), None);
    }
}
