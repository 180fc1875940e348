"""Several independent Redis: channels are spread over them, and one that is gone takes only its own with it."""

import contextlib

import pytest
from harness import Gyre, Wire, eventually, free_port, running
from harness.checker import Follower, Publisher, judge
from harness.redis import RedisServer
from harness.several import QUICK, on_redis, several, works

BACK_WITHIN_S = 8


@pytest.fixture
def shards():
    with RedisServer() as first, RedisServer() as second:
        yield first, second


def home_of(servers, part):
    """Number of the server that has keys of a channel."""
    found = [
        n for n, server in enumerate(servers) if any(part in key for key in server.client(decode_responses=True).keys("*"))
    ]
    assert len(found) == 1, f"{part} is on {found}"
    return found[0]


def test_J10_channels_are_spread_and_stay_where_they_are(shards, fresh):
    # One Redis would do all the work; or history, presence and messages of a channel would be looked for at another.
    prefix = fresh("recovery")
    names = [f"{prefix}.{n}." for n in range(400)]
    addresses = [server.address for server in shards]
    with several(2, on_redis(addresses, QUICK)) as (one, two):
        responses = one.api("broadcast", channels=names, data=1, idempotency_key="k")["responses"]
        assert [response["result"]["offset"] for response in responses] == [1] * 400
        found = [server.client(decode_responses=True).keys("*.stream.recovery*") for server in shards]
        assert sum(map(len, found)) == 400 and 160 <= len(found[0]) <= 240, [len(keys) for keys in found]
        homes = {name: home_of(shards, name) for name in names[:20]}
        with Wire.connected(two) as wire:
            for name in names[:20]:
                wire.subscribe(name)
            for name in names[:20]:
                assert one.publish(name, name)["offset"] == 2
                assert wire.data() == name
        assert homes == {name: home_of(shards, name) for name in names[:20]}
        members = [f"{fresh('members')}.{n}." for n in range(20)]
        with Wire.connected(two) as wire:
            for channel in members:
                wire.subscribe(channel)
                assert wire.push("join")["channel"] == channel
                assert one.api("presence_stats", channel=channel)["num_clients"] == 1
            assert {home_of(shards, channel) for channel in members} == {0, 1}
    with running(on_redis(addresses)) as again:
        for name in names[:50]:
            assert again.api("history", channel=name)["offset"] >= 1, "the same channels are at the same shards"


def test_one_more_shard_moves_its_share(shards, fresh):
    # Growing from two to three would lose the history of all channels.
    prefix = fresh("recovery")
    names = [f"{prefix}.{n}" for n in range(300)]
    addresses = [server.address for server in shards]
    with RedisServer() as third:
        with running(on_redis(addresses)) as node:
            node.api("broadcast", channels=names, data=1)
        with running(on_redis([*addresses, third.address])) as node:
            offsets = [node.api("history", channel=name)["offset"] for name in names]
            assert 70 <= offsets.count(0) <= 130, offsets.count(0)


def test_J10_only_the_channels_of_a_stopped_shard_fail(shards, fresh):
    # Half of the capacity would not be half of the trouble: everything would stop.
    prefix, members = fresh("recovery"), fresh("members")
    names = [f"{prefix}.{n}." for n in range(40)]
    with several(2, on_redis([server.address for server in shards], QUICK)) as nodes, contextlib.ExitStack() as stack:
        nodes[0].api("broadcast", channels=names, data=1)
        homes = {name: home_of(shards, name) for name in names}
        gone = [name for name in names if homes[name] == 1]
        stays = [name for name in names if homes[name] == 0]
        assert gone and stays
        followers = [stack.enter_context(Follower(node, names)) for node in nodes]
        before = stack.enter_context(Publisher(nodes, names, count=80))
        before.wait()
        shards[1].kill()
        for node in nodes:
            for name in gone[:3]:
                assert node.api_error("publish", channel=name, data=1) == 100
                assert node.api_error("history", channel=name) == 100
        during = stack.enter_context(Publisher(nodes, stays, count=200))
        during.wait()
        assert not during.failed and during.slowest_s < 1
        with Wire.connected(nodes[0]) as wire:
            assert wire.subscribe(stays[0])["epoch"]
            assert wire.error(subscribe={"channel": gone[0]}) == 100
        # Commands between nodes go round the shards that work.
        for n in range(4):
            with Wire.connected(nodes[1], f"{members}{n}") as wire:
                reply = nodes[0].api_reply("disconnect", {"user": f"{members}{n}"})
                assert reply == {"result": {}}, reply
                assert wire.closed()[0] == 3503
        assert {len(node.api("info")["nodes"]) for node in nodes} == {2}
        shards[1].start()
        for node in nodes:
            eventually(lambda node=node: works(node, gone), within=BACK_WITHIN_S, what="publishing again")
        after = stack.enter_context(Publisher(nodes, names, count=200))
        after.wait()
        assert not after.failed
        judge(followers, [before, during, after])
        assert not any(follower.closes for follower in followers)
        for follower in followers:
            assert not any(follower.streams[name].jumps for name in stays), "those of the other shard noticed nothing"


def clients_of(node, channel):
    """How many are present; None while its shard is away."""
    return node.api_reply("presence_stats", {"channel": channel}).get("result", {}).get("num_clients")


def test_leaves_while_one_shard_is_away(fresh):
    # Whoever left would be shown for a minute in the channels of one shard, or in all of them.
    prefix = fresh("presence")
    names = [f"{prefix}.{n}." for n in range(20)]
    with contextlib.ExitStack() as stack:
        shards = [stack.enter_context(RedisServer(keep=True)) for _ in range(2)]
        one, two = stack.enter_context(several(2, on_redis([server.address for server in shards])))
        stays, goes = (stack.enter_context(Wire.connected(one)) for _ in range(2))
        for name in names:
            stays.subscribe(name)
            goes.subscribe(name)
        homes = {name: home_of(shards, name) for name in names}
        assert set(homes.values()) == {0, 1}
        shards[1].kill()
        goes.__exit__()
        for name in names:
            if homes[name] == 0:
                eventually(lambda name=name: clients_of(two, name) == 1, what="one client")
        shards[1].start()
        for name in names:
            eventually(lambda name=name: clients_of(two, name) == 1, within=BACK_WITHIN_S, what="one client")


def test_a_shard_that_is_down_at_the_start(shards):
    # A node that serves half of the channels would be put behind the balancer.
    port = free_port()
    node = Gyre(on_redis([shards[0].address, f"redis://:pa55@127.0.0.1:{port}"]))
    try:
        assert node.spawn().exit_code() == 1
        assert str(port) in node.output() and "pa55" not in node.output()
    finally:
        node.end()


def test_shards_in_the_environment(shards, fresh):
    # Containers are configured by variables: both addresses would be taken for one.
    prefix = fresh("hist")
    names = [f"{prefix}.{n}" for n in range(60)]
    env = {"CENTRIFUGO_ENGINE_TYPE": "redis", "CENTRIFUGO_ENGINE_REDIS_ADDRESS": " ".join(s.address for s in shards)}
    with running(env=env) as node:
        node.api("broadcast", channels=names, data=1)
        assert all(server.client().dbsize() > 20 for server in shards)


def kinds(server):
    """What sort of keys a server has."""
    found = server.client(decode_responses=True).keys("*")
    return {"presence" if ".presence." in key else "history" for key in found}


@pytest.mark.parametrize("form", ["engine and presence manager", "broker and presence manager", "broker on memory engine"])
def test_J13_separate_broker_and_presence_manager(shards, fresh, form):
    # Presence, the heavier part, could not be moved to a Redis of its own.
    broker = {"type": "redis", "redis": {"address": shards[0].address}}
    presence = {"enabled": True, "type": "redis", "redis": {"address": shards[1].address, "presence_user_mapping": True}}
    changes = {
        "engine and presence manager": {"engine": broker, "presence_manager": presence},
        "broker and presence manager": {"broker": {"enabled": True, **broker}, "presence_manager": presence},
        "broker on memory engine": {"broker": {"enabled": True, **broker}},
    }[form]
    channel, members = fresh("recovery"), fresh("members")
    with several(2, {**QUICK, **changes}) as (one, two), Wire.connected(two) as wire:
        wire.subscribe(channel)
        wire.subscribe(members)
        assert wire.push("join")
        assert one.publish(channel, 1)["offset"] == 1
        assert wire.data() == 1
        assert two.api("presence_stats", channel=members) == {"num_clients": 1, "num_users": 1}
        assert kinds(shards[0]) == {"history"}
        if form != "broker on memory engine":
            assert one.api("presence_stats", channel=members) == {"num_clients": 1, "num_users": 1}
            assert kinds(shards[1]) == {"presence"}
            # Each may fail without the other.
            shards[1].kill()
            assert one.api_error("presence", channel=members) == 100
            assert one.publish(channel, 2)["offset"] == 2
            assert wire.data() == 2
            shards[1].start()
            eventually(
                lambda: (
                    one.api_reply("presence_stats", {"channel": members}).get("result") == {"num_clients": 1, "num_users": 1}
                ),
                within=BACK_WITHIN_S,
                what="presence again",
            )
            shards[0].kill()
            eventually(lambda: one.api_reply("publish", {"channel": channel, "data": 3}).get("error", {}).get("code") == 100)
            assert one.api("presence_stats", channel=members)["num_clients"] == 1
