//! Connections for messages that live but deliver nothing, such as one to a former primary that was cut off from the rest:
//! it answers every PING.
//!
//! On a core's thread, about once a second. After a silence something is published into the shard's service channel, which
//! every core of every node hears. If Redis took that and the silence lasts, the connection is made anew; should that
//! not help, ever more rarely (engines.md section 11.6).

use crate::limits::SILENCE_MS;

/// Of one shard.
#[derive(Default)]
pub(super) struct Silence {
    /// When the connection came up, or a message last came on it.
    heard_ms: u64,
    probe: Probe,
    /// The connection was made anew so often in a row without a message since.
    restarts: u32,
}

#[derive(Default, PartialEq)]
enum Probe {
    #[default]
    None,
    /// Sent; Redis has not answered.
    Asked,
    /// Redis took it at this time.
    Taken(u64),
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Due {
    Nothing,
    /// Publish into the service channel.
    Probe,
    /// Make the connection anew.
    Restart,
}

/// Longest wait, in silences.
const RESTARTS_FACTOR_MAX: u64 = 10;

impl Silence {
    /// A message has come.
    pub(super) fn heard(&mut self, now_ms: u64) {
        *self = Self { heard_ms: now_ms, ..Self::default() };
    }

    /// The connection is there, without a message yet.
    pub(super) fn begins(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.probe = Probe::None;
    }

    /// What Redis said to a probe.
    pub(super) fn probed(&mut self, is_taken: bool, now_ms: u64) {
        if self.probe == Probe::Asked {
            self.probe = if is_taken { Probe::Taken(now_ms) } else { Probe::None };
        }
    }

    pub(super) fn due(&mut self, now_ms: u64) -> Due {
        // 1, 1, 2, 4, 8, 10, 10 ...
        let factor = (1 << self.restarts.saturating_sub(1).min(4)).min(RESTARTS_FACTOR_MAX);
        match self.probe {
            Probe::None if now_ms >= self.heard_ms + SILENCE_MS => {
                self.probe = Probe::Asked;
                Due::Probe
            }
            Probe::Taken(at_ms) if now_ms >= at_ms + SILENCE_MS * factor => {
                self.restarts += 1;
                self.begins(now_ms);
                Due::Restart
            }
            _ => Due::Nothing,
        }
    }

    /// The probe could not go out.
    pub(super) fn not_probed(&mut self) {
        self.probe = Probe::None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node would stay deaf for ever, or tear down good connections of a quiet installation.
    #[test]
    fn restarts_only_after_an_unheard_probe() {
        let mut silence = Silence::default();
        silence.begins(0);
        assert_eq!(silence.due(SILENCE_MS - 1), Due::Nothing);
        assert_eq!(silence.due(SILENCE_MS), Due::Probe);
        assert_eq!(silence.due(10 * SILENCE_MS), Due::Nothing, "redis has not taken the probe");
        silence.probed(true, 10 * SILENCE_MS);
        silence.heard(10 * SILENCE_MS + 1);
        assert_eq!(silence.due(11 * SILENCE_MS), Due::Nothing);
        let mut now_ms = 12 * SILENCE_MS;
        let mut waits = Vec::new();
        for _ in 0..7 {
            assert_eq!(silence.due(now_ms), Due::Probe);
            silence.probed(true, now_ms);
            let taken_ms = now_ms;
            while silence.due(now_ms) != Due::Restart {
                now_ms += SILENCE_MS;
            }
            waits.push((now_ms - taken_ms) / SILENCE_MS);
            silence.begins(now_ms);
            now_ms += SILENCE_MS;
        }
        assert_eq!(waits, [1, 1, 2, 4, 8, 10, 10]);
    }

    /// An outage of commands says nothing about messages.
    #[test]
    fn a_refused_probe_is_repeated() {
        let mut silence = Silence::default();
        assert_eq!(silence.due(SILENCE_MS), Due::Probe);
        silence.probed(false, SILENCE_MS);
        assert_eq!(silence.due(SILENCE_MS + 1), Due::Probe);
        silence.not_probed();
        assert_eq!(silence.due(SILENCE_MS + 2), Due::Probe);
    }
}
