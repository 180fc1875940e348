//! What a server that answers is, and whether the node can work with it.
//!
//! On the threads of discovery, a few commands in a conversation that has begun. What it asks for is as little as it can
//! be: the user that the node is given may be allowed nothing beyond what the node needs.

use gyre_io::redis::Reply;

use super::conversation::Conversation;
use super::trouble::Trouble;

/// What a server says about itself. What it does not say is false or empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) version: String,
    pub(super) is_cluster: bool,
    pub(super) is_replica: bool,
}

impl Server {
    pub(super) fn ask(conversation: &mut Conversation) -> Result<Self, Trouble> {
        let greeting = conversation.greeting();
        if !greeting.version.is_empty() {
            return Ok(Self {
                version: greeting.version.clone(),
                is_cluster: greeting.cluster,
                is_replica: greeting.replica,
            });
        }
        // The older protocol has no greeting. A refusal tells nothing, so it counts as the usual case.
        let info = conversation.call(&["INFO", "server"])?.ok().and_then(Reply::into_bytes).unwrap_or_default();
        let info = String::from_utf8_lossy(&info);
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        let version = field("redis_version:").to_owned();
        let is_cluster = match field("redis_mode:") {
            "" => conversation.call(&["CLUSTER", "INFO"])?.is_ok(),
            mode => mode == "cluster",
        };
        Ok(Self { version, is_cluster, is_replica: role(conversation)? == "slave" })
    }
}

/// The first word of the answer to `ROLE`; empty if the user may not ask.
pub(super) fn role(conversation: &mut Conversation) -> Result<String, Trouble> {
    let role = conversation.call(&["ROLE"])?.ok().and_then(Reply::into_array);
    let word = role.and_then(|parts| parts.into_iter().next()).and_then(Reply::into_bytes);
    Ok(word.map(|word| String::from_utf8_lossy(&word).into_owned()).unwrap_or_default())
}

/// Whether it has streams and the user may read them: reads one that does not exist.
pub(super) fn check_streams(conversation: &mut Conversation, prefix: &str) -> Result<(), Trouble> {
    let key = format!("{prefix}.__.check.stream");
    let Err(error) = conversation.call(&["XRANGE", &key, "-", "+", "COUNT", "1"])? else { return Ok(()) };
    let at = conversation.place().clone();
    let message = error.message();
    Err(Trouble::Unfit(match error.code() {
        // The key is another node's, or for the moment nobody's: the command is known and allowed.
        "MOVED" | "ASK" | "CLUSTERDOWN" | "TRYAGAIN" => return Ok(()),
        "NOPERM" => format!(
            "the user that redis at {at} was given may not use XRANGE on the key {key}: {message}; allow it the commands \
             of the engine, keys ~{prefix}.* and channels &{prefix}.*"
        ),
        _ if message.to_ascii_lowercase().contains("unknown command") => match &*role(conversation)? {
            "sentinel" => format!(
                "redis at {at} is a Sentinel; write redis+sentinel:// or move it to sentinel_address, and set \
                 sentinel_master_name"
            ),
            _ => format!("redis at {at} has no streams (unknown command XRANGE); upgrade it to Redis 6.2 or newer"),
        },
        _ => format!("redis at {at} refused XRANGE: {message}"),
    }))
}

/// Whether it has sharded Pub/Sub and the user may publish so: publishes nothing into a channel that nobody hears.
pub(super) fn check_sharded(conversation: &mut Conversation, prefix: &str) -> Result<(), Trouble> {
    let channel = format!("{prefix}.__.check.shard");
    let Err(error) = conversation.call(&["SPUBLISH", &channel, ""])? else { return Ok(()) };
    let at = conversation.place().clone();
    let message = error.message();
    Err(Trouble::Unfit(match error.code() {
        "MOVED" | "ASK" | "CLUSTERDOWN" | "TRYAGAIN" => return Ok(()),
        "NOPERM" => format!(
            "the user that redis at {at} was given may not use SPUBLISH on the channel {channel}: {message}; allow it \
             SPUBLISH, SSUBSCRIBE and SUNSUBSCRIBE on channels &{prefix}.*, or set sharded_pub_sub_partitions to 0"
        ),
        _ if message.to_ascii_lowercase().contains("unknown command") => format!(
            "redis at {at} has no sharded Pub/Sub (unknown command SPUBLISH); upgrade it to Redis 7.0 or newer, or set \
             sharded_pub_sub_partitions to 0"
        ),
        _ => format!("redis at {at} refused SPUBLISH: {message}"),
    }))
}
