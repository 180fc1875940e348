//! Calls that wait: for an answer, for room, for each other.

use gyre_engine::backend::StateEventKind;

use super::*;

/// Replies of calls under way, in the order in which they came.
#[derive(Clone, Default)]
struct Replies(Rc<RefCell<Vec<(usize, BackendReply)>>>);

impl Replies {
    fn call(&self, backends: &Backends, number: usize, call: BackendCall) {
        let replies = self.clone();
        backends.call(call, move |reply| replies.0.borrow_mut().push((number, reply)));
    }

    fn len(&self) -> usize {
        self.0.borrow().len()
    }

    async fn wait(&self, count: usize) -> Vec<(usize, BackendReply)> {
        until(|| self.len() >= count).await;
        self.0.borrow().clone()
    }
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn populated(populated: bool) -> BackendReply {
    BackendReply::Result(Box::new(BackendResult::CacheEmpty(populated)))
}

/// A backend that hangs must not hang clients: silence, an unfinished answer and no host at all end in time.
#[test]
fn timeouts() {
    run(async {
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{";
        let server = Server::start(move |_, number| if number == 0 { String::new() } else { half.into() }).await;
        let mut proxy = http_proxy(server.url());
        proxy.timeout = Duration::from_millis(50);
        let backends = backends(proxy);
        assert_eq!(ask(&backends, rpc("1")).await, BackendReply::Failed);
        assert_eq!(ask(&backends, rpc("1")).await, BackendReply::Failed);
        assert_eq!(server.seen().len(), 2);
        let stats = backends.list[0].stats.borrow();
        assert_eq!((stats.errors(Kind::Rpc), stats.in_flight(Kind::Rpc)), (2, 0));
        assert_eq!(backends.list[0].entered.get(), 0);
    });
}

/// One backend that hangs must not take the node's memory and descriptors: so many calls go to it, so many wait, and the
/// others fail at once. When it is over, so are they.
#[test]
fn calls_beyond_the_bounds_fail_at_once() {
    run(async {
        let server = Server::start(|_, _| ok("{}")).await;
        let mut proxy = http_proxy(server.url());
        proxy.timeout = STUCK;
        let backends = backends(proxy);
        let backend = &backends.list[0];
        let mut slots = backend.slots.acquire_many(BACKEND_IN_FLIGHT_MAX as u32).await.unwrap();
        let replies = Replies::default();
        for number in 0..BACKEND_IN_FLIGHT_MAX + BACKEND_WAITING_MAX {
            replies.call(&backends, number, rpc("1"));
        }
        assert_eq!(replies.len(), 0);
        replies.call(&backends, 0, rpc("1"));
        let told = Rc::new(Cell::new(None));
        let tell = Rc::clone(&told);
        backends.notify(ProxyId(0), Vec::new(), move |ok| tell.set(Some(ok)));
        replies.call(&backends, 1, cache_empty("c"));
        assert_eq!(replies.0.take(), [(0, BackendReply::Busy), (1, BackendReply::Busy)]);
        assert_eq!((told.get(), backend.stats.borrow().rejected), (Some(false), 3));
        // A few at a time, or the host would have to have thousands of connections.
        drop(slots.split(16).unwrap());
        let some = replies.wait(200).await;
        assert!(some.iter().all(|(_, reply)| *reply == BackendReply::NoResult));
        assert!(backend.entered.get() <= BACKEND_IN_FLIGHT_MAX + BACKEND_WAITING_MAX - some.len());
        replies.call(&backends, 0, rpc("1"));
        assert_eq!(backend.stats.borrow().rejected, 3);
    });
}

/// A thousand subscribers that come back to an empty channel must not become a thousand calls; other channels and other
/// calls are none of it.
#[test]
fn subscribers_of_an_empty_channel_ask_together() {
    run(async {
        let server = Server::start(|_, _| ok(r#"{"result":{"populated":true}}"#)).await;
        let backends = backends(http_proxy(server.url()));
        let replies = Replies::default();
        for number in 0..1000 {
            replies.call(&backends, number, cache_empty("a"));
        }
        replies.call(&backends, 1000, cache_empty("b"));
        let all = replies.wait(1001).await;
        assert!(all.iter().all(|(_, reply)| *reply == populated(true)));
        let mut bodies: Vec<_> = server.seen().into_iter().map(|seen| seen.body).collect();
        bodies.sort_unstable();
        assert_eq!(bodies, [r#"{"channel":"a"}"#, r#"{"channel":"b"}"#]);
        // What is over is not joined.
        assert_eq!(ask(&backends, cache_empty("a")).await, populated(true));
        assert_eq!(server.seen().len(), 3);
        // Credentials of one client are not those of another.
        for number in 0..3 {
            replies.call(&backends, number, rpc("1"));
        }
        replies.wait(1004).await;
        assert_eq!(server.seen().len(), 6);
    });
}

/// Whoever joins late is not failed with the first, and whoever comes after the first has given up gets a call that may be
/// answered.
#[test]
fn those_who_ask_together_have_their_own_deadlines() {
    run(async {
        let server = Server::start(|_, number| if number == 0 { String::new() } else { ok(r#"{"result":{}}"#) }).await;
        let mut proxy = http_proxy(server.url());
        proxy.timeout = Duration::from_millis(200);
        let backends = backends(proxy);
        let (replies, start) = (Replies::default(), Instant::now());
        replies.call(&backends, 0, cache_empty("a"));
        tokio::time::sleep_until(start + Duration::from_millis(100)).await;
        replies.call(&backends, 1, cache_empty("a"));
        assert_eq!(replies.wait(1).await, [(0, BackendReply::Failed)]);
        replies.call(&backends, 2, cache_empty("a"));
        let mut all = replies.wait(3).await;
        assert!(start.elapsed() >= Duration::from_millis(300));
        all.sort_unstable_by_key(|(number, _)| *number);
        assert_eq!(all, [(0, BackendReply::Failed), (1, BackendReply::Failed), (2, populated(false))]);
        assert_eq!(server.seen().len(), 2);
    });
}

/// The queue of a channel's changes moves on only when the backend has taken them.
#[test]
fn channel_states() {
    run(async {
        let answers = ["{}", r#"{"result":{}}"#, r#"{"error":{"code":1}}"#, "[]"];
        let server = Server::start(move |_, number| answers.get(number).map_or(answer(500, ""), |body| ok(body))).await;
        let backends = backends(http_proxy(server.url()));
        let mut taken = Vec::new();
        for _ in 0..5 {
            let event = |kind| StateEvent { time_ms: 5, channel: "a:b".into(), kind };
            let events = vec![event(StateEventKind::Occupied), event(StateEventKind::Vacated)];
            let (sender, told) = oneshot::channel();
            backends.notify(ProxyId(0), events, |ok| sender.send(ok).expect("somebody waits"));
            taken.push(told.await.unwrap());
        }
        assert_eq!(taken, [true, true, false, false, false]);
        let events =
            r#"{"time_ms":5,"channel":"a:b","type":"occupied"},{"time_ms":5,"channel":"a:b","type":"vacated"}"#;
        assert_eq!(server.seen()[0].body, format!(r#"{{"events":[{events}]}}"#));
    });
}

/// A proxy that nobody configured must not hang who asks for it.
#[test]
fn no_such_proxy() {
    run(async {
        let backends = Backends::new(&Arc::default()).unwrap();
        assert_eq!(ask(&backends, rpc("1")).await, BackendReply::Failed);
        assert_eq!(ask(&backends, cache_empty("c")).await, BackendReply::Failed);
    });
}
