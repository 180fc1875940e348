//! Whether a subscriber got every publication of a channel exactly once and in order.
//!
//! Eight bytes per subscription: the highest sequence number seen and which of the 32 below it were. A gap counts as
//! lost until a late publication fills it, which then counts as disordered. Pure.

/// What one subscription has seen of its channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    last: u32,
    /// Bit n: `last - n` was seen (or is not expected). Bit 0 is `last` itself.
    window: u32,
}

/// What a publication turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The next one, or the first that a subscription without a known beginning got.
    InOrder,
    /// So many were skipped: lost, unless they come later.
    Gap(u32),
    /// Seen before.
    Duplicate,
    /// Comes after a later one, and fills a gap.
    Late,
}

impl Seen {
    /// The next publication expected is `top + 1`.
    pub(crate) fn after(top: u32) -> Self {
        Self { last: top, window: u32::MAX }
    }

    /// Nothing is known: the first publication that arrives is taken as the beginning.
    pub(crate) const UNKNOWN: Self = Self { last: 0, window: 0 };

    /// Whether it is still to be learnt where the channel stands.
    pub(crate) fn is_unknown(self) -> bool {
        self.window == 0
    }

    /// Takes in a publication.
    pub(crate) fn take(&mut self, sequence: u32) -> Verdict {
        if self.is_unknown() {
            *self = Self::after(sequence);
            return Verdict::InOrder;
        }
        if sequence > self.last {
            let step = sequence - self.last;
            self.window = self.window.checked_shl(step).unwrap_or(0) | 1;
            self.last = sequence;
            return if step == 1 { Verdict::InOrder } else { Verdict::Gap(step - 1) };
        }
        let age = self.last - sequence;
        match 1u32.checked_shl(age) {
            Some(bit) if self.window & bit == 0 => {
                self.window |= bit;
                Verdict::Late
            }
            // Older than the window: cannot be told from a repetition, and a repetition is the likelier fault.
            _ => Verdict::Duplicate,
        }
    }

    /// Publications up to `top` that have not come, beyond the gaps reported already.
    pub(crate) fn missing(self, top: u32) -> u32 {
        if self.is_unknown() { 0 } else { top.saturating_sub(self.last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Duplicate, Gap, InOrder, Late};

    fn check(sequences: &[u32], expected: &[Verdict]) {
        let mut seen = Seen::after(0);
        let verdicts: Vec<_> = sequences.iter().map(|&sequence| seen.take(sequence)).collect();
        assert_eq!(verdicts, expected, "{sequences:?}");
    }

    /// The whole point of the tool: a server that loses, repeats or reorders must be caught, a good one must not.
    #[test]
    fn tells_loss_repetition_and_disorder_apart() {
        check(&[1, 2, 3], &[InOrder; 3]);
        check(&[2], &[Gap(1)]);
        check(&[1, 4, 2, 3], &[InOrder, Gap(2), Late, Late]);
        check(&[1, 1, 2, 1], &[InOrder, Duplicate, InOrder, Duplicate]);
        check(&[1, 3, 2, 2, 3], &[InOrder, Gap(1), Late, Duplicate, Duplicate]);
        check(&[40, 8, 9, 9], &[Gap(39), Duplicate, Late, Duplicate]);
        check(&[33, 1, 2], &[Gap(32), Duplicate, Late]);
        check(&[1, 100, 99, 1], &[InOrder, Gap(98), Late, Duplicate]);
    }

    /// A subscriber that joins later must not be told that it lost what came before it, but everything after counts.
    #[test]
    fn a_late_subscriber_begins_where_it_joins() {
        let mut seen = Seen::UNKNOWN;
        assert_eq!(seen.missing(10), 0);
        assert_eq!(seen.take(57), InOrder);
        assert_eq!(seen.take(56), Duplicate);
        assert_eq!(seen.take(59), Gap(1));
        assert_eq!(seen.missing(61), 2);
    }
}
