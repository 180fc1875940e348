//! Users whose home is this core: on how many cores of the node each has connections, and whose turn it is to be
//! written down as online.
//!
//! On the home core, in its turn. A round goes over all users once in an interval, evenly: the place in the table is the
//! time in the interval, so a user costs nothing but its entry, and many who came at once are spread by themselves.

use foldhash::fast::FixedState;

use crate::by_name::{ByName, Named};
use crate::limits::ONLINE_SLICE;

#[derive(Debug)]
struct User {
    name: Box<str>,
    /// With connections of it.
    cores: u32,
}

impl Named for User {
    fn name(&self) -> &str {
        &self.name
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Users {
    table: ByName<User>,
    round: Round,
}

/// Where the round is.
#[derive(Debug, Default)]
struct Round {
    began_ms: u64,
    /// All places before it have been passed.
    next: u32,
}

impl Users {
    pub(crate) fn new(hasher: FixedState) -> Self {
        Self { table: ByName::new(hasher), round: Round::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// After a peak: see [`crate::Engine::give_back_memory`].
    pub(crate) fn give_back_memory(&mut self) {
        self.table.forget_spare();
    }

    /// The first connection on a core has come. `true` = the first one on this node.
    pub(crate) fn came(&mut self, user: &str) -> bool {
        let id = self.table.find_or_insert(user, || User { name: user.into(), cores: 0 });
        self.table[id].cores += 1;
        self.table[id].cores == 1
    }

    /// The last connection on a core has gone.
    pub(crate) fn went(&mut self, user: &str) {
        let Some(id) = self.table.find(user) else { return };
        self.table[id].cores -= 1;
        if self.table[id].cores == 0 {
            self.table.remove(id);
        }
    }

    /// Calls `renew` for users whose time has come, at most [`ONLINE_SLICE`] places on. `true` = there are more.
    pub(crate) fn go_round(&mut self, now_ms: u64, interval_ms: u64, mut renew: impl FnMut(&str)) -> bool {
        let places = self.table.bound();
        let due = self.round.due(now_ms, interval_ms, places);
        let next = self.round.next;
        let until = due.min(next.saturating_add(ONLINE_SLICE));
        for id in next..until {
            // The anonymous are no user.
            if let Some(user) = self.table.get(id).filter(|user| !user.name.is_empty()) {
                renew(&user.name);
            }
        }
        self.round.next = next.max(until);
        until < due
    }
}

impl Round {
    /// All places before it are to be passed by now.
    fn due(&mut self, now_ms: u64, interval_ms: u64, places: u32) -> u32 {
        let passed_ms = now_ms.saturating_sub(self.began_ms);
        if passed_ms >= interval_ms.saturating_mul(2) {
            // The first round, or the core was stopped: what was missed is missed.
            *self = Self { began_ms: now_ms, next: 0 };
        } else if passed_ms >= interval_ms && self.next >= places {
            *self = Self { began_ms: self.began_ms + interval_ms, next: 0 };
        }
        let passed_ms = now_ms.saturating_sub(self.began_ms).min(interval_ms);
        match interval_ms {
            0 => places,
            // Not more than `places`, as the time that has passed is not more than the interval.
            _ => (u128::from(places) * u128::from(passed_ms) / u128::from(interval_ms)) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const INTERVAL_MS: u64 = 27_000;

    fn users(count: u32) -> Users {
        let mut users = Users::new(FixedState::with_seed(1));
        (0..count).for_each(|n| assert!(users.came(&format!("user{n}"))));
        users
    }

    /// A user who is connected would look offline, or Redis would be written to more often than needed.
    #[test]
    fn everybody_is_renewed_once_in_an_interval() {
        for (count, step_ms) in [(1, 1_000), (7, 250), (1_000, 1_000), (5_000, 7)] {
            let mut users = users(count);
            let mut last = HashMap::<String, u64>::new();
            let mut renewals = 0;
            for now_ms in (0..=5 * INTERVAL_MS).step_by(step_ms) {
                while users.go_round(now_ms, INTERVAL_MS, |user| {
                    let before_ms = last.insert(user.to_owned(), now_ms).unwrap_or_default();
                    assert!(now_ms - before_ms <= INTERVAL_MS + step_ms as u64, "{user}: {before_ms} and {now_ms}");
                    renewals += 1;
                }) {}
            }
            assert_eq!(last.len(), count as usize);
            assert!((count * 4..=count * 6).contains(&renewals), "{renewals} of {count}");
        }
    }

    /// All users of a core in one turn would hold up everybody else there, and Redis.
    #[test]
    fn a_round_is_spread_over_the_interval() {
        let mut users = users(10_000);
        for now_ms in (0..INTERVAL_MS).step_by(100) {
            let mut renewed = 0;
            users.go_round(now_ms, INTERVAL_MS, |_| renewed += 1);
            assert!(renewed <= 100, "{renewed} at {now_ms}");
        }
        let mut users = self::users(10_000);
        let mut renewed = 0;
        assert!(users.go_round(INTERVAL_MS + 1, INTERVAL_MS, |_| renewed += 1), "a core that was stopped for long");
        assert!(renewed <= ONLINE_SLICE);
    }

    /// Somebody with a second tab would be written twice, and be gone when one of them is closed; the anonymous have no
    /// status.
    #[test]
    fn users_are_counted_by_core() {
        let mut users = users(1);
        assert!(users.came("") && !users.came("user0"));
        let mut renewed = Vec::new();
        users.go_round(INTERVAL_MS, INTERVAL_MS, |user| renewed.push(user.to_owned()));
        users.went("user0");
        users.go_round(2 * INTERVAL_MS - 1, INTERVAL_MS, |user| renewed.push(user.to_owned()));
        assert_eq!(renewed, ["user0", "user0"]);
        users.went("user0");
        users.went("unknown");
        assert_eq!(users.len(), 1);
        users.go_round(3 * INTERVAL_MS, INTERVAL_MS, |user| panic!("{user} has gone"));
    }
}
