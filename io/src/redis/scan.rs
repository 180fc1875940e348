//! Where one reply ends and the next begins, found before anything is decoded.
//!
//! On a core's thread; looks at every byte once, however the bytes were split, so that a large reply that arrives in
//! thousands of pieces costs no more than one that arrives whole. The decoder behind it (redis-protocol) starts over with
//! each call, recurses as deep as the bytes say and takes as many values as they say: it only ever gets complete replies
//! that passed here. Must never trust an announced length: nothing is allocated for it.
//!
//! Three things are changed in place, each the first byte of a line. `~` becomes `*`: a set is an array to us, and the
//! decoder would hash its members and refuse arrays among them. `$-1` and `*-1` become `_-1`: nil of RESP2 is all that the
//! RESP3 decoder does not know of it, and it reads over what follows `_`. So one decoder does for both.

use crate::limits::{REDIS_LINE_BYTES_MAX, REDIS_REPLY_BYTES_MAX, REDIS_REPLY_DEPTH_MAX, REDIS_REPLY_ELEMENTS_MAX};

/// What is wrong with bytes that are not Redis' protocol, or go beyond our bounds.
pub(super) type Malformed = &'static str;

#[derive(Debug, PartialEq)]
pub(super) enum Scan {
    /// More bytes are needed.
    Incomplete,
    /// So many bytes are a reply or a push.
    Frame(usize),
    /// So many bytes say something about the reply that follows which nobody here wants to know (an attribute).
    Skip(usize),
}

/// The place in the reply that is arriving.
pub(super) struct Scanner {
    resp3: bool,
    /// Bytes of the reply that are done with.
    at: usize,
    /// Bytes in which no end of the current line was found.
    looked: usize,
    /// Bytes of a string, with the line end behind it, that follow at `at`.
    body: usize,
    elements: usize,
    open: [Open; REDIS_REPLY_DEPTH_MAX],
    depth: usize,
}

/// An array, map, attribute or push whose elements are arriving.
#[derive(Clone, Copy, Default)]
struct Open {
    left: usize,
    attribute: bool,
}

impl Scanner {
    pub(super) fn new(resp3: bool) -> Self {
        let open = [Open::default(); REDIS_REPLY_DEPTH_MAX];
        Self { resp3, at: 0, looked: 0, body: 0, elements: 0, open, depth: 0 }
    }

    /// Goes on with `input`, which begins with the reply that is arriving. After an error there is no going on.
    pub(super) fn scan(&mut self, input: &mut [u8]) -> Result<Scan, Malformed> {
        loop {
            let element = if self.body > 0 {
                if !self.string(input)? {
                    return Ok(Scan::Incomplete);
                }
                Element::Whole
            } else {
                match self.line(input)? {
                    Some(element) => element,
                    None => return Ok(Scan::Incomplete),
                }
            };
            let end = match element {
                Element::Whole => self.done(false),
                Element::Empty { attribute } => self.done(attribute),
                Element::Begun => None,
            };
            if let Some(scan) = end {
                *self = Self::new(self.resp3);
                return Ok(scan);
            }
        }
    }

    /// The string whose length is known. False if it is not complete.
    fn string(&mut self, input: &[u8]) -> Result<bool, Malformed> {
        let end = self.at + self.body;
        if input.len() < end {
            return Ok(false);
        }
        if input[end - 2..end] != *b"\r\n" {
            return Err("a string that does not end where it should");
        }
        self.step_to(end);
        self.body = 0;
        Ok(true)
    }

    /// The next line: a simple value, or what announces a string or an array. None if it is not complete.
    fn line(&mut self, input: &mut [u8]) -> Result<Option<Element>, Malformed> {
        let Some(end) = self.line_end(input)? else { return Ok(None) };
        let start = self.at;
        self.step_to(end + 2);
        let (kind, text) = (input[start], &input[start + 1..end]);
        match kind {
            b'+' | b'-' | b':' => Ok(Some(Element::Whole)),
            b'$' | b'*' if text == b"-1" => {
                input[start] = b'_';
                Ok(Some(Element::Whole))
            }
            b'$' => self.begin_string(number(text)?),
            b'*' => self.begin(number(text)?, false),
            _ if !self.resp3 => Err("a kind of value that RESP2 does not have"),
            b',' | b'(' => Ok(Some(Element::Whole)),
            b'_' if text.is_empty() => Ok(Some(Element::Whole)),
            b'#' if matches!(text, b"t" | b"f") => Ok(Some(Element::Whole)),
            b'!' => self.begin_string(number(text)?),
            b'=' => match number(text)? {
                0..4 => Err("a verbatim string without its format"),
                length => self.begin_string(length),
            },
            b'~' => {
                let count = number(text)?;
                input[start] = b'*';
                self.begin(count, false)
            }
            b'%' => self.begin(2 * number(text)?, false),
            b'|' => self.begin(2 * number(text)?, true),
            b'>' if self.depth == 0 => self.begin(number(text)?, false),
            _ => Err("a kind of value that does not exist"),
        }
    }

    /// Where the line that begins at `at` ends, without its two last bytes.
    fn line_end(&mut self, input: &[u8]) -> Result<Option<usize>, Malformed> {
        loop {
            let rest = input.get(self.looked..).unwrap_or_default();
            let Some(found) = rest.iter().position(|byte| *byte == b'\n') else {
                self.looked = input.len();
                if input.len() - self.at > REDIS_LINE_BYTES_MAX {
                    return Err("a line without end");
                }
                return Ok(None);
            };
            let newline = self.looked + found;
            self.looked = newline + 1;
            // At least one byte before the line end: the kind.
            if newline > self.at + 1 && input[newline - 1] == b'\r' {
                return Ok(Some(newline - 1));
            }
            if newline <= self.at + 1 {
                return Err("an empty line");
            }
        }
    }

    fn begin_string(&mut self, length: usize) -> Result<Option<Element>, Malformed> {
        self.body = length + 2;
        if self.at + self.body > REDIS_REPLY_BYTES_MAX {
            return Err("a reply larger than we accept");
        }
        Ok(Some(Element::Begun))
    }

    fn begin(&mut self, count: usize, attribute: bool) -> Result<Option<Element>, Malformed> {
        if count == 0 {
            return Ok(Some(Element::Empty { attribute }));
        }
        self.elements += count;
        if self.elements > REDIS_REPLY_ELEMENTS_MAX || self.at > REDIS_REPLY_BYTES_MAX {
            return Err("a reply larger than we accept");
        }
        if self.depth == REDIS_REPLY_DEPTH_MAX {
            return Err("a reply nested deeper than we accept");
        }
        self.open[self.depth] = Open { left: count, attribute };
        self.depth += 1;
        Ok(Some(Element::Begun))
    }

    /// An element is complete, and with it perhaps those that it is the last part of. Some if the reply is.
    fn done(&mut self, mut attribute: bool) -> Option<Scan> {
        loop {
            if self.depth == 0 {
                return Some(if attribute { Scan::Skip(self.at) } else { Scan::Frame(self.at) });
            }
            if attribute {
                return None; // what it is about follows and is the element
            }
            let open = &mut self.open[self.depth - 1];
            open.left -= 1;
            if open.left > 0 {
                return None;
            }
            attribute = open.attribute;
            self.depth -= 1;
        }
    }

    fn step_to(&mut self, at: usize) {
        self.at = at;
        self.looked = at;
    }
}

enum Element {
    Whole,
    Empty { attribute: bool },
    Begun,
}

/// A length or a count: digits only, and no more of them than our bounds have.
fn number(text: &[u8]) -> Result<usize, Malformed> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err("a length that is no number");
    }
    if text.len() > 9 {
        return Err("a reply larger than we accept");
    }
    Ok(text.iter().fold(0, |value, digit| value * 10 + usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(resp3: bool, text: &[u8]) -> Result<Scan, Malformed> {
        Scanner::new(resp3).scan(&mut text.to_vec())
    }

    /// A wrong end would give one command the answer of another: somebody reads the history of a channel that is not his.
    #[test]
    fn the_end_of_a_reply_is_found() {
        let whole: [&[u8]; 12] = [
            b"+OK\r\n",
            b"-ERR a \r lonely carriage return, \n and a line feed\r\n",
            b":-12\r\n",
            b"$0\r\n\r\n",
            b"$4\r\n\r\n\r\n\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*2\r\n*2\r\n:1\r\n*0\r\n$1\r\na\r\n",
            b"%1\r\n+key\r\n~2\r\n_\r\n#t\r\n",
            b"*2\r\n|1\r\n+ttl\r\n:1\r\n,1.5\r\n=5\r\ntxt:a\r\n",
            b">3\r\n+message\r\n+a\r\n!3\r\nERR\r\n",
        ];
        for text in whole {
            let behind = [text, b"+OK\r\n"].concat();
            assert_eq!(scan(true, &behind), Ok(Scan::Frame(text.len())), "{}", text.escape_ascii());
        }
        assert_eq!(scan(true, b"|1\r\n+ttl\r\n*1\r\n:1\r\n+OK\r\n"), Ok(Scan::Skip(18)));
        assert_eq!(scan(true, b"|0\r\n+OK\r\n"), Ok(Scan::Skip(4)));
    }

    /// Something that is not Redis answers at the address, or Redis is asked for too much: the connection ends instead of
    /// the process.
    #[test]
    fn what_is_no_reply_is_refused() {
        let deep = b"*1\r\n".repeat(REDIS_REPLY_DEPTH_MAX + 1);
        let long = [b"+".as_slice(), &vec![b'a'; REDIS_LINE_BYTES_MAX + 1]].concat();
        let refused: [&[u8]; 18] = [
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\r\n",
            b"\n",
            b"a\r\n",
            b"$\r\n",
            b"$-2\r\n",
            b"$+2\r\n",
            b"$99999999999999999999\r\n",
            b"$999999999\r\n",
            b"*99999999\r\n",
            b"$?\r\n",
            b"$1\r\nabc",
            b"=3\r\ntxt\r\n",
            b"_1\r\n",
            b"#y\r\n",
            b"~1\r\n>1\r\n+a\r\n",
            &deep,
            &long,
        ];
        for text in refused {
            assert!(scan(true, text).is_err(), "{}", text[..text.len().min(30)].escape_ascii());
        }
        assert!(scan(false, b"_\r\n").is_err());
        assert_eq!(scan(true, &b"*1\r\n".repeat(REDIS_REPLY_DEPTH_MAX)), Ok(Scan::Incomplete));
    }

    /// Bounds are those of one reply: a connection must not end after some days because of all that it ever read.
    #[test]
    fn replies_do_not_add_up() {
        let mut scanner = Scanner::new(true);
        let mut reply = [b"*1000000\r\n".as_slice(), &b":1\r\n".repeat(1_000_000)].concat();
        for _ in 0..=REDIS_REPLY_ELEMENTS_MAX / 1_000_000 {
            assert_eq!(scanner.scan(&mut reply), Ok(Scan::Frame(reply.len())));
        }
    }
}
