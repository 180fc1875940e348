//! One call for all subscribers of a channel whose cache is empty at the same time: a thousand that come back at once would
//! otherwise ask the backend a thousand times for the same publication.
//!
//! Whoever joins keeps a deadline of its own, so the call may outlast that of the first. It is not joined after that: an
//! answer that never comes must not fail those who would get one by asking again.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::rc::Rc;

use gyre_engine::backend::{BackendReply, ProxyId};
use gyre_proto::proxy::Request;
use tokio::time::{Instant, sleep_until};

use super::failure::Failure;
use super::metrics::Kind;
use super::{Backend, Place};

/// Calls under way, by what they ask.
#[derive(Default)]
pub(super) struct Joined {
    open: RefCell<HashMap<(ProxyId, Box<str>), Open>>,
}

struct Open {
    waiting: Waiting,
    /// Until then others may join.
    until: Instant,
}

/// Who waits, the earliest deadline first.
type Waiting = Rc<RefCell<VecDeque<Waiter>>>;

struct Waiter {
    deadline: Instant,
    done: Box<dyn FnOnce(BackendReply)>,
}

impl Joined {
    /// Joins the call that asks the same, or makes one.
    pub(super) fn call(
        self: &Rc<Self>,
        backend: &Rc<Backend>,
        key: (ProxyId, Box<str>),
        request: impl FnOnce() -> Request,
        done: impl FnOnce(BackendReply) + 'static,
    ) {
        let now = Instant::now();
        let deadline = now + backend.proxy().timeout;
        let waiter = Waiter { deadline, done: Box::new(done) };
        if let Some(open) = self.open.borrow().get(&key).filter(|open| now < open.until) {
            open.waiting.borrow_mut().push_back(waiter);
            return;
        }
        let Some(place) = backend.enter() else { return (waiter.done)(BackendReply::Busy) };
        let waiting = Waiting::new(RefCell::new(VecDeque::from([waiter])));
        let open = Open { waiting: Rc::clone(&waiting), until: deadline };
        self.open.borrow_mut().insert(key.clone(), open);
        let (joined, request) = (Rc::clone(self), request());
        let kind = Kind::of(&request);
        tokio::task::spawn_local(async move {
            let reply = place.backend.watched(kind, answer(&place, request, &waiting)).await;
            let mut open = joined.open.borrow_mut();
            // It may be another by now.
            if open.get(&key).is_some_and(|open| Rc::ptr_eq(&open.waiting, &waiting)) {
                open.remove(&key);
            }
            drop(open);
            let waiting = waiting.take();
            waiting.into_iter().for_each(|waiter| (waiter.done)(reply.clone()));
        });
    }
}

/// The answer, unless it comes after everybody's deadline. Those whose own has passed are told.
async fn answer(place: &Place, request: Request, waiting: &Waiting) -> Result<BackendReply, Failure> {
    let mut call = pin!(place.backend.reach(request, None));
    loop {
        let next = waiting.borrow().front().map(|waiter| waiter.deadline);
        let Some(next) = next else { return Err(Failure::Timeout) };
        tokio::select! {
            biased;
            outcome = &mut call => return outcome,
            () = sleep_until(next) => {}
        }
        loop {
            let late = waiting.borrow_mut().pop_front_if(|waiter| waiter.deadline <= next);
            let Some(late) = late else { break };
            (late.done)(BackendReply::Failed);
        }
    }
}
