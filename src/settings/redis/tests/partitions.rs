//! Sharded Pub/Sub: how many partitions, and which kind.

use serde_json::json;

use super::*;

/// Nodes would look for messages in other places than they are published in.
#[test]
fn partitions_are_counted() {
    let count = |options| {
        RedisOptions::new(&redis(options)).map(|options| options.partitions.map(|p| (p.count.get(), p.are_even)))
    };
    assert_eq!(count(json!({})), Ok(None));
    assert_eq!(count(json!({ "use_precomputed_partition_tags": true })), Ok(None));
    assert_eq!(count(json!({ "sharded_pub_sub_partitions": 24 })), Ok(Some((24, false))));
    let even = |count| json!({ "sharded_pub_sub_partitions": count, "use_precomputed_partition_tags": true });
    assert_eq!(count(even(4096)), Ok(Some((4096, true))));
    for refused in [
        even(24),
        even(8),
        even(8192),
        json!({ "sharded_pub_sub_partitions": -1 }),
        json!({ "sharded_pub_sub_partitions": 16385 }),
    ] {
        assert_eq!(count(refused.clone()).unwrap_err().option, "sharded_pub_sub_partitions", "{refused}");
    }
}
