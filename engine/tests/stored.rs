//! Races and faults between a core and the store, each step by step: who hears, who is answered what.

mod world;

use gyre_engine::StoreReply;
use gyre_engine::limits::HEARING_LINGER_MS;
use gyre_proto::Encoding;
use world::by_hand::Play;
use world::store::Lane;

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
