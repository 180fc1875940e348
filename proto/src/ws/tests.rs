//! The decoder from outside: every way to cut a stream, every violation, and how much memory a peer can claim.
//!
//! Streams are built as a client would send them, with a mask that changes from frame to frame.

use std::ops::ControlFlow;

use super::{Decoder, DecoderLimits, Frame, Opcode, Role, Violation, encode_client_frame, frame_header};

mod differential;

const LIMITS: DecoderLimits = DecoderLimits { message_size_max: 1000, validate_utf8: true, role: Role::Server };

/// A tiny generator (xorshift64*): the same numbers on every run, so that a failure can be repeated.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // Zero is the one state that it never leaves.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number in `0..n`; `n` must not be zero.
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % n as u64) as usize
    }
}

/// A [`Frame`] that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Frame<'_>> for Seen {
    fn from(frame: Frame<'_>) -> Self {
        match frame {
            Frame::Message { opcode: Opcode::Text, data } => Self::Text(data.into()),
            Frame::Message { opcode: Opcode::Binary, data } => Self::Binary(data.into()),
            Frame::Ping(data) => Self::Ping(data.into()),
            Frame::Pong(data) => Self::Pong(data.into()),
            Frame::Close { code, reason } => Self::Close(code, reason.into()),
        }
    }
}

/// What came of a stream: the frames and the close code of the violation that ended it.
type Outcome = (Vec<Seen>, Option<u16>);

/// Feeds `stream` in pieces that end at `cuts` and at its end.
fn decode(stream: &[u8], cuts: &[usize], limits: &DecoderLimits) -> Outcome {
    let (mut decoder, mut seen, mut code) = (Decoder::default(), Vec::new(), None);
    let mut start = 0;
    for &end in cuts.iter().chain([&stream.len()]) {
        let result = feed(&mut decoder, &stream[start..end], limits, &mut seen);
        assert!(code.is_none() || result.is_ok(), "a second violation");
        code = code.or(result.err().map(|violation| violation.code));
        start = end;
    }
    (seen, code)
}

fn feed(decoder: &mut Decoder, bytes: &[u8], limits: &DecoderLimits, seen: &mut Vec<Seen>) -> Result<(), Violation> {
    decoder.feed(&mut bytes.to_vec(), limits, &mut |frame| {
        seen.push(frame.into());
        ControlFlow::Continue(())
    })
}

/// The bytes of frames given as first byte and payload.
fn stream(frames: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (i, (opcode_byte, payload)) in (1u8..).zip(frames) {
        encode_client_frame(*opcode_byte, payload, [i, 0x5a ^ i, 0xff, i << 3], &mut bytes);
    }
    bytes
}

/// The header of a masked frame that declares `len`, without a payload.
fn declare(opcode_byte: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![opcode_byte, 0xff];
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(&[1, 2, 3, 4]);
    bytes
}

/// Commands would be lost, joined or garbled depending on how the network cut the client's bytes.
#[test]
fn every_cut_gives_the_same_frames() {
    use Seen::{Binary, Close, Ping, Pong, Text};
    let (long, longer) = ([b'x'; 126], [0xfe; 300]);
    type Case<'a> = (&'a [(u8, &'a [u8])], Vec<Seen>, Option<u16>);
    let cases: [Case<'_>; 14] = [
        (&[(0x81, b"")], vec![Text(vec![])], None),
        (
            &[(0x81, b"one"), (0x82, b"\xff\xfe"), (0x81, "zwei €".as_bytes())],
            vec![Text(b"one".into()), Binary(b"\xff\xfe".into()), Text("zwei €".into())],
            None,
        ),
        // Lengths of 16 bits, and one of 64 bits that would fit in fewer is below.
        (&[(0x82, &long), (0x82, &longer)], vec![Binary(long.into()), Binary(longer.into())], None),
        (&[(0x01, b"a"), (0x00, b"b"), (0x80, b"c"), (0x81, b"d")], vec![Text(b"abc".into()), Text(b"d".into())], None),
        // Empty fragments, at either end and all of them.
        (
            &[(0x02, b""), (0x00, b""), (0x80, b"x"), (0x02, b"y"), (0x80, b""), (0x01, b""), (0x80, b"")],
            vec![Binary(b"x".into()), Binary(b"y".into()), Text(vec![])],
            None,
        ),
        // Control frames inside a message, and a close in place of its end.
        (
            &[(0x01, b"he"), (0x89, b"ping"), (0x00, b"ll"), (0x8a, b""), (0x89, b""), (0x80, b"o")],
            vec![Ping(b"ping".into()), Pong(vec![]), Ping(vec![]), Text(b"hello".into())],
            None,
        ),
        (&[(0x02, b"he"), (0x88, b"\x03\xe8bye"), (0x80, b"llo")], vec![Close(Some(1000), "bye".into())], None),
        (&[(0x88, b""), (0xff, b"ignored")], vec![Close(None, String::new())], None),
        // Characters cut by fragments, with a ping inside a character.
        (
            &[(0x01, b"\xe2\x82"), (0x89, b"\xe2"), (0x00, b"\xac\xf0"), (0x00, b"\x9f\x98"), (0x80, b"\x80")],
            vec![Ping(b"\xe2".into()), Text("€😀".into())],
            None,
        ),
        // What came before a violation was handed over.
        (&[(0x81, b"a"), (0x80, b"b"), (0x81, b"c")], vec![Text(b"a".into())], Some(1002)),
        (&[(0x81, b"a"), (0x01, b"\xe2\x82"), (0x80, b"")], vec![Text(b"a".into())], Some(1007)),
        (&[(0x8a, b"a"), (0x81, b"b\xffc")], vec![Pong(b"a".into())], Some(1007)),
        (&[(0x02, &longer), (0x00, &[0; 700]), (0x80, b"!")], vec![], Some(1009)),
        (&[(0x89, &[7; 125]), (0x88, b"\x03")], vec![Ping(vec![7; 125])], Some(1002)),
    ];
    let mut random = Random::new(1);
    for (frames, seen, code) in cases {
        let bytes = stream(frames);
        let expected = (seen, code);
        assert_eq!(decode(&bytes, &[], &LIMITS), expected, "in one piece");
        let every: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(decode(&bytes, &every, &LIMITS), expected, "byte by byte");
        for first in 0..=bytes.len() {
            assert_eq!(decode(&bytes, &[first], &LIMITS), expected, "cut at {first}");
            // All pairs near each other: both cuts in one header, one character, one control frame.
            for second in first..bytes.len().min(first + 16) {
                assert_eq!(decode(&bytes, &[first, second], &LIMITS), expected, "{first} {second}");
            }
        }
        for _ in 0..200 {
            let mut cuts: Vec<usize> = (0..random.below(12)).map(|_| random.below(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            assert_eq!(decode(&bytes, &cuts, &LIMITS), expected, "cuts at {cuts:?}");
        }
    }
}

/// A broken or hostile client would be served on, or told a wrong reason, or noticed only after it has cost memory.
#[test]
fn violations_come_with_the_byte_that_shows_them() {
    let fragment = stream(&[(0x01, b"ab")]);
    let after = |frames: &[(u8, &[u8])]| [fragment.clone(), stream(frames)].concat();
    // Stream, close code, number of bytes after which it must be known.
    let mut cases = vec![
        (b"\x81\x00".to_vec(), 1002, 2),
        (b"\x81\x02ab".to_vec(), 1002, 2),
        (stream(&[(0x80, b"a")]), 1002, 6),
        (after(&[(0x81, b"")]), 1002, 14),
        (after(&[(0x02, b"")]), 1002, 14),
        (after(&[(0x80, b"cd"), (0x00, b"ef")]), 1002, 22),
        // Control frames: fragmented, long.
        (stream(&[(0x09, b"a")]), 1002, 6),
        (stream(&[(0x08, b"")]), 1002, 6),
        (stream(&[(0x8a, &[0; 126])]), 1002, 8),
        (stream(&[(0x88, &[0; 126])]), 1002, 8),
        (declare(0x89, 1), 1002, 14),
        // Close payloads are judged as a whole.
        (stream(&[(0x88, b"\x03")]), 1002, 7),
        (stream(&[(0x88, b"\x03\xed")]), 1002, 8),
        (stream(&[(0x88, b"\x03\xe8\xff\xff")]), 1002, 10),
        // Lengths.
        (declare(0x82, 1001), 1009, 14),
        (declare(0x01, u64::MAX >> 1), 1009, 14),
        (declare(0x82, 1 << 63), 1002, 14),
        (stream(&[(0x82, &[0; 1001])]), 1009, 8),
        ([fragment.clone(), declare(0x80, 999)].concat(), 1009, 22),
        ([fragment.clone(), declare(0x00, u64::MAX >> 1)].concat(), 1009, 22),
        // Text: a byte that fits nowhere, a surrogate, beyond the last character, an end inside a character.
        (stream(&[(0x81, b"ab\xffcd")]), 1007, 9),
        (stream(&[(0x01, b"\xed\xa0\x80")]), 1007, 8),
        (stream(&[(0x81, b"\xf4\x90\x80\x80")]), 1007, 8),
        (stream(&[(0x81, b"a\xe2\x82")]), 1007, 9),
        (stream(&[(0x01, b"\xe2"), (0x89, b""), (0x80, b"(")]), 1007, 20),
        (stream(&[(0x01, b"\xe2"), (0x80, b"")]), 1007, 13),
    ];
    for reserved in [0x83, 0x87, 0x8b, 0x8f, 0x03, 0x0f, 0xc1, 0xa2, 0x91, 0xc9, 0xf0, 0x40] {
        cases.push((stream(&[(reserved, b"")]), 1002, 6));
    }
    for (mut bytes, code, at) in cases {
        bytes.extend_from_slice(&stream(&[(0x81, b"later")]));
        let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
        for (i, byte) in bytes.iter().enumerate() {
            match feed(&mut decoder, &[*byte], &LIMITS, &mut seen) {
                Ok(()) => assert_ne!(i + 1, at, "{code} missed in {bytes:x?}"),
                Err(violation) => assert_eq!((violation.code, i + 1), (code, at), "{bytes:x?}"),
            }
        }
        assert_eq!(decoder.held_bytes(), 0);
        seen.retain(|frame| *frame == Seen::Text(b"later".into()));
        assert_eq!(seen, [], "{bytes:x?}");
        assert_eq!(decode(&bytes, &[], &LIMITS).1, Some(code), "{bytes:x?}");
    }
}

/// Deployments with clients that send text in other encodings rely on the default.
#[test]
fn text_is_not_validated_unless_asked() {
    let limits = DecoderLimits { validate_utf8: false, ..LIMITS };
    let bytes = stream(&[(0x81, b"\xff"), (0x01, b"\xe2"), (0x80, b"\xff")]);
    let expected = (vec![Seen::Text(b"\xff".into()), Seen::Text(b"\xe2\xff".into())], None);
    for cut in 0..bytes.len() {
        assert_eq!(decode(&bytes, &[cut], &limits), expected);
    }
}

/// A message of the documented size would be refused, or one more byte accepted.
#[test]
fn the_limit_is_exact_and_counts_payload_of_messages_only() {
    let ping = [0; 125];
    for message_size_max in [0, 1, 125, 126, 65_535, 65_536, 70_000] {
        let limits = DecoderLimits { message_size_max, ..LIMITS };
        let data = vec![b'x'; message_size_max];
        for part in [0, message_size_max / 2, message_size_max] {
            let whole = stream(&[(0x82, &data)]);
            let parts = stream(&[(0x02, &data[..part]), (0x89, &ping), (0x00, b""), (0x80, &data[part..])]);
            for bytes in [&whole, &parts] {
                let (seen, code) = decode(bytes, &[bytes.len() / 2], &limits);
                assert_eq!((seen.last(), code), (Some(&Seen::Binary(data.clone())), None));
            }
            let over = stream(&[(0x02, &data[..part]), (0x00, &data[part..]), (0x89, &ping), (0x80, b"!")]);
            assert_eq!(decode(&over, &[], &limits), (vec![Seen::Ping(ping.into())], Some(1009)));
        }
    }
    // More bytes of length than needed are allowed by common implementations, and the limit is for what it says.
    let bytes = [declare(0x82, 3), b"\x01\x02\x03".to_vec()].concat();
    assert_eq!(decode(&bytes, &[12], &LIMITS), (vec![Seen::Binary(vec![0; 3])], None));
}

/// Hundreds of thousands of idle connections would cost memory for messages long gone.
#[test]
fn an_idle_decoder_owns_nothing() {
    assert!(size_of::<Decoder>() <= 16);
    let frames: [&[(u8, &[u8])]; 4] = [
        &[(0x81, b"whole")],
        &[(0x01, b"a"), (0x80, b"b")],
        &[(0x89, b"ping")],
        &[(0x02, b"a"), (0x8a, b"pong"), (0x00, b""), (0x80, b"")],
    ];
    let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
    for frames in frames {
        let bytes = stream(frames);
        for cut in 0..bytes.len() {
            for piece in [&bytes[..cut], &[], &bytes[cut..]] {
                feed(&mut decoder, piece, &LIMITS, &mut seen).unwrap();
            }
            assert_eq!(decoder.held_bytes(), 0, "{frames:x?} cut at {cut}");
        }
    }
}

/// A few thousand clients that declare large messages and send nothing would exhaust the node.
#[test]
fn memory_follows_what_arrived() {
    const OVERHEAD: usize = 256;
    let limits = DecoderLimits { message_size_max: 1 << 40, ..LIMITS };
    for opcode_byte in [0x82, 0x02] {
        let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
        feed(&mut decoder, &declare(opcode_byte, 1 << 40), &limits, &mut seen).unwrap();
        assert!(decoder.held_bytes() <= OVERHEAD);
        for pieces in 1..300 {
            feed(&mut decoder, &[0; 1000], &limits, &mut seen).unwrap();
            assert!(decoder.held_bytes() <= OVERHEAD + 2 * 1000 * pieces, "{}", decoder.held_bytes());
        }
    }
    // The last frame's length is known: no byte more than the message.
    let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
    let bytes = stream(&[(0x82, &[0; 65_537])]);
    for piece in bytes[..bytes.len() - 1].chunks(999) {
        feed(&mut decoder, piece, &limits, &mut seen).unwrap();
        assert!(decoder.held_bytes() <= OVERHEAD + 65_537);
    }
    // Fragments of one byte must not make the message move each time.
    let (mut decoder, mut moves, mut held) = (Decoder::default(), 0, 0);
    feed(&mut decoder, &stream(&[(0x02, b"")]), &limits, &mut seen).unwrap();
    for len in 1..=20_000 {
        feed(&mut decoder, &stream(&[(0x00, b"x")]), &limits, &mut seen).unwrap();
        moves += usize::from(decoder.held_bytes() != held);
        held = decoder.held_bytes();
        assert!(held <= OVERHEAD + 2 * len);
    }
    assert!(moves <= 17, "{moves}");
}

/// Every publish would pay for a copy.
#[test]
fn messages_of_one_frame_stay_where_they_are() {
    let mut bytes = stream(&[(0x81, b"{}"), (0x89, b"p"), (0x82, &[5; 700])]);
    // The first header comes alone, as if it were the end of a receive.
    let (header, rest) = bytes.split_at_mut(6);
    let (range, mut count) = (rest.as_ptr_range(), 0);
    let mut decoder = Decoder::default();
    for piece in [header, rest] {
        let fed = decoder.feed(piece, &LIMITS, &mut |frame| {
            let (Frame::Message { data, .. } | Frame::Ping(data)) = frame else { panic!("{frame:?}") };
            assert!(range.contains(&data.as_ptr()));
            count += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(fed, Ok(()));
    }
    assert_eq!(count, 3);
}

/// A connection that is being closed would go on to execute commands.
#[test]
fn nothing_follows_a_break() {
    let mut bytes = stream(&[(0x81, b"a"), (0x81, b"b"), (0xff, b"")]);
    let (mut decoder, mut count) = (Decoder::default(), 0);
    for _ in 0..2 {
        let fed = decoder.feed(&mut bytes, &LIMITS, &mut |_| {
            count += 1;
            ControlFlow::Break(())
        });
        assert_eq!(fed, Ok(()));
    }
    assert_eq!((count, decoder.held_bytes()), (1, 0));
}

/// The load generator reads what a node sends with the same code.
#[test]
fn a_client_takes_unmasked_frames_only() {
    let limits = DecoderLimits { role: Role::Client, ..LIMITS };
    let (header, len) = frame_header(0x81, 300);
    let bytes = [&header[..len], &[b'x'; 300]].concat();
    for cut in 0..bytes.len() {
        assert_eq!(decode(&bytes, &[cut], &limits), (vec![Seen::Text(vec![b'x'; 300])], None));
    }
    assert_eq!(decode(&stream(&[(0x81, b"a")]), &[], &limits), (vec![], Some(1002)));
}
