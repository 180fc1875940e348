//! Discovery against servers that are threads of the test, which answer as told.

mod server;
mod standalone;

use crate::config::schema;
use crate::settings::redis::{RedisOptions, Shard};

/// The shards of a `redis` object.
fn shards(object: serde_json::Value) -> Vec<Shard> {
    let mut tree = schema::at("engine.redis").unwrap().default_value();
    for (key, value) in object.as_object().unwrap() {
        tree[key] = value.clone();
    }
    let redis = serde_json::from_value(tree).unwrap();
    RedisOptions::new(&redis).unwrap().shards
}
