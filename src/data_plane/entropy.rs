//! Unpredictable bytes for client ids, fetched from the kernel in blocks.

use gyre_engine::ClientId;

use crate::limits::ENTROPY_BYTES;

/// See the module.
pub(super) struct Entropy {
    block: Box<[u8; ENTROPY_BYTES]>,
    used: usize,
}

impl Entropy {
    pub(super) fn new() -> Self {
        Self { block: Box::new([0; ENTROPY_BYTES]), used: ENTROPY_BYTES }
    }

    /// A new client id. Without entropy the process ends: ids that can be guessed must not be handed out.
    pub(super) fn client_id(&mut self) -> ClientId {
        if self.used == ENTROPY_BYTES {
            if let Err(error) = getrandom::fill(&mut *self.block) {
                tracing::error!(%error, "the kernel gives no entropy");
                std::process::abort();
            }
            self.used = 0;
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.block[self.used..self.used + 16]);
        self.used += 16;
        ClientId::from_entropy(bytes)
    }
}
