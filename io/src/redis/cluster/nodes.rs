//! The nodes of a cluster that a core knows, by number.
//!
//! On a core's thread, plain data. A number stays a node's own until the node is removed.

use crate::limits::REDIS_CLUSTER_NODES_MAX;
use crate::redis::Endpoint;

/// The number of no node.
pub(super) const NO_NODE: u16 = u16::MAX;

/// Whether a node takes commands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Link {
    /// It is being connected to for the first time; commands for it may wait for that.
    New,
    /// It takes them.
    Up,
    /// Commands for it fail at once.
    Down,
}

#[derive(Default)]
pub(super) struct Nodes(Vec<Option<(Endpoint, Link)>>);

impl Nodes {
    /// The number of the node at `endpoint`, which becomes one if it is none yet.
    pub(super) fn take_up(&mut self, endpoint: &Endpoint) -> u16 {
        if let Some((number, ..)) = self.iter().find(|(_, known, _)| *known == endpoint) {
            return number;
        }
        let new = Some((endpoint.clone(), Link::New));
        match self.0.iter().position(Option::is_none) {
            Some(free) => {
                self.0[free] = new;
                free as u16
            }
            None => {
                self.0.push(new);
                (self.0.len() - 1) as u16
            }
        }
    }

    /// As `take_up`, for a node that a redirection names: not one more than a core connects to.
    pub(super) fn take_up_named(&mut self, endpoint: &Endpoint) -> u16 {
        let is_known = self.iter().any(|(_, known, _)| known == endpoint);
        if is_known || self.iter().count() < REDIS_CLUSTER_NODES_MAX { self.take_up(endpoint) } else { NO_NODE }
    }

    pub(super) fn remove(&mut self, number: u16) {
        if let Some(node) = self.0.get_mut(usize::from(number)) {
            *node = None;
        }
    }

    pub(super) fn endpoint(&self, number: u16) -> Option<&Endpoint> {
        self.0.get(usize::from(number))?.as_ref().map(|(endpoint, _)| endpoint)
    }

    /// None: there is no such node.
    pub(super) fn link(&self, number: u16) -> Option<Link> {
        self.0.get(usize::from(number))?.as_ref().map(|(_, link)| *link)
    }

    pub(super) fn set_link(&mut self, number: u16, is: Link) {
        if let Some(Some((_, link))) = self.0.get_mut(usize::from(number)) {
            *link = is;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, &Endpoint, Link)> {
        self.0.iter().zip(0..).filter_map(|(node, number)| node.as_ref().map(|(at, link)| (number, at, *link)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Redirections that name ever more nodes must not make ever more connections.
    #[test]
    fn nodes_are_bounded_and_numbers_used_again() {
        let mut nodes = Nodes::default();
        let at = |port: u16| Endpoint::Internet(([127, 0, 0, 1], port).into());
        let named = (1..200).take_while(|port| nodes.take_up_named(&at(*port)) != NO_NODE).count();
        assert_eq!(named, REDIS_CLUSTER_NODES_MAX);
        assert_eq!(nodes.take_up_named(&at(5)), 4, "one that is known");
        nodes.remove(7);
        assert_eq!((nodes.link(7), nodes.take_up_named(&at(500)), nodes.link(7)), (None, 7, Some(Link::New)));
    }
}
