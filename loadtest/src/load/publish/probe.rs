//! One harmless call of the server API before anything is dialled: is it there, and does it take the key?
//!
//! A wrong key would otherwise show only after a hold of hours, when the first publication is due. On the main thread,
//! over a plain blocking socket with a deadline; asks for `info`, which changes nothing. What else goes wrong here is told
//! as a note: not every server has the method, and the run itself will say whether publishing works.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::Publishing;
use crate::codes::explained;

/// The longest head of an answer that is read.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    Fine,
    Noted(String),
    Refused(String),
}

/// Makes the call.
pub(crate) fn probe(publishing: &Publishing, timeout: Duration) -> Probe {
    let url = format!("http://{}{}", publishing.api.authority, publishing.api.path);
    match call(publishing, timeout) {
        Ok(200) => Probe::Fine,
        Ok(status @ (401 | 403)) => {
            let status = explained(&format!("http {status}"));
            Probe::Refused(match publishing.api_key {
                Some(_) => format!("the server API at {url} does not take the key: {status}; see --api-key"),
                None => format!("the server API at {url} wants a key: {status}; give it with --api-key KEY"),
            })
        }
        Ok(404) => Probe::Noted(format!(
            "the server API at {url} has no method `info`: http 404; if it has no `publish` either, say where it is with \
             --api-url"
        )),
        Ok(status) => Probe::Noted(format!(
            "the server API at {url} answers `info` with {}",
            explained(&format!("http {status}"))
        )),
        Err(error) => Probe::Noted(format!("the server API at {url} does not answer: {error}; see --api-url")),
    }
}

/// The status of the answer.
fn call(publishing: &Publishing, timeout: Duration) -> io::Result<u16> {
    let until = Instant::now() + timeout;
    let mut socket = TcpStream::connect_timeout(&publishing.api.address, timeout)?;
    socket.set_write_timeout(Some(timeout))?;
    let mut request = Vec::new();
    publishing.write_post("/info", b"{}", &mut request);
    socket.write_all(&request)?;
    let mut head = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // A timeout of zero would mean none.
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut bytes = [0; 1024];
        let count = match socket.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            other => other?,
        };
        head.extend_from_slice(&bytes[..count]);
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut answer = httparse::Response::new(&mut headers);
        match answer.parse(&head) {
            Ok(httparse::Status::Complete(_)) => return Ok(answer.code.unwrap_or(0)),
            Ok(httparse::Status::Partial) if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(httparse::Status::Partial) if head.len() < HEAD_BYTES_MAX => {}
            _ => return Err(io::Error::other("that is not http")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::load::spec::Pace;
    use crate::options::Via;
    use crate::plan::Endpoint;

    fn probed(answer: &'static [u8], api_key: Option<&str>) -> (Probe, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n{}") {
                let mut bytes = [0; 1024];
                let count = socket.read(&mut bytes).unwrap();
                request.extend_from_slice(&bytes[..count]);
            }
            socket.write_all(answer).unwrap();
            String::from_utf8(request).unwrap()
        });
        let publishing = Publishing {
            via: Via::Http,
            pace: Pace::Ordered,
            batch: 1,
            burst: false,
            connections: 1,
            pipeline: 1,
            ordered: true,
            size: 64,
            api: Endpoint { address, authority: "here:1".to_owned(), path: "/api".to_owned() },
            api_key: api_key.map(str::to_owned),
        };
        let probe = probe(&publishing, Duration::from_secs(20));
        (probe, server.join().unwrap())
    }

    /// Only a key that is missing or wrong may keep a run from starting: everything else can work in the run.
    #[test]
    fn only_a_key_is_refused() {
        let (fine, request) = probed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Some("k"));
        assert_eq!(fine, Probe::Fine);
        assert!(request.starts_with("POST /api/info HTTP/1.1\r\nHost: here:1\r\nX-API-Key: k\r\n"), "{request}");
        let refused = |answer, key, part: &str| {
            let Probe::Refused(text) = probed(answer, key).0 else { panic!("{part}") };
            assert!(text.contains(part) && text.contains("--api-key") && text.contains("here:1/api"), "{text}");
        };
        refused(b"HTTP/1.1 401 Unauthorized\r\n\r\n", None, "wants a key: http 401 (unauthorized)");
        refused(b"HTTP/1.1 401 Unauthorized\r\n\r\n", Some("k"), "does not take the key");
        refused(b"HTTP/1.1 403 Forbidden\r\n\r\n", Some("k"), "http 403 (forbidden)");
        let noted = |answer, part: &str| {
            let Probe::Noted(text) = probed(answer, None).0 else { panic!("{part}") };
            assert!(text.contains(part), "{text}");
        };
        noted(b"HTTP/1.1 404 Not Found\r\n\r\n", "--api-url");
        noted(b"HTTP/1.1 500 No\r\n\r\n", "http 500 (internal server error)");
        noted(b"SSH-2.0-x\r\n", "not http");
        noted(b"", "does not answer");
    }
}
