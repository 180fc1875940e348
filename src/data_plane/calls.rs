//! Server API calls that wait for another core or the control thread: a table of slots, filled by ring messages, read by HTTP
//! tasks. What sessions ask the control thread for gets numbers of the same kind, and no slot.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use gyre_engine::backend::BackendAsker;
use gyre_engine::{CallId, HomeReply, SurveyReply};

use super::parcel::NodeInfo;
use super::user_status::UserFacts;

/// What a call waits for.
#[derive(Debug)]
pub(crate) enum Answer {
    Home(HomeReply),
    /// One part per core.
    Survey(Vec<SurveyReply>),
    /// The metrics page.
    Page(Bytes),
    /// Whether the other nodes have been told.
    Told(bool),
    /// The other nodes.
    Nodes(Vec<NodeInfo>),
    /// Subscribers on other nodes, by channel; `None` = some node did not answer.
    Found(Option<HashMap<String, u32>>),
    /// What is known of users, in the order in which they were asked about; `None` = their Redis failed.
    Users(Option<Vec<UserFacts>>),
}

#[derive(Debug)]
enum Slot {
    Waiting(Option<Waker>),
    /// Parts that have come, and how many are still to come.
    Gathering(Vec<SurveyReply>, usize, Option<Waker>),
    Ready(Answer),
}

/// See the module. Lives on one core.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    next: CallId,
    slots: HashMap<CallId, Slot>,
    /// Sessions that wait for an answer of the control thread.
    sessions: HashMap<CallId, BackendAsker>,
}

impl Calls {
    /// A number for a call; nothing is kept for it until somebody waits.
    pub(crate) fn number(&mut self) -> CallId {
        self.next += 1;
        self.next
    }

    /// A number for what a session asks for.
    pub(crate) fn for_session(&mut self, asker: BackendAsker) -> CallId {
        let call = self.number();
        self.sessions.insert(call, asker);
        call
    }

    /// Who asked, if it was a session.
    pub(crate) fn take_session(&mut self, call: CallId) -> Option<BackendAsker> {
        self.sessions.remove(&call)
    }

    /// Opens the slot of a survey of `cores` cores.
    pub(crate) fn gather(&mut self, call: CallId, cores: usize) {
        self.slots.insert(call, Slot::Gathering(Vec::with_capacity(cores), cores, None));
    }

    pub(crate) fn wait(&mut self, call: CallId) {
        self.slots.insert(call, Slot::Waiting(None));
    }

    /// Answers to calls whose HTTP client has gone find no slot and are dropped.
    pub(crate) fn answer(&mut self, call: CallId, answer: Answer) {
        let Some(slot) = self.slots.get_mut(&call) else { return };
        if let Slot::Waiting(waker) = slot {
            let waker = waker.take();
            *slot = Slot::Ready(answer);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    pub(crate) fn part(&mut self, call: CallId, part: SurveyReply) {
        let Some(slot) = self.slots.get_mut(&call) else { return };
        if let Slot::Gathering(parts, left, waker) = slot {
            parts.push(part);
            *left -= 1;
            if *left == 0 {
                let (parts, waker) = (std::mem::take(parts), waker.take());
                *slot = Slot::Ready(Answer::Survey(parts));
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
    }
}

/// The answer to one call; resolves to `None` when the slot was never opened.
pub(crate) struct Waiting {
    pub(crate) calls: Rc<RefCell<Calls>>,
    pub(crate) call: CallId,
}

impl Future for Waiting {
    type Output = Option<Answer>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut calls = self.calls.borrow_mut();
        match calls.slots.get_mut(&self.call) {
            None => Poll::Ready(None),
            Some(Slot::Ready(_)) => match calls.slots.remove(&self.call) {
                Some(Slot::Ready(answer)) => Poll::Ready(Some(answer)),
                _ => Poll::Ready(None),
            },
            Some(Slot::Waiting(waker) | Slot::Gathering(_, _, waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.calls.borrow_mut().slots.remove(&self.call);
    }
}
