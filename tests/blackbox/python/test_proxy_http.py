"""What goes over HTTP to a backend and what counts as its answer."""

import json
import time

import pytest
from harness import Wire, eventually, running
from harness.app import App, app, everything
from harness.backend import HANG_UP, Backend, Late, Status, error, result
from harness.node import merged

HEADERS = {"X-Req": ["one", "two"], "Cookie": "sid=1", "X-Both": "transport", "X-Other": "not listed", "Content-Type": "text/x"}
EMULATED = {"X-Emu": "emulated", "x-both": "emulated", "X-Hidden": "not listed", "Content-Type": "text/y", "X-Static": "e"}


@pytest.fixture(scope="module")
def http_node():
    """A node whose proxies forward some headers."""
    with app(
        "http",
        http_headers=["x-req", "Cookie", "X-Both", "Content-Type", "Host", "x-missing"],
        emulated_headers=["X-EMU", "x-both", "content-type", "x-static"],
        http={"static_headers": {"X-Static": "s", "X-Fixed": "f", "X-Both": "static", "X-Req": "static"}},
    ) as made:
        yield made


@pytest.fixture
def http(http_node):
    """The same for one test."""
    http_node.backend.reset()
    return http_node


# ---- requests


def test_I01_request_on_the_wire(http):
    # Web frameworks would not parse the body.
    with http.wire() as wire:
        wire.call(rpc={"method": "m", "data": "ä\n"})
        call = http.backend.only("rpc")
        assert call.path == "/rpc" and call.headers["Host"] == f"127.0.0.1:{http.backend.port}"
        assert call.headers.get_all("Content-Type") == ["application/json"]
        assert int(call.headers["Content-Length"]) == len(call.body)
        assert json.loads(call.body)["data"] == "ä\n"


def test_I10_header_names_as_other_clients_write_them(http):
    # Applications that look for exactly `Authorization` would not find it.
    with http.wire(headers=HEADERS, fields={"headers": EMULATED}):
        names = http.backend.only("connect").headers.keys()
        assert {"Host", "Content-Type", "Content-Length", "X-Req", "Cookie", "X-Emu", "X-Static"} <= set(names)


def test_I10_headers(http):
    # Cookies would not reach the backend, or secrets that are not its business would.
    with http.wire(headers=HEADERS, fields={"headers": EMULATED}) as wire:
        wire.subscribe("asked:headers")
        wire.call(publish={"channel": "askedpub:headers", "data": 1})
        wire.call(rpc={"method": "m"})
        for event in ("connect", "subscribe", "publish", "rpc"):
            got = http.backend.only(event).headers
            assert got.get_all("X-Req") == ["one", "two"], event
            assert got.get_all("Cookie") == ["sid=1"]
            assert got.get_all("X-Both") == ["transport"]
            assert got.get_all("X-Emu") == ["emulated"]
            assert got.get_all("X-Static") == ["e"]
            assert got.get_all("X-Fixed") == ["f"]
            assert got.get_all("Content-Type") == ["application/json"]
            for name in ("X-Other", "X-Hidden", "X-Missing", "Upgrade", "Sec-WebSocket-Key"):
                assert name not in got, name
            assert "headers" not in http.backend.only(event).fields


def test_I10_emulated_is_the_fallback(http):
    # Browsers cannot set headers; their clients send them inside.
    with http.wire(fields={"headers": EMULATED}):
        got = http.backend.only("connect").headers
        assert got.get_all("X-Both") == ["emulated"]
        # Emulation is not to be trusted: what is only a transport header cannot be forged.
        assert got.get_all("X-Req") == ["static"] and "Cookie" not in got
    http.backend.reset()
    with http.wire(fields={"headers": {"Cookie": "sid=2", "X-Req": "forged"}}):
        got = http.backend.only("connect").headers
        assert got.get_all("X-Req") == ["static"] and "Cookie" not in got


def test_header_values(http):
    # A forged value would be a header of its own, or end the request.
    forged = "a\r\nX-Fixed: forged\r\nContent-Length: 0\r\n\r\n"
    http.backend["connect"] = result(user="42")
    with Wire(http.node) as wire:
        # Refusing it is fine, too.
        wire.call(connect={"headers": {"X-Emu": forged, "x-both": "ä"}})
    for call in http.backend.calls():
        assert call.event == "connect" and call.headers.get_all("X-Fixed") == ["f"]
    assert len(http.backend.calls()) <= 1
    with http.wire(headers={"Cookie": "a=" + "x" * 4000}):
        assert http.backend.calls("connect")[-1].headers["Cookie"] == "a=" + "x" * 4000


def test_no_headers_by_default(asking):
    # Cookies are secrets.
    if asking.backend.scheme == "http":
        with asking.wire(headers=HEADERS, fields={"headers": EMULATED}):
            got = asking.backend.only("connect").headers
            for name in (*HEADERS, *EMULATED):
                assert name == "Content-Type" or name not in got


def test_connections_are_kept(http):
    # Each call would pay for a new connection, over TLS twice.
    with http.wire() as wire:
        for _ in range(20):
            wire.call(rpc={"method": "m"})
        assert len({call.connection for call in http.backend.calls("rpc")}) == 1


# ---- answers


@pytest.mark.parametrize(
    "answer",
    [
        Status(500),
        Status(201, b'{"result":{}}'),
        Status(204, b""),
        Status(400, b'{"error":{"code":1000,"message":"x"}}'),
        Status(404, b"not found"),
        Status(200, b""),
        Status(200, b"<html>"),
        Status(200, b"[]"),
        Status(200, b'{"result":'),
        Status(200, b'{"result":{"data":1}} trailing'),
        Status(200, b'{"result":[]}'),
        Status(200, b'{"error":"text"}'),
        Status(200, b"\xff\xfe"),
        HANG_UP,
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
    ],
    ids=lambda answer: str(getattr(answer, "code", "raw")),
)
def test_not_an_answer(http, answer):
    # Half an answer would be taken for a whole one, or an error page for a permission.
    http.backend["rpc"] = answer
    with http.wire() as wire:
        reply = wire.call(rpc={"method": "m"})
        assert reply["error"] == {"code": 100, "message": "internal server error", "temporary": True}, answer
        http.backend["rpc"] = result(data=1)
        assert wire.call(rpc={"method": "m"})["rpc"] == {"data": 1}


@pytest.mark.parametrize(
    "body",
    [
        b'{"result":{"data":1,"new":true},"trace":"x"}',
        b' \n{ "result" : {"data": 1} , "error": null, "disconnect": null }\n',
        b'{"result":{"data":1,"b64data":""}}',
        b'{"error":null,"result":{"data":1}}',
    ],
)
def test_an_answer(http, body):
    # Backends that say more, or less, than expected would be refused.
    http.backend["rpc"] = Status(200, body, (("Content-Type", "text/html"),))
    with http.wire() as wire:
        assert wire.call(rpc={"method": "m"})["rpc"] == {"data": 1}


def test_chunked_and_slow_answers(http):
    # Frameworks stream their answers.
    # The backend closes the connection and says so: the next request may overtake the end otherwise.
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    parts = head + b'5\r\n{"res\r\n10\r\nult":{"data":1}}\r\n0\r\n\r\n'
    http.backend["rpc"] = parts
    with http.wire() as wire:
        assert wire.call(rpc={"method": "m"})["rpc"] == {"data": 1}
        http.backend["rpc"] = Late(1.2, result(data=2))
        assert wire.call(rpc={"method": "m"})["rpc"] == {"data": 2}


def test_an_endless_answer(http):
    # A backend gone wild would take the node with it.
    before = http.node.memory_bytes()
    http.backend["rpc"] = Status(200, b'{"result":{"data":"' + b"x" * (100 << 20) + b'"}}')
    with http.wire() as wire:
        assert wire.call(rpc={"method": "m"}, within=10)["error"]["code"] == 100
        assert http.node.memory_bytes() < before + (64 << 20)
        http.backend["rpc"] = result(data=1)
        assert wire.call(rpc={"method": "m"})["rpc"] == {"data": 1}


def test_redirect(http):
    # A backend that has moved says so; a circle must end.
    http.backend["rpc"] = Status(307, b"", (("Location", "/moved"),))
    http.backend["moved"] = result(data="there")
    with http.wire() as wire:
        assert wire.call(rpc={"method": "m"})["rpc"] == {"data": "there"}
        assert http.backend.only("moved").fields["method"] == "m"
        http.backend["moved"] = Status(307, b"", (("Location", "/moved"),))
        assert wire.call(rpc={"method": "m"})["error"]["code"] == 100


# ---- statuses with a meaning


TRANSFORMS = [
    {"status_code": 403, "to_error": {"code": 103, "message": "permission denied"}},
    {"status_code": 403, "to_error": {"code": 1, "message": "never reached"}},
    {"status_code": 429, "to_error": {"code": 1429, "message": "slow down", "temporary": True}},
    {"status_code": 401, "to_disconnect": {"code": 4401, "reason": "sign in"}},
    {"status_code": 200, "to_error": {"code": 1200, "message": "never"}},
]


@pytest.fixture(scope="module")
def transforming():
    """A node that knows what statuses of its backend mean."""
    with app("http", http={"status_to_code_transforms": TRANSFORMS}) as made:
        yield made


@pytest.mark.parametrize("event", ["connect", "subscribe", "publish", "rpc"])
def test_I13_transforms(transforming, event):
    # A gateway before the backend can only speak in statuses.
    backend = transforming.backend
    commands = {
        "connect": {"connect": {}},
        "subscribe": {"subscribe": {"channel": "asked:t"}},
        "publish": {"publish": {"channel": "askedpub:t", "data": 1}},
        "rpc": {"rpc": {"method": "m"}},
    }

    def ask(status):
        backend.reset()
        wire = Wire(transforming.node)
        if event != "connect":
            backend["connect"] = result(user="42")
            wire.call(connect={})
        backend[event] = status
        wire.send({"id": 9, **commands[event]})
        return wire

    with ask(Status(403, b"<html>")) as wire:
        assert wire.reply(9)["error"] == {"code": 103, "message": "permission denied"}
    with ask(Status(429)) as wire:
        assert wire.reply(9)["error"] == {"code": 1429, "message": "slow down", "temporary": True}
    with ask(Status(401)) as wire:
        assert wire.closed() == (4401, "sign in")
    with ask(Status(500)) as wire:
        assert wire.reply(9)["error"]["code"] == 100
    with ask(Status(200, b'{"result":{}}')) as wire:
        assert "error" not in wire.reply(9)
    with ask(HANG_UP) as wire:
        assert wire.reply(9)["error"]["code"] == 100


def test_a_transform_ends_a_subscription(transforming, fresh):
    # As an answer without a result does.
    channel = fresh("subrefresh")
    transforming.backend["subscribe"] = result(expire_at=int(time.time()) + 2)
    transforming.backend["sub_refresh"] = Status(403)
    with transforming.wire() as wire:
        wire.subscribe(channel)
        assert wire.push("unsubscribe", within=7)["unsubscribe"]["code"] == 2501


# ---- static headers, errors of business


def test_static_headers_as_a_list():
    # Both spellings of the reference.
    changes = {"http": {"static_headers": [{"key": "Authorization", "value": "Bearer s3cret"}]}}
    with app("http", **changes) as made:
        with made.wire():
            assert made.backend.only("connect").headers["Authorization"] == "Bearer s3cret"
        made.backend["connect"] = Status(500)
        with Wire(made.node) as wire:
            wire.error(connect={})
        assert "s3cret" not in made.node.output(), "secrets are not logged"


def test_metrics():
    # Nobody would know that the backend is slow or failing.
    with Backend() as backend, running(merged(everything(backend), {"proxies": []})) as node:
        made = App(node, backend)
        with made.wire() as wire:
            wire.call(rpc={"method": "m"})
            backend["rpc"] = error(1000)
            wire.call(rpc={"method": "m"})
            backend["rpc"] = Status(500)
            wire.call(rpc={"method": "m"})
        page = node.http("GET", "/metrics")[2].decode()
        labels = 'name="default",protocol="http",type="rpc"'
        values = {}
        for line in page.splitlines():
            if line.startswith("centrifugo_proxy_") and " " in line:
                name, _, rest = line.partition("{")
                inside, _, value = rest.rpartition("} ")
                values[name, ",".join(sorted(inside.split(",")))] = float(value)
        assert values["centrifugo_proxy_errors", labels] == 1
        assert values["centrifugo_proxy_inflight_requests", labels] == 0
        assert values["centrifugo_proxy_duration_seconds_count", labels] == 3
        assert values["centrifugo_proxy_duration_seconds_histogram_count", labels] == 3
        assert values["centrifugo_proxy_errors", labels.replace("rpc", "subscribe")] == 0, "series exist from the start"


def test_a_failing_backend_is_logged_once():
    # The log of a night without backend would fill the disk.
    with Backend() as backend, running(everything(backend)) as node:
        made = App(node, backend)
        with made.wire() as wire:
            backend["rpc"] = Status(500)
            for _ in range(50):
                wire.error(rpc={"method": "m"})
            found = eventually(node.complaints, what="log line")
            assert len(found) <= 5, found
            assert "rpc" in json.dumps(found[0]) and "500" in json.dumps(found[0])
