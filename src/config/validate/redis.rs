//! Addresses and options of a `redis` object that is in use, as the node would take them (`settings::redis`).

use super::super::layers::join;
use super::super::types::Redis;
use super::{Check, Wrong, wrong};
use crate::config::schema::value_at;
use crate::settings::redis::{Mistake, RedisOptions};

pub(super) fn check(check: &Check<'_>, path: &str) -> Result<(), Wrong> {
    let Some(Ok(redis)) = value_at(check.tree, path).map(|tree| serde_json::from_value::<Redis>(tree.clone())) else {
        // Not reached: the tree is complete and typed. The cause might quote an address.
        return wrong(path, "cannot be read");
    };
    match RedisOptions::new(&redis) {
        Ok(_) => Ok(()),
        Err(Mistake { option, message }) => wrong(join(path, &option), message),
    }
}
