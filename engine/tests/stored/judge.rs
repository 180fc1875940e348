//! Whether each client is told what it was promised, no more, no less, by the log of what the store did.

use std::mem;

use gyre_engine::rules::RecoveryMode;
use gyre_engine::{CallId, HomeReply};

use crate::heard::understand;
use crate::sim::{Asked, Conn, Sim, Sub};
use crate::wire::{Granted, Heard, Pub, Say, Seen, Wishes, number_of};
use crate::world::Told;
use crate::world::kept::What;

impl Sim {
    /// Judges what an engine has just said.
    pub(crate) fn digest(&mut self, site: usize) {
        let hands = &mut self.world.sites[site].hands;
        hands.said.clear();
        hands.closed.clear();
        for (number, reply) in mem::take(&mut hands.answers) {
            self.judge_answer(number, reply);
        }
        for (id, told) in mem::take(&mut self.world.sites[site].hands.told) {
            let Some(mut conn) = self.conns.remove(&id.index) else { panic!("{id:?} is gone and is told {told:?}") };
            let heard = match told {
                Told::Message(message) => understand(conn.encoding, &message),
                Told::Closed(why) => Heard::Closed(why.code),
            };
            self.note(|| format!("    {} < {heard:?}", id.index));
            let context = format!("{} ({}) {heard:?}", id.index, conn.uuid);
            if let Heard::Closed(code) = heard {
                self.judge_close(&conn, code, &context);
                self.agents[conn.agent].conn = None;
                continue;
            }
            self.judge(&mut conn, heard, &context);
            self.conns.insert(id.index, conn);
        }
        for (asker, call) in mem::take(&mut self.world.sites[site].hands.backend_calls) {
            self.asked_of_backend(site, asker, call);
        }
    }

    pub(crate) fn judge_answer(&mut self, number: CallId, reply: HomeReply) {
        self.note(|| format!("    answer {number} {reply:?}"));
        let (channel, n, is_always_new) = self.calls.remove(&number).expect("a call is answered once");
        match reply {
            HomeReply::Published(at) => {
                let is_it =
                    |what: &What| matches!(what, What::Publication(it, pos) if number_of(&it.data) == n && *pos == at);
                let is_there = self.kept(&channel).log.iter().any(is_it);
                assert!(is_there || !is_always_new, "{n} was confirmed at {at:?} and is not in {channel}");
            }
            HomeReply::Unavailable => assert!(self.failures > 0, "{n} failed for no reason"),
            reply => panic!("{reply:?} answers the publication {n}"),
        }
    }

    fn judge_close(&mut self, conn: &Conn, code: u32, context: &str) {
        let fits = match code {
            // With data lost, old messages that come late may outlast the patience of one who reads the position.
            3004 => !conn.is_connected && self.failures + self.data_losses > 0,
            3010 => {
                conn.subs.iter().any(|(c, sub)| sub.is_server_side && self.may_be_lost(c, sub)) || !conn.is_connected
            }
            3502 => !conn.is_connected && conn.opened_ms + 10_000 <= self.world.now.mono_ms,
            _ => false,
        };
        assert!(fits, "{context}: no reason to");
    }

    /// Whether a subscriber can have lost its position, or look as if.
    fn may_be_lost(&mut self, channel: &str, sub: &Sub) -> bool {
        let Some(seen) = &sub.pos else { return false };
        let top = self.kept(channel).top;
        // Behind: a message is on its way, and a check of the position was faster.
        let is_behind = top.is_none_or(|top| (top.offset, top.epoch.as_str()) != (seen.0, &seen.1));
        is_behind || self.data_losses > 0
    }

    fn judge(&mut self, conn: &mut Conn, heard: Heard, context: &str) {
        if let Some(id) = heard.id() {
            let asked = conn.asked.pop_front().unwrap_or_else(|| panic!("{context}: answers nothing"));
            assert_eq!(asked.id, id, "{context}: before the answer to {asked:?}");
            return self.judge_reply(conn, asked, heard, context);
        }
        assert!(conn.is_connected, "{context}: before the connect reply");
        match heard {
            Heard::Publication { channel, publication } => {
                self.judge_publication(conn, &channel, &publication, context)
            }
            Heard::Join { channel, client } => {
                let is_it = |what: &What| matches!(what, What::Join(info) if info.client == client);
                self.judge_member(conn, &channel, is_it, context);
            }
            Heard::Leave { channel, client } => {
                let is_it = |what: &What| matches!(what, What::Leave(info) if info.client == client);
                self.judge_member(conn, &channel, is_it, context);
            }
            Heard::Unsubscribed { channel, code: 2500 } => {
                let sub = conn.subs.remove(&channel).unwrap_or_else(|| panic!("{context}: not subscribed"));
                assert!(!sub.is_server_side && self.may_be_lost(&channel, &sub), "{context}: no reason to; {sub:?}");
            }
            _ => panic!("{context}: unexpected"),
        }
    }

    fn judge_publication(&mut self, conn: &mut Conn, channel: &str, publication: &Pub, context: &str) {
        let Some(sub) = conn.subs.get_mut(channel) else { panic!("{context}: not subscribed") };
        let is_it = |what: &What| matches!(what, What::Publication(it, _) if number_of(&it.data) == publication.n);
        let What::Publication(it, at) = self.follow(conn.site, channel, sub, is_it, context) else { unreachable!() };
        assert_eq!(publication.client, it.info.map_or(String::new(), |info| info.client), "{context}: publisher");
        assert_eq!(publication.offset, at.offset, "{context}: offset");
        if let Some(pos) = &mut sub.pos
            && at.offset > 0
        {
            assert_eq!(pos.1, at.epoch.as_str(), "{context}: of another epoch");
            assert_eq!(pos.0 + 1, at.offset, "{context}: offset does not join up");
            pos.0 = at.offset;
            self.agents[conn.agent].seen.insert(channel.to_owned(), pos.clone());
        }
    }

    fn judge_member(&mut self, conn: &mut Conn, channel: &str, is_it: impl Fn(&What) -> bool, context: &str) {
        let Some(sub) = conn.subs.get_mut(channel) else { panic!("{context}: not subscribed") };
        assert!(sub.pushes_join_leave, "{context}: not asked for");
        self.follow(conn.site, channel, sub, is_it, context);
    }

    /// Moves a subscriber on to the entry it was told, over nothing that it must not miss.
    fn follow(
        &mut self,
        site: usize,
        channel: &str,
        sub: &mut Sub,
        is_it: impl Fn(&What) -> bool,
        context: &str,
    ) -> What {
        let excused = self.excused_until(site, channel);
        let served = self.served(site)[channel];
        let log = &self.kept(channel).log;
        // The same client may have come and gone before: what must come next is rather meant, if it can have come.
        let rest = log.iter().enumerate().skip(sub.cursor);
        if let Some((at, what)) = rest.clone().find(|(at, what)| !may_skip(sub, *at, what, excused))
            && at < served
            && is_it(what)
        {
            sub.cursor = at + 1;
            return what.clone();
        }
        while let Some(what) = log.get(sub.cursor) {
            sub.cursor += 1;
            if is_it(what) {
                return what.clone();
            }
            assert!(may_skip(sub, sub.cursor - 1, what, excused), "{context}: {what:?} comes first; {sub:?}");
        }
        panic!("{context}: is not due; {sub:?}, log {log:?}");
    }

    /// Entries before this one may have been lost while the node was deaf.
    fn excused_until(&self, site: usize, channel: &str) -> usize {
        let node = self.node(site);
        let sites = node * self.world.cores..(node + 1) * self.world.cores;
        if self.deaf.keys().any(|site| sites.contains(site)) {
            return usize::MAX;
        }
        self.excused.get(&(node, channel.to_owned())).copied().unwrap_or(0)
    }

    /// All subscribers are at the end of the log. Without `is_sure`, what was lost while the node was deaf may be told later.
    pub(crate) fn check_positions(&mut self, is_sure: bool, may_be_over: bool) {
        let now_ms = self.world.now.mono_ms;
        for index in self.conns.keys().copied().collect::<Vec<_>>() {
            let conn = self.conns.remove(&index).expect("just listed");
            for (channel, sub) in &conn.subs {
                let excused = self.excused_until(conn.site, channel);
                let kept = self.kept(channel);
                for (at, what) in kept.log.iter().enumerate().skip(sub.cursor) {
                    // A position that cannot be continued has to be told, one day at the latest.
                    let excused = if is_sure && sub.is_behind(what) { 0 } else { excused };
                    let is_fine = may_skip(sub, at, what, excused);
                    assert!(is_fine, "{index} in {channel} was not told {what:?} ({at}); {sub:?}");
                }
                if let Some(pos) = &sub.pos {
                    let is_there = kept.is_epoch(&pos.1, now_ms);
                    assert!(is_there || may_be_over, "{index}: {channel} is over; {sub:?}");
                }
            }
            self.conns.insert(index, conn);
        }
    }

    fn judge_reply(&mut self, conn: &mut Conn, asked: Asked, reply: Heard, context: &str) {
        if let Heard::Error { code: 100, .. } = reply {
            let has_failed = asked.questions.has_failed;
            conn.is_refused = matches!(asked.say, Say::Connect { .. });
            assert!(!conn.is_refused || has_failed, "{context}: it could connect");
            return assert!(has_failed || self.failures > 0 || self.data_losses > 0, "{context}: it could");
        }
        assert!(!asked.questions.has_failed, "{context}: the backend has failed");
        match (&asked.say, reply) {
            (Say::Connect { .. }, Heard::Connect { client, subs, .. }) => {
                assert_eq!(client, conn.uuid, "{context}: client id");
                conn.is_connected = true;
                let plan = mem::take(&mut conn.plan);
                assert_eq!(subs.len(), plan.len(), "{context}: server-side subscriptions");
                for (channel, granted) in subs {
                    let planned = plan.iter().find(|(name, _)| *name == channel);
                    let (_, recover) = planned.unwrap_or_else(|| panic!("{context}: not asked for"));
                    self.judge_start(conn, &asked, &channel, &granted, (recover, Wishes::default(), true), context);
                }
            }
            (Say::Subscribe { channel, recover, wishes }, Heard::Subscribe { granted, .. }) => {
                assert!(!conn.subs.contains_key(channel), "{context}: twice");
                let is_cache = self.options(channel).recovery_mode == RecoveryMode::Cache;
                let is_fine = !wishes.reject || recover.is_none() || granted.recovered || is_cache;
                assert!(is_fine, "{context}: 112 was asked for");
                self.judge_start(conn, &asked, channel, &granted, (recover, *wishes, false), context);
            }
            (Say::Subscribe { channel, .. }, Heard::Error { code: 105, .. }) => {
                assert!(conn.subs.contains_key(channel), "{context}: it is not");
            }
            (Say::Subscribe { channel, recover, wishes }, Heard::Error { code: 112, .. }) => {
                assert!(wishes.reject && recover.is_some(), "{context}: not asked for");
                assert!(self.options(channel).recovery_mode == RecoveryMode::Stream, "{context}: of a cache");
            }
            (Say::Unsubscribe(channel), Heard::Unsubscribe { .. }) => _ = conn.subs.remove(channel),
            (Say::Publish { channel, data }, Heard::Publish { .. }) => {
                let is_it = |what: &&What| matches!(what, What::Publication(it, _) if it.data == data.as_bytes());
                let count = self.kept(channel).log.iter().filter(is_it).count();
                assert_eq!(count, 1, "{context}: confirmed, and so often in the log of {channel}");
            }
            (Say::History { channel, limit, since, .. }, Heard::History { publications, top, .. }) => {
                assert!(*limit < 0 || publications.len() <= *limit as usize, "{context}: too many");
                let mut last = since.as_ref().map(|since| since.0);
                for it in &publications {
                    assert!(last.is_none_or(|last| it.offset > last), "{context}: order");
                    last = Some(it.offset);
                    self.same_as_told(channel, it, &top.1, context);
                }
            }
            (Say::History { channel, since, .. }, Heard::Error { code, .. }) => match code {
                108 => assert!(!self.options(channel).has_history(), "{context}: there is one"),
                112 => assert!(since.is_some() && self.data_losses > 0, "{context}: it could"),
                _ => panic!("{context}: unexpected"),
            },
            (Say::Presence(channel) | Say::PresenceStats(channel), reply) => {
                let is_refused = matches!(reply, Heard::Error { code: 108, .. });
                assert_eq!(is_refused, !self.options(channel).presence, "{context}: presence");
                assert!(
                    is_refused || matches!(reply, Heard::Presence { .. } | Heard::PresenceStats { .. }),
                    "{context}"
                );
            }
            _ => panic!("{context}: does not answer {asked:?}"),
        }
    }

    /// A publication of a page is what subscribers were told under that position.
    fn same_as_told(&mut self, channel: &str, it: &Pub, epoch: &str, context: &str) {
        let is_it = |what: &What| match what {
            What::Publication(told, at) => {
                at.offset == it.offset && at.epoch.as_str() == epoch && number_of(&told.data) == it.n
            }
            _ => false,
        };
        assert!(self.kept(channel).log.iter().any(is_it), "{context}: {it:?} was never told");
    }

    fn judge_start(
        &mut self,
        conn: &mut Conn,
        asked: &Asked,
        channel: &str,
        granted: &Granted,
        (recover, wishes, is_server_side): (&Option<Seen>, Wishes, bool),
        context: &str,
    ) {
        let options = self.options(channel);
        let recoverable = options.force_recovery || wishes.recoverable;
        let positioned = recoverable || options.force_positioning || wishes.positioned;
        let pushes_join_leave = options.force_push_join_leave || (wishes.join_leave && options.join_leave);
        assert_eq!(granted.positioned, positioned, "{context}: positioned");
        assert_eq!(granted.recoverable, recoverable, "{context}: recoverable");
        let is_cache = recoverable && options.recovery_mode == RecoveryMode::Cache;
        let from_nothing = (is_cache && options.auto_cache_recover).then(|| (0, String::new()));
        let recover = recover.clone().or(from_nothing);
        assert_eq!(granted.was_recovering, recover.is_some(), "{context}: was_recovering");
        let mut pos = None;
        if is_cache && let Some(recover) = &recover {
            assert_eq!(granted.epoch.len(), 8, "{context}: epoch");
            pos = Some(self.judge_latest(asked, channel, granted, recover, context));
        }
        let seen = &mut self.agents[conn.agent].seen;
        if let Some(at) = &pos {
            seen.insert(channel.to_owned(), at.clone());
        } else if positioned {
            assert_eq!(granted.epoch.len(), 8, "{context}: epoch");
            let mut at = (granted.offset, granted.epoch.clone());
            if granted.recovered {
                let (offset, epoch) = recover.as_ref().unwrap_or_else(|| panic!("{context}: not asked to recover"));
                assert_eq!(granted.offset, *offset, "{context}: offset of the request");
                assert!(epoch.is_empty() || *epoch == granted.epoch, "{context}: recovered another epoch");
            } else {
                assert!(granted.publications.is_empty(), "{context}: publications, and not recovered");
                let is_same = recover.as_ref().is_some_and(|from| *from == at);
                assert!(!is_same || !recoverable, "{context}: nothing was missed");
            }
            for publication in &granted.publications {
                assert_eq!(publication.offset, at.0 + 1, "{context}: a gap or a duplicate");
                at.0 += 1;
            }
            seen.insert(channel.to_owned(), at.clone());
            pos = Some(at);
        } else {
            seen.remove(channel);
        }
        for publication in &granted.publications {
            self.same_as_told(channel, publication, &granted.epoch, context);
        }
        let must_from = self.kept(channel).log.len();
        let cursor = asked.since[channel];
        let sub = Sub { cursor, must_from, pos, pushes_join_leave, is_server_side };
        conn.subs.insert(channel.to_owned(), sub);
    }
}

/// Whether a subscriber may go without the entry of this number.
fn may_skip(sub: &Sub, at: usize, what: &What, excused: usize) -> bool {
    at < excused
        || match (what, &sub.pos) {
            (What::Publication(_, it), Some(_)) if it.offset > 0 => !sub.is_behind(what),
            (What::Publication(..), _) => at < sub.must_from,
            _ => !sub.pushes_join_leave || at < sub.must_from,
        }
}
