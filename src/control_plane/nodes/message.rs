//! What nodes say to each other, as bytes.
//!
//! The layout is ours: a mark, then Protobuf. Nodes of another program that use the same prefix of the same Redis are told
//! apart by the mark, and nodes of another version are understood as far as possible: a new kind of message takes the next
//! tag, a new field must be one that older nodes may ignore. Decoding never panics, whatever the bytes are.

use prost::Message as _;

use super::acts::{Disconnect, Refresh, Subscribe, Unsubscribe};
use crate::data_plane::{NodeInfo, Question};

/// In front of every message. Not the beginning of a Protobuf message: 0x67 would be field 12 of a wire type that is none.
const MARK: &[u8] = b"gyre\x01";

/// See the module.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct NodeMessage {
    /// Node id of the sender.
    #[prost(string, tag = "1")]
    pub(super) sender: String,
    /// `None` = of a kind that this version does not know.
    #[prost(oneof = "What", tags = "2, 3, 4, 5, 6, 7, 8, 9")]
    pub(super) what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum What {
    /// The sender is there.
    #[prost(message, tag = "2")]
    Info(Info),
    /// The sender stops.
    #[prost(message, tag = "3")]
    Leaving(Leaving),
    /// Do this too.
    #[prost(message, tag = "4")]
    Disconnect(Disconnect),
    /// Do this too.
    #[prost(message, tag = "5")]
    Unsubscribe(Unsubscribe),
    /// Answer the sender.
    #[prost(message, tag = "6")]
    Asked(Asked),
    /// A part of an answer.
    #[prost(message, tag = "7")]
    Answered(Answered),
    /// Do this too.
    #[prost(message, tag = "8")]
    Subscribe(Subscribe),
    /// Do this too.
    #[prost(message, tag = "9")]
    Refresh(Refresh),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Info {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(uint32, tag = "3")]
    clients: u32,
    #[prost(uint32, tag = "4")]
    users: u32,
    #[prost(uint32, tag = "5")]
    channels: u32,
    #[prost(uint32, tag = "6")]
    subscriptions: u32,
    #[prost(uint32, tag = "7")]
    uptime_s: u32,
    /// The sender does not know who else is there.
    #[prost(bool, tag = "8")]
    pub(super) is_asking: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Leaving {}

/// A question of a survey.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Asked {
    /// The sender's number for the survey.
    #[prost(uint64, tag = "1")]
    pub(super) survey: u64,
    /// `None` = a question that this version does not know.
    #[prost(oneof = "AskedWhat", tags = "2")]
    what: Option<AskedWhat>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum AskedWhat {
    /// Pattern of channel names; empty = all.
    #[prost(string, tag = "2")]
    Channels(String),
}

/// Part of an answer: one too long for a single message would have Redis drop the connection it goes to.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Answered {
    /// From the question.
    #[prost(uint64, tag = "1")]
    pub(super) survey: u64,
    /// Which one this is; they may arrive in any order.
    #[prost(uint32, tag = "2")]
    pub(super) part: u32,
    /// How many there are. 0 = there is no answer.
    #[prost(uint32, tag = "3")]
    pub(super) parts: u32,
    /// Subscribers by channel; a channel may come more than once.
    #[prost(message, repeated, tag = "4")]
    pub(super) channels: Vec<Channel>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Channel {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint32, tag = "2")]
    pub(super) clients: u32,
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it is of another program, which should have a prefix of its own")]
    Foreign,
    #[error("it cannot be decoded: {0}")]
    Undecodable(#[from] prost::DecodeError),
}

impl NodeMessage {
    pub(super) fn encode(sender: &str, what: What) -> Vec<u8> {
        let message = Self { sender: sender.to_owned(), what: Some(what) };
        let mut bytes = Vec::with_capacity(MARK.len() + message.encoded_len());
        bytes.extend_from_slice(MARK);
        message.encode_raw(&mut bytes);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let rest = bytes.strip_prefix(MARK).ok_or(Malformed::Foreign)?;
        Ok(<Self as prost::Message>::decode(rest)?)
    }
}

impl What {
    pub(super) fn info(node: &NodeInfo, is_asking: bool) -> Self {
        Self::Info(Info {
            name: node.name.clone(),
            version: node.version.clone(),
            clients: node.clients,
            users: node.users,
            channels: node.channels,
            subscriptions: node.subscriptions,
            uptime_s: node.uptime_s,
            is_asking,
        })
    }

    pub(super) fn question(survey: u64, question: &Question) -> Self {
        let Question::Channels(pattern) = question;
        Self::Asked(Asked { survey, what: Some(AskedWhat::Channels(pattern.to_string())) })
    }
}

impl Info {
    pub(super) fn of(self, uid: &str) -> NodeInfo {
        NodeInfo {
            uid: uid.to_owned(),
            name: self.name,
            version: self.version,
            clients: self.clients,
            users: self.users,
            channels: self.channels,
            subscriptions: self.subscriptions,
            uptime_s: self.uptime_s,
        }
    }
}

impl Asked {
    pub(super) fn question(self) -> Option<Question> {
        let AskedWhat::Channels(pattern) = self.what?;
        Some(Question::Channels(pattern.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::acts::tests::every as every_act;
    use super::*;

    fn every() -> Vec<What> {
        let info = NodeInfo {
            uid: "elsewhere".to_owned(),
            name: "höst_8000".to_owned(),
            version: "0.1.0 OSS".to_owned(),
            clients: 1,
            users: u32::MAX,
            channels: 3,
            subscriptions: 4,
            uptime_s: 5,
        };
        let others = [
            What::info(&info, false),
            What::info(&info, true),
            What::Leaving(Leaving {}),
            What::question(7, &Question::Channels("chat:*".into())),
            What::Answered(Answered {
                survey: 7,
                part: 1,
                parts: 2,
                channels: vec![Channel { name: "chat:1".to_owned(), clients: 9 }],
            }),
        ];
        others.into_iter().chain(every_act().iter().map(What::act)).collect()
    }

    /// A command would do something else on the other nodes than on the one that was asked.
    #[test]
    fn messages_arrive_as_they_were_sent() {
        for what in every() {
            let bytes = NodeMessage::encode("uid", what.clone());
            let arrived = NodeMessage::decode(&bytes).expect("a message");
            assert_eq!((&*arrived.sender, arrived.what.as_ref()), ("uid", Some(&what)));
            match (what.clone(), what) {
                (What::Info(info), again) => {
                    let is_asking = info.is_asking;
                    assert_eq!(What::info(&info.of("elsewhere"), is_asking), again);
                }
                (What::Disconnect(act), again) => assert_eq!(What::act(&act.into_act()), again),
                (What::Unsubscribe(act), again) => assert_eq!(What::act(&act.into_act()), again),
                (What::Subscribe(act), again) => assert_eq!(What::act(&act.into_act()), again),
                (What::Refresh(act), again) => assert_eq!(What::act(&act.into_act()), again),
                (What::Asked(asked), again) => {
                    let (survey, question) = (asked.survey, asked.question().expect("a question"));
                    assert_eq!(What::question(survey, &question), again);
                }
                _ => {}
            }
        }
    }

    /// Whoever can publish to the Redis could stop every node with one bad message.
    #[test]
    fn cut_and_changed_messages_are_refused_or_other_messages() {
        for what in every() {
            let bytes = NodeMessage::encode("uid", what);
            for at in 0..bytes.len() {
                let _ = NodeMessage::decode(&bytes[..at]);
                for other in 0..=u8::MAX {
                    let mut changed = bytes.clone();
                    changed[at] = other;
                    let _ = NodeMessage::decode(&changed);
                }
            }
        }
        assert_eq!(NodeMessage::decode(b""), Err(Malformed::Foreign));
        assert_eq!(NodeMessage::decode(b"\x0a\x03uid"), Err(Malformed::Foreign), "another program's");
        assert!(matches!(NodeMessage::decode(b"gyre\x01\xff"), Err(Malformed::Undecodable(_))));
    }

    /// A node of the next version would look broken to those of this one while they are replaced.
    #[test]
    fn later_kinds_and_fields_are_passed_over() {
        let unknown_kind = [MARK, b"\x0a\x03uid\xfa\x01\x02hi"].concat();
        let message = NodeMessage::decode(&unknown_kind).expect("a message");
        assert_eq!((&*message.sender, message.what), ("uid", None));
        let asked = [MARK, b"\x0a\x03uid\x32\x05\x08\x07\x52\x01x"].concat();
        let Some(What::Asked(asked)) = NodeMessage::decode(&asked).expect("a message").what else {
            panic!("a question")
        };
        assert_eq!((asked.survey, asked.question()), (7, None));
    }
}
