//! Which source a value came from, so that a mistake found after the layers were merged still names the place where it
//! can be corrected.

use std::collections::BTreeMap;

/// Paths of options and lists that a flag or a variable set; everything else has the general origin.
#[derive(Debug)]
pub(super) struct Origins {
    /// The file's name, or `configuration` without one.
    pub(super) general: String,
    by_path: BTreeMap<String, String>,
}

impl Origins {
    pub(super) fn new(general: String) -> Self {
        Self { general, by_path: BTreeMap::new() }
    }

    pub(super) fn record(&mut self, path: &str, origin: String) {
        self.by_path.insert(path.to_owned(), origin);
    }

    /// Of the value itself, or of the nearest list item or list around it.
    pub(super) fn of(&self, path: &str) -> &str {
        let around = std::iter::successors(Some(path), |path| path.rsplit_once('.').map(|(around, _)| around));
        around.into_iter().find_map(|path| self.by_path.get(path)).unwrap_or(&self.general)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_one_counts() {
        let mut origins = Origins::new("config.json".to_owned());
        origins.record("channel.namespaces.[1]", "environment variable A".to_owned());
        origins.record("channel.namespaces.[1].presence", "environment variable B".to_owned());
        assert_eq!(origins.of("channel.namespaces.[1].presence"), "environment variable B");
        assert_eq!(origins.of("channel.namespaces.[1].name"), "environment variable A");
        assert_eq!(origins.of("channel.namespaces.[10].name"), "config.json");
        assert_eq!(origins.of("channel"), "config.json");
    }
}
