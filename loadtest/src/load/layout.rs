//! Who is where: which client subscribes to which channels, and what they are called.
//!
//! Everything is computed from numbers, so a client costs no memory for names: client i subscribes to the numbered
//! channels `(i + slot * stride) mod channels`, and perhaps to a personal one. Pure.

/// The clients and channels of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// In front of every name: a namespace, and what keeps two runs apart.
    pub(crate) prefix: String,
    pub(crate) clients: usize,
    /// Numbered channels.
    pub(crate) channels: usize,
    /// How many of them a client subscribes to.
    pub(crate) per_client: usize,
    /// Whether each client has a channel of its own besides.
    pub(crate) personal: bool,
}

/// A channel of the layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Channel {
    Numbered(usize),
    Personal(usize),
}

impl Layout {
    /// Subscriptions of each client.
    pub(crate) fn slots(&self) -> usize {
        self.per_client + usize::from(self.personal)
    }

    /// The channel in a slot of a client. Numbered ones come first.
    pub(crate) fn channel(&self, client: usize, slot: usize) -> Channel {
        if slot < self.per_client {
            Channel::Numbered((client + slot * self.stride()) % self.channels)
        } else {
            Channel::Personal(client)
        }
    }

    /// The slot in which a client has this channel.
    pub(crate) fn slot(&self, client: usize, channel: Channel) -> Option<usize> {
        match channel {
            Channel::Personal(owner) => (self.personal && owner == client).then_some(self.per_client),
            Channel::Numbered(channel) if channel < self.channels => {
                let distance = (channel + self.channels - client % self.channels) % self.channels;
                let slot = distance / self.stride();
                (distance.is_multiple_of(self.stride()) && slot < self.per_client).then_some(slot)
            }
            Channel::Numbered(_) => None,
        }
    }

    /// Subscribers of a numbered channel among all clients.
    pub(crate) fn subscribers(&self, channel: usize) -> usize {
        (0..self.per_client)
            .map(|slot| {
                // Clients i with i = channel - slot * stride (mod channels).
                let first = (channel + self.channels - slot * self.stride() % self.channels) % self.channels;
                if first < self.clients { (self.clients - first - 1) / self.channels + 1 } else { 0 }
            })
            .sum()
    }

    /// Appends the name of a channel.
    pub(crate) fn write_name(&self, channel: Channel, out: &mut Vec<u8>) {
        let (kind, number) = match channel {
            Channel::Numbered(number) => (b'c', number),
            Channel::Personal(number) => (b'p', number),
        };
        out.extend_from_slice(self.prefix.as_bytes());
        out.push(kind);
        out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// The channel with this name; None if it is none of ours.
    pub(crate) fn parse_name(&self, name: &[u8]) -> Option<Channel> {
        let (kind, digits) = name.strip_prefix(self.prefix.as_bytes())?.split_first()?;
        if digits.is_empty() || digits.len() > 10 {
            return None;
        }
        let mut number = 0usize;
        for digit in digits {
            number = number * 10 + usize::from(digit.wrapping_sub(b'0')).lt(&10).then(|| usize::from(digit - b'0'))?;
        }
        match kind {
            b'c' => Some(Channel::Numbered(number)),
            b'p' => Some(Channel::Personal(number)),
            _ => None,
        }
    }

    /// Distance between the channels of a client: as far apart as possible, so that neighbours share few.
    fn stride(&self) -> usize {
        (self.channels / self.per_client.max(1)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that expects a channel it is not in, or is in one twice, would report losses that are ours.
    #[test]
    fn slots_and_channels_agree() {
        for (clients, channels, per_client) in [(10, 1, 1), (100, 7, 3), (5, 9, 4), (64, 64, 2), (1000, 10, 10)] {
            let layout = Layout { prefix: "lt:".into(), clients, channels, per_client, personal: true };
            let mut subscribers = vec![0; channels];
            for client in 0..clients {
                for slot in 0..layout.slots() {
                    let channel = layout.channel(client, slot);
                    assert_eq!(layout.slot(client, channel), Some(slot));
                    if let Channel::Numbered(channel) = channel {
                        subscribers[channel] += 1;
                    }
                    let mut name = Vec::new();
                    layout.write_name(channel, &mut name);
                    assert_eq!(layout.parse_name(&name), Some(channel));
                }
                assert_eq!(layout.slot(client, Channel::Personal(client + 1)), None);
            }
            assert_eq!(subscribers, (0..channels).map(|channel| layout.subscribers(channel)).collect::<Vec<_>>());
            assert_eq!(layout.slot(0, Channel::Numbered(channels)), None);
        }
    }

    /// Channels of somebody else must not be taken for ours.
    #[test]
    fn foreign_names() {
        let layout = Layout { prefix: "lt:".into(), clients: 1, channels: 1, per_client: 1, personal: false };
        for name in ["", "lt:", "lt:c", "lt:x1", "c1", "lt:c1x", "lt:c99999999999"] {
            assert_eq!(layout.parse_name(name.as_bytes()), None, "{name}");
        }
        assert_eq!(layout.slot(0, Channel::Personal(0)), None);
    }
}
