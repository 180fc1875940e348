//! JSON messages, read by walking them once.
//!
//! Values that nobody asks for are skipped without being checked: a witness has to find its fields, whether the rest
//! is good JSON is for other tests.

use memchr::memchr2;

use super::{Message, Publication, Subscribed};

/// Reads one message; None if it is not one.
pub(super) fn message(line: &[u8]) -> Option<Message<'_>> {
    let mut walk = Walk { bytes: line, at: 0 };
    let mut id = 0;
    let mut failed = None;
    let mut found = None;
    let mut is_empty = true;
    walk.object(|key, walk| {
        is_empty = false;
        match key {
            b"push" => found = Some(push(walk)?),
            b"id" => id = u32::try_from(walk.number()?).ok()?,
            b"error" => {
                let mut code = 0;
                walk.object(|key, walk| match key {
                    b"code" => walk.number().map(|number| code = number as u32),
                    _ => walk.skip(),
                })?;
                failed = Some(code);
            }
            b"connect" => {
                let mut pong = false;
                walk.object(|key, walk| match key {
                    b"pong" => walk.boolean().map(|value| pong = value),
                    _ => walk.skip(),
                })?;
                found = Some(Message::Connected { id: 0, pong });
            }
            b"subscribe" => found = Some(Message::Subscribed { id: 0, result: subscribed(walk)? }),
            _ => walk.skip()?,
        }
        Some(())
    })?;
    walk.end()?;
    if is_empty {
        return Some(Message::Ping);
    }
    if let Some(code) = failed {
        return Some(Message::Failed { id, code });
    }
    Some(match found {
        Some(Message::Connected { pong, .. }) => Message::Connected { id, pong },
        Some(Message::Subscribed { result, .. }) => Message::Subscribed { id, result },
        Some(push) => push,
        None => Message::Done { id },
    })
}

/// Reads the publications of a subscribe result.
pub(super) fn publications<'a>(list: &'a [u8], mut each: impl FnMut(Publication<'a>)) -> Option<()> {
    if list.is_empty() {
        return Some(());
    }
    let mut walk = Walk { bytes: list, at: 0 };
    walk.array(|walk| publication(walk).map(&mut each))?;
    walk.end()
}

fn push<'a>(walk: &mut Walk<'a>) -> Option<Message<'a>> {
    let mut channel: &[u8] = b"";
    let mut found = Message::Other;
    walk.object(|key, walk| {
        match key {
            b"channel" => channel = walk.string()?,
            b"pub" => found = Message::Publication { channel: b"", publication: publication(walk)? },
            b"unsubscribe" => {
                let mut code = 0;
                walk.object(|key, walk| match key {
                    b"code" => walk.number().map(|number| code = number as u32),
                    _ => walk.skip(),
                })?;
                found = Message::Unsubscribed { code };
            }
            _ => walk.skip()?,
        }
        Some(())
    })?;
    Some(match found {
        Message::Publication { publication, .. } => Message::Publication { channel, publication },
        other => other,
    })
}

fn publication<'a>(walk: &mut Walk<'a>) -> Option<Publication<'a>> {
    let mut found = Publication::default();
    walk.object(|key, walk| {
        match key {
            b"data" => found.data = walk.raw()?,
            b"offset" => found.offset = walk.number()?,
            _ => walk.skip()?,
        }
        Some(())
    })?;
    Some(found)
}

fn subscribed<'a>(walk: &mut Walk<'a>) -> Option<Subscribed<'a>> {
    let mut found = Subscribed::default();
    walk.object(|key, walk| {
        match key {
            b"recoverable" => found.recoverable = walk.boolean()?,
            b"recovered" => found.recovered = walk.boolean()?,
            b"epoch" => found.epoch = walk.string()?,
            b"offset" => found.offset = walk.number()?,
            b"publications" => found.publications = walk.raw()?,
            _ => walk.skip()?,
        }
        Some(())
    })?;
    Some(found)
}

/// A position in JSON text. Every method moves behind what it read; None leaves the position anywhere.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    /// Calls `each` for every member; it must read the value.
    fn object(&mut self, mut each: impl FnMut(&'a [u8], &mut Self) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            let key = self.string()?;
            self.take(b':')?;
            if self.peek()? == b'n' {
                // null equals absent.
                self.skip()?;
            } else {
                each(key, self)?;
            }
            match self.next()? {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    /// Calls `each` for every element; it must read it.
    fn array(&mut self, mut each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(b'[')?;
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            each(self)?;
            match self.next()? {
                b',' => {}
                b']' => return Some(()),
                _ => return None,
            }
        }
    }

    /// The text between the quotes, escapes left as they are: what the generator compares has none.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let start = self.at;
        loop {
            let found = self.at + memchr2(b'"', b'\\', self.bytes.get(self.at..)?)?;
            if self.bytes[found] == b'"' {
                self.at = found + 1;
                return Some(&self.bytes[start..found]);
            }
            self.at = found + 2;
        }
    }

    fn number(&mut self) -> Option<u64> {
        self.peek()?;
        let start = self.at;
        let mut value = 0u64;
        while let Some(digit @ b'0'..=b'9') = self.bytes.get(self.at) {
            value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
            self.at += 1;
        }
        (self.at > start).then_some(value)
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.raw()? {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// The text of the next value.
    fn raw(&mut self) -> Option<&'a [u8]> {
        self.peek()?;
        let start = self.at;
        self.skip()?;
        Some(&self.bytes[start..self.at])
    }

    fn skip(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => _ = self.string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                b'}' | b']' | b',' | b':' => return None,
                _ => {
                    let rest = &self.bytes[self.at..];
                    let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b':' | b' ' | b'\t' | b'\r' | b'"');
                    self.at += rest.iter().position(is_end).unwrap_or(rest.len());
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn end(&mut self) -> Option<()> {
        self.peek().is_none().then_some(())
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.bytes.get(self.at)? {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }
}
