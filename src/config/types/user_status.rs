//! `user_status`: when users were last active and online.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::Redis;

/// `user_status.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct UserStatus {
    /// It is kept.
    pub(crate) enabled: bool,
    /// Where.
    pub(crate) redis: UserStatusRedis,
    /// How long after the last update.
    #[serde(deserialize_with = "positive")]
    pub(crate) expire_interval: Duration,
}

/// `user_status.redis.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct UserStatusRedis {
    /// Where the engine's channels are; nothing else of the object counts then.
    pub(crate) reuse_from_engine: bool,
    /// Else here.
    #[serde(flatten)]
    pub(crate) own: Redis,
}

/// The check of the tree has refused less.
fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Ok(Duration::from_nanos(i64::deserialize(deserializer)?.max(0) as u64))
}
