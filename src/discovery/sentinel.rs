//! The primary that Sentinels name.
//!
//! On the threads of discovery. The Sentinels are asked in turn until one names a server that answers and is a primary: one
//! that was cut off from the others may still name the old one. Those that Sentinels tell of are asked too, so that a node
//! outlives all Sentinels that it was configured with. One is listened to: it announces a failover when it is done. Nothing
//! depends on that, since they are asked from time to time as well.

use std::time::Duration;

use gyre_io::redis::Reply;

use super::conversation::{Conversation, Reach};
use super::probe::Server;
use super::resolve::places;
use super::standalone::first;
use super::trouble::{Trouble, What};
use crate::settings::redis;

/// As often as the reference asks (engines.md section 4.2).
pub(super) const EVERY: Duration = Duration::from_secs(5);

/// Sentinels that are remembered beside those of the configuration. There are 3 or 5 of them, hardly ever more.
const LEARNT_MAX: usize = 32;

const SWITCHED: &str = "+switch-master";

/// The Sentinels of one shard.
pub(super) struct Sentinels {
    master_name: String,
    reach: Reach,
    configured: Vec<redis::Endpoint>,
    learnt: Vec<redis::Endpoint>,
    /// The one that gave an answer last.
    trusted: Option<redis::Endpoint>,
    /// With the one that is listened to.
    listening: Option<Conversation>,
}

impl Sentinels {
    pub(super) fn new(master_name: String, configured: Vec<redis::Endpoint>, reach: Reach) -> Self {
        Self { master_name, reach, configured, learnt: Vec::new(), trusted: None, listening: None }
    }

    pub(super) fn look(&mut self, redis: &Reach) -> Result<(Conversation, Server), Trouble> {
        // Several Sentinels name the same dead primary, and each attempt takes its time.
        let mut tried = Vec::new();
        first(self.in_turn(), |sentinel| {
            first(places(What::Sentinel, &sentinel)?, |place| {
                let mut conversation = Conversation::begin(&self.reach, place)?;
                let named = self.named(&mut conversation)?;
                self.trusted = Some(sentinel.clone());
                let found = self.primary(redis, &named, &conversation, &mut tried);
                if found.is_ok() {
                    self.learn(&mut conversation);
                }
                // One that knows better is worth more; until then any will do.
                if found.is_ok() || self.listening.is_none() {
                    self.listen(conversation);
                }
                found
            })
        })
    }

    /// From here on another look can be taken.
    pub(super) fn hurry(&mut self) {
        self.reach.hurry();
    }

    /// Whether a failover was announced, or nobody is listened to any more.
    pub(super) fn was_switched(&mut self) -> bool {
        let Some(conversation) = &mut self.listening else { return false };
        match conversation.messages() {
            Ok(messages) => messages.iter().any(|message| is_about(message, &self.master_name)),
            Err(trouble) => {
                tracing::debug!(%trouble, "a sentinel is listened to no more");
                self.listening = None;
                true
            }
        }
    }

    pub(super) fn listening(&self) -> Option<&Conversation> {
        self.listening.as_ref()
    }

    /// Who gave an answer last comes first: another one may have to be waited for.
    fn in_turn(&self) -> Vec<redis::Endpoint> {
        let mut all: Vec<redis::Endpoint> = Vec::new();
        for sentinel in self.trusted.iter().chain(&self.configured).chain(&self.learnt) {
            if !all.contains(sentinel) {
                all.push(sentinel.clone());
            }
        }
        all
    }

    /// Whom a Sentinel names.
    fn named(&self, sentinel: &mut Conversation) -> Result<redis::Endpoint, Trouble> {
        let (at, name) = (sentinel.place().clone(), &self.master_name);
        let reply = match sentinel.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name])? {
            Ok(Reply::Nil) => {
                return Err(Trouble::Unfit(format!(
                    "sentinel at {at} watches no primary with the name {name}; correct sentinel_master_name"
                )));
            }
            Ok(reply) => reply,
            Err(error) if error.message().to_ascii_lowercase().contains("unknown command") => {
                return Err(Trouble::Unfit(format!(
                    "the server at {at} is no Sentinel; give the address of one, which usually has the port 26379"
                )));
            }
            Err(error) => {
                let text = String::from_utf8_lossy(error.text()).into_owned();
                return Err(Trouble::Unfit(format!(
                    "sentinel at {at} refused SENTINEL GET-MASTER-ADDR-BY-NAME: {text}"
                )));
            }
        };
        let parts = reply.into_array().unwrap_or_default();
        endpoint(parts.first(), parts.get(1))
            .ok_or_else(|| Trouble::Unfit(format!("sentinel at {at} gave an answer that cannot be read")))
    }

    fn primary(
        &self,
        redis: &Reach,
        named: &redis::Endpoint,
        sentinel: &Conversation,
        tried: &mut Vec<redis::Endpoint>,
    ) -> Result<(Conversation, Server), Trouble> {
        let (at, name) = (sentinel.place(), &self.master_name);
        if tried.contains(named) {
            let cause = std::io::Error::other("it was tried a moment ago");
            return Err(Trouble::Unreachable { what: What::Redis, at: named.to_string(), cause });
        }
        tried.push(named.clone());
        first(places(What::Redis, named)?, |place| {
            let mut conversation = Conversation::begin(redis, place)?;
            let server = Server::ask(&mut conversation)?;
            match server.is_replica {
                false => Ok((conversation, server)),
                true => Err(Trouble::Unfit(format!(
                    "sentinel at {at} names redis at {} as the primary {name}, but it is a replica; wait for the end of \
                     a failover, or restart a sentinel that was left behind",
                    conversation.place()
                ))),
            }
        })
    }

    /// Takes over whom it knows of the others. One that does not tell is no trouble.
    fn learn(&mut self, sentinel: &mut Conversation) {
        if let Ok(Ok(reply)) = sentinel.call(&["SENTINEL", "SENTINELS", &self.master_name]) {
            let others = reply.into_array().unwrap_or_default().into_iter().take(LEARNT_MAX);
            self.learnt = others.filter_map(other).collect();
        }
    }

    /// Listens to whoever gave an answer, unless it is listened to already.
    fn listen(&mut self, mut conversation: Conversation) {
        if self.listening.as_ref().is_some_and(|listening| listening.place() == conversation.place()) {
            return;
        }
        match conversation.subscribe(SWITCHED) {
            Ok(Ok(_)) => self.listening = Some(conversation),
            Ok(Err(error)) => {
                let (at, error) = (conversation.place(), String::from_utf8_lossy(error.text()));
                tracing::debug!(%at, %error, "a sentinel may not be listened to; failovers are noticed later");
            }
            Err(trouble) => tracing::debug!(%trouble, "a sentinel cannot be listened to"),
        }
    }
}

/// One entry of `SENTINEL SENTINELS`: names and values in turn.
fn other(entry: Reply) -> Option<redis::Endpoint> {
    let parts = entry.into_array()?;
    let value = |name: &str| {
        let pair = parts.chunks_exact(2).find(|pair| pair[0].as_bytes().is_some_and(|bytes| bytes == name))?;
        Some(&pair[1])
    };
    endpoint(value("ip"), value("port"))
}

/// A host and a port as Redis tells them.
pub(super) fn endpoint(host: Option<&Reply>, port: Option<&Reply>) -> Option<redis::Endpoint> {
    let name = std::str::from_utf8(host?.as_bytes()?).ok()?.to_owned();
    let port = u16::try_from(port?.as_int()?).ok()?;
    (!name.is_empty() && port > 0).then_some(redis::Endpoint::Host { name, port })
}

/// `name old-host old-port new-host new-port`.
fn is_about(message: &[u8], master_name: &str) -> bool {
    message.strip_prefix(master_name.as_bytes()).is_some_and(|rest| rest.starts_with(b" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sentinels watch many primaries; each failover of another one would be a look for nothing.
    #[test]
    fn announcements_name_their_primary() {
        assert!(is_about(b"m 10.0.0.1 1 10.0.0.2 2", "m"));
        for other in [&b"m2 10.0.0.1 1 10.0.0.2 2"[..], b"m", b"", b"x m"] {
            assert!(!is_about(other, "m"), "{other:?}");
        }
    }
}
