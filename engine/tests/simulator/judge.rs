//! Second look at what a call of an engine led to: whether each client was told what it was promised, no more, no less.

use std::collections::VecDeque;
use std::mem;

use gyre_proto::Encoding;

use crate::backend::Verdict;
use crate::digest::Event;
use crate::model::{Item, Pos, Start, What};
use crate::peer::{Asked, Conn, Sub, grants};
use crate::sim::Sim;
use crate::wire::{Granted, Heard, Pub, Say, Seen, Wishes};

impl Sim {
    pub(crate) fn judge(&mut self, mut event: Event) {
        let mut conn = self.conns.remove(&event.key).expect("closed only here");
        let context = format!("{:?} ({}) {:?}", event.key, conn.uuid, event.heard);
        let heard = mem::replace(&mut event.heard, Heard::Ping);
        assert!(
            conn.is_connected
                || matches!(heard, Heard::Connect { .. } | Heard::Closed(_))
                || matches!(&event.asked, Some(Asked { say: Say::Connect { .. }, .. })),
            "{context}: before the connect reply"
        );
        match heard {
            Heard::Ping if event.asked.is_none() => {
                assert!(!conn.owes_pong, "{context}: two pings, no pong");
                conn.pinged_ms = Some(self.model.now_ms);
                conn.owes_pong = true;
            }
            Heard::Ping => unreachable!("a ping answers nothing"),
            Heard::Publication { channel, publication } => {
                let channel = self.model.find(&channel);
                self.judge_publication(&mut conn, channel, &publication, &context);
            }
            Heard::Join { channel, client } => self.judge_member(&mut conn, &channel, &What::Join(client), &context),
            Heard::Leave { channel, client } => self.judge_member(&mut conn, &channel, &What::Leave(client), &context),
            Heard::Unsubscribed { channel, code } => {
                let channel = self.model.find(&channel);
                match code {
                    2000 => {
                        let act = (conn.user.clone(), Some(channel));
                        assert!(self.acts.contains(&act), "{context}: nobody asked for it");
                        if let Some(sub) = conn.subs.remove(&channel) {
                            self.judge_end(&conn, channel, &sub, &context);
                        }
                    }
                    2500 => {
                        let sub = conn.subs.remove(&channel).unwrap_or_else(|| panic!("{context}: not subscribed"));
                        let pos = sub.pos.unwrap_or_else(|| panic!("{context}: not positioned"));
                        assert!(!sub.is_server_side, "{context}: server-side");
                        assert!(self.model.is_over(channel, pos.epoch), "{context}: the stream goes on");
                    }
                    2501 => {
                        let sub = conn.subs.remove(&channel).unwrap_or_else(|| panic!("{context}: not subscribed"));
                        assert!(sub.must_expire, "{context}: nobody has said so");
                        self.judge_end(&conn, channel, &sub, &context);
                    }
                    _ => panic!("{context}: unexpected code"),
                }
            }
            Heard::Given { channel, granted } => {
                let channel = self.model.find(&channel);
                let (_, start) = event.starts.remove(0);
                self.judge_gift(&mut conn, channel, granted, start, &context);
            }
            Heard::Closed(code) => return self.judge_close(conn, code, &context),
            reply => {
                let asked = event.asked.take().expect("every reply answers a command");
                self.judge_reply(&mut conn, asked, reply, event, &context);
            }
        }
        self.conns.insert(conn.key(), conn);
    }

    fn judge_publication(&mut self, conn: &mut Conn, channel: usize, publication: &Pub, context: &str) {
        let Some(sub) = conn.subs.get_mut(&channel) else { panic!("{context}: not subscribed") };
        if let Some((offset, n, _, client)) = sub.missed.pop_front() {
            let expected = Pub { n, offset, epoch: String::new(), client };
            return assert_eq!(*publication, expected, "{context}: what was missed comes first");
        }
        let of_client = |it: &What| matches!(it, What::Pub { n, .. } if *n == publication.n);
        assert!(!sub.is_stuck, "{context}: after what it could not be given");
        let entry = self.follow(channel, sub, conn.encoding, of_client, context);
        let What::Pub { pos, is_json, client, .. } = entry else { unreachable!("just matched") };
        assert!(is_json || conn.encoding == Encoding::Protobuf, "{context}: not JSON");
        assert_eq!(publication.client, client, "{context}: publisher");
        assert_eq!(publication.offset, pos.map_or(0, |pos| pos.offset), "{context}: offset");
        match pos {
            Some(pos) if pos.offset == 1 => self.model.same_epoch(pos.epoch, &publication.epoch),
            _ => assert_eq!(publication.epoch, "", "{context}: epoch"),
        }
        if let (Some(held), Some(pos)) = (&mut sub.pos, pos) {
            assert_eq!(held.epoch, pos.epoch, "{context}: of another epoch");
            assert_eq!(held.offset + 1, pos.offset, "{context}: offset does not join up");
            held.offset = pos.offset;
            let seen = self.agents[conn.agent].seen.get_mut(&channel).expect("positioned");
            assert_eq!(seen.0 + 1, pos.offset, "{context}: the client sees a gap or a duplicate");
            seen.0 = pos.offset;
        }
    }

    fn judge_member(&mut self, conn: &mut Conn, channel: &str, what: &What, context: &str) {
        let channel = self.model.find(channel);
        let Some(sub) = conn.subs.get_mut(&channel) else { panic!("{context}: not subscribed") };
        assert!(sub.pushes_join_leave, "{context}: not asked for");
        self.follow(channel, sub, conn.encoding, |it| it == what, context);
    }

    /// Moves a subscriber on to the entry it was told, over nothing that it must not miss.
    fn follow(
        &self,
        channel: usize,
        sub: &mut Sub,
        encoding: Encoding,
        is_it: impl Fn(&What) -> bool,
        context: &str,
    ) -> What {
        let log = &self.model.channels[channel].log;
        let from = sub.cursor;
        while let Some(entry) = log.get(sub.cursor) {
            sub.cursor += 1;
            if is_it(&entry.what) {
                return entry.what.clone();
            }
            // Those who cannot be served leave one after another, and the last ones are told of the first.
            let is_in_the_way = sub.cannot_be_served(encoding, entry);
            sub.is_stuck |= is_in_the_way;
            assert!(is_in_the_way || sub.may_skip(sub.cursor - 1, entry), "{context}: {entry:?} comes first");
        }
        panic!("{context}: is not due; log from {from} on: {:?}", log.get(from.saturating_sub(3)..));
    }

    /// A subscription is over: all that reached its core before must have been told.
    pub(crate) fn judge_end(&self, conn: &Conn, channel: usize, sub: &Sub, context: &str) {
        if self.setup.is_crowd {
            return;
        }
        let it = &self.model.channels[channel];
        let served = self.world.served(it.home, conn.core);
        for (at, entry) in it.log.iter().enumerate().skip(sub.cursor) {
            let is_late = entry.beat < served && !sub.may_skip(at, entry);
            assert!(!is_late, "{context}: ends without {entry:?}");
        }
    }

    fn judge_close(&mut self, conn: Conn, code: u32, context: &str) {
        let now_ms = self.model.now_ms;
        let fits = match code {
            3000 => conn.is_refused,
            3001 => self.is_shutting_down,
            3005 => conn.must_expire,
            4501 => conn.told == Some(Verdict::Disconnect),
            3010 => {
                let is_over = |channel, pos: Option<Pos>| pos.is_some_and(|pos| self.model.is_over(channel, pos.epoch));
                conn.subs.iter().any(|(channel, sub)| sub.is_server_side && is_over(*channel, sub.pos))
                    || conn.starts.iter().any(|(channel, start)| is_over(*channel, start.top))
            }
            3012 => conn.pinged_ms.is_some_and(|at_ms| at_ms + 8_000 <= now_ms),
            3501 => conn.has_misbehaved,
            3502 => !conn.is_connected && conn.opened_ms + 10_000 <= now_ms,
            3503 => self.acts.contains(&(conn.user.clone(), None)),
            3505 => {
                let limit = self.setup.rules.client.channel_limit;
                conn.subs.len() >= limit && self.given.iter().any(|(user, _)| *user == conn.user)
            }
            3506 => conn.encoding == Encoding::Json && self.setup.is_binary,
            _ => false,
        };
        assert!(fits, "{context}: no reason to");
        if !matches!(code, 3010 | 3506) {
            conn.subs.iter().for_each(|(channel, sub)| self.judge_end(&conn, *channel, sub, context));
        }
        self.agents[conn.agent].key = None;
        self.zombies.push(conn.key());
    }

    fn judge_reply(&mut self, conn: &mut Conn, asked: Asked, reply: Heard, mut event: Event, context: &str) {
        let told = conn.told.take();
        match (told, &reply) {
            (Some(Verdict::Error), Heard::Error { code: 1000, .. })
            | (Some(Verdict::Failed), Heard::Error { code: 100, .. }) => {
                if matches!(asked.say, Say::Connect { .. }) {
                    conn.is_refused = true;
                    conn.asked.clear();
                }
                return;
            }
            (None | Some(Verdict::Granted), Heard::Error { .. }) => {}
            (told, _) => {
                let is_granted = told == Some(Verdict::Granted);
                assert_eq!(is_granted, self.is_asked(&asked.say), "{context}: the backend has said {told:?}");
            }
        }
        match (&asked.say, reply) {
            (Say::Connect { .. }, Heard::Connect { client, mut subs, .. }) => {
                assert_eq!(client, conn.uuid, "{context}: client id");
                conn.is_connected = true;
                for (planned, (channel, start)) in mem::take(&mut conn.plan).into_iter().zip(event.starts) {
                    let name = &self.model.channels[channel].name;
                    let at = subs.iter().position(|(it, _)| it == name);
                    let (_, granted) = subs.remove(at.unwrap_or_else(|| panic!("{context}: lacks {name}")));
                    let recover = &planned.recover;
                    self.judge_start(conn, channel, &granted, start, recover, Wishes::default(), true, context);
                    conn.subs.get_mut(&channel).expect("just made").must_end = planned.is_revoked;
                }
                assert!(subs.is_empty(), "{context}: subscribed to more than it may");
            }
            (Say::Subscribe { recover, wishes, .. }, Heard::Subscribe { granted, .. }) => {
                let (channel, start) = event.starts.remove(0);
                assert!(!conn.subs.contains_key(&channel), "{context}: twice");
                self.judge_start(conn, channel, &granted, start, recover, *wishes, false, context);
                conn.subs.get_mut(&channel).expect("just made").must_end = asked.is_revoked;
            }
            (Say::Subscribe { channel, recover, wishes }, Heard::Error { code, .. }) => match code {
                105 => assert!(conn.subs.contains_key(&self.model.find(channel)), "{context}: it is not"),
                106 => assert!(conn.subs.len() >= self.setup.rules.client.channel_limit, "{context}: it is not"),
                112 => {
                    let (_, start) = event.starts.remove(0);
                    assert!(wishes.reject && recover.is_some() && start.recovered.is_none(), "{context}: it could");
                }
                _ => panic!("{context}: unexpected error"),
            },
            (Say::Unsubscribe(channel), Heard::Unsubscribe { .. }) => {
                let channel = self.model.find(channel);
                if let Some(sub) = conn.subs.remove(&channel) {
                    self.judge_end(conn, channel, &sub, context);
                }
            }
            (Say::Publish { .. }, Heard::Publish { .. }) => {}
            (Say::Publish { .. }, Heard::Error { code: 100, .. }) => {
                assert!(self.has_been_congested, "{context}: it could");
            }
            (Say::History { channel, .. }, Heard::History { publications, top, .. }) => {
                let page = event.page.flatten();
                let (pos, items) = page.unwrap_or_else(|| panic!("{context}: error 112 was due"));
                self.model.same_position(Some(pos), top.0, &top.1);
                same_items(&publications, &items, context);
                assert!(self.has_history(channel), "{context}: there is none");
            }
            (Say::History { channel, since, reverse, .. }, Heard::Error { code, .. }) => match code {
                112 => assert!(matches!(event.page, Some(None)), "{context}: it could"),
                108 => assert!(!self.has_history(channel), "{context}: there is one"),
                107 => assert!(*reverse && since.as_ref().is_some_and(|since| since.0 == 0), "{context}: it could"),
                _ => panic!("{context}: unexpected error"),
            },
            (Say::Presence(channel) | Say::PresenceStats(channel), reply) => {
                let has_presence = self.model.channels[self.model.find(channel)].options.presence;
                let is_refused = matches!(reply, Heard::Error { code: 108, .. });
                let is_read = matches!(reply, Heard::Presence { .. } | Heard::PresenceStats { .. });
                assert!(if has_presence { is_read } else { is_refused }, "{context}: presence {has_presence}");
                if let Heard::PresenceStats { clients, users, .. } = reply {
                    assert!(users <= clients && (users > 0) == (clients > 0), "{context}: more users than clients");
                }
            }
            (Say::Rpc, Heard::Rpc { .. }) => {}
            (Say::Rpc, Heard::Error { code: 108, .. }) => {
                assert!(!self.is_asked(&asked.say), "{context}: there is a backend");
            }
            _ => panic!("{context}: does not answer {asked:?}"),
        }
    }

    fn has_history(&self, channel: &str) -> bool {
        self.model.channels[self.model.find(channel)].options.has_history()
    }

    /// A subscription was granted as the home core decided.
    #[expect(clippy::too_many_arguments, reason = "one of each kind")]
    pub(crate) fn judge_start(
        &mut self,
        conn: &mut Conn,
        channel: usize,
        granted: &Granted,
        start: Start,
        recover: &Option<Seen>,
        wishes: Wishes,
        is_server_side: bool,
        context: &str,
    ) {
        let expected = grants(&self.model.channels[channel].options, wishes);
        assert_eq!(granted.positioned, expected.positioned, "{context}: positioned");
        assert_eq!(granted.recoverable, expected.recoverable, "{context}: recoverable");
        assert_eq!(granted.was_recovering, recover.is_some(), "{context}: was_recovering");
        assert_eq!(granted.recovered, start.recovered.is_some(), "{context}: recovered; {start:?}");
        assert_eq!(start.top.is_some(), expected.positioned, "{context}: position");
        match (&start.top, recover) {
            (Some(top), Some((offset, _))) if granted.recovered => {
                self.model.same_epoch(top.epoch, &granted.epoch);
                assert_eq!(granted.offset, *offset, "{context}: offset of the request");
            }
            _ => self.model.same_position(start.top, granted.offset, &granted.epoch),
        }
        same_items(&granted.publications, start.recovered.as_deref().unwrap_or_default(), context);
        let agent = &mut self.agents[conn.agent];
        if expected.positioned {
            let mut seen = (granted.offset, granted.epoch.clone());
            for publication in &granted.publications {
                assert_eq!(publication.offset, seen.0 + 1, "{context}: the client sees a gap or a duplicate");
                seen.0 += 1;
            }
            assert_eq!(Some(seen.0), start.top.map(|top| top.offset), "{context}: not up to the top");
            agent.seen.insert(channel, seen);
        } else {
            agent.seen.remove(&channel);
        }
        let sub = Sub {
            cursor: start.cursor,
            lenient_until: start.lenient_until,
            pos: start.top,
            pushes_join_leave: expected.join_leave,
            is_server_side,
            missed: VecDeque::new(),
            must_end: false,
            is_stuck: false,
            asked: None,
            must_expire: false,
        };
        conn.subs.insert(channel, sub);
        Self::excuse_gifts(conn, channel);
    }
}

fn same_items(publications: &[Pub], items: &[Item], context: &str) {
    let got: Vec<_> = publications.iter().map(|it| (it.offset, it.n, it.client.as_str())).collect();
    let due: Vec<_> = items.iter().map(|it| (it.0, it.1, it.3.as_str())).collect();
    assert_eq!(got, due, "{context}: publications");
}
