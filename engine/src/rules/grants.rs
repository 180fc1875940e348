//! What a granted subscription can do: namespace options, what a token says instead, what the client asks for. Pure;
//! runs on the core of the connection.

use super::{ChannelOptions, Rules, may_read_history, may_read_presence};

/// Wishes of a client. What is not granted is ignored, never an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Wants to be told about gaps.
    pub positioned: bool,
    /// Wants to recover missed publications.
    pub recoverable: bool,
    /// Wants joins and leaves.
    pub join_leave: bool,
}

/// What a token says instead of the namespace; `None` leaves the namespace option in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// List the subscriber.
    pub presence: Option<bool>,
    /// Tell others about its joins and leaves.
    pub join_leave: Option<bool>,
    /// Tell it about the joins and leaves of others.
    pub force_push_join_leave: Option<bool>,
    /// Position the subscription.
    pub force_positioning: Option<bool>,
    /// Make it recoverable.
    pub force_recovery: Option<bool>,
}

/// What the subscription can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Gaps are noticed. Always set with `recoverable`.
    pub positioned: bool,
    /// Missed publications are replayed.
    pub recoverable: bool,
    /// The subscriber is listed in presence.
    pub emit_presence: bool,
    /// Others are told when it joins and leaves.
    pub emit_join_leave: bool,
    /// It is told when others join and leave.
    pub push_join_leave: bool,
}

/// Options of a subscription that was allowed by token or locally (client-protocol.md section 8.3). The client counts
/// as subscribed for the permissions that demand it.
pub fn subscription_grants(
    options: &ChannelOptions,
    rules: &Rules,
    user: &str,
    asked: &Asked,
    overrides: &Overrides,
) -> Grants {
    let reads_history = may_read_history(rules, options, user, true);
    let reads_presence = may_read_presence(rules, options, user, true);
    let recoverable = overrides.force_recovery.unwrap_or(options.force_recovery)
        || (asked.recoverable && (options.allow_recovery || reads_history));
    let positioned = overrides.force_positioning.unwrap_or(options.force_positioning)
        || (asked.positioned && (options.allow_positioning || reads_history));
    Grants {
        positioned: positioned || recoverable,
        recoverable,
        emit_presence: overrides.presence.unwrap_or(options.presence),
        emit_join_leave: overrides.join_leave.unwrap_or(options.join_leave),
        push_join_leave: overrides.force_push_join_leave.unwrap_or(options.force_push_join_leave)
            || (asked.join_leave && options.join_leave && reads_presence),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: Asked = Asked { positioned: true, recoverable: true, join_leave: true };

    fn granted(options: &ChannelOptions, user: &str, asked: Asked, overrides: Overrides) -> Grants {
        subscription_grants(options, &Rules::default(), user, &asked, &overrides)
    }

    /// A namespace that allows nothing grants nothing, however much is asked for.
    #[test]
    fn nothing_for_nothing() {
        let off = ChannelOptions::default();
        assert_eq!(granted(&off, "42", EVERYTHING, Overrides::default()), Grants::default());
        let insecure =
            Rules { client: crate::rules::ClientRules { insecure: true, ..Default::default() }, ..Rules::default() };
        let grants = subscription_grants(&off, &insecure, "", &EVERYTHING, &Overrides::default());
        let expected = Grants { positioned: true, recoverable: true, ..Grants::default() };
        assert_eq!(grants, expected, "insecure opens what may be asked for, not what the namespace keeps off");
    }

    /// Each way to each capability.
    #[test]
    fn each_capability() {
        type Set = fn(&mut ChannelOptions);
        let positioned = Grants { positioned: true, ..Grants::default() };
        let recoverable = Grants { recoverable: true, ..positioned };
        let emits = Grants { emit_join_leave: true, ..Grants::default() };
        let gets_told = Grants { push_join_leave: true, ..emits };
        let table: [(Set, &str, Asked, Grants); 13] = [
            (|o| o.force_positioning = true, "", Asked::default(), positioned),
            (|o| o.force_recovery = true, "", Asked::default(), recoverable),
            (|o| o.allow_positioning = true, "", Asked::default(), Grants::default()),
            (|o| o.allow_positioning = true, "", EVERYTHING, positioned),
            (|o| o.allow_recovery = true, "", EVERYTHING, recoverable),
            (|o| o.allow_history_for_client = true, "42", EVERYTHING, recoverable),
            (|o| o.allow_history_for_client = true, "", EVERYTHING, Grants::default()),
            (|o| o.allow_history_for_subscriber = true, "42", EVERYTHING, recoverable),
            (|o| o.presence = true, "", Asked::default(), Grants { emit_presence: true, ..Grants::default() }),
            (|o| o.join_leave = true, "42", EVERYTHING, emits),
            (|o| (o.join_leave, o.allow_presence_for_subscriber) = (true, true), "42", EVERYTHING, gets_told),
            (|o| (o.join_leave, o.force_push_join_leave) = (true, true), "", Asked::default(), gets_told),
            (|o| o.allow_presence_for_client = true, "42", EVERYTHING, Grants::default()),
        ];
        for (row, (set, user, asked, expected)) in table.into_iter().enumerate() {
            let mut options = ChannelOptions::default();
            set(&mut options);
            assert_eq!(granted(&options, user, asked, Overrides::default()), expected, "row {row}");
        }
    }

    /// Backends switch single options on and off per token.
    #[test]
    fn tokens_override_the_namespace() {
        let all = |on| Overrides {
            presence: Some(on),
            join_leave: Some(on),
            force_push_join_leave: Some(on),
            force_positioning: Some(on),
            force_recovery: Some(on),
        };
        let on = Grants {
            positioned: true,
            recoverable: true,
            emit_presence: true,
            emit_join_leave: true,
            push_join_leave: true,
        };
        let mut options = ChannelOptions::default();
        assert_eq!(granted(&options, "42", Asked::default(), all(true)), on);
        options = ChannelOptions {
            presence: true,
            join_leave: true,
            force_push_join_leave: true,
            force_positioning: true,
            force_recovery: true,
            ..options
        };
        assert_eq!(granted(&options, "42", Asked::default(), Overrides::default()), on);
        assert_eq!(granted(&options, "42", Asked::default(), all(false)), Grants::default());
        options.allow_recovery = true;
        assert!(granted(&options, "42", EVERYTHING, all(false)).recoverable, "asking adds to an override");
    }
}
