//! Which publication is the next one of a connection: channel and sequence from a running number.
//!
//! Closed formulas, so a publisher keeps no state per channel. Where order is checked, channel c belongs to connection
//! `c mod connections`, because two connections have no order between them. Pure.

use crate::load::spec::Publishing;

/// The order of one connection's publications.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Feed {
    /// First channel of the connection and the distance to its next one.
    first: u64,
    step: u64,
    /// Channels of the connection.
    channels: u64,
    /// Consecutive publications to one channel.
    burst: u64,
}

impl Feed {
    pub(crate) fn new(publishing: &Publishing, connection: usize, channels: usize) -> Self {
        let (connection, channels) = (connection as u64, channels.max(1) as u64);
        let connections = publishing.connections as u64;
        let burst = if publishing.burst { publishing.batch as u64 } else { 1 };
        if publishing.ordered {
            let own = (channels - connection % channels).div_ceil(connections);
            Self { first: connection % channels, step: connections, channels: own, burst }
        } else {
            // Connections begin at different channels, so that few calls at a time meet at one.
            Self { first: connection % channels, step: 1, channels, burst }
        }
    }

    /// How many publications make one round: one to each channel.
    pub(crate) fn round(&self) -> u64 {
        self.channels * self.burst
    }

    /// Channel and sequence of the publication with this number, from 0. `channels` is the number of all.
    pub(crate) fn at(&self, number: u64, channels: usize) -> (usize, u32) {
        let event = number / self.burst;
        let channel = (self.first + event % self.channels * self.step) % channels.max(1) as u64;
        let sequence = event / self.channels * self.burst + number % self.burst + 1;
        (channel as usize, sequence as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// If two connections shared a channel, or a number came twice, a correct server would be called faulty.
    #[test]
    fn every_channel_counts_from_one_on_one_connection() {
        for (channels, connections, batch, burst) in
            [(1, 1, 1, false), (7, 3, 1, false), (4, 4, 5, true), (10, 2, 3, false)]
        {
            let publishing = publishing(connections, batch, burst, true);
            let mut seen: BTreeMap<usize, (usize, u32)> = BTreeMap::new();
            for connection in 0..connections {
                let feed = Feed::new(&publishing, connection, channels);
                for number in 0..feed.round() * 6 {
                    let (channel, sequence) = feed.at(number, channels);
                    let (owner, last) = seen.entry(channel).or_insert((connection, 0));
                    assert_eq!((*owner, *last + 1), (connection, sequence), "{channels} {connections} {number}");
                    *last = sequence;
                }
            }
            assert_eq!(seen.len(), channels);
            assert!(seen.values().all(|(_, last)| *last == 6 * if burst { batch as u32 } else { 1 }));
        }
    }

    /// Without subscribers any connection publishes anywhere, but it must still publish to all.
    #[test]
    fn unordered_connections_visit_all_channels() {
        let feed = Feed::new(&publishing(64, 1, false, false), 63, 10);
        let mut channels: Vec<_> = (0..10).map(|number| feed.at(number, 10).0).collect();
        channels.sort_unstable();
        assert_eq!(channels, (0..10).collect::<Vec<_>>());
    }

    fn publishing(connections: usize, batch: usize, burst: bool, ordered: bool) -> Publishing {
        use crate::load::spec::Pace;
        use crate::plan::Endpoint;
        let api = Endpoint { address: ([127, 0, 0, 1], 1).into(), authority: String::new(), path: String::new() };
        Publishing {
            via: crate::options::Via::Http,
            pace: Pace::Ordered,
            batch,
            burst,
            connections,
            pipeline: 1,
            ordered,
            size: 64,
            api,
            api_key: None,
        }
    }
}
