//! Parts of one call that go on side by side: channels of a broadcast, commands of a parallel batch.
//!
//! All in the task of the call. Each part is polled once when it is begun, which sends its question to the home core;
//! answers are taken in order.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::Poll;

use crate::limits::{API_IN_FLIGHT_MAX, API_SLICE};

/// Finishes all parts, the first ones first.
pub(super) async fn side_by_side<T, F: Future<Output = T>>(parts: impl ExactSizeIterator<Item = F>) -> Vec<T> {
    let mut finished = Vec::with_capacity(parts.len());
    let mut in_flight = VecDeque::new();
    for (at, part) in parts.enumerate() {
        breathe(at).await;
        if in_flight.len() == API_IN_FLIGHT_MAX
            && let Some(first) = in_flight.pop_front()
        {
            finished.push(finish(first).await);
        }
        // Polled once: a part whose home is elsewhere is on its way while the next one is begun.
        let mut part = Box::pin(part);
        in_flight.push_back(match poll_once(part.as_mut()).await {
            Some(done) => Progress::Done(done),
            None => Progress::Waits(part),
        });
    }
    for part in in_flight {
        finished.push(finish(part).await);
    }
    finished
}

/// To be called before part `at` of a long call: now and then lets others run, as parts whose home is here are served
/// without a wait, and the core would be theirs alone.
pub(in crate::data_plane) async fn breathe(at: usize) {
    if at % API_SLICE != API_SLICE - 1 {
        return;
    }
    let mut has_waited = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

enum Progress<T, F> {
    Done(T),
    Waits(Pin<Box<F>>),
}

async fn finish<T, F: Future<Output = T>>(part: Progress<T, F>) -> T {
    match part {
        Progress::Done(done) => done,
        Progress::Waits(part) => part.await,
    }
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::task::{Context, Waker};

    use super::*;

    /// A part that is ready once `latch` is open. Counts those that have begun and not ended.
    async fn part(number: usize, latch: &Cell<bool>, under_way: &Cell<usize>) -> usize {
        under_way.set(under_way.get() + 1);
        std::future::poll_fn(|_| if latch.get() { Poll::Ready(()) } else { Poll::Pending }).await;
        under_way.set(under_way.get() - 1);
        number
    }

    /// Replies would go to other commands, or one call would fill every ring.
    #[test]
    fn order_and_bound() {
        let count = 3 * API_IN_FLIGHT_MAX + 7;
        let (latch, under_way, most) = (Cell::new(false), Cell::new(0), RefCell::new(0));
        let mut all = Box::pin(side_by_side((0..count).map(|number| part(number, &latch, &under_way))));
        let mut cx = Context::from_waker(Waker::noop());
        for turn in 0.. {
            let done = all.as_mut().poll(&mut cx);
            most.replace_with(|most| under_way.get().max(*most));
            if let Poll::Ready(numbers) = done {
                assert_eq!(numbers, (0..count).collect::<Vec<_>>());
                break;
            }
            assert!(turn < count, "never ends");
            // As many turns as it takes to begin all that may begin.
            latch.set(turn > 2 * API_IN_FLIGHT_MAX / API_SLICE);
        }
        assert_eq!(most.into_inner(), API_IN_FLIGHT_MAX);
        assert_eq!(under_way.get(), 0);
    }
}
