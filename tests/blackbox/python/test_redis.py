"""Nodes that share one Redis: what one accepts reaches the clients of the other, and nothing is told twice or lost."""

import contextlib
import re
import signal
import threading
import time

import pytest
from harness import Wire, eventually, free_port, running
from harness.checker import Follower, Publisher, judge
from harness.node import API_KEY, merged
from harness.redis import RedisServer
from harness.several import QUICK, on_redis, several

# What no client of a store shared with others may use.
FORBIDDEN = {"keys", "scan", "config", "flushall", "flushdb", "blpop", "monitor", "save", "bgsave", "debug"}
META_TTL_S = 3
NAME = "gyre-pair"
EXTRA = {
    "channel": {
        "without_namespace": {
            "allow_subscribe_for_client": True,
            "history_size": 10,
            "history_ttl": "3s",
            "history_meta_ttl": f"{META_TTL_S}s",
            "force_positioning": True,
        }
    }
}


@pytest.fixture(scope="module")
def server():
    with RedisServer() as started:
        yield started


@pytest.fixture(scope="module")
def pair(server):
    """Two nodes, one with one core and one with four."""
    with several(2, on_redis(server.address, merged(QUICK, EXTRA), client_name=NAME), cores=(1, 4)) as nodes:
        yield nodes
        for node in nodes:
            assert not node.logs("error"), node.logs("error")[:5]


@pytest.fixture(scope="module")
def client(server):
    return server.client(decode_responses=True)


def offsets(publications):
    return [publication["offset"] for publication in publications]


def keys(client, channel):
    """All keys of a channel, whatever they are called; idempotency keys begin with k."""
    return [key for key in client.keys("*") if re.search(rf"\.{re.escape(channel)}(\.k\d*)?$", key)]


def at_once(*calls):
    """Runs the calls at the same instant and returns their results in order."""
    barrier, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(number):
        barrier.wait()
        results[number] = calls[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# ---- publications, history, recovery


@pytest.mark.parametrize("namespace", ["open", "recovery"])
def test_J02_publications_reach_the_clients_of_both_nodes(pair, fresh, namespace):
    # Users behind the other node would see nothing.
    channel, (one, two) = fresh(namespace), pair
    with Wire.connected(one) as ann, Wire.connected(two, "43") as bob, Wire.connected(two, "44") as carl:
        for wire in (ann, bob, carl):
            wire.subscribe(channel)
        one.publish(channel, "api one", tags={"k": "v"})
        two.publish(channel, "api two")
        assert bob.call(publish={"channel": channel, "data": "client"})["publish"] == {}
        told = [[wire.push()["pub"] for _ in range(3)] for wire in (ann, bob, carl)]
        assert told[0] == told[1] == told[2]
        assert [publication["data"] for publication in told[0]] == ["api one", "api two", "client"]
        assert told[0][0]["tags"] == {"k": "v"}
        assert told[0][2]["info"] == {"user": "43", "client": bob.session["client"]}
        if namespace == "recovery":
            stored = two.api("history", channel=channel, limit=-1)["publications"]
            told[0][0].pop("epoch", None)
            assert stored == told[0], "history holds what live subscribers got"
            assert one.api("history", channel=channel, limit=-1)["publications"] == stored


def test_J07_four_publishers_on_two_nodes(pair, fresh):
    # Subscribers would see another order on every node, or be thrown out for gaps that are none.
    channel = fresh("recovery")
    with contextlib.ExitStack() as stack:
        followers = [stack.enter_context(Follower(node, [channel], str(n))) for n, node in enumerate([*pair, *pair])]
        publishers = [Publisher([pair[n % 2]], [channel], count=1000) for n in range(4)]
        for publisher in publishers:
            stack.enter_context(publisher)
        for publisher in publishers:
            publisher.wait()
        judge(followers, publishers)
        for follower in followers:
            assert [offset for _, offset, _ in follower.streams[channel].got] == list(range(1, 4001))
            assert not follower.unsubscribed and not follower.closes
        assert not any(publisher.failed for publisher in publishers)


def test_J07_recovery_while_both_nodes_publish(pair, fresh):
    # Whoever changes the node in a busy moment would lose or repeat a message.
    channel = fresh("recovery")
    with Publisher(pair, [channel], every_s=0.005) as publisher:
        eventually(lambda: publisher.confirmed, what="first publication")
        held = epoch = None
        for turn in range(30):
            with Wire.connected(pair[turn % 2]) as wire:
                fields = {} if held is None else {"recover": True, "epoch": epoch, "offset": held}
                result = wire.subscribe(channel, **fields)
                got = offsets(result.get("publications", []))
                if held is None:
                    held, epoch = result.get("offset", 0), result["epoch"]
                else:
                    assert result.get("recovered") is True, result
                while len(got) < 5:
                    got.append(wire.push()["pub"]["offset"])
                assert got == list(range(held + 1, held + 1 + len(got)))
                held = got[-1]
        assert not publisher.failed


def test_recovery_on_the_other_node(pair, fresh):
    # After a reconnect the balancer picks another node: the client would have to load everything anew.
    channel, (one, two) = fresh("recovery"), pair
    with Wire.connected(one) as wire:
        epoch = wire.subscribe(channel)["epoch"]
        two.publish(channel, 1)
        assert wire.data() == 1
    one.publish(channel, 2)
    two.publish(channel, 3)
    with Wire.connected(two) as wire:
        result = wire.subscribe(channel, recover=True, epoch=epoch, offset=1)
        assert result["recovered"] is True and offsets(result["publications"]) == [2, 3]
        assert result["epoch"] == epoch
        one.publish(channel, 4)
        assert wire.push()["pub"] == {"data": 4, "offset": 4}


def test_window_of_history(pair, fresh):
    # Late comers would get too much, or believe in a recovery with a hole in it.
    channel, (one, two) = fresh("smallrecovery"), pair
    for n in range(1, 11):
        epoch = pair[n % 2].publish(channel, n)["epoch"]
    kept = two.api("history", channel=channel, limit=-1)
    assert (offsets(kept["publications"]), kept["offset"], kept["epoch"]) == ([8, 9, 10], 10, epoch)
    with Wire.connected(one) as wire:
        result = wire.subscribe(channel, recover=True, epoch=epoch, offset=7)
        assert result["recovered"] is True and offsets(result["publications"]) == [8, 9, 10]
    with Wire.connected(two) as wire:
        result = wire.subscribe(channel, recover=True, epoch=epoch, offset=6)
        assert result.get("recovered", False) is False and result["offset"] == 10


def test_history_remove(pair, fresh):
    # After clearing a channel those who were up to date would reload, or those behind would believe they are not.
    channel, (one, two) = fresh("recovery"), pair
    for n in range(3):
        epoch = one.publish(channel, n)["epoch"]
    assert two.api("history_remove", channel=channel) == {}
    for offset, recovered in ((3, True), (2, False)):
        with Wire.connected(one) as wire:
            result = wire.subscribe(channel, recover=True, epoch=epoch, offset=offset)
            assert result.get("recovered", False) is recovered, result
    assert one.publish(channel, 4) == {"offset": 4, "epoch": epoch}


def test_loss_of_the_position_is_noticed_by_the_next_publication(pair, client, fresh):
    # Evicted or deleted keys: clients would go on with positions of a dead stream and lose what comes.
    channel, (one, two) = fresh("recovery"), pair
    with Wire.connected(two) as wire:
        before = wire.subscribe(channel)["epoch"]
        for n in range(3):
            one.publish(channel, n)
        assert [wire.data() for _ in range(3)] == [0, 1, 2]
        (meta,) = [key for key in keys(client, channel) if "meta" in key]
        client.delete(meta)
        result = one.publish(channel, "anew")
        assert result["offset"] == 1 and result["epoch"] != before
        told = wire.push("unsubscribe")
        assert told["channel"] == channel and told["unsubscribe"]["code"] == 2500
        back = wire.subscribe(channel, recover=True, epoch=before, offset=3)
        assert back.get("recovered", False) is False and back["was_recovering"] is True
        assert (back["offset"], back["epoch"]) == (1, result["epoch"])
        (stream,) = [key for key in keys(client, channel) if client.type(key) == "stream"]
        assert client.xlen(stream) == 1, "items of the dead epoch are gone"


def test_J06_loss_of_all_data_is_noticed_without_a_publication(pair, client, fresh):
    # In a quiet channel nobody would learn that the history is gone.
    channel = fresh("recovery")
    with Wire.connected(pair[0]) as ann, Wire.connected(pair[1]) as bob:
        before = ann.subscribe(channel)["epoch"]
        bob.subscribe(channel)
        pair[0].publish(channel, 1)
        assert ann.data() == bob.data() == 1
        client.delete(*keys(client, channel))
        for wire in (ann, bob):
            assert wire.push("unsubscribe", within=10)["unsubscribe"]["code"] == 2500
        backs = [wire.subscribe(channel, recover=True, epoch=before, offset=1) for wire in (ann, bob)]
        assert not any(back.get("recovered") for back in backs)
        assert backs[0]["epoch"] == backs[1]["epoch"] != before
        assert pair[1].publish(channel, 2) == {"offset": 1, "epoch": backs[0]["epoch"]}
        assert ann.data() == bob.data() == 2


def test_messages_that_got_lost_on_the_way_are_noticed(pair, client, fresh):
    # Redis drops Pub/Sub messages of slow consumers without a word: the client would never learn that one is missing.
    channel = fresh("recovery")
    with Wire.connected(pair[0]) as wire:
        epoch = wire.subscribe(channel)["epoch"]
        pair[1].publish(channel, 1)
        assert wire.data() == 1
        (stream,) = [key for key in keys(client, channel) if client.type(key) == "stream"]
        (meta,) = [key for key in keys(client, channel) if "meta" in key]
        ((_, fields),) = client.xrange(stream)
        client.hset(meta, "s", 2)
        client.xadd(stream, fields, id="2-0")
        assert wire.push("unsubscribe", within=10)["unsubscribe"]["code"] == 2500
        back = wire.subscribe(channel, recover=True, epoch=epoch, offset=1)
        assert back["recovered"] is True and offsets(back["publications"]) == [2]


@pytest.mark.parametrize("namespace", ["open", "recovery"])
def test_idempotency_on_both_nodes_at_once(pair, fresh, namespace):
    # A backend that repeats a call through another node would publish twice.
    channel = fresh(namespace)
    with Wire.connected(pair[0]) as ann, Wire.connected(pair[1]) as bob:
        for wire in (ann, bob):
            wire.subscribe(channel)
        for turn in range(100):
            calls = [lambda n=n: n.publish(channel, turn, idempotency_key=f"k{turn}") for n in pair]
            first, second = at_once(*calls)
            assert first == second and ("offset" in first) is (namespace == "recovery")
        for wire in (ann, bob):
            assert [wire.data() for _ in range(100)] == list(range(100))
        for wire in (ann, bob):
            wire.quiet(0.1)


def test_versions_on_both_nodes(pair, fresh):
    # A state that comes late through another node would overwrite a newer one.
    channel, (one, two) = fresh("recovery"), pair
    with Wire.connected(one) as ann, Wire.connected(two) as bob:
        for wire in (ann, bob):
            wire.subscribe(channel)
        newest = one.publish(channel, 5, version=5)
        assert two.publish(channel, 3, version=3) == newest
        assert one.publish(channel, 5, version=5) == newest, "equal is old"
        assert two.publish(channel, 6, version=6)["offset"] == 2
        assert one.publish(channel, "other", version=1, version_epoch="x")["offset"] == 3, "another version epoch passes"
        assert two.publish(channel, "late", version=1, version_epoch="x")["offset"] == 3
        for wire in (ann, bob):
            assert [wire.data() for _ in range(3)] == [5, 6, "other"]
            wire.quiet(0.1)


def test_skip_history(pair, fresh):
    # Typing notices would push messages out of the history or break the positions of those on the other node.
    channel, (one, two) = fresh("recovery"), pair
    with Wire.connected(one) as wire:
        wire.subscribe(channel)
        assert two.publish(channel, "typing", skip_history=True) == {}
        assert two.publish(channel, 1)["offset"] == 1
        assert one.publish(channel, "typing", skip_history=True) == {}
        assert one.publish(channel, 2)["offset"] == 2
        assert [wire.data() for _ in range(4)] == ["typing", 1, "typing", 2]
        wire.quiet(0.1)
    assert len(two.api("history", channel=channel, limit=-1)["publications"]) == 2


def test_meta_ttl(pair, fresh):
    # Positions in use would die, or those of channels nobody uses any more would fill Redis for a month.
    channel = fresh()
    epoch = pair[0].publish(channel, 1)["epoch"]
    until = time.monotonic() + 2 * META_TTL_S
    while time.monotonic() < until:
        assert pair[1].api("history", channel=channel)["epoch"] == epoch, "reading keeps it"
        time.sleep(META_TTL_S / 2)
    time.sleep(META_TTL_S + 1)  # looking at the stream keeps it alive, so this test has to leave it alone
    found = pair[0].api("history", channel=channel)
    assert found["epoch"] != epoch and found["offset"] == 0


def test_default_meta_ttl_and_key_names(pair, client, fresh):
    # Operators look for keys by the prefix, and the memory of dead channels would never come back.
    channel = fresh("hist")
    pair[0].publish(channel, 1, idempotency_key="k")
    with Wire.connected(pair[1]) as wire:
        wire.subscribe(fresh("presence"))
        ttls = {key: client.ttl(key) for key in client.keys("*")}
    assert all(key.startswith("centrifugo.") for key in ttls), ttls
    assert all(ttl > 0 for ttl in ttls.values()), "every key ends some day"
    (meta,) = [key for key in keys(client, channel) if ".meta." in key]
    assert 29 * 86400 < ttls[meta] <= 30 * 86400
    (result,) = [key for key in keys(client, channel) if ".result." in key]
    assert 290 < ttls[result] <= 300


@pytest.mark.parametrize("name", ["a}b", "}a", "{a}b", "{}", "meta.x", "x", "a:b.c", "&".join("ab"), "ü→"])
def test_odd_channel_names(pair, fresh, name):
    # Names that mean something in Redis Cluster or collide with other keys would lose or mix up channels.
    channel, (one, two) = f"{fresh('recovery')}{name}", pair
    with Wire.connected(two) as wire:
        if not channel.isascii():
            assert wire.error(subscribe={"channel": channel}) == 107
            return
        wire.subscribe(channel)
        assert one.publish(channel, 1, idempotency_key="k")["offset"] == 1
        assert wire.data() == 1
        assert offsets(two.api("history", channel=channel, limit=-1)["publications"]) == [1]


def test_large_publications_and_many_channels(pair, fresh):
    # Replies and messages that come in several pieces would break the stream of a connection.
    prefix, (one, two) = fresh("recovery"), pair
    names = [f"{prefix}.{n}" for n in range(300)]
    with Wire.connected(two) as wire:
        for name in names[:100]:
            wire.subscribe(name)
        responses = one.api("broadcast", channels=names, data="x" * 5000)["responses"]
        assert [response["result"]["offset"] for response in responses] == [1] * 300
        assert sorted(wire.push(within=10)["channel"] for _ in range(100)) == sorted(names[:100])
        one.publish(names[0], "y" * 60_000)
        assert wire.data() == "y" * 60_000
    assert len({response["result"]["epoch"] for response in responses}) == 300


# ---- subscribing


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
            for garbage in (b"\xff\x00garbage", b"__p1:", b"__p1:x:y__z", b"__d1:9:e:99:x", b"__j__\xff", b"__l__"):
                client.publish(name, garbage)
        pair[1].publish(channel, "fine")
        assert wire.data() == "fine"
    assert {node["name"] for node in pair[0].api("info")["nodes"]} == {node["name"] for node in pair[1].api("info")["nodes"]}


def test_script_flush_is_not_seen(pair, client, fresh):
    # A failover or an operator empties the script cache: publishing would fail until the node is restarted.
    channels = [fresh("recovery") for _ in range(4)]
    with Follower(pair[0], channels) as follower, Publisher(pair, channels, count=400) as publisher:
        for _ in range(10):
            client.script_flush()
            time.sleep(0.02)
        publisher.wait()
        client.script_flush()
        with Wire.connected(pair[1]) as wire:
            wire.subscribe(fresh("members"))
            assert wire.push("join")
        judge([follower], [publisher])
        assert not publisher.failed and not follower.refused and not follower.unsubscribed


def test_commands_and_connections_are_few(pair, client):
    # Other users of the same Redis would feel blocking commands, and its connection limit is shared.
    used = {name.removeprefix("cmdstat_").split("|")[0] for name in client.info("commandstats")}
    ours = {"keys"}  # used by this file
    assert not used & FORBIDDEN - ours
    # Per core and shard one lane for commands and one for messages; one more per node looks after the servers.
    cores = 1 + 4
    assert 2 * cores <= len([entry for entry in client.client_list() if entry["name"] == NAME]) <= 2 * cores + 2


# ---- presence, join and leave


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


# ---- several installations


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


# ---- addresses


def test_J03_address_forms(fresh):
    # Configurations that work with the reference would not start here.
    with RedisServer(requirepass="first/s:e@c?r#t%", unixsocket="sock", unixsocketperm=700) as server:
        admin = server.client(password="first/s:e@c?r#t%")
        admin.execute_command("ACL", "SETUSER", "gyre", "on", ">second", "~*", "&*", "+@all")
        secret = "first%2Fs%3Ae%40c%3Fr%23t%25"
        socket = server.dir / "sock"
        plain = {"password": "first/s:e@c?r#t%"}
        forms = [
            (f"redis://:{secret}@127.0.0.1:{server.port}", {}),
            (f"redis://gyre:second@127.0.0.1:{server.port}/3", {}),
            (f"redis://gyre:second@localhost:{server.port}?connect_timeout=2s&io_timeout=3s", {}),
            (f"127.0.0.1:{server.port}", plain),
            (f"tcp://127.0.0.1:{server.port}", {"user": "gyre", "password": "second"}),
            (f"redis://127.0.0.1:{server.port}?force_resp2=true", {**plain, "client_name": "resp2"}),
            (f"redis://127.0.0.1:{server.port}", {**plain, "client_name": "resp3"}),
            (f"unix://{socket}", plain),
        ]
        for address, options in forms:
            channel = fresh("recovery")
            with running(on_redis(address, **options), cores=1) as node, Wire.connected(node) as wire:
                wire.subscribe(channel)
                assert node.publish(channel, address)["offset"] == 1
                assert wire.data() == address
                if name := options.get("client_name"):
                    ours = [entry for entry in admin.client_list() if entry["name"] == name]
                    assert ours and {entry.get("resp", name[4:]) for entry in ours} == {name[4:]}
                assert "second" not in node.output() and "first" not in node.output()


# ---- nodes as a group


def names(node):
    return {entry["name"] for entry in node.api("info")["nodes"]}


def test_J17_info_shows_all_nodes(server, fresh):
    # Dashboards would show one node's share, and dead nodes would stay for ever.
    prefix = fresh("n").replace(":", "")
    changes = on_redis(server.address, QUICK, prefix=prefix, presence_ttl="5s")
    channel = fresh("presence")
    with several(3, changes, cores=(1,)) as nodes, Wire.connected(nodes[0]) as ann, Wire.connected(nodes[2]) as bob:
        for node in nodes:
            eventually(lambda node=node: len(names(node)) == 3, within=5, what="three nodes")
        ann.subscribe(channel)
        bob.subscribe(channel)

        def counts():
            infos = {entry["name"]: entry for entry in nodes[1].api("info")["nodes"]}
            return sorted(entry.get("num_clients", 0) for entry in infos.values()) == [0, 1, 1]

        eventually(counts, within=8, what="clients of other nodes")
        (uid,) = {entry["uid"] for entry in nodes[0].api("info")["nodes"] if entry["name"].endswith(f"_{nodes[2].port}")}
        assert uid
        nodes[1].stop()
        eventually(lambda: len(names(nodes[0])) == 2, within=2, what="a node that stops leaves at once")
        assert nodes[0].api("presence_stats", channel=channel)["num_clients"] == 2
        nodes[2].process.send_signal(signal.SIGKILL)
        nodes[2].process.wait()
        eventually(
            lambda: nodes[0].api("presence_stats", channel=channel)["num_clients"] == 1,
            within=7,
            what="presence without the dead node",
        )
        eventually(lambda: len(names(nodes[0])) == 1, within=16, what="info without the dead node")
        ann.quiet(0.1)


def test_J20_acts_reach_the_clients_of_other_nodes(pair, fresh):
    # Bans, removals from groups and token renewals would depend on the node the backend happens to talk to.
    one, two = pair
    user, channel = fresh(), fresh("members")
    with Wire.connected(two, user) as wire, Wire.connected(two, user) as spared, Wire.connected(two, "9") as other:
        for each in (wire, other):
            each.subscribe(channel)
        assert wire.push("join") and wire.push("join") and other.push("join")
        assert one.api("unsubscribe", user=user, channel=channel) == {}
        assert wire.push("unsubscribe")["unsubscribe"] == {"code": 2000, "reason": "server unsubscribe"}
        assert other.push("leave")["leave"]["info"]["user"] == user
        assert one.api("disconnect", user=user, whitelist=[spared.session["client"]]) == {}
        assert wire.closed() == (3503, "force disconnect")
        assert spared.push("unsubscribe"), "all connections of the user are told"
        spared.quiet(0.1)
        assert one.api("disconnect", user=user, disconnect={"code": 4501, "reason": "see you"}) == {}
        assert spared.closed() == (4501, "see you")
        assert other.error(rpc={"method": "x"}) == 108


@pytest.mark.parametrize("method", ["subscribe", "refresh"])
def test_J20_subscribe_and_refresh_on_the_other_node(pair, fresh, method):
    # A backend that adds users to groups or prolongs sessions would need to know their node.
    one, two = pair
    user, channel = fresh(), fresh("open")
    if one.http("POST", f"/api/{method}", "{}", {"X-API-Key": API_KEY})[0] == 404:
        pytest.skip(f"the server API has no {method} yet")
    with Wire.connected(two, user) as wire:
        if method == "subscribe":
            assert one.api("subscribe", user=user, channel=channel) == {}
            assert wire.push("subscribe")["channel"] == channel
            one.publish(channel, 1)
            assert wire.data() == 1
        else:
            assert one.api("refresh", user=user, expired=True) == {}
            assert wire.closed()[0] == 3005


def test_J20_no_user_means_the_anonymous(pair):
    # An empty user id in a backend's bug would throw out everybody.
    with Wire.connected(pair[1], "7") as named, Wire.connected(pair[1], "") as anonymous:
        assert pair[0].api("disconnect", user="") == {}
        assert anonymous.closed()[0] == 3503
        named.quiet(0.1)


def test_channels_of_all_nodes(pair, fresh):
    # Operators would see one node's channels.
    one, two = pair
    prefix = fresh("open")
    with Wire.connected(one) as ann, Wire.connected(two) as bob:
        for number in range(10):
            ann.subscribe(f"{prefix}.{number}")
            bob.subscribe(f"{prefix}.{number + 5}")
        for node in pair:
            found = node.api("channels", pattern=f"{prefix}.*")["channels"]
            assert found == {f"{prefix}.{n}": {"num_clients": 2 if 5 <= n < 10 else 1} for n in range(15)}


def test_rolling_restart(server, fresh):
    # Each deployment would lose messages of those whose node goes.
    changes = on_redis(server.address, QUICK, prefix=fresh("r").replace(":", ""))
    channels = [fresh("recovery") for _ in range(5)]
    with several(2, changes) as nodes, Publisher([nodes[0]], channels, every_s=0.005) as publisher:
        with Follower(nodes[1], channels) as follower, Follower(nodes[0], channels) as steady:
            for _ in range(2):
                nodes[1].stop()
                nodes[1].start()
            publisher.stop()
            judge([follower, steady], [publisher])
            assert follower.closes and follower.closes[0] == 3001 and not steady.closes
            assert not publisher.failed
            assert not any(stream.jumps for stream in follower.streams.values()), "all was recovered"


def test_kill_of_a_node(server, fresh):
    # A crash would lose what was confirmed, though it is in Redis and the clients have another node to go to.
    changes = on_redis(server.address, QUICK, prefix=fresh("r").replace(":", ""))
    channels = [fresh("recovery") for _ in range(5)]
    with several(2, changes) as nodes, Publisher([nodes[0]], channels, every_s=0.005) as publisher:
        moving = Alias(nodes[1])
        with Follower(moving, channels) as follower, Publisher([nodes[1]], channels, every_s=0.005) as dying:
            eventually(lambda: len(dying.confirmed) > 50, what="publications of both")
            moving.node = nodes[0]
            nodes[1].process.kill()
            eventually(lambda: follower.closes and follower.has_all(), what="subscriptions on the other node")
            dying.stop()
            publisher.stop()
            judge([follower], [publisher, dying])
            assert not publisher.failed
            assert not any(stream.jumps for stream in follower.streams.values()), "all was recovered"


class Alias:
    """An address that may change its node."""

    def __init__(self, node):
        self.node = node

    @property
    def port(self):
        return self.node.port


def test_start_with_a_full_redis(server, fresh):
    # A node would need its own Redis, or start with what others left.
    port = free_port()
    changes = on_redis(server.address)
    channel = fresh("recovery")
    with running(changes, port=port) as node:
        first = node.publish(channel, 1)
    with running(changes, port=port) as node, Wire.connected(node) as wire:
        result = wire.subscribe(channel, recover=True, epoch=first["epoch"], offset=0)
        assert result["recovered"] is True and offsets(result["publications"]) == [1], "C25: a restart loses nothing"
