//! What is asked about users, as commands of Redis, and who waits for the answers. The key of a user is a HASH of its own
//! (`engine/lua/user_status_update.lua`), so one command is about one user and all of a call go out in one pipeline.

use std::collections::BTreeMap;

use gyre_engine::backend::BackendAsker;
use gyre_engine::scripts::{Script, shard_of};
use gyre_engine::{CallId, Engine};
use gyre_io::redis::{Command, Event, Reply, ReplyError, SendError, Shard};

use super::UserStatus;
use crate::data_plane::calls::Answer;
use crate::data_plane::hands::Hands;
use crate::data_plane::store::{self, Store};

/// What the server API asks about each of several users.
#[derive(Clone, Copy, Debug)]
pub(in crate::data_plane) enum StatusAsk<'a> {
    /// It is active at a time in unix s; with a text to keep, empty = the one that is there.
    Active(i64, &'a str),
    Read,
    Delete,
}

/// What is known of a user. 0 and empty = nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UserFacts {
    /// Unix s.
    pub(crate) active_s: i64,
    /// Unix s.
    pub(crate) online_s: i64,
    pub(crate) state: String,
}

/// Those who wait for answers, by the number of their first command; commands of a call have numbers without a gap.
#[derive(Default)]
pub(super) struct Waiters {
    by_number: BTreeMap<u64, Waiter>,
    last: u64,
}

enum Waiter {
    Client(BackendAsker),
    Call(Call),
}

/// A call of the server API.
struct Call {
    id: CallId,
    /// In the order of the users.
    facts: Vec<UserFacts>,
    left: usize,
    has_failed: bool,
}

/// Commands that nobody waits for.
const NOBODY: u64 = 0;

impl Waiters {
    /// The first of so many numbers.
    fn numbers(&mut self, count: usize) -> u64 {
        let first = self.last + 1;
        self.last += count as u64;
        first
    }

    /// One answer of a call has come. `Some` = that was the last one.
    fn answered(&mut self, number: u64, facts: Option<UserFacts>) -> Option<Waiter> {
        let (&first, waiter) = self.by_number.range_mut(..=number).next_back()?;
        if let Waiter::Call(call) = waiter {
            match (facts, call.facts.get_mut((number - first) as usize)) {
                (Some(facts), Some(place)) => *place = facts,
                _ => call.has_failed = true,
            }
            call.left -= 1;
            if call.left > 0 {
                return None;
            }
        }
        self.by_number.remove(&first)
    }
}

impl UserStatus {
    /// A user is connected.
    pub(in crate::data_plane) fn online(&mut self, store: Option<&mut Store>, user: &str, now_s: i64, now_ms: u64) {
        // What is lost comes again with the next round.
        let _ = self.update(store, NOBODY, user, b"online", now_s, "", now_ms);
    }

    /// The user of a client is active. False = it cannot be kept now.
    pub(in crate::data_plane) fn active(
        &mut self,
        store: Option<&mut Store>,
        asker: BackendAsker,
        user: &str,
        now_s: i64,
        now_ms: u64,
    ) -> bool {
        let number = self.waiters.numbers(1);
        let is_sent = self.update(store, number, user, b"active", now_s, "", now_ms).is_ok();
        if is_sent {
            self.waiters.by_number.insert(number, Waiter::Client(asker));
        }
        is_sent
    }

    /// The server API asks. The answer, if it is not returned, comes to the slot of the call.
    pub(in crate::data_plane) fn ask(
        &mut self,
        mut store: Option<&mut Store>,
        id: CallId,
        users: &[String],
        what: StatusAsk<'_>,
        now_ms: u64,
    ) -> Option<Answer> {
        let first = self.waiters.numbers(users.len());
        let mut sent = 0;
        for (number, user) in (first..).zip(users) {
            let store = store.as_deref_mut();
            let result = match what {
                StatusAsk::Active(now_s, state) => self.update(store, number, user, b"active", now_s, state, now_ms),
                StatusAsk::Read => self.command(store, number, user, now_ms, |out, key| {
                    Command::new(out, 5).arg(b"HMGET").arg(key).arg(b"active").arg(b"online").arg(b"state");
                }),
                StatusAsk::Delete => self.command(store, number, user, now_ms, |out, key| {
                    Command::new(out, 2).arg(b"DEL").arg(key);
                }),
            };
            if result.is_err() {
                break;
            }
            sent += 1;
        }
        let has_failed = sent < users.len();
        if sent == 0 {
            return Some(Answer::Users((!has_failed).then(Vec::new)));
        }
        let facts = vec![UserFacts::default(); users.len()];
        self.waiters.by_number.insert(first, Waiter::Call(Call { id, facts, left: sent, has_failed }));
        None
    }

    #[expect(clippy::too_many_arguments, reason = "two callers in this file; a struct would only name them again")]
    fn update(
        &mut self,
        store: Option<&mut Store>,
        number: u64,
        user: &str,
        field: &[u8],
        now_s: i64,
        state: &str,
        now_ms: u64,
    ) -> Result<(), SendError> {
        let expire_ms = self.expire_ms;
        self.send(store, number, user, |shard, token, key| {
            let script = &store::scripts()[Script::UserStatusUpdate as usize];
            shard.send_script(token, now_ms, key, script, 6, |out| {
                out.int(1).arg(key).arg(field).int(now_s).int(expire_ms).arg(state.as_bytes());
            })
        })
    }

    fn command(
        &mut self,
        store: Option<&mut Store>,
        number: u64,
        user: &str,
        now_ms: u64,
        write: impl FnOnce(&mut Vec<u8>, &[u8]),
    ) -> Result<(), SendError> {
        self.send(store, number, user, |shard, token, key| shard.send(token, now_ms, key, |out| write(out, key)))
    }

    /// Sends a command about a user to the shard that has it.
    fn send(
        &mut self,
        store: Option<&mut Store>,
        number: u64,
        user: &str,
        send: impl FnOnce(&mut Shard, u64, &[u8]) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let at = self.shards_count().map_or(0, |count| shard_of(user, count) as usize);
        self.name.clear();
        self.name.extend_from_slice(self.prefix.as_bytes());
        self.name.extend_from_slice(user.as_bytes());
        let (shard, is_lent) = Self::shard(&mut self.place, store, at).ok_or(SendError::Failed)?;
        let token = if is_lent { store::lent(number) } else { number };
        let result = send(shard, token, &self.name);
        self.stats.not_taken += u64::from(result.is_err());
        result
    }
}

/// Hands over what has come on connections of its own since the last turn.
pub(in crate::data_plane) fn hand_over(engine: &mut Engine, hands: &mut Hands<'_>) {
    let Some(status) = hands.user_status.as_deref_mut() else { return };
    let mut events = std::mem::take(&mut status.events);
    for event in events.drain(..) {
        let now_ms = hands.driver.now_ms();
        let Some(status) = hands.user_status.as_deref_mut() else { return };
        let (number, reply) = match event {
            Event::Reply(number, reply) => (number, Some(reply)),
            Event::Failed(number, _) => {
                status.stats.failed += 1;
                (number, None)
            }
            Event::Down(what) => {
                status.stats.lost(what);
                continue;
            }
            _ => continue,
        };
        let logged = |error: &ReplyError| {
            if let Some(count) = status.refusals.note(now_ms) {
                tracing::error!(error = %error.message(), count, "redis refused to keep or tell the status of users");
            }
        };
        let reply = reply.and_then(|reply| reply.into_result().inspect_err(logged).ok());
        answered(engine, hands, number, reply);
    }
    if let Some(status) = hands.user_status.as_deref_mut()
        && status.events.is_empty()
    {
        status.events = events;
    }
}

/// Redis has answered a command. `None` = with an error, or not at all.
pub(in crate::data_plane) fn answered(engine: &mut Engine, hands: &mut Hands<'_>, number: u64, reply: Option<Reply>) {
    if number == NOBODY {
        return;
    }
    let Some(status) = hands.user_status.as_deref_mut() else { return };
    let facts = reply.and_then(facts);
    let ok = facts.is_some();
    match status.waiters.answered(number, facts) {
        Some(Waiter::Client(asker)) => engine.user_status_updated(asker, ok, hands),
        Some(Waiter::Call(call)) => {
            hands.calls.answer(call.id, Answer::Users((!call.has_failed).then_some(call.facts)));
        }
        None => {}
    }
}

/// Of an answer to HMGET; any other is fine too and holds nothing. `None` = somebody else's making.
fn facts(reply: Reply) -> Option<UserFacts> {
    let Some(values) = reply.into_array() else { return Some(UserFacts::default()) };
    let [active, online, state] = <[Reply; 3]>::try_from(values).ok()?;
    let number = |value: Reply| value.as_int().unwrap_or_default();
    let state = state.into_bytes().map_or_else(String::new, |state| String::from_utf8_lossy(&state).into_owned());
    Some(UserFacts { active_s: number(active), online_s: number(online), state })
}
