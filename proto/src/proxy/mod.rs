//! What application backends are asked and what they answer: the messages of `protos/proxy.proto`, and the same in JSON.
//!
//! Only the shapes; what an answer means is the caller's affair. Pure, for the control thread. Reading takes whatever a
//! backend sends and ends in a value or in an error.

mod read;
mod write;

pub use crate::api::DecodeError;
pub use messages::*;
pub use read::decode;

mod messages {
    //! Generated from `protos/proxy.proto`.

    include!(concat!(env!("OUT_DIR"), "/centrifugal.centrifugo.proxy.rs"));
}

/// What a backend is asked.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each is named as its method")]
pub enum Request {
    Connect(ConnectRequest),
    Refresh(RefreshRequest),
    Subscribe(SubscribeRequest),
    Publish(PublishRequest),
    Rpc(RpcRequest),
    SubRefresh(SubRefreshRequest),
    CacheEmpty(NotifyCacheEmptyRequest),
    State(NotifyChannelStateRequest),
}
