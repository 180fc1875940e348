"""Connections that expire: the backend says whether they live on."""

import contextlib
import time

from harness import Wire, eventually, token
from harness.app import app, over_http
from harness.backend import HANG, Status, disconnect, error, result
from harness.wire import attended

# A deadline is whole seconds, and a connection that is let in must not have reached it.
SOON_S = 2
# Until a node has noticed that a deadline is over, on a laden machine.
NOTICED_S = 4


def soon(seconds=SOON_S):
    return int(time.time()) + seconds


def later():
    return result(expire_at=soon(100))


def test_I03_what_the_backend_is_asked(asking):
    # As for the connect proxy.
    asking.backend["refresh"] = later()
    with asking.wire(expire_at=soon()) as wire:
        assert "ttl" not in wire.session
        asking.backend.wait("refresh", client=wire.client)
        assert asking.backend.only("refresh").fields == asking.about(wire)
        # Prolonged for long, without a word to the client.
        wire.quiet(1.2)
        assert len(asking.backend.calls("refresh", client=wire.client)) == 1


@over_http
def test_I03_connections_with_a_token(asking):
    # Whoever came with a token would be thrown out when it expires, although the backend would keep him.
    asking.backend["refresh"] = later()
    with Wire(asking.node) as wire:
        session = wire.call(connect={"token": token("7", lifetime_s=SOON_S)})["connect"]
        assert "ttl" not in session
        call = asking.backend.wait("refresh", client=session["client"])[0]
        assert call.fields["user"] == "7"
        wire.quiet(1.2)
        wire.send({"id": 9, "refresh": {"token": token("7")}})
        assert wire.closed() == (3501, "bad request")


@over_http
def test_connections_that_do_not_expire(asking):
    # Idle connections would cost calls.
    with asking.wire() as wire:
        wire.quiet(2)
        assert not asking.backend.calls("refresh")


ENDINGS = {
    "expired": result(expired=True),
    "no result": {},
    "error": error(1000),
    "disconnect": disconnect(4501),
    "no new time": result(),
    "past": result(expire_at=1),
}


def test_I03_expired(asking):
    # A user whose session has ended would go on reading.
    asking.backend["refresh"] = lambda call: ENDINGS[call.fields["user"]]
    with contextlib.ExitStack() as stack:
        wires = {name: stack.enter_context(asking.wire(name, expire_at=soon())) for name in ENDINGS}
        for name, wire in wires.items():
            assert wire.closed(within=SOON_S + NOTICED_S) == (3005, "connection expired"), name
            assert len(asking.backend.calls("refresh", client=wire.client)) == 1, name


BESIDE = {"error": error(1000), "disconnect": disconnect(4501), "both": {**error(1000), **disconnect(4501)}}


def test_I03_a_result_counts_whatever_is_beside_it(asking):
    # As upstream: nobody is told of an error or a disconnect here, so backends that fill in all fields may do so.
    asking.backend["refresh"] = lambda call: {**BESIDE[call.fields["user"]], **later()}
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(asking.wire(name, expire_at=soon())) for name in BESIDE]
        with attended(*wires):
            for wire in wires:
                asking.backend.wait("refresh", client=wire.client, within=SOON_S + NOTICED_S)
            time.sleep(1.2)
        assert len(asking.backend.calls("refresh")) == len(BESIDE)
        asking.backend["refresh"] = {**error(1000), **result(expired=True)}
        with asking.wire("expired", expire_at=soon()) as wire:
            assert wire.closed(within=SOON_S + NOTICED_S) == (3005, "connection expired")


@over_http
def test_I03_again_and_again(asking):
    # The second deadline counts like the first.
    asking.backend["refresh"] = lambda call: result(expire_at=soon())
    with asking.wire(expire_at=soon()) as wire:
        deadline = time.monotonic() + 20
        while len(asking.backend.calls("refresh", client=wire.client)) < 2:
            wire.quiet(0.1)
            assert time.monotonic() < deadline
        asking.backend["refresh"] = result(expired=True)
        assert wire.closed(within=NOTICED_S + 2)[0] == 3005


def test_I03_backend_fails(asking):
    # An outage of the backend would throw out everybody whose deadline falls into it.
    answers = {"broken": asking.backend.broken, "hangs": HANG}
    asking.backend["refresh"] = lambda call: answers[call.fields["user"]]
    with asking.wire("broken", expire_at=soon()) as broken, asking.wire("hangs", expire_at=soon()) as hangs:
        # Beyond the deadline, the timeout, and what a client has to refresh itself.
        with attended(broken, hangs):
            time.sleep(SOON_S + 3.2)
        for wire in (broken, hangs):
            assert len(asking.backend.calls("refresh", client=wire.client)) == 1


@over_http
def test_I03_backend_is_away(asking):
    # As above.
    with asking.wire(expire_at=soon()) as wire:
        asking.backend.stop()
        try:
            wire.quiet(SOON_S + 2)
        finally:
            asking.backend.start()
        assert not asking.backend.calls("refresh")


@over_http
def test_info(asking, fresh):
    # Others would see a name that has changed since; or none, when the backend leaves it out.
    channel = fresh("presence")
    asking.backend["refresh"] = lambda call: result(expire_at=soon(), info={"name": "new"})
    with asking.wire(expire_at=soon(), info={"name": "old"}, channels=[channel]) as wire:
        assert asking.members(channel)[wire.client]["conn_info"] == {"name": "old"}

        def shown():
            wire.quiet(0.05)
            return asking.members(channel)[wire.client].get("conn_info")

        eventually(lambda: shown() == {"name": "new"}, within=8, what="the new info")
        asking.backend["refresh"] = later()
        asking.backend.wait("refresh", len(asking.backend.calls("refresh")) + 1, client=wire.client)
        wire.quiet(1.2)
        assert shown() == {"name": "new"}


def test_a_transform_loses_the_grace():
    # As specified: a status that means something is an answer, and it is no prolongation.
    transforms = [{"status_code": 503, "to_error": {"code": 1503, "message": "later"}}]
    with app("http", http={"status_to_code_transforms": transforms}) as made:
        made.backend["refresh"] = lambda call: Status(int(call.fields["user"]))
        with made.wire("503", expire_at=soon()) as wire, made.wire("500", expire_at=soon()) as other:
            assert wire.closed(within=SOON_S + NOTICED_S) == (3005, "connection expired")
            other.quiet(1.2)


@over_http
def test_many_expire_at_once(asking):
    # All who came in the same second would be refreshed one after another, the last ones too late.
    asking.backend["refresh"] = later()
    at = soon(4)
    wires = []
    try:
        for _ in range(200):
            wires.append(asking.wire(expire_at=at))
        eventually(lambda: len(asking.backend.calls("refresh")) == 200, within=12, what="200 refreshes")
        assert len({call.fields["client"] for call in asking.backend.calls("refresh")}) == 200
        for wire in wires:
            wire.quiet(0.005)
    finally:
        for wire in wires:
            wire.__exit__()
