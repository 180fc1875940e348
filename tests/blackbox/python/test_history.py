"""History, positions, recovery: what a client that was away gets back. Raw frames, every core count."""

import threading
import time

import pytest
from harness import Wire, eventually, running


def offsets(publications):
    return [publication["offset"] for publication in publications]


def fill(node, channel, count, first=1):
    """Publishes numbers; offset n carries n. Returns the epoch."""
    for n in range(first, first + count):
        result = node.publish(channel, n)
        assert result["offset"] == n
    return result["epoch"]


def test_F01_history_size_and_ttl(node, fresh):
    # Late comers would get too much, or memory would grow for ever.
    channel = fresh("short")
    epoch = fill(node, channel, 5)
    kept = node.api("history", channel=channel, limit=-1)
    assert (offsets(kept["publications"]), kept["offset"], kept["epoch"]) == ([3, 4, 5], 5, epoch)
    assert [publication["data"] for publication in kept["publications"]] == [3, 4, 5]

    def is_expired():
        return node.api("history", channel=channel, limit=-1) == {"publications": [], "offset": 5, "epoch": epoch}

    eventually(is_expired, within=8, what="expired history")


def test_F02_client_history(node, fresh):
    # Chats could not load older messages.
    channel = fresh("hist")
    epoch = fill(node, channel, 5)
    with Wire.connected(node) as wire:
        assert wire.error(history={"channel": channel, "limit": 2}) == 103, "only for subscribers"
        wire.subscribe(channel)
        result = wire.call(history={"channel": channel, "limit": 2})["history"]
        expected = [{"data": 1, "offset": 1}, {"data": 2, "offset": 2}]
        assert result == {"publications": expected, "offset": 5, "epoch": epoch}


def test_F02_client_history_limit_is_capped(node, fresh):
    # One call could ask the node for its whole memory.
    channel = fresh("hist")
    fill(node, channel, 320)
    with Wire.connected(node) as wire:
        wire.subscribe(channel)
        for limit in (1000, -1):
            page = wire.call(history={"channel": channel, "limit": limit})["history"]["publications"]
            assert offsets(page) == list(range(1, 301))
    assert len(node.api("history", channel=channel, limit=-1)["publications"]) == 320, "the backend is not limited"


def test_F03_pagination(node, fresh):
    # Endless lists would skip or repeat messages.
    channel = fresh("histclient")
    epoch = fill(node, channel, 5)
    with Wire.connected(node) as wire:
        seen, since = [], {"offset": 0, "epoch": epoch}
        while page := wire.call(history={"channel": channel, "limit": 2, "since": since})["history"]["publications"]:
            seen += offsets(page)
            since = {"offset": seen[-1], "epoch": epoch}
        assert seen == [1, 2, 3, 4, 5]


def test_F04_F05_F06_reverse_position_and_wrong_epoch(node, fresh):
    # The newest page, the cheap look at the position, and a restarted stream would be wrong.
    channel = fresh("histclient")
    epoch = fill(node, channel, 5)
    with Wire.connected(node) as wire:
        reverse = wire.call(history={"channel": channel, "limit": 2, "reverse": True})["history"]
        assert offsets(reverse["publications"]) == [5, 4]
        older = {"channel": channel, "limit": 2, "reverse": True, "since": {"offset": 4, "epoch": epoch}}
        assert offsets(wire.call(history=older)["history"]["publications"]) == [3, 2]
        assert wire.call(history={"channel": channel})["history"] == {"publications": [], "offset": 5, "epoch": epoch}
        assert wire.error(history={"channel": channel, "since": {"offset": 1, "epoch": "other"}}) == 112
        assert wire.error(history={"channel": channel, "reverse": True, "since": {"epoch": epoch}}) == 107
    assert node.api_error("history", channel=channel, since={"offset": 1, "epoch": "other"}) == 112


def test_E18_history_needs_feature_and_permission(node, fresh):
    # The reason of a refusal would be unclear.
    with Wire.connected(node) as wire:
        assert wire.error(history={"channel": fresh("open")}) == 108
        channel = fresh("histdenied")
        wire.subscribe(channel)
        assert wire.error(history={"channel": channel}) == 103
    assert node.api_error("history", channel=fresh("open")) == 108
    assert node.api_error("history") == 107
    assert node.api_error("history", channel="nope:x") == 102


def test_F07_recovery_brings_exactly_what_was_missed(node, fresh):
    # After a tunnel a chat would miss or repeat messages.
    channel = fresh("recovery")
    with Wire.connected(node) as wire:
        start = wire.subscribe(channel)
        assert start["recoverable"] is True and start["positioned"] is True and start["epoch"]
        assert "offset" not in start and "recovered" not in start
        fill(node, channel, 2)
        first = wire.push()["pub"]
        assert first == {"data": 1, "offset": 1, "epoch": start["epoch"]}, "offset 1 repeats the epoch"
        assert wire.push()["pub"] == {"data": 2, "offset": 2}
    fill(node, channel, 5, first=3)
    with Wire.connected(node) as wire:
        back = wire.subscribe(channel, recover=True, epoch=start["epoch"], offset=2)
        assert back["recovered"] is True and back["was_recovering"] is True
        assert [(p["offset"], p["data"]) for p in back["publications"]] == [(n, n) for n in range(3, 8)]
        assert back["offset"] == 2, "F09: the offset asked for, SDKs advance it themselves"
        fill(node, channel, 1, first=8)
        assert wire.push()["pub"] == {"data": 8, "offset": 8}


def test_F08_failed_recovery_is_said(node, fresh):
    # A client would believe it has everything.
    channel = fresh("smallrecovery")
    epoch = fill(node, channel, 10)
    with Wire.connected(node) as wire:
        result = wire.subscribe(channel, recover=True, epoch=epoch, offset=2)
        assert result.get("recovered", False) is False and result["was_recovering"] is True
        assert "publications" not in result
        assert result["offset"] == 10, "F09: the top of the stream"
        fill(node, channel, 1, first=11)
        assert wire.push()["pub"] == {"data": 11, "offset": 11}


@pytest.mark.parametrize(
    ("fields", "recovered"),
    [
        ({"offset": 5}, True),
        ({"offset": 0}, True),
        ({"offset": 6}, False),
        ({"offset": 3, "epoch": "other"}, False),
    ],
    ids=["up to date, any epoch", "from the beginning", "from the future", "another epoch"],
)
def test_F08_positions(node, fresh, fields, recovered):
    # A restarted or manipulated position would be taken for a good one.
    channel = fresh("recovery")
    epoch = fill(node, channel, 5)
    with Wire.connected(node) as wire:
        result = wire.subscribe(channel, recover=True, **fields)
        assert result.get("recovered", False) is recovered
        missed = offsets(result.get("publications", []))
        assert missed == (list(range(fields["offset"] + 1, 6)) if recovered else [])
        assert result["epoch"] == epoch


def test_112_instead_of_unrecovered_on_request(node, fresh):
    # SDKs with getState load the state anew on this error.
    channel = fresh("smallrecovery")
    epoch = fill(node, channel, 10)
    with Wire.connected(node) as wire:
        assert wire.error(subscribe={"channel": channel, "recover": True, "epoch": epoch, "offset": 1, "flag": 3}) == 112
        assert wire.subscribe(channel)["offset"] == 10, "the refused subscription is gone"


@pytest.mark.parametrize(("missed", "recovered"), [(300, True), (301, False)])
def test_F10_recovery_limit(node, fresh, missed, recovered):
    # A client that was away for long would get a flood instead of a fresh start.
    channel = fresh("recovery")
    epoch = fill(node, channel, missed)
    with Wire.connected(node) as wire:
        result = wire.subscribe(channel, recover=True, epoch=epoch, offset=0)
        assert result.get("recovered", False) is recovered
        assert len(result.get("publications", [])) == (300 if recovered else 0)


def test_F13_recovery_and_positioning_on_request(node, fresh):
    # SDK options `recoverable` and `positioned` would be ignored or granted without permission.
    with Wire.connected(node) as wire:
        assert "recoverable" not in wire.subscribe(fresh("mayrecover"))
        assert wire.subscribe(fresh("mayrecover"), recoverable=True)["recoverable"] is True
        positioned = wire.subscribe(fresh("mayposition"), positioned=True)
        assert positioned["positioned"] is True and "recoverable" not in positioned
        assert "recoverable" not in wire.subscribe(fresh("mayposition"), recoverable=True)
        assert wire.subscribe(fresh("open"), recoverable=True, positioned=True) == {}


def test_F18_idempotent_publish(node, fresh):
    # A backend that repeats a timed-out call would publish twice.
    channel = fresh("recovery")
    with Wire.connected(node) as wire:
        wire.subscribe(channel)
        once = node.publish(channel, 1, idempotency_key="k")
        assert node.publish(channel, 1, idempotency_key="k") == once
        assert node.publish(fresh("recovery"), 1, idempotency_key="k")["offset"] == 1, "keys belong to a channel"
        node.publish(channel, 2)
        assert [wire.data(), wire.data()] == [1, 2]


def test_F19_versioned_publish(node, fresh):
    # An older state that arrives late would overwrite a newer one.
    channel = fresh("recovery")
    with Wire.connected(node) as wire:
        wire.subscribe(channel)
        newest = node.publish(channel, "five", version=5)
        assert node.publish(channel, "four", version=4) == newest
        assert node.publish(channel, "six", version=6)["offset"] == 2
        got = [wire.push()["pub"], wire.push()["pub"]]
        assert [(pub["data"], pub["version"]) for pub in got] == [("five", 5), ("six", 6)]
        wire.quiet(0.1)


def test_F20_skip_history(node, fresh):
    # Typing notices would push messages out of the history.
    channel = fresh("recovery")
    with Wire.connected(node) as wire:
        wire.subscribe(channel)
        assert node.publish(channel, "typing", skip_history=True) == {}
        assert wire.push()["pub"] == {"data": "typing"}
        assert node.publish(channel, 1)["offset"] == 1
        assert wire.push()["pub"]["offset"] == 1
    assert len(node.api("history", channel=channel, limit=-1)["publications"]) == 1


def test_F21_history_remove_keeps_the_position(node, fresh):
    # After clearing a channel, clients would see a stream from another world.
    channel = fresh("hist")
    epoch = fill(node, channel, 3)
    assert node.api("history_remove", channel=channel) == {}
    assert node.api("history", channel=channel, limit=-1) == {"publications": [], "offset": 3, "epoch": epoch}
    assert node.publish(channel, 4) == {"offset": 4, "epoch": epoch}
    assert node.api_error("history_remove", channel=fresh("open")) == 108


def test_F22_meta_ttl():
    # Streams of channels that nobody uses any more would stay in memory.
    options = {"history_size": 5, "history_ttl": "1s", "history_meta_ttl": "1s"}
    with running({"channel": {"without_namespace": options}}) as node:
        epoch = node.publish("a", 1)["epoch"]
        deadline = time.monotonic() + 12
        while time.monotonic() < deadline:
            time.sleep(2.5)  # looking at the stream keeps it alive, so this test has to leave it alone
            if node.api("history", channel="a")["epoch"] != epoch:
                return
        raise AssertionError("the stream never expired")


def test_F23_no_gap_and_no_duplicate_while_publishing(node, fresh):
    # Whoever connects in a busy moment would lose or repeat a message.
    channel = fresh("recovery")
    epoch = fill(node, channel, 1)
    stop = threading.Event()

    def publish():
        n = 2
        while not stop.is_set():
            node.publish(channel, n)
            n += 1

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        held = 1
        with Wire.connected(node) as wire:
            for _ in range(40):
                result = wire.subscribe(channel, recover=True, epoch=epoch, offset=held)
                assert result["recovered"] is True, result
                got = offsets(result.get("publications", []))
                while len(got) < 3 or (wire.pushes and len(got) < 1000):
                    got.append(wire.push()["pub"]["offset"])
                assert wire.call(unsubscribe={"channel": channel})["unsubscribe"] == {}
                got += [push["pub"]["offset"] for push in wire.pushes]
                wire.pushes.clear()
                assert got == list(range(held + 1, held + 1 + len(got)))
                held = got[-1]
    finally:
        stop.set()
        thread.join()
