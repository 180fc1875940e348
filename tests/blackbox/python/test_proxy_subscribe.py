"""The backend decides who subscribes, and how."""

import base64
import json
import time

import pytest
from harness import channel_token, eventually
from harness.app import app
from harness.backend import HANG, Late, disconnect, error, result
from harness.waiting import at_once, timed


def test_I04_what_the_backend_is_asked(asking, fresh):
    # Backends written for the reference would not find what they look for.
    channel = fresh("asked")
    with asking.wire() as wire:
        wire.subscribe(channel, data={"room": [1]})
        assert asking.backend.only("subscribe").fields == {**asking.about(wire), "channel": channel, "data": {"room": [1]}}
        asking.backend.reset()
        wire.subscribe(fresh("asked"))
        assert set(asking.backend.only("subscribe").fields) == {*asking.about(wire), "channel"}


@pytest.mark.parametrize("answer", [{}, {"result": {}}, {"result": None}], ids=["nothing", "empty result", "null"])
def test_I04_allowed(asking, fresh, answer):
    # Every application begins with an empty answer.
    if asking.backend.scheme == "grpc" and answer == {"result": None}:
        pytest.skip("there is no null in Protobuf")
    channel = fresh("asked")
    asking.backend["subscribe"] = answer
    with asking.wire() as wire:
        assert wire.subscribe(channel) == {}
        asking.node.publish(channel, 1)
        assert wire.data() == 1


def test_I04_data_and_info(asking, fresh):
    # Initial state would need a second round trip, and members would be shown without what belongs to the room.
    channel = fresh("askedmembers")
    asking.backend["subscribe"] = result(data={"state": 1}, info={"role": "host"})
    with asking.wire(info={"name": "Ann"}) as wire:
        assert wire.subscribe(channel)["data"] == {"state": 1}
        expected = {"user": "42", "client": wire.client, "conn_info": {"name": "Ann"}, "chan_info": {"role": "host"}}
        assert asking.members(channel) == {wire.client: expected}
        channel = fresh("askedmembers")
        asking.backend["subscribe"] = result(
            data=0, b64data=base64.b64encode(b"[1]").decode(), info=0, b64info=base64.b64encode(b"[2]").decode()
        )
        assert wire.subscribe(channel)["data"] == [1]
        assert asking.members(channel)[wire.client]["chan_info"] == [2]
        asking.backend["subscribe"] = result(b64data="%%%")
        assert wire.error(subscribe={"channel": fresh("asked")}) == 100


def test_data_that_is_null_or_false(asking, fresh):
    # Values that a program takes for nothing are values.
    with asking.wire() as wire:
        for value in (False, 0, "", [], {}):
            asking.backend["subscribe"] = result(data=value)
            assert wire.subscribe(fresh("asked"))["data"] == value


@pytest.mark.parametrize("channel", ["askedkept", "asked", "askedpositions"])
def test_overrides(asking, fresh, channel):
    # An application could not decide for each subscriber who is seen, and who recovers.
    on = {name: {"value": True} for name in ("presence", "join_leave", "force_push_join_leave")}
    with asking.wire() as wire, asking.wire("43") as other:
        name = fresh(channel)
        asking.backend["subscribe"] = result(override=on)
        wire.subscribe(name)
        assert wire.push("join")["join"]["info"]["client"] == wire.client
        # It is the subscription that has it, not the channel.
        asking.backend["subscribe"] = result()
        other.subscribe(name)
        asking.node.publish(name, 1)
        assert wire.data() == 1 and other.data() == 1

        kept = fresh(channel if channel != "asked" else "askedkept")
        asking.backend["subscribe"] = result(override={"force_recovery": {"value": True}})
        first = wire.subscribe(kept)
        assert first["recoverable"] and first["positioned"] and first["epoch"]
        asking.backend["subscribe"] = result(
            override={"force_recovery": {"value": False}, "force_positioning": {"value": True}}
        )
        second = other.subscribe(kept)
        assert second["positioned"] and "recoverable" not in second
        asking.backend["subscribe"] = result(
            override={"force_recovery": {"value": False}, "force_positioning": {"value": False}}
        )
        with asking.wire("44") as third:
            assert "positioned" not in third.subscribe(kept)


def test_presence_off_by_override(asking, fresh):
    # A moderator who must not be seen would be.
    channel = fresh("askedmembers")
    asking.backend["subscribe"] = result(override={"presence": {"value": False}, "join_leave": {"value": False}})
    with asking.wire() as wire:
        wire.subscribe(channel)
        assert asking.members(channel) == {}


def test_wishes_of_the_client_do_not_count(asking, fresh):
    # The backend's word would be one among several.
    with asking.wire() as wire:
        got = wire.subscribe(fresh("askedpositions"), positioned=True, recoverable=True, join_leave=True)
        assert "positioned" not in got and "recoverable" not in got
        channel = fresh("askedmembers")
        wire.subscribe(channel, join_leave=True)
        with asking.wire("43") as other:
            other.subscribe(channel)
            wire.quiet()


def test_recovery(asking, fresh):
    # After a short break of the network an allowed client would have a hole.
    channel = fresh("askedkept")
    with asking.wire() as wire:
        first = wire.subscribe(channel)
        assert first["recoverable"]
    for n in range(3):
        asking.node.publish(channel, n)
    with asking.wire() as wire:
        again = wire.subscribe(channel, recover=True, epoch=first["epoch"], offset=0)
        assert again["recovered"] and [publication["data"] for publication in again["publications"]] == [0, 1, 2]


def test_published_while_the_backend_thinks(asking, fresh):
    # What is published between the question and the answer would come twice or never.
    channel = fresh("askedkept")
    asking.backend["subscribe"] = lambda call: [asking.node.publish(channel, n) for n in range(2, 5)] and result()
    position = asking.node.publish(channel, 1)
    with asking.wire() as wire:
        got = wire.subscribe(channel, recover=True, epoch=position["epoch"], offset=position["offset"])
        asking.node.publish(channel, 5)
        seen = [publication["data"] for publication in got.get("publications", [])]
        while seen[-1:] != [5]:
            seen.append(wire.data())
        assert seen == [2, 3, 4, 5]


def test_I04_denied(asking, fresh):
    # The application could not tell why, or the client would be subscribed all the same.
    channel = fresh("asked")
    with asking.wire() as wire:
        for answer in (error(103, "permission denied"), error(1000, "full", temporary=True), {**error(1), **result()}):
            asking.backend["subscribe"] = answer
            assert wire.call(subscribe={"channel": channel})["error"] == answer["error"]
        asking.node.publish(channel, 1)
        wire.quiet(0.2)
        assert asking.node.num_clients(channel) == 0
        asking.backend["subscribe"] = result()
        wire.subscribe(channel)
    with asking.wire() as wire:
        asking.backend["subscribe"] = {**disconnect(4403, "banned"), **error(1)}
        wire.send({"id": 5, "subscribe": {"channel": channel}})
        assert wire.closed() == (4403, "banned")


def test_backend_fails(asking, fresh):
    # SDKs would not try again, or the connection would be lost with all its other channels.
    with asking.wire() as wire:
        for answer in (asking.backend.broken, HANG):
            asking.backend["subscribe"] = answer
            reply = wire.call(subscribe={"channel": fresh("asked")})
            assert reply["error"] == {"code": 100, "message": "internal server error", "temporary": True}
        asking.backend["subscribe"] = result()
        wire.subscribe(fresh("asked"))


def test_expiry_in_the_past(asking, fresh):
    # A subscription would begin and end, again and again.
    asking.backend["subscribe"] = result(expire_at=int(time.time()) - 1)
    with asking.wire() as wire:
        assert wire.error(subscribe={"channel": fresh("asked")}) == 110


def test_expiry_is_shown(asking, fresh):
    # Without a sub_refresh proxy the client must know when to come with a token.
    channel = fresh("asked")
    asking.backend["subscribe"] = result(expire_at=int(time.time()) + 100)
    with asking.wire() as wire:
        got = wire.subscribe(channel)
        assert got["expires"] and got["ttl"] in (98, 99, 100)
        fresh_token = channel_token(channel, "42")
        assert wire.call(sub_refresh={"channel": channel, "token": fresh_token})["sub_refresh"]["expires"]


def test_not_asked(asking, fresh):
    # Tokens would cost a call each, and a channel of one user could be given to another.
    with asking.wire() as wire:
        channel = fresh("asked")
        wire.subscribe(channel, token=channel_token(channel, "42"))
        wire.subscribe(fresh("askedusers") + "#42")
        assert wire.error(subscribe={"channel": fresh("askedusers") + "#43"}) == 103
        wire.subscribe(fresh("open"))
        server_side = fresh("asked")
        asking.node.api("subscribe", user="42", channel=server_side)
        assert wire.push("subscribe")["channel"] == server_side
        assert not asking.backend.calls("subscribe")
        wire.subscribe(fresh("askedusers"))
        asking.backend.only("subscribe")
    asking.backend.reset()
    with asking.wire() as wire:
        assert wire.error(subscribe={"channel": "nope:x"}) == 102
        assert wire.error(subscribe={"channel": fresh("asked") + "é"}) == 107
        wire.subscribe(channel)
        assert wire.error(subscribe={"channel": channel}) == 105
        assert len(asking.backend.calls("subscribe")) == 1


def test_anonymous(asking, fresh):
    # The backend decides about those who have no name, too.
    channel = fresh("asked")
    with asking.wire("") as wire:
        wire.subscribe(channel)
        call = asking.backend.only("subscribe")
        assert call.fields.get("user", "") == ""
        if asking.backend.scheme == "http":
            assert '"user":""' in call.body.decode().replace(" ", ""), "backends look for it without asking whether it is there"


def test_unsubscribe_and_leave_while_the_backend_thinks(asking, fresh):
    # A subscription would begin after its end.
    channel = fresh("askedmembers")
    asking.backend["subscribe"] = Late(0.4, result())
    with asking.wire() as wire:
        wire.send({"id": 5, "subscribe": {"channel": channel}}, {"id": 6, "unsubscribe": {"channel": channel}})
        assert [wire.next(within=3)["id"] for _ in range(2)] == [5, 6]
        eventually(lambda: asking.node.num_clients(channel) == 0 and not asking.members(channel))
        wire.send({"id": 7, "subscribe": {"channel": channel}})
        asking.backend.wait("subscribe", 2)
    time.sleep(0.6)
    assert asking.node.num_clients(channel) == 0 and not asking.members(channel)


def test_disconnected_by_the_api_while_the_backend_thinks(asking, fresh):
    # Somebody who was thrown out would stay until the backend answers.
    asking.backend["subscribe"] = Late(1.5, result())
    with asking.wire("thrown") as wire:
        wire.send({"id": 5, "subscribe": {"channel": fresh("asked")}})
        asking.backend.wait("subscribe")
        asking.node.api("disconnect", user="thrown")
        assert wire.closed(within=1)[0] == 3503


def test_commands_stay_in_order(asking, fresh):
    # A client that subscribes and then publishes would be refused because its publish overtook.
    channel = fresh("asked")
    asking.backend["subscribe"] = Late(0.3, result())
    with asking.wire() as wire:
        wire.send(
            {"id": 5, "subscribe": {"channel": channel}},
            {"id": 6, "rpc": {"method": "m"}},
            {"id": 7, "presence": {"channel": channel}},
        )
        assert [wire.next()["id"] for _ in range(3)] == [5, 6, 7]
        events = [call.event for call in asking.backend.calls()]
        assert events == ["connect", "subscribe", "rpc"]


def test_many_subscribe_at_once(asking, fresh):
    # The start of a popular event: all clients ask for the same channel in the same second.
    channel, count = fresh("asked"), 60
    wires = [asking.wire(str(n)) for n in range(count)]
    try:
        asking.backend["subscribe"] = Late(0.2, result(data="x" * 2000))
        calls = [lambda wire=wire: wire.subscribe(channel)["data"] for wire in wires]
        assert at_once(*calls) == ["x" * 2000] * count
        assert len({call.fields["client"] for call in asking.backend.calls("subscribe")}) == count
        asking.node.publish(channel, 1)
        assert [wire.data() for wire in wires] == [1] * count
    finally:
        for wire in wires:
            wire.__exit__()


def test_large_data(asking, fresh):
    # Initial state of half a megabyte is unusual and allowed.
    state = {"rows": ["0123456789" * 10] * 5000}
    asking.backend["subscribe"] = result(data=state)
    with asking.wire() as wire:
        assert wire.subscribe(fresh("asked"))["data"] == state
        assert len(json.dumps(state)) > 500_000


def test_recover_parameters_are_kept_over_the_call(asking, fresh):
    # A client that lost its position would be told that it is up to date.
    channel = fresh("askedkept")
    asking.node.publish(channel, 1)
    with asking.wire() as wire:
        got = wire.subscribe(channel, recover=True, epoch="other", offset=1)
        assert got["was_recovering"] and not got.get("recovered")


def test_node_stops_while_the_backend_thinks():
    # A deployment would hang on a slow backend.
    with app("http", timeout="10s") as made:
        made.backend["subscribe"] = HANG
        with made.wire() as wire:
            wire.send({"id": 5, "subscribe": {"channel": "asked:x"}})
            made.backend.wait("subscribe")
            (_, took), (code, _) = at_once(lambda: timed(made.node.stop), lambda: wire.closed(within=8))
            assert code == 3001 and took < 4
