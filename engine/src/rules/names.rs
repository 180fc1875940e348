//! From a channel name to its options, and what the name alone says. Runs on every core for every command; allocates
//! nothing except the personal channel's name.

use super::{ChannelOptions, Rules};

/// Bytes of a name when the operator sets no bound (channels.md section 1).
const MAX_LENGTH_DEFAULT: usize = 255;

/// A channel of a known namespace.
#[derive(Clone, Copy, Debug)]
pub struct Resolved<'a> {
    /// What its namespace allows.
    pub options: &'a ChannelOptions,
    /// The name after the namespace; the whole name, private prefix included, when there is none.
    pub rest: &'a str,
    /// Empty = none.
    pub namespace: &'a str,
}

impl Rules {
    /// Finds the options of a channel; `None` = unknown namespace (102).
    pub fn resolve<'a>(&'a self, channel: &'a str) -> Option<Resolved<'a>> {
        let (namespace, rest) = self.split(channel);
        let options = if namespace.is_empty() { &self.without_namespace } else { self.namespaces.find(namespace)? };
        Some(Resolved { options, rest, namespace })
    }

    fn split<'a>(&self, channel: &'a str) -> (&'a str, &'a str) {
        let boundary = &*self.channel.namespace_boundary;
        if boundary.is_empty() {
            return ("", channel);
        }
        // An empty prefix is always there and strips nothing.
        let public = channel.strip_prefix(&*self.channel.private_prefix).unwrap_or(channel);
        public.split_once(boundary).unwrap_or(("", channel))
    }

    /// Whether the characters of the name are allowed (107). Clients only; the server API may use any name.
    pub fn name_is_valid(&self, channel: &str, resolved: &Resolved<'_>) -> bool {
        match &resolved.options.channel_regex {
            Some(regex) => regex.is_match(resolved.rest),
            None => channel.is_ascii(),
        }
    }

    /// Whether the name exceeds the bound (107 on a client's subscribe).
    pub fn name_is_too_long(&self, channel: &str) -> bool {
        match usize::try_from(self.channel.max_length) {
            Ok(0) => channel.len() > MAX_LENGTH_DEFAULT,
            Ok(bound) => channel.len() > bound,
            Err(_) => false,
        }
    }

    /// Whether a client needs a subscription token for the channel.
    pub fn is_private(&self, channel: &str) -> bool {
        let prefix = &*self.channel.private_prefix;
        !prefix.is_empty() && channel.starts_with(prefix)
    }

    /// Whether the name lists the users who may subscribe. Without the namespace option the marker means nothing.
    pub fn is_user_limited(&self, channel: &str, options: &ChannelOptions) -> bool {
        let boundary = &*self.channel.user_boundary;
        options.allow_user_limited_channels && !boundary.is_empty() && channel.contains(boundary)
    }

    /// Whether the user is in the list that the name ends with. `news#` lists the anonymous user.
    pub fn user_is_listed(&self, channel: &str, user: &str) -> bool {
        let boundary = &*self.channel.user_boundary;
        if boundary.is_empty() {
            return false;
        }
        let Some((_, users)) = channel.rsplit_once(boundary) else { return false };
        match &*self.channel.user_separator {
            "" => users == user,
            separator => users.split(separator).any(|listed| listed == user),
        }
    }

    /// The channel that belongs to the user; `None` when there are none or the user is anonymous.
    pub fn personal_channel(&self, user: &str) -> Option<String> {
        let personal = self.client.personal_channel.as_ref().filter(|_| !user.is_empty())?;
        let syntax = &self.channel;
        Some(match &*personal.namespace {
            "" => format!("{}{user}", syntax.user_boundary),
            namespace => format!("{namespace}{}{}{user}", syntax.namespace_boundary, syntax.user_boundary),
        })
    }

    /// Whether a new connection of the user closes the older ones.
    pub fn is_only_connection(&self, user: &str) -> bool {
        !user.is_empty() && self.client.personal_channel.as_ref().is_some_and(|personal| personal.single_connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{PersonalChannel, go_regex};

    fn rules() -> Rules {
        let mut rules = Rules::default();
        rules.namespaces.insert("chat", ChannelOptions::default());
        rules.namespaces.insert(
            "room",
            ChannelOptions { channel_regex: Some(go_regex("^[а-я]+$").unwrap()), ..ChannelOptions::default() },
        );
        rules
    }

    /// A name read differently gives a client the permissions of another namespace.
    #[test]
    fn namespaces_are_found_as_documented() {
        let rules = rules();
        for (channel, expected) in [
            ("news", Some(("", "news"))),
            ("$news", Some(("", "$news"))),
            ("chat:1", Some(("chat", "1"))),
            ("$chat:1", Some(("chat", "1"))),
            ("$$chat:1", None),
            ("chat:a:b", Some(("chat", "a:b"))),
            ("chat:", Some(("chat", ""))),
            (":x", Some(("", "x"))),
            ("$:x", Some(("", "x"))),
            ("nope:1", None),
            ("Chat:1", None),
            ("", Some(("", ""))),
            ("$", Some(("", "$"))),
        ] {
            let found = rules.resolve(channel).map(|found| (found.namespace, found.rest));
            assert_eq!(found, expected, "{channel}");
        }
    }

    /// Operators switch features off with an empty marker.
    #[test]
    fn empty_markers_switch_off() {
        let mut rules = rules();
        rules.channel.namespace_boundary.clear();
        rules.channel.private_prefix.clear();
        rules.channel.user_boundary.clear();
        let found = rules.resolve("nope:1").unwrap();
        assert_eq!((found.namespace, found.rest), ("", "nope:1"));
        assert!(!rules.is_private("$news"));
        let limited = ChannelOptions { allow_user_limited_channels: true, ..ChannelOptions::default() };
        assert!(!rules.is_user_limited("news#42", &limited));
        assert!(!rules.user_is_listed("news#42", "42"));
        rules.channel.private_prefix = "private-".to_owned();
        rules.channel.namespace_boundary = "::".to_owned();
        assert_eq!(rules.resolve("private-chat::1").unwrap().namespace, "chat");
        assert!(rules.is_private("private-chat::1"));
    }

    /// Channel names end in other systems: only what the operator expects may pass.
    #[test]
    fn characters_and_length() {
        let rules = rules();
        let valid = |channel: &str| rules.name_is_valid(channel, &rules.resolve(channel).unwrap());
        assert!(valid("chat:1"));
        assert!(valid("a\nb"));
        assert!(!valid("chat:é"));
        assert!(valid("room:абв"));
        assert!(!valid("room:abc"));
        let long = "x".repeat(256);
        for (max_length, length, too_long) in
            [(255, 255, false), (255, 256, true), (0, 255, false), (0, 256, true), (-1, 256, false), (3, 4, true)]
        {
            let mut rules = Rules::default();
            rules.channel.max_length = max_length;
            assert_eq!(rules.name_is_too_long(&long[..length]), too_long, "{max_length} {length}");
        }
        assert!(Rules::default().name_is_too_long(&"é".repeat(128)), "bytes count, not characters");
    }

    /// A wrong match lets a stranger into a private dialog.
    #[test]
    fn user_lists() {
        let rules = rules();
        for (channel, user, listed) in [
            ("dialog#1,2", "1", true),
            ("dialog#1,2", "2", true),
            ("dialog#1,2", "1,2", false),
            ("dialog#1,2", "", false),
            ("dialog#12", "1", false),
            ("news#", "", true),
            ("news#", "1", false),
            ("a#1#2", "2", true),
            ("a#1#2", "1", false),
            ("a#1,", "", true),
            ("plain", "", false),
        ] {
            assert_eq!(rules.user_is_listed(channel, user), listed, "{channel} {user}");
        }
        let mut whole = Rules::default();
        whole.channel.user_separator.clear();
        assert!(whole.user_is_listed("dialog#1,2", "1,2"));
        assert!(!whole.user_is_listed("dialog#1,2", "1"));
    }

    /// Applications publish to these names; another spelling reaches nobody.
    #[test]
    fn personal_channels() {
        let mut rules = rules();
        assert_eq!(rules.personal_channel("42"), None);
        rules.client.personal_channel = Some(PersonalChannel::default());
        assert_eq!(rules.personal_channel("42").as_deref(), Some("#42"));
        assert_eq!(rules.personal_channel(""), None);
        rules.client.personal_channel =
            Some(PersonalChannel { namespace: "chat".to_owned(), single_connection: false });
        assert_eq!(rules.personal_channel("42").as_deref(), Some("chat:#42"));
    }
}
