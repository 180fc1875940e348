//! Contradictions in the rules, refused at start and on reload (channels.md section 6, config.md section 7). Messages
//! name the key; the file and a remedy are added by whoever prints them. Runs on the control thread.
//!
//! What is a matter of syntax (durations, unknown words, patterns that do not compile) has been refused before, by
//! whoever made the values.

use super::{ChannelOptions, Rules};

impl Rules {
    /// The first contradiction, as `key: what is wrong`.
    pub fn validate(&self) -> Result<(), String> {
        let client = &self.client;
        if client.ping_interval_ms != 0
            && client.pong_timeout_ms != 0
            && client.ping_interval_ms <= client.pong_timeout_ms
        {
            return Err(format!(
                "client.ping_interval: {} ms must be greater than client.pong_timeout, {} ms",
                client.ping_interval_ms, client.pong_timeout_ms
            ));
        }
        self.validate_options(&self.without_namespace).map_err(|what| format!("channel.without_namespace: {what}"))?;
        for (at, (name, options)) in self.namespaces.iter().enumerate() {
            let located = |what: String| format!("channel.namespaces[{at}] \"{name}\": {what}");
            if !is_namespace_name(name) {
                let rule = "name must be at least two characters of letters, digits, `-`, `_` and `.`";
                return Err(located(rule.to_owned()));
            }
            if self.namespaces.is_repeated(at) {
                return Err(located("name is used by an earlier namespace".to_owned()));
            }
            self.validate_options(options).map_err(located)?;
        }
        self.validate_personal_channel().map_err(|what| format!("client.subscribe_to_user_personal_channel: {what}"))
    }

    fn validate_options(&self, options: &ChannelOptions) -> Result<(), String> {
        let meta_ttl_s = match options.history_meta_ttl_s {
            0 => self.history_meta_ttl_s,
            own => own,
        };
        let contradictions = [
            (options.history_size > 0 && options.history_ttl_s == 0, "history_size is set but history_ttl is not"),
            (options.history_ttl_s > 0 && options.history_size == 0, "history_ttl is set but history_size is not"),
            (
                options.history_ttl_s > meta_ttl_s,
                "history_ttl is greater than history_meta_ttl, so positions would go before the publications",
            ),
            (
                options.force_recovery && !options.has_history(),
                "force_recovery needs history: set history_size and history_ttl",
            ),
        ];
        match contradictions.into_iter().find(|(is_there, _)| *is_there) {
            Some((_, what)) => Err(what.to_owned()),
            None => Ok(()),
        }
    }

    fn validate_personal_channel(&self) -> Result<(), String> {
        let Some(personal) = &self.client.personal_channel else { return Ok(()) };
        match &*personal.namespace {
            "" => Ok(()),
            name if self.namespaces.find(name).is_some() => Ok(()),
            name => Err(format!("personal_channel_namespace: there is no namespace \"{name}\"")),
        }
    }
}

fn is_namespace_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.len() >= 2 && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::PersonalChannel;

    type Set = fn(&mut ChannelOptions);

    const CONTRADICTIONS: [(Set, &str); 5] = [
        (|o| o.history_size = 10, "history_size is set but history_ttl is not"),
        (|o| o.history_ttl_s = 10, "history_ttl is set but history_size is not"),
        (|o| (o.history_size, o.history_ttl_s) = (1, 721 * 3600), "history_ttl is greater than"),
        (|o| (o.history_size, o.history_ttl_s, o.history_meta_ttl_s) = (1, 60, 59), "history_ttl is greater than"),
        (|o| o.force_recovery = true, "force_recovery needs history"),
    ];

    const FINE: [Set; 4] = [
        |_| (),
        |o| (o.history_size, o.history_ttl_s, o.history_meta_ttl_s) = (1, 60, 60),
        |o| o.force_positioning = true,
        |o| {
            (o.history_size, o.history_ttl_s) = (1, 60);
            o.force_recovery = true;
        },
    ];

    /// A configuration that cannot do what it says must stop the start and say where.
    #[test]
    fn options_that_contradict_each_other() {
        for (set, expected) in CONTRADICTIONS {
            let mut rules = Rules::default();
            set(&mut rules.without_namespace);
            let message = rules.validate().unwrap_err();
            assert!(message.starts_with("channel.without_namespace: "), "{message}");
            assert!(message.contains(expected), "{message}");

            let mut rules = Rules::default();
            rules.namespaces.insert("news", ChannelOptions::default());
            let mut options = ChannelOptions::default();
            set(&mut options);
            rules.namespaces.insert("chat", options);
            let message = rules.validate().unwrap_err();
            assert!(message.starts_with("channel.namespaces[1] \"chat\": "), "{message}");
        }
        for set in FINE {
            let mut rules = Rules::default();
            set(&mut rules.without_namespace);
            assert_eq!(rules.validate(), Ok(()));
        }
    }

    /// A namespace that no channel name can reach, or that another one shadows, is a mistake.
    #[test]
    fn namespace_names() {
        for (name, is_fine) in
            [("ab", true), ("a-b_c.D9", true), ("a", false), ("", false), ("a b", false), ("né", false), ("a:b", false)]
        {
            let rules =
                Rules { namespaces: [(name, ChannelOptions::default())].into_iter().collect(), ..Rules::default() };
            assert_eq!(rules.validate().is_ok(), is_fine, "{name}");
        }
        let twice = [("chat", ChannelOptions::default()), ("chat", ChannelOptions::default())];
        let rules = Rules { namespaces: twice.into_iter().collect(), ..Rules::default() };
        let message = rules.validate().unwrap_err();
        assert_eq!(message, "channel.namespaces[1] \"chat\": name is used by an earlier namespace");
    }

    /// A personal channel in a namespace that does not exist would refuse every connect.
    #[test]
    fn personal_channels() {
        let with = |namespace: &str| {
            let mut rules = Rules::default();
            rules.namespaces.insert("personal", ChannelOptions::default());
            rules.client.personal_channel =
                Some(PersonalChannel { namespace: namespace.to_owned(), ..PersonalChannel::default() });
            rules.validate()
        };
        assert!(with("").is_ok());
        assert!(with("personal").is_ok());
        assert!(with("nope").unwrap_err().ends_with("there is no namespace \"nope\""));
    }

    /// Either half of the heartbeat may be off, but a pong must be due before the next ping.
    #[test]
    fn heartbeat() {
        for (ping_interval_ms, pong_timeout_ms, is_fine) in
            [(25_000, 8_000, true), (0, 8_000, true), (8_000, 0, true), (8_000, 8_000, false), (1, 2, false)]
        {
            let mut rules = Rules::default();
            rules.client.ping_interval_ms = ping_interval_ms;
            rules.client.pong_timeout_ms = pong_timeout_ms;
            assert_eq!(rules.validate().is_ok(), is_fine);
        }
    }
}
