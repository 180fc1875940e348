//! The server behind one address, or behind one of the addresses of a name.
//!
//! On the threads of discovery; a look blocks for the name service and for each address that does not answer. The server
//! that is in use stays in use while it answers.

use gyre_io::redis::Endpoint;

use super::conversation::{Conversation, Reach};
use super::probe::Server;
use super::resolve::places;
use super::trouble::{Trouble, What};
use crate::settings::redis;

/// The first address that takes writes, or is of a cluster, where the map tells who does.
pub(super) fn look(
    reach: &Reach,
    endpoint: &redis::Endpoint,
    in_use: Option<&Endpoint>,
) -> Result<(Conversation, Server), Trouble> {
    among(reach, places(What::Redis, endpoint)?, in_use)
}

/// As `look`, of what it resolves to.
pub(super) fn among(
    reach: &Reach,
    mut places: Vec<Endpoint>,
    in_use: Option<&Endpoint>,
) -> Result<(Conversation, Server), Trouble> {
    places.sort_by_key(|place| Some(place) != in_use);
    first(places, |place| {
        let mut conversation = Conversation::begin(reach, place)?;
        let server = Server::ask(&mut conversation)?;
        match server.is_replica && !server.is_cluster {
            false => Ok((conversation, server)),
            true => Err(Trouble::Unfit(format!(
                "redis at {} is a replica, which takes no writes; give the address of its primary, or of its Sentinels",
                conversation.place()
            ))),
        }
    })
}

/// What the first of `places` that has it has; else why the most telling one has not.
pub(super) fn first<P, T>(
    places: impl IntoIterator<Item = P>,
    mut try_one: impl FnMut(P) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let mut trouble: Option<Trouble> = None;
    for place in places {
        match try_one(place) {
            Ok(found) => return Ok(found),
            Err(this) => trouble = Some(this.or(trouble)),
        }
    }
    Err(trouble.unwrap_or_else(|| Trouble::Unfit("there is no address to try".to_owned())))
}
