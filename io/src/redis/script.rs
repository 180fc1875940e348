//! Scripts: called by their digest, and once by their text where Redis does not know it (any more).
//!
//! On a core's thread. Of each call on its way the arguments are kept, in one queue of bytes: replies come in order, so the
//! oldest is always in front. A call that has to be repeated comes after those that were sent meanwhile; it had no effect.

use std::collections::VecDeque;

use super::command::Command;
use crate::limits::REDIS_KEEP_BYTES;

/// A script that Redis runs as one step.
#[derive(Debug)]
pub struct Script {
    /// Of `text`: 40 lower-case hexadecimal digits.
    pub sha1: &'static str,
    /// Lua.
    pub text: &'static str,
}

impl Script {
    /// Writes the beginning of a call: by the digest, or by the text. `arguments` parts follow, as they are on the wire.
    pub(super) fn begin(&self, out: &mut Vec<u8>, arguments: u32, by_text: bool) {
        let (name, script): (&[u8], _) = if by_text { (b"EVAL", self.text) } else { (b"EVALSHA", self.sha1) };
        Command::new_open(out, 2 + arguments as usize).arg(name).arg(script.as_bytes());
    }

    /// Writes the command that makes Redis know it.
    pub(super) fn load(&self, out: &mut Vec<u8>) {
        Command::new(out, 3).arg(b"SCRIPT").arg(b"LOAD").arg(self.text.as_bytes());
    }
}

/// A call on its way.
#[derive(Clone, Copy)]
pub(super) struct Call {
    script: &'static Script,
    /// Arguments: the number of keys, the keys, the rest.
    arguments: u32,
    /// What they take in `Arguments`.
    bytes: u32,
}

/// The arguments of all calls on their way, as they were sent.
#[derive(Default)]
pub(super) struct Arguments(VecDeque<u8>);

impl Arguments {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Writes a call of `arguments` arguments to `out`, and keeps them.
    pub(super) fn call(
        &mut self,
        out: &mut Vec<u8>,
        script: &'static Script,
        arguments: u32,
        write: impl FnOnce(&mut Command<'_>),
    ) -> Call {
        script.begin(out, arguments, false);
        let start = out.len();
        write(&mut Command::rest(out, arguments as usize));
        self.0.extend(&out[start..]);
        Call { script, arguments, bytes: (out.len() - start) as u32 }
    }

    /// The oldest call was answered.
    pub(super) fn forget(&mut self, call: Call) {
        self.0.drain(..call.bytes as usize);
        if self.0.is_empty() {
            self.0.shrink_to(REDIS_KEEP_BYTES);
        }
    }

    /// The oldest call found no script: writes it again, with the text.
    pub(super) fn repeat(&mut self, call: Call, out: &mut Vec<u8>) {
        call.script.begin(out, call.arguments, true);
        out.extend(self.0.drain(..call.bytes as usize));
    }

    pub(super) fn clear(&mut self) {
        self.0 = VecDeque::new();
    }
}
