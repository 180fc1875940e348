//! What a delivery allocates on a core: nothing. Real cores, real sockets, and an allocator that counts.
//!
//! The allocator counts per thread, so the clients here and the tests beside them do not matter. A count is taken from
//! inside the core's own turn.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gyre_io::mesh::{Mesh, Port, Sleeper};
use gyre_io::{Busy, Closed, CoreHandle, CoreOptions, CountingAllocator, Driver, Handler};
use gyre_proto::ids::{ConnId, CoreId};
use gyre_proto::ws::{Opcode, encode_client_frame};

use super::{Admission, CoreHandler, Parcel};
use crate::config::{Config, Flag, Sources};
use crate::settings::proxies::Proxies;
use crate::settings::{self, Settings};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// A publication is parsed, answered, encoded and sent to other cores: it may allocate, but not much.
const PER_PUBLICATION_MAX: u64 = 40;
/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// As many as reach every size that buffers of a core settle at.
const WARM_UP: usize = 100;
const PUBLICATIONS: usize = 200;
/// Enough for each core to have some: a core without subscribers is not told of a publication.
const FEW: usize = 50;
const MANY: usize = 1_000;

/// Memory and time per delivery would depend on the allocator's mood, and a fan-out would fragment the heap.
#[test]
fn a_delivery_allocates_nothing() {
    for cores in [1, 2] {
        let [few, many] = [FEW, MANY].map(|subscribers| {
            let mut audience = Audience::new(Node::start(cores), subscribers, 1, 1);
            audience.publish_by_api(WARM_UP);
            let before = audience.node.allocations();
            audience.publish_by_api(PUBLICATIONS);
            audience.node.allocations() - before
        });
        assert_independent(&format!("{cores} cores, server API"), few, many, PUBLICATIONS);
    }
}

/// As above, for publications that reach a connection in one turn and go out joined.
#[test]
fn a_joined_delivery_allocates_nothing() {
    const BURST: usize = 8;
    for cores in [1, 2] {
        let [few, many] = [FEW, MANY].map(|subscribers| {
            let mut audience = Audience::new(Node::start(cores), subscribers, 1, 1);
            (0..WARM_UP / BURST).for_each(|_| audience.publish_by_client(BURST));
            let before = audience.node.allocations();
            (0..PUBLICATIONS / BURST).for_each(|_| audience.publish_by_client(BURST));
            audience.node.allocations() - before
        });
        assert_independent(&format!("{cores} cores, bursts of {BURST}"), few, many, PUBLICATIONS);
    }
}

/// As above, for many channels with few subscribers each.
#[test]
fn a_delivery_in_a_small_channel_allocates_nothing() {
    const CHANNELS: usize = 1_000;
    const CHANNELS_PER_CLIENT: usize = 100;
    for cores in [1, 2] {
        let [few, many] = [1, 10].map(|subscribers| {
            let clients = CHANNELS / CHANNELS_PER_CLIENT * subscribers;
            let mut audience = Audience::new(Node::start(cores), clients, CHANNELS, CHANNELS_PER_CLIENT);
            (0..3).for_each(|_| audience.publish_by_client(CHANNELS));
            let before = audience.node.allocations();
            (0..3).for_each(|_| audience.publish_by_client(CHANNELS));
            audience.node.allocations() - before
        });
        assert_independent(&format!("{cores} cores, {CHANNELS} channels"), few, many, 3 * CHANNELS);
    }
}

/// `few` and `many`: allocations of the cores for the same publications, to few and to many subscribers.
fn assert_independent(what: &str, few: u64, many: u64, publications: usize) {
    let publications = publications as u64;
    println!("{what}: {publications} publications, allocations {few} to few, {many} to many subscribers");
    assert!(many <= publications * PER_PUBLICATION_MAX, "{what}: {many} allocations in {publications} publications");
    // What happens by the clock, like the totals that a core reports once a second, falls into one run or the other.
    // Far below one per delivery: there are at least nine more deliveries of each publication.
    assert!(many.abs_diff(few) <= publications, "{what}: {few} allocations to few subscribers, {many} to many");
}

/// Cores as `serve` starts them, and the control thread's end of the mesh.
struct Node {
    address: SocketAddr,
    cores: Vec<Watched>,
    is_over: Arc<AtomicBool>,
    _control: Port<Parcel>,
}

/// A running core, seen from outside.
struct Watched {
    handle: CoreHandle,
    sleeper: Sleeper,
    seen: Arc<Seen>,
}

/// What a core publishes in every turn.
#[derive(Default)]
struct Seen {
    turns: AtomicU64,
    allocations: AtomicU64,
    connections: AtomicU64,
}

impl Node {
    fn start(cores: usize) -> Self {
        let settings = settings(cores);
        let listeners = gyre_io::bind_listeners((Ipv4Addr::LOCALHOST, 0).into(), cores).unwrap();
        let address = listeners[0].address().unwrap();
        let mut ports = Mesh::new(cores + 1).unwrap();
        let control = ports.pop().unwrap();
        let admission = Arc::new(Admission::new());
        let is_over = Arc::new(AtomicBool::new(false));
        let start = |(number, (port, listener)): (usize, (Port<Parcel>, _))| {
            let id = CoreId(number as u16);
            let (sleeper, seen) = (port.sleeper(), Arc::new(Seen::default()));
            let options =
                CoreOptions { listeners: vec![listener], sleeper: Some(sleeper.clone()), ..CoreOptions::new(id) };
            let (settings, admission) = (Arc::clone(&settings), Arc::clone(&admission));
            let (to_see, is_over) = (Arc::clone(&seen), Arc::clone(&is_over));
            let make = move |driver: Rc<RefCell<Driver>>| {
                let handler = CoreHandler::new(id, settings, admission, driver, port, (None, None), 1);
                Watching { handler, seen: to_see, is_over }
            };
            Watched { handle: gyre_io::spawn_core(options, make).unwrap(), sleeper, seen }
        };
        let cores = ports.into_iter().zip(listeners).enumerate().map(start).collect();
        Self { address, cores, is_over, _control: control }
    }

    /// Of all cores since their start, up to now.
    fn allocations(&self) -> u64 {
        self.cores.iter().map(|core| core.settled().allocations.load(Ordering::Relaxed)).sum()
    }

    /// A client that the kernel gave to the first core. What a publication costs depends on whether it comes in at its
    /// home core.
    fn on_first_core(&self, dial: fn(SocketAddr) -> Client) -> Client {
        loop {
            let before = self.connections()[0];
            let client = dial(self.address);
            if self.connections()[0] > before {
                return client;
            }
        }
    }

    fn connections(&self) -> Vec<u64> {
        self.cores.iter().map(|core| core.settled().connections.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for core in self.cores.drain(..) {
            core.sleeper.wake();
            core.handle.join().unwrap();
        }
    }
}

impl Watched {
    /// What the core says after it has finished the turn it is in.
    fn settled(&self) -> &Seen {
        let (start, deadline) = (self.seen.turns.load(Ordering::Acquire), Instant::now() + PATIENCE);
        while self.seen.turns.load(Ordering::Acquire) < start + 2 {
            assert!(Instant::now() < deadline, "the core does not turn");
            self.sleeper.wake();
            std::thread::sleep(Duration::from_millis(1));
        }
        &self.seen
    }
}

/// The product's handler; also tells what its thread has allocated.
struct Watching {
    handler: CoreHandler,
    seen: Arc<Seen>,
    is_over: Arc<AtomicBool>,
}

impl Handler for Watching {
    fn accepted(&mut self, driver: &mut Driver, conn: ConnId, listener: usize) {
        self.handler.accepted(driver, conn, listener);
    }

    fn message(&mut self, driver: &mut Driver, conn: ConnId, opcode: Opcode, data: &[u8]) {
        self.handler.message(driver, conn, opcode, data);
    }

    fn closed(&mut self, driver: &mut Driver, conn: ConnId, why: Closed) {
        self.handler.closed(driver, conn, why);
    }

    fn timeout(&mut self, driver: &mut Driver, conn: ConnId) {
        self.handler.timeout(driver, conn);
    }

    fn slow(&mut self, driver: &mut Driver, conn: ConnId) {
        self.handler.slow(driver, conn);
    }

    fn turn(&mut self, driver: &mut Driver) -> Busy {
        self.seen.allocations.store(CountingAllocator::count_of_this_thread(), Ordering::Relaxed);
        self.seen.connections.store(driver.connections() as u64, Ordering::Relaxed);
        self.seen.turns.fetch_add(1, Ordering::Release);
        if self.is_over.load(Ordering::Relaxed) {
            driver.stop();
        }
        self.handler.turn(driver)
    }

    fn turn_ends(&mut self, driver: &mut Driver) {
        self.handler.turn_ends(driver);
    }
}

fn settings(cores: usize) -> Arc<Settings> {
    let flags = [
        ("http_api.insecure", "true"),
        ("client.allow_anonymous_connect_without_token", "true"),
        ("client.ping_interval", "1h"),
        ("channel.without_namespace.allow_subscribe_for_client", "true"),
        ("channel.without_namespace.allow_subscribe_for_anonymous", "true"),
        ("channel.without_namespace.allow_publish_for_client", "true"),
        ("channel.without_namespace.allow_publish_for_anonymous", "true"),
    ];
    let flags = flags.map(|(path, value)| Flag { path: path.to_owned(), value: value.to_owned() }).into();
    let (config, _) = Config::load(Sources { flags, ..Sources::default() }).unwrap();
    let rules = Arc::new(settings::rules(&config, &Proxies::default()).unwrap());
    Arc::new(Settings::new(&config, cores as u16, rules, &Proxies::default()).unwrap())
}

/// Subscribers, and two publishers. Fields are dropped in order: clients leave before the node ends.
struct Audience {
    subscribers: Vec<Client>,
    /// Publishes over the HTTP server API.
    backend: Client,
    /// Publishes over its own WebSocket connection; subscribed to nothing.
    publisher: Client,
    node: Node,
    channels: usize,
    channels_per_client: usize,
}

impl Audience {
    /// `clients`, each subscribed to `channels_per_client` of the `channels`, in turn.
    fn new(node: Node, clients: usize, channels: usize, channels_per_client: usize) -> Self {
        raise_file_limit();
        let backend = node.on_first_core(Client::backend);
        let publisher = node.on_first_core(Client::session);
        let mut subscribers: Vec<Client> = (0..clients).map(|_| Client::session(node.address)).collect();
        for (number, client) in subscribers.iter_mut().enumerate() {
            let first = number * channels_per_client;
            let names = (first..first + channels_per_client).map(|at| at % channels);
            let commands = names.map(|name| format!(r#"{{"id":{},"subscribe":{{"channel":"{name}"}}}}"#, name + 2));
            client.send(&commands.collect::<Vec<_>>());
        }
        subscribers.iter_mut().for_each(|client| client.expect(channels_per_client, "\"subscribe\":{"));
        let used = node.connections();
        assert!(used.iter().all(|&count| count > 0) || clients < FEW, "every core has clients: {used:?}");
        Self { subscribers, backend, publisher, node, channels, channels_per_client }
    }

    /// One publication after the other, each to the first channel, over the server API.
    fn publish_by_api(&mut self, publications: usize) {
        let body = format!(r#"{{"channel":"0","data":{{"text":"{}"}}}}"#, "x".repeat(128));
        for _ in 0..publications {
            self.backend.call("publish", &body);
            self.subscribers.iter_mut().for_each(|client| client.expect(1, "\"pub\":{"));
        }
    }

    /// Several publications at once, one to each channel in turn, from a client.
    fn publish_by_client(&mut self, publications: usize) {
        let data = "x".repeat(128);
        let command = |at| format!(r#"{{"id":9,"publish":{{"channel":"{at}","data":"{data}"}}}}"#);
        let commands: Vec<String> = (0..publications).map(|at| command(at % self.channels)).collect();
        // A message may have 64 KiB.
        for commands in commands.chunks(200) {
            self.publisher.send(commands);
        }
        self.publisher.expect(publications, "\"publish\":{");
        let each = publications / self.channels * self.channels_per_client;
        self.subscribers.iter_mut().for_each(|client| client.expect(each, "\"pub\":{"));
    }
}

/// One test can have more sockets than the soft limit of many systems.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// A peer that reads whatever comes and counts what it is waiting for.
struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// A user of the HTTP server API whose connection is known to work.
    fn backend(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        client.call("channels", "{}");
        client
    }

    fn call(&mut self, method: &str, body: &str) {
        let len = body.len();
        let request = format!("POST /api/{method} HTTP/1.1\r\nhost: a\r\ncontent-length: {len}\r\n\r\n{body}");
        self.stream.write_all(request.as_bytes()).unwrap();
        self.expect(1, "{\"result\":{");
    }

    /// A connected client over WebSocket, JSON.
    fn session(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        let upgrade = "GET /connection/websocket HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        client.stream.write_all(upgrade.as_bytes()).unwrap();
        client.expect(1, "\r\n\r\n");
        client.send(&[r#"{"id":1,"connect":{}}"#.to_owned()]);
        client.expect(1, "\"connect\":{");
        client
    }

    /// Commands in one WebSocket message.
    fn send(&mut self, commands: &[String]) {
        let mut frame = Vec::new();
        encode_client_frame(0x81, commands.join("\n").as_bytes(), [1, 2, 3, 4], &mut frame);
        self.stream.write_all(&frame).unwrap();
    }

    /// Reads until `what` has come `count` times.
    fn expect(&mut self, count: usize, what: &str) {
        let mut found = self.take(what);
        while found < count {
            let mut buffer = [0; 16 * 1024];
            let len = self.stream.read(&mut buffer).unwrap();
            assert!(len > 0, "the node has closed the connection");
            self.unread.extend_from_slice(&buffer[..len]);
            found += self.take(what);
        }
        assert_eq!(found, count, "{what}");
    }

    /// Counts `what` in the bytes read, and forgets all but those with which another one may begin.
    fn take(&mut self, what: &str) -> usize {
        let what = what.as_bytes();
        let (mut found, mut end) = (0, 0);
        while let Some(at) = self.unread[end..].windows(what.len()).position(|bytes| bytes == what) {
            end += at + what.len();
            found += 1;
        }
        let keep_from = end.max((self.unread.len() + 1).saturating_sub(what.len()));
        self.unread.drain(..keep_from);
        found
    }
}
