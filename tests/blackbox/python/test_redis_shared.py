"""A Redis that is used by others as well: nobody gets what is not his, and a node asks for little."""

import contextlib
import time

from harness import Wire, eventually, running
from harness.redis import RedisServer
from harness.several import QUICK, on_redis, several

# What no client of a store shared with others may use.
FORBIDDEN = {"keys", "scan", "config", "flushall", "flushdb", "blpop", "monitor", "save", "bgsave", "debug"}
GARBAGE = (b"", b"\xff\x00garbage", b"__p1:", b"__p1:x:y__z", b"__d1:9:e:99:x", b"__j__\xff", b"__l__")


def test_J11_two_prefixes_on_one_redis(server, fresh):
    # Staging and production on one Redis would see each other's messages and members.
    channels = [fresh("recovery"), fresh("open"), fresh("members")]
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(running(on_redis(server.address, prefix=prefix))) for prefix in ("a", "b")]
        wires = [stack.enter_context(Wire.connected(node)) for node in nodes]
        for wire in wires:
            for channel in channels:
                wire.subscribe(channel)
            assert wire.push("join")["join"]["info"]["client"] == wire.session["client"]
        for channel in channels:
            nodes[0].publish(channel, "a")
            assert wires[0].data() == "a"
        wires[1].quiet(0.3)
        assert nodes[1].api("history", channel=channels[0], limit=-1)["publications"] == []
        assert list(nodes[1].api("presence", channel=channels[2])["presence"]) == [wires[1].session["client"]]
        assert len(nodes[0].api("info")["nodes"]) == len(nodes[1].api("info")["nodes"]) == 1
        nodes[0].api("disconnect", user="42")
        assert wires[0].closed()[0] == 3503
        wires[1].quiet(0.3)


def test_databases_share_messages(server, fresh):
    # Pub/Sub of Redis knows no databases: whoever counts on them for isolation should see it early and always.
    prefix, history, plain = fresh("d").replace(":", ""), fresh("hist"), fresh("open")
    with (
        running(on_redis(server.address, prefix=prefix, db=1)) as one,
        running(on_redis(server.address + "/2", prefix=prefix)) as two,
        Wire.connected(two) as wire,
    ):
        wire.subscribe(plain)
        one.publish(plain, 1)
        assert wire.data() == 1
        one.publish(history, 1)
        assert two.api("history", channel=history, limit=-1)["publications"] == [], "keys are apart"
        assert server.client(db=1).keys("*") and server.client(db=2).keys("*")


def test_a_node_hears_a_channel_once(pair, client, fresh):
    # Redis would send every message once per core or client, and clients would get it several times.
    channel = fresh("open")
    heard_as = None
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire.connected(node)) for node in pair for _ in range(6)]
        for wire in wires:
            wire.subscribe(channel)
        (heard_as,) = [name for name in client.pubsub_channels("*") if name.endswith("." + channel)]
        assert client.pubsub_numsub(heard_as)[0][1] == 2
        pair[0].publish(channel, 1)
        for wire in wires:
            assert wire.data() == 1
        for wire in wires:
            wire.quiet(0.02)
    eventually(lambda: client.pubsub_numsub(heard_as)[0][1] == 0, what="end of the subscription in Redis")


def test_subscribers_that_come_and_go(pair, fresh):
    # The end of the last subscription crosses the start of the next: the channel would stay deaf.
    channel = fresh("open")
    with Wire.connected(pair[1]) as wire:
        until = time.monotonic() + 4
        turn = 0
        while time.monotonic() < until:
            turn += 1
            wire.subscribe(channel)
            pair[0].publish(channel, turn)
            assert wire.data() == turn
            wire.call(unsubscribe={"channel": channel})
            # Now and then as long as a node waits before it tells Redis.
            time.sleep((0, 0, 0.95, 1.0, 1.05)[turn % 5] if turn % 3 == 0 else 0)


def test_foreign_messages_are_survived(pair, client, fresh):
    # One message of somebody else's program would make a node deaf.
    channel = fresh("recovery")
    with Wire.connected(pair[0]) as wire:
        wire.subscribe(channel)
        heard = client.pubsub_channels("*")
        assert heard
        for name in heard:
            for garbage in GARBAGE:
                client.publish(name, garbage)
        pair[1].publish(channel, "fine")
        assert wire.data() == "fine"
    assert {node["name"] for node in pair[0].api("info")["nodes"]} == {node["name"] for node in pair[1].api("info")["nodes"]}


def test_commands_and_connections_are_few(fresh):
    # Other users of the same Redis would feel blocking commands, and its connection limit is shared.
    channels, name = [fresh(namespace) for namespace in ("recovery", "open", "members")], "gyre"
    with RedisServer() as server:
        client = server.client(decode_responses=True)
        before = client.info("commandstats")
        changes = on_redis(server.address, QUICK, client_name=name, presence_user_mapping=True)
        with several(2, changes, cores=(1, 4)) as (one, two), Wire.connected(two) as wire:
            for channel in channels:
                wire.subscribe(channel)
                one.publish(channel, 1, idempotency_key="k")
            one.api("history", channel=channels[0], limit=-1)
            one.api("history_remove", channel=channels[0])
            one.api("presence", channel=channels[2])
            one.api("presence_stats", channel=channels[2])
            time.sleep(1.5)  # a tick of presence, of the position check and of the nodes' news
            after = client.info("commandstats")
            used = {known for known in after if after[known]["calls"] > before.get(known, {"calls": 0})["calls"]}
            used = {known.removeprefix("cmdstat_").split("|")[0] for known in used}
            assert {"evalsha", "publish", "subscribe"} <= used and not used & FORBIDDEN, used
            # Per core and shard one lane for commands and one for messages; one more per node looks after the servers.
            lanes = 2 * (1 + 4)
            assert lanes <= len([entry for entry in client.client_list() if entry["name"] == name]) <= lanes + 2
