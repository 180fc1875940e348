"""Several nodes over one Redis: who is there, and commands and questions that reach all of them."""

import json
import signal
import time

import pytest
from harness import Gyre, Wire, eventually
from harness.node import API_KEY
from harness.redis import RedisServer

# A dead node is dropped by a search every 9 s for those silent for 7 s; one more for slow machines.
GONE_WITHIN_S = 17
# A survey takes at most 10 s.
SURVEY_WITHIN_S = 13


@pytest.fixture(scope="module")
def shared_redis():
    """A Redis that no test breaks."""
    with RedisServer() as server:
        yield server


def over(*shards, name):
    """Configuration of a node over these shards."""
    return {"engine": {"type": "redis", "redis": {"address": [redis.address for redis in shards]}}, "node": {"name": name}}


def started(*shards, count=2):
    """Nodes of several core counts over the same shards; whoever calls this ends them."""
    nodes = [Gyre(over(*shards, name=f"node{n}"), cores=1 + n % 2) for n in range(count)]
    try:
        for node in nodes:
            node.start()
        eventually(lambda: all(len(known(node)) == count for node in nodes), within=5, what="nodes that know each other")
    except BaseException:
        end(nodes)
        raise
    return nodes


def end(nodes):
    for node in nodes:
        if node.process is not None and node.process.poll() is None:
            node.process.send_signal(signal.SIGCONT)
        node.end()


@pytest.fixture(scope="module")
def pair(shared_redis):
    """Two nodes that no test breaks."""
    nodes = started(shared_redis)
    try:
        yield nodes
        for node in nodes:
            node.stop()
    finally:
        end(nodes)


@pytest.fixture
def breakable():
    """A Redis and two nodes for one test."""
    with RedisServer() as redis:
        nodes = started(redis)
        try:
            yield redis, nodes
        finally:
            end(nodes)


def known(node):
    """By name, what `info` says of each node."""
    return {entry["name"]: entry for entry in node.api("info")["nodes"]}


def names(node):
    return sorted(known(node))


def patiently(node, method, within, **request):
    """The answer of a call that may take long, and how long it took."""
    begun = time.monotonic()
    headers = {"X-API-Key": API_KEY, "Content-Type": "application/json"}
    _, _, answer = node.http("POST", f"/api/{method}", json.dumps(request), headers, within=within)
    return json.loads(answer), time.monotonic() - begun


def metric(node, series):
    text = node.http("GET", "/metrics")[2].decode()
    return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(series + " "))


# ---- info


def test_H14_info_shows_all_nodes(pair, fresh):
    # Dashboards would show one node's share of the clients as if it were all.
    first, second = pair
    channel = fresh("open")
    with Wire.connected(second, "info-user") as wire:
        wire.subscribe(channel)

        def shown():
            entry = known(first)["node1"]
            return entry.get("num_clients") == 1 and entry.get("num_subs") == 1 and entry.get("num_channels") == 1

        eventually(shown, within=5, what="counts of the other node")
        entries = known(first)
        assert entries["node1"]["uid"] == known(second)["node1"]["uid"] != entries["node0"]["uid"]
        assert entries["node1"]["version"].endswith(" OSS") and entries["node1"]["num_users"] == 1
        eventually(lambda: known(first)["node1"].get("uptime", 0) >= 2, within=8, what="uptime that grows")
    for node in pair:
        assert metric(node, "centrifugo_node_num_nodes") == 2
        for direction in ("sent", "received"):
            series = f'centrifugo_node_messages_{direction}_count{{type="control",channel_namespace=""}}'
            assert metric(node, series) > 0


def test_H14_a_new_node_knows_all_at_once(pair, shared_redis):
    # Each deployment would show a cluster with holes for seconds.
    third = Gyre(over(shared_redis, name="node2"))
    try:
        third.start()
        eventually(lambda: names(third) == ["node0", "node1", "node2"], within=2, what="all nodes")
        eventually(lambda: names(pair[0]) == ["node0", "node1", "node2"], within=2, what="the new node")
        third.stop()
        eventually(lambda: names(pair[0]) == ["node0", "node1"], within=1, what="its end")
    finally:
        third.end()


def test_J17_a_stopped_node_is_gone_at_once(breakable):
    # After each deployment `channels` would fail and `info` would show the old processes.
    _, (first, second) = breakable
    with Wire.connected(second) as wire:
        second.process.send_signal(signal.SIGTERM)
        eventually(lambda: names(first) == ["node0"], within=2, what="the end of the other node")
        assert wire.closed() == (3001, "shutdown")
    assert second.exit_code() == 0
    assert names(first) == ["node0"]


def test_J17_a_killed_node_is_gone_soon(breakable):
    # A node that died would be counted for ever, and every survey fail.
    _, (first, second) = breakable
    second.process.kill()
    begun = time.monotonic()
    eventually(lambda: names(first) == ["node0"], within=GONE_WITHIN_S, what="the end of the other node")
    assert time.monotonic() - begun > 3, "one announcement that was lost must not be taken for a death"
    assert first.num_clients("open:a") == 0, "nobody is waited for"


# ---- commands


def test_J20_disconnect_reaches_other_nodes(pair):
    # A banned user stays connected when the load balancer put them elsewhere.
    first, second = pair
    with Wire.connected(second, "banned") as there, Wire.connected(first, "banned") as here:
        with Wire.connected(second, "other") as other:
            assert first.api("disconnect", user="banned") == {}
            assert there.closed(2) == here.closed(2) == (3503, "force disconnect")
            other.quiet()


def test_J20_disconnect_with_its_options(pair):
    # The code, the spared connection or the chosen one would count on one node only.
    first, second = pair
    wires = [Wire.connected(second, "many") for _ in range(4)]
    spared, chosen, *rest = wires
    try:
        request = {"user": "many", "client": chosen.session["client"]}
        first.api("disconnect", **request, disconnect={"code": 4501, "reason": "chosen"})
        assert chosen.closed(2) == (4501, "chosen")
        first.api("disconnect", user="many", whitelist=[spared.session["client"]])
        assert [wire.closed(2) for wire in rest] == [(3503, "force disconnect")] * 2
        spared.quiet()
    finally:
        for wire in wires:
            wire.__exit__()


def test_J20_anonymous_users_are_a_user(pair):
    # Kicking anonymous users would kick everybody on the other nodes.
    first, second = pair
    with Wire.connected(second, "") as nobody, Wire.connected(second, "somebody") as somebody:
        first.api("disconnect", user="")
        assert nobody.closed(2) == (3503, "force disconnect")
        somebody.quiet()


def test_J20_unsubscribe_reaches_other_nodes(pair, fresh):
    # A user removed from a room would go on reading it.
    first, second = pair
    channel, kept = fresh("open"), fresh("open")
    with Wire.connected(second, "member") as one, Wire.connected(second, "member") as two:
        for wire in (one, two):
            wire.subscribe(channel)
            wire.subscribe(kept)
        first.api("unsubscribe", user="member", channel=channel, client=one.session["client"])
        push = one.push("unsubscribe", 2)
        assert push["channel"] == channel and push["unsubscribe"] == {"code": 2000, "reason": "server unsubscribe"}
        two.quiet()
        first.api("unsubscribe", user="member", channel=channel)
        assert two.push("unsubscribe", 2)["channel"] == channel
        # The node that acts counts as well, whichever it is.
        eventually(lambda: first.num_clients(channel) == 0 and first.num_clients(kept) == 2, within=2)


def test_J20_commands_survive_many_at_once(pair):
    # One lost command of a burst is a user who stays.
    first, second = pair
    wires = [Wire.connected(second, f"burst{n}") for n in range(100)]
    try:
        for n in range(100):
            first.api("disconnect", user=f"burst{n}")
        assert [wire.closed(5) for wire in wires] == [(3503, "force disconnect")] * 100
    finally:
        for wire in wires:
            wire.__exit__()


# ---- surveys


def test_H13_channels_of_all_nodes(pair, fresh):
    # Rooms with members on other nodes would look empty.
    first, second = pair
    common, alone = fresh("open"), fresh("hist")
    with Wire.connected(first, "1") as one, Wire.connected(second, "2") as two, Wire.connected(second, "3") as three:
        for wire in (one, two, three):
            wire.subscribe(common)
        three.subscribe(alone)
        for node in pair:
            everything = node.api("channels")["channels"]
            assert everything[common] == {"num_clients": 3} and everything[alone] == {"num_clients": 1}
            assert set(node.api("channels", pattern="hist:*")["channels"]) == {alone}
            assert node.api("channels", pattern="no*such")["channels"] == {}
            assert node.api_error("channels", pattern="[") == 100
            series = "centrifugo_node_survey_duration_seconds"
            asked = 'op="channels"'
            eventually(lambda: metric(node, f"{series}_count{{{asked}}}") >= 3, within=5, what="surveys counted")
            assert metric(node, f"{series}_sum{{{asked}}}") < 10
            assert metric(node, f'{series}_histogram_bucket{{{asked},le="+Inf"}}') >= 3


def test_H13_long_answers(pair):
    # With many channels the answer of a node would be cut, or Redis drop the node that asks.
    first, second = pair
    # 330 kB of names in all; a client may have 128 channels.
    names = [[f"open:{'x' * 220}{client}.{n}" for n in range(120)] for client in range(12)]
    wires = [Wire.connected(second, "many") for _ in names]
    try:
        for wire, channels in zip(wires, names, strict=True):
            wire.send(*({"id": 100 + n, "subscribe": {"channel": channel}} for n, channel in enumerate(channels)))
        for wire in wires:
            assert all("subscribe" in wire.reply(100 + n, within=20) for n in range(120))
        found = first.api("channels", pattern="open:xxx*")["channels"]
        assert found == {channel: {"num_clients": 1} for channels in names for channel in channels}
    finally:
        for wire in wires:
            wire.__exit__()


def test_H13_a_node_that_does_not_answer(breakable):
    # The caller would take a part of the subscribers for all, or wait for ever.
    _, (first, second) = breakable
    second.process.send_signal(signal.SIGSTOP)
    answer, took = patiently(first, "channels", SURVEY_WITHIN_S)
    assert answer.get("error", {}).get("code") == 100, answer
    assert 3 < took < SURVEY_WITHIN_S
    eventually(lambda: names(first) == ["node0"], within=GONE_WITHIN_S, what="the end of the silent node")
    assert first.api("channels")["channels"] == {}
    second.process.send_signal(signal.SIGCONT)
    for node in (first, second):
        eventually(lambda: names(node) == ["node0", "node1"], within=6, what="both nodes")
        eventually(lambda: "result" in patiently(node, "channels", SURVEY_WITHIN_S)[0], within=6, what="a survey that works")


# ---- without Redis


def test_J20_without_redis(breakable):
    # The caller would believe that a user was kicked everywhere.
    redis, (first, second) = breakable
    with Wire.connected(first, "42") as here, Wire.connected(second, "42") as there:
        redis.kill()
        begun = time.monotonic()
        assert first.api_error("disconnect", user="42") == 100
        assert time.monotonic() - begun < 6
        assert here.closed(2) == (3503, "force disconnect"), "here it is done"
        assert first.api_error("unsubscribe", user="42", channel="open:x") == 100
        assert first.api_error("channels") == 100, "the other node cannot be asked"
        assert "node0" in names(first)
        there.quiet()
        eventually(lambda: names(first) == ["node0"], within=GONE_WITHIN_S, what="a node without the others")
        assert first.api("channels")["channels"] == {}, "nobody else is known"
        redis.start()
        for node in (first, second):
            eventually(lambda: names(node) == ["node0", "node1"], within=8, what="both nodes")
        assert first.api("disconnect", user="42") == {}
        assert there.closed(2) == (3503, "force disconnect")


def test_J20_one_shard_of_two_is_enough():
    # Losing one Redis would cut the nodes off from each other although another one works.
    with RedisServer() as one, RedisServer() as two:
        nodes = first, second = started(one, two)
        wires = [Wire.connected(second, f"user{n}") for n in range(20)]
        try:
            for n in range(10):
                first.api("disconnect", user=f"user{n}")
            one.kill()
            # What is on its way to a Redis that dies fails, and only that.
            eventually(lambda: "error" not in first.api_reply("disconnect", {"user": "nobody"}), what="a broadcast")
            for n in range(10, 20):
                first.api("disconnect", user=f"user{n}")
            assert [wire.closed(5) for wire in wires] == [(3503, "force disconnect")] * 20
            assert names(first) == names(second) == ["node0", "node1"]
            assert first.api("channels")["channels"] == {}
        finally:
            for wire in wires:
                wire.__exit__()
            end(nodes)


def test_J20_stopping_without_redis(breakable):
    # A node could not be stopped while Redis is down.
    redis, (first, second) = breakable
    redis.kill()
    begun = time.monotonic()
    first.stop()
    assert time.monotonic() - begun < 5
    redis.start()
    redis.pause()
    begun = time.monotonic()
    second.stop()
    assert time.monotonic() - begun < 8


def test_J21_strange_messages_are_ignored(pair, shared_redis):
    # Whoever else publishes to the Redis could stop every node.
    first, second = pair
    client = shared_redis.client()
    uid = known(first)["node0"]["uid"]
    for payload in (b"", b"\x00", b"gyre\x01", b"gyre\x01\xff\xff", b"\x0a\x05other\x12\x00", b"x" * 100_000):
        for channel in ("centrifugo.control", f"centrifugo.node.{uid}"):
            assert client.publish(channel, payload) >= 1, f"nobody listens to {channel}"
    for node in pair:
        assert names(node) == ["node0", "node1"]
        entry = node.wait_log("ignored a message", level="warn")
        assert entry
        assert len([e for e in node.logs("warn") if "ignored a message" in json.dumps(e)]) == 1, "not one line for each"
    with Wire.connected(second, "42") as wire:
        first.api("disconnect", user="42")
        assert wire.closed(2) == (3503, "force disconnect")
