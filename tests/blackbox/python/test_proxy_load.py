"""A backend that is slow, gone or flooded: who waits, and who must not notice."""

import collections
import concurrent.futures
import contextlib
import selectors
import threading
import time

import pytest
from harness import Wire, eventually, token
from harness.app import app, everything
from harness.backend import HANG, Late, result
from harness.node import merged
from harness.waiting import timed
from harness.wire import offsets

pytestmark = pytest.mark.alone


@contextlib.contextmanager
def opened(count, open_one):
    """That many connections."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(open_one(n)) for n in range(count)]


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_slow_backend_delays_nobody_else(kind, fresh):
    # One slow page of the application would stop the chat.
    changes = {"client": {"ping_interval": "2s", "pong_timeout": "1.9s"}}
    changed = app(kind, changes=lambda backend: merged(everything(backend, timeout="20s"), changes))
    with changed as made, contextlib.ExitStack() as stack:
        channel = fresh("open")
        made.backend["connect"] = result(user="slow")
        made.backend["rpc"] = HANG

        def waiting(_):
            wire = Wire(made.node)
            wire.call(connect={})
            wire.send({"id": 5, "rpc": {"method": "slow"}})
            readable.register(wire.socket, selectors.EVENT_READ, wire)
            return wire

        # Pings and pongs of those who wait go on meanwhile, from the first to the last.
        over, readable = threading.Event(), stack.enter_context(selectors.DefaultSelector())

        def attend():
            while not over.is_set():
                for key, _ in readable.select(0.1):
                    with contextlib.suppress(TimeoutError):
                        raise AssertionError(key.data.next(0.001))

        attending = stack.enter_context(concurrent.futures.ThreadPoolExecutor(1)).submit(attend)
        stack.callback(over.set)
        with opened(200, waiting) as slow, made.wire("fast") as one, made.wire("other") as two:
            made.backend.wait("rpc", 100, within=15)
            for wire in (one, two):
                wire.subscribe(channel)
            until = time.monotonic() + 4
            rounds = 0
            while time.monotonic() < until:
                _, took = timed(lambda: one.call(publish={"channel": channel, "data": 1}))
                assert took < 1
                one.data(), two.data()
                _, took = timed(lambda: made.node.publish(channel, 2))
                assert took < 1
                one.data(), two.data()
                rounds += 1
            over.set()
            attending.result()
            assert rounds > 10
            made.backend.release()
            made.backend["rpc"] = {}
            assert collections.Counter("error" in wire.reply(5, within=20) for wire in slow).total() == 200


def test_I15_backend_restarts(fresh):
    # Each deployment of the application would need one of the nodes, or fail calls long after it.
    with app("http") as made, opened(10, lambda n: made.wire(str(n))) as wires:
        over, outcomes = threading.Event(), [[] for _ in wires]

        def call(number):
            while not over.is_set():
                wire = wires[number]
                at = time.monotonic()
                reply = wire.call(rpc={"method": "m", "data": number})
                outcomes[number].append((at, time.monotonic(), reply.get("error", {}).get("code", 0)))
                time.sleep(0.02)

        with concurrent.futures.ThreadPoolExecutor(len(wires)) as pool:
            done = [pool.submit(call, number) for number in range(len(wires))]
            gaps = []
            for _ in range(3):
                time.sleep(0.5)
                began = time.monotonic()
                made.backend.stop()
                time.sleep(0.5)
                made.backend.start()
                gaps.append((began, time.monotonic()))
            time.sleep(0.5)
            over.set()
            for each in done:
                each.result()
        every = [outcome for one in outcomes for outcome in one]
        assert {code for *_, code in every} == {0, 100}
        for began, ended, code in every:
            overlaps = any(began < end and start < ended for start, end in gaps)
            assert code == 0 or overlaps, "only calls in the gap fail"
        assert sum(code == 0 for began, _, code in every if began > gaps[-1][1]) > 20


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_many_connect_at_once(kind):
    # After a deployment everybody comes back in the same seconds.
    with app(kind) as made:
        made.backend["connect"] = lambda call: Late(0.05, result(user=call.fields["data"]["user"], data=call.fields["client"]))
        count = 300

        def connect(number):
            wire = Wire(made.node)
            reply = wire.call(within=20, connect={"data": {"user": str(number)}})
            assert reply["connect"]["data"] == reply["connect"]["client"], "an answer of somebody else"
            return wire

        with concurrent.futures.ThreadPoolExecutor(100) as pool, contextlib.ExitStack() as stack:
            wires = [stack.enter_context(wire) for wire in pool.map(connect, range(count))]
            assert len({wire.head for wire in wires}) > 1
            users = collections.Counter(call.fields["data"]["user"] for call in made.backend.calls("connect"))
            assert len(users) == count and set(users.values()) == {1}
            # What a node says of itself is renewed every few seconds.
            eventually(lambda: made.node.api("info")["nodes"][0]["num_users"] == count, within=10, what="300 users")


def test_a_backend_that_stands_still():
    # It would take the memory of the node, and calls would go on failing after its return.
    with app("http", timeout="1s") as made:
        made.backend["connect"] = HANG
        before = made.node.memory_bytes()

        def connect(number):
            with Wire(made.node) as wire:
                began = time.monotonic()
                code = wire.call(within=15, connect={})["error"]["code"]
                return code, time.monotonic() - began

        with concurrent.futures.ThreadPoolExecutor(300) as pool:
            got = list(pool.map(connect, range(900)))
        assert {code for code, _ in got} == {100}
        assert made.node.memory_bytes() < before + (64 << 20)
        made.backend.reset()
        made.backend["connect"] = result(user="42")
        with Wire(made.node) as wire:
            assert eventually(lambda: "connect" in wire.call(connect={}), within=5)


def test_server_side_work_goes_on_while_a_connect_waits(fresh):
    # Those with a token do not need the backend.
    with app("http", timeout="10s") as made:
        made.backend["connect"] = HANG
        with contextlib.ExitStack() as stack:
            for _ in range(50):
                stack.enter_context(Wire(made.node)).send({"id": 1, "connect": {}})
            made.backend.wait("connect", 50)
            for n in range(20):
                with Wire(made.node) as wire:
                    _, took = timed(lambda wire=wire, n=n: wire.call(connect={"token": token(str(n))})["connect"])
                    assert took < 1
                    channel = fresh("hist")
                    wire.subscribe(channel)
                    made.node.publish(channel, n)
                    assert offsets([wire.push()["pub"]]) == [1]


def test_what_one_client_may_have_waiting():
    # A client in a loop would fill the memory while the backend is slow; one that sends a large file must not be cut off.
    with app("http", timeout="10s") as made, made.wire("1") as modest, made.wire("2") as greedy:
        made.backend["rpc"] = lambda call: Late(1, result()) if call.fields["data"] == "first" else result()
        first = {"id": 2, "rpc": {"method": "m", "data": "first"}}
        for wire, count in ((modest, 15), (greedy, 20)):
            wire.send(first)
            for number in range(count):
                wire.send({"id": 3 + number, "rpc": {"method": "m", "data": "x" * 60_000}})
        assert greedy.closed() == (3013, "too many requests")
        for number in range(2, 18):
            assert "rpc" in modest.reply(number, within=20)


def test_connections_that_wait_too_long_for_the_backend_are_stale():
    # Whoever cannot be let in would be kept for as long as the backend is given.
    changes = {"client": {"stale_close_delay": "1s"}}
    with app("http", changes=lambda backend: merged(everything(backend, timeout="6s"), changes)) as made:
        made.backend["connect"] = Late(2, result(user="42"))
        with Wire(made.node) as wire:
            wire.send({"id": 1, "connect": {}})
            assert wire.closed() == (3502, "stale")
            made.backend.only("connect")
        with Wire(made.node) as wire:
            made.backend["connect"] = Late(0.3, result(user="43"))
            assert "connect" in wire.call(connect={})
        # The answer for the one who is gone lets nobody in.
        time.sleep(1.2)
        assert made.node.api("info")["nodes"][0]["num_clients"] == 0
