"""Connections to Redis that are cut, slow or half dead: nothing that was confirmed is lost, nothing is told twice."""

import contextlib
import random
import time

import pytest
from harness import Wire, eventually, running
from harness.checker import Follower, Publisher, judge
from harness.fault import FaultProxy
from harness.redis import RedisServer
from harness.several import ANSWERED_WITHIN_S, BACK_WITHIN_S, QUICK, on_redis, several, works
from harness.waiting import timed


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
def test_killed_connections_lose_nothing(fresh, kind):
    # A restart of a proxy or an operator's CLIENT KILL would leave holes in chats.
    channels = [fresh("recovery") for _ in range(10)]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        admin = server.client()
        nodes = stack.enter_context(several(2, on_redis(server.address, QUICK)))
        followers = [stack.enter_context(Follower(node, channels, str(n))) for n, node in enumerate(nodes)]
        publisher = stack.enter_context(Publisher(nodes, channels, every_s=0.001))
        for _ in range(6):
            count = len(publisher.confirmed)
            eventually(lambda count=count: len(publisher.confirmed) > count + 50, within=BACK_WITHIN_S, what="publications")
            admin.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        count = len(publisher.confirmed)
        eventually(lambda: len(publisher.confirmed) > count + 50, within=BACK_WITHIN_S, what="publications")
        publisher.stop()
        judge(followers, [publisher])
        assert not any(follower.closes for follower in followers)
        assert not any(stream.jumps for follower in followers for stream in follower.streams.values())
        assert {code for _, code, _, _ in publisher.failed} <= {100}
        if kind == "pubsub":
            assert not publisher.failed, "publishing does not need the other connection"


def test_all_channels_are_heard_again(fresh):
    # A part of the users would stay deaf after a reconnect, which nobody notices in a graph.
    prefix = fresh("open")
    names = [f"{prefix}.{n}" for n in range(3000)]
    with RedisServer() as server, running(on_redis(server.address), cores=2) as node, contextlib.ExitStack() as stack:
        admin = server.client(decode_responses=True)
        wires = [stack.enter_context(Wire.connected(node, str(n))) for n in range(30)]
        for number, wire in enumerate(wires):
            mine = names[number * 100 : number * 100 + 100]
            wire.send(*({"id": 100 + n, "subscribe": {"channel": name}} for n, name in enumerate(mine)))
            for n in range(100):
                assert "subscribe" in wire.reply(100 + n)
        before = set(admin.pubsub_channels("*"))
        assert len([name for name in before if prefix in name]) == 3000
        admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        eventually(lambda: set(admin.pubsub_channels("*")) == before, within=5, what="the same set of channels")
        eventually(lambda: works(node, fresh("open")), what="publishing")
        for number, wire in enumerate(wires):
            node.publish(names[number * 100 + 99], number)
            assert wire.data() == number


def test_slow_way_keeps_order_and_content(fresh):
    # Replies that come late would be given to the wrong caller.
    channels = [fresh("recovery") for _ in range(10)]
    with RedisServer() as server, FaultProxy(server.port) as proxy:
        with several(2, on_redis(proxy.address, QUICK)) as nodes, contextlib.ExitStack() as stack:
            followers = [stack.enter_context(Follower(node, channels, str(n))) for n, node in enumerate(nodes)]
            publishers = [stack.enter_context(Publisher(nodes, channels, count=25)) for _ in range(8)]
            for link in proxy.links():
                link.delay(random.uniform(0.02, 0.15))
            for publisher in publishers:
                publisher.wait()
                assert not publisher.failed
            # Messages later than replies look lost to the position check: 2500 may come, with a recovery after it.
            judge(followers, publishers)
            assert not any(follower.closes for follower in followers)
            assert not any(stream.jumps for follower in followers for stream in follower.streams.values())


def commands_links(proxy):
    return [link for link in proxy.links() if not link.said("SUBSCRIBE")]


def test_repeated_publish_after_a_lost_answer(fresh):
    # The call failed, Redis had done it: a backend that repeats it with its key would publish twice.
    channel, plain = fresh("recovery"), fresh("open")
    with RedisServer() as server, FaultProxy(server.port) as proxy:
        changes = on_redis(proxy.address, QUICK, io_timeout="1s")
        with running(changes, cores=1) as node, Follower(node, [channel]) as follower, Wire.connected(node) as wire:
            wire.subscribe(plain)
            for turn in range(3):
                for link in commands_links(proxy):
                    link.deafen()
                code, took = timed(
                    lambda turn=turn: node.api_error("publish", channel=channel, data=f"h{turn}", idempotency_key=f"h{turn}")
                )
                assert code == 100 and took < 3
                for link in commands_links(proxy):
                    link.deafen()
                eventually(
                    lambda turn=turn: node.publish(plain, turn, idempotency_key=f"p{turn}") == {}, within=5, what="answer"
                )
                result = eventually(
                    lambda turn=turn: node.publish(channel, f"h{turn}", idempotency_key=f"h{turn}"), within=5, what="answer"
                )
                assert result["offset"] == turn + 1
            eventually(lambda: len(follower.streams[channel].got) == 3, what="three publications")
            assert [data for _, _, data in follower.streams[channel].got] == ["h0", "h1", "h2"]
            assert [wire.data() for _ in range(3)] == [0, 1, 2]
            wire.quiet(0.1)
            assert not follower.mistakes and not follower.closes


def test_answers_after_their_deadline(fresh):
    # Answers of calls that were given up would be taken for those of later ones.
    channels = [fresh("recovery") for _ in range(10)]
    with RedisServer() as server, FaultProxy(server.port) as proxy:
        changes = on_redis(proxy.address, QUICK, io_timeout="1s")
        with running(changes, cores=2) as node, contextlib.ExitStack() as stack:
            follower = stack.enter_context(Follower(node, channels))
            publishers = [stack.enter_context(Publisher([node], channels)) for _ in range(4)]
            for _ in range(3):
                for link in commands_links(proxy):
                    link.delay(1.2)
                count = len(publishers[0].failed)
                eventually(lambda count=count: len(publishers[0].failed) > count, what="errors")
                eventually(lambda: works(node, fresh("recovery")), within=BACK_WITHIN_S, what="publishing again")
            for publisher in publishers:
                publisher.stop()
                assert {code for _, code, _, _ in publisher.failed} == {100}
            judge([follower], publishers)
            assert not follower.closes


def test_connections_cut_at_random(fresh):
    # A bad network would lose confirmed messages, or deliver them twice.
    channels = [fresh("recovery") for _ in range(20)]
    with RedisServer() as server, FaultProxy(server.port) as proxy:
        with several(2, on_redis(proxy.address, QUICK)) as nodes, contextlib.ExitStack() as stack:
            followers = [stack.enter_context(Follower(node, channels, str(n))) for n, node in enumerate(nodes)]
            publishers = [stack.enter_context(Publisher(nodes, channels)) for _ in range(3)]
            until = time.monotonic() + 6
            cuts = 0
            while time.monotonic() < until:
                if links := proxy.links():
                    random.choice(links).cut()
                    cuts += 1
                time.sleep(random.uniform(0.02, 0.3))
            assert cuts > 10
            counts = [len(publisher.confirmed) for publisher in publishers]
            for count, publisher in zip(counts, publishers, strict=True):
                eventually(lambda c=count, p=publisher: len(p.confirmed) > c + 50, within=BACK_WITHIN_S, what="publications")
                publisher.stop()
                assert {code for _, code, _, _ in publisher.failed} <= {100}
            judge(followers, publishers)
            assert not any(follower.closes for follower in followers)


def test_reconnects_are_spaced(fresh):
    # After an outage all nodes together would keep Redis from coming up.
    with RedisServer() as server, FaultProxy(server.port) as proxy:
        with running(on_redis(proxy.address), cores=2) as node:
            server.kill()
            eventually(lambda: not proxy.links(), what="lost connections")
            tried = proxy.accepted
            time.sleep(5)
            # Two cores with two lanes, four times a second at most, and somebody who looks after the servers.
            assert proxy.accepted - tried <= (2 * 2 + 1) * 4 * 5
            assert proxy.accepted > tried
            server.start()
            eventually(lambda: works(node, fresh("open")), within=BACK_WITHIN_S, what="publishing again")


def test_stalled_command_connection(fresh):
    # One dead connection would make every call fail, though a new one works.
    channel = fresh("recovery")
    with RedisServer() as server, FaultProxy(server.port) as proxy:
        with running(on_redis(proxy.address, QUICK), cores=2) as node, Follower(node, [channel]) as follower:
            node.publish(channel, 1)
            for link in commands_links(proxy):
                link.freeze()
            code, took = timed(lambda: node.api_error("publish", channel=channel, data=2))
            assert code == 100 and took < ANSWERED_WITHIN_S
            eventually(lambda: works(node, fresh("recovery")), within=5, what="publishing over a new connection")
            assert not follower.closes
            with Publisher([node], [channel], count=20) as publisher:
                publisher.wait()
            judge([follower], [publisher])


@pytest.mark.slow
def test_J19_half_dead_message_connection(fresh):
    # Clients would stay connected and deaf until somebody restarts the node.
    plain, kept = fresh("open"), fresh("recovery")
    faults = ("freeze", "swallow", "mute")
    with RedisServer() as server, contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(FaultProxy(server.port)) for _ in faults]
        publisher_node = stack.enter_context(running(on_redis(server.address, QUICK), cores=1))
        nodes = [stack.enter_context(running(on_redis(proxy.address, QUICK), cores=1)) for proxy in proxies]
        listeners = [stack.enter_context(Wire.connected(node, "1")) for node in nodes]
        followers = [stack.enter_context(Follower(node, [kept])) for node in nodes]
        for wire in listeners:
            wire.subscribe(plain)
        publisher = stack.enter_context(Publisher([publisher_node], [kept], every_s=0.05))
        publisher_node.publish(plain, 0)
        assert [wire.data() for wire in listeners] == [0, 0, 0]
        for fault, proxy in zip(faults, proxies, strict=True):
            links = proxy.links("SUBSCRIBE")
            assert links
            for link in links:
                getattr(link, fault)()
        began = time.monotonic()
        # A stalled connection is noticed by its pings; one that answers pings, by the probe.
        for fault, wire, within in zip(faults, listeners, (10, 10, 75), strict=True):

            def arrives(wire=wire):
                publisher_node.publish(plain, 1)
                with contextlib.suppress(TimeoutError):
                    return wire.data(within=0.5) == 1

            eventually(arrives, within=within - (time.monotonic() - began), what=f"messages after {fault}")
        for node in nodes:
            channel = fresh("recovery")
            assert node.publish(channel, 1)["offset"] == 1
            eventually(node.complaints, what="log line")
        publisher.stop()
        judge(followers, [publisher])
        assert not any(follower.closes for follower in followers) and not publisher.failed
