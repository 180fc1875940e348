//! A server that answers each command as the test says, on threads of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use socket2::{Domain, Socket, Type};

/// An address that nobody listens on, reserved for as long as this lives: no other test is given its port.
pub(super) struct Nobody {
    pub(super) address: SocketAddr,
    _bound: Socket,
}

impl Nobody {
    pub(super) fn new() -> Self {
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self { address: bound.local_addr().unwrap().as_socket().unwrap(), _bound: bound }
    }
}

/// Takes a command with its arguments, joined by spaces; returns what goes on the wire.
pub(super) type Answers = dyn Fn(&str) -> String + Send + Sync;

pub(super) struct Server {
    pub(super) address: SocketAddr,
    answers: Arc<Mutex<Arc<Answers>>>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Server {
    pub(super) fn start(answers: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", answers)
    }

    pub(super) fn start_at(at: &str, answers: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let answers: Arc<Mutex<Arc<Answers>>> = Arc::new(Mutex::new(Arc::new(answers)));
        let server = Self {
            address: listener.local_addr().unwrap(),
            answers: Arc::clone(&answers),
            connections: Arc::default(),
        };
        let connections = Arc::clone(&server.connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                connections.lock().unwrap().push(stream.try_clone().unwrap());
                let answers = Arc::clone(&answers);
                thread::spawn(move || serve(stream, &answers));
            }
        });
        server
    }

    /// From here on it answers otherwise.
    pub(super) fn now(&self, answers: impl Fn(&str) -> String + Send + Sync + 'static) {
        *self.answers.lock().unwrap() = Arc::new(answers);
    }

    /// Sends without being asked, on every connection there is.
    pub(super) fn push(&self, bytes: &str) {
        for stream in &mut *self.connections.lock().unwrap() {
            let _ = stream.write_all(bytes.as_bytes());
        }
    }
}

fn serve(stream: TcpStream, answers: &Mutex<Arc<Answers>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(command) = command(&mut reader) {
        let answers = Arc::clone(&answers.lock().unwrap());
        if writer.write_all(answers(&command).as_bytes()).is_err() {
            return;
        }
    }
}

fn command(reader: &mut impl BufRead) -> Option<String> {
    let mut parts = Vec::new();
    for _ in 0..number(reader)? {
        let mut part = vec![0; number(reader)? + 2];
        reader.read_exact(&mut part).ok()?;
        part.truncate(part.len() - 2);
        parts.push(String::from_utf8(part).unwrap());
    }
    Some(parts.join(" "))
}

/// The number of a line such as `*3` or `$5`.
fn number(reader: &mut impl BufRead) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.get(1..)?.trim().parse().ok()
}

/// A string on the wire.
pub(super) fn string(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// An array on the wire, of what is on the wire already.
pub(super) fn array(parts: &[String]) -> String {
    format!("*{}\r\n{}", parts.len(), parts.concat())
}

/// As an array, that nobody asked for.
pub(super) fn pushed(parts: &[String]) -> String {
    format!(">{}\r\n{}", parts.len(), parts.concat())
}

/// What a Redis answers: `mode` is `standalone` or `cluster`, `role` `master` or `replica`.
pub(super) fn redis(command: &str, mode: &str, role: &str) -> String {
    match command.split(' ').next().unwrap_or_default() {
        "HELLO" => {
            let fields = [("version", "7.2.4"), ("mode", mode), ("role", role)];
            let fields = fields.map(|(name, value)| string(name) + &string(value));
            format!("%3\r\n{}", fields.concat())
        }
        "PING" => "+PONG\r\n".to_owned(),
        "XRANGE" => "*0\r\n".to_owned(),
        _ => "-ERR unknown command\r\n".to_owned(),
    }
}
