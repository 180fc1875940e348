//! The application's backend, which is asked for a publication when a subscriber finds none: it publishes or does not,
//! answers early, late, wrongly, or for somebody who has gone. And what subscribers must be handed over in cache mode.

use std::collections::BTreeSet;

use gyre_engine::backend::{BackendAsker, BackendCall, BackendError, BackendEvent, BackendReply, BackendResult};
use gyre_engine::rules::RecoveryMode;

use crate::sim::{Asked, Sim};
use crate::wire::{Granted, Say, Seen};
use crate::world::kept::What;

/// A question that waits for its answer.
#[derive(Debug)]
pub(crate) struct Question {
    site: usize,
    asker: BackendAsker,
    channel: String,
}

/// What the backend was asked on behalf of a command, by channel.
#[derive(Debug, Default)]
pub(crate) struct Questioned {
    asked: BTreeSet<String>,
    /// There was a publication when the answer came.
    filled: BTreeSet<String>,
    /// The command cannot succeed.
    pub(crate) has_failed: bool,
}

impl Sim {
    /// Judges whether a question was due.
    pub(crate) fn asked_of_backend(&mut self, site: usize, asker: BackendAsker, call: BackendCall) {
        let BackendEvent::CacheEmpty { channel } = call.event else { panic!("{:?} was not due", call.event) };
        let channel = channel.to_string();
        self.note(|| format!("    {} asks the backend about {channel}", asker.conn.index));
        let mut conn = self.conns.remove(&asker.conn.index).expect("somebody waits");
        let asked = conn.asked.front_mut().expect("a command waits");
        let is_recovering = match &asked.say {
            Say::Connect { .. } => conn.plan.iter().find(|(name, _)| *name == channel).map(|(_, seen)| seen.is_some()),
            Say::Subscribe { channel: name, recover, .. } => (*name == channel).then_some(recover.is_some()),
            _ => None,
        };
        let context = format!("{} asks about {channel}, {asked:?}", asker.conn.index);
        let is_recovering = is_recovering.unwrap_or_else(|| panic!("{context}: not its channel"));
        assert!(asked.questions.asked.insert(channel.clone()), "{context}: twice");
        assert!(!self.must_be_there(&channel, asked.since[&channel]), "{context}: there is one");
        self.conns.insert(asker.conn.index, conn);
        let options = self.options(&channel);
        assert!(options.proxies.cache_empty.is_some() && options.has_history(), "{context}: not to be asked");
        assert!(options.recovery_mode == RecoveryMode::Cache, "{context}: not in cache mode");
        assert!(is_recovering || options.auto_cache_recover, "{context}: nobody wants it");
        self.questions.push(Question { site, asker, channel });
    }

    /// Whether something was published by this point of the log that cannot have gone.
    fn must_be_there(&mut self, channel: &str, until: usize) -> bool {
        let stays = self.options(channel).history_ttl_s >= 10_000 && self.data_losses == 0;
        let log = &self.kept(channel).log;
        stays && log[..until].iter().any(|what| matches!(what, What::Publication(_, at) if at.offset > 0))
    }

    /// Answers any of the questions. False = there is none.
    pub(crate) fn answer_question(&mut self) -> bool {
        if self.questions.is_empty() {
            return false;
        }
        let at = self.rng.usize(..self.questions.len());
        let Question { site, asker, channel } = self.questions.swap_remove(at);
        let populated = |it| BackendReply::Result(Box::new(BackendResult::CacheEmpty(it)));
        let reply = match self.rng.u32(..8) {
            0 => BackendReply::Failed,
            1 => BackendReply::Error(BackendError::default()),
            2..4 => populated(false),
            _ => populated(true),
        };
        self.note(|| format!("backend tells {} about {channel}: {reply:?}", asker.conn.index));
        let is_there = self.kept(&channel).log.len();
        let is_there = self.must_be_there(&channel, is_there);
        let index = asker.conn.index;
        if let Some(asked) = self.conns.get_mut(&index).and_then(|conn| conn.asked.front_mut())
            && asked.questions.asked.contains(&channel)
        {
            match &reply {
                BackendReply::Result(_) if is_there => _ = asked.questions.filled.insert(channel),
                BackendReply::Result(_) => {}
                _ => asked.questions.has_failed = true,
            }
        }
        self.on(site, |engine, hands| engine.backend_answered(asker, reply, hands));
        if self.conns.get(&index).is_some_and(|conn| conn.is_refused) {
            self.hang_up(index);
        }
        true
    }

    /// What the client holds after it was granted a channel of which it gets the latest publication only.
    pub(crate) fn judge_latest(
        &mut self,
        asked: &Asked,
        channel: &str,
        granted: &Granted,
        recover: &Seen,
        context: &str,
    ) -> Seen {
        let Granted { epoch, publications, .. } = granted;
        let must_be_there =
            asked.questions.filled.contains(channel) || self.must_be_there(channel, asked.since[channel]);
        assert!(granted.recovered || !must_be_there, "{context}: there is a publication");
        assert!(publications.len() <= 1, "{context}: more than the latest");
        if !granted.recovered {
            assert!(publications.is_empty(), "{context}: publications, and not recovered");
            let has_it = granted.offset > 0 && *recover == (granted.offset, epoch.clone());
            assert!(!has_it, "{context}: nothing was missed");
            let was_due = self.options(channel).proxies.cache_empty.is_some() && self.options(channel).has_history();
            assert!(!was_due || asked.questions.asked.contains(channel), "{context}: the backend was not asked");
            return (granted.offset, epoch.clone());
        }
        assert_eq!(granted.offset, recover.0, "{context}: offset of the request");
        match publications.first() {
            Some(latest) => (latest.offset, epoch.clone()),
            None => {
                assert!(recover.0 > 0 && recover.1 == *epoch, "{context}: it does not have it");
                recover.clone()
            }
        }
    }
}
