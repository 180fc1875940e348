//! Calls of a node's server API over one kept-alive connection, one after the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::node::API_KEY;

pub(crate) struct Api {
    reader: BufReader<TcpStream>,
    port: u16,
}

impl Api {
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("cannot connect to the server API")?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::new(stream), port })
    }

    /// The same data into all channels.
    pub(crate) fn broadcast(&mut self, channels: &[String]) -> Result<()> {
        let body = serde_json::json!({ "channels": channels, "data": { "n": 1 } }).to_string();
        let answer = self.call("broadcast", &body)?;
        ensure!(!answer.contains("\"error\""), "broadcast: {answer:.200}");
        Ok(())
    }

    fn call(&mut self, method: &str, body: &str) -> Result<String> {
        let (port, length) = (self.port, body.len());
        let request = format!(
            "POST /api/{method} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-API-Key: {API_KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.reader.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length) = (String::new(), 0);
        self.reader.read_line(&mut status)?;
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
        let mut answer = vec![0; length];
        self.reader.read_exact(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        ensure!(status.contains(" 200 "), "{method}: {} {answer}", status.trim());
        Ok(answer)
    }
}
