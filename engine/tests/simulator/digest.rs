//! First look at what a call of an engine led to: which command each reply answers, and what the home core on this same
//! core did on the way. Nothing shows that but the order of the outputs; calls over rings are foreseen in `sim`.

use std::mem;

use gyre_engine::{HistoryCall, RecoverFrom};
use gyre_proto::ids::ConnId;

use crate::heard::understand;
use crate::model::{Item, Pos, Publish, Start, What};
use crate::peer::{Asked, Conn, Key, grants};
use crate::sim::Sim;
use crate::wire::{Heard, Say, number_of};
use crate::world::Told;

/// Something heard, with what it has to be judged by.
pub(crate) struct Event {
    pub(crate) key: Key,
    pub(crate) heard: Heard,
    pub(crate) asked: Option<Asked>,
    pub(crate) starts: Vec<(usize, Start)>,
    pub(crate) page: Option<Option<(Pos, Vec<Item>)>>,
}

impl Sim {
    /// `accepted`: publications that the home core has accepted in this call and the model has not.
    pub(crate) fn digest(&mut self, core: usize, accepted: u64) {
        let hands = &mut self.world.sites[core].hands;
        hands.said.clear();
        hands.closed.clear();
        let told = mem::take(&mut hands.told);
        if told.is_empty() {
            assert_eq!(accepted, 0, "a publication came from nowhere");
            return;
        }
        let mut events = Vec::with_capacity(told.len());
        for (id, told) in told {
            let key = (core, id.index, id.generation);
            let conn = self.conns.get(&key);
            let heard = match told {
                Told::Message(message) => {
                    let conn = conn.unwrap_or_else(|| panic!("{key:?} is gone and is told {message:?}"));
                    understand(conn.encoding, &message)
                }
                Told::Closed(why) => Heard::Closed(why.code),
            };
            self.note(|| format!("    {core}.{}.{} < {heard:?}", id.index, id.generation));
            events.push((key, heard));
        }
        self.write_logs(core, events, accepted);
    }

    fn write_logs(&mut self, core: usize, events: Vec<(Key, Heard)>, accepted: u64) {
        // A publication and what follows from it show before its reply does; it is written where its command began.
        let mut begin: Vec<usize> = self.model.channels.iter().map(|channel| channel.log.len()).collect();
        let mut unaccounted = accepted;
        let mut judged = Vec::with_capacity(events.len());
        for (key, heard) in events {
            let mut conn = self.conns.remove(&key).unwrap_or_else(|| panic!("{key:?} is closed twice"));
            let mut event = Event { key, asked: None, starts: Vec::new(), page: None, heard };
            if let Some(id) = event.heard.id() {
                let asked = take_asked(&mut conn, id, &event.heard);
                self.account(core, &mut conn, &asked, &mut event, &begin, &mut unaccounted);
                event.asked = Some(asked);
                begin = self.model.channels.iter().map(|channel| channel.log.len()).collect();
            }
            match &event.heard {
                Heard::Unsubscribed { channel, .. } => {
                    let channel = self.model.find(channel);
                    if conn.joined.remove(&channel) {
                        self.left_here(core, channel, &conn);
                    }
                }
                Heard::Closed(code) => {
                    self.account_unanswered(core, &conn, *code);
                    if let Some(Say::Publish { channel, data }) = conn.front()
                        && unaccounted > 0
                        && self.model.channels[self.model.find(channel)].home == core
                    {
                        // Ended by its own publication.
                        unaccounted -= 1;
                        let channel = self.model.find(channel);
                        let publish = publish_of(data, &conn.uuid);
                        self.model.publish(channel, &publish, Some(begin[channel]));
                    }
                    self.all_left_here(core, &conn);
                }
                _ => {}
            }
            self.conns.insert(key, conn);
            judged.push(event);
        }
        assert_eq!(unaccounted, 0, "a publication came from nowhere");
        for event in judged {
            self.judge(event);
        }
    }

    /// Writes down what an answered command has done to a home channel of this core, and finds what to judge it by.
    fn account(
        &mut self,
        core: usize,
        conn: &mut Conn,
        asked: &Asked,
        event: &mut Event,
        begin: &[usize],
        unaccounted: &mut u64,
    ) {
        let is_error = matches!(event.heard, Heard::Error { .. });
        match &asked.say {
            Say::Publish { channel, data } if !is_error => {
                let channel = self.model.find(channel);
                if self.model.channels[channel].home == core {
                    assert!(*unaccounted > 0, "confirmed and not accepted");
                    *unaccounted -= 1;
                    self.model.publish(channel, &publish_of(data, &conn.uuid), Some(begin[channel]));
                }
            }
            Say::Subscribe { channel, recover, wishes } => {
                if matches!(event.heard, Heard::Error { code, .. } if code != 112) {
                    return;
                }
                let channel = self.model.find(channel);
                let granted = grants(&self.model.channels[channel].options, *wishes);
                let is_here = self.model.channels[channel].home == core;
                let start = if is_here {
                    let recover = recover.as_ref().filter(|_| granted.recoverable).map(|(offset, epoch)| RecoverFrom {
                        offset: *offset,
                        epoch: epoch.as_str().into(),
                        limit: self.setup.rules.client.recovery_max_publication_limit,
                    });
                    self.model.start(channel, granted.positioned.then_some(recover.as_ref()))
                } else {
                    conn.starts.remove(&channel).expect("the home core was asked")
                };
                event.starts.push((channel, start));
                if !is_error {
                    conn.joined.insert(channel);
                    self.joined_here(core, channel, conn);
                }
            }
            Say::Connect { .. } => {
                for planned in &conn.plan {
                    let start = conn.starts.remove(&planned.channel).expect("the home core was asked");
                    event.starts.push((planned.channel, start));
                    conn.joined.insert(planned.channel);
                    self.joined_here(core, planned.channel, conn);
                }
            }
            Say::Unsubscribe(channel) => {
                let channel = self.model.find(channel);
                if conn.joined.remove(&channel) {
                    self.left_here(core, channel, conn);
                }
            }
            Say::History { channel, limit, since, reverse } => {
                if matches!(event.heard, Heard::Error { code, .. } if code != 112) {
                    return;
                }
                let channel = self.model.find(channel);
                if self.model.channels[channel].home != core {
                    event.page = conn.page.take();
                    return;
                }
                let most = self.setup.rules.client.history_max_publication_limit as i64;
                let limit = i64::from(*limit);
                let call = HistoryCall {
                    limit: if limit < 0 { most } else { limit.min(most) },
                    since: since.as_ref().map(|(offset, epoch)| (*offset, epoch.as_str().into())),
                    reverse: *reverse,
                    meta_ttl_ms: self.meta_ttl_ms(channel),
                };
                event.page = Some(self.model.read(channel, &call));
            }
            _ => {}
        }
    }

    /// A reply that could not be given, as it was to be JSON, has looked at the stream all the same.
    fn account_unanswered(&mut self, core: usize, conn: &Conn, code: u32) {
        let (channel, is_positioned) = match conn.front() {
            Some(Say::History { channel, .. }) => (self.model.find(channel), true),
            Some(Say::Subscribe { channel, wishes, .. }) => {
                let channel = self.model.find(channel);
                (channel, grants(&self.model.channels[channel].options, *wishes).positioned)
            }
            _ => return,
        };
        if code == 3506 && is_positioned && self.model.channels[channel].home == core {
            self.model.access(channel);
        }
    }

    fn joined_here(&mut self, core: usize, channel: usize, conn: &Conn) {
        let it = &self.model.channels[channel];
        if it.home == core && it.options.join_leave {
            self.model.tell(channel, What::Join(conn.uuid.clone()));
        }
    }

    fn left_here(&mut self, core: usize, channel: usize, conn: &Conn) {
        let it = &self.model.channels[channel];
        if it.home == core && it.options.join_leave {
            self.model.tell(channel, What::Leave(conn.uuid.clone()));
        }
    }

    /// The connection has ended.
    pub(crate) fn all_left_here(&mut self, core: usize, conn: &Conn) {
        for channel in &conn.joined {
            self.left_here(core, *channel, conn);
        }
    }

    /// A connection index may be used again once the connection table has let go of it.
    pub(crate) fn release_index(&mut self, core: usize, id: ConnId) {
        self.free[core].push(ConnId { index: id.index, generation: id.generation + 1 });
        self.dead.push((core, id.index, id.generation));
    }
}

fn publish_of<'a>(data: &str, client: &'a str) -> Publish<'a> {
    Publish { n: number_of(data.as_bytes()), is_json: !data.starts_with('!'), client, key: "", version: 0 }
}

/// Replies come in the order of the commands; only a refused publish may overtake publishes on their way.
fn take_asked(conn: &mut Conn, id: u32, heard: &Heard) -> Asked {
    let at = conn.asked.iter().position(|asked| asked.id == id);
    let at = at.unwrap_or_else(|| panic!("{heard:?} answers nothing"));
    let is_publish = |asked: &Asked| matches!(asked.say, Say::Publish { .. });
    let may_overtake = matches!(heard, Heard::Error { .. }) && conn.asked.iter().take(at + 1).all(is_publish);
    assert!(at == 0 || may_overtake, "{heard:?} overtakes {:?}", conn.asked[0]);
    conn.asked.remove(at).expect("just found")
}
