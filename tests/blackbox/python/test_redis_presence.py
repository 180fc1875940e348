"""Presence, join and leave over nodes that share one Redis."""

import contextlib
import time

import pytest
from harness import Wire, eventually
from harness.redis import RedisServer
from harness.several import BACK_WITHIN_S, QUICK, on_redis, several
from harness.wire import attended


@pytest.mark.parametrize("mapping", [False, True], ids=["plain", "user mapping"])
def test_presence_over_nodes(server, client, fresh, mapping):
    # "Who is online" would show one node's share, and several tabs of one user would count as users.
    prefix = fresh("p").replace(":", "")
    changes = on_redis(server.address, QUICK, prefix=prefix, presence_user_mapping=mapping, presence_ttl="5s")
    with several(2, changes) as (one, two), contextlib.ExitStack() as stack:
        channel = fresh("presence")
        claims = {"info": {"name": "Ann"}}
        wires = [
            stack.enter_context(Wire.connected(node, user, claims=claims))
            for node, user in ((one, "1"), (two, "1"), (two, "2"))
        ]
        for wire in wires:
            wire.subscribe(channel)
        for node in (one, two):
            members = node.api("presence", channel=channel)["presence"]
            assert sorted(members) == sorted(wire.session["client"] for wire in wires)
            assert members[wires[2].session["client"]] == {
                "user": "2",
                "client": wires[2].session["client"],
                "conn_info": {"name": "Ann"},
            }
            assert node.api("presence_stats", channel=channel) == {"num_clients": 3, "num_users": 2}
        assert any("user" in key for key in client.keys(f"{prefix}.presence*")) is mapping
        assert wires[0].call(presence_stats={"channel": channel})["presence_stats"] == {"num_clients": 3, "num_users": 2}
        # Longer than the TTL: members that are there are refreshed.
        until = time.monotonic() + 6
        while time.monotonic() < until:
            assert two.api("presence_stats", channel=channel) == {"num_clients": 3, "num_users": 2}
            time.sleep(0.2)
        wires[1].call(unsubscribe={"channel": channel})
        eventually(lambda: one.api("presence_stats", channel=channel) == {"num_clients": 2, "num_users": 2}, what="2 clients")
        wires[2].__exit__()
        eventually(lambda: one.api("presence_stats", channel=channel) == {"num_clients": 1, "num_users": 1}, what="1 client")
        wires[0].call(unsubscribe={"channel": channel})
        wires[1].subscribe(channel)
        wires[1].call(unsubscribe={"channel": channel})
        eventually(lambda: one.api("presence_stats", channel=channel) == {"num_clients": 0, "num_users": 0}, what="nobody")
        eventually(lambda: not [key for key in client.keys(f"{prefix}.presence*")], what="no key left")


@pytest.mark.parametrize("end", ["disconnect", "node stops"])
def test_leave_over_nodes(server, fresh, end):
    # Member lists would keep those who closed the page, or were on a node that was stopped.
    channel = fresh("members")
    with several(2, on_redis(server.address, prefix=fresh("l").replace(":", ""))) as (one, two):
        with Wire.connected(one) as ann, Wire.connected(two, "7", claims={"info": {"name": "Bob"}}) as bob:
            ann.subscribe(channel)
            assert ann.push("join")["join"]["info"]["user"] == "42"
            bob.subscribe(channel)
            info = {"user": "7", "client": bob.session["client"], "conn_info": {"name": "Bob"}}
            assert ann.push("join") == {"channel": channel, "join": {"info": info}}
            assert bob.push("join")["join"]["info"] == info
            if end == "disconnect":
                bob.__exit__()
            else:
                two.stop()
            assert ann.push("leave") == {"channel": channel, "leave": {"info": info}}
            eventually(lambda: list(one.api("presence", channel=channel)["presence"]) == [ann.session["client"]])


def test_join_leave_on_request(pair, fresh):
    # Clients that do not show members would be woken for each of them on all nodes.
    channel, (one, two) = fresh("mayjoin"), pair
    with Wire.connected(one) as asks, Wire.connected(one) as does_not, Wire.connected(two, "7") as bob:
        asks.subscribe(channel, join_leave=True)
        assert asks.push("join")["join"]["info"]["client"] == asks.session["client"]
        does_not.subscribe(channel)
        assert asks.push("join")["join"]["info"]["client"] == does_not.session["client"]
        bob.subscribe(channel)
        assert asks.push("join")["join"]["info"]["user"] == "7"
        does_not.quiet()


def test_server_side_subscriptions_over_nodes(pair, fresh):
    # Users subscribed by their token would get nothing from other nodes and be missing from the member list.
    channel = fresh("members")
    with Wire.connected(pair[0], claims={"channels": [channel]}) as wire:
        eventually(lambda: list(pair[1].api("presence", channel=channel)["presence"]) == [wire.session["client"]])
        assert wire.push("join")
        pair[1].publish(channel, 1)
        assert wire.data() == 1


@pytest.mark.parametrize("kept", ["by the engine", "with users counted", "in a Redis of its own"])
@pytest.mark.parametrize("how", ["killed", "paused"])
def test_leaves_during_an_outage(fresh, how, kept):
    # Who closed the page while Redis was away would be shown to the others for a minute more; and who is back would not.
    channels = [fresh("presence") for _ in range(12)]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RedisServer(keep=True))
        changes = on_redis(server.address, presence_user_mapping=kept == "with users counted")
        if kept == "in a Redis of its own":
            own = {"enabled": True, "type": "redis", "redis": {"address": server.address}}
            changes = {**on_redis(stack.enter_context(RedisServer()).address), "presence_manager": own}
        one, two = stack.enter_context(several(2, changes))
        stays, leaves, goes, back = wires = [Wire.connected(one, str(user)) for user in range(4)]
        stays, leaves, goes, back = (stack.enter_context(wire) for wire in wires)
        for channel in channels:
            for wire in wires:
                wire.subscribe(channel)
        if how == "killed":
            server.kill()
        else:
            server.pause()
        for channel in channels:
            leaves.call(unsubscribe={"channel": channel})
            back.call(unsubscribe={"channel": channel})
        assert back.call(within=7, subscribe={"channel": channels[0]})["error"]["code"] == 100
        # Longer than a call takes to fail.
        with attended(stays, leaves, goes, back):
            time.sleep(2 if how == "killed" else 5)
        goes.__exit__()
        if how == "killed":
            server.start()
        else:
            server.resume()
        for channel in channels:
            again = {"channel": channel}
            eventually(lambda again=again: "subscribe" in back.call(subscribe=again), within=BACK_WITHIN_S, what="a channel")
        there = sorted(wire.session["client"] for wire in (stays, back))
        for channel in channels:
            members = eventually(
                lambda c=channel: len(found := two.api("presence", channel=c)["presence"]) == 2 and found, within=5, what="two"
            )
            assert sorted(members) == there
        until = time.monotonic() + 3
        while time.monotonic() < until:
            for channel in channels:
                assert two.api("presence_stats", channel=channel) == {"num_clients": 2, "num_users": 2}
