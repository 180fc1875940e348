//! Who may become a client connection of this node: `client.connection_limit` and `client.connection_rate_limit`.
//!
//! Both limits are the node's, so this is the one thing that cores share besides their rings: two atomic numbers, used
//! when a client connection opens or ends and at no other time. A handshake takes its place before it is answered and
//! keeps it until the connection is reported as closed, so that handshakes racing on several cores never take more
//! places than there are. Nothing here waits.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use gyre_proto::ids::ConnId;

use super::Core;
use crate::limits::REFUSED_LOG_MS;

/// What all cores share.
#[derive(Debug)]
pub(crate) struct Admission {
    started: Instant,
    /// Places taken.
    open: AtomicUsize,
    /// When the bucket of `connection_rate_limit` is full again, in ns since `started`.
    full_at_ns: AtomicU64,
    /// When refusals may be logged again, in ms since `started`: by limit, by rate.
    log_at_ms: [AtomicU64; 2],
}

impl Admission {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            open: AtomicUsize::new(0),
            full_at_ns: AtomicU64::new(0),
            log_at_ms: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }

    // Relaxed in all of this: the numbers guard nothing but themselves.

    fn enter(&self, limit: usize) -> bool {
        let one_more = |open| (open < limit).then_some(open + 1);
        self.open.try_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    fn leave(&self) {
        let before = self.open.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a place was given back twice");
    }

    /// A bucket of `per_second` that is refilled as fast. Kept as the time when it is full: a connection moves that by
    /// its share of a second, and it may not lie more than a second ahead.
    fn take_token(&self, per_second: u64, now_ns: u64) -> bool {
        const SECOND_NS: u64 = 1_000_000_000;
        if per_second > SECOND_NS {
            return true;
        }
        let Some(share_ns) = SECOND_NS.checked_div(per_second) else { return false };
        let latest = now_ns + share_ns * per_second;
        let one_more = |full_at: u64| Some(full_at.max(now_ns) + share_ns).filter(|full_at| *full_at <= latest);
        self.full_at_ns.try_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    fn may_log(&self, at: usize) -> bool {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let later = |at_ms| (at_ms <= now_ms).then(|| now_ms.saturating_add(REFUSED_LOG_MS));
        self.log_at_ms[at].try_update(Ordering::Relaxed, Ordering::Relaxed, later).is_ok()
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The connections of one core that have a place: by index, the generation that has it.
///
/// An index may be in use again before the end of its last connection is reported; the place then passes on.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<Option<u32>>);

impl Places {
    /// `false` = the connection at this index, or the one before it, had a place already.
    fn note(&mut self, conn: ConnId) -> bool {
        let index = conn.index as usize;
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        self.0[index].replace(conn.generation).is_none()
    }

    fn has(&self, conn: ConnId) -> bool {
        self.0.get(conn.index as usize).is_some_and(Option::is_some)
    }

    /// `true` = it had a place.
    fn remove(&mut self, conn: ConnId) -> bool {
        let place = self.0.get_mut(conn.index as usize);
        place.is_some_and(|place| place.take_if(|generation| *generation == conn.generation).is_some())
    }
}

impl Core {
    /// Gives the connection a place among the client connections of the node, until [`Self::left`]. `false` = there is
    /// none for it.
    pub(super) fn admit(&self, conn: ConnId) -> bool {
        let engine = self.engine.borrow();
        let rules = &engine.rules().client;
        let (limit, per_second) = (rules.connection_limit, rules.connection_rate_limit);
        // What has gone is not reported a second time, so its place would never come back.
        if !self.driver.borrow_mut().is_open(conn) {
            return false;
        }
        let admission = &*self.admission;
        if per_second != u64::MAX && !admission.take_token(per_second, admission.now_ns()) {
            self.api.borrow_mut().refused_by_rate += 1;
            if admission.may_log(0) {
                tracing::warn!(
                    per_second,
                    "connections refused with 503: more per second than client.connection_rate_limit"
                );
            }
            return false;
        }
        let mut places = self.places.borrow_mut();
        if !places.has(conn) && !admission.enter(limit) {
            self.api.borrow_mut().refused_by_limit += 1;
            if admission.may_log(1) {
                tracing::warn!(limit, "connections refused with 503: client.connection_limit is reached");
            }
            return false;
        }
        places.note(conn);
        true
    }

    /// The connection is gone, whether it had a place or not.
    pub(super) fn left(&self, conn: ConnId) {
        if self.places.borrow_mut().remove(conn) {
            self.admission.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A limit that is counted on each core for itself, or with a gap between look and count, is none.
    #[test]
    fn places_are_the_nodes() {
        let admission = Admission::new();
        let entered = || (0..1000).filter(|_| admission.enter(100)).count();
        let total: usize = std::thread::scope(|scope| {
            let cores: Vec<_> = (0..4).map(|_| scope.spawn(entered)).collect();
            cores.into_iter().map(|core| core.join().expect("no panic")).sum()
        });
        assert_eq!(total, 100);
        admission.leave();
        assert!(admission.enter(100) && !admission.enter(100));
        // A reload may put the limit below what is open.
        assert!(!admission.enter(10));
    }

    /// Too few would be refused who may come in, or far too many be let in after a quiet night.
    #[test]
    fn the_bucket_fills_as_fast_as_documented() {
        const MS: u64 = 1_000_000;
        let admission = Admission::new();
        let taken = |now_ms, tries| (0..tries).filter(|_| admission.take_token(5, now_ms * MS)).count();
        assert_eq!(taken(0, 50), 5);
        assert_eq!(taken(199, 50), 0);
        assert_eq!(taken(200, 50), 1);
        assert_eq!(taken(1000, 50), 4);
        assert_eq!(taken(3_600_000, 50), 5);
        assert_eq!((3_600_000..3_610_000).map(|now_ms| taken(now_ms, 3)).sum::<usize>(), 49);
        for per_second in [1, 3, 7, 1000, 999_999_999, 1_000_000_000] {
            let admission = Admission::new();
            let tries = per_second.min(1000);
            assert_eq!((0..tries).filter(|_| admission.take_token(per_second, 7)).count() as u64, tries);
            assert!(per_second > 1000 || !admission.take_token(per_second, 7), "{per_second}");
        }
        assert!(admission.take_token(i64::MAX as u64, 1));
    }

    /// An index is used again, sometimes before the end of its last connection is told: a place must not get lost in that,
    /// and not be given back twice.
    #[test]
    fn a_place_belongs_to_a_connection() {
        let of = |index, generation| ConnId { index, generation };
        let mut places = Places::default();
        assert!(!places.remove(of(3, 1)), "never had one");
        assert!(places.note(of(3, 1)));
        assert!(!places.note(of(3, 2)), "passes on");
        assert!(!places.remove(of(3, 1)) && places.remove(of(3, 2)) && !places.remove(of(3, 2)));
    }
}
