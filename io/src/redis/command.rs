//! A command as Redis reads it: an array of length-prefixed strings, so an argument may hold any bytes.
//!
//! Written straight into the output buffer of a connection on a core's thread; nothing is allocated but what that buffer
//! grows by. Must never be given a wrong number of parts: Redis would read the next command as arguments. Debug builds
//! check it.

/// One command being written.
pub struct Command<'a> {
    out: &'a mut Vec<u8>,
    left: usize,
}

impl<'a> Command<'a> {
    /// Begins a command of `parts` parts, its name included.
    pub fn new(out: &'a mut Vec<u8>, parts: usize) -> Self {
        header(out, b'*', parts as u64);
        Self { out, left: parts }
    }

    /// As `new`; the caller appends the parts that are missing, as they are on the wire.
    pub(super) fn new_open(out: &'a mut Vec<u8>, parts: usize) -> OpenCommand<'a> {
        header(out, b'*', parts as u64);
        OpenCommand(out)
    }

    /// The last `parts` parts of a command that `new_open` has begun, or will.
    pub(super) fn rest(out: &'a mut Vec<u8>, parts: usize) -> Self {
        Self { out, left: parts }
    }

    /// A part of any bytes.
    pub fn arg(&mut self, bytes: &[u8]) -> &mut Self {
        debug_assert!(self.left > 0, "more parts than announced");
        self.left = self.left.saturating_sub(1);
        part(self.out, bytes);
        self
    }

    /// A part that is a number in decimal.
    pub fn int(&mut self, value: i64) -> &mut Self {
        let mut digits = [0; DIGITS];
        let mut start = decimal(value.unsigned_abs(), &mut digits);
        if value < 0 {
            start -= 1;
            digits[start] = b'-';
        }
        self.arg(&digits[start..])
    }
}

/// The beginning of a command whose end is on the wire already.
pub(super) struct OpenCommand<'a>(&'a mut Vec<u8>);

impl OpenCommand<'_> {
    pub(super) fn arg(&mut self, bytes: &[u8]) -> &mut Self {
        part(self.0, bytes);
        self
    }
}

impl Drop for Command<'_> {
    fn drop(&mut self) {
        debug_assert!(self.left == 0 || std::thread::panicking(), "fewer parts than announced");
    }
}

/// 20 digits of 2^64, or a sign and the 19 of 2^63.
const DIGITS: usize = 20;

fn part(out: &mut Vec<u8>, bytes: &[u8]) {
    header(out, b'$', bytes.len() as u64);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn header(out: &mut Vec<u8>, kind: u8, count: u64) {
    let mut digits = [0; DIGITS];
    let start = decimal(count, &mut digits);
    out.push(kind);
    out.extend_from_slice(&digits[start..]);
    out.extend_from_slice(b"\r\n");
}

/// Writes `value` to the end of `digits`; returns where it begins.
fn decimal(mut value: u64, digits: &mut [u8; DIGITS]) -> usize {
    let mut start = DIGITS;
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A channel name or a payload may hold anything; were it not length-prefixed, it could end its command and begin
    /// another one.
    #[test]
    fn a_command_is_length_prefixed_strings() {
        let mut out = Vec::new();
        Command::new(&mut out, 4).arg(b"SET").arg(b"a\r\nDEL b\r\n\0\xff").int(i64::MIN).arg(b"");
        Command::new(&mut out, 3).arg(b"INCRBY").int(0).int(1_234_567);
        let expected = b"*4\r\n$3\r\nSET\r\n$12\r\na\r\nDEL b\r\n\0\xff\r\n$20\r\n-9223372036854775808\r\n$0\r\n\r\n\
            *3\r\n$6\r\nINCRBY\r\n$1\r\n0\r\n$7\r\n1234567\r\n";
        assert_eq!(out, expected);
    }

    /// A forgotten argument would make Redis swallow the next command; it must show in the first test that runs it.
    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "fewer parts")]
    fn a_forgotten_part_is_noticed() {
        Command::new(&mut Vec::new(), 2).arg(b"GET");
    }

    /// As above, for one too many.
    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "more parts")]
    fn a_part_too_many_is_noticed() {
        Command::new(&mut Vec::new(), 1).arg(b"GET").arg(b"a");
    }
}
