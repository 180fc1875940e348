"""Redis Cluster: slots move, primaries change and die while nodes publish, and nothing that was confirmed is lost."""

import contextlib
import random
import time

import pytest
from harness import Gyre, Wire, eventually, free_port, running
from harness.checker import Follower, Publisher, judge
from harness.cluster import Cluster
from harness.redis import RedisServer
from harness.several import QUICK, on_redis, several, works

BACK_WITHIN_S = 15


@pytest.fixture(scope="module")
def cluster():
    """Three primaries, a replica for each. Tests leave it whole."""
    with Cluster(replicas=1) as started:
        yield started


@pytest.fixture(scope="module")
def pair(cluster):
    with several(2, on_redis(cluster.url, QUICK, presence_user_mapping=True)) as nodes:
        yield nodes


def slot_of(cluster, channel):
    """The slot of the keys of a channel."""
    found = {cluster.slot(key) for keys in cluster.keys().values() for key in keys if f"{{{channel}}}" in key}
    assert len(found) == 1, f"keys of {channel} are in slots {found}"
    return found.pop()


def test_J03_cluster_addresses(cluster, fresh):
    # Configurations that work with the reference would not start here.
    port = cluster.servers[2].port
    for changes in (
        on_redis(cluster.url),
        on_redis(f"redis+cluster://127.0.0.1:{free_port()}?addr=127.0.0.1:{port}"),
        on_redis(None, cluster_address=[cluster.seeds]),
        # A plain address that turns out to be a node of a cluster.
        on_redis(f"redis://127.0.0.1:{port}"),
    ):
        with running(changes, cores=1) as node, Wire.connected(node) as wire:
            channels = [fresh("recovery") for _ in range(10)]
            for channel in channels:
                wire.subscribe(channel)
                assert node.publish(channel, channel)["offset"] == 1
                assert wire.data() == channel


def test_J09_a_thousand_channels(pair, cluster, fresh):
    # Channels whose keys fall into different slots would fail, the more the larger the installation.
    one, two = pair
    prefix = fresh("recovery")
    names = [f"{prefix}.{n}" for n in range(1000)]
    for _ in range(2):
        responses = one.api("broadcast", channels=names, data=1, idempotency_key="once")["responses"]
        assert [response["result"]["offset"] for response in responses] == [1] * 1000, "the second time is the first"
    responses = two.api("broadcast", channels=names, data=2, version=7)["responses"]
    assert [response["result"]["offset"] for response in responses] == [2] * 1000
    for name in random.sample(names, 50):
        kept = one.api("history", channel=name, limit=-1)
        assert [publication["data"] for publication in kept["publications"]] == [1, 2]
    shares = [len(keys) for keys in cluster.keys().values()]
    assert min(shares) > sum(shares) / 3 * 0.7, shares
    members = [f"{fresh('members')}.{n}" for n in range(100)]
    with Wire.connected(one) as ann, Wire.connected(two, "43") as bob:
        for channel in members:
            ann.subscribe(channel)
            assert ann.push("join")
            bob.subscribe(channel)
            # The servers tell each other: the join of Ann may reach Bob's server after Bob.
            eventually(lambda: bob.push("join")["join"]["info"]["user"] == "43", what="own join")
            assert ann.push("join")["join"]["info"]["user"] == "43"
        for channel in members:
            assert two.api("presence_stats", channel=channel) == {"num_clients": 2, "num_users": 2}
            assert len(one.api("presence", channel=channel)["presence"]) == 2
            one.publish(channel, channel)
            assert ann.data() == bob.data() == channel
    assert one.api("history_remove", channel=names[0]) == {}


@pytest.mark.parametrize("name", ["a}b", "}a", "{a}b", "{}x", "{", "}"])
def test_names_with_braces(pair, fresh, name):
    # Braces choose the slot: a channel with one would fail on every call.
    channel = name + fresh()
    with Wire.connected(pair[0]) as wire:
        wire.subscribe(f"hist:{channel}")
        assert pair[1].publish(f"hist:{channel}", 1, idempotency_key="k", version=1)["offset"] == 1
        assert wire.data() == 1
        wire.subscribe(f"presence:{channel}")
        assert pair[1].api("presence_stats", channel=f"presence:{channel}") == {"num_clients": 1, "num_users": 1}
        wire.subscribe(channel)
        assert pair[1].publish(channel, 2, idempotency_key="k") == {}
        assert wire.data() == 2


def test_J09_slots_move_under_load(pair, cluster, fresh):
    # Adding a server to the cluster would be an outage, or put two publications at one position.
    channels = [fresh("recovery") for _ in range(8)]
    with contextlib.ExitStack() as stack:
        followers = [stack.enter_context(Follower(node, channels, str(n))) for n, node in enumerate(pair)]
        publishers = [stack.enter_context(Publisher(pair, channels)) for _ in range(2)]
        others = [fresh("recovery") for _ in range(8)]
        followers.append(stack.enter_context(Follower(pair[0], others)))
        bystander = stack.enter_context(Publisher(pair, others))
        eventually(lambda: all(len(publisher.confirmed) > 100 for publisher in publishers), what="publications")
        for channel in channels:
            slot = slot_of(cluster, channel)
            to = random.choice([server for server in cluster.now_primaries() if server is not cluster.owner(slot)])

            def while_open():
                # Keys on both sides: ASK and TRYAGAIN are answered for this channel, the others go on.
                count = len(bystander.confirmed)
                eventually(lambda: len(bystander.confirmed) > count + 20, what="publications to other channels")

            assert cluster.migrate(slot, to, meanwhile=while_open) >= 2
        moved = time.monotonic()
        counts = [len(publisher.confirmed) for publisher in publishers]
        for count, publisher in zip(counts, publishers, strict=True):
            eventually(lambda c=count, p=publisher: len(p.confirmed) > c + 100, what="publications afterwards")
            publisher.stop()
            assert not [failed for failed in publisher.failed if failed[3] > moved + 1], "lasting errors"
            assert len(publisher.failed) < 0.05 * len(publisher.confirmed), publisher.failed[:5]
        bystander.stop()
        assert not bystander.failed
        judge(followers, [*publishers, bystander])
        for follower in followers:
            assert not follower.closes
            assert not any(stream.jumps for stream in follower.streams.values()), "nothing had to be announced as lost"


def test_CLUSTER_FAILOVER_under_load(pair, cluster, fresh):
    # Updating the servers of a cluster one by one would lose messages or need restarts of the nodes.
    channels = [fresh("recovery") for _ in range(12)]
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


def test_presence_and_idempotency_survive_a_move(pair, cluster, fresh):
    # Repeated calls would be published again after a resharding, and members would come and go.
    channel = fresh("members")
    with Wire.connected(pair[0]) as wire:
        wire.subscribe(channel)
        assert wire.push("join")
        pair[1].publish(channel, 1, idempotency_key="k")
        assert wire.data() == 1
        slot = slot_of(cluster, channel)
        to = next(server for server in cluster.now_primaries() if server is not cluster.owner(slot))
        cluster.migrate(slot, to)
        pair[0].publish(channel, 1, idempotency_key="k")
        assert list(pair[1].api("presence", channel=channel)["presence"]) == [wire.session["client"]]
        wire.quiet(0.2)


def test_killed_connections(pair, cluster, fresh):
    # Each server of a cluster may cut its connections; the channels of all of them would have holes.
    channels = [fresh("recovery") for _ in range(12)]
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
        assert not any(stream.jumps for follower in followers for stream in follower.streams.values())


def test_a_cluster_and_a_single_server_as_shards(cluster, fresh):
    # Growing from a single server to a cluster beside it would need a second installation.
    prefix = fresh("recovery")
    names = [f"{prefix}.{n}" for n in range(60)]
    with (
        RedisServer() as single,
        several(2, on_redis([cluster.url, single.address])) as (one, two),
        Wire.connected(two) as wire,
    ):
        for name in names:
            wire.subscribe(name)
        responses = one.api("broadcast", channels=names, data=1)["responses"]
        assert [response["result"]["offset"] for response in responses] == [1] * 60
        assert sorted(wire.push()["channel"] for _ in names) == sorted(names)
        assert 15 <= len(single.client().keys("*.stream.recovery*")) <= 45


def test_death_of_a_primary(fresh):
    # A third of all channels would stay dead, or take the others with it.
    prefix = fresh("recovery")
    names = [f"{prefix}.{n}." for n in range(30)]
    with Cluster(replicas=1) as cluster, several(2, on_redis(cluster.url, QUICK)) as nodes, contextlib.ExitStack() as stack:
        followers = [stack.enter_context(Follower(node, names, str(n))) for n, node in enumerate(nodes)]
        before = stack.enter_context(Publisher(nodes, names, count=300))
        before.wait()
        # One to which messages go, if they go to a primary: then they have to come from elsewhere.
        hear = [server for server in cluster.now_primaries() if cluster.clients[server].client_list(_type="pubsub")]
        victim = (hear or cluster.now_primaries())[0]
        replica = cluster.replica_of(victim)
        gone = [name for name in names if cluster.owner(slot_of(cluster, name)) is victim]
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


def test_cluster_that_is_down_and_comes_back(fresh):
    # All seeds get new addresses or all die at once: nodes would have to be restarted.
    channel = fresh("recovery")
    with Cluster(appendonly="yes", appendfsync="always") as cluster, running(on_redis(cluster.url, QUICK)) as node:
        with Follower(node, [channel]) as follower, Publisher([node], [channel], count=20) as before:
            before.wait()
            for server in cluster.servers:
                server.kill()
            assert node.api_error("publish", channel=channel, data=1) == 100
            used = node.cpu_s()
            time.sleep(2)
            assert node.cpu_s() - used < 0.5, "a busy loop"
            for server in cluster.servers:
                server.start()
            eventually(lambda: works(node, [channel]), within=BACK_WITHIN_S, what="publishing again")
            with Publisher([node], [channel], count=20) as after:
                after.wait()
            judge([follower], [before, after])
            assert not follower.closes


def test_J04_start_without_a_cluster():
    # A node that cannot work would be put behind the balancer.
    port = free_port()
    node = Gyre(on_redis(f"redis+cluster://:pa55@127.0.0.1:{port}"))
    try:
        assert node.spawn().exit_code() == 1
        assert str(port) in node.output() and "pa55" not in node.output()
    finally:
        node.end()
