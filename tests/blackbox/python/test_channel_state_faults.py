"""Channel state events when something fails: the backend, a node, Redis."""

import contextlib
import itertools
import time

import pytest
from harness import Wire, eventually, running
from harness.backend import HANG, HANG_UP, Status, error
from harness.redis import RedisServer
from harness.state import DELAY_S, LEASE_S, TOLD_WITHIN_S, TTL_S, Told, subscribe_all, telling, told_by
from harness.wire import attended

LAG = "centrifugo_channel_state_events_queue_consuming_lag_milliseconds"
DROPPED = r"gyre_channel_state\w*dropped\w*"


def keys_of(call):
    """What tells one batch from another."""
    return [(event["channel"], event["type"], event["time_ms"]) for event in call.fields["events"]]


def test_M09_M26_backend_fails_for_a_while(fresh):
    # A deployment of the backend would lose events, or be met by a flood of retries; and nobody would see the queue.
    channels = [fresh("chat") for _ in range(20)]
    with RedisServer() as server, told_by(1, server.address, num_partitions=1) as ((node,), told):
        with Wire.connected(node) as wire:
            told.refuse = Status(500)
            wire.subscribe(channels[0])
            began = time.time()
            told.backend.wait("state")
            subscribe_all(wire, channels[1:])
            eventually(lambda: len(told.attempts()) >= 6, within=15, what="retries")
            lag = node.metric(LAG)
            assert lag >= 1000 * (time.time() - began) - 2500, "the age of the oldest event"
            told.refuse = None
            for channel in channels:
                told.expect(channel, "occupied", within=15)
            attempts = told.attempts()
            failed = attempts[:6]
            assert len({str(keys_of(call)) for call in failed}) == 1, "the same batch again"
            gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(failed)]
            # 100 ms and twice as long each time, with jitter.
            for gap, planned in zip(gaps, (0.1, 0.2, 0.4, 0.8, 1.6), strict=True):
                assert 0.4 * planned <= gap <= 1.6 * planned + 0.5, gaps
            times = [event["time_ms"] for event in told.events]
            assert times == sorted(times) and times[0] < (began + 1.5) * 1000, "when it was queued, not when it was told"
            eventually(lambda: node.metric(LAG) == 0, within=5, what="no lag")
            node.wait_log("channel state events are delivered again", level="info", within=12)
            (complaint,) = node.complaints()
            assert complaint["level"] == "warn" and "channel state" in complaint["message"], "once per outage"
            assert "500" in complaint["error"] and complaint["endpoint"], "what it says, and which one it is"


@pytest.mark.parametrize(
    "answer",
    [error(1, "x"), Status(204, b""), Status(200, b"<html>"), Status(403), HANG_UP],
    ids=["error", "no content", "no json", "forbidden", "hang up"],
)
def test_M10_not_an_answer(answer, fresh, one_told):
    # What the backend did not take would be lost.
    (node,), told = one_told
    told.reset()
    told.refuse = answer
    channel = fresh("chat")
    with Wire.connected(node) as wire:
        wire.subscribe(channel)
        told.backend.wait("state", 3)
        told.refuse = None
        told.expect(channel, "occupied")


@pytest.mark.parametrize("body", [b"{}", b'{"result":{}}', b'{"result":{},"more":1}'])
def test_an_answer(body, fresh, one_told):
    # Backends that say as little as possible would be told again and again.
    (node,), told = one_told
    told.reset()
    told.backend["state"] = Status(200, body)
    with Wire.connected(node) as wire:
        wire.subscribe(fresh("chat"))
        told.backend.wait("state")
        time.sleep(0.7)
        assert len(told.attempts()) == 1


@pytest.fixture(scope="module")
def one_told():
    """A node and its backend."""
    with RedisServer() as server, told_by(1, server.address, delay="60s") as made:
        yield made


def test_backend_hangs_and_one_partition_does_not_hold_up_clients(fresh):
    # A backend that stands still would stop subscribing.
    with RedisServer() as server, told_by(1, server.address) as ((node,), told):
        told.backend["state"] = HANG
        with Wire.connected(node) as wire:
            for _ in range(300):
                began = time.monotonic()
                wire.subscribe(fresh("chat"))
                assert time.monotonic() - began < 1
            told.backend.wait("state")
            told.reset()
            eventually(lambda: len(told.events) >= 300, within=15, what="all of them after the timeout")
            assert len({event["channel"] for event in told.events}) == 300


def test_M21_full_queue(fresh):
    # A backend that is gone for days would fill Redis; the oldest events would be thrown away for newer ones.
    with RedisServer() as server, told_by(1, server.address, num_partitions=1, event_queue_limit=10) as ((node,), told):
        told.refuse = Status(500)
        channels = [fresh("chat") for _ in range(30)]
        with Wire.connected(node) as wire:
            for channel in channels:
                wire.subscribe(channel)
            client = server.client(decode_responses=True)
            (queue,) = client.keys("*chstate.events.*")
            assert client.xlen(queue) == 10
            eventually(lambda: node.metric(DROPPED) == 20, what="the drop counter")
            node.wait_log("state", "full", level="warn")
            told.refuse = None
            for channel in channels[:10]:
                told.expect(channel, "occupied", within=25)
            # What was dropped has happened all the same: there is no second "occupied".
            later = fresh("chat")
            wire.subscribe(later)
            told.expect(later, "occupied")
            assert [event["channel"] for event in told.events] == [*channels[:10], later]


def test_M12_M13_node_killed(fresh):
    # Channels of a node that died would stay occupied for ever; those whose clients moved on would flap.
    with RedisServer() as server, told_by(2, server.address) as ((one, other), told):
        gone, moved = [[fresh("chat") for _ in range(20)] for _ in range(2)]
        with Wire.connected(other) as wire, Wire.connected(one) as staying:
            subscribe_all(wire, gone + moved)
            for channel in gone + moved:
                told.expect(channel, "occupied")
            killed_at = time.time()
            other.process.kill()
            other.process.wait()
            subscribe_all(staying, moved)
            for channel in gone:
                event = told.expect(channel, "occupied vacated", within=TTL_S + DELAY_S + LEASE_S + 10)
                # A second before the kill it may have been refreshed last.
                assert event["at"] >= killed_at + TTL_S - 1.5 + DELAY_S
            time.sleep(DELAY_S + 1)
            for channel in moved:
                assert told.kinds(channel) == "occupied"


def test_all_nodes_gone_for_a_while(fresh):
    # After a night without nodes, channels of yesterday would stay occupied.
    with RedisServer() as server:
        channel, again = fresh("chat"), fresh("chat")
        with told_by(1, server.address) as ((node,), told):
            with Wire.connected(node) as wire:
                subscribe_all(wire, [channel, again])
                told.expect(channel, "occupied")
                told.expect(again, "occupied")
                node.process.kill()
                node.process.wait()
            time.sleep(TTL_S)
            with running(telling(told.backend, server.address)) as second, Wire.connected(second) as wire:
                wire.subscribe(again)
                told.expect(channel, "occupied vacated", within=TTL_S + DELAY_S + LEASE_S + 10)
                time.sleep(1)
                assert told.kinds(again) == "occupied"


def test_M24_redis_is_away(fresh):
    # All channels would be told vacated and occupied again because Redis was away, not the clients.
    with contextlib.ExitStack() as stack:
        # Two installations at the same time: one loses its connections, the other waits for answers.
        killed, paused = [stack.enter_context(RedisServer(keep=True)) for _ in range(2)]
        places = [stack.enter_context(told_by(2, server.address, cores=(1, 1))) for server in (killed, paused)]
        wires = [[stack.enter_context(Wire.connected(node)) for node in nodes] for nodes, _ in places]
        channels = [fresh("chat") for _ in range(20)]
        for (_, told), (one, other) in zip(places, wires, strict=True):
            subscribe_all(one, channels[:10])
            subscribe_all(other, channels[10:])
            for channel in channels:
                told.expect(channel, "occupied")
        # Shorter than entries live, then longer than both that and the hand-over of a lease.
        for away_s in (1.5, 17):
            killed.kill()
            paused.pause()
            with attended(*wires[0], *wires[1]):
                time.sleep(away_s)
                killed.start()
                paused.resume()
                time.sleep(6)
        for _, told in places:
            assert {told.kinds(channel) for channel in channels} == {"occupied"}
        # And it goes on.
        for (_, told), (one, _) in zip(places, wires, strict=True):
            late = fresh("chat")
            eventually(lambda wire=one, c=late: "subscribe" in wire.call(subscribe={"channel": c}), within=5)
            told.expect(late, "occupied", within=10)
            subscribe_all(one, channels[:10], "unsubscribe")
        for _, told in places:
            for channel in channels[:10]:
                told.expect(channel, "occupied vacated", within=30)


@pytest.mark.parametrize("away_s", [6, 17])
def test_leaves_while_redis_is_away(away_s, fresh):
    # The backend would take a channel for occupied for a minute more; or a channel whose client is back for vacated.
    with contextlib.ExitStack() as stack:
        killed, paused = [stack.enter_context(RedisServer(keep=True)) for _ in range(2)]
        # Entries of 17 s run out in the longer outage, those of clients that stay as well.
        redis = {"presence_ttl": "60s" if away_s == 6 else "17s"}
        places = [stack.enter_context(told_by(2, server.address, cores=(1, 2), redis=redis)) for server in (killed, paused)]
        left, gone, both, again = [[fresh("chat") for _ in range(6)] for _ in range(4)]
        wires = []
        for nodes, told in places:
            one, other, goes = [stack.enter_context(Wire.connected(nodes[n])) for n in (0, 1, 1)]
            subscribe_all(one, left + both + again)
            subscribe_all(other, both)
            subscribe_all(goes, gone + both)
            for channel in left + gone + both + again:
                told.expect(channel, "occupied", within=15)
            wires.append((one, other, goes))
        killed.kill()
        paused.pause()
        for one, *_ in wires:
            for channel in left + again:
                one.call(unsubscribe={"channel": channel})
        with attended(*(wire for some in wires for wire in some)):
            time.sleep(away_s)
        for *_, goes in wires:
            goes.__exit__()
        killed.start()
        paused.resume()
        for one, _, _ in wires:
            for channel in again:
                eventually(lambda w=one, c=channel: "subscribe" in w.call(subscribe={"channel": c}), within=8, what="a channel")
        # Longer than 15 s: nothing is told before clients had an interval to show that they are there, and 3 s.
        within = 8 + DELAY_S + TOLD_WITHIN_S + (4 if away_s > 15 else 0)
        deadline = time.monotonic() + within
        with attended(*(wire for one, other, _ in wires for wire in (one, other))):
            for nodes, told in places:
                for channel in left + gone:
                    told.expect(channel, "occupied vacated", within=max(0.1, deadline - time.monotonic()))
                    assert nodes[0].api("presence", channel=channel)["presence"] == {}
            time.sleep(DELAY_S + 2)
            for (nodes, told), (one, other, _) in zip(places, wires, strict=True):
                assert {told.kinds(channel) for channel in both + again} == {"occupied"}
                there = {channel: [one.session["client"]] for channel in again}
                there.update({channel: [one.session["client"], other.session["client"]] for channel in both})
                for channel, clients in there.items():
                    assert sorted(nodes[0].api("presence", channel=channel)["presence"]) == sorted(clients)


def test_redis_forgets(fresh):
    # After a loss of data the backend would never hear of channels again.
    with RedisServer() as server, told_by(1, server.address) as ((node,), told), Wire.connected(node) as wire:
        channel, empty = fresh("chat"), fresh("chat")
        subscribe_all(wire, [channel, empty])
        told.expect(empty, "occupied")
        told.expect(channel, "occupied")
        wire.call(unsubscribe={"channel": empty})
        server.client().flushall()
        told.expect(channel, "occupied occupied")
        assert told.kinds(empty) == "occupied"
        wire.call(unsubscribe={"channel": channel})
        told.expect(channel, "occupied occupied vacated", within=DELAY_S + 2 * TOLD_WITHIN_S)


def test_idle_partitions_cost_little():
    # A node that has nothing to do would keep Redis and a core busy.
    with RedisServer() as server, told_by(1, server.address) as ((node,), told):
        client = server.client()
        time.sleep(2)
        used, before = node.cpu_s(), client.info("stats")["total_commands_processed"]
        time.sleep(4)
        assert node.cpu_s() - used < 0.4
        # 128 partitions, four looks a second, each a script with seven commands or eight.
        assert client.info("stats")["total_commands_processed"] - before < 4 * 128 * 4 * 10
        assert not told.events


def test_backend_is_there_later_than_the_node(fresh):
    # Nodes would have to be started in the right order.
    with RedisServer() as server, told_by(1, server.address) as ((node,), told), Wire.connected(node) as wire:
        told.backend.stop()
        channel = fresh("chat")
        wire.subscribe(channel)
        time.sleep(1)
        told.backend.start()
        told.expect(channel, "occupied", within=5)


def test_only_one_node_tells(fresh):
    # With ten nodes each event would come ten times.
    with RedisServer() as server, told_by(3, server.address, cores=(1, 2, 4)) as (nodes, told), contextlib.ExitStack() as stack:
        assert isinstance(told, Told)
        channels = [fresh("chat") for _ in range(300)]
        wires = [stack.enter_context(Wire.connected(node)) for node in nodes]
        for wire in wires:
            subscribe_all(wire, channels)
        eventually(lambda: len(told.events) >= 300, within=10)
        for wire in wires:
            subscribe_all(wire, channels, "unsubscribe")
        eventually(lambda: len(told.events) >= 600, within=DELAY_S + 10)
        time.sleep(1)
        assert len(told.events) == 600
        assert {told.kinds(channel) for channel in channels} == {"occupied vacated"}
