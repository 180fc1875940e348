//! Nodes of a cluster that redirect as a test says.

use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use gyre_io::redis::{Endpoint, Servers, SlotMap, slot_of};

use crate::redis::command;

/// How the nodes answer.
#[derive(Default)]
pub(super) struct State {
    /// Slots that are elsewhere than it is asked: `MOVED`.
    pub(super) owner: HashMap<u16, usize>,
    /// Slots of which everything is asked for there: `ASK`.
    pub(super) ask: HashMap<u16, usize>,
    /// The next so many times, instead of an effect.
    pub(super) try_again: u32,
    /// Instead of everything else.
    pub(super) answer: Option<String>,
    /// A node that does not answer.
    pub(super) silent: Option<usize>,
    /// Where channels of slots were subscribed to (true), or no more.
    pub(super) heard: Vec<(usize, bool, String)>,
    log: Vec<(usize, String, String)>,
    /// Where a script is known.
    loaded: Vec<usize>,
    refused: usize,
    subscribed: Vec<usize>,
}

pub(super) struct Nodes {
    state: Arc<Mutex<State>>,
    nodes: Vec<Node>,
}

struct Node {
    address: SocketAddr,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    is_dead: Arc<AtomicBool>,
}

impl Nodes {
    pub(super) fn start(count: usize) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Arc<[u16]> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let nodes = listeners.into_iter().zip(0..).map(|(listener, place)| {
            let address = listener.local_addr().unwrap();
            let node = Node { address, streams: Arc::default(), is_dead: Arc::default() };
            let (streams, is_dead) = (Arc::clone(&node.streams), Arc::clone(&node.is_dead));
            let (state, ports) = (Arc::clone(&state), Arc::clone(&ports));
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if is_dead.load(Ordering::SeqCst) {
                        return;
                    }
                    streams.lock().unwrap().push(stream.try_clone().unwrap());
                    let (state, ports) = (Arc::clone(&state), Arc::clone(&ports));
                    std::thread::spawn(move || serve(stream, place, &state, &ports));
                }
            });
            node
        });
        Self { nodes: nodes.collect(), state }
    }

    pub(super) fn map(&self, ranges: &[(RangeInclusive<u16>, usize)]) -> Arc<Servers> {
        let ranges = ranges.iter().map(|(range, place)| (range.clone(), self.endpoint(*place)));
        Arc::new(Servers::Cluster(Arc::new(SlotMap::new(ranges).unwrap())))
    }

    pub(super) fn endpoint(&self, place: usize) -> Endpoint {
        Endpoint::Internet(self.nodes[place].address)
    }

    pub(super) fn port(&self, place: usize) -> u16 {
        self.nodes[place].address.port()
    }

    pub(super) fn tell<T>(&self, tell: impl FnOnce(&mut State) -> T) -> T {
        tell(&mut self.state.lock().unwrap())
    }

    /// Every command that had an effect: where, key, value.
    pub(super) fn log(&self) -> Vec<(usize, String, String)> {
        self.tell(|state| state.log.clone())
    }

    /// How many commands were refused.
    pub(super) fn refused(&self) -> usize {
        self.tell(|state| state.refused)
    }

    /// Where somebody has subscribed.
    pub(super) fn subscribed(&self) -> Vec<usize> {
        self.tell(|state| state.subscribed.clone())
    }

    /// Sends something that nobody asked for, on every connection.
    pub(super) fn say(&self, place: usize, text: &str) {
        for mut stream in self.nodes[place].streams.lock().unwrap().iter() {
            stream.write_all(text.as_bytes()).unwrap();
        }
    }

    /// Ends all connections; nobody listens any more.
    pub(super) fn kill(&self, place: usize) {
        let node = &self.nodes[place];
        node.is_dead.store(true, Ordering::SeqCst);
        // The listener ends with its thread, which notices now.
        let _ = TcpStream::connect(node.address);
        for stream in node.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn serve(stream: TcpStream, place: usize, state: &Mutex<State>, ports: &[u16]) {
    let mut answers = stream.try_clone().unwrap();
    let mut peer = BufReader::new(stream);
    let mut asking = false;
    while let Some(parts) = command(&mut peer) {
        let answer = match parts[0].as_str() {
            "HELLO" => "%0\r\n".to_owned(),
            "PING" => "+PONG\r\n".to_owned(),
            "ASKING" => {
                asking = true;
                "+OK\r\n".to_owned()
            }
            "SUBSCRIBE" => {
                let name = &parts[1];
                let length = name.len();
                state.lock().unwrap().subscribed.push(place);
                format!(
                    ">3\r\n$9\r\nsubscribe\r\n${length}\r\n{name}\r\n:1\r\n\
                     >3\r\n$7\r\nmessage\r\n${length}\r\n{name}\r\n$5\r\nhello\r\n"
                )
            }
            "SSUBSCRIBE" | "SUNSUBSCRIBE" => state.lock().unwrap().hear(place, &parts[0], &parts[1..], ports),
            "SCRIPT" => {
                state.lock().unwrap().loaded.push(place);
                "+OK\r\n".to_owned()
            }
            // A key and a value are the last parts of all others.
            name => {
                let asked = std::mem::take(&mut asking);
                let [.., key, value] = &parts[..] else { panic!("{parts:?}") };
                match state.lock().unwrap().act(place, asked, name, key, value, ports) {
                    Some(answer) => answer,
                    None => continue,
                }
            }
        };
        if answers.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

impl State {
    fn hear(&mut self, place: usize, name: &str, channels: &[String], ports: &[u16]) -> String {
        let slot = slot_of(channels[0].as_bytes());
        if let Some(at) = self.owner.get(&slot).copied().filter(|at| *at != place) {
            return format!("-MOVED {slot} 127.0.0.1:{}\r\n", ports[at]);
        }
        let begins = name == "SSUBSCRIBE";
        let mut answer = String::new();
        for channel in channels {
            self.heard.push((place, begins, channel.clone()));
            let (kind, length) = (name.to_lowercase(), channel.len());
            answer += &format!(">3\r\n${}\r\n{kind}\r\n${length}\r\n{channel}\r\n:1\r\n", kind.len());
            if begins {
                answer += &format!(">3\r\n$8\r\nsmessage\r\n${length}\r\n{channel}\r\n$5\r\nhello\r\n");
            }
        }
        answer
    }

    fn act(&mut self, place: usize, asked: bool, name: &str, key: &str, value: &str, ports: &[u16]) -> Option<String> {
        let slot = slot_of(key.as_bytes());
        let elsewhere = |places: &HashMap<u16, usize>| places.get(&slot).copied().filter(|at| *at != place);
        if self.silent == Some(place) {
            return None;
        }
        let refusal = if let Some(answer) = &self.answer {
            Some(answer.clone())
        } else if let Some(at) = elsewhere(&self.owner) {
            Some(format!("MOVED {slot} 127.0.0.1:{}", ports[at]))
        } else if let Some(at) = elsewhere(&self.ask) {
            Some(format!("ASK {slot} 127.0.0.1:{}", ports[at]))
        } else if self.ask.get(&slot) == Some(&place) && !asked {
            Some(format!("MOVED {slot} 127.0.0.1:{}", ports[0]))
        } else if self.try_again > 0 {
            self.try_again -= 1;
            Some("TRYAGAIN Multiple keys request during rehashing of slot".to_owned())
        } else if name == "EVALSHA" && !self.loaded.contains(&place) {
            Some("NOSCRIPT No matching script. Please use EVAL.".to_owned())
        } else {
            None
        };
        if name == "EVAL" {
            self.loaded.push(place);
        }
        self.refused += usize::from(refusal.is_some());
        Some(match refusal {
            Some(text) => format!("-{text}\r\n"),
            None => {
                self.log.push((place, key.to_owned(), value.to_owned()));
                "+OK\r\n".to_owned()
            }
        })
    }
}
