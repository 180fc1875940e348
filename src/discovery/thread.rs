//! The thread of one shard: when to look, and what to tell.
//!
//! Sleeps until there is a reason to look. A doubt is looked into at once, but two looks are some time apart; a look that
//! has failed is repeated until one succeeds. A streak of failures is two log lines: when it begins and when it ends.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use gyre_io::redis::Servers;

use super::bell::Bell;
use super::search::{RETRY, Search, shown};
use super::{Found, Tell};

/// Least time between two looks. Every core of every node may have doubts several times a second while a server is gone.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) fn start(shard: usize, search: Search, servers: Arc<Servers>, tell: Tell) -> io::Result<Arc<Bell>> {
    let bell = Arc::new(Bell::new()?);
    let watch = Watch { shard, search, servers, tell, bell: Arc::clone(&bell), failures: 0 };
    thread::Builder::new().name(format!("redis-find-{shard}")).spawn(move || watch.run())?;
    Ok(bell)
}

struct Watch {
    shard: usize,
    search: Search,
    servers: Arc<Servers>,
    tell: Tell,
    bell: Arc<Bell>,
    /// Since the last look that succeeded.
    failures: u32,
}

impl Watch {
    fn run(mut self) {
        let mut look_at = self.search.every().map(|every| Instant::now() + every);
        let mut doubted_until = Instant::now();
        loop {
            let time = look_at.map(|at| at.saturating_duration_since(Instant::now()));
            self.bell.wait(self.search.listening().map(AsFd::as_fd), time);
            if self.bell.has_ended() {
                return;
            }
            let began = Instant::now();
            let has_doubt = self.bell.was_rung();
            if has_doubt {
                doubted_until = began + self.search.doubted();
            }
            // Asked in any case: what was said must be read.
            let was_told = self.search.was_told();
            if has_doubt || was_told || look_at.is_some_and(|at| at <= began) {
                let before = Arc::clone(&self.servers);
                let next = match self.look() {
                    // What was doubted is not so any more.
                    _ if before != self.servers => self.search.every(),
                    next if began < doubted_until => next.map_or(Some(RETRY), |next| Some(next.min(RETRY))),
                    next => next,
                };
                look_at = next.map(|next| Instant::now() + next);
                // The bell is heard after this.
                thread::sleep(PAUSE.saturating_sub(began.elapsed()));
            }
        }
    }

    /// Looks once; returns the time to the next look.
    fn look(&mut self) -> Option<Duration> {
        match self.search.look(Some(&self.servers)) {
            Ok(seen) => {
                if self.failures > 0 {
                    tracing::info!(option = self.search.option(), failures = self.failures, "redis found again");
                }
                self.failures = 0;
                self.tell(seen.servers);
                self.search.every()
            }
            Err(trouble) => {
                if self.failures == 0 {
                    let option = self.search.option();
                    tracing::warn!(option, %trouble, "cannot find redis; it is looked for until it is found");
                }
                self.failures += 1;
                Some(RETRY)
            }
        }
    }

    fn tell(&mut self, servers: Servers) {
        if *self.servers == servers {
            return;
        }
        let (before, now, option) = (shown(&self.servers), shown(&servers), self.search.option());
        match before == now {
            // Slots move one by one, thousands of them.
            true => tracing::debug!(option, "slots of the redis cluster moved"),
            false => tracing::info!(option, before, now, "redis primary changed"),
        }
        self.servers = Arc::new(servers);
        (self.tell)(Found { shard: self.shard, servers: Arc::clone(&self.servers) });
    }
}
