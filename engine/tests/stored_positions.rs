//! Positions of subscribers whose stream is in a store, step by step: nothing missed, nothing twice, whatever overtakes what.

mod world;

use gyre_engine::limits::HEARD_MEANWHILE_MAX;
use world::by_hand::{Client, Play, pushes};
use world::store::Lane;

/// A publication between the read of the position and its reply would be missed, or told twice.
#[test]
fn what_overtakes_the_read_is_joined_on() {
    let mut play = Play::new(1, 1);
    let a = play.connected(0);
    assert_eq!(play.offset(0, "kept:x", "", 0), 1);
    play.subscribe(a, "kept:x");
    play.lane(0, Lane::Hears, 1);
    play.lane(0, Lane::Messages, 1);
    // Before the read and after it, both heard before its reply.
    play.publish(0, "kept:x");
    play.lane(0, Lane::Calls, 1);
    play.lane(0, Lane::Calls, 1);
    play.publish(0, "kept:x");
    play.lane(0, Lane::Calls, 1);
    play.lane(0, Lane::Messages, 2);
    assert!(play.told(a).is_empty());
    play.publish(0, "kept:x");
    play.0.settle();
    let told = play.told(a);
    assert_eq!(told[0], r#"{"id":2,"subscribe":{"recoverable":true,"offset":3,"positioned":true}}"#);
    assert_eq!(told[1..], pushes(4..5));
    // Away, and back with what was missed, part of it heard while it was read.
    play.unsubscribe(a, "kept:x");
    play.publish(0, "kept:x");
    play.0.settle();
    play.told(a);
    play.say(a, r#"{"id":4,"subscribe":{"channel":"kept:x","recover":true,"offset":3}}"#);
    play.lane(0, Lane::Calls, 1);
    play.publish(0, "kept:x");
    play.lane(0, Lane::Calls, 1);
    play.lane(0, Lane::Messages, 1);
    play.0.settle();
    let told = play.told(a);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].contains(r#""offset":4},{"data":1,"offset":5},{"data":1,"offset":6}],"recovered":true,"offset":3"#)
    );
}

/// A recovery cut short by its limit has a hole; what is heard meanwhile must not hide it.
#[test]
fn a_page_cut_short_is_no_recovery() {
    let mut play = Play::new(1, 1);
    let a = play.connected(0);
    (0..400).for_each(|_| play.publish(0, "kept:x"));
    play.0.settle();
    play.say(a, r#"{"id":2,"subscribe":{"channel":"kept:x","recover":true,"offset":1}}"#);
    play.lane(0, Lane::Hears, 1);
    play.lane(0, Lane::Messages, 1);
    play.lane(0, Lane::Calls, 1);
    play.publish(0, "kept:x");
    play.lane(0, Lane::Calls, 1);
    play.lane(0, Lane::Messages, 1);
    play.0.settle();
    let told = play.told(a);
    let expected = r#"{"id":2,"subscribe":{"recoverable":true,"offset":401,"positioned":true,"was_recovering":true}}"#;
    assert_eq!(told, [expected]);
}

/// A read that began before the data was lost says nothing about the stream that began after.
#[test]
fn a_read_from_before_a_loss_is_repeated() {
    let mut play = Play::new(1, 1);
    let a = play.connected(0);
    (0..5).for_each(|_| play.publish(0, "kept:x"));
    play.0.settle();
    play.subscribe(a, "kept:x");
    play.lane(0, Lane::Hears, 1);
    play.lane(0, Lane::Messages, 1);
    play.lane(0, Lane::Calls, 1);
    play.store().lose_data();
    play.publish(0, "kept:x");
    play.publish(0, "kept:x");
    play.lane(0, Lane::Calls, 2);
    play.lane(0, Lane::Messages, 2);
    play.0.settle();
    assert_eq!(play.told(a), [r#"{"id":2,"subscribe":{"recoverable":true,"offset":2,"positioned":true}}"#]);
    play.publish(0, "kept:x");
    play.0.settle();
    assert_eq!(play.told(a), pushes(3..4));
}

/// In a busy channel where somebody is always on the way in, nobody may be kept out by what was heard before he came.
#[test]
fn a_busy_door_lets_people_in() {
    let mut play = Play::new(1, 1);
    let clients: Vec<Client> = (0..6).map(|_| play.connected(0)).collect();
    let listener = play.connected(0);
    play.subscribe(listener, "kept:x");
    play.0.settle();
    for pair in clients.windows(2) {
        if pair[0] == clients[0] {
            play.subscribe(pair[0], "kept:x");
        }
        // The next one comes before the one before is in.
        (0..HEARD_MEANWHILE_MAX / 2 + 100).for_each(|_| play.publish(0, "kept:x"));
        play.lane(0, Lane::Calls, HEARD_MEANWHILE_MAX);
        play.lane(0, Lane::Messages, HEARD_MEANWHILE_MAX);
        play.subscribe(pair[1], "kept:x");
        play.lane(0, Lane::Calls, 1);
        while play.told(pair[0]).iter().all(|text| !text.contains("subscribe")) {
            assert!(play.0.busy_lanes().contains(&(0, Lane::Replies)), "nobody is let in");
            play.lane(0, Lane::Replies, 1);
        }
    }
    play.0.settle();
    assert!(play.told(clients[5])[0].contains(r#""subscribe":{"recoverable":true"#));
}

/// What the store did not hand over may stay unnoticed for about a minute, not for ever.
#[test]
fn a_silent_loss_is_found_by_the_position_check() {
    let mut play = Play::new(1, 2);
    let (a, b) = (play.connected(0), play.connected(1));
    play.subscribe(a, "kept:x");
    play.subscribe(b, "kept:x");
    play.0.settle();
    play.told(a);
    play.told(b);
    play.publish(0, "kept:x");
    for _ in 0..2 {
        play.0.busy_rings().into_iter().for_each(|(from, to)| play.0.step(from, to));
    }
    (0..2).for_each(|site| play.lane(site, Lane::Calls, 1));
    for site in 0..2 {
        let (heard, _) = play.store().break_hearing(site);
        for channel in heard {
            play.store().hear_anew(site, &channel);
        }
        // Without a word about it.
        play.store().step(site, Lane::Messages);
    }
    play.0.settle();
    assert!(play.told(a).is_empty() && play.told(b).is_empty());
    play.0.wait(70_000);
    let lost = r#"{"push":{"channel":"kept:x","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
    assert_eq!((play.told(a), play.told(b)), (vec![lost.to_owned()], vec![lost.to_owned()]));
}

/// After a reconnect to the store nobody who missed something waits for a minute, and nobody else is bothered.
#[test]
fn a_loss_is_told_when_the_channel_is_heard_again() {
    for is_lost in [false, true] {
        let mut play = Play::new(1, 2);
        let (a, b) = (play.connected(0), play.connected(1));
        play.publish(0, "kept:x");
        play.0.settle();
        play.subscribe(a, "kept:x");
        play.subscribe(b, "kept:x");
        play.0.settle();
        play.told(a);
        play.told(b);
        for site in 0..2 {
            let (_, tickets) = play.store().break_hearing(site);
            assert!(tickets.is_empty());
        }
        if is_lost {
            play.publish(0, "kept:x");
        }
        play.0.settle();
        for site in 0..2 {
            for channel in play.0.sites[site].engine.channels_heard() {
                play.store().hear_anew(site, &channel);
            }
        }
        play.0.settle();
        let lost = r#"{"push":{"channel":"kept:x","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
        let expected: Vec<String> = is_lost.then(|| lost.to_owned()).into_iter().collect();
        assert_eq!((play.told(a), play.told(b)), (expected.clone(), expected));
    }
}

/// A retry must not be delivered twice, whichever node it reaches, nor an older state after a newer one.
#[test]
fn keys_and_versions_hold_on_all_nodes() {
    let mut play = Play::new(2, 1);
    let a = play.connected(0);
    play.subscribe(a, "kept:x");
    play.0.settle();
    play.told(a);
    assert_eq!(play.offset(0, "kept:x", "k", 0), 1);
    assert_eq!(play.offset(1, "kept:x", "k", 0), 1);
    assert_eq!(play.offset(1, "kept:x", "", 7), 2);
    assert_eq!(play.offset(0, "kept:x", "", 7), 2);
    assert_eq!(play.told(a).len(), 2);
}
