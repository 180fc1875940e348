//! What goes over the wire to a backend that speaks HTTP, and what comes of its answers.

use gyre_engine::backend::BackendError;
use gyre_proto::codes::Disconnect;

use super::*;
use crate::settings::proxies::{StatusTransform, TransformTo};

/// Existing backends compare, sign and route by what they get: body, content type and headers are as documented.
#[test]
fn a_request_is_as_documented() {
    run(async {
        let server = Server::start(|_, _| ok(r#"{"result":{"data":{"a": 1}}}"#)).await;
        let mut proxy = http_proxy(server.url());
        proxy.include_connection_meta = true;
        let backends = backends(proxy);
        assert_eq!(ask(&backends, rpc(r#"{"q": [1]}"#)).await, rpc_result(r#"{"a": 1}"#));
        let seen = &server.seen()[0];
        assert_eq!(seen.first_line(), "POST /path HTTP/1.1");
        assert_eq!(seen.header("content-type"), ["application/json"]);
        assert_eq!(seen.header("host"), [server.address.to_string()]);
        assert_eq!(seen.header("user-agent"), [concat!("gyre/", env!("CARGO_PKG_VERSION"))]);
        let body = r#"{"client":"07070707-0707-0707-0707-070707070707","transport":"websocket","protocol":"json","#;
        let rest = r#""encoding":"json","user":"u","method":"m","data":{"q": [1]},"meta":{"m":1}}"#;
        assert_eq!(seen.body, format!("{body}{rest}"));
    });
}

/// Binary payloads reach the backend only in base64; meta is for those who ask for it.
#[test]
fn binary_encoding() {
    run(async {
        let server = Server::start(|_, _| ok(r#"{"result":{"b64data":"AAE="}}"#)).await;
        let mut proxy = http_proxy(server.url());
        proxy.binary_encoding = true;
        let backends = backends(proxy);
        let mut client = client();
        client.encoding = Encoding::Protobuf;
        let event = BackendEvent::Publish { channel: "c".into(), data: Bytes::from_static(&[0xff, 0]) };
        let call = BackendCall { proxy: ProxyId(0), client: Some(client.clone()), event };
        let BackendReply::Result(result) = ask(&backends, call).await else { panic!("no result") };
        let BackendResult::Publish(answer) = *result else { panic!("{result:?}") };
        assert_eq!(answer.data.as_deref(), Some(&[0, 1][..]));
        let event = BackendEvent::Subscribe { channel: "c".into(), data: Bytes::new() };
        ask(&backends, BackendCall { proxy: ProxyId(0), client: Some(client), event }).await;
        let seen = server.seen();
        assert!(
            seen[0]
                .body
                .ends_with(r#""protocol":"protobuf","encoding":"binary","user":"u","channel":"c","b64data":"/wA="}"#),
            "{}",
            seen[0].body
        );
        assert!(seen[1].body.ends_with(r#""user":"u","channel":"c"}"#), "{}", seen[1].body);
    });
}

/// A header that a client made up must not pass for one of its request, and none goes out that is not listed.
#[test]
fn headers_by_priority() {
    run(async {
        let server = Server::start(|_, _| ok("{}")).await;
        let mut proxy = http_proxy(server.url());
        let fixed =
            [("X-A", "fixed"), ("x-b", "fixed"), ("x-c", "fixed"), ("content-type", "text/plain"), ("Host", "h")];
        let fixed = fixed.map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned()))).to_vec();
        let Endpoint::Http { static_headers, .. } = &mut proxy.endpoint else { panic!() };
        *static_headers = fixed;
        proxy.emulated_headers = ["x-b", "x-c", "x-d", "content-type", "x-bad"].map(ToOwned::to_owned).to_vec();
        proxy.http_headers =
            ["x-c", "x-e", "host", "content-length", "connection", "cookie"].map(ToOwned::to_owned).to_vec();
        let emulated =
            [("x-b", "emulated"), ("x-c", "emulated"), ("x-d", "ż"), ("x-e", "emulated"), ("x-f", "emulated")];
        let mut emulated = emulated.map(|(name, value)| (name.into(), value.into())).to_vec();
        emulated.extend([("content-type".into(), "text/html".into()), ("x-bad".into(), "a\r\nx-evil: 1".into())]);
        let transport = [
            ("x-c", "transport"),
            ("x-e", "1"),
            ("x-e", "2"),
            ("x-b", "unlisted"),
            ("host", "evil"),
            ("content-length", "1"),
            ("connection", "upgrade"),
            ("cookie", "a=b"),
        ];
        let transport = transport.map(|(name, value)| (name.into(), value.as_bytes().into())).to_vec();
        let backends = backends(proxy);
        let mut call = rpc("1");
        let headers = Some(Arc::new(ClientHeaders { transport, emulated }));
        call.client.as_mut().unwrap().headers = headers;
        assert_eq!(ask(&backends, call).await, BackendReply::NoResult);
        let seen = &server.seen()[0];
        let header = |name| seen.header(name);
        assert_eq!(header("x-a"), ["fixed"]);
        assert_eq!(header("x-b"), ["emulated"]);
        assert_eq!(header("x-c"), ["transport"]);
        assert_eq!(header("x-d"), ["ż"]);
        assert_eq!(header("x-e"), ["1", "2"]);
        assert_eq!(header("cookie"), ["a=b"]);
        assert_eq!(header("content-type"), ["application/json"]);
        assert_eq!(header("host"), [server.address.to_string()]);
        assert_eq!(header("content-length"), [seen.body.len().to_string()]);
        let none: [&str; 0] = [];
        for name in ["x-f", "x-bad", "x-evil", "connection"] {
            assert_eq!(header(name), none, "{name}");
        }
    });
}

/// User and password of the address are sent as such, and shown to nobody.
#[test]
fn credentials_of_the_address() {
    run(async {
        let server = Server::start(|_, _| ok("{}")).await;
        let proxy = http_proxy(format!("http://me:p%40ss@{}/x?token=secret", server.address));
        let backends = backends(proxy);
        assert_eq!(ask(&backends, rpc("1")).await, BackendReply::NoResult);
        let seen = &server.seen()[0];
        assert_eq!(seen.first_line(), "POST /x?token=secret HTTP/1.1");
        assert_eq!(seen.header("authorization"), ["Basic bWU6cEBzcw=="]);
        assert_eq!(backends.list[0].endpoint, format!("http://{}/x?***", server.address));
    });
}

/// Whatever is not a 200 with an answer in it is a failure, unless the operator says what it stands for.
#[test]
fn statuses_and_bad_answers() {
    run(async {
        let answers = [
            answer(201, r#"{"result":{}}"#),
            answer(404, "gone"),
            answer(418, "{}"),
            answer(500, ""),
            answer(503, ""),
            ok("no JSON"),
            ok(r#"{"result":{"b64data":"!"}}"#),
            ok(""),
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n{".into(),
        ];
        let count = answers.len();
        let server = Server::start(move |_, number| answers[number].clone()).await;
        let mut proxy = http_proxy(server.url());
        let Endpoint::Http { transforms, .. } = &mut proxy.endpoint else { panic!() };
        let error = BackendError { code: 404, message: "not here".into(), temporary: true };
        let disconnect = Disconnect::of_application(4503, "away".into());
        transforms.push(StatusTransform { status: 404, to: TransformTo::Error(error.clone()) });
        transforms.push(StatusTransform { status: 503, to: TransformTo::Disconnect(disconnect.clone()) });
        transforms.push(StatusTransform { status: 404, to: TransformTo::Disconnect(disconnect.clone()) });
        let backends = backends(proxy);
        let mut replies = Vec::new();
        for _ in 0..count {
            replies.push(ask(&backends, rpc("1")).await);
        }
        let failed = BackendReply::Failed;
        let expected = [
            failed.clone(),
            BackendReply::Error(error),
            failed.clone(),
            failed.clone(),
            BackendReply::Disconnect(disconnect),
            failed.clone(),
            failed.clone(),
            failed.clone(),
            failed,
        ];
        assert_eq!(replies, expected);
        // All of them on one connection: none was given up for its status.
        assert!(server.seen().iter().all(|seen| seen.connection == 0));
        assert_eq!(backends.list[0].stats.borrow().errors(Kind::Rpc), 7);
    });
}

/// Data that is not JSON is the client's mistake: the backend is not asked, and must not get members that a client wrote.
#[test]
fn data_that_is_no_json() {
    run(async {
        let server = Server::start(|_, _| ok("{}")).await;
        let backends = backends(http_proxy(server.url()));
        assert_eq!(ask(&backends, rpc(r#"1,"user":"root""#)).await, BackendReply::Failed);
        assert_eq!(server.seen().len(), 0);
    });
}

/// Backends behind a redirect work as they do upstream, but what is secret stays with the host it is for.
#[test]
fn redirects() {
    run(async {
        let redirect =
            |status: u16, to: &str| format!("HTTP/1.1 {status} x\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
        let other = Server::start(|_, _| ok(r#"{"result":{"data":2}}"#)).await;
        let away = format!("http://{}/away", other.address);
        let server = Server::start(move |seen, _| match seen.first_line() {
            "POST /path HTTP/1.1" => redirect(307, "/next?a=1"),
            "POST /next?a=1 HTTP/1.1" => redirect(308, &away),
            "POST /see HTTP/1.1" => redirect(303, "done#part"),
            "GET /done HTTP/1.1" => ok(r#"{"result":{"data":3}}"#),
            "POST /loop HTTP/1.1" => redirect(307, "/loop"),
            "POST /file HTTP/1.1" => redirect(307, "file:///etc/passwd"),
            "POST /nowhere HTTP/1.1" => answer(307, ""),
            _ => panic!("{seen:?}"),
        })
        .await;
        let at = |path: &str| backends(http_proxy(format!("http://me:secret@{}/{path}", server.address)));
        assert_eq!(ask(&at("path"), rpc("1")).await, rpc_result("2"));
        let seen = &other.seen()[0];
        assert_eq!(seen.first_line(), "POST /away HTTP/1.1");
        assert_eq!(seen.body, server.seen()[0].body);
        assert_eq!(seen.header("host"), [other.address.to_string()]);
        assert_eq!(seen.header("authorization").len(), 0);
        assert_eq!(server.seen()[1].header("authorization").len(), 1);

        assert_eq!(ask(&at("see"), rpc("1")).await, rpc_result("3"));
        let seen = server.seen().pop().unwrap();
        assert_eq!((&*seen.body, seen.header("content-type").len()), ("", 0));

        let before = server.seen().len();
        assert_eq!(ask(&at("loop"), rpc("1")).await, BackendReply::Failed);
        assert_eq!(server.seen().len() - before, 11);
        assert_eq!(ask(&at("file"), rpc("1")).await, BackendReply::Failed);
        assert_eq!(ask(&at("nowhere"), rpc("1")).await, BackendReply::Failed);
    });
}

/// Deploying a backend must not fail the calls after it: connections that it has closed are not used again.
#[test]
fn a_backend_that_restarts() {
    run(async {
        let server = Server::start(|_, _| ok("{}")).await;
        let (address, url) = (server.address, server.url());
        let backends = backends(http_proxy(url));
        let many = async |count: usize| {
            let replies: Rc<RefCell<Vec<BackendReply>>> = Rc::default();
            for _ in 0..count {
                let replies = Rc::clone(&replies);
                backends.call(rpc("1"), move |reply| replies.borrow_mut().push(reply));
            }
            while replies.borrow().len() < count {
                tokio::task::yield_now().await;
            }
            replies.take()
        };
        for _ in 0..20 {
            assert_eq!(many(5).await, vec![BackendReply::NoResult; 5]);
        }
        let mut server = server;
        for _ in 0..5 {
            server.stop().await;
            assert_eq!(many(5).await, vec![BackendReply::Failed; 5], "nobody is there");
            server = Server::start_on(address, |_, _| ok("{}")).await;
            assert_eq!(many(5).await, vec![BackendReply::NoResult; 5]);
            // With connections left from before, and nothing tried in between.
            server.stop().await;
            server = Server::start_on(address, |_, _| ok("{}")).await;
            assert_eq!(many(5).await, vec![BackendReply::NoResult; 5]);
        }
    });
}

/// An answer without end must not take the host's memory.
#[test]
fn answers_are_bounded() {
    run(async {
        let long = ok(&" ".repeat(crate::limits::BACKEND_ANSWER_BYTES_MAX + 1));
        let server = Server::start(move |_, number| if number == 0 { long.clone() } else { ok("{}") }).await;
        let backends = backends(http_proxy(server.url()));
        assert_eq!(ask(&backends, rpc("1")).await, BackendReply::Failed);
        assert_eq!(ask(&backends, rpc("1")).await, BackendReply::NoResult);
    });
}

/// A mistake in the configuration is found at start, and told without what is secret in it.
#[test]
fn bad_addresses() {
    run(async {
        let error = |url: &str| {
            let error = Backends::new(&Arc::new(Proxies { list: vec![http_proxy(url.into())] })).err();
            format!("{:#}", error.expect("an error"))
        };
        for url in ["", "http://", "http://me:secret@:80:x/", "ftp://me:secret@host/"] {
            let error = error(url);
            assert!(error.starts_with("rpc.proxy.endpoint: "), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let mut proxy = http_proxy("http://host/".into());
        let Endpoint::Http { static_headers, .. } = &mut proxy.endpoint else { panic!() };
        static_headers.push(("a b".into(), Secret::new("secret".into())));
        let error = Backends::new(&Arc::new(Proxies { list: vec![proxy] })).err().expect("an error");
        assert_eq!(format!("{error:#}"), "rpc.proxy: http.static_headers: `a b` is no name of a header");
    });
}
