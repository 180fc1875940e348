//! The client of Redis on a real core, against a peer that speaks just enough of the protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use gyre_io::mesh::Sleeper;
use gyre_io::redis::{Client, ClientOptions, Command, Endpoint, Event, Handshake, Reply, Script, Tls, Use};
use gyre_io::{Busy, Closed, CoreHandle, CoreOptions, Driver, Handler, spawn_core};
use gyre_proto::ids::{ConnId, CoreId};
use gyre_proto::ws::Opcode;
use rustls::{ServerConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use super::certificates::Authority;
use super::client::PATIENCE;

static SCRIPT: Script = Script { sha1: "da39a3ee5e6b4b0d3255bfef95601890afd80709", text: "return ARGV[1]" };

type Order = Box<dyn FnOnce(&mut Client, u64) + Send>;

/// A core with one client.
struct Core {
    events: Receiver<Event>,
    orders: Arc<Mutex<Vec<Order>>>,
    stop: Arc<Mutex<bool>>,
    sleeper: Sleeper,
    core: Option<CoreHandle>,
}

struct Owner {
    client: Client,
    events: Sender<Event>,
    orders: Arc<Mutex<Vec<Order>>>,
    stop: Arc<Mutex<bool>>,
}

impl Core {
    fn start(endpoint: Endpoint) -> Self {
        Self::start_with(endpoint, None)
    }

    fn start_with(endpoint: Endpoint, tls: Option<Tls>) -> Self {
        let (sender, events) = channel();
        let sleeper = Sleeper::new().unwrap();
        let orders = Arc::<Mutex<Vec<Order>>>::default();
        let stop = Arc::<Mutex<bool>>::default();
        let handshake = Handshake {
            user: String::new(),
            password: String::new(),
            db: 0,
            client_name: "test".to_owned(),
            force_resp2: false,
            replica: false,
            io_timeout_ms: 4_000,
        };
        let options = ClientOptions {
            endpoint,
            tls,
            handshake,
            connect_timeout_ms: 5_000,
            seed: 1,
            scripts: &[],
            outages: Arc::default(),
            hears: true,
        };
        let core_options = CoreOptions {
            sleeper: Some(sleeper.clone()),
            connections_max: 8,
            dials_max: 8,
            ..CoreOptions::new(CoreId(3))
        };
        let (told, told_stop) = (Arc::clone(&orders), Arc::clone(&stop));
        let make = move |_| Owner { client: Client::new(options), events: sender, orders: told, stop: told_stop };
        let core = spawn_core(core_options, make).unwrap();
        Self { events, orders, stop, sleeper, core: Some(core) }
    }

    fn run(&self, order: impl FnOnce(&mut Client, u64) + Send + 'static) {
        self.orders.lock().unwrap().push(Box::new(order));
        self.sleeper.wake();
    }

    fn hear(&self) -> Event {
        self.events.recv_timeout(PATIENCE).unwrap()
    }

    /// Both lanes, in either order.
    fn hear_up(&self) {
        let mut up = [self.hear(), self.hear()].map(|event| format!("{event:?}"));
        up.sort();
        assert_eq!(up, ["Up(Commands)", "Up(Messages)"]);
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        *self.stop.lock().unwrap() = true;
        self.sleeper.wake();
        if let Some(core) = self.core.take() {
            core.join().unwrap();
        }
    }
}

impl Handler for Owner {
    fn accepted(&mut self, _: &mut Driver, _: ConnId, _: usize) {}
    fn message(&mut self, _: &mut Driver, _: ConnId, _: Opcode, _: &[u8]) {}
    fn timeout(&mut self, _: &mut Driver, _: ConnId) {}
    fn slow(&mut self, _: &mut Driver, _: ConnId) {}

    fn dialled(&mut self, driver: &mut Driver, conn: ConnId) {
        self.client.dialled(driver, conn);
    }

    fn bytes(&mut self, driver: &mut Driver, conn: ConnId, data: &[u8]) {
        self.client.bytes(driver, conn, data, &mut |event| self.events.send(event).unwrap());
    }

    fn closed(&mut self, driver: &mut Driver, conn: ConnId, why: Closed) {
        self.client.closed(driver, conn, why, &mut |event| self.events.send(event).unwrap());
    }

    fn turn(&mut self, driver: &mut Driver) -> Busy {
        if *self.stop.lock().unwrap() {
            driver.stop();
        }
        self.client.turn(driver, &mut |event| self.events.send(event).unwrap());
        let orders = std::mem::take(&mut *self.orders.lock().unwrap());
        for order in orders {
            order(&mut self.client, driver.now_ms());
        }
        Busy::No
    }

    fn turn_ends(&mut self, driver: &mut Driver) {
        self.client.flush(driver);
    }
}

/// One command, as its parts.
pub(super) fn command(peer: &mut impl BufRead) -> Option<Vec<String>> {
    fn number(peer: &mut impl BufRead) -> Option<usize> {
        let mut line = String::new();
        peer.read_line(&mut line).ok().filter(|read| *read > 0)?;
        line.trim_end()[1..].parse().ok()
    }
    let parts = number(peer)?;
    let part = |_| {
        let mut bytes = vec![0; number(peer)? + 2];
        peer.read_exact(&mut bytes).ok()?;
        bytes.truncate(bytes.len() - 2);
        String::from_utf8(bytes).ok()
    };
    (0..parts).map(part).collect()
}

/// Answers until it is told to go, with `QUIT`.
fn serve(stream: impl Read + Write) {
    let mut peer = BufReader::new(stream);
    while let Some(parts) = command(&mut peer) {
        let answer = match parts[0].as_str() {
            "HELLO" => "%0\r\n".to_owned(),
            "PING" => "+PONG\r\n".to_owned(),
            "EVALSHA" => "-NOSCRIPT No matching script. Please use EVAL.\r\n".to_owned(),
            "SUBSCRIBE" => {
                let name = &parts[1];
                let length = name.len();
                format!(
                    ">3\r\n$9\r\nsubscribe\r\n${length}\r\n{name}\r\n:1\r\n\
                     >3\r\n$7\r\nmessage\r\n${length}\r\n{name}\r\n$5\r\nhello\r\n"
                )
            }
            "QUIT" => return,
            _ => format!("${}\r\n{}\r\n", parts[parts.len() - 1].len(), parts[parts.len() - 1]),
        };
        if peer.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A listener whose connections are served by threads of their own.
fn redis() -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    Endpoint::Internet(address)
}

fn echo(client: &mut Client, token: u64, now_ms: u64, what: &str) {
    client.send(token, now_ms, |out| _ = Command::new(out, 2).arg(b"ECHO").arg(what.as_bytes())).unwrap();
}

/// Publishes and subscribes go nowhere if any of these steps is missing.
#[test]
fn commands_scripts_and_messages() {
    let core = Core::start(redis());
    core.hear_up();
    core.run(|client, now_ms| {
        for token in 0..1000 {
            echo(client, token, now_ms, &format!("{token}"));
        }
        client.send_script(1000, now_ms, &SCRIPT, 2, |command| _ = command.int(0).arg(b"scripted")).unwrap();
        client.subscribe(1001, now_ms, &[b"news"]).unwrap();
    });
    let mut tokens = 0;
    let mut rest = Vec::new();
    while tokens <= 1000 || rest.len() < 3 {
        match core.hear() {
            Event::Reply(token, Reply::Bytes(text)) if token <= 1000 => {
                assert_eq!(token, tokens);
                let expected = if token == 1000 { "scripted".to_owned() } else { token.to_string() };
                assert_eq!(text, expected);
                tokens += 1;
            }
            other => rest.push(format!("{other:?}")),
        }
    }
    assert_eq!(rest, [r#"Subscribed(b"news")"#, "Reply(1001, Int(1))", r#"Message(b"news", b"hello")"#]);
}

/// A Redis that goes away must be an error at once, and must be found again without anybody doing anything.
#[test]
fn a_lost_lane_fails_what_waits_and_comes_back() {
    let core = Core::start(redis());
    core.hear_up();
    core.run(|client, now_ms| {
        client.send(1, now_ms, |out| _ = Command::new(out, 1).arg(b"QUIT")).unwrap();
        echo(client, 2, now_ms, "never answered");
    });
    assert!(matches!(core.hear(), Event::Failed(1, true)));
    assert!(matches!(core.hear(), Event::Failed(2, true)));
    assert!(matches!(core.hear(), Event::Down(Use::Commands)));
    let (sender, refused) = channel();
    core.run(move |client, now_ms| {
        let refusal = client.send(3, now_ms, |out| _ = Command::new(out, 1).arg(b"PING")).is_err();
        sender.send((refusal, client.is_up(Use::Commands))).unwrap();
    });
    assert_eq!(refused.recv_timeout(PATIENCE).unwrap(), (true, false));
    assert!(matches!(core.hear(), Event::Up(Use::Commands)));
    core.run(|client, now_ms| echo(client, 4, now_ms, "again"));
    assert!(matches!(core.hear(), Event::Reply(4, Reply::Bytes(text)) if text == "again"));
}

/// Nobody listens: the node says so, tries on, and serves everything that needs no Redis.
#[test]
fn nobody_listens_yet() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let core = Core::start(Endpoint::Internet(address));
    for _ in 0..4 {
        assert!(matches!(core.hear(), Event::Down(_)));
    }
    socket.listen(128).unwrap();
    let listener = TcpListener::from(socket);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    loop {
        match core.hear() {
            Event::Down(_) => {}
            Event::Up(_) => break,
            other => panic!("{other:?}"),
        }
    }
}

/// All of the above again, over TLS: what arrives and leaves in records must be the same, whatever the size of either.
#[test]
fn everything_over_tls() {
    let authority = Authority::new("loopback");
    let config = authority.server(authority.signs("127.0.0.1", 2100), false);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            std::thread::spawn(move || serve(StreamOwned::new(tls, stream.unwrap())));
        }
    });
    let core = Core::start_with(Endpoint::Internet(address), Some(Tls::new(authority.client(None), None)));
    core.hear_up();
    // Beyond what goes out at a time, in both directions.
    let large = "x".repeat(1_500_000);
    let sent = large.clone();
    core.run(move |client, now_ms| {
        for token in 0..100 {
            echo(client, token, now_ms, &format!("{token}"));
        }
        echo(client, 100, now_ms, &sent);
    });
    for token in 0..100 {
        assert!(
            matches!(core.hear(), Event::Reply(own, Reply::Bytes(text)) if own == token && text == token.to_string())
        );
    }
    assert!(matches!(core.hear(), Event::Reply(100, Reply::Bytes(text)) if text == large));
    core.run(|client, now_ms| client.subscribe(101, now_ms, &[b"news"]).unwrap());
    let heard = [core.hear(), core.hear(), core.hear()].map(|event| format!("{event:?}"));
    assert_eq!(heard, [r#"Subscribed(b"news")"#, "Reply(101, Int(1))", r#"Message(b"news", b"hello")"#]);
    core.run(|client, now_ms| client.send(102, now_ms, |out| _ = Command::new(out, 1).arg(b"QUIT")).unwrap());
    assert!(matches!(core.hear(), Event::Failed(102, true)));
    assert!(matches!(core.hear(), Event::Down(Use::Commands)));
    assert!(matches!(core.hear(), Event::Up(Use::Commands)));
}

/// A server that is not who it should be gets no command, and no password, however often it is tried.
#[test]
fn a_stranger_gets_nothing() {
    let (authority, stranger) = (Authority::new("loopback"), Authority::new("stranger"));
    let config = stranger.server(stranger.signs("127.0.0.1", 2100), false);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, heard) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut bytes = Vec::new();
            let read = StreamOwned::new(tls, stream.unwrap()).read_to_end(&mut bytes);
            _ = sender.send((read.is_err(), bytes));
        }
    });
    let core = Core::start_with(Endpoint::Internet(address), Some(Tls::new(authority.client(None), None)));
    for _ in 0..4 {
        assert!(matches!(core.hear(), Event::Down(_)));
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), (true, Vec::new()));
    }
}
