//! Presence in the store, step by step: renewals and removals, also when the store is away, and who comes back meanwhile.

mod world;

use gyre_engine::limits::LEAVERS_SLICE;
use world::by_hand::Play;
use world::store::{Call, Lane};

/// A channel with thousands of members would renew them all at once, more than a connection takes, and every second.
#[test]
fn members_are_renewed_once_per_interval_and_not_all_at_once() {
    let mut play = Play::new(1, 1);
    for _ in 0..60 {
        let client = play.connected(0);
        play.subscribe(client, "live:x");
        play.0.settle();
    }
    let (mut before, mut most) = (play.store().entered, 0);
    let begin = before;
    // Two intervals of 27 s.
    for _ in 0..54 {
        play.0.wait(1_000);
        most = most.max(play.store().entered - before);
        before = play.store().entered;
    }
    assert!((100..=130).contains(&(before - begin)), "{} renewals of 60 members", before - begin);
    assert!(most <= 6, "{most} at once");
    assert_eq!(play.store().present("live:x").len(), 60);
}

/// Members come back into presence after the store has lost it, and those of a dead node go.
#[test]
fn presence_is_renewed_and_runs_out() {
    let mut play = Play::new(2, 1);
    let (a, b) = (play.connected(0), play.connected(1));
    play.subscribe(a, "live:x");
    play.subscribe(b, "live:x");
    play.0.settle();
    assert_eq!(play.store().present("live:x").len(), 2);
    play.store().lose_data();
    play.0.wait(28_000);
    assert_eq!(play.store().present("live:x").len(), 2);
    // One node is dead from now on.
    play.0.sites[1].hands.has_store = false;
    play.0.wait(90_000);
    assert_eq!(play.store().present("live:x").len(), 1);
}

/// Each outage is too short for the grace that a long one gives channel states: a channel with subscribers would be told as
/// vacated, and others would not see them. And a store that has just come back must not be asked for everything at once.
#[test]
fn two_short_outages_that_meet_both_renewals_of_an_entry() {
    const MEMBERS: usize = 540;
    for is_refused in [false, true] {
        let mut play = Play::new(1, 1);
        for n in 0..MEMBERS {
            let client = play.connected(0);
            // One alone, some together, and many.
            let channel = if n < 200 { format!("live:{n}") } else { format!("live:{}", n % 5) };
            play.subscribe(client, &channel);
            play.0.settle();
        }
        let present =
            |play: &mut Play| -> usize { (0..200).map(|n| play.store().present(&format!("live:{n}")).len()).sum() };
        play.0.wait(60_000);
        for (outage_s, well_s) in [(14, 5), (14, 60)] {
            for _ in 0..outage_s {
                play.0.sites[0].hands.has_store = !is_refused;
                play.0.now.mono_ms += 1_000;
                play.0.on(0, |engine, hands| engine.turn(hands));
                while play.store().fail_call(0, false).is_some() {}
                play.0.settle();
                assert_eq!(present(&mut play), MEMBERS, "refused: {is_refused}");
            }
            play.0.sites[0].hands.has_store = true;
            for _ in 0..well_s {
                let before = play.store().entered;
                play.0.wait(1_000);
                // The share of a second is 20.
                let renewals = play.store().entered - before;
                assert!(renewals <= 5 * 20 + 5, "{renewals} at once");
                assert_eq!(present(&mut play), MEMBERS, "refused: {is_refused}");
            }
        }
        // Nothing is late any more.
        let before = play.store().entered;
        play.0.wait(27_000);
        let renewals = play.store().entered - before;
        assert!((500..=580).contains(&renewals), "{renewals} renewals of {MEMBERS} members");
    }
}

/// Calls under way fail, with their effect or without.
fn fail_all(play: &mut Play, has_effect: bool) {
    while play.store().fail_call(0, has_effect).is_some() {}
    play.0.settle();
}

/// Others would see somebody who has gone, and the channel would count as occupied, until the entry runs out.
#[test]
fn who_leaves_while_the_store_is_away_is_taken_out_when_it_is_back() {
    for (is_refused, has_effect) in [(true, false), (false, false), (false, true)] {
        let mut play = Play::new(1, 1);
        let (stays, leaves, goes) = (play.connected(0), play.connected(0), play.connected(0));
        play.subscribe(stays, "live:x");
        play.0.settle();
        let alone = play.store().present("live:x");
        for (client, channel) in [(leaves, "live:x"), (goes, "live:x"), (goes, "live:y")] {
            play.subscribe(client, channel);
            play.0.settle();
        }
        play.0.sites[0].hands.has_store = !is_refused;
        play.unsubscribe(leaves, "live:x");
        play.gone(goes);
        for _ in 0..10 {
            fail_all(&mut play, has_effect);
            play.0.now.mono_ms += 1_000;
            play.0.on(0, |engine, hands| engine.turn(hands));
        }
        fail_all(&mut play, has_effect);
        assert_eq!(play.store().present("live:x").len(), if has_effect { 1 } else { 3 });
        play.0.sites[0].hands.has_store = true;
        play.0.wait(1_100);
        assert_eq!(play.store().present("live:x"), alone, "refused: {is_refused}");
        assert!(play.store().present("live:y").is_empty());
        play.gone(stays);
        play.gone(leaves);
        play.assert_empty();
    }
}

/// A client that is back would be taken out for what it did before.
#[test]
fn who_is_back_after_leaving_while_the_store_was_away_stays() {
    for comes in ["meanwhile", "after", "behind the removal", "and leaves"] {
        let mut play = Play::new(1, 1);
        let (other, a) = (play.connected(0), play.connected(0));
        // The channel is heard throughout, as it is for others.
        play.subscribe(other, "live:x");
        play.subscribe(a, "live:x");
        play.0.settle();
        play.unsubscribe(a, "live:x");
        fail_all(&mut play, false);
        play.told(a);
        if comes == "meanwhile" {
            play.0.sites[0].hands.has_store = false;
            play.subscribe(a, "live:x");
            play.0.settle();
            assert!(play.told(a)[0].contains(r#""code":100"#));
            play.0.wait(3_000);
            play.0.sites[0].hands.has_store = true;
        }
        if comes == "behind the removal" {
            play.0.now.mono_ms += 1_000;
            play.0.on(0, |engine, hands| engine.turn(hands));
            assert!(play.store().peek(0, Lane::Calls).contains("Exit"));
        }
        play.subscribe(a, "live:x");
        if comes == "and leaves" {
            play.0.settle();
            play.unsubscribe(a, "live:x");
        }
        play.0.settle();
        let expected = if comes == "and leaves" { 1 } else { 2 };
        for _ in 0..30 {
            assert_eq!(play.store().present("live:x").len(), expected, "{comes}");
            play.0.wait(100);
        }
        play.gone(a);
        play.gone(other);
        play.assert_empty();
    }
}

/// A Redis that stalled takes in what it was told before only when it goes on, after what it is told now: a client that is
/// back would be gone until its entry is renewed.
#[test]
fn a_removal_that_comes_late_is_made_good_for() {
    let mut play = Play::new(1, 1);
    let a = play.connected(0);
    play.subscribe(a, "live:x");
    play.0.settle();
    let alone = play.store().present("live:x");
    play.unsubscribe(a, "live:x");
    fail_all(&mut play, false);
    play.subscribe(a, "live:x");
    play.0.settle();
    play.store().take(0, u64::MAX, "live:x".to_owned(), Call::Exit(alone[0]));
    play.0.settle();
    assert!(play.store().present("live:x").is_empty());
    play.0.wait(1_100);
    assert_eq!(play.store().present("live:x"), alone);
}

/// A store that has just come back must not be asked for everything at once.
#[test]
fn who_left_is_taken_out_bit_by_bit() {
    let mut play = Play::new(1, 1);
    let clients: Vec<_> = (0..30).map(|_| play.connected(0)).collect();
    let channels: Vec<String> = (0..100).map(|n| format!("live:{n}")).collect();
    for &client in &clients {
        channels.iter().for_each(|channel| play.subscribe(client, channel));
        play.0.settle();
    }
    clients.iter().for_each(|client| play.gone(*client));
    fail_all(&mut play, false);
    let present = |play: &mut Play| -> usize { channels.iter().map(|name| play.store().present(name).len()).sum() };
    let mut before = present(&mut play);
    assert_eq!(before, 3_000);
    for _ in 0..3 {
        play.0.wait(1_000);
        let now = present(&mut play);
        assert!(before - now <= LEAVERS_SLICE, "{} at once", before - now);
        before = now;
    }
    assert_eq!(before, 0);
    play.assert_empty();
}
