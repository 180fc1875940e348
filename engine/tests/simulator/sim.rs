//! The world under test beside its model: each call of an engine is first worked out in the model, then made, then what
//! came of it is written into the channels' logs and judged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fastrand::Rng;
use gyre_engine::{
    Act, ActWhat, CallId, Caller, Engine, HistoryCall, HomeCall, HomeReply, HomeRequest, Message, PublishCall,
    SurveyWhat,
};
use gyre_proto::ids::ConnId;

use crate::backend::Question;
use crate::model::{Channel, Model, Pos, Publish, What};
use crate::peer::{Agent, Conn, Key};
use crate::setup::Setup;
use crate::wire::{Say, number_of};
use crate::world::{Hands, World};

/// What a server API call must be answered with.
#[derive(Debug)]
pub(crate) enum Expected {
    Published(Option<Pos>),
    Congested,
    Anything,
}

/// What a home core has done in one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) publications: u64,
    pub(crate) joins: u64,
}

impl Tally {
    fn of(world: &World, core: usize) -> Self {
        let counters = world.sites[core].engine.counters();
        Self { publications: counters.publishes, joins: counters.joins }
    }
}

pub(crate) struct Sim {
    pub(crate) world: World,
    pub(crate) model: Model,
    pub(crate) setup: Setup,
    pub(crate) rng: Rng,
    pub(crate) agents: Vec<Agent>,
    pub(crate) conns: BTreeMap<Key, Conn>,
    /// Ended by the engine; the connection table has yet to say that it is closed.
    pub(crate) zombies: Vec<Key>,
    pub(crate) dead: Vec<Key>,
    pub(crate) free: Vec<Vec<ConnId>>,
    pub(crate) expected: BTreeMap<CallId, Expected>,
    /// Users and channels (none = disconnect) that the server API has acted on.
    pub(crate) acts: BTreeSet<(String, Option<usize>)>,
    /// Users and channels that the server API has given to each other.
    pub(crate) given: BTreeSet<(String, usize)>,
    /// Acts, and how many cores have not answered yet.
    pub(crate) acts_in_flight: BTreeMap<CallId, usize>,
    /// What the model has done before the call in progress.
    foreseen: Tally,
    /// Calls to the backend without an answer.
    pub(crate) questions: Vec<Question>,
    pub(crate) next_n: u64,
    pub(crate) next_uuid: u128,
    pub(crate) is_shutting_down: bool,
    pub(crate) has_been_congested: bool,
    pub(crate) trace: Option<VecDeque<String>>,
}

impl Sim {
    pub(crate) fn new(mut setup: Setup, rng: Rng, seed: u64, is_traced: bool) -> Self {
        let mut world = World::new(setup.cores, setup.rules.clone(), seed);
        let mut model = Model::default();
        for (name, options) in std::mem::take(&mut setup.channels) {
            // The home core is the one that answers at once.
            let is_home = |core: &usize| world.call(*core, &name, HomeCall::PresenceStats).1.is_some();
            let home = (0..usize::from(setup.cores)).find(is_home).expect("every channel has a home");
            model.channels.push(Channel::new(name, home, options));
        }
        world.settle();
        for site in &mut world.sites {
            site.hands.answers.clear();
        }
        let free = vec![Vec::new(); setup.cores.into()];
        Self {
            world,
            model,
            setup,
            rng,
            agents: Vec::new(),
            conns: BTreeMap::new(),
            zombies: Vec::new(),
            dead: Vec::new(),
            free,
            expected: BTreeMap::new(),
            acts: BTreeSet::new(),
            given: BTreeSet::new(),
            acts_in_flight: BTreeMap::new(),
            foreseen: Tally::default(),
            questions: Vec::new(),
            next_n: 0,
            next_uuid: 0,
            is_shutting_down: false,
            has_been_congested: false,
            trace: is_traced.then(VecDeque::new),
        }
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push_back(what());
            if trace.len() > 400 {
                trace.pop_front();
            }
        }
    }

    /// Tells the model which call comes next.
    pub(crate) fn prepare(&mut self) {
        self.model.now_ms = self.world.now.mono_ms;
        self.model.beat = self.world.beat + 1;
        self.foreseen = Tally::default();
    }

    /// Makes one call of the engine of `core` and judges what comes of it. [`Self::prepare`] goes before.
    fn judged<T>(&mut self, core: usize, call: impl FnOnce(&mut World) -> T) -> T {
        let before = Tally::of(&self.world, core);
        let result = call(&mut self.world);
        let after = Tally::of(&self.world, core);
        let unforeseen = Tally {
            publications: after.publications - before.publications - self.foreseen.publications,
            joins: after.joins - before.joins - self.foreseen.joins,
        };
        self.digest(core, unforeseen);
        self.take_questions(core);
        for (number, reply) in std::mem::take(&mut self.world.sites[core].hands.answers) {
            let expected = self.expected.remove(&number).expect("a call is answered once");
            match (expected, reply) {
                (Expected::Published(pos), HomeReply::Published(at)) => self.model.same_as(pos, at),
                (Expected::Congested, HomeReply::Congested) => {}
                (Expected::Anything, reply) if !matches!(reply, HomeReply::Published(_) | HomeReply::Congested) => {}
                (expected, reply) => panic!("{expected:?} was due, not {reply:?}"),
            }
        }
        result
    }

    pub(crate) fn on<T>(&mut self, core: usize, act: impl FnOnce(&mut Engine, &mut Hands) -> T) -> T {
        self.judged(core, |world| world.on(core, act))
    }

    /// Delivers one ring message.
    pub(crate) fn step(&mut self, from: usize, to: usize) {
        self.prepare();
        let is_publish = matches!(self.world.next_message(from, to),
            Some(Message::Call(request)) if matches!(request.call, HomeCall::Publish(_)));
        // Told before a home core takes a publication; what else a congested core puts off is not simulated.
        let is_congested = is_publish && self.rng.u32(..50) == 0;
        self.world.sites[to].hands.is_congested = is_congested;
        self.has_been_congested |= is_congested;
        let mut act = None;
        let mut text = None;
        if let Some(message) = self.world.next_message(from, to) {
            text = self.trace.is_some().then(|| format!("ring {from}->{to} {message:?}"));
            match message {
                Message::Call(request) => {
                    let mut foresight = Foresight {
                        model: &mut self.model,
                        conns: &mut self.conns,
                        expected: &mut self.expected,
                        foreseen: &mut self.foreseen,
                        is_congested: self.world.sites[to].hands.is_congested,
                    };
                    foresight.of(to, request);
                }
                Message::Survey(survey) => {
                    if let SurveyWhat::Act(it) = &survey.what {
                        act = Some(Arc::clone(it));
                    }
                }
                _ => {}
            }
        }
        self.note(|| text.unwrap_or_default());
        let victims = act.map_or(Vec::new(), |act| self.victims(to, &act));
        self.judged(to, |world| world.step(from, to));
        self.world.sites[to].hands.is_congested = false;
        self.check_victims(&victims);
    }

    /// The timer of a connection runs off, whether the connection is still there or not.
    pub(crate) fn timeout(&mut self, core: usize, id: ConnId) {
        self.prepare();
        self.note(|| format!("timeout {core} {id:?}"));
        // Positions in channels whose home is here are compared without a message that could be seen.
        let key = (core, id.index, id.generation);
        let subs = self.conns.get(&key).map(|conn| conn.subs.iter().filter(|(_, sub)| sub.pos.is_some()));
        let here = subs.into_iter().flatten().map(|(channel, _)| *channel);
        let here: Vec<usize> = here.filter(|channel| self.model.channels[*channel].home == core).collect();
        let checks = self.world.sites[core].engine.counters().position_checks;
        self.on(core, |engine, hands| engine.timeout(id, hands));
        if self.world.sites[core].engine.counters().position_checks > checks {
            for channel in here {
                // Which of them is not known; now all streams have been looked at.
                let call =
                    HistoryCall { limit: 0, since: None, reverse: false, meta_ttl_ms: self.meta_ttl_ms(channel) };
                self.call(core, channel, HomeCall::History(call));
                self.model.access(channel);
            }
        }
    }

    pub(crate) fn meta_ttl_ms(&self, channel: usize) -> u64 {
        self.model.channels[channel].options.history_meta_ttl_s * 1000
    }

    /// The server API does something with the sessions of a user.
    pub(crate) fn act(&mut self, core: usize, act: Act) {
        self.prepare();
        let user = act.user.to_string();
        match self.channel_given(&act) {
            Some(channel) => _ = self.given.insert((user, channel)),
            None => _ = self.acts.insert((user, self.channel_of(&act))),
        }
        let victims = self.victims(core, &act);
        let number = self.judged(core, |world| world.api_act(core, act.into()));
        self.acts_in_flight.insert(number, self.world.cores);
        self.check_victims(&victims);
    }

    /// The channel that sessions lose by an act; `None` = they end.
    fn channel_of(&self, act: &Act) -> Option<usize> {
        match &act.what {
            ActWhat::Unsubscribe { channel, .. } => Some(self.model.find(channel)),
            _ => None,
        }
    }

    /// Connections of a core that must lose a channel (or, with none, end) by an act. Those that wait for the channel
    /// lose it later.
    fn victims(&mut self, core: usize, act: &Act) -> Vec<(Key, Option<usize>)> {
        let mut victims = Vec::new();
        let (channel, given) = (self.channel_of(act), self.channel_given(act));
        for (key, conn) in self.conns.iter_mut().filter(|(key, conn)| key.0 == core && conn.is_admitted) {
            if conn.user != *act.user || (!act.client.is_empty() && conn.uuid != *act.client) {
                continue;
            }
            if let Some(channel) = given {
                Self::expect_gift(conn, channel);
                continue;
            }
            match channel {
                None => victims.push((*key, None)),
                Some(channel) if Self::take_gifts_away(conn, channel) => {
                    // Behind the gifts that wait, if it is not done at once.
                    conn.subs.get_mut(&channel).into_iter().for_each(|sub| sub.must_end = true);
                    // The first command may be behind the gifts as well; then it is not meant.
                    if conn.is_connecting() {
                        revoke_asked(conn, channel, &self.model.channels[channel].name);
                    }
                }
                Some(channel) if conn.subs.contains_key(&channel) => victims.push((*key, Some(channel))),
                Some(channel) => revoke_asked(conn, channel, &self.model.channels[channel].name),
            }
        }
        victims
    }

    fn check_victims(&self, victims: &[(Key, Option<usize>)]) {
        for (key, channel) in victims {
            let conn = self.conns.get(key);
            let still = conn.is_some_and(|conn| channel.is_none_or(|channel| conn.subs.contains_key(&channel)));
            assert!(!still, "{key:?} survived an act of the server API on {channel:?}");
        }
    }

    /// Makes a server API call.
    pub(crate) fn call(&mut self, core: usize, channel: usize, call: HomeCall) -> Option<HomeReply> {
        self.prepare();
        let is_home = self.model.channels[channel].home == core;
        let expected = match &call {
            HomeCall::Publish(publish) if is_home => {
                self.foreseen.publications = 1;
                Expected::Published(self.model.publish(channel, &publish_of(publish), None))
            }
            HomeCall::HistoryRemove if is_home => {
                self.model.remove_history(channel);
                Expected::Anything
            }
            _ => Expected::Anything,
        };
        let name = self.model.channels[channel].name.clone();
        let (number, reply) = self.judged(core, |world| world.call(core, &name, call));
        assert_eq!(reply.is_some(), is_home, "only the home core answers at once");
        match &reply {
            Some(HomeReply::Published(at)) => {
                let Expected::Published(pos) = expected else { panic!("unexpected {at:?}") };
                self.model.same_as(pos, *at);
            }
            Some(_) => {}
            None => {
                self.expected.insert(number, Expected::Anything);
            }
        }
        reply
    }
}

/// A channel that is being set up for a connection is taken away by the server API.
fn revoke_asked(conn: &mut Conn, channel: usize, name: &str) {
    match conn.asked.front_mut() {
        Some(front) if matches!(&front.say, Say::Subscribe { channel, .. } if channel == name) => {
            front.is_revoked = true;
        }
        Some(front) if matches!(front.say, Say::Connect { .. }) => {
            conn.plan.iter_mut().filter(|p| p.channel == channel).for_each(|p| p.is_revoked = true);
        }
        _ => {}
    }
}

fn publish_of(call: &PublishCall) -> Publish<'_> {
    Publish {
        n: number_of(&call.publication.data),
        is_json: !call.publication.data.starts_with(b"!"),
        client: call.publication.info.as_ref().map_or("", |info| &info.client),
        key: &call.idempotency_key,
        version: call.version,
    }
}

/// Works out what a home core makes of a call that reaches it.
struct Foresight<'a> {
    model: &'a mut Model,
    conns: &'a mut BTreeMap<Key, Conn>,
    expected: &'a mut BTreeMap<CallId, Expected>,
    foreseen: &'a mut Tally,
    is_congested: bool,
}

impl Foresight<'_> {
    fn of(&mut self, to: usize, request: &HomeRequest) {
        let channel = self.model.find(&request.channel);
        assert_eq!(self.model.channels[channel].home, to, "calls go to the home core");
        let conn = match request.caller {
            Caller::Session { core, conn, .. } => self.conns.get_mut(&(core.0.into(), conn.index, conn.generation)),
            _ => None,
        };
        match &request.call {
            HomeCall::Subscribe(call) => {
                let position = call.position.as_ref().map(|position| position.recover.as_ref());
                let start = self.model.start(channel, position);
                if let Some(conn) = conn {
                    let before = conn.starts.insert(channel, start);
                    assert!(before.is_none(), "subscribed twice");
                }
            }
            HomeCall::Unsubscribe(call) => {
                if let Some(info) = &call.leave {
                    self.model.tell(channel, What::Leave(info.client.clone()));
                }
            }
            HomeCall::Join(info) => {
                self.foreseen.joins = 1;
                self.model.tell(channel, What::Join(info.client.clone()));
            }
            HomeCall::Publish(_) if self.is_congested => {
                if let Caller::Api { call, .. } = request.caller {
                    self.expected.insert(call, Expected::Congested);
                }
            }
            HomeCall::Publish(call) => {
                self.foreseen.publications = 1;
                let pos = self.model.publish(channel, &publish_of(call), None);
                if let Caller::Api { call, .. } = request.caller {
                    self.expected.insert(call, Expected::Published(pos));
                }
            }
            HomeCall::History(call) => {
                let page = self.model.read(channel, call);
                if let Some(conn) = conn {
                    conn.page = Some(page);
                }
            }
            HomeCall::HistoryRemove => self.model.remove_history(channel),
            HomeCall::Presence | HomeCall::PresenceStats | HomeCall::Renew(..) => {}
            HomeCall::CheckPosition { .. } => {
                self.model.access(channel);
            }
        }
    }
}
