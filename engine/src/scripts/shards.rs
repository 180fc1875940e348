//! Which shard a channel belongs to, and which partition inside a cluster: the same on every node, asking nobody.
//!
//! Jump consistent hash (Lamping and Veach) over FNV-1a: one shard more moves 1/N of the channels. The functions are
//! part of the layout in Redis; another one would lose every stream and presence entry of the channels that it moves.

use std::num::NonZeroU32;

/// The shard of a channel, `0..shards`.
pub fn shard_of(channel: &str, shards: NonZeroU32) -> u32 {
    spread(fnv1a(channel.as_bytes()), shards)
}

/// The bucket of a hash, `0..buckets`.
pub fn spread(mut hash: u64, buckets: NonZeroU32) -> u32 {
    let mut bucket = 0;
    let mut next = 0.0;
    // `next` is the bucket that the hash jumps to when there are that many; it grows until there are not.
    while next < f64::from(buckets.get()) {
        bucket = next as u32;
        hash = hash.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let draw = ((hash >> 33) + 1) as f64;
        next = ((f64::from(bucket) + 1.0) * (f64::from(1_u32 << 31) / draw)).trunc();
    }
    bucket
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    fn channels() -> impl Iterator<Item = String> {
        (0..20_000).map(|n| format!("chat:room{n}"))
    }

    /// Nodes of another version, or of the reference, would look for a channel on another shard.
    #[test]
    fn published_values() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        for (hash, buckets, bucket) in
            [(1, 1, 0), (42, 57, 43), (0xDEAD_10CC, 1, 0), (0xDEAD_10CC, 666, 361), (256, 1024, 520)]
        {
            assert_eq!(spread(hash, count(buckets)), bucket, "{hash} in {buckets}");
        }
    }

    /// One Redis would carry more than its share.
    #[test]
    fn channels_are_spread_evenly() {
        for shards in [2, 3, 7, 16] {
            let mut counts = vec![0_u32; shards as usize];
            channels().for_each(|channel| counts[shard_of(&channel, count(shards)) as usize] += 1);
            let fair = 20_000 / shards;
            assert!(counts.iter().all(|n| n.abs_diff(fair) * 10 < fair), "{shards}: {counts:?}");
        }
    }

    /// A new shard would cost every channel its history instead of its part.
    #[test]
    fn one_shard_more_moves_its_part_only() {
        for shards in [1, 2, 4, 9] {
            let ends = channels().map(|c| (shard_of(&c, count(shards)), shard_of(&c, count(shards + 1))));
            let moved: Vec<_> = ends.filter(|(before, after)| before != after).collect();
            assert!(moved.iter().all(|(_, after)| *after == shards), "channels move to the new shard only");
            let fair = 20_000 / (shards as usize + 1);
            assert!(moved.len().abs_diff(fair) * 10 < fair, "{shards}: {} moved, {fair} expected", moved.len());
        }
    }
}
