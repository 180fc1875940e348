"""Presence of channels whose state is told to a backend, which is kept in another way, and what is queued for the backend.

The backend is not there, so that all events stay where they are.
"""

import contextlib
import time

import pytest
from harness import Wire, eventually, free_port
from harness.cluster import Cluster
from harness.node import merged
from harness.redis import RedisServer
from harness.several import QUICK, on_redis, several

EVENTS = "chstate.events"


def told_by(address, prefix, *, presence_ttl="5s", **state):
    """Nodes with a namespace `state` whose channels are told of."""
    namespace = {
        "name": "state",
        "presence": True,
        "allow_subscribe_for_client": True,
        "allow_presence_for_subscriber": True,
        "state_proxy_enabled": True,
    }
    proxy = {"endpoint": f"http://127.0.0.1:{free_port()}", "timeout": "100ms"}
    told = {"channel": {"namespaces": [namespace], "proxy": {"state": proxy}}}
    state = {"num_partitions": 4, "vacated_event_delay": "3600s", **state}
    rest = {"presence_ttl": presence_ttl, "presence_user_mapping": True, "channel_state": state}
    return on_redis(address, merged(QUICK, told), prefix=prefix, **rest)


def queued(client, prefix):
    """(kind, channel) of all partitions."""
    entries = [entry for key in client.keys(f"{prefix}.{EVENTS}.*") for _, entry in client.xrange(key)]
    return sorted((kind, told.split(" ", 1)[1]) for entry in entries for kind, told in entry.items())


def indexed(client, prefix, index):
    return sorted(channel for key in client.keys(f"{prefix}.chstate.{index}.*") for channel in client.zrange(key, 0, -1))


def name(fresh):
    return fresh("s").replace(":", "")


def test_presence_over_nodes(server, client, fresh):
    # "Who is online" would be empty in exactly the channels that somebody wants to know more of.
    prefix, channels = name(fresh), [fresh("state") for _ in range(8)]
    with several(2, told_by(server.address, prefix)) as (one, two), contextlib.ExitStack() as stack:
        claims = {"info": {"name": "Ann"}}
        wires = [
            stack.enter_context(Wire.connected(node, user, claims=claims))
            for node, user in ((one, "1"), (two, "1"), (two, "2"))
        ]
        for channel in channels:
            for wire in wires:
                wire.subscribe(channel)
        for node in (one, two):
            for channel in channels:
                members = node.api("presence", channel=channel)["presence"]
                assert sorted(members) == sorted(wire.session["client"] for wire in wires)
                assert members[wires[2].session["client"]]["conn_info"] == {"name": "Ann"}
                assert node.api("presence_stats", channel=channel) == {"num_clients": 3, "num_users": 2}
        channel = channels[0]
        assert wires[0].call(presence_stats={"channel": channel})["presence_stats"] == {"num_clients": 3, "num_users": 2}
        assert queued(client, prefix) == sorted(("occupied", channel) for channel in channels)
        assert not client.keys(f"{prefix}.presence*") and client.keys(f"{prefix}.chstate.data.{{[0-3]}}.{channel}")
        # Longer than the TTL: members that are there are refreshed.
        until = time.monotonic() + 6
        while time.monotonic() < until:
            assert two.api("presence_stats", channel=channel) == {"num_clients": 3, "num_users": 2}
            time.sleep(0.2)
        assert indexed(client, prefix, "live") == sorted(channels) and not indexed(client, prefix, "pending")
        for number, wire in enumerate(wires, 1):
            wire.call(unsubscribe={"channel": channel})
            eventually(lambda: one.api("presence_stats", channel=channel)["num_clients"] == 3 - number, what="one less")
        eventually(lambda: indexed(client, prefix, "pending") == [channel], what="the channel among those that wait")
        wires[0].subscribe(channel)
        assert indexed(client, prefix, "pending") == [] and len(queued(client, prefix)) == len(channels)


def test_a_node_that_stops_takes_its_own_out(server, client, fresh):
    # Each deployment would leave channels occupied for as long as their entries live.
    prefix, channel = name(fresh), fresh("state")
    with several(2, told_by(server.address, prefix, presence_ttl="3600s")) as (one, two):
        with Wire.connected(one) as ann:
            ann.subscribe(channel)
            assert indexed(client, prefix, "live") == [channel]
            one.stop()
        assert two.api("presence", channel=channel)["presence"] == {}
        assert indexed(client, prefix, "pending") == [channel]


@pytest.mark.parametrize("wanted", [["occupied"], ["vacated"]], ids=str)
def test_only_what_is_wanted_is_queued(server, client, fresh, wanted):
    # Who wants one kind would get both.
    prefix, channel = name(fresh), fresh("state")
    changes = told_by(server.address, prefix)
    changes["channel"]["namespaces"][0]["state_events"] = wanted
    with several(1, changes) as (node,), Wire.connected(node) as ann:
        ann.subscribe(channel)
        assert queued(client, prefix) == [("occupied", channel)] * ("occupied" in wanted)
        assert indexed(client, prefix, "live") == [channel]


def test_shards_and_a_presence_manager_of_its_own(server, client, fresh):
    # Nodes would look for a channel on another shard than the one that has it.
    prefix, channels = name(fresh), [fresh("state") for _ in range(20)]
    with RedisServer() as first, RedisServer() as second:
        changes = told_by(server.address, prefix, num_partitions=16)
        state = changes["engine"]["redis"]["channel_state"]
        own = {"address": [first.address, second.address], "prefix": prefix, "channel_state": state}
        changes["presence_manager"] = {"enabled": True, "type": "redis", "redis": own}
        with several(2, changes) as (one, two), Wire.connected(one) as ann:
            for channel in channels:
                ann.subscribe(channel)
                assert two.api("presence_stats", channel=channel) == {"num_clients": 1, "num_users": 1}
        assert not client.keys(f"{prefix}.chstate*")
        found = [queued(shard.client(decode_responses=True), prefix) for shard in (first, second)]
        assert all(found) and sorted(found[0] + found[1]) == sorted(("occupied", channel) for channel in channels)


def test_cluster(fresh):
    # In a cluster every subscription would be refused.
    prefix, channels = name(fresh), [fresh("state") + odd for odd in ("", "{x}", "}", "{}", "a}b{c") for _ in range(2)]
    with Cluster() as cluster:
        changes = told_by(None, prefix)
        changes["engine"]["redis"]["cluster_address"] = [cluster.seeds]
        with several(2, changes) as (one, two), Wire.connected(one) as ann:
            for channel in channels:
                ann.subscribe(channel)
                assert two.api("presence_stats", channel=channel) == {"num_clients": 1, "num_users": 1}
