//! Questions to all other nodes, until every one has answered or one cannot.
//!
//! On the control thread; the time is an argument. The answers of the own cores are none of its business: whoever asks
//! gathers them meanwhile.

use std::collections::HashMap;

use gyre_engine::SurveyReply;

use super::message::{Answered, Channel};
use crate::data_plane::Asker;

/// Time for all answers (engines.md 12).
pub(super) const TIMEOUT_MS: u64 = 10_000;

/// Bytes of names in one part of an answer. Redis drops subscribers that are 8 MiB behind for a minute, or 32 MiB at once;
/// a part is far below, and large enough that its way does not count.
const PART_BYTES: usize = 256 * 1024;
/// Parts of an answer that are waited for: 4 GiB of names, more than anybody could mean.
const PARTS_MAX: u32 = 16 * 1024;

/// Subscribers on other nodes, by channel.
pub(super) type Found = HashMap<String, u32>;

/// A survey that is over; `None` = some node did not answer.
#[derive(Debug, PartialEq)]
pub(super) struct Over {
    pub(super) asker: Asker,
    pub(super) found: Option<Found>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Surveys {
    last: u64,
    pending: HashMap<u64, Pending>,
}

#[derive(Debug)]
struct Pending {
    asker: Asker,
    deadline_ms: u64,
    /// Nodes that have not answered, with the parts that have come.
    missing: HashMap<String, Vec<bool>>,
    found: Found,
}

impl Surveys {
    /// Begins a survey of these nodes; there must be one at least. Its number.
    pub(super) fn begin<'a>(&mut self, asker: Asker, nodes: impl Iterator<Item = &'a str>, now_ms: u64) -> u64 {
        self.last += 1;
        let missing: HashMap<_, _> = nodes.map(|uid| (uid.to_owned(), Vec::new())).collect();
        debug_assert!(!missing.is_empty(), "nobody would end it");
        let pending = Pending { asker, deadline_ms: now_ms + TIMEOUT_MS, missing, found: Found::new() };
        self.pending.insert(self.last, pending);
        self.last
    }

    /// A part of an answer came. Those that nobody waits for are passed over.
    pub(super) fn answered(&mut self, uid: &str, answer: Answered) -> Option<Over> {
        let Answered { survey, part, parts, channels } = answer;
        let pending = self.pending.get_mut(&survey)?;
        let come = pending.missing.get_mut(uid)?;
        if parts == 0 || parts > PARTS_MAX {
            return self.fail(survey);
        }
        // Each part says the same.
        come.resize(parts as usize, false);
        let is_new = !std::mem::replace(come.get_mut(part as usize)?, true);
        if !is_new {
            return None;
        }
        let has_answered = come.iter().all(|has_come| *has_come);
        for Channel { name, clients } in channels {
            let sum = pending.found.entry(name).or_default();
            *sum = sum.saturating_add(clients);
        }
        if has_answered {
            pending.missing.remove(uid);
        }
        if !pending.missing.is_empty() {
            return None;
        }
        let Pending { asker, found, .. } = self.pending.remove(&survey)?;
        Some(Over { asker, found: Some(found) })
    }

    /// A survey is over without a result.
    pub(super) fn fail(&mut self, survey: u64) -> Option<Over> {
        let asker = self.pending.remove(&survey)?.asker;
        Some(Over { asker, found: None })
    }

    /// A node is gone: what waits for it waits in vain.
    pub(super) fn node_left(&mut self, uid: &str) -> Vec<Over> {
        self.fail_all(|pending| pending.missing.contains_key(uid))
    }

    /// Ends what takes too long.
    pub(super) fn turn(&mut self, now_ms: u64) -> Vec<Over> {
        self.fail_all(|pending| now_ms >= pending.deadline_ms)
    }

    fn fail_all(&mut self, is_lost: impl Fn(&Pending) -> bool) -> Vec<Over> {
        let lost = self.pending.extract_if(|_, pending| is_lost(pending));
        lost.map(|(_, pending)| Over { asker: pending.asker, found: None }).collect()
    }
}

/// The parts of this node's answer. `None` = it has none.
pub(super) fn parts(survey: u64, shares: Option<Vec<SurveyReply>>) -> Vec<Answered> {
    let Some(shares) = shares else { return vec![Answered { survey, ..Answered::default() }] };
    let mut parts = Vec::new();
    let (mut channels, mut bytes) = (Vec::new(), 0);
    let shares = shares.into_iter().flat_map(|share| match share {
        SurveyReply::Channels(channels) => channels,
        SurveyReply::Counts(_) | SurveyReply::Done(_) => Vec::new(),
    });
    for (name, clients) in shares {
        bytes += name.len();
        channels.push(Channel { name: name.into(), clients });
        if bytes >= PART_BYTES {
            parts.push(std::mem::take(&mut channels));
            bytes = 0;
        }
    }
    if !channels.is_empty() || parts.is_empty() {
        parts.push(channels);
    }
    let count = parts.len() as u32;
    let number = |(part, channels)| Answered { survey, part: part as u32, parts: count, channels };
    parts.into_iter().enumerate().map(number).collect()
}

#[cfg(test)]
mod tests {
    use gyre_proto::ids::CoreId;

    use super::*;

    const ASKER: Asker = Asker { core: CoreId(1), call: 77 };

    fn answer(survey: u64, part: u32, parts: u32, channels: &[(&str, u32)]) -> Answered {
        let channel = |(name, clients): &(&str, u32)| Channel { name: (*name).to_owned(), clients: *clients };
        Answered { survey, part, parts, channels: channels.iter().map(channel).collect() }
    }

    fn found(channels: &[(&str, u32)]) -> Option<Over> {
        let found = channels.iter().map(|(name, clients)| ((*name).to_owned(), *clients)).collect();
        Some(Over { asker: ASKER, found: Some(found) })
    }

    const FAILED: Over = Over { asker: ASKER, found: None };

    /// `channels` would show a part of the subscribers as if it were all of them.
    #[test]
    fn all_have_to_answer() {
        let mut surveys = Surveys::default();
        let number = surveys.begin(ASKER, ["a", "b"].into_iter(), 0);
        assert_eq!(surveys.answered("a", answer(number, 1, 2, &[("x", 1), ("y", 2)])), None);
        assert_eq!(surveys.answered("b", answer(number, 0, 1, &[("x", 10)])), None);
        assert_eq!(surveys.answered("b", answer(number, 0, 1, &[("x", 10)])), None, "again");
        assert_eq!(surveys.answered("a", answer(number, 1, 2, &[("x", 1)])), None, "again");
        assert_eq!(surveys.answered("a", answer(number, 9, 2, &[("x", 1)])), None, "no such part");
        assert_eq!(surveys.answered("stranger", answer(number, 0, 1, &[("x", 1)])), None);
        assert_eq!(surveys.answered("a", answer(number + 1, 0, 2, &[("x", 1)])), None, "no such survey");
        let over = surveys.answered("a", answer(number, 0, 2, &[("x", 100)]));
        assert_eq!(over, found(&[("x", 111), ("y", 2)]));
        assert_eq!(surveys.turn(u64::MAX), []);
    }

    /// A call would hang, or be answered with too little.
    #[test]
    fn one_that_cannot_answer_is_the_end() {
        let mut surveys = Surveys::default();
        let [late, left, refused, unpublished] = [0; 4].map(|_| surveys.begin(ASKER, ["a", "b"].into_iter(), 5));
        assert_eq!(surveys.answered("b", answer(left, 0, 1, &[])), None);
        assert_eq!(surveys.answered("b", answer(refused, 0, 0, &[])), Some(FAILED));
        assert_eq!(surveys.fail(unpublished), Some(FAILED));
        assert_eq!(surveys.fail(unpublished), None, "once");
        assert_eq!(surveys.answered("a", answer(late, 0, 1, &[])), None);
        assert_eq!(surveys.node_left("stranger"), []);
        assert_eq!(surveys.node_left("a"), [FAILED], "not the one that has its answer");
        assert_eq!(surveys.turn(10_004), []);
        assert_eq!(surveys.turn(10_005), [FAILED]);
    }

    /// A node with many channels would never be heard: Redis drops who gets a message of that size.
    #[test]
    fn long_answers_come_in_parts() {
        let share =
            |from: u32| SurveyReply::Channels((from..from + 5_000).map(|n| (format!("{n:0100}").into(), n)).collect());
        let parts = parts(7, Some(vec![share(0), share(5_000)]));
        assert!((4..8).contains(&parts.len()), "{} parts of 1 MB", parts.len());
        let mut surveys = Surveys { last: 6, ..Surveys::default() };
        surveys.begin(ASKER, ["a"].into_iter(), 0);
        let mut over = None;
        for part in parts.into_iter().rev() {
            assert_eq!(over, None);
            over = surveys.answered("a", part);
        }
        let found = over.and_then(|over| over.found).expect("an answer");
        assert_eq!((found.len(), found[&format!("{:0100}", 9_999)]), (10_000, 9_999));
        assert_eq!(super::parts(7, Some(Vec::new())), [answer(7, 0, 1, &[])], "none is an answer, too");
        assert_eq!(super::parts(7, None), [answer(7, 0, 0, &[])]);
    }
}
