//! Hash tags of partitions that spread evenly over the slots of a cluster.
//!
//! The plain numbers of partitions do not: of 16 such tags one primary of six gets 4, another 1. Here each partition has
//! an equal range of slots, and its tag is the smallest number whose slot is in it, so contiguous parts of the slots have
//! their share of partitions. The tags are part of the layout in Redis: other ones would be another place for every
//! channel. Computed once, when a node starts.

use std::num::NonZeroU32;
use std::sync::Arc;

/// Slots of every Redis Cluster.
const SLOTS: u32 = 16_384;

/// The tags, by partition. `count` is a power of two and at most [`EVEN_MAX`], else there are none.
pub(super) fn even(count: NonZeroU32) -> Option<Arc<[Box<str>]>> {
    let count = count.get();
    if !count.is_power_of_two() || count > EVEN_MAX {
        return None;
    }
    let mut tags = vec![Box::<str>::default(); count as usize];
    let mut missing = count;
    // The checksum of five digits reaches every slot, so this ends; the last of 4096 has 20 thousand before it.
    for number in 0_u32.. {
        let digits = number.to_string();
        let tag = &mut tags[(slot(digits.as_bytes()) / (SLOTS / count)) as usize];
        if tag.is_empty() {
            *tag = digits.into();
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
    }
    Some(tags.into())
}

/// Four slots for each.
pub(super) const EVEN_MAX: u32 = 4096;

/// The slot of a tag: CRC16/XMODEM.
fn slot(tag: &[u8]) -> u32 {
    let crc = tag.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| (crc << 1) ^ if crc >> 15 == 1 { 0x1021 } else { 0 })
    });
    u32::from(crc) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One primary would carry the messages of most channels; a tag that changes loses every history.
    #[test]
    fn each_range_of_slots_has_its_partition() {
        assert_eq!(slot(b"123456789"), 12739, "the check value of CRC16/XMODEM");
        for count in [1, 16, 128, 1024, 4096] {
            let tags = even(NonZeroU32::new(count).unwrap()).unwrap();
            let ranges: Vec<u32> = tags.iter().map(|tag| slot(tag.as_bytes()) / (SLOTS / count)).collect();
            assert_eq!(ranges, (0..count).collect::<Vec<_>>());
        }
        let tags = even(NonZeroU32::new(16).unwrap()).unwrap().join(" ");
        assert_eq!(tags, "10 3 61 43 11 2 60 42 12 1 63 41 13 0 62 40");
        for refused in [3, 24, 8192] {
            assert_eq!(even(NonZeroU32::new(refused).unwrap()), None);
        }
    }
}
