//! What goes wrong between the cores and the store.

use fastrand::Rng;
use gyre_engine::StoreReply;

use crate::sim::Sim;

/// Which faults a seed has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mix {
    /// The store takes no calls of a core for a while.
    refuses: bool,
    /// Calls fail, some after they had their effect; the connection for commands breaks.
    fails: bool,
    /// The connection for messages breaks.
    breaks: bool,
    /// Everything kept is lost.
    loses: bool,
}

impl Mix {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let is_calm = rng.u32(..3) == 0;
        let mut some = || !is_calm && rng.bool();
        Self { refuses: some(), fails: some(), breaks: some(), loses: some() }
    }

    /// Whoever missed something on a broken connection is told as soon as it is back.
    pub(crate) fn tells_losses(&self) -> bool {
        !(self.breaks && (self.refuses || self.fails))
    }
}

impl Sim {
    pub(crate) fn fault(&mut self) {
        let site = self.rng.usize(..self.world.sites.len());
        let has_effect = self.rng.bool();
        match self.rng.u32(..7) {
            0 if self.mix.refuses => {
                self.note(|| format!("store refuses {site}"));
                self.failures += 1;
                self.world.sites[site].hands.has_store = false;
            }
            1 if self.mix.fails => {
                self.failures += 1;
                let failed = self.world.store.as_mut().expect("stored").fail_call(site, has_effect);
                self.note(|| format!("fails on {site}, effect {has_effect}: {failed:?}"));
            }
            2 if self.mix.fails => {
                self.note(|| format!("hear fails on {site}, effect {has_effect}"));
                self.failures += 1;
                self.world.store.as_mut().expect("stored").fail_hear(site, has_effect);
            }
            3 if self.mix.fails => {
                self.note(|| format!("commands of {site} break, effect {has_effect}"));
                self.failures += 1;
                let tickets = self.world.store.as_mut().expect("stored").break_calls(site, has_effect);
                self.fail(site, tickets);
            }
            4 if self.mix.breaks => self.break_hearing(site),
            5 if self.mix.loses => {
                self.note(|| "data lost".to_owned());
                self.data_losses += 1;
                self.world.store.as_mut().expect("stored").lose_data();
            }
            _ => self.mend(site),
        }
    }

    fn break_hearing(&mut self, site: usize) {
        self.note(|| format!("messages of {site} break"));
        (self.breaks, self.failures) = (self.breaks + 1, self.failures + 1);
        self.world.sites[site].hands.is_deaf = true;
        let (heard, tickets) = self.world.store.as_mut().expect("stored").break_hearing(site);
        self.deaf.entry(site).or_default().extend(heard);
        self.fail(site, tickets);
    }

    fn fail(&mut self, site: usize, tickets: Vec<u64>) {
        for ticket in tickets {
            self.on(site, |engine, hands| engine.stored(ticket, StoreReply::Failed, hands));
        }
    }

    /// All is well with one core again.
    pub(crate) fn mend(&mut self, site: usize) {
        self.note(|| format!("mend {site}"));
        self.world.sites[site].hands.has_store = true;
        self.world.sites[site].hands.is_deaf = false;
        let Some(heard) = self.deaf.remove(&site) else { return };
        let node = self.node(site);
        let again = self.world.sites[site].engine.channels_heard();
        for channel in &again {
            self.world.store.as_mut().expect("stored").hear_anew(site, channel);
        }
        for channel in heard.into_iter().chain(again.into_iter().map(String::from)) {
            let length = self.kept(&channel).log.len();
            self.excused.insert((node, channel), length);
        }
    }

    pub(crate) fn mend_all(&mut self) {
        for site in 0..self.world.sites.len() {
            self.mend(site);
        }
    }
}
