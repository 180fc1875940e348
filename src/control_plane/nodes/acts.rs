//! Acts of the server API as nodes tell them to each other: the engine's words to bytes and back.
//!
//! A part of `message.rs`, under the same rules: a new field must be one that older nodes may ignore, and nothing that
//! comes is a panic.

use bytes::Bytes;
use gyre_engine::rules::Overrides;
use gyre_engine::{Act, ActWhat, RefreshAct, SubscribeAct};
use gyre_proto::codes;

use super::message::What;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Disconnect {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(string, tag = "2")]
    client: String,
    #[prost(string, repeated, tag = "3")]
    whitelist: Vec<String>,
    #[prost(uint32, tag = "4")]
    code: u32,
    #[prost(string, tag = "5")]
    reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Unsubscribe {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(string, tag = "2")]
    client: String,
    #[prost(string, tag = "3")]
    channel: String,
    #[prost(uint32, tag = "4")]
    code: u32,
    #[prost(string, tag = "5")]
    reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Subscribe {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(string, tag = "2")]
    client: String,
    #[prost(string, tag = "3")]
    channel: String,
    #[prost(int64, tag = "4")]
    expire_at_s: i64,
    #[prost(bytes = "bytes", tag = "5")]
    info: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    data: Bytes,
    #[prost(message, optional, tag = "7")]
    recover_since: Option<Since>,
    #[prost(bool, optional, tag = "8")]
    presence: Option<bool>,
    #[prost(bool, optional, tag = "9")]
    join_leave: Option<bool>,
    #[prost(bool, optional, tag = "10")]
    force_push_join_leave: Option<bool>,
    #[prost(bool, optional, tag = "11")]
    force_positioning: Option<bool>,
    #[prost(bool, optional, tag = "12")]
    force_recovery: Option<bool>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Since {
    #[prost(uint64, tag = "1")]
    offset: u64,
    #[prost(string, tag = "2")]
    epoch: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Refresh {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(string, tag = "2")]
    client: String,
    #[prost(bool, tag = "3")]
    is_expired: bool,
    #[prost(int64, tag = "4")]
    expire_at_s: i64,
    #[prost(bytes = "bytes", tag = "5")]
    info: Bytes,
}

impl What {
    pub(super) fn act(act: &Act) -> Self {
        let (user, client) = (act.user.to_string(), act.client.to_string());
        match &act.what {
            ActWhat::Disconnect(why) => Self::Disconnect(Disconnect {
                user,
                client,
                whitelist: act.whitelist.iter().map(ToString::to_string).collect(),
                code: why.code,
                reason: why.reason.to_string(),
            }),
            ActWhat::Unsubscribe { channel, why } => Self::Unsubscribe(Unsubscribe {
                user,
                client,
                channel: channel.to_string(),
                code: why.code,
                reason: why.reason.to_string(),
            }),
            ActWhat::Subscribe(what) => Self::Subscribe(Subscribe {
                user,
                client,
                channel: what.channel.to_string(),
                expire_at_s: what.expire_at_s,
                info: what.info.clone(),
                data: what.data.clone(),
                recover_since: what
                    .recover_since
                    .as_ref()
                    .map(|(offset, epoch)| Since { offset: *offset, epoch: epoch.to_string() }),
                presence: what.overrides.presence,
                join_leave: what.overrides.join_leave,
                force_push_join_leave: what.overrides.force_push_join_leave,
                force_positioning: what.overrides.force_positioning,
                force_recovery: what.overrides.force_recovery,
            }),
            ActWhat::Refresh(what) => Self::Refresh(Refresh {
                user,
                client,
                is_expired: what.is_expired,
                expire_at_s: what.expire_at_s,
                info: what.info.clone(),
            }),
        }
    }
}

impl Disconnect {
    pub(super) fn into_act(self) -> Act {
        let why = codes::Disconnect::of_application(self.code, self.reason);
        Act {
            user: self.user.into(),
            client: self.client.into(),
            whitelist: self.whitelist.into_iter().map(Into::into).collect(),
            what: ActWhat::Disconnect(why),
        }
    }
}

impl Unsubscribe {
    pub(super) fn into_act(self) -> Act {
        let why = codes::Unsubscribe { code: self.code, reason: self.reason.into() };
        act(self.user, self.client, ActWhat::Unsubscribe { channel: self.channel.into(), why })
    }
}

impl Subscribe {
    pub(super) fn into_act(self) -> Act {
        let what = SubscribeAct {
            channel: self.channel.into(),
            expire_at_s: self.expire_at_s,
            info: self.info,
            data: self.data,
            recover_since: self.recover_since.map(|since| (since.offset, since.epoch.into())),
            overrides: Overrides {
                presence: self.presence,
                join_leave: self.join_leave,
                force_push_join_leave: self.force_push_join_leave,
                force_positioning: self.force_positioning,
                force_recovery: self.force_recovery,
            },
        };
        act(self.user, self.client, ActWhat::Subscribe(what))
    }
}

impl Refresh {
    pub(super) fn into_act(self) -> Act {
        let what = RefreshAct { is_expired: self.is_expired, expire_at_s: self.expire_at_s, info: self.info };
        act(self.user, self.client, ActWhat::Refresh(what))
    }
}

fn act(user: String, client: String, what: ActWhat) -> Act {
    Act { user: user.into(), client: client.into(), whitelist: Vec::new(), what }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Acts that use every field; sent and compared in `message.rs`.
    pub(in super::super) fn every() -> Vec<Act> {
        let act = |what| act("u".to_owned(), "c".to_owned(), what);
        let subscribe = SubscribeAct {
            channel: "news".into(),
            expire_at_s: 1_700_000_000,
            info: Bytes::from_static(b"1"),
            data: Bytes::from_static(b"\xff"),
            recover_since: Some((u64::MAX, "abcd".into())),
            overrides: Overrides {
                presence: Some(true),
                join_leave: Some(false),
                force_push_join_leave: None,
                force_positioning: Some(false),
                force_recovery: Some(true),
            },
        };
        vec![
            Act {
                whitelist: vec!["spared".into(), "".into()],
                ..act(ActWhat::Disconnect(codes::Disconnect { code: 4501, reason: "go".into() }))
            },
            act(ActWhat::Unsubscribe { channel: "news".into(), why: codes::Unsubscribe::SERVER }),
            act(ActWhat::Subscribe(SubscribeAct { channel: "news".into(), ..SubscribeAct::default() })),
            act(ActWhat::Subscribe(subscribe)),
            act(ActWhat::Refresh(RefreshAct { is_expired: true, expire_at_s: -1, info: Bytes::from_static(b"{}") })),
        ]
    }

    /// A field that is forgotten on the way would make other nodes do something else.
    #[test]
    fn acts_come_back_as_they_were() {
        for act in every() {
            let back = match What::act(&act) {
                What::Disconnect(act) => act.into_act(),
                What::Unsubscribe(act) => act.into_act(),
                What::Subscribe(act) => act.into_act(),
                What::Refresh(act) => act.into_act(),
                other => panic!("{other:?} is no act"),
            };
            assert_eq!(format!("{back:?}"), format!("{act:?}"));
        }
    }

    /// A code that fits into no close frame would end the connection without any.
    #[test]
    fn codes_of_others_are_checked() {
        let why = |code| match (Disconnect { code, ..Disconnect::default() }).into_act().what {
            ActWhat::Disconnect(why) => why.code,
            _ => 0,
        };
        assert_eq!((why(4501), why(0), why(70_000)), (4501, 3503, 3503));
    }
}
