"""Which backend is asked: named ones, those of seeds, and configurations that cannot work."""

import contextlib
import json
import signal

import pytest
from harness import Gyre, Wire, eventually, running
from harness.app import App, everything, namespaces
from harness.backend import Backend, result
from harness.node import merged


@pytest.fixture(scope="module")
def backends():
    """Three of them: whom to ask by default, `a` and `b`."""
    with Backend() as default, Backend() as a, Backend() as b:
        yield default, a, b


def reset(backends):
    for backend in backends:
        backend.reset()
        backend["connect"] = result(user="42")


def named(backends):
    """A configuration with two named proxies."""
    default, a, b = backends
    changes = merged(
        everything(default),
        namespaces(
            {"name": "nd", "subscribe_proxy_enabled": True, "subscribe_proxy_name": "default"},
            {"name": "na", "subscribe_proxy_enabled": True, "subscribe_proxy_name": "a.1"},
            {"name": "nb", "subscribe_proxy_enabled": True, "subscribe_proxy_name": "b-2"},
            {"name": "mixed", "subscribe_proxy_enabled": True, "publish_proxy_enabled": True, "publish_proxy_name": "a.1"},
            {"name": "off", "subscribe_proxy_name": "a.1", "allow_subscribe_for_client": True},
        ),
    )
    changes["proxies"] = [
        {"name": "a.1", "endpoint": a.url("shared"), "http": {"static_headers": {"X-Who": "a"}}},
        {"name": "b-2", "endpoint": b.url("other"), "timeout": "3s"},
    ]
    changes["rpc"]["namespaces"] = [{"name": "rb", "proxy_enabled": True, "proxy_name": "b-2"}]
    return changes


def test_I11_named_proxies(backends):
    # Parts of an application that are programs of their own could not be asked.
    default, a, b = backends
    with running(named(backends)) as node:
        reset(backends)
        with Wire(node) as wire:
            wire.call(connect={})
            for channel in ("nd:1", "na:1", "nb:1", "mixed:1", "off:1"):
                wire.subscribe(channel)
            wire.call(publish={"channel": "mixed:1", "data": 1})
            wire.call(rpc={"method": "rb:m"})
            wire.call(rpc={"method": "m"})

        def asked(backend):
            return [(call.event, call.fields.get("channel") or call.fields.get("method")) for call in backend.calls()]

        assert asked(default) == [("connect", None), ("subscribe", "nd:1"), ("subscribe", "mixed:1"), ("rpc", "m")]
        assert asked(a) == [("shared", "na:1"), ("shared", "mixed:1")]
        assert asked(b) == [("other", "nb:1"), ("other", "rb:m")]
        assert {call.headers["X-Who"] for call in a.calls()} == {"a"}
        page = node.http("GET", "/metrics")[2].decode()
        assert 'name="a.1"' in page and 'name="b-2"' in page


def test_channels_without_namespace(backends):
    # The smallest configuration there is.
    default, a, _ = backends
    changes = {
        "proxies": [{"name": "aa", "endpoint": a.url("subscribe")}],
        "channel": {
            "proxy": {"publish": {"endpoint": default.url("publish")}},
            "without_namespace": {
                "subscribe_proxy_enabled": True,
                "subscribe_proxy_name": "aa",
                "publish_proxy_enabled": True,
            },
        },
    }
    reset(backends)
    with running(changes) as node, Wire.connected(node) as wire:
        wire.subscribe("news")
        wire.call(publish={"channel": "news", "data": 1})
        assert a.only("subscribe").fields["channel"] == default.only("publish").fields["channel"] == "news"
        assert wire.data() == 1


def test_I16_objects_of_a_namespace(backends):
    # A configuration written after seed 004 would not work as written.
    default, a, b = backends
    reset(backends)
    chat = {
        "name": "chat",
        "proxy": {
            "subscribe": {"enabled": True, "endpoint": a.url("subscribe")},
            "publish": {"enabled": True, "endpoint": b.url("publish"), "timeout": "3s"},
        },
    }
    rest = {"name": "rest", "subscribe_proxy_enabled": True}
    quiet = {
        "name": "quiet",
        "allow_subscribe_for_client": True,
        "proxy": {"subscribe": {"enabled": False, "endpoint": a.url("x")}},
    }
    changes = merged(
        namespaces(chat, rest, quiet), {"channel": {"proxy": {"subscribe": {"endpoint": default.url("subscribe")}}}}
    )
    changes["client"] = {"proxy": {"rpc": {"enabled": True, "endpoint": default.url("rpc")}}}
    with running(changes) as node, Wire.connected(node) as wire:
        wire.subscribe("chat:index")
        wire.subscribe("rest:index")
        wire.subscribe("quiet:index")
        assert wire.call(publish={"channel": "chat:index", "data": 1})["publish"] == {}
        assert wire.data() == 1
        assert wire.call(rpc={"method": "m"})["rpc"] == {}
        assert a.only("subscribe").fields["channel"] == "chat:index"
        assert default.only("subscribe").fields["channel"] == "rest:index"
        assert b.only("publish").fields["channel"] == "chat:index"
        default.only("rpc")
        assert not a.calls("x")
        assert "rpc.proxy" in node.output(), "a hint at the modern spelling"


def test_environment(backends):
    # Containers are configured by variables.
    default, *_ = backends
    reset(backends)
    env = {
        "CENTRIFUGO_CLIENT_PROXY_CONNECT_ENABLED": "true",
        "CENTRIFUGO_CLIENT_PROXY_CONNECT_ENDPOINT": default.url("connect"),
        "CENTRIFUGO_CLIENT_PROXY_CONNECT_HTTP_HEADERS": "Cookie Authorization",
        "CENTRIFUGO_RPC_PROXY_ENDPOINT": default.url("rpc"),
        "CENTRIFUGO_RPC_WITHOUT_NAMESPACE_PROXY_ENABLED": "true",
    }
    with running(env=env) as node, Wire(node, headers={"Authorization": "Bearer x"}) as wire:
        assert wire.call(connect={})["connect"]["client"]
        assert default.only("connect").headers["Authorization"] == "Bearer x"
        assert wire.call(rpc={"method": "m"})["rpc"] == {}


def test_reload(backends):
    # Turning a question off would need a restart of all nodes.
    default, a, _ = backends
    reset(backends)
    node = Gyre(named(backends))
    try:
        node.start()
        file = node.dir / "config.json"
        config = json.loads(file.read_text())
        with App(node, default).wire() as wire:
            wire.subscribe("na:1")
            assert len(a.calls()) == 1
            next(item for item in config["channel"]["namespaces"] if item["name"] == "na")["subscribe_proxy_name"] = "default"
            file.write_text(json.dumps(config))
            node.process.send_signal(signal.SIGHUP)
            node.wait_log("reload", level="info")
            turns = iter(range(2, 1000))

            def asks_the_default():
                wire.subscribe(f"na:{next(turns)}")
                return default.calls("subscribe")

            eventually(asks_the_default, within=2, what="a call of the other backend", every=0.1)
            known = len(a.calls())
            # A proxy that is new needs a restart: refused with a word, and everything stays.
            config["proxies"].append({"name": "new", "endpoint": a.url("new")})
            file.write_text(json.dumps(config))
            node.process.send_signal(signal.SIGHUP)
            node.wait_log("restart", level="error")
            asks_the_default()
            assert len(default.calls("subscribe")) == 2 and len(a.calls()) == known
        node.stop()
    finally:
        node.end()


GOOD = "http://127.0.0.1:3000/x"
SUBSCRIBE = {"channel": {"without_namespace": {"subscribe_proxy_enabled": True}}}


def with_subscribe(**options):
    return merged(SUBSCRIBE, {"channel": {"proxy": {"subscribe": {"endpoint": GOOD, **options}}}})


def with_transform(**transform):
    return with_subscribe(http={"status_to_code_transforms": [transform]})


REFUSED = {
    "no endpoint": (SUBSCRIBE, ["channel.proxy.subscribe", "endpoint"]),
    "empty endpoint": (with_subscribe(endpoint=""), ["channel.proxy.subscribe", "endpoint"]),
    "connect without endpoint": ({"client": {"proxy": {"connect": {"enabled": True}}}}, ["client.proxy.connect", "endpoint"]),
    "refresh without endpoint": ({"client": {"proxy": {"refresh": {"enabled": True}}}}, ["client.proxy.refresh", "endpoint"]),
    "rpc without endpoint": ({"rpc": {"without_namespace": {"proxy_enabled": True}}}, ["rpc.proxy", "endpoint"]),
    "rpc namespace without endpoint": (
        {"rpc": {"namespaces": [{"name": "on", "proxy_enabled": True}]}},
        ["rpc.proxy", "endpoint"],
    ),
    "timeout below zero": (with_subscribe(timeout="-1s"), ["channel.proxy.subscribe", "timeout"]),
    "unknown name": (
        merged(with_subscribe(), {"channel": {"without_namespace": {"subscribe_proxy_name": "nope"}}}),
        ["nope"],
    ),
    "unknown name, not enabled": ({"channel": {"without_namespace": {"publish_proxy_name": "nope"}}}, ["nope"]),
    "unknown name of rpc": ({"rpc": {"without_namespace": {"proxy_enabled": True, "proxy_name": "nope"}}}, ["nope"]),
    "name twice": ({"proxies": [{"name": "aa", "endpoint": GOOD}, {"name": "aa", "endpoint": GOOD}]}, ["aa"]),
    "reserved name": ({"proxies": [{"name": "default", "endpoint": GOOD}]}, ["proxies", "default"]),
    "bad name": ({"proxies": [{"name": "a b", "endpoint": GOOD}]}, ["proxies", "name"]),
    "named without endpoint": ({"proxies": [{"name": "aa"}]}, ["aa", "endpoint"]),
    "named with timeout below zero": (
        {"proxies": [{"name": "aa", "endpoint": GOOD, "timeout": "-1s"}]},
        ["proxies", "timeout"],
    ),
    "transform without status": (with_transform(to_error={"code": 1, "message": "x"}), ["status_code"]),
    "transform to nothing": (with_transform(status_code=403), ["transform"]),
    "transform to both": (
        with_transform(status_code=403, to_error={"code": 1, "message": "x"}, to_disconnect={"code": 4000, "reason": "x"}),
        ["transform"],
    ),
    "transform with a long text": (with_transform(status_code=403, to_error={"code": 1, "message": "x" * 124}), ["123"]),
    "transform with another text": (with_transform(status_code=403, to_disconnect={"code": 4000, "reason": "é"}), ["ASCII"]),
    "rpc namespace twice": ({"rpc": {"namespaces": [{"name": "aa"}, {"name": "aa"}]}}, ["aa"]),
    "bad rpc namespace": ({"rpc": {"namespaces": [{"name": "a b"}]}}, ["rpc.namespaces"]),
    "bad url": (with_subscribe(endpoint="http://"), ["channel.proxy.subscribe", "endpoint"]),
    "missing certificate": (
        with_subscribe(http={"tls": {"enabled": True, "server_ca_pem": "/no/such/file.pem"}}),
        ["channel.proxy.subscribe", "server_ca_pem"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_at_start(case):
    # A mistake would show at the first client, in production, as error 100.
    changes, words = REFUSED[case]
    with contextlib.ExitStack() as stack:
        node = Gyre(changes)
        stack.callback(node.end)
        assert node.spawn().exit_code() == 1, node.output()
        said = node.output().lower()
        assert all(word.lower() in said for word in words), said
        assert "panicked" not in said
