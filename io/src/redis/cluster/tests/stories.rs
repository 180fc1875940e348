//! One situation after the other.

use super::*;
use crate::limits::{REDIS_SLOT_WAITING_MAX, REDIS_TRY_AGAIN_MS};
use crate::redis::{Command, Script, SendError};

static SCRIPT: Script = Script { sha1: "0123456789012345678901234567890123456789", text: "return KEYS[1]" };

/// A router with two nodes, of which one has the slots below 100.
struct Story {
    router: Router,
    now_ms: u64,
    /// By token.
    places: Vec<u32>,
}

impl Story {
    fn new() -> Self {
        let mut story = Self { router: Router::new(map(&[(0..=99, 1), (100..=16383, 2)])), now_ms: 0, places: vec![] };
        assert_eq!((story.up(1), story.up(2)), (vec![], vec![]));
        story
    }

    fn up(&mut self, port: u16) -> Vec<String> {
        let node = number(&self.router, port);
        self.told(|router, now_ms, events| router.up(node, now_ms, events))
    }

    fn down(&mut self, port: u16) -> Vec<String> {
        let node = number(&self.router, port);
        self.told(|router, now_ms, events| _ = router.down(node, now_ms, events))
    }

    /// Makes a command about a slot; its token is its number. Where it is sent to at once.
    fn make(&mut self, slot: u16) -> Result<Option<u16>, SendError> {
        let token = self.places.len() as u64;
        let deadline_ms = self.now_ms + IO_TIMEOUT_MS;
        let write = |out: &mut Vec<u8>| _ = Command::rest(out, 1).arg(b"x");
        let sent = self.router.accept(token, slot, deadline_ms, Some((&SCRIPT, 1)), write)?;
        // Places are given out in order as long as none was given back.
        self.places.push(sent.map_or(u32::MAX, |sent| sent.place));
        Ok(sent.map(|sent| port(&self.router, sent.node)))
    }

    fn sent(&mut self) -> Vec<(u16, bool, u64)> {
        let mut all = Vec::new();
        while let Some(Outgoing { node, asking, place }) = self.router.next_outgoing() {
            let token = self.router.command(place).unwrap().token;
            self.places[token as usize] = place;
            all.push((port(&self.router, node), asking, token));
        }
        all
    }

    fn hear(&mut self, token: u64, reply: &str) -> Vec<String> {
        let place = self.places[token as usize];
        let reply = reply.strip_prefix('-').map_or(Reply::Nil, |text| Reply::Error(error(text.as_bytes())));
        self.told(|router, now_ms, events| router.answered(place, reply, now_ms, events))
    }

    fn after(&mut self, ms: u64) -> Vec<String> {
        self.now_ms += ms;
        self.told(|router, now_ms, events| router.turn(now_ms, events))
    }

    fn told<R>(&mut self, act: impl FnOnce(&mut Router, u64, &mut Tell) -> R) -> Vec<String> {
        let mut events = Vec::new();
        let mut tell: Tell = Box::new(|event| events.push(short(event)));
        act(&mut self.router, self.now_ms, &mut tell);
        drop(tell);
        events
    }
}

type Tell<'a> = Box<dyn FnMut(Event) + 'a>;

const NONE: [String; 0] = [];

/// A slot that has moved away must cost its publishers a moment, not an error, and their order never.
#[test]
fn a_moved_slot_is_followed_in_order() {
    let mut story = Story::new();
    assert_eq!([story.make(5), story.make(5), story.make(6)], [Ok(Some(1)); 3]);
    assert_eq!(story.hear(0, "-MOVED 5 127.0.0.1:2"), NONE);
    assert_eq!((story.sent(), story.make(5)), (vec![], Ok(None)), "1 is still under way to the old node");
    assert!(story.router.takes_doubt());
    assert_eq!(story.hear(1, "-MOVED 5 127.0.0.1:2"), NONE);
    assert_eq!(story.sent(), [(2, false, 0)], "to see whether the other one agrees");
    assert_eq!((story.hear(0, "+"), story.sent()), (vec!["0".to_owned()], vec![(2, false, 1), (2, false, 3)]));
    assert_eq!(story.make(5), Ok(Some(2)), "at rest again");
    assert_eq!((story.hear(2, "+"), story.make(6)), (vec!["2".to_owned()], Ok(Some(1))), "another slot");
}

/// A slot on its way: keys that have arrived are asked for there, everything else stays where it was.
#[test]
fn ask_is_for_one_command() {
    let mut story = Story::new();
    assert_eq!([story.make(5), story.make(5)], [Ok(Some(1)); 2]);
    assert_eq!(story.hear(0, "-ASK 5 127.0.0.1:3"), NONE);
    assert_eq!(story.hear(1, "+"), ["1"]);
    assert_eq!(story.sent(), [], "nobody has spoken to this node before");
    assert_eq!((story.make(5), story.up(3)), (Ok(None), vec![]));
    assert_eq!(story.sent(), [(3, true, 0)]);
    assert_eq!(story.hear(0, "+"), ["0"]);
    assert_eq!(story.sent(), [(1, false, 2)]);
    assert_eq!((story.hear(2, "+"), story.make(5)), (vec!["2".to_owned()], Ok(Some(1))));
}

/// Keys at both ends: again after a while, which must neither be forever nor a busy loop.
#[test]
fn try_again_waits_and_ends() {
    let mut story = Story::new();
    assert_eq!([story.make(5), story.make(6)], [Ok(Some(1)); 2]);
    let mut attempts = 0;
    loop {
        assert_eq!(story.hear(0, "-TRYAGAIN"), NONE);
        assert_eq!((story.sent(), story.after(REDIS_TRY_AGAIN_MS - 1), story.sent()), (vec![], vec![], vec![]));
        assert_eq!(story.router.next_ms(), Some(story.now_ms + 1));
        let events = story.after(1);
        if !events.is_empty() {
            assert_eq!(events, ["0?"]);
            break;
        }
        assert_eq!(story.sent(), [(1, false, 0)]);
        attempts += 1;
    }
    assert_eq!(attempts, IO_TIMEOUT_MS / REDIS_TRY_AGAIN_MS - 1);
    assert_eq!((story.hear(1, "+"), story.make(5), story.router.next_ms()), (vec!["1".to_owned()], Ok(Some(1)), None));
}

/// Nodes that do not agree must not send a command around forever; what they say goes to the caller.
#[test]
fn redirections_are_bounded() {
    let mut story = Story::new();
    assert_eq!(story.make(5), Ok(Some(1)));
    for round in 0..5 {
        let to = [2, 1][round % 2];
        assert_eq!(story.hear(0, &format!("-MOVED 5 127.0.0.1:{to}")), NONE);
        assert_eq!(story.sent(), [(to, false, 0)]);
    }
    assert_eq!(story.hear(0, "-MOVED 5 127.0.0.1:1"), ["0:MOVED"]);
    assert_eq!(story.make(5), Ok(Some(1)));
    assert_eq!(story.hear(1, "-CLUSTERDOWN"), ["1:CLUSTERDOWN"]);
    assert!(story.router.takes_doubt() && !story.router.takes_doubt());
}

/// A node that was asked to be nice to one command must not end the connection of a hundred others over it; the caller
/// hears in time all the same, and only once.
#[test]
fn a_deadline_counts_from_the_first_attempt() {
    let mut story = Story::new();
    assert_eq!(story.make(5), Ok(Some(1)));
    assert_eq!(story.after(IO_TIMEOUT_MS - 1), NONE);
    assert_eq!((story.hear(0, "-MOVED 5 127.0.0.1:2"), story.sent()), (vec![], vec![(2, false, 0)]));
    assert_eq!((story.router.next_ms(), story.after(1)), (Some(IO_TIMEOUT_MS), vec!["0!".to_owned()]));
    assert_eq!((story.make(5), story.hear(0, "+")), (Ok(None), vec![]), "it was told");
    assert_eq!(story.sent(), [(2, false, 1)]);
}

/// A script that a node has never seen, which is each node after a failover, is called by its text.
#[test]
fn an_unknown_script_goes_by_its_text() {
    let mut story = Story::new();
    assert_eq!(story.make(5), Ok(Some(1)));
    let wire = |story: &Story| {
        let mut out = Vec::new();
        story.router.command(story.places[0]).unwrap().write(&mut out);
        out.escape_ascii().to_string()
    };
    assert_eq!(wire(&story), format!(r"*3\r\n$7\r\nEVALSHA\r\n$40\r\n{}\r\n$1\r\nx\r\n", SCRIPT.sha1));
    assert_eq!((story.hear(0, "-NOSCRIPT"), story.sent()), (vec![], vec![(1, false, 0)]));
    assert_eq!(wire(&story), r"*3\r\n$4\r\nEVAL\r\n$14\r\nreturn KEYS[1]\r\n$1\r\nx\r\n");
    assert_eq!(story.hear(0, "-NOSCRIPT"), ["0:NOSCRIPT"]);
}

/// Publishing into a part of the cluster that is down must fail at once, and not wait for a reply that never comes.
#[test]
fn a_lost_node_fails_its_commands_at_once() {
    let mut story = Story::new();
    assert_eq!([story.make(5), story.make(500)], [Ok(Some(1)), Ok(Some(2))]);
    let place = story.places[0];
    assert_eq!(story.told(|router, now_ms, events| router.failed(place, true, now_ms, events)), ["0!"]);
    assert_eq!((story.down(1), story.make(5), story.router.takes_doubt()), (vec![], Err(SendError::Failed), true));
    assert_eq!((story.make(500), story.hear(1, "+")), (Ok(Some(2)), vec!["1".to_owned()]));
    // Its replica has taken over, and is known first by a redirection, then by the map.
    assert_eq!(
        (story.hear(2, "-MOVED 500 127.0.0.1:3"), story.up(3), story.sent()),
        (vec![], vec![], vec![(3, false, 2)])
    );
    let gone = story.router.map_is(map(&[(0..=16383, 3)]));
    assert_eq!(gone.len(), 2);
    assert_eq!(story.told(|router, now_ms, events| router.gone(&gone, now_ms, events)), NONE);
    assert_eq!(story.make(5), Ok(Some(3)));
    // A slot that nobody has.
    assert_eq!(story.router.map_is(map(&[(0..=4, 3)])), Vec::<u16>::new());
    assert_eq!((story.make(5), story.router.takes_doubt()), (Err(SendError::Failed), true));
}

/// A redirection to an address that leads nowhere must not be followed for good.
#[test]
fn a_node_that_only_a_redirection_knows_is_forgotten_when_it_fails() {
    let mut story = Story::new();
    assert_eq!(story.make(5), Ok(Some(1)));
    assert_eq!((story.hear(0, "-MOVED 5 127.0.0.1:9"), story.make(5)), (vec![], Ok(None)));
    assert_eq!((story.down(9), story.sent()), (vec![], vec![(1, false, 0)]));
    assert!(story.router.nodes().iter().all(|(_, endpoint, _)| *endpoint != at(9)));
    assert_eq!(story.hear(0, "-ASK 5 127.0.0.1:9"), NONE);
    assert_eq!((story.down(9), story.sent()), (vec![], vec![(1, false, 0)]));
    assert_eq!((story.hear(0, "+"), story.sent()), (vec!["0".to_owned()], vec![(1, false, 1)]));
}

/// A new map while commands are under way: those of nodes that stay are not disturbed, and newer ones do not overtake.
#[test]
fn a_new_map_keeps_the_order() {
    let mut story = Story::new();
    assert_eq!([story.make(5), story.make(500)], [Ok(Some(1)), Ok(Some(2))]);
    assert_eq!(story.router.map_is(map(&[(0..=1, 1), (2..=16383, 3)])), [number(&story.router, 2)]);
    assert_eq!((story.make(5), story.up(3), story.sent()), (Ok(None), vec![], vec![]), "0 is at the old node");
    assert_eq!((story.hear(0, "+"), story.sent()), (vec!["0".to_owned()], vec![(3, false, 2)]));
    let (place, node) = (story.places[1], number(&story.router, 2));
    assert_eq!(story.make(500), Ok(None));
    assert_eq!(story.told(|router, now_ms, events| router.failed(place, true, now_ms, events)), ["1!"]);
    assert_eq!(story.told(|router, now_ms, events| router.gone(&[node], now_ms, events)), NONE);
    assert_eq!(story.sent(), [(3, false, 3)]);
    assert_eq!(story.router.nodes().iter().count(), 2);
}

/// What waits for a slot is bounded, and a busy slot leaves room for others.
#[test]
fn a_queue_is_bounded() {
    let mut story = Story::new();
    assert_eq!((story.make(5), story.hear(0, "-TRYAGAIN")), (Ok(Some(1)), vec![]));
    let taken = (0..10_000).take_while(|_| story.make(5) == Ok(None)).count();
    assert_eq!(taken, REDIS_SLOT_WAITING_MAX - 1);
    assert_eq!((story.make(5), story.make(6)), (Err(SendError::Full), Ok(Some(1))));
    assert_eq!(story.after(IO_TIMEOUT_MS).len(), REDIS_SLOT_WAITING_MAX);
    assert_eq!(story.make(5), Ok(Some(1)));
}
