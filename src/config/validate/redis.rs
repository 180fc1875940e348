//! Addresses and options of a `redis` object that is in use, as the node would take them (`settings::redis`).

use super::super::layers::join;
use super::super::types::Redis;
use super::{Check, Wrong, wrong};
use crate::config::schema::value_at;
use crate::settings::redis::{Mistake, RedisOptions};

/// How the Redis of this object is laid out, in a word.
pub(super) fn mode(check: &Check<'_>, path: &str) -> Result<String, Wrong> {
    let Some(Ok(redis)) = value_at(check.tree, path).map(|tree| serde_json::from_value::<Redis>(tree.clone())) else {
        // Not reached: the tree is complete and typed. The cause might quote an address.
        return wrong(path, "cannot be read");
    };
    match RedisOptions::new(&redis) {
        Ok(options) => Ok(options.mode()),
        Err(Mistake { option, message }) => wrong(join(path, &option), message),
    }
}
