"""Calls of clients that the backend answers."""

import base64
import time

import pytest
from harness import Closed, Wire, running
from harness.app import App, app, everything
from harness.backend import HANG, Backend, Late, disconnect, error, result
from harness.node import merged


def test_I07_what_the_backend_is_asked(asking):
    # Backends written for the reference would not find what they look for.
    with asking.wire() as wire:
        wire.call(rpc={"method": "sum", "data": {"a": [1]}})
        assert asking.backend.only("rpc").fields == {**asking.about(wire), "method": "sum", "data": {"a": [1]}}
        asking.backend.reset()
        wire.call(rpc={"method": "on:sum"})
        assert asking.backend.only("rpc").fields == {**asking.about(wire), "method": "on:sum"}
        asking.backend.reset()
        wire.call(rpc={})
        assert "method" not in asking.backend.only("rpc").fields


def test_anonymous(asking):
    # Backends look for the user without asking whether it is there.
    with asking.wire("") as wire:
        wire.call(rpc={"method": "m"})
        call = asking.backend.only("rpc")
        assert call.fields.get("user", "") == ""
        if asking.backend.scheme == "http":
            assert '"user":""' in call.body.decode().replace(" ", "")


def test_I07_data(asking):
    # The answer would not be the backend's.
    with asking.wire() as wire:
        for answer, expected in (
            ({}, {}),
            ({"result": {}}, {}),
            (result(data={"sum": 3}), {"data": {"sum": 3}}),
            (result(data=False), {"data": False}),
            (result(data=0, b64data=base64.b64encode(b"[1]").decode()), {"data": [1]}),
            (result(data="x" * 500_000), {"data": "x" * 500_000}),
        ):
            asking.backend["rpc"] = answer
            assert wire.call(rpc={"method": "m"})["rpc"] == expected


def test_the_backend_gives_a_channel_meanwhile(asking, fresh):
    # "Join this room": the client's call and that of the server API would wait for each other until both fail.
    channel, user = fresh("open"), fresh("user")

    def join(call):
        asking.node.api("subscribe", user=user, channel=channel)
        return result(data="joined")

    with asking.wire(user) as wire:
        asking.backend["rpc"] = join
        assert wire.call(rpc={"method": "join"})["rpc"] == {"data": "joined"}
        assert wire.push("subscribe")["channel"] == channel
        asking.node.publish(channel, 1)
        assert wire.data() == 1


def test_errors(asking):
    # Applications tell their clients by codes what went wrong.
    with asking.wire() as wire:
        for answer in (error(1000, "no"), error(404, "none", temporary=True), {**error(1), **result(data=1)}):
            asking.backend["rpc"] = answer
            assert wire.call(rpc={"method": "m"})["error"] == answer["error"]
        asking.backend["rpc"] = asking.backend.broken
        expected = {"code": 100, "message": "internal server error", "temporary": True}
        assert wire.call(rpc={"method": "m"})["error"] == expected
        asking.backend["rpc"] = result(b64data="?")
        assert wire.error(rpc={"method": "m"}) == 100
        asking.backend["rpc"] = {**disconnect(4001, "later"), **error(1), **result(data=1)}
        wire.send({"id": 9, "rpc": {"method": "m"}})
        assert wire.closed() == (4001, "later")


def test_I12_timeout(asking):
    # A call would hang as long as the backend likes.
    asking.backend["rpc"] = HANG
    with asking.wire() as wire:
        began = time.monotonic()
        assert wire.error(rpc={"method": "m"}) == 100
        assert 1.9 < time.monotonic() - began < 4


def test_I07_namespaces(asking):
    # Methods of a part of the application that is switched off would reach it.
    with asking.wire() as wire:
        assert wire.error(rpc={"method": "nope:m"}) == 104
        assert wire.error(rpc={"method": "off:m"}) == 108
        assert not asking.backend.calls("rpc")
        wire.call(rpc={"method": "on:a:b"})
        assert asking.backend.only("rpc").fields["method"] == "on:a:b"


def test_without_any_proxy():
    # As before there was one.
    with running() as node, Wire.connected(node) as wire:
        assert wire.error(rpc={"method": "m"}) == 108
        assert wire.error(rpc={"method": "nope:m"}) == 108


@pytest.mark.parametrize("method", ["ping", "on:health"])
def test_ping(method):
    # Clients that measure the way to the node would measure the backend.
    with Backend() as backend:
        changes = merged(everything(backend), {"rpc": {"ping": {"enabled": True, "method": method}}})
        with running(changes) as node, App(node, backend).wire() as wire:
            assert wire.call(rpc={"method": method, "data": 1})["rpc"] == {}
            assert not backend.calls("rpc")
            wire.call(rpc={"method": "other"})
            backend.only("rpc")


def test_ping_alone():
    # It needs no backend.
    with running({"rpc": {"ping": {"enabled": True}}}) as node, Wire.connected(node) as wire:
        assert wire.call(rpc={"method": "ping"})["rpc"] == {}
        assert wire.error(rpc={"method": "other"}) == 104


def test_boundary():
    # Method names with a colon in them would need a namespace although there are none.
    with Backend() as backend:
        # What a file says of it wins unless it is empty.
        for boundary, of_namespace, without in (("/", "on/b", "a:b"), ("", "on:b", "a/b")):
            changes = merged(everything(backend), {"rpc": {"namespace_boundary": boundary}})
            with running(changes) as node, App(node, backend).wire() as wire:
                backend["rpc"] = {}
                for method in (of_namespace, without):
                    assert wire.call(rpc={"method": method})["rpc"] == {}
                assert wire.error(rpc={"method": of_namespace.replace("on", "nope")}) == 104


def test_pongs_while_a_call_hangs():
    # A client that waits for a slow answer would be taken for dead.
    with app(
        "http",
        changes=lambda backend: merged(
            everything(backend, timeout="8s"), {"client": {"ping_interval": "1s", "pong_timeout": "900ms"}}
        ),
    ) as made:
        made.backend["rpc"] = Late(3, result(data="slow"))
        with made.wire() as wire, made.wire() as silent:
            silent.answer_pings = False
            for each in (wire, silent):
                each.send({"id": 9, "rpc": {"method": "m"}})
            # Pings are answered while it waits, see Wire.next.
            assert wire.reply(9, within=8)["rpc"] == {"data": "slow"}
            wire.quiet(1.2)
            # Whoever does not answer was found out while the call hung: there are pings, and no reply.
            got = []
            with pytest.raises(Closed) as end:
                while True:
                    got.append(silent.next())
            assert end.value.code == 3012 and got and not any(got)


def test_many_calls_of_one_client(asking):
    # Answers would be given to other questions.
    asking.backend["rpc"] = lambda call: Late(0.001 * (call.fields["data"] % 7), result(data=call.fields["data"]))
    with asking.wire() as wire:
        wire.send(*({"id": 100 + n, "rpc": {"method": "m", "data": n}} for n in range(100)))
        got = [wire.next() for _ in range(100)]
        assert [(reply["id"] - 100, reply["rpc"]["data"]) for reply in got] == [(n, n) for n in range(100)]
