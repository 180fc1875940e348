//! Who may do what in a channel, decided without asking anyone (auth.md section 8). Runs on every core.
//!
//! In every ladder `*_for_anonymous` only widens another permission, and `client.insecure` is the last rung: it grants
//! what nothing else granted, but opens neither private channels nor features that are off.

use gyre_proto::codes::Error;

use super::{ChannelOptions, Resolved, Rules};

/// Why a subscription exists, as numbered in auth.md section 8.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Source {
    /// The backend of the namespace is to say ([`super::ChannelProxies::subscribe`]).
    Proxy = 4,
    /// The name lists the user.
    UserLimited = 5,
    /// The namespace is open to clients.
    ClientAllowed = 6,
    /// Permissions are off.
    Insecure = 7,
}

/// Decides a client's subscribe without token.
pub fn subscribe_without_token(
    rules: &Rules,
    channel: &str,
    resolved: &Resolved<'_>,
    user: &str,
) -> Result<Source, Error> {
    let options = resolved.options;
    if rules.is_private(channel) {
        return Err(Error::PERMISSION_DENIED);
    }
    let user_limited = rules.is_user_limited(channel, options);
    if user_limited && rules.user_is_listed(channel, user) {
        return Ok(Source::UserLimited);
    }
    if !user_limited && options.proxies.subscribe.is_some() {
        return Ok(Source::Proxy);
    }
    if !user_limited && is_open_to(options, user) {
        return Ok(Source::ClientAllowed);
    }
    if rules.client.insecure {
        return Ok(Source::Insecure);
    }
    Err(Error::PERMISSION_DENIED)
}

fn is_open_to(options: &ChannelOptions, user: &str) -> bool {
    options.allow_subscribe_for_client && (!user.is_empty() || options.allow_subscribe_for_anonymous)
}

/// What becomes of a channel that a client names in its connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requested {
    /// The connection is subscribed.
    Subscribe,
    /// Nothing, silently.
    Skip,
    /// The whole connect is refused (3501).
    UnknownNamespace,
}

/// Decides a channel of the `subs` of a connect request (auth.md section 5.2). Unlike in a subscribe, the anonymous
/// user never matches a list of users, and no backend is asked.
pub fn connect_requested_channel(rules: &Rules, channel: &str, user: &str) -> Requested {
    let Some(resolved) = rules.resolve(channel) else { return Requested::UnknownNamespace };
    let is_named = !channel.is_empty()
        && !rules.name_is_too_long(channel)
        && rules.name_is_valid(channel, &resolved)
        && !rules.is_private(channel)
        && resolved.options.proxies.subscribe.is_none();
    let is_granted = if rules.is_user_limited(channel, resolved.options) {
        !user.is_empty() && rules.user_is_listed(channel, user)
    } else {
        is_open_to(resolved.options, user)
    };
    if is_named && (is_granted || rules.client.insecure) { Requested::Subscribe } else { Requested::Skip }
}

/// Whether the user may publish (103).
pub fn may_publish(rules: &Rules, options: &ChannelOptions, user: &str, subscribed: bool) -> bool {
    let granted = options.allow_publish_for_client || (options.allow_publish_for_subscriber && subscribed);
    holds(rules, granted, options.allow_publish_for_anonymous, user)
}

/// Whether the user may read history (103), which also opens positioning and recovery. Whether there is any history
/// (108) is not looked at.
pub fn may_read_history(rules: &Rules, options: &ChannelOptions, user: &str, subscribed: bool) -> bool {
    let granted = options.allow_history_for_client || (options.allow_history_for_subscriber && subscribed);
    holds(rules, granted, options.allow_history_for_anonymous, user)
}

/// Whether the user may read presence (103), which also opens joins and leaves. Whether presence is on (108) is not
/// looked at.
pub fn may_read_presence(rules: &Rules, options: &ChannelOptions, user: &str, subscribed: bool) -> bool {
    let granted = options.allow_presence_for_client || (options.allow_presence_for_subscriber && subscribed);
    holds(rules, granted, options.allow_presence_for_anonymous, user)
}

fn holds(rules: &Rules, granted: bool, for_anonymous: bool, user: &str) -> bool {
    (granted && (!user.is_empty() || for_anonymous)) || rules.client.insecure
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: fn(&mut ChannelOptions) = |o| o.allow_subscribe_for_client = true;
    const OPEN_TO_ALL: fn(&mut ChannelOptions) = |o| {
        o.allow_subscribe_for_client = true;
        o.allow_subscribe_for_anonymous = true;
    };
    const ANONYMOUS_ONLY: fn(&mut ChannelOptions) = |o| o.allow_subscribe_for_anonymous = true;
    const LISTS: fn(&mut ChannelOptions) = |o| o.allow_user_limited_channels = true;
    const OPEN_WITH_LISTS: fn(&mut ChannelOptions) = |o| {
        o.allow_subscribe_for_client = true;
        o.allow_subscribe_for_anonymous = true;
        o.allow_user_limited_channels = true;
    };
    const ASKED: fn(&mut ChannelOptions) = |o| {
        o.allow_subscribe_for_client = true;
        o.proxies.subscribe = Some(crate::backend::ProxyId(0));
    };
    const ASKED_WITH_LISTS: fn(&mut ChannelOptions) = |o| {
        o.allow_user_limited_channels = true;
        o.proxies.subscribe = Some(crate::backend::ProxyId(0));
    };
    const NOTHING: fn(&mut ChannelOptions) = |_| ();

    fn rules(set: fn(&mut ChannelOptions), insecure: bool) -> Rules {
        let mut rules = Rules::default();
        set(&mut rules.without_namespace);
        rules.client.insecure = insecure;
        rules
    }

    /// Every rung of the subscribe ladder; a wrong one opens a channel to a stranger or shuts a member out.
    #[test]
    fn subscribe_ladder() {
        use Source::{ClientAllowed, Insecure, Proxy, UserLimited};
        for (set, insecure, channel, user, expected) in [
            (NOTHING, false, "news", "42", None),
            (OPEN, false, "news", "42", Some(ClientAllowed)),
            (OPEN, false, "news", "", None),
            (ANONYMOUS_ONLY, false, "news", "", None),
            (ANONYMOUS_ONLY, false, "news", "42", None),
            (OPEN_TO_ALL, false, "news", "", Some(ClientAllowed)),
            (OPEN_TO_ALL, false, "$news", "42", None),
            (NOTHING, true, "$news", "42", None),
            (NOTHING, true, "news", "", Some(Insecure)),
            (LISTS, false, "d#1,2", "2", Some(UserLimited)),
            (LISTS, false, "d#1,2", "3", None),
            (LISTS, false, "d#", "", Some(UserLimited)),
            (LISTS, false, "$d#1", "1", None),
            (LISTS, true, "d#1", "3", Some(Insecure)),
            (OPEN_WITH_LISTS, false, "d#1", "3", None),
            (OPEN_WITH_LISTS, false, "d", "3", Some(ClientAllowed)),
            (OPEN, false, "d#1", "3", Some(ClientAllowed)),
            (ASKED, false, "news", "", Some(Proxy)),
            (ASKED, true, "news", "42", Some(Proxy)),
            (ASKED, true, "$news", "42", None),
            (ASKED, false, "d#1", "3", Some(Proxy)),
            (ASKED_WITH_LISTS, false, "d#1", "1", Some(UserLimited)),
            (ASKED_WITH_LISTS, false, "d#1", "3", None),
            (ASKED_WITH_LISTS, false, "d", "3", Some(Proxy)),
        ] {
            let rules = rules(set, insecure);
            let resolved = rules.resolve(channel).unwrap();
            let decided = subscribe_without_token(&rules, channel, &resolved, user);
            assert_eq!(decided.ok(), expected, "{channel} {user} {insecure}");
            if let Err(error) = decided {
                assert_eq!(error.code, 103);
            }
        }
    }

    /// A client must not get through its connect what a subscribe would refuse.
    #[test]
    fn channels_named_in_connect() {
        use Requested::{Skip, Subscribe, UnknownNamespace};
        for (set, insecure, channel, user, expected) in [
            (NOTHING, false, "news", "42", Skip),
            (OPEN, false, "news", "42", Subscribe),
            (OPEN, false, "news", "", Skip),
            (OPEN_TO_ALL, false, "news", "", Subscribe),
            (OPEN_TO_ALL, false, "$news", "42", Skip),
            (OPEN_TO_ALL, false, "n\u{e9}ws", "42", Skip),
            (OPEN_TO_ALL, false, "", "42", Skip),
            (OPEN_TO_ALL, false, "nope:1", "42", UnknownNamespace),
            (NOTHING, true, "$news", "", Skip),
            (NOTHING, true, "news", "", Subscribe),
            (LISTS, false, "d#1", "1", Subscribe),
            (LISTS, false, "d#1", "2", Skip),
            (LISTS, false, "d#", "", Skip),
            (LISTS, true, "d#1", "2", Subscribe),
            (OPEN_WITH_LISTS, false, "d#1", "2", Skip),
            (ASKED, true, "news", "42", Skip),
            (ASKED_WITH_LISTS, false, "d#1", "1", Skip),
        ] {
            let rules = rules(set, insecure);
            assert_eq!(connect_requested_channel(&rules, channel, user), expected, "{channel} {user}");
        }
        let rules = rules(OPEN_TO_ALL, true);
        assert_eq!(connect_requested_channel(&rules, &"x".repeat(256), "42"), Skip);
    }

    type Ladder = fn(&Rules, &ChannelOptions, &str, bool) -> bool;
    type Switch = fn(&mut ChannelOptions) -> &mut bool;

    /// Publish, history and presence share one ladder; all combinations of its flags.
    #[test]
    fn publish_history_and_presence_ladders() {
        let ladders: [(Ladder, [Switch; 3]); 3] = [
            (
                may_publish,
                [
                    |o| &mut o.allow_publish_for_client,
                    |o| &mut o.allow_publish_for_subscriber,
                    |o| &mut o.allow_publish_for_anonymous,
                ],
            ),
            (
                may_read_history,
                [
                    |o| &mut o.allow_history_for_client,
                    |o| &mut o.allow_history_for_subscriber,
                    |o| &mut o.allow_history_for_anonymous,
                ],
            ),
            (
                may_read_presence,
                [
                    |o| &mut o.allow_presence_for_client,
                    |o| &mut o.allow_presence_for_subscriber,
                    |o| &mut o.allow_presence_for_anonymous,
                ],
            ),
        ];
        // client, subscriber, anonymous: allowed for (user, subscribed user, anonymous, subscribed anonymous)
        let table = [
            ([false, false, false], [false, false, false, false]),
            ([false, false, true], [false, false, false, false]),
            ([true, false, false], [true, true, false, false]),
            ([true, false, true], [true, true, true, true]),
            ([false, true, false], [false, true, false, false]),
            ([false, true, true], [false, true, false, true]),
            ([true, true, false], [true, true, false, false]),
            ([true, true, true], [true, true, true, true]),
        ];
        for (ladder, switches) in ladders {
            for (flags, expected) in table {
                let mut options = ChannelOptions::default();
                for (switch, on) in switches.iter().zip(flags) {
                    *switch(&mut options) = on;
                }
                let callers = [("42", false), ("42", true), ("", false), ("", true)];
                for ((user, subscribed), expected) in callers.into_iter().zip(expected) {
                    let strict = rules(NOTHING, false);
                    assert_eq!(ladder(&strict, &options, user, subscribed), expected, "{flags:?} {user}");
                    assert!(ladder(&rules(NOTHING, true), &options, user, subscribed));
                }
            }
        }
    }
}
