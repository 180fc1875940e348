//! Races and faults between a core and the store, each step by step: who hears, who is present, who is answered what.

mod world;

use gyre_engine::StoreReply;
use gyre_engine::limits::{HEARING_LINGER_MS, LEAVERS_SLICE};
use gyre_proto::Encoding;
use world::by_hand::Play;
use world::store::{Call, Lane};

/// Otherwise each client that reconnects costs the store an UNSUBSCRIBE and a SUBSCRIBE, or a channel is heard for ever.
#[test]
fn a_channel_is_heard_a_little_longer_than_needed() {
    let mut play = Play::new(1, 1);
    let (a, b) = (play.connected(0), play.connected(0));
    play.subscribe(a, "live:x");
    play.0.settle();
    assert_eq!(play.store().heard(), ["live:x"]);
    play.unsubscribe(a, "live:x");
    play.0.wait(HEARING_LINGER_MS - 100);
    assert_eq!(play.store().heard(), ["live:x"]);
    play.subscribe(b, "live:x");
    play.0.wait(2 * HEARING_LINGER_MS);
    assert_eq!(play.store().heard(), ["live:x"]);
    play.unsubscribe(b, "live:x");
    play.0.wait(HEARING_LINGER_MS);
    assert!(play.store().heard().is_empty());
    play.gone(a);
    play.gone(b);
    play.assert_empty();
}

/// Two that cross would leave a subscriber in a channel that nobody hears.
#[test]
fn who_comes_while_hearing_ends_waits_for_it_to_begin_again() {
    let mut play = Play::new(1, 1);
    let (a, b) = (play.connected(0), play.connected(0));
    play.subscribe(a, "live:x");
    play.0.settle();
    play.unsubscribe(a, "live:x");
    play.0.settle();
    play.0.now.mono_ms += HEARING_LINGER_MS;
    play.0.on(0, |engine, hands| engine.turn(hands));
    assert_eq!(play.0.busy_lanes(), [(0, Lane::Hears)]);
    play.subscribe(b, "live:x");
    play.lane(0, Lane::Hears, 1);
    assert!(play.store().heard().is_empty() && play.told(b).is_empty());
    play.0.settle();
    assert_eq!(play.told(b), [r#"{"id":2,"subscribe":{}}"#]);
    play.publish(0, "live:x");
    play.0.settle();
    assert_eq!(play.told(b), [r#"{"push":{"channel":"live:x","pub":{"data":1}}}"#]);
}

/// The store may hear on although it said no: the channel would be paid for until the next restart.
#[test]
fn ending_is_tried_again() {
    for is_refused in [false, true] {
        let mut play = Play::new(1, 1);
        let (a, b) = (play.connected(0), play.connected(0));
        play.subscribe(a, "live:x");
        play.0.settle();
        play.unsubscribe(a, "live:x");
        play.0.settle();
        play.0.now.mono_ms += HEARING_LINGER_MS;
        play.0.sites[0].hands.is_deaf = is_refused;
        play.0.on(0, |engine, hands| engine.turn(hands));
        if !is_refused {
            play.store().fail_hear(0, true);
        }
        play.0.settle();
        play.0.sites[0].hands.is_deaf = false;
        // It may have had its effect, so it has to begin anew.
        play.subscribe(b, "live:x");
        play.0.settle();
        assert_eq!(play.store().heard(), ["live:x"]);
        play.gone(a);
        play.gone(b);
        play.assert_empty();
    }
}

/// A client that gives up must not sit in presence until the entry runs out.
#[test]
fn who_goes_while_entering_leaves_nothing_behind() {
    // After so many of: hear asked, confirmed, presence entered, answered.
    for steps in 0..5 {
        let mut play = Play::new(1, 1);
        let a = play.connected(0);
        play.subscribe(a, "live:x");
        let path = [Lane::Hears, Lane::Messages, Lane::Calls, Lane::Replies];
        path.iter().take(steps).for_each(|lane| play.lane(0, *lane, 1));
        play.gone(a);
        play.assert_empty();
    }
}

/// A store that cannot be asked is error 100 for a command, and no trace of it stays.
#[test]
fn refused_calls_are_error_100() {
    for cores in [1, 2] {
        let mut play = Play::new(1, cores);
        let a = play.connected(0);
        for channel in ["live:x", "kept:x", "live:y", "kept:y"] {
            for command in ["subscribe", "publish", "presence", "history", "presence_stats"] {
                let is_offered = match command {
                    "history" => channel.starts_with("kept"),
                    "presence" | "presence_stats" => channel.starts_with("live"),
                    _ => true,
                };
                if !is_offered {
                    continue;
                }
                play.0.sites.iter_mut().for_each(|site| site.hands.has_store = false);
                play.say(a, &format!(r#"{{"id":5,"{command}":{{"channel":"{channel}","data":1}}}}"#));
                play.0.settle();
                let told = play.told(a);
                assert_eq!(
                    told,
                    [r#"{"id":5,"error":{"code":100,"message":"internal server error","temporary":true}}"#]
                );
                play.0.sites.iter_mut().for_each(|site| site.hands.has_store = true);
            }
        }
        play.gone(a);
        play.assert_empty();
    }
}

/// A connection whose server-side subscriptions cannot be made must come again, and hold nothing meanwhile.
#[test]
fn a_connect_without_its_subscriptions_is_closed() {
    let claims = "eyJzdWIiOiJ1IiwiY2hhbm5lbHMiOlsibGl2ZTp4IiwibGl2ZTp5Iiwia2VwdDp4Iiwia2VwdDp5Il19";
    for fails in [0, 1, 2, 3] {
        let mut play = Play::new(1, 2);
        let conn = play.0.open(0, Encoding::Json);
        play.0.sites.iter_mut().for_each(|site| site.hands.has_store = fails != 0);
        let token = format!("eyJhbGciOiJIUzI1NiJ9.{claims}.AAAA");
        play.say((0, conn), &format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
        while let Some((from, to)) = play.0.busy_rings().first().copied() {
            play.0.step(from, to);
        }
        for site in 0..2 {
            match fails {
                1 => play.store().fail_hear(site, true),
                2 => {
                    play.lane(site, Lane::Hears, 9);
                    play.lane(site, Lane::Messages, 9);
                    play.store().fail_call(site, true);
                }
                _ => {}
            }
        }
        play.0.settle();
        let told = play.told((0, conn));
        match fails {
            3 => assert!(told[0].contains(r#""connect":{"#), "{told:?}"),
            _ => assert_eq!(told, ["closed 3004"]),
        }
        play.0.sites.iter_mut().for_each(|site| site.hands.has_store = true);
        play.gone((0, conn));
        play.assert_empty();
    }
}

/// A refusal overtakes what is with the store; told as the answer to another publication it would make a lost one look
/// accepted and an accepted one lost.
#[test]
fn publications_are_answered_each_with_its_own_result() {
    for cores in [1, 2, 3] {
        for channel in ["kept:x", "kept:y", "kept:z"] {
            let mut play = Play::new(1, cores);
            let a = play.connected(0);
            let publish =
                |id: u32, channel: &str| format!(r#"{{"id":{id},"publish":{{"channel":"{channel}","data":{id}}}}}"#);
            play.say(a, &format!("{}\n{}", publish(11, channel), publish(12, channel)));
            let deliver = |play: &mut Play| {
                while let Some((from, to)) = play.0.busy_rings().first().copied() {
                    play.0.step(from, to);
                }
            };
            deliver(&mut play);
            play.0.sites.iter_mut().for_each(|site| site.hands.has_store = false);
            play.say(a, &publish(13, channel));
            deliver(&mut play);
            play.0.sites.iter_mut().for_each(|site| site.hands.has_store = true);
            play.say(a, &format!("{}\n{}", publish(14, channel), publish(15, "kept:w")));
            assert!(play.told(a).is_empty());
            play.0.settle();
            let error = |id| {
                format!(r#"{{"id":{id},"error":{{"code":100,"message":"internal server error","temporary":true}}}}"#)
            };
            let done = |id| format!(r#"{{"id":{id},"publish":{{}}}}"#);
            assert_eq!(play.told(a), [done(11), done(12), error(13), done(14), done(15)]);
        }
    }
}

/// Whoever waits for a channel to be heard is told when the connection for that has gone.
#[test]
fn a_break_answers_those_who_wait() {
    let mut play = Play::new(1, 1);
    let a = play.connected(0);
    play.subscribe(a, "live:x");
    let (_, tickets) = play.store().break_hearing(0);
    assert_eq!(tickets.len(), 1);
    play.0.on(0, |engine, hands| engine.stored(tickets[0], StoreReply::Failed, hands));
    assert!(play.told(a)[0].contains(r#""code":100"#));
    play.gone(a);
    play.assert_empty();
}

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
