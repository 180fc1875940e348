"""Channel state events: the backend is told when a channel gets its first subscriber and when it has lost the last."""

import contextlib
import dataclasses
import json
import re
import signal
import time

import pytest
from harness import Wire, eventually, running, token
from harness.backend import Backend
from harness.cluster import Cluster
from harness.redis import RedisServer
from harness.state import DELAY_S, TOLD_WITHIN_S, TTL_S, Told, subscribe_all, telling, told_by
from harness.waiting import at_once

PLACES = ["http", "grpc", "two shards", "cluster", "presence manager"]
# For what has nothing to do with where the events wait and how the backend is told.
ONE_PLACE = pytest.mark.parametrize("place", ["http"], indirect=True)


@dataclasses.dataclass
class Place:
    """Two nodes, what their backend was told, and clients of every Redis there is."""

    nodes: list
    told: Told
    redis: list
    name: str

    def keys(self):
        """All keys."""
        return [key for client in self.redis for key in client.keys("*")]


@pytest.fixture(scope="module", params=PLACES)
def place(request):
    """One for each kind of backend and of Redis."""
    with contextlib.ExitStack() as stack:
        rest, kind = {}, "http"
        if request.param == "cluster":
            cluster = stack.enter_context(Cluster())
            clients = list(cluster.clients.values())
            address = cluster.url
        elif request.param == "two shards":
            servers = [stack.enter_context(RedisServer()) for _ in range(2)]
            clients = [server.client(decode_responses=True) for server in servers]
            address = [server.address for server in servers]
        elif request.param == "presence manager":
            servers = [stack.enter_context(RedisServer()) for _ in range(2)]
            clients = [servers[1].client(decode_responses=True)]
            address = servers[0].address
            redis = {"address": servers[1].address, "presence_ttl": f"{TTL_S}s"}
            rest["changes"] = {"presence_manager": {"enabled": True, "type": "redis", "redis": redis}}
        else:
            kind = request.param
            server = stack.enter_context(RedisServer())
            clients, address = [server.client(decode_responses=True)], server.address
        nodes, told = stack.enter_context(told_by(2, address, kind=kind, **rest))
        yield Place(nodes, told, clients, request.param)
        for node in nodes:
            assert not node.logs("error"), node.logs("error")[:5]


@pytest.fixture
def two(place):
    """The same for one test: nothing told yet."""
    place.told.reset()
    return place


def test_M01_M02_occupied_once(two, fresh):
    # A backend that starts work for a channel would start it late, twice, or for the wrong one.
    channel, (one, other) = fresh("chat"), two.nodes
    with Wire.connected(one) as first, Wire.connected(one) as second, Wire.connected(other, "7") as third:
        first.subscribe(channel)
        event = two.told.expect(channel, "occupied")
        assert isinstance(event["time_ms"], int) and abs(time.time() * 1000 - event["time_ms"]) < 2000 + 1000 * TOLD_WITHIN_S
        assert set(event) == {"channel", "type", "time_ms", "at"}
        request = two.told.attempts()[0]
        assert set(request.fields) == {"events"}
        if two.name != "grpc":
            assert request.headers.get_all("Content-Type") == ["application/json"]
            assert set(json.loads(request.body)["events"][0]) == {"channel", "type", "time_ms"}
        second.subscribe(channel)
        third.subscribe(channel)
        first.call(unsubscribe={"channel": channel})
        time.sleep(DELAY_S + 1.5)
        assert two.told.kinds(channel) == "occupied"


def test_M03_M04_M05_vacated(two, fresh):
    # Work for an empty channel would go on for ever; or be stopped and started whenever somebody reloads the page.
    leaves, returns, moves, late = (fresh("chat") for _ in range(4))
    one, other = two.nodes
    with Wire.connected(one) as ann, Wire.connected(other, "7") as bob:
        subscribe_all(ann, [leaves, returns, moves, late])
        for channel in (leaves, returns, moves, late):
            two.told.expect(channel, "occupied")
        left_at = time.time()
        subscribe_all(ann, [leaves, returns, moves, late], "unsubscribe")
        bob.subscribe(moves)
        # Somebody else comes and goes: the delay counts from there.
        bob.subscribe(late)
        time.sleep(DELAY_S / 2)
        ann.subscribe(returns)
        late_left_at = time.time()
        bob.call(unsubscribe={"channel": late})
        event = two.told.expect(leaves, "occupied vacated", within=DELAY_S + TOLD_WITHIN_S)
        assert event["at"] >= left_at + DELAY_S and event["time_ms"] >= (left_at + DELAY_S - 0.05) * 1000
        event = two.told.expect(late, "occupied vacated", within=DELAY_S + TOLD_WITHIN_S)
        assert event["at"] >= late_left_at + DELAY_S
        time.sleep(DELAY_S)
        assert two.told.kinds(returns) == two.told.kinds(moves) == "occupied"
        ann.subscribe(leaves)
        two.told.expect(leaves, "occupied vacated occupied")


@ONE_PLACE
def test_closed_connections_leave(two, fresh):
    # Most clients do not say goodbye.
    channels = [fresh("chat") for _ in range(3)]
    with Wire.connected(two.nodes[0]) as wire:
        subscribe_all(wire, channels)
        for channel in channels:
            two.told.expect(channel, "occupied")
    for channel in channels:
        two.told.expect(channel, "occupied vacated", within=DELAY_S + TOLD_WITHIN_S)


@ONE_PLACE
def test_M06_burst_of_joins(two, fresh):
    # The start of a popular event: each first subscriber of a node or core would be announced.
    channel = fresh("chat")
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire.connected(two.nodes[n % 2], str(n))) for n in range(200)]
        at_once(*(lambda wire=wire: wire.subscribe(channel) for wire in wires))
        two.told.expect(channel, "occupied")
        for node in two.nodes:
            assert node.api("presence_stats", channel=channel) == {"num_clients": 200, "num_users": 200}
        time.sleep(1.5)
        assert two.told.kinds(channel) == "occupied"
    two.told.expect(channel, "occupied vacated", within=DELAY_S + 2 * TOLD_WITHIN_S)


def test_M18_presence_of_such_channels(two, fresh):
    # Member lists would be empty in namespaces with the feature.
    channel, (one, other) = fresh("chat"), two.nodes
    assert one.api("presence", channel=channel) == {"presence": {}}
    claims = {"info": {"name": "Ann"}}
    with Wire.connected(one, claims=claims) as ann, Wire.connected(other, "7") as bob, Wire.connected(other, "7") as tab:
        for wire in (ann, bob, tab):
            wire.subscribe(channel)
        members = {
            wire.session["client"]: {"user": user, "client": wire.session["client"]}
            for wire, user in ((ann, "42"), (bob, "7"), (tab, "7"))
        }
        members[ann.session["client"]]["conn_info"] = {"name": "Ann"}
        # Longer than the entries live: they are refreshed.
        until = time.monotonic() + TTL_S + 1.5
        while time.monotonic() < until:
            for node in two.nodes:
                assert node.api("presence", channel=channel)["presence"] == members
                assert node.api("presence_stats", channel=channel) == {"num_clients": 3, "num_users": 2}
            assert ann.call(presence={"channel": channel})["presence"]["presence"] == members
            assert ann.call(presence_stats={"channel": channel})["presence_stats"] == {"num_clients": 3, "num_users": 2}
            time.sleep(0.2)
        tab.call(unsubscribe={"channel": channel})
        two_left = {"num_clients": 2, "num_users": 2}
        eventually(lambda: one.api("presence_stats", channel=channel) == two_left, what="one less")
    eventually(lambda: one.api("presence_stats", channel=channel) == {"num_clients": 0, "num_users": 0}, what="nobody")


@ONE_PLACE
def test_M27_the_backend_may_look(two, fresh):
    # A backend that checks who is there would find nobody on "occupied", or somebody on "vacated".
    channel, looked = fresh("chat"), []

    def look(call):
        # Channels of an earlier test may still become vacant.
        for event in call.fields["events"]:
            if event["channel"] == channel:
                looked.append((event["type"], two.nodes[1].api("presence_stats", channel=channel)["num_clients"]))
        return {"result": {}}

    two.told.backend["state"] = look
    with Wire.connected(two.nodes[0]) as wire:
        wire.subscribe(channel)
        eventually(lambda: looked == [("occupied", 1)], within=TOLD_WITHIN_S)
    eventually(lambda: looked == [("occupied", 1), ("vacated", 0)], within=DELAY_S + TOLD_WITHIN_S)


def test_M16_keys(two, fresh):
    # With an eviction policy for keys that expire, Redis would throw the state away; with one tag, all would be on one shard.
    channels = [fresh("chat") for _ in range(40)]
    with Wire.connected(two.nodes[0]) as wire:
        subscribe_all(wire, channels)
        for channel in channels:
            two.told.expect(channel, "occupied")
        ours = [key for key in two.keys() if "chstate" in key]
        assert ours and all(re.search(r"\{[^}]+\}", key) for key in ours)
        lasting = [key for key in ours if re.search(r"chstate\.(live|pending|events)\.", key)]
        assert any("chstate.live." in key for key in lasting)
        ttls = {client.ttl(key) for client in two.redis for key in client.keys("*chstate.live.*")}
        assert ttls == {-1}
        assert not [key for key in two.keys() if ".presence." in key and "chat:" in key]
        if two.name in ("two shards", "cluster"):
            assert all(client.keys("*chstate.live.*") for client in two.redis), "spread over all of them"


@ONE_PLACE
def test_M25_server_side_and_anonymous(two, fresh):
    # Personal channels of users who are online would not be announced.
    personal, given, anonymous, hidden = (fresh("chat") for _ in range(4))
    node = two.nodes[0]
    with Wire(node) as wire, Wire.connected(node, "") as nobody:
        wire.call(connect={"token": token("42", channels=[personal])})
        node.api("subscribe", user="42", channel=given)
        node.api("subscribe", user="42", channel=hidden, override={"presence": {"value": False}})
        nobody.subscribe(anonymous)
        for channel in (personal, given, anonymous):
            two.told.expect(channel, "occupied")
        node.api("unsubscribe", user="42", channel=given)
        two.told.expect(given, "occupied vacated", within=DELAY_S + TOLD_WITHIN_S)
    two.told.expect(personal, "occupied vacated", within=DELAY_S + TOLD_WITHIN_S)
    assert two.told.kinds(hidden) == ""


@ONE_PLACE
def test_M14_other_namespaces(two, fresh):
    # Backends would be told of channels that they did not ask for.
    silent, plain, chat = fresh("silent"), fresh("presence"), fresh("chat")
    with Wire.connected(two.nodes[0]) as wire:
        subscribe_all(wire, [silent, plain, chat])
        two.told.expect(chat, "occupied")
    two.told.expect(chat, "occupied vacated", within=DELAY_S + TOLD_WITHIN_S)
    # Channels of an earlier test may still become vacant.
    assert two.told.kinds(silent) == two.told.kinds(plain) == ""


def test_node_stops(fresh):
    # A deployment would leave channels occupied for a minute, or tell of empty ones whose clients come back at once.
    delay_s, lasting = 3, {"presence_ttl": "60s"}
    with RedisServer() as server, told_by(2, server.address, delay=f"{delay_s}s", redis=lasting) as ((one, other), told):
        gone, moved = fresh("chat"), fresh("chat")
        with Wire.connected(other) as leaving, Wire.connected(one) as staying:
            subscribe_all(leaving, [gone, moved])
            told.expect(gone, "occupied")
            told.expect(moved, "occupied")
            # Not `stop`: the process waits for clients that do not close their end, longer than the delay.
            other.process.send_signal(signal.SIGTERM)
            nobody = {"num_clients": 0, "num_users": 0}
            for channel in (gone, moved):
                eventually(lambda c=channel: one.api("presence_stats", channel=c) == nobody, what="they have left")
            staying.subscribe(moved)
            told.expect(gone, "occupied vacated", within=delay_s + TOLD_WITHIN_S)
            time.sleep(1)
            assert told.kinds(moved) == "occupied"
            assert other.process.wait(timeout=10) == 0


@pytest.mark.parametrize("partitions", [1, 512])
def test_M20_M08_many_channels_and_partitions(partitions, fresh):
    # 5,000 channels at once and a slow backend: one request each would take minutes, and some would be lost.
    with RedisServer() as server, told_by(2, server.address, num_partitions=partitions) as (nodes, told):
        told.late_s = 0.05
        client = server.client(decode_responses=True)
        channels = [fresh("chat") for _ in range(5000)]
        before = nodes[0].memory_bytes()
        with Wire.connected(nodes[0]) as one, Wire.connected(nodes[1]) as other:
            subscribe_all(one, channels[::2])
            subscribe_all(other, channels[1::2])
            eventually(lambda: len(told.events) >= 5000, within=40, what="5,000 events")
            assert {told_channel["channel"] for told_channel in told.events} == set(channels)
            assert len(told.events) == 5000
            assert max(len(call.fields["events"]) for call in told.attempts()) > 1
            assert max(len(call.fields["events"]) for call in told.attempts()) <= 100
            tags = {re.search(r"\{([^}]+)\}", key)[1] for key in client.keys("*chstate*")}
            assert len(tags) <= partitions and (len(tags) > 400 or partitions == 1)
            assert nodes[0].memory_bytes() < before + (64 << 20)


def test_M07_order_of_each_channel(fresh):
    # A backend would end with the wrong state for good.
    rounds, channels = 4, [fresh("chat") for _ in range(100)]
    with RedisServer() as server, told_by(2, server.address, delay="200ms", num_partitions=16) as (nodes, told):
        with Wire.connected(nodes[0]) as one, Wire.connected(nodes[1]) as other:
            for turn in range(rounds):
                wire = (one, other)[turn % 2]
                subscribe_all(wire, channels)
                for channel in channels:
                    eventually(lambda c=channel, n=turn: told.kinds(c).count("occupied") == n + 1, within=TOLD_WITHIN_S)
                subscribe_all(wire, channels, "unsubscribe")
                for channel in channels:
                    eventually(lambda c=channel, n=turn: told.kinds(c).count("vacated") == n + 1, within=TOLD_WITHIN_S)
        for channel in channels:
            assert told.kinds(channel) == " ".join(["occupied vacated"] * rounds)
            times = [event["time_ms"] for event in told.of(channel)]
            assert times == sorted(times)


def test_M23_wanted_events(fresh):
    # A backend that cares only for the end would be told of each beginning.
    with RedisServer() as server, told_by(1, server.address, namespace={"state_events": ["vacated"]}) as ((node,), told):
        channel, again = fresh("chat"), fresh("chat")
        with Wire.connected(node) as wire:
            subscribe_all(wire, [channel, again])
            left_at = time.time()
            subscribe_all(wire, [channel, again], "unsubscribe")
            wire.subscribe(again)
            event = told.expect(channel, "vacated", within=DELAY_S + TOLD_WITHIN_S)
            assert event["at"] >= left_at + DELAY_S
            time.sleep(1)
            assert told.kinds(again) == ""


def test_named_proxy_and_prefix(fresh):
    # Two installations on one Redis would tell each other's channels, and two parts of one application the wrong part.
    channel = fresh("chat")
    with RedisServer() as server, told_by(1, server.address, redis={"prefix": "first"}) as ((first,), told):
        with Backend() as named:
            other = Told(named)
            changes = {"proxies": [{"name": "states", "endpoint": named.url("state")}]}
            options = telling(
                told.backend,
                server.address,
                redis={"prefix": "second"},
                namespace={"state_proxy_name": "states"},
                changes=changes,
            )
            with running(options) as second, Wire.connected(first) as one, Wire.connected(second) as two:
                one.subscribe(channel)
                told.expect(channel, "occupied")
                two.subscribe(channel)
                other.expect(channel, "occupied")
                one.call(unsubscribe={"channel": channel})
                told.expect(channel, "occupied vacated", within=DELAY_S + TOLD_WITHIN_S)
                assert other.kinds(channel) == "occupied"


def test_M19_a_slot_moves(fresh):
    # Resharding a cluster would lose events or tell them twice.
    with Cluster() as cluster, told_by(2, cluster.url, num_partitions=4) as (nodes, told):
        channels = [fresh("chat") for _ in range(60)]
        with Wire.connected(nodes[0]) as wire, Wire.connected(nodes[1]) as other:
            subscribe_all(wire, channels)
            for channel in channels:
                told.expect(channel, "occupied")
            lives = {key for keys in cluster.keys().values() for key in keys if "chstate.live." in key}
            more = []

            def meanwhile():
                more.append(fresh("chat"))
                other.send({"id": 1000 + len(more), "subscribe": {"channel": more[-1]}})

            for slot in {cluster.slot(key) for key in lives}:
                owner = cluster.owner(slot)
                to = next(server for server in cluster.now_primaries() if server is not owner)
                cluster.migrate(slot, to, meanwhile=meanwhile)
            joined = [channel for n, channel in enumerate(more) if "subscribe" in other.reply(1001 + n, 10)]
            subscribe_all(wire, channels, "unsubscribe")
            for channel in channels:
                told.expect(channel, "occupied vacated", within=DELAY_S + 2 * TOLD_WITHIN_S)
            for channel in joined:
                told.expect(channel, "occupied")
