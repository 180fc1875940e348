//! Several nodes over a bus that loses, delays and mixes up what they say; and one alone with strange peers.

mod world;

use gyre_engine::ActWhat;
use gyre_proto::codes::Disconnect;
use gyre_proto::ids::CoreId;

use super::*;
use world::{COUNT, World};

/// `info` would be incomplete, or show the dead; commands would not reach who they are for.
#[test]
fn nodes_find_each_other_and_notice_who_is_gone() {
    let mut world = World::new(1);
    world.pass(200, 10);
    assert_eq!(world.known(0), ["node1", "node2", "node3"]);
    assert_eq!(world.known(3), ["node0", "node1", "node2"]);

    let now_ms = world.now_ms;
    world.node(3).leave(now_ms);
    world.deeds(3);
    assert!(world.node(3).has_left());
    assert!(!world.node(3).takes_announcement(now_ms + 10_000), "nothing after the last word");
    world.pass(100, 10);
    assert_eq!(world.known(0), ["node1", "node2"], "it said so");
    world.die(3);

    world.die(2);
    world.pass(6_900, 10);
    assert_eq!(world.known(0), ["node1", "node2"], "not dropped yet");
    world.pass(9_300, 10);
    assert_eq!(world.known(0), ["node1"], "dropped in 16 s");

    world.is_cut_off[1] = true;
    world.pass(17_000, 10);
    assert_eq!((world.known(0), world.known(1)), (vec![], vec![]));
    world.is_cut_off[1] = false;
    world.pass(400, 10);
    assert_eq!((world.known(0), world.known(1)), (vec!["node1"], vec!["node0"]), "soon after it is back");

    // Messages to it may have been lost although its own were heard.
    world.is_cut_off[0] = true;
    world.pass(17_000, 10);
    world.is_cut_off[0] = false;
    world.is_deaf = Some(1);
    world.pass(1_500, 10);
    assert_eq!(world.known(1), [""; 0]);
    world.is_deaf = None;
    world.hears(1);
    world.pass(100, 10);
    assert_eq!(world.known(1), ["node0"], "it asks who is there");
    // Also when it knows some.
    world.is_deaf = Some(1);
    let started = world.started(2);
    world.nodes[2] = Some(started);
    // The new one has announced itself twice, and knows node 1 by now.
    world.pass(3_200, 10);
    world.is_deaf = None;
    world.hears(1);
    world.pass(100, 10);
    assert_eq!(world.known(1), ["node0", "node2"]);
}

/// Every start would leave a warning that others cannot be reached, only because core 0 was not connected yet.
#[test]
fn a_start_is_no_outage() {
    let tell = |nodes: &mut Nodes, ok, now_ms| {
        nodes.announce(NodeInfo::default(), now_ms);
        let Some(Deed::Publish { number, .. }) = nodes.take_deeds().pop() else { panic!("nothing to publish") };
        nodes.published(number, ok, now_ms);
    };
    let mut nodes = Nodes::new(NodeInfo::default(), 0);
    for (now_ms, ok, is_cut_off) in [(0, false, false), (250, true, false), (500, false, true), (750, true, false)] {
        tell(&mut nodes, ok, now_ms);
        assert_eq!(nodes.is_cut_off, is_cut_off, "after {now_ms} ms");
    }
    let mut nodes = Nodes::new(NodeInfo::default(), 0);
    tell(&mut nodes, false, CONNECTED_WITHIN_MS);
    assert!(nodes.is_cut_off);
}

/// The caller would believe a kick or a count that has not happened.
#[test]
fn calls_end_with_what_has_happened() {
    let mut world = World::new(2);
    world.pass(200, 10);
    let (survey, act) = (world.survey(0), world.unsubscribe(1, "chat:x"));
    assert_eq!(world.told.get(&act), Some(&true), "told is enough");
    world.pass(200, 10);
    let found = world.found[&survey].clone().expect("all have answered");
    assert_eq!(found.get("chat:all"), Some(&6), "three nodes of two cores");
    assert_eq!((found.get("chat:0"), found.get("chat:3")), (None, Some(&2)), "the own cores are asked elsewhere");
    assert_eq!(world.acts, [vec!["chat:x".to_owned()], vec![], vec!["chat:x".to_owned()], vec!["chat:x".to_owned()]]);

    world.is_paused[2] = true;
    let survey = world.survey(0);
    world.pass(survey::TIMEOUT_MS - 100, 10);
    if !world.found.contains_key(&survey) {
        world.pass(200, 10);
    }
    assert_eq!(world.found.get(&survey), Some(&None), "one did not answer");
    world.is_paused[2] = false;
    world.pass(4_000, 10);

    world.is_paused[2] = true;
    world.pass(7_000, 10);
    let survey = world.survey(0);
    while world.known(0).contains(&"node2") {
        world.pass(10, 10);
    }
    assert_eq!(world.found.get(&survey), Some(&None), "nobody waits for a node that is not there");
    world.is_paused[2] = false;
    world.pass(4_000, 10);

    let survey = world.survey(0);
    let now_ms = world.now_ms;
    world.node(2).leave(now_ms);
    world.deeds(2);
    world.die(2);
    world.pass(100, 10);
    assert_eq!(world.found.get(&survey), Some(&None), "it has left before it answered");

    world.is_cut_off[0] = true;
    let (survey, act) = (world.survey(0), world.unsubscribe(0, "chat:y"));
    assert_eq!((world.found.get(&survey), world.told.get(&act)), (Some(&None), Some(&false)), "at once");
}

/// A long answer would fill the connection that carries everything else.
#[test]
fn parts_of_an_answer_go_out_one_by_one() {
    let mut nodes = Nodes::new(NodeInfo { uid: "own".to_owned(), ..NodeInfo::default() }, 0);
    let question = NodeMessage::encode("other", What::question(5, &Question::Channels("".into())));
    let long = || Some(vec![SurveyReply::Channels((0..9_000).map(|n| (format!("{n:0100}").into(), 1)).collect())]);
    let mut answer = |published: &[bool]| {
        nodes.heard(&question, 0);
        let deeds = nodes.take_deeds();
        let [Deed::Ask { number, .. }] = deeds[..] else { panic!("{deeds:?}") };
        nodes.shares(number, long(), 0);
        let mut parts = 0;
        for ok in published {
            let deeds = nodes.take_deeds();
            let [Deed::Publish { number, .. }] = deeds[..] else { break };
            parts += 1;
            nodes.published(number, *ok, 0);
        }
        (parts, nodes.take_deeds().len(), nodes.sends.len())
    };
    assert_eq!(answer(&[true; 9]), (4, 0, 0));
    assert_eq!(answer(&[true, false]), (2, 0, 0), "nobody can use the rest");
}

/// A command of somebody else could do anything to anybody here, or its own be done twice.
#[test]
fn strange_messages_do_nothing() {
    let own = NodeInfo { uid: "own".to_owned(), ..NodeInfo::default() };
    let mut nodes = Nodes::new(own, 0);
    let disconnect = ActWhat::Disconnect(Disconnect::FORCE_DISCONNECT);
    let act = Act { user: "u".into(), client: "".into(), whitelist: Vec::new(), what: disconnect };
    nodes.heard(&NodeMessage::encode("own", What::act(&act)), 0);
    nodes.heard(&NodeMessage::encode("", What::act(&act)), 0);
    nodes.heard(b"", 0);
    nodes.heard(b"\x0a\x05other", 0);
    let part = Answered { survey: 1, part: 7, parts: 8, channels: Vec::new() };
    nodes.heard(&NodeMessage::encode("other", What::Answered(part)), 0);
    assert!(nodes.take_deeds().is_empty());
    assert_eq!(nodes.traffic(), Traffic { sent: 0, received: 5 });
    nodes.heard(&NodeMessage::encode("other", What::act(&act)), 0);
    assert!(matches!(nodes.take_deeds()[..], [Deed::Act(_)]));
    let bad_pattern = What::question(5, &Question::Channels("[".into()));
    nodes.heard(&NodeMessage::encode("other", bad_pattern), 0);
    let deeds = nodes.take_deeds();
    let [Deed::Publish { to, bytes, .. }] = &deeds[..] else { panic!("an answer at once: {deeds:?}") };
    let refusal = Answered { survey: 5, ..Answered::default() };
    assert_eq!((to.as_deref(), bytes), (Some("other"), &NodeMessage::encode("own", What::Answered(refusal))));
}

/// One bad message on the Redis would stop every node.
#[test]
fn changed_messages_are_no_panic() {
    let act =
        Act { user: "u".into(), client: "".into(), whitelist: Vec::new(), what: ActWhat::Disconnect(Disconnect::SLOW) };
    let info = NodeInfo { name: "n".to_owned(), ..NodeInfo::default() };
    let channel = message::Channel { name: "chat:1".to_owned(), clients: 3 };
    let answer = Answered { survey: 1, part: 0, parts: 3, channels: vec![channel] };
    let question = Question::Channels("chat:[a-z]{a,b}*".into());
    let every = [What::info(&info, true), What::act(&act), What::question(1, &question), What::Answered(answer)];
    for what in every {
        let bytes = NodeMessage::encode("x", what);
        for at in 0..bytes.len() {
            let mut nodes = Nodes::new(NodeInfo { uid: "own".to_owned(), ..NodeInfo::default() }, 0);
            nodes.heard(&NodeMessage::encode("x", What::info(&info, true)), 0);
            nodes.survey(Asker { core: CoreId(0), call: 1 }, &question, 0);
            for other in 0..=u8::MAX {
                let mut changed = bytes.clone();
                changed[at] = other;
                nodes.heard(&changed, 0);
            }
            nodes.heard(&bytes[..at], 0);
            nodes.turn(60_000);
        }
    }
}

/// Whatever happens in whatever order, in the end all nodes know each other, every call was answered, nothing is kept.
#[test]
fn any_history_ends_well() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..40 {
            let at = world.random(COUNT as u64) as usize;
            match world.random(10) {
                0 if world.runs(at) => {
                    let now_ms = world.now_ms;
                    world.node(at).leave(now_ms);
                    world.deeds(at);
                    world.die(at);
                }
                1 => world.die(at),
                2 => world.is_cut_off[at] ^= true,
                8 if world.runs(at) && !world.is_cut_off[at] => world.hears(at),
                3 if world.nodes[at].is_some() => world.is_paused[at] ^= true,
                4 | 5 if world.nodes[at].is_none() => {
                    let node = world.started(at);
                    world.nodes[at] = Some(node);
                }
                6 if world.runs(at) => _ = world.survey(at),
                7 if world.runs(at) => _ = world.unsubscribe(at, "chat:z"),
                _ => {}
            }
            let ms = [10, 100, 1_000, 4_000, 12_000][world.random(5) as usize];
            world.pass(ms, 50);
        }
        world.is_paused = [false; COUNT];
        world.is_cut_off = [false; COUNT];
        for at in 0..COUNT {
            if world.nodes[at].is_none() {
                let node = world.started(at);
                world.nodes[at] = Some(node);
            }
        }
        world.pass(17_000, 50);
        let last = world.survey(0);
        world.pass(200, 50);
        assert!(world.waiting.is_empty(), "seed {seed}: {:?}", world.waiting);
        assert_eq!(world.found[&last].as_ref().and_then(|found| found.get("chat:all")), Some(&6), "seed {seed}");
        let names = ["node0", "node1", "node2", "node3"];
        for at in 0..COUNT {
            let others: Vec<_> = names.into_iter().filter(|name| *name != names[at]).collect();
            assert_eq!(world.known(at), others, "seed {seed}, node {at}");
            let node = world.node(at);
            assert_eq!((node.sends.len(), node.asked.len()), (0, 0), "seed {seed}, node {at}");
        }
    }
}
