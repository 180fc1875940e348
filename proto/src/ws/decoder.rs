//! Received bytes to frames, whatever the cuts that TCP made (RFC 6455 sections 5 and 8.1).
//!
//! Runs on the core that owns the connection, once per receive. A frame that lies in the receive buffer as a whole is
//! unmasked and handed over there; only what a later receive must complete is copied, into a box that lives no longer
//! than the message. Memory follows the bytes that arrived, never a length that the peer declared. Must not depend on
//! the cuts: the same bytes give the same frames and the same violation, however they were split.

use std::mem;
use std::ops::ControlFlow;

use tungstenite::protocol::frame::coding::Control;

use super::header::{HEADER_BYTES_MAX, Header, Kind};
use super::utf8::{self, Utf8};
use super::{DecoderLimits, Frame, Opcode, Violation, close};

/// The receiving half of one connection. Owns no memory unless a header, a frame or a message has arrived in part.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
    /// Whether a close, a violation or the caller has ended the stream of frames.
    is_ended: bool,
}

impl Decoder {
    /// Takes the next bytes from the peer and calls `each` for every frame that they complete, in order.
    ///
    /// Unmasks `bytes` in place, so their content is unspecified afterwards. A message of one frame inside `bytes` is
    /// handed over without a copy. Fragments are joined; control frames between them come out where they were sent.
    /// After [`Frame::Close`], after `each` returned `Break` and after a violation all later bytes are ignored.
    ///
    /// # Errors
    /// The peer broke the protocol or a limit. The frames before that have been handed over.
    pub fn feed(
        &mut self,
        bytes: &mut [u8],
        limits: &DecoderLimits,
        each: &mut dyn FnMut(Frame<'_>) -> ControlFlow<()>,
    ) -> Result<(), Violation> {
        if self.is_ended {
            return Ok(());
        }
        let mut pass = Pass { partial: self.partial.take(), limits, each };
        match pass.run(bytes) {
            Ok(ControlFlow::Continue(())) => {
                self.partial = pass.partial.filter(|partial| !partial.is_idle());
                Ok(())
            }
            Ok(ControlFlow::Break(())) => {
                self.is_ended = true;
                Ok(())
            }
            Err(violation) => {
                self.is_ended = true;
                Err(violation)
            }
        }
    }

    /// Bytes of memory behind this decoder.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            let message = partial.message.as_ref().map_or(0, |message| message.data.capacity());
            mem::size_of::<Partial>() + partial.control.capacity() + message
        })
    }
}

/// What waits for more bytes.
#[derive(Debug, Default)]
struct Partial {
    /// The first `header_len` bytes of a header that is not complete.
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    /// The frame of which payload is missing.
    frame: Option<Header>,
    /// Payload so far, if that frame is a control frame. Apart from the message, which it may interrupt.
    control: Vec<u8>,
    /// The message of which a part has arrived.
    message: Option<Message>,
}

impl Partial {
    fn is_idle(&self) -> bool {
        self.header_len == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// Adds the start of `bytes` to the stored part of a header: all that is stored now, maybe beyond the header's end.
    fn store_header(&mut self, bytes: &[u8]) -> &[u8] {
        let start = usize::from(self.header_len);
        let end = HEADER_BYTES_MAX.min(start + bytes.len());
        self.header[start..end].copy_from_slice(&bytes[..end - start]);
        // At most 14.
        self.header_len = end as u8;
        &self.header[..end]
    }
}

#[derive(Debug)]
struct Message {
    opcode: Opcode,
    data: Vec<u8>,
    /// `None` if nobody asked for validation when the message began, or if it is binary.
    utf8: Option<Utf8>,
}

impl Message {
    fn new(opcode: Opcode, limits: &DecoderLimits) -> Self {
        Self { opcode, data: Vec::new(), utf8: must_validate(opcode, limits).then(Utf8::default) }
    }

    /// Appends the next `payload` of the frame `header`.
    fn push(&mut self, header: &Header, payload: &[u8]) -> Result<(), Violation> {
        if let Some(utf8) = &mut self.utf8 {
            utf8.push(payload).map_err(|_| Violation::INVALID_TEXT)?;
        }
        // Twice what has arrived, so that no sequence of cuts or fragments makes copying quadratic, but not more than
        // the message can need once its last frame is known.
        if self.data.capacity() - self.data.len() < payload.len() {
            let useful = if header.last { header.len } else { usize::MAX };
            self.data.reserve_exact(self.data.len().max(payload.len()).min(useful));
        }
        self.data.extend_from_slice(payload);
        Ok(())
    }
}

fn must_validate(opcode: Opcode, limits: &DecoderLimits) -> bool {
    limits.validate_utf8 && opcode == Opcode::Text
}

/// What one call of [`Decoder::feed`] works with. Dropped with everything partial unless the stream goes on.
struct Pass<'a> {
    partial: Option<Box<Partial>>,
    limits: &'a DecoderLimits,
    each: &'a mut dyn FnMut(Frame<'_>) -> ControlFlow<()>,
}

type Step = Result<ControlFlow<()>, Violation>;

impl Pass<'_> {
    fn run(&mut self, mut bytes: &mut [u8]) -> Step {
        // A header at the very end is taken with its empty payload in the same round, so nothing waits for more bytes
        // without need.
        while !bytes.is_empty() {
            let Some(header) = self.next_header(&mut bytes)? else {
                break;
            };
            let (payload, rest) = bytes.split_at_mut(header.len.min(bytes.len()));
            bytes = rest;
            header.mask.apply(payload);
            let step = match header.kind {
                Kind::Control(control) => self.control(header, control, payload)?,
                Kind::Data(_) | Kind::Continuation => self.data(header, payload)?,
            };
            if step.is_break() {
                return Ok(step);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The frame under way or the next header, taken off the front of `bytes`; `None` if `bytes` end inside it.
    fn next_header(&mut self, bytes: &mut &mut [u8]) -> Result<Option<Header>, Violation> {
        let (mut had, mut message_len) = (0, None);
        if let Some(partial) = &mut self.partial {
            if let Some(frame) = partial.frame.take() {
                return Ok(Some(frame));
            }
            had = usize::from(partial.header_len);
            message_len = partial.message.as_ref().map(|message| message.data.len());
        }
        let limits = self.limits;
        let found = if had == 0 {
            Header::parse(bytes, limits, message_len)?
        } else {
            Header::parse(self.partial().store_header(bytes), limits, message_len)?
        };
        let Some((header, used)) = found else {
            if had == 0 {
                self.partial().store_header(bytes);
            }
            return Ok(None);
        };
        if had > 0 {
            self.partial().header_len = 0;
        }
        // The stored part alone was no header, so `used` is more than `had`.
        *bytes = &mut mem::take(bytes)[used - had..];
        Ok(Some(header))
    }

    /// Takes the next unmasked `payload` of a control frame.
    fn control(&mut self, header: Header, control: Control, payload: &[u8]) -> Step {
        let is_complete = payload.len() == header.len;
        let stored = self.partial.as_ref().map_or(0, |partial| partial.control.len());
        if is_complete && stored == 0 {
            return self.hand_over_control(control, payload);
        }
        let partial = self.partial();
        partial.control.extend_from_slice(payload);
        if !is_complete {
            partial.frame = Some(header.after(payload.len()));
            return Ok(ControlFlow::Continue(()));
        }
        let payload = mem::take(&mut partial.control);
        self.hand_over_control(control, &payload)
    }

    fn hand_over_control(&mut self, control: Control, payload: &[u8]) -> Step {
        match control {
            Control::Ping => Ok((self.each)(Frame::Ping(payload))),
            Control::Pong => Ok((self.each)(Frame::Pong(payload))),
            Control::Close => {
                // Nothing may follow, whatever the caller makes of it.
                let _ = (self.each)(close::parse(payload)?);
                Ok(ControlFlow::Break(()))
            }
            // Refused with the header.
            Control::Reserved(_) => Ok(ControlFlow::Continue(())),
        }
    }

    /// Takes the next unmasked `payload` of a data frame.
    fn data(&mut self, header: Header, payload: &[u8]) -> Step {
        let is_complete = payload.len() == header.len;
        let has_message = self.partial.as_ref().is_some_and(|partial| partial.message.is_some());
        if let (Kind::Data(opcode), false) = (header.kind, has_message) {
            if is_complete && header.last {
                return self.hand_over_whole(opcode, payload);
            }
            // A header alone begins no message, so that a payload that follows in one piece needs no copy.
            if is_complete || !payload.is_empty() {
                let message = Message::new(opcode, self.limits);
                self.partial().message = Some(message);
            }
        }
        let partial = self.partial();
        if let Some(message) = &mut partial.message {
            message.push(&header, payload)?;
        }
        if !is_complete {
            partial.frame = Some(header.after(payload.len()));
            return Ok(ControlFlow::Continue(()));
        }
        match partial.message.take_if(|_| header.last) {
            Some(message) => self.hand_over_joined(&message),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    fn hand_over_whole(&mut self, opcode: Opcode, data: &[u8]) -> Step {
        if must_validate(opcode, self.limits) {
            utf8::check(data).map_err(|_| Violation::INVALID_TEXT)?;
        }
        Ok((self.each)(Frame::Message { opcode, data }))
    }

    fn hand_over_joined(&mut self, message: &Message) -> Step {
        if let Some(utf8) = message.utf8 {
            utf8.finish().map_err(|_| Violation::INVALID_TEXT)?;
        }
        Ok((self.each)(Frame::Message { opcode: message.opcode, data: &message.data }))
    }

    fn partial(&mut self) -> &mut Partial {
        self.partial.get_or_insert_default()
    }
}
