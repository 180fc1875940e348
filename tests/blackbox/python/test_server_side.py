"""Channels and expiry that the backend gives to connected clients: API subscribe and refresh, on one node and on two."""

import base64
import time

import pytest
from harness import Wire, eventually, running
from harness.redis import RedisServer
from test_nodes import end, started


def given(push, channel):
    """The body of a subscribe push for this channel."""
    assert push["channel"] == channel, push
    return push["subscribe"]


# ---- subscribe


def test_H07_subscribe(node, fresh):
    # A backend that puts users into rooms would find them silent.
    user, channel = fresh(), fresh("closed")
    with Wire.connected(node, user) as one, Wire.connected(node, user) as two, Wire.connected(node, fresh()) as other:
        assert node.api("subscribe", user=user, channel=channel, data={"n": 0}) == {}
        # Told when the call is answered: what is published next is not missed, whichever core takes it.
        node.publish(channel, {"n": 1})
        for wire in (one, two):
            assert given(wire.push("subscribe"), channel) == {"data": {"n": 0}}
            assert wire.data() == {"n": 1}
        assert node.num_clients(channel) == 2
        other.quiet()
        assert one.error(subscribe={"channel": channel}) == 105
        # Again is no harm, and no news.
        assert node.api("subscribe", user=user, channel=channel) == {}
        one.quiet(0.2)
        node.api("unsubscribe", user=user, channel=channel)
        for wire in (one, two):
            assert wire.push("unsubscribe")["unsubscribe"] == {"code": 2000, "reason": "server unsubscribe"}
        assert node.num_clients(channel) == 0
        assert node.api("subscribe", user=user, channel=channel, client=one.session["client"]) == {}
        given(one.push("subscribe"), channel)
        two.quiet(0.2)
        assert "unsubscribe" in one.call(unsubscribe={"channel": channel}), "the client may leave"
        assert node.num_clients(channel) == 0


def test_H07_nothing_is_missed(node, fresh):
    # The message that a backend sends right after the call would be lost, now and then.
    user = fresh()
    with Wire.connected(node, user) as wire:
        for n in range(60):
            channel = fresh("open")
            node.api("subscribe", user=user, channel=channel)
            node.publish(channel, n)
            given(wire.push("subscribe"), channel)
            assert wire.data() == n
            node.api("unsubscribe", user=user, channel=channel)
            assert wire.push("unsubscribe")["channel"] == channel


def test_H07_what_cannot_be_given(node, fresh):
    # The backend would believe that somebody listens.
    user, channel = fresh(), fresh("open")
    assert node.api_error("subscribe", user=user) == 107
    assert node.api_error("subscribe", user=user, channel="nope:x") == 102
    assert node.api_error("subscribe", user=user, channel=channel, b64data="?") == 107
    assert node.api_error("subscribe", user=user, channel=channel, b64info="?") == 107
    past = int(time.time()) - 5
    assert node.api("subscribe", user=user, channel=channel, expire_at=past) == {}, "there is nobody"
    assert node.api("subscribe", user=user, channel=channel, session="none") == {}
    with Wire.connected(node, user) as wire:
        assert node.api_error("subscribe", user=user, channel=channel, expire_at=past) == 100
        assert node.api("subscribe", user=user, channel=channel, client="none") == {}
        wire.quiet()
    assert node.num_clients(channel) == 0


def test_H07_recovery(node, fresh):
    # Between rendering a page and the call, messages would be lost.
    user, channel = fresh(), fresh("recovery")
    positions = [node.publish(channel, n) for n in range(1, 4)]
    since = {"offset": 1, "epoch": positions[0]["epoch"]}
    with Wire.connected(node, user) as wire:
        node.api("subscribe", user=user, channel=channel, recover_since=since)
        assert given(wire.push("subscribe"), channel) == {"recoverable": True, "positioned": True, **since}
        assert [wire.push()["pub"] for _ in range(2)] == [{"data": n, "offset": n} for n in (2, 3)]
        node.publish(channel, 4)
        assert wire.push()["pub"] == {"data": 4, "offset": 4}
        node.api("unsubscribe", user=user, channel=channel)
        wire.push("unsubscribe")
        node.api("subscribe", user=user, channel=channel, recover_since={"offset": 1, "epoch": "other"})
        unrecovered = {"recoverable": True, "positioned": True, "offset": 4, "epoch": since["epoch"]}
        assert given(wire.push("subscribe"), channel) == unrecovered
        wire.quiet(0.2)


def test_H07_info_and_overrides(node, fresh):
    # Member lists would miss those whom the backend put there, or show those it wanted hidden.
    user, channel = fresh(), fresh("members")
    info = base64.b64encode(b'{"seat":7}').decode()
    with Wire.connected(node, user) as wire:
        node.api("subscribe", user=user, channel=channel, b64info=info, info="loses")
        given(wire.push("subscribe"), channel)
        me = {"user": user, "client": wire.session["client"], "chan_info": {"seat": 7}}
        assert wire.push("join")["join"] == {"info": me}
        assert node.api("presence", channel=channel)["presence"] == {me["client"]: me}
    eventually(lambda: node.api("presence_stats", channel=channel) == {"num_clients": 0, "num_users": 0})
    off = {"presence": {"value": False}, "join_leave": {"value": False}, "force_push_join_leave": {"value": False}}
    plain = fresh("hist")
    with Wire.connected(node, user) as wire:
        node.api("subscribe", user=user, channel=channel, override=off)
        given(wire.push("subscribe"), channel)
        assert node.api("presence", channel=channel) == {"presence": {}}
        node.api("subscribe", user=user, channel=plain, override={"force_recovery": {"value": True}})
        push = given(wire.push("subscribe"), plain)
        assert push["recoverable"] and push["positioned"] and push["epoch"]
        wire.quiet(0.2)


def test_H07_channel_limit(fresh):
    # One client could be given channels without end.
    with running({"client": {"channel_limit": 2}}) as node, Wire.connected(node, "42") as wire:
        for channel in ("open:1", "open:2", "open:2"):
            assert node.api("subscribe", user="42", channel=channel) == {}
        assert node.api("subscribe", user="42", channel="open:3") == {}
        assert wire.closed() == (3505, "channel limit")


def test_H07_an_expired_subscription(fresh):
    # Paid access would never end.
    quick = {"client": {"expired_sub_close_delay": "1s", "presence_update_interval": "1s"}}
    with running(quick) as node, Wire.connected(node, "42") as wire:
        node.api("subscribe", user="42", channel="open:1", expire_at=int(time.time()) + 1)
        given(wire.push("subscribe"), "open:1")
        assert wire.closed(within=8) == (3006, "subscription expired")


# ---- refresh


def test_H10_refresh(node, fresh):
    # Sessions that the backend prolongs would end, and those that it ends go on.
    user = fresh()
    with Wire.connected(node, user) as one, Wire.connected(node, user) as two:
        assert node.api("refresh", user=user, expire_at=int(time.time()) + 100) == {}
        for wire in (one, two):
            refresh = wire.push("refresh")["refresh"]
            assert refresh["expires"] and 98 <= refresh["ttl"] <= 100
        assert node.api("refresh", user=user, client=one.session["client"]) == {}
        assert one.push("refresh") == {"refresh": {}}
        two.quiet(0.2)
        node.api("refresh", user=user, client=two.session["client"], expired=True)
        assert two.closed() == (3005, "connection expired")
        node.api("refresh", user=user, expire_at=int(time.time()) - 1)
        assert one.closed() == (3005, "connection expired")
    assert node.api("refresh", user=user, expired=True) == {}, "nobody is no error"


def test_H10_info(node, fresh):
    # Presence would show what a user was called before.
    user, channel = fresh(), fresh("presence")
    with Wire.connected(node, user, claims={"info": {"name": "old"}}) as wire:
        wire.subscribe(channel)

        def shown():
            return node.api("presence", channel=channel)["presence"][wire.session["client"]]["conn_info"]["name"]

        node.api("refresh", user=user, expire_at=int(time.time()) + 100, info={"name": "new"})
        eventually(lambda: shown() == "new", within=2, what="the new info")
        node.api("refresh", user=user, info={"name": "without expiry"})
        node.api("refresh", user=user, expire_at=int(time.time()) + 100)
        assert shown() == "new"


def test_H10_the_new_expiry_counts():
    # A refresh that only says so would leave the old end in force.
    with running({"client": {"expired_close_delay": "1s"}}) as node:
        with Wire.connected(node, "42") as wire, Wire.connected(node, "7", claims={"exp": int(time.time()) + 2}) as other:
            node.api("refresh", user="42", expire_at=int(time.time()) + 2)
            node.api("refresh", user="7")
            assert wire.push("refresh")["refresh"]["ttl"] in (1, 2)
            assert wire.closed(within=8) == (3005, "connection expired")
            assert other.push("refresh") == {"refresh": {}}
            other.quiet(2)


# ---- several nodes


@pytest.fixture(scope="module")
def shared_redis():
    """A Redis that no test breaks."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def pair(shared_redis):
    """Two nodes."""
    nodes = started(shared_redis)
    try:
        yield nodes
    finally:
        end(nodes)


def test_J20_subscribe_reaches_other_nodes(pair, fresh):
    # Only those whom the load balancer put on the right node would get the channel.
    first, second = pair
    channel = fresh("recovery")
    with Wire.connected(first, "42") as here, Wire.connected(second, "42") as there, Wire.connected(second, "7") as other:
        start = first.publish(channel, 1)
        first.publish(channel, 2)
        first.api("subscribe", user="42", channel=channel, recover_since=start, data="hi", b64info="MQ==")
        for wire in (here, there):
            expected = {"recoverable": True, "positioned": True, "data": "hi", **start}
            assert given(wire.push("subscribe"), channel) == expected
            assert wire.push()["pub"] == {"data": 2, "offset": 2}
        for node in pair:
            published = node.publish(channel, 3)
            for wire in (here, there):
                assert wire.push()["pub"] == {"data": 3, "offset": published["offset"]}
        assert [node.num_clients(channel) for node in pair] == [2, 2]
        second.api("unsubscribe", user="42", channel=channel)
        for wire in (here, there):
            assert wire.push("unsubscribe")["channel"] == channel
        members = fresh("members")
        hidden = {"force_push_join_leave": {"value": False}}
        first.api("subscribe", user="42", client=there.session["client"], channel=members, b64info="MQ==", override=hidden)
        given(there.push("subscribe"), members)
        me = {"user": "42", "client": there.session["client"], "chan_info": 1}
        eventually(lambda: first.api("presence", channel=members)["presence"] == {me["client"]: me}, within=2)
        for wire in (here, there, other):
            wire.quiet(0.2)


def test_J20_refresh_reaches_other_nodes(pair):
    # As above.
    first, second = pair
    with Wire.connected(second, "42") as one, Wire.connected(second, "42") as two:
        first.api("refresh", user="42", expire_at=int(time.time()) + 100)
        for wire in (one, two):
            assert wire.push("refresh")["refresh"]["ttl"] in (98, 99, 100)
        first.api("refresh", user="42", client=one.session["client"], expired=True)
        assert one.closed(2) == (3005, "connection expired")
        two.quiet(0.2)


def test_F12_a_lost_stream(pair, shared_redis, fresh):
    # The client would go on with a hole that nothing shows.
    first, second = pair
    channel = fresh("recovery")
    with Wire.connected(second, "42") as wire:
        second.publish(channel, 1)
        second.api("subscribe", user="42", channel=channel)
        given(wire.push("subscribe"), channel)
        shared_redis.client().flushall()
        first.publish(channel, 2)
        assert wire.closed() == (3010, "insufficient state")


def test_J20_subscribe_without_redis(fresh):
    # The backend would believe that somebody listens.
    with RedisServer() as redis:
        nodes = started(redis)
        try:
            first, _ = nodes
            with Wire.connected(first, "42") as wire:
                redis.kill()
                assert first.api_error("subscribe", user="42", channel=fresh("recovery")) == 100
                assert "error" in wire.call(subscribe={"channel": "nope:x"}), "the connection is of use"
                redis.start()
                channel = fresh("recovery")
                eventually(lambda: "result" in first.api_reply("subscribe", {"user": "42", "channel": channel}), within=8)
                given(wire.push("subscribe"), channel)
        finally:
            end(nodes)
