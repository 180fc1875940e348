//! Answers of the server API on a kept-alive connection: bytes in, status and body out.
//!
//! Lengths and chunks are understood, nothing else: a proxy that answers until it closes the connection cannot be
//! pipelined to anyway. Pure.

/// What to do with the bytes so far.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// A whole answer of so many bytes.
    Answer { status: u16, body: std::ops::Range<usize>, used: usize },
    /// More bytes are needed.
    Partial,
    /// Not HTTP as we understand it.
    Junk,
}

/// Answers longer than this are not of the calls we make.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Looks for a whole answer at the start of `bytes`.
pub(crate) fn step(bytes: &[u8]) -> Step {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let start = match head.parse(bytes) {
        Ok(httparse::Status::Complete(start)) => start,
        Ok(httparse::Status::Partial) if bytes.len() < 64 * 1024 => return Step::Partial,
        _ => return Step::Junk,
    };
    let Some(status) = head.code else { return Step::Junk };
    let find = |name: &str| head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    if find("transfer-encoding").is_some() {
        return chunked(status, bytes, start);
    }
    let len = match find("content-length") {
        Some(header) => std::str::from_utf8(header.value).ok().and_then(|text| text.parse::<usize>().ok()),
        None if matches!(status, 100..=199 | 204 | 304) => Some(0),
        None => None,
    };
    match len {
        Some(len) if len > ANSWER_BYTES_MAX => Step::Junk,
        Some(len) if bytes.len() - start < len => Step::Partial,
        Some(len) => Step::Answer { status, body: start..start + len, used: start + len },
        None => Step::Junk,
    }
}

/// Chunks are not put together: what is looked for in the body (an error) is looked for in all of them at once.
fn chunked(status: u16, bytes: &[u8], start: usize) -> Step {
    let mut at = start;
    loop {
        match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete((head, len))) => {
                let Ok(len) = usize::try_from(len) else { return Step::Junk };
                if len > ANSWER_BYTES_MAX || at - start > ANSWER_BYTES_MAX {
                    return Step::Junk;
                }
                let end = at + head + len + 2;
                if bytes.len() < end {
                    return Step::Partial;
                }
                at = end;
                if len == 0 {
                    return Step::Answer { status, body: start..at, used: at };
                }
            }
            Ok(httparse::Status::Partial) => return Step::Partial,
            Err(_) => return Step::Junk,
        }
    }
}

/// The error codes in the body of a call, one for each publication that was refused.
pub(crate) fn errors(body: &[u8]) -> Vec<u64> {
    // No allocation for the answers of a working server.
    if memchr::memmem::find(body, b"\"error\"").is_none() {
        return Vec::new();
    }
    let finder = memchr::memmem::Finder::new(b"\"code\"");
    let codes = finder.find_iter(body).map(|at| {
        let value = body[at + 6..].iter().skip_while(|byte| matches!(byte, b':' | b' '));
        let digits = value.take_while(|byte| byte.is_ascii_digit());
        digits.fold(0u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    });
    let codes: Vec<u64> = codes.collect();
    if codes.is_empty() { vec![0] } else { codes }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pipelined answers arrive cut anywhere; a wrong cut would count a publication twice or never.
    #[test]
    fn finds_answers_however_they_are_cut() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: 13\r\n\r\n{\"result\":{}}";
        let chunks = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let both = [&plain[..], &chunks[..]].concat();
        for cut in 0..plain.len() {
            assert_eq!(step(&both[..cut]), Step::Partial, "{cut}");
        }
        let Step::Answer { status: 200, body, used } = step(&both) else { panic!() };
        assert_eq!((&both[body], used), (&b"{\"result\":{}}"[..], plain.len()));
        for cut in 0..chunks.len() {
            assert_eq!(step(&both[used..used + cut]), Step::Partial, "{cut}");
        }
        assert!(matches!(step(&both[used..]), Step::Answer { status: 503, used, .. } if used == chunks.len()));
    }

    /// Whatever listens there, its words must not be counted as publications, and not be waited for.
    #[test]
    fn junk_ends_the_connection() {
        for junk in
            [&b"SSH-2.0-x\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"]
        {
            assert_eq!(step(junk), Step::Junk);
        }
    }

    /// A refused publication must not count as published.
    #[test]
    fn errors_of_a_call() {
        assert!(errors(b"{\"result\":{}}").is_empty());
        assert_eq!(errors(br#"{"error":{"code": 102,"message":"unknown channel"}}"#), [102]);
        let batch = br#"{"replies":[{"publish":{}},{"error":{"code":107}},{"error":{"code":100}}]}"#;
        assert_eq!(errors(batch), [107, 100]);
    }
}
