//! The model of the scripts of channel states against the table of states (pro-features.md 1.5), so that simulators which
//! rest on it prove something. The scripts themselves are held to the same cases in `tests/blackbox/python`.

#[path = "state_model/mod.rs"]
mod state_model;

use gyre_engine::backend::ProxyId;
use gyre_engine::{Expired, StateCall, StateReply, StateWhat, Vacated};
use state_model::{Added, StateModel};

const TTL_MS: u64 = 60_000;
const DELAY_MS: u64 = 5000;
const BACKEND: ProxyId = ProxyId(0);
const T0: u64 = 1_700_000_000_000;

fn model() -> StateModel {
    let mut model = StateModel::new(TTL_MS, DELAY_MS, 1000);
    ask(&mut model, T0, StateWhat::Take { life_ms: 1_000_000 });
    model
}

fn ask(model: &mut StateModel, now_ms: u64, what: StateWhat<'_>) -> StateReply {
    model.ask(&StateCall { partition: 7, token: "node.1", what }, now_ms)
}

fn vacate(model: &mut StateModel, now_ms: u64) -> Vacated {
    match ask(model, now_ms, StateWhat::Vacate { channel: "c", proxy: Some(BACKEND) }) {
        StateReply::Vacated(vacated) => vacated,
        other => panic!("{other:?}"),
    }
}

fn kinds(model: &mut StateModel) -> Vec<&'static str> {
    let events = model.partition(7).events.get(&BACKEND).into_iter().flatten();
    events.map(|(_, event)| event.kind.name()).collect()
}

/// A worker proven against it would tell a channel as vacated while somebody is there, or never.
#[test]
fn states_of_a_channel() {
    let mut model = model();
    let (added, cancelled) = (
        Added { is_new: true, appended: true, ..Added::default() },
        Added { is_new: true, cancelled: true, ..Added::default() },
    );
    assert_eq!(model.add(7, "c", "a", Some(BACKEND), T0), added);
    assert_eq!(model.remove(7, "c", "a", T0), (true, true));
    assert_eq!(model.remove(7, "c", "a", T0 + 1), (false, false), "twice is once");
    assert_eq!(model.add(7, "c", "b", Some(BACKEND), T0 + 3000), cancelled);
    assert_eq!(model.remove(7, "c", "b", T0 + 4000), (true, true));
    assert_eq!(vacate(&mut model, T0 + 8999), Vacated::No);
    assert_eq!(vacate(&mut model, T0 + 9000), Vacated::Told);
    assert_eq!(vacate(&mut model, T0 + 9000), Vacated::No);
    assert_eq!(kinds(&mut model), ["occupied", "vacated"]);
    assert_eq!(model.add(7, "c", "a", Some(BACKEND), T0 + 10_000), added);
    assert_eq!(ask(&mut model, T0 + 69_999, StateWhat::Expire("c")), StateReply::Expired(Expired::No));
    assert_eq!(ask(&mut model, T0 + 70_000, StateWhat::Expire("c")), StateReply::Expired(Expired::Pending));
    assert_eq!(vacate(&mut model, T0 + 75_000), Vacated::Told);
    assert_eq!(kinds(&mut model), ["occupied", "vacated", "occupied", "vacated"]);
}

/// A worker proven against it would go on after another has taken over, or hold back events after an outage.
#[test]
fn leases_ticks_and_full_queues() {
    let mut model = model();
    model.queue_max = 1;
    model.add(7, "c", "a", Some(BACKEND), T0);
    assert!(model.add(7, "d", "a", Some(BACKEND), T0).dropped);
    model.remove(7, "c", "a", T0);
    let step = |model: &mut StateModel, now_ms, tick_age_max_ms| {
        let proxies = &[BACKEND];
        let what = StateWhat::Step { life_ms: 1_000_000, tick_age_max_ms, channels_max: 9, events_max: 9, proxies };
        match ask(model, now_ms, what) {
            StateReply::Step(step) => Some((step.ticked_ms, step.due.len(), step.events[0].1.clone())),
            StateReply::Lost => None,
            other => panic!("{other:?}"),
        }
    };
    let (ticked_ms, due, events) = step(&mut model, T0, Some(15_000)).unwrap();
    assert_eq!((ticked_ms, due, events.len()), (None, 0, 1));
    let (ticked_ms, due, _) = step(&mut model, T0 + 15_001, Some(15_000)).unwrap();
    assert_eq!((ticked_ms, due), (Some(T0), 0), "too long ago: not noted");
    assert_eq!(step(&mut model, T0 + 15_001, None).unwrap().1, 1);
    assert_eq!(step(&mut model, T0 + 15_001, Some(15_000)).unwrap().0, Some(T0 + 15_001));
    assert_eq!(vacate(&mut model, T0 + 15_001), Vacated::Dropped);
    let ids = [events[0].id];
    let forget = StateWhat::Forget { proxy: BACKEND, ids: &ids };
    assert_eq!(ask(&mut model, T0 + 15_001, forget.clone()), StateReply::Forgotten(1));
    assert_eq!(ask(&mut model, T0 + 15_001, forget.clone()), StateReply::Forgotten(0));
    let other = StateCall { partition: 7, token: "node.2", what: StateWhat::Take { life_ms: 10 } };
    assert!(matches!(model.ask(&other, T0 + 15_001), StateReply::Lease { is_held: false, .. }));
    assert!(matches!(model.ask(&other, T0 + 2_000_000), StateReply::Lease { is_held: true, left_ms: 10, .. }));
    assert_eq!(ask(&mut model, T0 + 2_000_000, forget), StateReply::Lost);
    assert_eq!(step(&mut model, T0 + 2_000_000, None), None);
}
