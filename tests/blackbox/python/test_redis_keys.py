"""What stands in Redis: names and lifetimes of keys, and that nodes notice when something of it gets lost."""

import time

import pytest
from harness import Wire
from harness.checker import Follower, Publisher, judge
from harness.redis import keys_of
from harness.several import META_TTL_S
from harness.wire import offsets


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
    (meta,) = [key for key in keys_of(client, channel) if ".meta." in key]
    assert 29 * 86400 < ttls[meta] <= 30 * 86400
    (result,) = [key for key in keys_of(client, channel) if ".result." in key]
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


def test_loss_of_the_position_is_noticed_by_the_next_publication(pair, client, fresh):
    # Evicted or deleted keys: clients would go on with positions of a dead stream and lose what comes.
    channel, (one, two) = fresh("recovery"), pair
    with Wire.connected(two) as wire:
        before = wire.subscribe(channel)["epoch"]
        for n in range(3):
            one.publish(channel, n)
        assert [wire.data() for _ in range(3)] == [0, 1, 2]
        (meta,) = [key for key in keys_of(client, channel) if "meta" in key]
        client.delete(meta)
        result = one.publish(channel, "anew")
        assert result["offset"] == 1 and result["epoch"] != before
        told = wire.push("unsubscribe")
        assert told["channel"] == channel and told["unsubscribe"]["code"] == 2500
        back = wire.subscribe(channel, recover=True, epoch=before, offset=3)
        assert back.get("recovered", False) is False and back["was_recovering"] is True
        assert (back["offset"], back["epoch"]) == (1, result["epoch"])
        (stream,) = [key for key in keys_of(client, channel) if client.type(key) == "stream"]
        assert client.xlen(stream) == 1, "items of the dead epoch are gone"


def test_J06_loss_of_all_data_is_noticed_without_a_publication(pair, client, fresh):
    # In a quiet channel nobody would learn that the history is gone.
    channel = fresh("recovery")
    with Wire.connected(pair[0]) as ann, Wire.connected(pair[1]) as bob:
        before = ann.subscribe(channel)["epoch"]
        bob.subscribe(channel)
        pair[0].publish(channel, 1)
        assert ann.data() == bob.data() == 1
        client.delete(*keys_of(client, channel))
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
        (stream,) = [key for key in keys_of(client, channel) if client.type(key) == "stream"]
        (meta,) = [key for key in keys_of(client, channel) if "meta" in key]
        ((_, fields),) = client.xrange(stream)
        client.hset(meta, "s", 2)
        client.xadd(stream, fields, id="2-0")
        assert wire.push("unsubscribe", within=10)["unsubscribe"]["code"] == 2500
        back = wire.subscribe(channel, recover=True, epoch=epoch, offset=1)
        assert back["recovered"] is True and offsets(back["publications"]) == [2]


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
