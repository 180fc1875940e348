"""Sharded Pub/Sub: messages of a channel stay at the primary of its partition; slots move and primaries change under load."""

import collections
import contextlib
import random
import re
import time

import pytest
from harness import Gyre, Wire, eventually, running
from harness.checker import Follower, Publisher, judge
from harness.cluster import Cluster
from harness.redis import RedisServer, version
from harness.several import on_redis, several, works

BACK_WITHIN_S = 15
PARTITIONS = 16
# Positions are not looked at while a test runs: what was missed must come by the new subscriptions.
CHANGES = {"client": {"channel_limit": 2000}}


HAS_IT = version() >= (7, 0)
LACKS_IT = "Redis before 7.0 has no sharded Pub/Sub"


@pytest.fixture(scope="module")
def cluster():
    """Three primaries, a replica for each. Tests leave it whole."""
    if not HAS_IT:
        pytest.skip(LACKS_IT)
    with Cluster(replicas=1) as started:
        yield started


def in_partitions(cluster, partitions=PARTITIONS, **options):
    """Configuration changes."""
    return on_redis(cluster.url, CHANGES, sharded_pub_sub_partitions=partitions, presence_user_mapping=True, **options)


@pytest.fixture(scope="module")
def pair(cluster):
    with several(2, in_partitions(cluster)) as nodes:
        yield nodes


def slot_of(cluster, channel):
    """The slot of the stream of a channel, which is that of its messages."""
    found = {
        cluster.slot(key) for keys in cluster.keys().values() for key in keys if re.search(rf"\.\{{\d+\}}\.{channel}$", key)
    }
    assert len(found) == 1, f"keys of {channel} are in slots {found}"
    return found.pop()


def heard_at(cluster):
    """How many Pub/Sub channels of slots each primary has subscribers of."""
    return [len(cluster.ask(server, "PUBSUB", "SHARDCHANNELS")) for server in cluster.now_primaries()]


def calls(cluster, command):
    """How often the primaries were called so, scripts included."""
    stats = [cluster.clients[server].info("commandstats") for server in cluster.now_primaries()]
    return [int(of.get(f"cmdstat_{command}", {}).get("calls", 0)) for of in stats]


def test_O18_messages_stay_in_their_partition(pair, cluster, fresh):
    # Every message would go to every server of the cluster, or to nobody.
    prefix = fresh("recovery")
    names = [f"{prefix}.{n}" for n in range(100)] + [f"{fresh()}.{n}" for n in range(100)]
    published = calls(cluster, "publish")
    with Wire.connected(pair[0]) as ann, Wire.connected(pair[1], "43") as bob:
        for wire in (ann, bob):
            for name in names:
                wire.subscribe(name)
        assert sum(heard_at(cluster)) == len(names) and min(heard_at(cluster)) > 0, heard_at(cluster)
        for data in range(10):
            for response in pair[data % 2].api("broadcast", channels=names, data=data)["responses"]:
                assert "error" not in response
        for wire in (ann, bob):
            got = collections.defaultdict(list)
            for _ in range(10 * len(names)):
                push = wire.push()
                got[push["channel"]].append(push["pub"]["data"])
            assert got == {name: list(range(10)) for name in names}
        assert min(calls(cluster, "spublish")) > 100
        # Nodes go on telling each other by the other kind.
        assert sum(calls(cluster, "publish")) - sum(published) < 200
        for name in names:
            assert "unsubscribe" in ann.call(unsubscribe={"channel": name})
        pair[0].publish(names[0], "once", idempotency_key="once")
        assert pair[1].publish(names[0], "once", idempotency_key="once") == pair[1].publish(
            names[0], "once", idempotency_key="once"
        )
        assert bob.data() == "once"
        bob.quiet(0.2)
    eventually(lambda: sum(heard_at(cluster)) == 0, within=30, what="the end of all subscriptions")


def test_presence_is_spread_by_channel(pair, cluster, fresh):
    # All members of a partition would be kept in one slot.
    channel = fresh("members")
    with Wire.connected(pair[0]) as ann, Wire.connected(pair[1], "43") as bob:
        ann.subscribe(channel)
        assert ann.push("join")
        bob.subscribe(channel)
        assert ann.push("join")["join"]["info"]["user"] == "43"
        assert pair[0].api("presence_stats", channel=channel) == {"num_clients": 2, "num_users": 2}
        keys = [key for keys in cluster.keys().values() for key in keys]
        assert f"centrifugo.presence.data.{{{channel}}}" in keys


@pytest.mark.parametrize("partitions", [16, 64])
def test_precomputed_tags(cluster, fresh, partitions):
    # One server would carry most of the messages.
    changes = in_partitions(
        cluster, partitions, use_precomputed_partition_tags=True, group_sharded_pub_sub_by_node=True, prefix="even"
    )
    names = [f"{fresh('recovery')}.{n}" for n in range(partitions * 20)]
    with several(2, changes) as (one, two), Wire.connected(two) as wire:
        for name in names:
            wire.subscribe(name)
        one.api("broadcast", channels=names, data=1)
        assert sorted(wire.push()["channel"] for _ in names) == sorted(names)
        tags = collections.defaultdict(set)
        for server, keys in cluster.keys().items():
            tags[server.port] |= {match[1] for match in (re.match(r"even\.stream\.\{(\d+)\}\.", key) for key in keys) if match}
        counts = [len(of) for of in tags.values()]
        assert sum(counts) == partitions and max(counts) - min(counts) <= 1, counts


def test_slots_move_under_load(pair, cluster, fresh):
    # Adding a server to the cluster would leave subscribers deaf.
    channels = [fresh("recovery") for _ in range(20)]
    with contextlib.ExitStack() as stack:
        followers = [stack.enter_context(Follower(node, channels, str(n))) for n, node in enumerate(pair)]
        publishers = [stack.enter_context(Publisher(pair, channels)) for _ in range(2)]
        eventually(lambda: all(len(publisher.confirmed) > 100 for publisher in publishers), what="publications")
        for slot in {slot_of(cluster, channel) for channel in channels}:
            to = random.choice([server for server in cluster.now_primaries() if server is not cluster.owner(slot)])
            assert cluster.migrate(slot, to) >= 2
        moved = time.monotonic()
        for publisher in publishers:
            count = len(publisher.confirmed)
            eventually(lambda p=publisher, c=count: len(p.confirmed) > c + 100, what="publications afterwards")
            publisher.stop()
            assert not [failed for failed in publisher.failed if failed[3] > moved + 1], "lasting errors"
            assert len(publisher.failed) < 0.05 * len(publisher.confirmed), publisher.failed[:5]
        judge(followers, publishers)
        for follower in followers:
            assert not follower.closes
            assert not any(stream.jumps for stream in follower.streams.values()), "nothing had to be announced as lost"


def test_a_slot_that_moves_while_it_is_quiet(pair, cluster, fresh):
    # Nobody publishes, so nothing but the end of the subscriptions tells that they have to be made elsewhere.
    kept, told = fresh("recovery"), [fresh() for _ in range(30)]
    pair[0].publish(kept, 0)
    slot = slot_of(cluster, kept)
    with Wire.connected(pair[0]) as ann, Wire.connected(pair[1], "43") as bob:
        for wire in (ann, bob):
            for name in [kept, *told]:
                wire.subscribe(name)

        def heard_once():
            found = heard_at(cluster)
            assert sum(found) == 1 + len(told), found
            return True

        for _ in range(3):
            to = next(server for server in cluster.now_primaries() if server is not cluster.owner(slot))
            # Those of other tests may still be on their way out.
            eventually(heard_once, within=30, what="subscriptions")
            cluster.migrate(slot, to)
            eventually(heard_once, within=BACK_WITHIN_S, what="subscriptions")
            time.sleep(0.2)
            for name in [kept, *told]:
                pair[0].publish(name, name)
                assert ann.data() == bob.data() == name


def test_CLUSTER_FAILOVER_under_load(pair, cluster, fresh):
    # Updating the servers of a cluster one by one would lose messages or need restarts of the nodes.
    channels = [fresh("recovery") for _ in range(20)]
    with contextlib.ExitStack() as stack:
        followers = [stack.enter_context(Follower(node, channels, str(n))) for n, node in enumerate(pair)]
        publisher = stack.enter_context(Publisher(pair, channels))
        eventually(lambda: len(publisher.confirmed) > 100, what="publications")
        for primary in cluster.now_primaries():
            replica = cluster.replica_of(primary)
            cluster.ask(replica, "CLUSTER", "FAILOVER")
            eventually(lambda replica=replica: replica in cluster.now_primaries(), within=10, what="the new primary")
            count = len(publisher.confirmed)
            eventually(lambda count=count: len(publisher.confirmed) > count + 100, within=BACK_WITHIN_S, what="publications")
        changed = time.monotonic()
        count = len(publisher.confirmed)
        eventually(lambda: len(publisher.confirmed) > count + 200, what="publications afterwards")
        publisher.stop()
        assert not [failed for failed in publisher.failed if failed[3] > changed + 1], "lasting errors"
        judge(followers, [publisher])
        assert not any(follower.closes for follower in followers)


def test_killed_connections(pair, cluster, fresh):
    # Each server of a cluster may cut its connections; its channels would have holes, or stay deaf.
    channels = [fresh("recovery") for _ in range(20)]
    with contextlib.ExitStack() as stack:
        followers = [stack.enter_context(Follower(node, channels, str(n))) for n, node in enumerate(pair)]
        publisher = stack.enter_context(Publisher(pair, channels, every_s=0.001))
        for kind in ("pubsub", "normal") * 2:
            count = len(publisher.confirmed)
            eventually(lambda count=count: len(publisher.confirmed) > count + 50, within=BACK_WITHIN_S, what="publications")
            for server in cluster.servers:
                cluster.ask(server, "CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        count = len(publisher.confirmed)
        eventually(lambda: len(publisher.confirmed) > count + 50, within=BACK_WITHIN_S, what="publications")
        publisher.stop()
        judge(followers, [publisher])
        assert {code for _, code, _, _ in publisher.failed} <= {100}
        assert not any(follower.closes for follower in followers)


@pytest.mark.skipif(not HAS_IT, reason=LACKS_IT)
def test_death_of_a_primary(fresh):
    # The channels of a third of all partitions would stay dead, or take the others with them.
    prefix = fresh("recovery")
    names = [f"{prefix}.{n}." for n in range(30)]
    with Cluster(replicas=1) as cluster, several(2, in_partitions(cluster)) as nodes, contextlib.ExitStack() as stack:
        followers = [stack.enter_context(Follower(node, names, str(n))) for n, node in enumerate(nodes)]
        before = stack.enter_context(Publisher(nodes, names, count=300))
        before.wait()
        victim = cluster.owner(slot_of(cluster, re.escape(names[0])))
        replica = cluster.replica_of(victim)
        gone = [name for name in names if cluster.owner(slot_of(cluster, re.escape(name))) is victim]
        stays = [name for name in names if name not in gone]
        assert gone and stays
        eventually(lambda: cluster.clients[replica].dbsize() == cluster.clients[victim].dbsize(), what="a replica that has all")
        assert cluster.clients[victim].wait(1, 2000) == 1
        victim.kill()
        with Publisher(nodes, stays, count=200) as during:
            during.wait()
        assert not [code for _, code, _, _ in during.failed if code != 100]
        assert len(during.failed) <= 4, "others must go on, but for what was on its way"
        for node in nodes:
            eventually(lambda node=node: works(node, gone), within=BACK_WITHIN_S, what="publishing again", every=0.1)
        with Publisher(nodes, names, count=300) as after:
            after.wait()
            assert not after.failed, after.failed[:3]
            judge(followers, [before, during, after])
        assert not any(follower.closes for follower in followers)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"sharded_pub_sub_partitions": 16}, "is no Redis Cluster"),
        ({"sharded_pub_sub_partitions": -1}, "engine.redis.sharded_pub_sub_partitions"),
        ({"sharded_pub_sub_partitions": 24, "use_precomputed_partition_tags": True}, "power of two"),
    ],
)
def test_what_cannot_be(options, said):
    # A node would start and publish where nobody listens.
    with RedisServer() as server:
        node = Gyre(on_redis(server.address, **options))
        try:
            assert node.spawn().exit_code() == 1
            assert said in node.output()
        finally:
            node.end()


def test_servers_that_are_too_old(tmp_path):
    # Every publication would be refused, one by one.
    (tmp_path / "old.conf").write_text('rename-command SPUBLISH ""\n')
    with Cluster(**({"include": tmp_path / "old.conf"} if HAS_IT else {})) as cluster:
        node = Gyre(in_partitions(cluster))
        try:
            assert node.spawn().exit_code() == 1
            assert "Redis 7.0" in node.output()
        finally:
            node.end()
        with running(on_redis(cluster.url), cores=1) as node:
            node.publish("x", 1)
