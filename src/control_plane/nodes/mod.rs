//! This node among others: who they are, what they are told and what they ask, what is done for them.
//!
//! On the control thread. Without any I/O and any clock, so that a test runs several of them over a bus of its own: what
//! has to be done is left as [`Deed`]s, and what comes of them is reported back. Core 0 carries the bytes. What a peer says
//! is never a panic here.

mod acts;
mod message;
mod registry;
#[cfg(test)]
mod several;
mod survey;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use gyre_engine::{Act, SurveyReply, SurveyWhat};

use crate::data_plane::{Asker, NodeInfo, Question};
use message::{Answered, Leaving, NodeMessage, What};
use registry::{Registry, Seen};
use survey::{Found, Over, Surveys};

/// What was handed over to be published is given up after this time. Core 0 reports well before, at its `io_timeout`;
/// an HTTP client gives up after 10 s as well.
const PUBLISHED_WITHIN_MS: u64 = 10_000;
/// Time that the connections of core 0 may take at the start before it is said that the other nodes cannot be reached.
const CONNECTED_WITHIN_MS: u64 = 3_000;
/// One log line in this time about messages that are none: they may come at any rate.
const MALFORMED_LOG_MS: u64 = 60_000;

/// What [`Nodes`] wants done.
#[derive(Debug)]
pub(super) enum Deed {
    /// Publish to all nodes, or to one; [`Nodes::published`] with the number is told what came of it.
    Publish { number: u64, to: Option<String>, bytes: Vec<u8> },
    /// Answer to [`Nodes::act`].
    Told { asker: Asker, ok: bool },
    /// Answer to [`Nodes::survey`].
    Surveyed { asker: Asker, found: Option<Found> },
    /// Another node was asked to do this.
    Act(Arc<Act>),
    /// Another node asks: [`Nodes::shares`] with the number takes what the own cores say.
    Ask { number: u64, what: SurveyWhat },
}

/// For the metrics page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// Messages published.
    pub(super) sent: u64,
    /// Messages that came, the own ones included.
    pub(super) received: u64,
}

/// See the module.
pub(super) struct Nodes {
    own: NodeInfo,
    registry: Registry,
    surveys: Surveys,
    last: u64,
    sends: HashMap<u64, Send>,
    /// Questions of others that the own cores are asked.
    asked: HashMap<u64, Asked>,
    traffic: Traffic,
    is_leaving: bool,
    has_left: bool,
    /// Others may have come and gone unheard.
    hears_anew: bool,
    is_cut_off: bool,
    malformed: u64,
    malformed_logged_ms: Option<u64>,
    deeds: Vec<Deed>,
}

/// A message that is on its way to Redis.
struct Send {
    deadline_ms: u64,
    purpose: Purpose,
}

enum Purpose {
    Announcement,
    /// To one node that may not know us. The next announcement to all reaches it as well.
    Greeting,
    LastWord,
    Act(Asker),
    Survey(u64),
    /// The rest of an answer follows part by part, so that it is never all in the connection's output.
    Answer {
        to: String,
        rest: VecDeque<Answered>,
    },
}

struct Asked {
    by: String,
    survey: u64,
}

impl Nodes {
    /// `own` is this node.
    pub(super) fn new(own: NodeInfo, now_ms: u64) -> Self {
        Self {
            own,
            registry: Registry::new(now_ms),
            surveys: Surveys::default(),
            last: 0,
            sends: HashMap::new(),
            asked: HashMap::new(),
            traffic: Traffic::default(),
            is_leaving: false,
            has_left: false,
            hears_anew: false,
            is_cut_off: false,
            malformed: 0,
            malformed_logged_ms: None,
            deeds: Vec::new(),
        }
    }

    /// What has to be done, in this order.
    pub(super) fn take_deeds(&mut self) -> Vec<Deed> {
        std::mem::take(&mut self.deeds)
    }

    /// The other nodes, in no order.
    pub(super) fn others(&self) -> impl Iterator<Item = &NodeInfo> {
        self.registry.others()
    }

    /// How many other nodes there are.
    pub(super) fn len(&self) -> usize {
        self.registry.len()
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// A message came, from any node.
    pub(super) fn heard(&mut self, bytes: &[u8], now_ms: u64) {
        self.traffic.received += 1;
        let NodeMessage { sender, what } = match NodeMessage::decode(bytes) {
            Ok(message) if !message.sender.is_empty() => message,
            Ok(_) => return self.malformed(&"it has no sender", now_ms),
            Err(error) => return self.malformed(&error, now_ms),
        };
        if sender == self.own.uid {
            return;
        }
        match what {
            Some(What::Info(info)) => {
                let is_asking = info.is_asking;
                self.announced(info.of(&sender), is_asking, now_ms);
            }
            Some(What::Leaving(_)) => {
                if let Some(node) = self.registry.left(&sender, now_ms) {
                    tracing::info!(name = node.name, uid = node.uid, "another node has stopped");
                }
                let over = self.surveys.node_left(&sender);
                self.surveys_over(over);
            }
            Some(What::Disconnect(act)) => self.deeds.push(Deed::Act(Arc::new(act.into_act()))),
            Some(What::Unsubscribe(act)) => self.deeds.push(Deed::Act(Arc::new(act.into_act()))),
            Some(What::Subscribe(act)) => self.deeds.push(Deed::Act(Arc::new(act.into_act()))),
            Some(What::Refresh(act)) => self.deeds.push(Deed::Act(Arc::new(act.into_act()))),
            Some(What::Asked(asked)) => {
                let survey = asked.survey;
                let what = asked.question().and_then(|question| question.for_cores().ok());
                self.last += 1;
                self.asked.insert(self.last, Asked { by: sender, survey });
                match what {
                    Some(what) => self.deeds.push(Deed::Ask { number: self.last, what }),
                    // Not understood. The asker should not have to wait until it gives up.
                    None => self.shares(self.last, None, now_ms),
                }
            }
            Some(What::Answered(answer)) => {
                let over = self.surveys.answered(&sender, answer);
                self.surveys_over(over);
            }
            None => self.malformed(&"its kind is not known; are all nodes of one version?", now_ms),
        }
    }

    /// What the own cores say to [`Deed::Ask`].
    pub(super) fn shares(&mut self, number: u64, shares: Option<Vec<SurveyReply>>, now_ms: u64) {
        let Some(Asked { by, survey }) = self.asked.remove(&number) else { return };
        self.answer(by, survey::parts(survey, shares).into(), now_ms);
    }

    /// Somebody has done this here; the others have to do it too. [`Deed::Told`] follows.
    pub(super) fn act(&mut self, asker: Asker, act: &Act, now_ms: u64) {
        self.publish(None, What::act(act), Purpose::Act(asker), now_ms);
    }

    /// Asks all other nodes; [`Deed::Surveyed`] follows.
    pub(super) fn survey(&mut self, asker: Asker, question: &Question, now_ms: u64) {
        if self.registry.len() == 0 {
            return self.deeds.push(Deed::Surveyed { asker, found: Some(Found::new()) });
        }
        let survey = self.surveys.begin(asker, self.registry.others().map(|node| &*node.uid), now_ms);
        self.publish(None, What::question(survey, question), Purpose::Survey(survey), now_ms);
    }

    /// What came of a [`Deed::Publish`].
    pub(super) fn published(&mut self, number: u64, ok: bool, now_ms: u64) {
        let Some(Send { purpose, .. }) = self.sends.remove(&number) else { return };
        self.traffic.sent += u64::from(ok);
        match purpose {
            Purpose::Announcement => self.announcement_published(ok, now_ms),
            Purpose::Greeting => {}
            Purpose::LastWord => self.has_left = true,
            Purpose::Act(asker) => self.deeds.push(Deed::Told { asker, ok }),
            Purpose::Survey(survey) if !ok => {
                let over = self.surveys.fail(survey);
                self.surveys_over(over);
            }
            Purpose::Survey(_) => {}
            Purpose::Answer { to, rest } if ok => self.answer(to, rest, now_ms),
            Purpose::Answer { .. } => tracing::warn!("cannot answer the survey of another node; it will fail there"),
        }
    }

    /// The messages of others are heard from now on, for the first time or again.
    pub(super) fn hears(&mut self, now_ms: u64) {
        self.hears_anew = true;
        self.registry.announce_now(now_ms);
    }

    /// What is due.
    pub(super) fn turn(&mut self, now_ms: u64) {
        for node in self.registry.scan(now_ms) {
            // Who is cut off hears nobody, and has said so.
            if !self.is_cut_off {
                tracing::warn!(name = node.name, uid = node.uid, "another node has fallen silent");
            }
            let over = self.surveys.node_left(&node.uid);
            self.surveys_over(over);
        }
        let over = self.surveys.turn(now_ms);
        self.surveys_over(over);
        let late = self.sends.iter().filter(|(_, send)| now_ms >= send.deadline_ms).map(|(number, _)| *number);
        for number in late.collect::<Vec<_>>() {
            self.published(number, false, now_ms);
        }
    }

    /// Whether [`Self::announce`] is due.
    pub(super) fn takes_announcement(&mut self, now_ms: u64) -> bool {
        !self.is_leaving && self.registry.takes_announcement(now_ms)
    }

    /// Tells the others how this node is by now.
    pub(super) fn announce(&mut self, own: NodeInfo, now_ms: u64) {
        self.own = own;
        let is_asking = std::mem::take(&mut self.hears_anew) || self.registry.len() == 0;
        self.publish(None, What::info(&self.own, is_asking), Purpose::Announcement, now_ms);
    }

    /// This node stops: says so to the others, and nothing of itself any more.
    pub(super) fn leave(&mut self, now_ms: u64) {
        self.is_leaving = true;
        self.publish(None, What::Leaving(Leaving {}), Purpose::LastWord, now_ms);
    }

    /// Whether the others have been told that this node stops, or cannot be.
    pub(super) fn has_left(&self) -> bool {
        self.has_left
    }

    fn announced(&mut self, node: NodeInfo, is_asking: bool, now_ms: u64) {
        let (name, uid) = (node.name.clone(), node.uid.clone());
        let seen = self.registry.announced(node, now_ms);
        if seen == Seen::New {
            tracing::info!(name, uid, "another node is there");
        }
        if (seen == Seen::New || is_asking) && !self.is_leaving {
            self.publish(Some(uid), What::info(&self.own, false), Purpose::Greeting, now_ms);
        }
    }

    fn announcement_published(&mut self, ok: bool, now_ms: u64) {
        if !ok {
            self.registry.announce_soon(now_ms);
        }
        if self.traffic.sent == 0 && now_ms < CONNECTED_WITHIN_MS {
            return;
        }
        match (std::mem::replace(&mut self.is_cut_off, !ok), ok) {
            (false, false) => tracing::warn!("cannot reach the other nodes"),
            (true, true) => tracing::info!("the other nodes can be reached again"),
            _ => {}
        }
    }

    fn answer(&mut self, to: String, mut rest: VecDeque<Answered>, now_ms: u64) {
        if let Some(part) = rest.pop_front() {
            self.publish(Some(to.clone()), What::Answered(part), Purpose::Answer { to, rest }, now_ms);
        }
    }

    fn surveys_over(&mut self, over: impl IntoIterator<Item = Over>) {
        self.deeds.extend(over.into_iter().map(|Over { asker, found }| Deed::Surveyed { asker, found }));
    }

    fn publish(&mut self, to: Option<String>, what: What, purpose: Purpose, now_ms: u64) {
        self.last += 1;
        let bytes = NodeMessage::encode(&self.own.uid, what);
        self.sends.insert(self.last, Send { deadline_ms: now_ms + PUBLISHED_WITHIN_MS, purpose });
        self.deeds.push(Deed::Publish { number: self.last, to, bytes });
    }

    fn malformed(&mut self, why: &dyn std::fmt::Display, now_ms: u64) {
        self.malformed += 1;
        if self.malformed_logged_ms.is_some_and(|logged_ms| now_ms < logged_ms + MALFORMED_LOG_MS) {
            return;
        }
        self.malformed_logged_ms = Some(now_ms);
        tracing::warn!(so_far = self.malformed, "ignored a message that should be of another node: {why}");
    }
}
