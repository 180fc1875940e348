//! `user_status`: there has to be a Redis that it can be kept in, and a time to keep it for.

use super::{Check, Wrong, redis, wrong};

pub(super) fn check(check: &Check<'_>) -> Result<(), Wrong> {
    if !check.is_on("user_status.enabled") {
        return Ok(());
    }
    // A Redis counts in milliseconds, and 0 of them would delete what was just written.
    if check.number("user_status.expire_interval") < 1_000_000 {
        return wrong(
            "user_status.expire_interval",
            "expected 1ms or more: how long a status is kept after its last update",
        );
    }
    let reuse = "user_status.redis.reuse_from_engine";
    match (check.is_on(reuse), check.text("engine.type")) {
        (false, _) => redis::check(check, "user_status.redis"),
        (true, "redis") => redis::check(check, "engine.redis"),
        (true, engine) => wrong(
            reuse,
            format!("engine.type is {engine}, which has no redis; set it to redis, or remove this and name an address"),
        ),
    }
}
