//! Recovery in cache mode: only the latest publication is handed over (client-protocol.md section 10). Pure; on the home
//! core of the channel, the same whether the channel is kept in memory or in a store.

use std::sync::Arc;

use gyre_proto::client::Publication;

use crate::message::{RecoverFrom, SubscribeFacts};
use crate::position::Position;

/// What a subscriber gets who recovers in cache mode. `latest` is the newest publication that is still kept.
pub(crate) fn recover_latest(from: &RecoverFrom, top: Position, latest: Option<Arc<Publication>>) -> SubscribeFacts {
    // Other than in stream mode an empty epoch matches none: whoever names an offset has been told the epoch with it.
    let is_known = from.offset > 0 && from.offset == top.offset && *from.epoch == *top.epoch.as_str();
    let is_cache_empty = latest.is_none();
    // A top that is kept no longer must not be passed off as what is below it.
    let recovered = latest.as_ref().map_or(is_known, |latest| latest.offset == top.offset);
    let publications = latest.into_iter().filter(|_| recovered && !is_known).collect();
    SubscribeFacts { top: Some(top), publications, recovered, is_cache_empty }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Epoch;
    use crate::rules::RecoveryMode;

    /// A client would show an old state as the current one, get the one it has again, or wait for one that is there.
    #[test]
    fn the_table() {
        let epoch = Epoch::parse(b"abc").expect("letters");
        let top = Position { offset: 5, epoch };
        // Position of the client, latest offset kept, recovered, handed over, empty.
        type Row = (u64, &'static str, Option<u64>, bool, Option<u64>, bool);
        let rows: [Row; 12] = [
            (0, "", Some(5), true, Some(5), false),
            (3, "abc", Some(5), true, Some(5), false),
            (5, "abc", Some(5), true, None, false),
            (5, "", Some(5), true, Some(5), false),
            (5, "xyz", Some(5), true, Some(5), false),
            (9, "abc", Some(5), true, Some(5), false),
            (0, "", Some(4), false, None, false),
            (5, "abc", Some(4), false, None, false),
            (0, "", None, false, None, true),
            (3, "abc", None, false, None, true),
            (5, "xyz", None, false, None, true),
            (5, "abc", None, true, None, true),
        ];
        for (offset, epoch, latest, recovered, handed_over, is_empty) in rows {
            let from = RecoverFrom { offset, epoch: epoch.into(), limit: 1, mode: RecoveryMode::Cache };
            let publication = |offset| Arc::new(Publication { offset, ..Publication::default() });
            let facts = recover_latest(&from, top, latest.map(publication));
            let got = facts.publications.iter().map(|p| p.offset).collect::<Vec<_>>();
            let expected = handed_over.into_iter().collect::<Vec<_>>();
            let row = format!("{offset} {epoch} {latest:?}");
            assert_eq!((facts.recovered, got, facts.is_cache_empty), (recovered, expected, is_empty), "{row}");
            assert_eq!(facts.top, Some(top));
        }
        let nothing = RecoverFrom { offset: 0, epoch: "abc".into(), limit: 1, mode: RecoveryMode::Cache };
        let facts = recover_latest(&nothing, Position { offset: 0, epoch }, None);
        assert!(!facts.recovered, "nothing was ever published: there is nothing to know");
    }
}
