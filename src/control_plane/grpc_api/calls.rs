//! Calls that wait for a core: handed out in turn, answered by number.

use std::collections::HashMap;

use tokio::sync::oneshot;

use super::Asked;
use crate::data_plane::{ApiReply, FromControl};

/// See the module.
#[derive(Default)]
pub(in crate::control_plane) struct Calls {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<ApiReply>>,
}

impl Calls {
    /// The core that a call goes to, and what it is told. Any core can do any call; the next one does the next.
    pub(in crate::control_plane) fn hand_out(&mut self, asked: Asked, cores: u16) -> (usize, FromControl) {
        self.last += 1;
        let number = self.last;
        self.waiting.insert(number, asked.reply);
        ((number % u64::from(cores)) as usize, FromControl::Api { number, call: Box::new(asked.call) })
    }

    /// Whether every call has been carried out.
    pub(in crate::control_plane) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A core has carried a call out. Whoever asked may have gone.
    pub(in crate::control_plane) fn answered(&mut self, number: u64, reply: ApiReply) {
        if let Some(waiting) = self.waiting.remove(&number) {
            let _ = waiting.send(reply);
        }
    }
}
