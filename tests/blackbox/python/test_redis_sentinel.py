"""Redis watched by Sentinels: a new primary is found without a restart, and clients are told what may be missing."""

import contextlib
import time

import pytest
from harness import Gyre, Wire, eventually, free_port, running
from harness.checker import Follower, Publisher, judge
from harness.redis import RedisServer
from harness.sentinel import MASTER, SentinelServer, Watched
from harness.several import QUICK, on_redis, several, works

# J08: from the death of the primary, of which Sentinels need a good second to be sure.
FAILOVER_WITHIN_S = 15


def forms(watched):
    """The three ways to say it."""
    yield on_redis(watched.url, QUICK)
    yield on_redis(f"redis://127.0.0.1:{watched.sentinels[1].port}?sentinel_master_name={MASTER}", QUICK)
    yield on_redis(None, QUICK, sentinel_address=[watched.addresses], sentinel_master_name=MASTER)


def offsets(server):
    """The offset of every channel that a server has."""
    client = server.client(decode_responses=True)
    return {key: client.hget(key, "s") for key in client.keys("*.meta.*")}


def test_J03_sentinel_addresses(fresh):
    # Configurations that work with the reference would not start here.
    with Watched(replicas=1) as watched:
        for changes in forms(watched):
            channel = fresh("recovery")
            with running(changes, cores=1) as node, Wire.connected(node) as wire:
                wire.subscribe(channel)
                assert node.publish(channel, 1)["offset"] == 1
                assert wire.data() == 1
                assert any(channel in key for key in watched.first.client(decode_responses=True).keys("*"))


def test_J08_death_of_the_primary(fresh):
    # Somebody would have to restart all nodes at night, or clients would go on with positions of another history.
    channels = [fresh("recovery") for _ in range(20)]
    with Watched(replicas=1) as watched, several(2, on_redis(watched.url, QUICK)) as nodes, contextlib.ExitStack() as stack:
        followers = [stack.enter_context(Follower(node, channels, str(n))) for n, node in enumerate(nodes)]
        before = stack.enter_context(Publisher(nodes, channels, count=300))
        before.wait()
        eventually(lambda: offsets(watched.servers[0]) == offsets(watched.servers[1]), what="a replica that has all")
        watched.primary().kill()
        died = time.monotonic()
        with Publisher(nodes, channels, every_s=0.01) as during:
            for node in nodes:
                eventually(
                    lambda node=node: works(node, fresh("recovery")),
                    within=FAILOVER_WITHIN_S,
                    what="publishing again",
                    every=0.1,
                )
            assert time.monotonic() - died < FAILOVER_WITHIN_S
            confirmed = len(during.confirmed)
            eventually(lambda: len(during.confirmed) > confirmed + 40, what="publications afterwards")
        assert {code for _, code, _, _ in during.failed} == {100} and during.slowest_s < 6
        judge(followers, [before, during])
        assert not any(follower.closes for follower in followers)
        assert watched.primary() is watched.servers[1]


def test_orderly_change_of_the_primary_and_back(fresh):
    # Maintenance of Redis would need maintenance of the nodes: the old primary still answers, as a replica.
    channels = [fresh("recovery") for _ in range(10)]
    with Watched(replicas=1) as watched, several(2, on_redis(watched.url, QUICK)) as nodes, contextlib.ExitStack() as stack:
        followers = [stack.enter_context(Follower(node, channels, str(n))) for n, node in enumerate(nodes)]
        publisher = stack.enter_context(Publisher(nodes, channels, every_s=0.01))
        eventually(lambda: len(publisher.confirmed) > 50, what="publications before")
        watched.fail_over()
        eventually(lambda: watched.primary() is watched.servers[1], within=10, what="another primary")
        for node in nodes:
            eventually(
                lambda node=node: works(node, fresh("recovery")), within=FAILOVER_WITHIN_S, what="publishing again", every=0.1
            )
        # The old one does not know yet that it is a replica; nobody may go on writing there.
        eventually(
            lambda: watched.first.client().info("replication")["role"] == "slave",
            within=20,
            what="the old primary as a replica",
            every=0.2,
        )
        confirmed = len(publisher.confirmed)
        eventually(lambda: len(publisher.confirmed) > confirmed + 100, within=FAILOVER_WITHIN_S, what="publications afterwards")
        publisher.stop()
        # What the old primary confirmed after the change is gone with its data; order and positions are not.
        judge(followers, [publisher], may_lose=True)
        with Publisher(nodes, channels, count=100) as after:
            after.wait()
            judge(followers, [after])
        assert not after.failed and not any(follower.closes for follower in followers)


def test_sentinels_that_are_gone(fresh):
    # Sentinels are needed to find the primary, not to work: their end must not stop anything.
    channel = fresh("recovery")
    with Watched(replicas=1) as watched, running(on_redis(watched.url, QUICK)) as node, Follower(node, [channel]) as follower:
        for sentinel in watched.sentinels[:2]:
            sentinel.kill()
        with Publisher([node], [channel], every_s=0.05) as publisher:
            time.sleep(6)  # longer than the interval at which they are asked
        assert not publisher.failed
        judge([follower], [publisher])
        logged = [entry for entry in node.logs() if entry["level"] in ("warn", "error")]
        assert len(logged) <= 4, logged
    with Watched(replicas=0, sentinels=1) as watched:
        first = (
            f"redis+sentinel://127.0.0.1:{free_port()}?sentinel_master_name={MASTER}&addr=127.0.0.1:{watched.sentinels[0].port}"
        )
        with running(on_redis(first), cores=1) as node:
            assert node.publish(channel, 1)["offset"] == 1, "the next Sentinel is asked"


def test_sentinels_with_a_password(fresh):
    # Credentials of Sentinels and of Redis are different ones; both would be refused.
    lines = ['requirepass "of-sentinels"', f"sentinel auth-pass {MASTER} of-redis", "sentinel sentinel-pass of-sentinels"]
    secrets = {"password": "of-redis", "sentinel_password": "of-sentinels"}
    servers = {"requirepass": "of-redis", "masterauth": "of-redis"}
    with RedisServer(**servers) as primary:
        with SentinelServer(primary, quorum=1, lines=lines) as sentinel:
            address = f"redis+sentinel://127.0.0.1:{sentinel.port}?sentinel_master_name={MASTER}"
            for changes in (
                on_redis(address, **secrets),
                on_redis(address.replace("?", "?sentinel_password=of-sentinels&"), password="of-redis"),
                on_redis(None, sentinel_address=[f"127.0.0.1:{sentinel.port}"], sentinel_master_name=MASTER, **secrets),
            ):
                with running(changes, cores=1) as node:
                    assert node.publish(fresh("recovery"), 1)["offset"] == 1
                    assert "of-redis" not in node.output() and "of-sentinels" not in node.output()


@pytest.mark.parametrize("mistake", ["no sentinel", "unknown name"])
def test_J04_start_without_a_primary(mistake):
    # A node that cannot work would be put behind the balancer; the operator would not learn what is wrong.
    with Watched(replicas=0, sentinels=1) as watched:
        port = free_port() if mistake == "no sentinel" else watched.sentinels[0].port
        name = MASTER if mistake == "no sentinel" else "another-master"
        node = Gyre(on_redis(f"redis+sentinel://:pa55@127.0.0.1:{port}?sentinel_master_name={name}"))
        try:
            assert node.spawn().exit_code() == 1
            assert str(port) in node.output() and "pa55" not in node.output()
            assert mistake == "no sentinel" or name in node.output()
        finally:
            node.end()
