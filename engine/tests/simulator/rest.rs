//! What must hold when nothing moves any more, and what must be left when everybody has gone.

use std::collections::BTreeSet;

use bytes::Bytes;
use gyre_engine::{Counts, HistoryOptions, HomeCall, HomeReply, PublishCall};
use gyre_proto::client::Publication;

use crate::model::What;
use crate::peer::Key;
use crate::play::shutdown;
use crate::sim::Sim;

impl Sim {
    /// Delivers everything that is on its way.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut is_busy = false;
            for core in 0..self.world.sites.len() {
                is_busy |= self.turn(core);
            }
            let mut rings = self.world.busy_rings();
            self.rng.shuffle(&mut rings);
            for (from, to) in &rings {
                self.step(*from, *to);
            }
            let is_asked = !self.questions.is_empty();
            self.answer_any();
            if !is_busy && rings.is_empty() && !is_asked {
                return;
            }
        }
    }

    /// Everybody has been told everything, and the tables say who is there.
    pub(crate) fn check(&mut self) {
        self.note(|| "check".to_owned());
        assert!(self.expected.is_empty(), "calls without an answer: {:?}", self.expected);
        for site in &mut self.world.sites {
            for (number, _) in site.hands.surveyed.drain(..) {
                *self.acts_in_flight.get_mut(&number).expect("asked") -= 1;
            }
        }
        assert!(self.acts_in_flight.values().all(|left| *left == 0), "acts that cores are not through with");
        self.acts_in_flight.clear();
        self.check_gifts();
        for (key, conn) in &self.conns {
            assert!(conn.asked.is_empty(), "{key:?} waits for {:?}", conn.asked);
            let is_admitted = conn.has_said_connect && !conn.is_refused;
            assert_eq!(conn.is_connected, is_admitted, "{key:?} is connected");
            for (channel, sub) in &conn.subs {
                assert!(!sub.must_end, "{key:?} kept {channel} after an unsubscribe by the server");
                assert!(!sub.is_stuck, "{key:?} kept {channel} after what it could not be given");
                let log = &self.model.channels[*channel].log;
                for (at, entry) in log.iter().enumerate().skip(sub.cursor) {
                    assert!(sub.may_skip(at, entry), "{key:?} was not told {entry:?}");
                }
            }
        }
        let live = || self.conns.values().filter(|conn| conn.is_connected);
        let expected = Counts {
            clients: live().count() as u64,
            users: live().map(|conn| &conn.user).collect::<BTreeSet<_>>().len() as u64,
            channels: live().flat_map(|conn| conn.subs.keys()).collect::<BTreeSet<_>>().len() as u64,
            subscriptions: live().map(|conn| conn.subs.len() as u64).sum(),
        };
        assert_eq!(self.counts(), expected, "counts");
        for channel in 0..self.model.channels.len() {
            self.check_presence(channel);
        }
    }

    fn check_presence(&mut self, channel: usize) {
        let it = &self.model.channels[channel];
        let home = it.home;
        let members = self.conns.values().filter(|conn| it.options.presence && conn.subs.contains_key(&channel));
        let mut users = BTreeSet::new();
        let expected: BTreeSet<String> =
            members.inspect(|conn| _ = users.insert(&conn.user)).map(|c| c.uuid.clone()).collect();
        let expected_users = users.len();
        let Some(HomeReply::Presence(members)) = self.call(home, channel, HomeCall::Presence) else {
            panic!("presence")
        };
        let members: BTreeSet<String> = members.iter().map(|(client, _)| client.to_string()).collect();
        assert_eq!(members, expected, "presence of {channel}");
        let Some(HomeReply::PresenceStats { clients, users }) = self.call(home, channel, HomeCall::PresenceStats)
        else {
            panic!("presence_stats")
        };
        assert_eq!((clients as usize, users as usize), (expected.len(), expected_users), "presence_stats of {channel}");
    }

    fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for site in &self.world.sites {
            let counts = site.engine.counts();
            sum.clients += counts.clients;
            sum.users += counts.users;
            sum.channels += counts.channels;
            sum.subscriptions += counts.subscriptions;
        }
        sum
    }

    /// Silent subscribers of a stream that is no longer theirs find out by themselves.
    pub(crate) fn rest(&mut self) {
        self.pass_time(5);
        let lost = self.lost_positions();
        // A tick every 27 s, a check when the last one was 40 s ago.
        self.pass_time(15);
        self.check();
        let still: Vec<_> = self.lost_positions().intersection(&lost).copied().collect();
        assert!(still.is_empty(), "positions in streams that are gone: {still:?}");
    }

    fn pass_time(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.advance(5_000);
            self.answer_pings();
            self.settle();
        }
    }

    /// Connection, channel and epoch of every subscriber whose stream is gone.
    fn lost_positions(&self) -> BTreeSet<(Key, usize, usize)> {
        let subs =
            self.conns.iter().flat_map(|(key, conn)| conn.subs.iter().map(|(channel, sub)| (*key, *channel, sub)));
        let held = subs.filter_map(|(key, channel, sub)| Some((key, channel, sub.pos?.epoch)));
        held.filter(|(_, channel, epoch)| self.model.is_over(*channel, *epoch)).collect()
    }

    /// Everybody goes; nothing may stay.
    pub(crate) fn end(&mut self) {
        let keys: Vec<_> = self.conns.keys().copied().collect();
        let is_shutdown = self.rng.bool();
        for key in keys {
            if !is_shutdown || self.rng.bool() {
                self.hang_up(key);
            }
            if self.rng.bool() {
                let busy = self.world.busy_rings();
                if let Some(&(from, to)) = self.rng.choice(&busy) {
                    self.step(from, to);
                }
            }
        }
        if is_shutdown {
            shutdown(self);
        }
        self.settle();
        self.check();
        assert_eq!(self.counts(), Counts::default(), "somebody is still there");
        for site in &self.world.sites {
            assert_eq!(site.engine.sessions(), 0, "sessions");
        }
        for channel in 0..self.model.channels.len() {
            let it = &self.model.channels[channel];
            let (home, history) = (it.home, HistoryOptions::of(&self.setup.rules, &it.name));
            self.next_n += 1;
            let publication = Publication { data: Bytes::from(self.next_n.to_string()), ..Publication::default() };
            let (idempotency_key, version_epoch) = ("".into(), "".into());
            let call = PublishCall { publication, history, idempotency_key, version: 0, version_epoch };
            self.call(home, channel, HomeCall::Publish(call));
            assert!(self.world.busy_rings().is_empty(), "a publication goes to a core without subscribers");
            let log = &self.model.channels[channel].log;
            assert!(matches!(log.last().map(|entry| &entry.what), Some(What::Pub { .. })));
        }
        self.advance(600_000);
    }
}
