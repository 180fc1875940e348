//! The configured namespaces: found by name for every command, and in their order for messages to the operator.

use hashbrown::HashMap;

use super::ChannelOptions;

/// Namespaces in the order of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    list: Vec<(Box<str>, ChannelOptions)>,
    by_name: HashMap<Box<str>, usize>,
}

impl Namespaces {
    /// Adds one at the end. A name that was added before keeps its first options; [`super::Rules::validate`] then
    /// refuses the whole.
    pub fn insert(&mut self, name: impl Into<Box<str>>, options: ChannelOptions) {
        let name = name.into();
        self.by_name.entry(name.clone()).or_insert(self.list.len());
        self.list.push((name, options));
    }

    /// The options of the namespace, if there is one of this name.
    pub fn find(&self, name: &str) -> Option<&ChannelOptions> {
        self.by_name.get(name).map(|&at| &self.list[at].1)
    }

    /// All of them, in order, a repeated name included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ChannelOptions)> {
        self.list.iter().map(|(name, options)| (&**name, options))
    }

    /// Whether the `at`-th name was used before.
    pub(super) fn is_repeated(&self, at: usize) -> bool {
        self.by_name.get(&self.list[at].0).is_some_and(|&first| first != at)
    }
}

impl<N: Into<Box<str>>> FromIterator<(N, ChannelOptions)> for Namespaces {
    fn from_iter<I: IntoIterator<Item = (N, ChannelOptions)>>(list: I) -> Self {
        let mut namespaces = Self::default();
        for (name, options) in list {
            namespaces.insert(name, options);
        }
        namespaces
    }
}
