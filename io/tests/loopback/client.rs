//! A client that does exactly what a test says, also what no decent client would do.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use gyre_proto::ws::encode_client_frame;

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const UPGRADE: &str = "GET /ws HTTP/1.1\r\nhost: here\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    pub(crate) fn websocket(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        client.write(UPGRADE.as_bytes());
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub(crate) fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.write(&frame(opcode, payload));
    }

    pub(crate) fn read(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// One HTTP head with its empty line.
    pub(crate) fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.read(1));
        }
        String::from_utf8(head).unwrap()
    }

    /// Status and body of an answer with a content length.
    pub(crate) fn read_answer(&mut self) -> (u16, Vec<u8>) {
        let head = self.read_head().to_ascii_lowercase();
        let status = head[9..12].parse().unwrap();
        let len =
            head.split("content-length: ").nth(1).map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
        (status, self.read(len))
    }

    /// First byte and payload of one frame.
    pub(crate) fn read_frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.read(2);
        let len = match head[1] {
            126 => u64::from(u16::from_be_bytes(self.read(2).try_into().unwrap())),
            127 => u64::from_be_bytes(self.read(8).try_into().unwrap()),
            len => u64::from(len),
        };
        (head[0], self.read(usize::try_from(len).unwrap()))
    }

    /// Code and reason of a close frame, which must be next.
    pub(crate) fn read_close(&mut self) -> (u16, String) {
        let (opcode, payload) = self.read_frame();
        assert_eq!(opcode, CLOSE);
        (u16::from_be_bytes([payload[0], payload[1]]), String::from_utf8(payload[2..].to_vec()).unwrap())
    }

    /// The server must end the connection without saying more, politely or by a reset.
    pub(crate) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
        assert!(rest.is_empty(), "{rest:?}");
    }

    pub(crate) fn end_writing(&mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }
}

/// A masked frame.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_client_frame(opcode, payload, [0x3a, 0x5c, 0x01, 0xff], &mut bytes);
    bytes
}

/// A masked close frame.
pub(crate) fn close_frame(code: u16) -> Vec<u8> {
    frame(CLOSE, &code.to_be_bytes())
}

/// Bytes that differ everywhere.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(step).collect()
}
