//! A conversation with Redis over a blocking socket: to ask it how things are, and to do by hand what a node does.
//!
//! RESP2, one command after the other. Runs on the thread of `main`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A reply; an error is the `Err` of who reads it.
#[derive(Debug, PartialEq)]
pub(crate) enum Value {
    Nil,
    Int(i64),
    Text(Vec<u8>),
    Array(Vec<Self>),
}

impl Value {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Int(number) => number.to_string(),
            Self::Nil | Self::Array(_) => String::new(),
        }
    }
}

pub(crate) struct Resp {
    reader: BufReader<TcpStream>,
}

const TIMEOUT: Duration = Duration::from_secs(20);

impl Resp {
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("cannot connect to redis")?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    pub(crate) fn ask(&mut self, arguments: &[&str]) -> Result<Value> {
        self.send(&encode(arguments))?;
        self.read().with_context(|| format!("redis: {}", arguments[0]))
    }

    /// Sends what was encoded before.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.reader.get_mut().write_all(bytes)?)
    }

    pub(crate) fn read(&mut self) -> Result<Value> {
        read(&mut self.reader)
    }
}

/// A command as Redis takes it.
pub(crate) fn encode(arguments: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n{argument}\r\n", argument.len()).as_bytes());
    }
    bytes
}

fn read(reader: &mut impl BufRead) -> Result<Value> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let line = line.trim_end();
    let Some((kind, rest)) = line.split_at_checked(1) else { bail!("the connection was closed") };
    Ok(match kind {
        "+" => Value::Text(rest.into()),
        "-" => bail!("{rest}"),
        ":" => Value::Int(rest.parse()?),
        "$" | "*" if rest == "-1" => Value::Nil,
        "$" => {
            let mut bytes = vec![0; rest.parse::<usize>()? + 2];
            reader.read_exact(&mut bytes)?;
            bytes.truncate(bytes.len() - 2);
            Value::Text(bytes)
        }
        "*" => Value::Array((0..rest.parse::<usize>()?).map(|_| read(reader)).collect::<Result<_>>()?),
        _ => bail!("not a reply: {line}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Whatever is asked of Redis would be misunderstood.
    #[test]
    fn replies_are_read() {
        let mut bytes: &[u8] = b"*3\r\n:-7\r\n$5\r\na\r\nbc\r\n*2\r\n+OK\r\n$-1\r\n-ERR no\r\n";
        let nested = Value::Array(vec![Value::Text(b"OK".into()), Value::Nil]);
        let expected = Value::Array(vec![Value::Int(-7), Value::Text(b"a\r\nbc".into()), nested]);
        assert_eq!(read(&mut bytes).unwrap(), expected);
        assert_eq!(read(&mut bytes).unwrap_err().to_string(), "ERR no");
        assert!(read(&mut bytes).is_err());
        assert_eq!(encode(&["GET", "ab"]), b"*2\r\n$3\r\nGET\r\n$2\r\nab\r\n");
    }
}
