"""The backend fills a cache that a subscriber found empty."""

import concurrent.futures
import contextlib
import threading
import time

import pytest
from harness import Gyre, Wire, eventually, running
from harness.app import BACKENDS, namespaces
from harness.backend import HANG, Backend, Late, error, result
from harness.node import merged
from harness.redis import RedisServer
from harness.several import QUICK, on_redis, several
from harness.waiting import at_once
from test_cache_recovery import CACHE, recovered

ASKED = {**CACHE, "cache_empty_proxy_enabled": True}
NAMESPACES = [
    {"name": "example", **ASKED},
    {"name": "auto", **ASKED, "auto_cache_recover": True},
    {"name": "brief", **ASKED, "history_ttl": "1s"},
    {"name": "unasked", **CACHE},
    {"name": "stream", **ASKED, "force_recovery_mode": "stream"},
]


def asking(backend, *more, **options):
    """Configuration of a node that asks this backend."""
    proxy = {"endpoint": backend.url("cache_empty"), "timeout": "2s", **options}
    return merged(merged(QUICK, namespaces(*NAMESPACES, *more)), {"channel": {"proxy": {"cache_empty": proxy}}})


@pytest.fixture(scope="module", params=["memory http", "memory grpc", "redis http"])
def place(request):
    """(nodes, backend): one node in memory, or two over Redis."""
    where, kind = request.param.split()
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(BACKENDS[kind]())
        if where == "redis":
            server = stack.enter_context(RedisServer())
            nodes = stack.enter_context(several(2, on_redis(server.address, asking(backend)), cores=(1, 4)))
        else:
            node = stack.enter_context(running(asking(backend), cores=2))
            nodes = [node, node]
        yield nodes, backend


@pytest.fixture
def cache(place):
    """The same for one test."""
    place[1].reset()
    yield place
    place[1].reset()


def filling(nodes, data="filled", populated=True):
    """A backend that publishes into the channel it is asked about, and says so."""

    def fill(call):
        nodes[0].publish(call.fields["channel"], data)
        return result(populated=populated)

    return fill


def test_N14_what_the_backend_is_asked(cache, fresh):
    # Backends written for the reference would not find what they look for.
    nodes, backend = cache
    channel = fresh("example")
    with Wire.connected(nodes[1]) as wire:
        recovered(wire, channel)
        call = backend.only("cache_empty")
        assert call.fields == {"channel": channel}
        if backend.scheme == "http":
            assert call.headers.get_all("Content-Type") == ["application/json"]


def test_N15_populated(cache, fresh):
    # The first visitor would see nothing until the next change.
    nodes, backend = cache
    channel = fresh("example")
    backend["cache_empty"] = filling(nodes)
    with Wire.connected(nodes[1]) as wire, Wire.connected(nodes[0]) as other:
        assert recovered(wire, channel) == (True, ["filled"], 0)
        wire.quiet(0.2)
        # Now it is there.
        assert recovered(other, channel) == (True, ["filled"], 0)
        backend.only("cache_empty")
        nodes[0].publish(channel, "next")
        assert wire.data() == other.data() == "next"


@pytest.mark.parametrize("answer", [{}, result(), result(populated=False), result(populated=True)])
def test_N16_not_populated(cache, fresh, answer):
    # A channel that has no state is no error.
    nodes, backend = cache
    channel = fresh("example")
    backend["cache_empty"] = answer
    with Wire.connected(nodes[1]) as wire:
        assert recovered(wire, channel) == (False, [], 0)
        backend.only("cache_empty")
        nodes[0].publish(channel, 1)
        assert wire.data() == 1


def test_published_but_not_said(cache, fresh):
    # Without `populated` there is no second look; what was published comes all the same, once.
    nodes, backend = cache
    channel = fresh("example")
    backend["cache_empty"] = filling(nodes, populated=False)
    with Wire.connected(nodes[1]) as wire:
        got = wire.subscribe(channel, recover=True)
        seen = [each["data"] for each in got.get("publications", [])]
        with contextlib.suppress(TimeoutError):
            seen.append(wire.next(0.3)["push"]["pub"]["data"])
        # Not recovered: the position is beyond it, as specified, or it comes as a publication.
        assert seen in ([], ["filled"])
        nodes[0].publish(channel, "next")
        assert wire.data() == "next"


def test_several_publications(cache, fresh):
    # The latest of what the backend publishes, and no other.
    nodes, backend = cache
    channel = fresh("example")

    def fill(call):
        for n in range(4):
            nodes[0].publish(call.fields["channel"], n)
        return result(populated=True)

    backend["cache_empty"] = fill
    with Wire.connected(nodes[1]) as wire:
        assert recovered(wire, channel) == (True, [3], 0)
        wire.quiet(0.2)
        nodes[0].publish(channel, 4)
        assert wire.data() == 4


def test_published_all_the_time_meanwhile(cache, fresh):
    # What others publish while the backend thinks would come twice, or leave a hole.
    nodes, backend = cache
    for turn in range(5):
        channel = fresh("example")
        over = threading.Event()
        sent = []

        def others(channel=channel, over=over, sent=sent):
            while not over.is_set():
                sent.append(nodes[0].publish(channel, len(sent))["offset"])
                time.sleep(0.003)

        def fill(call, others=others):
            threading.Thread(target=others, daemon=True).start()
            time.sleep(0.03 * turn)
            return result(populated=True)

        backend["cache_empty"] = fill
        with Wire.connected(nodes[1]) as wire:
            got = wire.subscribe(channel, recover=True)
            eventually(lambda sent=sent: len(sent) > 5)
            over.set()
            seen = [each["offset"] for each in got.get("publications", [])]
            last = nodes[0].api("history", channel=channel)["offset"]
            while not seen or seen[-1] < last:
                seen.append(wire.push()["pub"]["offset"])
                last = nodes[0].api("history", channel=channel)["offset"]
            assert seen == list(range(seen[0], seen[-1] + 1)), seen


def test_N17_not_asked(cache, fresh):
    # Each subscriber would cost a call.
    nodes, backend = cache
    filled, plain, unasked, stream = fresh("example"), fresh("example"), fresh("unasked"), fresh("stream")
    nodes[0].publish(filled, 1)
    with Wire.connected(nodes[1]) as wire:
        assert recovered(wire, filled) == (True, [1], 0)
        wire.subscribe(plain)
        recovered(wire, unasked)
        wire.subscribe(stream, recover=True)
        wire.subscribe(fresh("open"))
        assert not backend.calls("cache_empty")


def test_state_has_run_out(cache, fresh):
    # A client that knows the last state is asked about, too, and is recovered whatever the backend says.
    nodes, backend = cache
    channel = fresh("brief")
    position = nodes[0].publish(channel, 1)
    eventually(lambda: not nodes[0].api("history", channel=channel, limit=-1)["publications"], within=6)
    with Wire.connected(nodes[1]) as wire:
        assert recovered(wire, channel, **position)[:2] == (True, [])
        backend.only("cache_empty")
    backend["cache_empty"] = filling(nodes, "again")
    with Wire.connected(nodes[1]) as wire:
        assert recovered(wire, channel)[:2] == (True, ["again"])


@pytest.mark.parametrize("failure", ["broken", "error", "hangs", "down"])
def test_N18_backend_fails(cache, fresh, failure):
    # A client would believe that there is no state, or lose its connection with all its channels.
    nodes, backend = cache
    channel, other = fresh("example"), fresh("open")
    if failure == "error" and backend.scheme == "grpc":
        pytest.skip("the message has no error")
    backend["cache_empty"] = {"broken": backend.broken, "error": error(1, "x"), "hangs": HANG}.get(failure, {})
    with Wire.connected(nodes[1]) as wire:
        wire.subscribe(other)
        if failure == "down":
            backend.stop()
        try:
            reply = wire.call(subscribe={"channel": channel, "recover": True})
        finally:
            if failure == "down":
                backend.start()
        assert reply["error"] == {"code": 100, "message": "internal server error", "temporary": True}
        assert nodes[1].num_clients(channel) == 0
        backend["cache_empty"] = filling(nodes)
        assert recovered(wire, channel) == (True, ["filled"], 0)
        nodes[0].publish(other, 1)
        assert wire.data() == 1


def test_auto_cache_recover(cache, fresh):
    # Clients that cannot ask would get nothing.
    nodes, backend = cache
    channel, given, later, user = fresh("auto"), fresh("auto"), fresh("auto"), fresh()
    backend["cache_empty"] = filling(nodes)
    with Wire.connected(nodes[1]) as wire, Wire.connected(nodes[1], user, claims={"channels": [given]}) as other:
        got = wire.subscribe(channel)
        assert got["recovered"] and [each["data"] for each in got["publications"]] == ["filled"]
        got = other.session["subs"][given]
        assert got["recovered"] and [each["data"] for each in got["publications"]] == ["filled"]
        nodes[0].api("subscribe", user=user, channel=later)
        assert other.push("subscribe")["channel"] == later
        assert other.data() == "filled"
        assert [call.fields["channel"] for call in backend.calls("cache_empty")] == [given, channel, later]


def test_burst_asks_once(cache, fresh):
    # All visitors of a new page would ask the backend, which would publish the same state as often.
    nodes, backend = cache
    channel, count = fresh("example"), 50
    published = []

    def fill(call):
        published.append(nodes[0].publish(channel, len(published)))
        return Late(0.4, result(populated=True))

    backend["cache_empty"] = fill
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire.connected(nodes[n % 2], str(n))) for n in range(count)]
        got = at_once(*(lambda wire=wire: recovered(wire, channel) for wire in wires))
        assert len(backend.calls("cache_empty")) <= 2, "one for each node"
        assert {row[0] for row in got} == {True} and all(len(row[1]) == 1 for row in got)
        nodes[0].publish(channel, "next")
        for wire in wires:
            while wire.data() != "next":
                pass
            wire.quiet(0.005)


def test_commands_of_the_client_wait_no_longer_than_the_timeout(cache, fresh):
    # One empty channel would block the connection for ever; others must not notice.
    nodes, backend = cache
    backend["cache_empty"] = HANG
    with Wire.connected(nodes[1]) as wire, Wire.connected(nodes[1]) as other:
        began = time.monotonic()
        wire.send({"id": 50, "subscribe": {"channel": fresh("example"), "recover": True}}, {"id": 51, "rpc": {}})
        backend.wait("cache_empty")
        other.subscribe(fresh("open"))
        assert time.monotonic() - began < 1
        assert wire.reply(50)["error"]["code"] == 100 and wire.reply(51)["error"]["code"] == 108
        assert 1.9 < time.monotonic() - began < 4.5


def test_client_leaves_meanwhile(cache, fresh):
    # A subscription of somebody who is gone would stay.
    nodes, backend = cache
    channel = fresh("example")
    backend["cache_empty"] = Late(0.4, result())
    with Wire.connected(nodes[1]) as wire:
        wire.send({"id": 50, "subscribe": {"channel": channel, "recover": True}})
        backend.wait("cache_empty")
    time.sleep(0.6)
    assert nodes[1].num_clients(channel) == 0


def test_N19_timeout():
    # Without the option a slow backend fails after a second, with it when it says.
    with Backend() as backend:
        backend["cache_empty"] = Late(1.6, result())
        for timeout, works in ((None, False), ("3s", True)):
            changes = asking(backend)
            proxy = changes["channel"]["proxy"]["cache_empty"]
            proxy.pop("timeout") if timeout is None else proxy.update(timeout=timeout)
            with running(changes) as node, Wire.connected(node) as wire:
                began = time.monotonic()
                reply = wire.call(subscribe={"channel": "example:x", "recover": True})
                assert ("subscribe" in reply) is works
                assert 0.9 < time.monotonic() - began < 3


def test_N20_named_proxy():
    # One program per namespace could not be asked.
    with Backend() as backend, Backend() as named:
        own = {"name": "named", **ASKED, "cache_empty_proxy_name": "filler"}
        changes = merged(asking(backend, own), {"proxies": [{"name": "filler", "endpoint": named.url("fill")}]})
        with running(changes) as node, Wire.connected(node) as wire:
            recovered(wire, "named:x")
            recovered(wire, "example:x")
            assert named.only("fill").fields == {"channel": "named:x"}
            assert backend.only("cache_empty").fields == {"channel": "example:x"}


def test_N21_old_spelling():
    # A configuration written after the seed would not work as written.
    history = {key: CACHE[key] for key in ("history_size", "history_ttl", "force_recovery", "force_recovery_mode")}
    with Backend() as backend:
        old = {
            "client": {"token": {"hmac_secret_key": "test-secret"}},
            "http_api": {"key": "test-api-key"},
            "health": {"enabled": True},
            "channel": None,
            "proxy_cache_empty_endpoint": backend.url("cache_empty"),
            "proxy_cache_empty_timeout": "1s",
            "namespaces": [
                {"name": "example", "proxy_cache_empty": True, "allow_subscribe_for_client": True, **history},
                {"name": "other", "allow_subscribe_for_client": True, **history},
            ],
        }
        backend["cache_empty"] = result()
        with running(old) as node, Wire.connected(node) as wire:
            recovered(wire, "example:index")
            recovered(wire, "other:index")
            assert [call.fields for call in backend.calls("cache_empty")] == [{"channel": "example:index"}]
            said = node.output()
            for modern in ("channel.proxy.cache_empty.endpoint", "cache_empty_proxy_enabled", "channel.namespaces"):
                assert modern in said, "a hint at the modern spelling"


def test_N21_old_spelling_without_namespace_and_by_name():
    # As above, the two other forms.
    history = {key: CACHE[key] for key in ("history_size", "history_ttl", "force_recovery", "force_recovery_mode")}
    allowed = {"allow_subscribe_for_client": True, **history}
    with Backend() as backend, Backend() as named:
        old = {
            "proxy_cache_empty": True,
            "proxy_cache_empty_endpoint": backend.url("cache_empty"),
            "proxies": [{"name": "filler", "endpoint": named.url("fill")}],
            "channel": {
                "without_namespace": allowed,
                "namespaces": [{"name": "granular", "cache_empty_proxy_name": "filler", **allowed}],
            },
        }
        with running(old) as node, Wire.connected(node) as wire:
            recovered(wire, "index")
            recovered(wire, "granular:index")
            assert backend.only("cache_empty").fields == {"channel": "index"}
            assert named.only("fill").fields == {"channel": "granular:index"}


@pytest.mark.parametrize("proxy", [None, {"endpoint": "http://127.0.0.1:1/x", "timeout": "-1s"}, {"endpoint": ""}])
def test_refused_at_start(proxy):
    # A mistake would show at the first subscriber.
    changes = namespaces({"name": "example", **ASKED})
    if proxy:
        changes["channel"]["proxy"] = {"cache_empty": proxy}
    node = Gyre(changes)
    try:
        assert node.spawn().exit_code() == 1
        assert "channel.proxy.cache_empty" in node.output()
    finally:
        node.end()


def test_flood_of_empty_channels(cache, fresh):
    # Hundreds of pages that open at once: each asks once, and all are answered.
    nodes, backend = cache
    backend["cache_empty"] = lambda call: Late(0.05, filling(nodes, call.fields["channel"])(call))
    channels = [fresh("example") for _ in range(200)]

    def visit(channel):
        with Wire.connected(nodes[1]) as wire:
            return recovered(wire, channel)[:2]

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        assert list(pool.map(visit, channels)) == [(True, [channel]) for channel in channels]
    assert sorted(call.fields["channel"] for call in backend.calls("cache_empty")) == sorted(channels)
