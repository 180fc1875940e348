//! Channels that the server API gives to connections: who must get one, and what comes with it.

use std::collections::VecDeque;

use gyre_engine::{Act, ActWhat, RecoverFrom};

use crate::model::{Item, Start};
use crate::peer::{Conn, grants};
use crate::sim::Sim;
use crate::wire::{Granted, Pub, Seen, Wishes};

/// A channel on its way to a connection.
#[derive(Clone, Debug)]
pub(crate) struct Gift {
    channel: usize,
    /// The connection has had the channel meanwhile; then there may be nothing to tell.
    is_excused: bool,
    /// Taken away by the server API after it was given.
    is_revoked: bool,
}

/// Every gift asks for everything since the beginning, of whatever epoch.
pub(crate) fn since() -> Seen {
    (0, String::new())
}

impl Sim {
    /// The connection must get the channel of this act, unless it has it.
    pub(crate) fn expect_gift(conn: &mut Conn, channel: usize) {
        let has_it = conn.subs.contains_key(&channel);
        let is_idle = conn.asked.is_empty() && conn.gifts.is_empty();
        if !(is_idle && has_it) {
            conn.gifts.push_back(Gift { channel, is_excused: has_it, is_revoked: false });
        }
    }

    /// The server API takes a channel away. False = it does so at once.
    pub(crate) fn take_gifts_away(conn: &mut Conn, channel: usize) -> bool {
        conn.gifts.iter_mut().filter(|gift| gift.channel == channel).for_each(|gift| gift.is_revoked = true);
        !conn.gifts.is_empty()
    }

    /// Whether the API has given this channel to connections of the user.
    pub(crate) fn was_given(&self, conn: &Conn, channel: usize) -> bool {
        self.given.contains(&(conn.user.clone(), channel))
    }

    /// The connection has the channel: whatever else gives it is no news.
    pub(crate) fn excuse_gifts(conn: &mut Conn, channel: usize) {
        conn.gifts.iter_mut().filter(|gift| gift.channel == channel).for_each(|gift| gift.is_excused = true);
        if conn.asked.is_empty() {
            let subs = &conn.subs;
            conn.gifts.retain(|gift| !subs.contains_key(&gift.channel));
        }
    }

    /// What the home core has decided.
    pub(crate) fn start_of_gift(&mut self, core: usize, conn: &mut Conn, channel: usize) -> Start {
        if self.model.channels[channel].home != core {
            return conn.starts.remove(&channel).expect("the home core was asked");
        }
        let granted = grants(&self.model.channels[channel].options, Wishes::default());
        let (offset, epoch) = since();
        let limit = self.setup.rules.client.recovery_max_publication_limit;
        let mode = self.model.channels[channel].options.recovery_mode;
        let from = granted.recoverable.then(|| RecoverFrom { offset, epoch: epoch.into(), limit, mode });
        self.model.start(channel, granted.positioned.then_some(from.as_ref()))
    }

    pub(crate) fn judge_gift(
        &mut self,
        conn: &mut Conn,
        channel: usize,
        mut granted: Granted,
        start: Start,
        context: &str,
    ) {
        assert!(self.was_given(conn, channel), "{context}: nobody asked for it");
        assert!(!conn.subs.contains_key(&channel), "{context}: twice");
        let mut of_channel = conn.gifts.iter().filter(|gift| gift.channel == channel).peekable();
        let must_end = of_channel.peek().is_some() && of_channel.all(|gift| gift.is_revoked);
        if let Some(at) = conn.gifts.iter().position(|gift| gift.channel == channel) {
            conn.gifts.remove(at);
        }
        // What a push does not say; the publications follow one by one.
        let missed: VecDeque<Item> = start.recovered.iter().flatten().cloned().collect();
        (granted.was_recovering, granted.recovered) = (true, start.recovered.is_some());
        granted.publications = missed
            .iter()
            .map(|(offset, n, _, client)| Pub { n: *n, offset: *offset, epoch: String::new(), client: client.clone() })
            .collect();
        self.judge_start(conn, channel, &granted, start, &Some(since()), Wishes::default(), true, context);
        let sub = conn.subs.get_mut(&channel).expect("just made");
        (sub.missed, sub.must_end) = (missed, must_end);
        Self::excuse_gifts(conn, channel);
    }

    /// The channel that an act gives.
    pub(crate) fn channel_given(&self, act: &Act) -> Option<usize> {
        match &act.what {
            ActWhat::Subscribe(given) => Some(self.model.find(&given.channel)),
            _ => None,
        }
    }

    /// Nothing moves any more.
    pub(crate) fn check_gifts(&mut self) {
        for (key, conn) in &mut self.conns {
            let lost = conn.gifts.iter().find(|gift| !gift.is_excused);
            assert!(lost.is_none(), "{key:?} never got {lost:?}");
            conn.gifts.clear();
            assert!(conn.subs.values().all(|sub| sub.missed.is_empty()), "{key:?} was not told what it missed");
        }
    }
}
