//! First look at what a call of an engine led to: which command each reply answers, and what the home core on this same
//! core did on the way. Nothing shows that but the order of the outputs; calls over rings are foreseen in `sim`.

use std::mem;

use gyre_engine::{HistoryCall, RecoverFrom};
use gyre_proto::Encoding;
use gyre_proto::ids::ConnId;

use crate::backend::Verdict;
use crate::heard::understand;
use crate::model::{Item, Pos, Publish, Start, What};
use crate::peer::{Asked, Conn, Key, grants};
use crate::sim::{Sim, Tally};
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

/// One call of an engine on the way through its outputs.
struct Run {
    core: usize,
    /// Lengths of the logs when the current command began.
    begin: Vec<usize>,
    /// Done by the home core and not yet explained.
    left: Tally,
    /// Joins that a reply brings about.
    to_join: Vec<(usize, String)>,
}

impl Sim {
    /// `left`: what the home core has done in this call and the model has not.
    pub(crate) fn digest(&mut self, core: usize, left: Tally) {
        let hands = &mut self.world.sites[core].hands;
        hands.said.clear();
        hands.closed.clear();
        let told = mem::take(&mut hands.told);
        if told.is_empty() {
            assert_eq!(left, Tally::default(), "done for nobody");
            return;
        }
        let mut events = Vec::with_capacity(told.len());
        // In a crowd the same is said over and over.
        let mut last = (Encoding::Json, Vec::new(), Heard::Ping);
        for (id, told) in told {
            let key = (core, id.index, id.generation);
            let conn = self.conns.get(&key);
            let heard = match told {
                Told::Message(message) => {
                    let conn = conn.unwrap_or_else(|| panic!("{key:?} is gone and is told {message:?}"));
                    if last.0 != conn.encoding || last.1 != message {
                        let heard = understand(conn.encoding, &message);
                        last = (conn.encoding, message, heard);
                    }
                    last.2.clone()
                }
                Told::Closed(why) => Heard::Closed(why.code),
            };
            self.note(|| format!("    {core}.{}.{} < {heard:?}", id.index, id.generation));
            events.push((key, heard));
        }
        self.write_logs(core, events, left);
    }

    fn write_logs(&mut self, core: usize, events: Vec<(Key, Heard)>, left: Tally) {
        // A publication and what follows from it show before its reply does; it is written where its command began.
        let mut run = Run { core, begin: self.log_lengths(), left, to_join: Vec::new() };
        let mut judged = Vec::with_capacity(events.len());
        for (key, heard) in events {
            let mut conn = self.conns.remove(&key).unwrap_or_else(|| panic!("{key:?} is closed twice"));
            let mut event = Event { key, asked: None, starts: Vec::new(), page: None, heard };
            // What had been kept back for a new connection can end nobody but itself.
            let is_of_others = matches!(event.heard, Heard::Unsubscribed { .. } | Heard::Closed(_))
                && run.to_join.iter().any(|(_, uuid)| *uuid != conn.uuid);
            if is_of_others || event.heard.id().is_some() || matches!(event.heard, Heard::Unsubscribed { .. }) {
                self.join_now(&mut run);
            }
            if let Some(id) = event.heard.id() {
                let asked = take_asked(&mut conn, id, &event.heard);
                self.account(&mut run, &mut conn, &asked, &mut event);
                event.asked = Some(asked);
                run.begin = self.log_lengths();
            }
            match &event.heard {
                Heard::Given { channel, .. } => {
                    let channel = self.model.find(channel);
                    self.join_now(&mut run);
                    let start = self.start_of_gift(core, &mut conn, channel);
                    event.starts.push((channel, start));
                    conn.joined.insert(channel);
                    self.joins_here(&mut run, channel, &conn);
                    self.join_now(&mut run);
                }
                Heard::Unsubscribed { channel, code } => {
                    let channel = self.model.find(channel);
                    if conn.joined.remove(&channel) {
                        self.left_here(core, channel, &conn);
                    }
                    if *code == 2000 {
                        run.begin = self.log_lengths();
                    }
                }
                Heard::Closed(code) => {
                    // Without the joins when it was what had been kept back for it that ended it.
                    if run.left.joins < run.to_join.len() as u64 {
                        run.to_join.drain(..).for_each(|(channel, _)| _ = conn.joined.remove(&channel));
                    }
                    self.join_now(&mut run);
                    self.account_unanswered(&mut run, &conn, *code);
                    self.all_left_here(core, &conn);
                }
                _ => {}
            }
            self.conns.insert(key, conn);
            judged.push(event);
        }
        self.join_now(&mut run);
        assert_eq!(run.left, Tally::default(), "done for nobody");
        for event in judged {
            self.judge(event);
        }
    }

    fn log_lengths(&self) -> Vec<usize> {
        self.model.channels.iter().map(|channel| channel.log.len()).collect()
    }

    /// Writes down what an answered command has done to a home channel of this core, and finds what to judge it by.
    fn account(&mut self, run: &mut Run, conn: &mut Conn, asked: &Asked, event: &mut Event) {
        let core = run.core;
        let is_error = matches!(event.heard, Heard::Error { .. });
        match &asked.say {
            Say::Publish { channel, data } if !is_error => {
                let channel = self.model.find(channel);
                if self.model.channels[channel].home == core {
                    assert!(run.left.publications > 0, "confirmed and not accepted");
                    run.left.publications -= 1;
                    self.model.publish(channel, &publish_of(data, &conn.uuid), Some(run.begin[channel]));
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
                        mode: self.model.channels[channel].options.recovery_mode,
                    });
                    self.model.start(channel, granted.positioned.then_some(recover.as_ref()))
                } else {
                    conn.starts.remove(&channel).expect("the home core was asked")
                };
                event.starts.push((channel, start));
                if !is_error {
                    conn.joined.insert(channel);
                    self.joins_here(run, channel, conn);
                    self.join_now(run);
                }
            }
            Say::Connect { .. } => {
                for planned in &conn.plan {
                    let start = conn.starts.remove(&planned.channel).expect("the home core was asked");
                    event.starts.push((planned.channel, start));
                    conn.joined.insert(planned.channel);
                    self.joins_here(run, planned.channel, conn);
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

    /// What a command has done whose reply was never given: the connection was ended by its own publication, or as
    /// the reply was to be JSON and was not.
    fn account_unanswered(&mut self, run: &mut Run, conn: &Conn, code: u32) {
        if conn.front().is_some_and(|say| self.is_asked(say)) && conn.told != Some(Verdict::Granted) {
            // The backend has not answered yet.
            return;
        }
        let (channel, is_positioned) = match conn.front() {
            Some(Say::Publish { channel, data }) => {
                let channel = self.model.find(channel);
                if run.left.publications > 0 && self.model.channels[channel].home == run.core {
                    run.left.publications -= 1;
                    self.model.publish(channel, &publish_of(data, &conn.uuid), Some(run.begin[channel]));
                }
                return;
            }
            Some(Say::History { channel, .. }) => (self.model.find(channel), true),
            Some(Say::Subscribe { channel, wishes, .. }) => {
                let channel = self.model.find(channel);
                (channel, grants(&self.model.channels[channel].options, *wishes).positioned)
            }
            _ => return,
        };
        if code == 3506 && is_positioned && self.model.channels[channel].home == run.core {
            self.model.access(channel);
        }
    }

    fn joins_here(&mut self, run: &mut Run, channel: usize, conn: &Conn) {
        let it = &self.model.channels[channel];
        if it.home == run.core && it.options.join_leave {
            run.to_join.push((channel, conn.uuid.clone()));
        }
    }

    fn join_now(&mut self, run: &mut Run) {
        if run.to_join.is_empty() {
            return;
        }
        for (channel, uuid) in run.to_join.drain(..) {
            assert!(run.left.joins > 0, "nobody was told of {uuid}");
            run.left.joins -= 1;
            self.model.tell(channel, What::Join(uuid));
        }
        run.begin = self.log_lengths();
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

/// Replies come in the order of the commands.
fn take_asked(conn: &mut Conn, id: u32, heard: &Heard) -> Asked {
    let asked = conn.asked.pop_front().unwrap_or_else(|| panic!("{heard:?} answers nothing"));
    assert_eq!(asked.id, id, "{heard:?} comes before the answer to {asked:?}");
    asked
}
