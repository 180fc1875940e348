//! Sharded Pub/Sub on a real core: channels are heard at the primary of their slot, and again elsewhere when that is lost.

use std::cell::Cell;

use gyre_io::redis::{Event, Reply, Shard, Use, slot_of};

use super::core::Core;
use super::nodes::Nodes;

fn started(nodes: &Nodes) -> Core {
    assert!(slot_of(b"b") < 8192 && slot_of(b"a") >= 8192);
    let core = Core::start_sharded(nodes.map(&[(0..=8191, 0), (8192..=16383, 1)]));
    let mut up: Vec<_> = (0..5).map(|_| format!("{:?}", core.hear())).collect();
    up.sort();
    assert_eq!(up, ["Up(Commands)", "Up(Commands)", "Up(Messages)", "Up(SlotMessages)", "Up(SlotMessages)"]);
    core
}

/// Subscribes, and waits for the answer and the message that follows it.
fn hear(core: &Core, token: u64, channels: &'static [&'static [u8]]) {
    core.run(move |shard: &mut Shard, _, now_ms| shard.subscribe_in_slot(token, now_ms, channels).unwrap());
    let messages = Cell::new(0);
    let events = core.until(|event| {
        messages.set(messages.get() + usize::from(matches!(event, Event::Message(..))));
        messages.get() == channels.len()
    });
    let is_answer = |event: &&Event| matches!(event, Event::Reply(of, Reply::Int(_)) if *of == token);
    assert_eq!(events.iter().filter(is_answer).count(), 1, "{events:?}");
}

/// A node refuses what is not its own, and publishes at no other.
#[test]
fn channels_are_heard_at_their_primary() {
    let nodes = Nodes::start(2);
    let core = started(&nodes);
    hear(&core, 1, &[b"{a}1", b"{a}2"]);
    hear(&core, 2, &[b"{b}1"]);
    assert!(core.ask(|shard, _, _| shard.is_up(Use::SlotMessages) && shard.connections() == 5));
    core.run(|shard, _, now_ms| shard.unsubscribe_in_slot(3, now_ms, &[b"{a}1"]).unwrap());
    core.until(|event| matches!(event, Event::Reply(3, Reply::Int(1))));
    let heard = nodes.tell(|state| std::mem::take(&mut state.heard));
    let heard: Vec<_> = heard.iter().map(|(place, begins, channel)| (*place, *begins, &**channel)).collect();
    assert_eq!(heard, [(1, true, "{a}1"), (1, true, "{a}2"), (0, true, "{b}1"), (1, false, "{a}1")]);
    assert!(!core.ask(|shard, _, _| shard.takes_doubt()), "nothing was unexpected");
}

/// A slot moves away: the subscriptions end without a word from us, and are made again where the slot is now; those of
/// other slots must not notice.
#[test]
fn a_moved_slot_is_heard_elsewhere() {
    let nodes = Nodes::start(3);
    let core = started(&nodes);
    hear(&core, 1, &[b"{a}1", b"{a}2"]);
    hear(&core, 2, &[b"{b}1"]);
    nodes.tell(|state| state.owner = [(slot_of(b"a"), 2)].into());
    let ended = |channel: &str| format!(">3\r\n$12\r\nsunsubscribe\r\n${}\r\n{channel}\r\n:0\r\n", channel.len());
    nodes.say(1, &(ended("{a}1") + &ended("{a}2")));
    let slot = slot_of(b"a");
    core.until(|event| matches!(event, Event::Unheard(of) if *of == slot));
    assert!(core.ask(|shard, _, _| shard.takes_doubt()));
    // The map is still the old one: the first attempt finds out, and follows.
    hear(&core, 3, &[b"{a}1", b"{a}2"]);
    let events = core.heard();
    assert!(!events.into_iter().any(|event| matches!(event, Event::Unheard(_))));
    let heard = nodes.tell(|state| std::mem::take(&mut state.heard));
    assert_eq!(heard[3..].iter().map(|(place, ..)| *place).collect::<Vec<_>>(), [2, 2]);
}

/// A node is gone: its slots are told of when there is another one for them, each once.
#[test]
fn slots_of_a_lost_node_are_told_of() {
    let nodes = Nodes::start(3);
    let core = started(&nodes);
    hear(&core, 1, &[b"{a}1", b"{a}2"]);
    hear(&core, 2, &[b"{b}1"]);
    nodes.kill(1);
    core.until(|event| matches!(event, Event::Down(Use::SlotMessages)));
    assert!(core.ask(|shard, _, now_ms| {
        shard.takes_doubt()
            && !shard.is_up(Use::SlotMessages)
            && shard.subscribe_in_slot(3, now_ms, &[b"{a}3"]).is_err()
            && shard.unsubscribe_in_slot(3, now_ms, &[b"{b}2"]).is_ok()
    }));
    let map = nodes.map(&[(0..=8191, 0), (8192..=16383, 2)]);
    core.run(move |shard, driver, _| shard.servers_are(driver, map, &mut |_| {}));
    let slot = slot_of(b"a");
    let before = core.until(|event| matches!(event, Event::Unheard(_)));
    assert!(matches!(before.last(), Some(Event::Unheard(of)) if *of == slot));
    hear(&core, 4, &[b"{a}1", b"{a}2"]);
    assert!(core.ask(|shard, _, _| shard.is_up(Use::SlotMessages)));
    assert!(core.heard().all(|event| !matches!(event, Event::Unheard(_))));
    let places = nodes.tell(|state| state.heard.iter().map(|(place, ..)| *place).collect::<Vec<_>>());
    assert_eq!(places, [1, 1, 0, 0, 2, 2]);
}
