"""Publications and history of nodes that share one Redis: everything reaches everybody, once and in one order."""

import contextlib

import pytest
from harness import Wire, eventually
from harness.checker import Follower, Publisher, judge
from harness.waiting import at_once
from harness.wire import offsets


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
