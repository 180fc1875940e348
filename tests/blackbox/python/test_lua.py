"""The contracts of engine/lua: each script alone, against a real Redis, without a node."""

import hashlib
import itertools
import threading

import pytest
import redis
from harness import eventually
from harness.cluster import SLOTS
from harness.node import ROOT
from harness.redis import RedisServer, version

SCRIPTS = {path.stem: path.read_text() for path in (ROOT / "engine/lua").glob("*.lua")}
NOW_S = 1_700_000_000
EPOCH = b"EpochOne"


class Channel:
    """The scripts with the keys of one channel, named as in Redis Cluster so that both modes can run them."""

    def __init__(self, client, name):
        self.client = client
        tag = f"}}{{0}}{name}" if name.startswith("}") else f"{{{name}}}"
        self.messages, self.stream, self.meta = (f"p.{kind}.{tag}" for kind in ("client", "stream", "stream.meta"))
        self.presence = [f"p.presence.{kind}.{tag}" for kind in ("data", "expire", "user.clients", "user.expire")]
        self.result = f"p.result.{tag}.key"
        self.keys = [self.stream, self.meta, self.result, *self.presence]
        self.received = []

    def run(self, script, keys, *arguments):
        sha = hashlib.sha1(SCRIPTS[script].encode()).hexdigest()
        return self.client.evalsha(sha, len(keys), *keys, *arguments)

    def publish(self, payload="x", *, size=10, to=None, meta_ttl=1000, epoch=EPOCH, idempotent=False, **rest):
        """(offset, epoch, cached, suppressed)"""
        keys = [self.stream, self.meta] + [self.result] * idempotent
        to = self.messages if to is None else to
        rest = {"verb": "publish", "result_ttl": 300, "delta": 0, "version": 0, "version_epoch": "", **rest}
        return tuple(self.run("publish", keys, payload, size, 60, to, meta_ttl, epoch, *rest.values()))

    def publish_once(self, payload="x", verb="publish"):
        return tuple(self.run("publish_once", [self.result], payload, self.messages, verb, 300))

    def history(self, limit=-1, since="", reverse=0, *, meta_ttl=1000, epoch=EPOCH):
        """(top offset, epoch, [(offset, payload), ..])"""
        top, epoch, items = self.run("history", [self.stream, self.meta], meta_ttl, epoch, limit, since, reverse)
        for entry_id, fields in items:
            assert entry_id.endswith(b"-0") and fields[0] == b"d" and len(fields) == 2
        return top, epoch, [(int(entry_id[:-2]), fields[1]) for entry_id, fields in items]

    def offsets(self, *arguments):
        return [offset for offset, _ in self.history(*arguments)[2]]

    def add(self, client, user, *, info="info", mapping=True, now=NOW_S):
        return self.run("presence_add", self.presence[: 4 if mapping else 2], 60, now + 60, client, info, user)

    def remove(self, client, user, *, mapping=True):
        return self.run("presence_remove", self.presence[: 4 if mapping else 2], client, user)

    def present(self, now=NOW_S):
        flat = self.run("presence", self.presence[:2], now)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def stats(self, now=NOW_S):
        return tuple(self.run("presence_stats", self.presence, now))

    def state(self):
        """All that is stored, with TTLs as they were set: `age` gives each key another one."""
        return {key: (self.client.dump(key), self.client.ttl(key)) for key in self.keys}

    def age(self):
        for number, key in enumerate(self.keys):
            self.client.expire(key, 5000 + 100 * number)

    def listen(self):
        """Messages of the channel from now on, in `received`."""
        self.subscriber = self.client.pubsub()
        self.client.listeners.append(self.subscriber)
        self.subscriber.subscribe(self.messages)
        assert self.subscriber.get_message(timeout=10)["type"] == "subscribe"
        return self

    def heard(self, count):
        """The first `count` messages; a last one of our own proves that there are no more."""
        while len(self.received) < count:
            message = self.subscriber.get_message(timeout=10)
            assert message, f"only {len(self.received)} of {count} messages came"
            self.received.append(message["data"])
        self.client.publish(self.messages, "end")
        last = self.subscriber.get_message(timeout=10)
        assert last["data"] == b"end", f"one more came: {last}"
        return self.received


def connect(server, **rest):
    client = server.client(**rest)
    client.listeners = []
    for text in SCRIPTS.values():
        client.script_load(text)
    return client


@pytest.fixture(scope="module")
def server():
    with RedisServer() as started:
        yield started


@pytest.fixture
def client(server):
    client = connect(server)
    yield client
    for listener in client.listeners:
        listener.close()


@pytest.fixture
def channel(client, fresh):
    return Channel(client, fresh())


def is_ttl(actual, set_to):
    # Some seconds for a slow machine; a TTL that was not set, or set in ms, is far away.
    return set_to - 20 <= actual <= set_to


# ---- publish


def test_publish_numbers_and_keeps_a_window(channel, client):
    # History would be wrong from the start: offsets, window, lifetimes.
    for n in range(1, 11):
        assert channel.publish(f"m{n}", size=3, epoch=EPOCH if n == 1 else b"ignored1") == (n, EPOCH, 0, 0)
    assert client.xrange(channel.stream) == [(f"{n}-0".encode(), {b"d": f"m{n}".encode()}) for n in (8, 9, 10)]
    assert client.hgetall(channel.meta) == {b"e": EPOCH, b"s": b"10"}
    assert is_ttl(client.ttl(channel.stream), 60) and is_ttl(client.ttl(channel.meta), 1000)
    assert not client.exists(channel.result), "no idempotency key, no result"


def test_publish_restarts_both_lifetimes(channel, client):
    # Items of a busy channel would vanish at a fixed time after the first.
    channel.publish()
    channel.age()
    channel.publish()
    assert is_ttl(client.ttl(channel.stream), 60) and is_ttl(client.ttl(channel.meta), 1000)


def test_meta_that_never_expires(channel, client):
    # history_meta_ttl 0 would delete the position at once.
    channel.publish(meta_ttl=0)
    assert client.ttl(channel.meta) == -1
    channel.history(meta_ttl=0)
    assert client.ttl(channel.meta) == -1
    assert channel.publish(meta_ttl=0)[0] == 2


def test_published_envelopes(channel):
    # Nodes could not read what the script sends; payloads are arbitrary bytes.
    channel.listen()
    payload = bytes(range(256)) + b"__:1:__"
    channel.publish(payload)
    channel.publish("stored only", to="", verb="refused")
    channel.publish(b"")
    assert channel.heard(2) == [b"__p1:1:EpochOne__" + payload, b"__p1:3:EpochOne__"]
    assert channel.offsets() == [1, 2, 3]


def test_delta_base_is_the_publication_before(channel, client):
    # Clients would apply a patch to the wrong text.
    channel.listen()
    channel.publish("a:1", delta=1)
    channel.publish(b"__\0", delta=1)
    channel.publish("third")
    channel.publish("4", delta=1)
    client.delete(channel.stream)
    channel.publish("5", delta=1)
    assert channel.heard(5) == [
        b"__d1:1:EpochOne:0::3:a:1",
        b"__d1:2:EpochOne:3:a:1:3:__\0",
        b"__p1:3:EpochOne__third",
        b"__d1:4:EpochOne:5:third:1:4",
        b"__d1:5:EpochOne:0::1:5",
    ]


def test_message_order_is_offset_order(channel, server):
    # A subscriber that sees 6 before 5 drops 5, or is sent away with insufficient state.
    writers, each = 4, 500
    channel.listen()
    failed = []

    def write():
        try:
            own = Channel(connect(server), "")
            own.messages, own.stream, own.meta = channel.messages, channel.stream, channel.meta
            for _ in range(each):
                own.publish(size=writers * each)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write) for _ in range(writers)]
    for thread in threads:
        thread.start()
    received = channel.heard(writers * each)
    for thread in threads:
        thread.join()
    assert not failed
    assert received == [b"__p1:%d:EpochOne__x" % n for n in range(1, writers * each + 1)]
    assert channel.offsets() == list(range(1, writers * each + 1))


@pytest.mark.parametrize("read_between", [False, True])
def test_lost_meta_begins_a_new_life(channel, client, read_between):
    # Items of a dead epoch would be handed out under the new one, and every append refused until they expire.
    for _ in range(3):
        channel.publish("old")
    client.delete(channel.meta)
    if read_between:
        assert channel.history(epoch=b"EpochTwo") == (0, b"EpochTwo", [])
        assert channel.history(-1, 1) == (0, b"EpochTwo", [])
    channel.listen()
    assert channel.publish("new", epoch=b"EpochTwo", delta=1) == (1, b"EpochTwo", 0, 0)
    assert channel.history() == (1, b"EpochTwo", [(1, b"new")])
    assert channel.heard(1) == [b"__d1:1:EpochTwo:0::3:new"], "the old text is no base"


def test_large_offsets_are_exact(channel, client):
    # "1e+14" in an envelope is malformed: a channel would fall silent after 10^14 publications.
    channel.publish()
    channel.listen()
    for top in (10**14 - 1, 2**53 - 3):
        client.hset(channel.meta, "s", top)
        assert channel.publish("a", idempotent=True) == (top + 1, EPOCH, 0, 0)
        assert channel.publish("a", idempotent=True) == (top + 1, EPOCH, 1, 0)
        client.delete(channel.result)
        channel.publish("b")
        assert channel.history(1, top) == (top + 2, EPOCH, [(top + 1, b"a")])
        assert channel.history(1, top + 2, 1) == (top + 2, EPOCH, [(top + 1, b"a")])
        assert channel.heard(2) == [b"__p1:%d:EpochOne__a" % (top + 1), b"__p1:%d:EpochOne__b" % (top + 2)]
        channel.received.clear()


def test_full_redis_refuses_whole_publishes(fresh):
    # An offset that was taken without an item is a gap: every subscriber would lose its position.
    with RedisServer() as own:
        client = connect(own)
        channel = Channel(client, fresh()).listen()
        channel.publish()
        before = client.hgetall(channel.meta)
        client.config_set("maxmemory", 1)
        for publish in (channel.publish, channel.publish_once, lambda: channel.publish(version=9, idempotent=True)):
            with pytest.raises(redis.ResponseError, match="used memory > 'maxmemory'"):
                publish()
        client.config_set("maxmemory", 0)
        assert client.hgetall(channel.meta) == before and not client.exists(channel.result)
        assert channel.publish()[0] == 2
        assert channel.heard(2)[1] == b"__p1:2:EpochOne__x"
        client.listeners[0].close()


# ---- idempotency


def test_known_result_changes_nothing(channel, client):
    # A retry of the backend would be delivered twice, or prolong what it only asks about.
    channel.listen()
    assert channel.publish("first", idempotent=True, version=7) == (1, EPOCH, 0, 0)
    assert is_ttl(client.ttl(channel.result), 300)
    channel.publish("second")
    channel.age()
    before = channel.state()
    assert channel.publish("again", idempotent=True, version=9, epoch=b"Other") == (1, EPOCH, 1, 0)
    assert channel.publish_once("again") == (1, EPOCH, 1, 0), "the same answer past history"
    after = channel.state()
    assert {key: dump for key, (dump, _) in after.items()} == {key: dump for key, (dump, _) in before.items()}
    assert all(is_ttl(after[key][1], before[key][1]) for key in channel.keys)
    assert len(channel.heard(2)) == 2


def test_publish_once(channel, client):
    # Without history the key would have no effect, or TTLs would be of another unit.
    channel.listen()
    payload = bytes(range(256))
    assert channel.publish_once(payload) == (0, b"", 0, 0)
    assert is_ttl(client.ttl(channel.result), 300)
    client.expire(channel.result, 7)
    assert channel.publish_once(payload) == (0, b"", 1, 0)
    assert client.ttl(channel.result) <= 7
    assert channel.publish("later", idempotent=True) == (0, b"", 1, 0), "the key is used up with history too"
    assert channel.heard(1) == [payload]
    client.delete(channel.result)
    assert channel.publish_once(payload) == (0, b"", 0, 0), "after its time the key is free"


def test_publish_once_at_the_same_moment(channel, server):
    # Two nodes would both deliver what was to be delivered once.
    channel.listen()
    rounds, results = 100, {1: [], 2: []}
    barrier = threading.Barrier(2)

    def publish(number):
        own = Channel(connect(server), "")
        own.messages = channel.messages
        for n in range(rounds):
            own.result = f"{channel.result}.{n}"
            barrier.wait(10)
            results[number].append(own.publish_once(str(n))[2])

    threads = [threading.Thread(target=publish, args=(number,)) for number in results]
    for thread in threads:
        thread.start()
    assert channel.heard(rounds) == [str(n).encode() for n in range(rounds)]
    for thread in threads:
        thread.join()
    assert [a + b for a, b in zip(*results.values(), strict=True)] == [1] * rounds


def test_refused_publish_is_not_remembered(server, client, fresh):
    # The repeated call would be told of a success that never was.
    name = fresh()
    client.acl_setuser("deaf", enabled=True, nopass=True, keys=["*"], commands=["+@all"], reset_channels=True)
    deaf = Channel(server.client(username="deaf", password="x"), name)
    with pytest.raises(redis.RedisError):
        deaf.publish_once()
    with pytest.raises(redis.RedisError):
        deaf.publish(idempotent=True)
    assert not client.exists(deaf.result)
    assert Channel(client, name).publish_once() == (0, b"", 0, 0)


# ---- versions


def test_versions_must_rise(channel, client):
    # An old state that arrives late would overwrite the newer one at every client.
    channel.listen()
    assert [channel.publish(str(v), version=v) for v in (5, 3, 5, 6)] == [
        (1, EPOCH, 0, 0),
        (1, EPOCH, 0, 1),
        (1, EPOCH, 0, 1),
        (2, EPOCH, 0, 0),
    ]
    assert channel.publish("free") == (3, EPOCH, 0, 0)
    assert channel.publish("late", version=6) == (3, EPOCH, 0, 1), "a publish without version does not reset it"
    assert [message[-1:] for message in channel.heard(3)] == [b"5", b"6", b"e"]
    assert client.hmget(channel.meta, "v", "ve") == [b"6", b""]


VERSIONS = [1, 9, 10, 99, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1]


def test_versions_are_exact(channel):
    # Neighbours above 2^53 are one number to Lua: real updates would be dropped as old.
    for older, newer in itertools.pairwise(VERSIONS):
        channel.publish(version=newer, version_epoch=str(newer))
        assert channel.publish(version=older)[3] == 1, (older, newer)
        assert channel.publish(version=newer)[3] == 1, newer
        channel.publish(version=older, version_epoch=f"from {older}")
        assert channel.publish(version=newer)[3] == 0, (older, newer)


def test_version_epochs(channel, client):
    # After a restore of the database all updates would be refused as old.
    assert channel.publish(version=9, version_epoch="a")[3] == 0
    assert channel.publish(version=9, version_epoch="a")[3] == 1
    assert channel.publish(version=1, version_epoch="b")[3] == 0, "another epoch replaces"
    assert channel.publish(version=1, version_epoch="")[3] == 1, "none compares with any"
    assert client.hmget(channel.meta, "v", "ve") == [b"1", b"b"]
    assert channel.publish(version=2, version_epoch="")[3] == 0
    assert channel.publish(version=1, version_epoch="b")[3] == 0, "the stored epoch is the last one's: none"


def test_suppressed_publish_changes_nothing(channel):
    # Retries of old states would keep history alive, or use up an idempotency key.
    channel.listen()
    channel.publish(version=5)
    channel.age()
    before = channel.state()
    assert channel.publish("old", version=4, idempotent=True, delta=1) == (1, EPOCH, 0, 1)
    after = channel.state()
    assert [after[key][0] for key in channel.keys] == [before[key][0] for key in channel.keys]
    assert all(is_ttl(after[key][1], before[key][1]) for key in channel.keys)
    assert len(channel.heard(1)) == 1


# ---- history


def test_empty_read_creates_an_epoch(channel, client):
    # A subscriber of an untouched channel could never recover its first messages.
    assert channel.history(0) == (0, EPOCH, [])
    assert channel.history(epoch=b"Other") == (0, EPOCH, []), "it stays"
    assert is_ttl(client.ttl(channel.meta), 1000)
    assert channel.publish(epoch=b"Other") == (1, EPOCH, 0, 0)


def test_reads_renew_meta_only(channel, client):
    # A watched channel would lose its epoch; or looking at history would keep items for ever.
    channel.publish()
    for limit in (0, -1, 1):
        channel.age()
        channel.history(limit)
        assert is_ttl(client.ttl(channel.meta), 1000)
        assert is_ttl(client.ttl(channel.stream), 5000)


@pytest.mark.parametrize(
    ("limit", "since", "reverse", "expected"),
    [
        (0, "", 0, []),
        (0, 3, 1, []),
        (-1, "", 0, [3, 4, 5, 6, 7]),
        (2, "", 0, [3, 4]),
        (2, 4, 0, [5, 6]),
        (-1, 0, 0, [3, 4, 5, 6, 7]),
        (-1, 6, 0, [7]),
        (-1, 7, 0, []),
        (-1, 2**53 + 1, 0, []),
        (-1, 2**64 - 1, 0, []),
        (-1, "", 1, [7, 6, 5, 4, 3]),
        (2, "", 1, [7, 6]),
        (2, 6, 1, [5, 4]),
        (-1, 4, 1, [3]),
        (-1, 3, 1, []),
        (-1, 1, 1, []),
        (-1, 0, 1, []),
        (1, 7, 1, [6]),
        (1, 8, 1, [7]),
        (1, 2**64 - 1, 1, [7]),
    ],
)
def test_pages(channel, limit, since, reverse, expected):
    # Pagination would skip or repeat messages.
    for n in range(1, 8):
        channel.publish(str(n), size=5)
    assert channel.history(limit, since, reverse) == (7, EPOCH, [(n, str(n).encode()) for n in expected])


def test_removed_history_keeps_the_position(channel, client):
    # Subscribers at the top would have to reload everything.
    for _ in range(3):
        channel.publish()
    assert client.delete(channel.stream) == 1
    assert channel.history() == (3, EPOCH, [])
    assert channel.publish() == (4, EPOCH, 0, 0)
    assert channel.offsets() == [4]


def test_written_effects_survive_a_restart():
    # A Redis that keeps its data would come back with another epoch: every client reloads.
    with RedisServer(keep=True) as own:
        channel = Channel(connect(own), "kept")
        channel.publish("a", idempotent=True, version=2**63)
        channel.publish("b")
        own.kill()
        own.start()
        channel = Channel(connect(own), "kept")
        assert channel.history() == (2, EPOCH, [(1, b"a"), (2, b"b")])
        assert channel.publish("a", idempotent=True) == (1, EPOCH, 1, 0)
        assert channel.publish(version=2**63 - 1) == (2, EPOCH, 0, 1)


# ---- presence


def test_presence_entries(channel, client):
    # Who is there would be wrong, or never forgotten when nobody renews it.
    info = bytes(range(256))
    assert channel.add("c1", "u", info=info, mapping=False) == 1
    assert channel.add("c2", "u", info="old", mapping=False) == 1
    assert channel.add("c2", "u", info="new", mapping=False) == 0
    assert channel.present() == {b"c1": info, b"c2": b"new"}
    assert all(is_ttl(client.ttl(key), 60) for key in channel.presence[:2])
    assert not client.exists(*channel.presence[2:]), "no users without mapping"
    assert client.zscore(channel.presence[1], "c1") == NOW_S + 60
    assert channel.remove("c1", "u", mapping=False) == 1
    assert channel.remove("c1", "u", mapping=False) == 0
    assert channel.present() == {b"c2": b"new"}
    channel.remove("c2", "u", mapping=False)
    assert channel.present() == {} and not client.exists(*channel.presence)


def test_presence_expires(channel, client):
    # Clients of a dead node would be there for ever; or a look at them would keep them.
    channel.add("c1", "u1")
    channel.add("c2", "u2", now=NOW_S + 30)
    assert set(channel.present(NOW_S + 59)) == {b"c1", b"c2"}
    assert set(channel.present(NOW_S + 60)) == {b"c2"}
    assert client.zrange(channel.presence[1], 0, -1) == [b"c2"]
    assert channel.stats(NOW_S + 60) == (1, 1)
    channel.add("c2", "u2", now=NOW_S + 50)
    assert channel.stats(NOW_S + 100) == (1, 1), "renewed"
    for key in channel.presence:
        client.expire(key, 7)
    channel.present()
    channel.stats()
    assert all(0 < client.ttl(key) <= 7 for key in channel.presence)
    channel.add("c2", "u2")
    assert all(is_ttl(client.ttl(key), 60) for key in channel.presence)
    assert channel.stats(NOW_S + 200) == (0, 0) and not client.exists(*channel.presence)


def test_users_are_counted_once(channel, client):
    # Three tabs of two people would be three people; a repeated removal would hide one.
    for name, user in (("c1", "u1"), ("c2", "u1"), ("c3", "u2"), ("c3", "u2")):
        channel.add(name, user)
    assert channel.stats() == (3, 2)
    assert client.hgetall(channel.presence[2]) == {b"u1": b"2", b"u2": b"1"}
    assert channel.remove("c1", "u1") == 1
    assert channel.remove("c1", "u1") == 0
    assert channel.stats() == (2, 2), "removed twice, counted once"
    channel.remove("c2", "u1")
    assert channel.stats() == (1, 1) and client.zrange(channel.presence[3], 0, -1) == [b"u2"]
    channel.add("c4", "")
    assert channel.stats() == (2, 2), "anonymous is a user too"
    channel.remove("c3", "u2")
    channel.remove("c4", "")
    assert channel.stats() == (0, 0) and not client.exists(*channel.presence)


def test_user_mapping_turned_on_later(channel):
    # Users of connections that were there before would not be counted until they reconnect.
    channel.add("c1", "u1", mapping=False)
    channel.add("c2", "u2", mapping=False)
    assert channel.stats() == (2, 0)
    channel.add("c1", "u1")
    channel.add("c2", "u2")
    channel.add("c2", "u2")
    assert channel.stats() == (2, 2)
    channel.remove("c2", "u2")
    assert channel.stats() == (1, 1)


def test_very_many_expired_at_once(channel, client):
    # After the crash of a large node presence would fail for good: "too many results to unpack".
    count = 20_000
    client.hset(channel.presence[0], mapping={f"c{n}": "info" for n in range(count)})
    client.zadd(channel.presence[1], {f"c{n}": NOW_S for n in range(count)})
    channel.add("here", "u")
    assert set(channel.present(NOW_S + 1)) == {b"here"}


# ---- the scripts as such


def test_flushed_scripts_are_an_error_the_caller_sees(fresh):
    # The caller repeats with EVAL only if it is told, and only if nothing has happened.
    with RedisServer() as own:
        client = connect(own)
        channel = Channel(client, fresh())
        channel.publish()
        client.script_flush()
        for call in (channel.publish, channel.publish_once, channel.history, channel.present, channel.stats):
            with pytest.raises(redis.exceptions.NoScriptError):
                call()
        client.eval(SCRIPTS["history"], 2, channel.stream, channel.meta, 1000, EPOCH, 0, "", 0)
        assert channel.history() == (1, EPOCH, [(1, b"x")]), "EVAL brought it back"
        with pytest.raises(redis.exceptions.NoScriptError):
            channel.publish()


def test_cluster_mode(fresh):
    # In a cluster a script whose keys are in several slots is refused, with sharded Pub/Sub its message too.
    verbs = ("publish", "spublish") if version() >= (7, 0) else ("publish",)
    with RedisServer(cluster_enabled="yes") as own:
        client = connect(own)
        client.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS))
        eventually(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), what="cluster")
        for name in (fresh(), "}odd", "}", "a}b", "{"):
            channel = Channel(client, name)
            for verb in verbs:
                channel.publish(verb=verb, idempotent=True, delta=1)
                client.delete(channel.result)
                assert channel.publish_once(verb=verb) == (0, b"", 0, 0)
                client.delete(channel.result)
            assert channel.offsets() == list(range(1, 1 + len(verbs)))
            channel.add("c", "u")
            assert channel.present() == {b"c": b"info"} and channel.stats() == (1, 1)
            assert channel.remove("c", "u") == 1


@pytest.fixture
def user(client, fresh):
    """update(field, now, state) on the status of one user; `.key` is its key."""
    key = f"p.user_status.{fresh()}"
    sha = hashlib.sha1(SCRIPTS["user_status_update"].encode()).hexdigest()

    def update(field, now, state="", ttl_ms=60_000):
        assert client.evalsha(sha, 1, key, field, now, ttl_ms, state) == 1
        return client.hgetall(key)

    update.key = key
    return update


def test_user_status_fields_are_apart_and_never_go_back(user):
    # A node whose clock is behind would make a user less active; an online user would look active.
    assert user("online", NOW_S) == {b"online": b"%d" % NOW_S}
    assert user("active", NOW_S - 5) == {b"online": b"%d" % NOW_S, b"active": b"%d" % (NOW_S - 5)}
    assert user("online", NOW_S - 1)[b"online"] == b"%d" % NOW_S
    assert user("active", NOW_S + 1)[b"active"] == b"%d" % (NOW_S + 1)
    # Digits have to be compared as numbers.
    assert user("active", 9_999_999_999)[b"active"] == b"9999999999"
    assert user("active", 10_000_000_000)[b"active"] == b"10000000000"


def test_user_status_keeps_its_state_until_another_comes(user):
    # A busy user would be free again at the next tick.
    assert user("active", NOW_S, "busy")[b"state"] == b"busy"
    assert user("online", NOW_S)[b"state"] == b"busy"
    assert user("active", NOW_S - 1, "away")[b"state"] == b"away", "also with a clock that is behind"


def test_user_status_lives_on_with_every_update(user, client):
    # A connected user would disappear, or one who left would stay for good.
    user("active", NOW_S, ttl_ms=900)
    assert 0 < client.pttl(user.key) <= 900
    user("online", 1, ttl_ms=50_000)
    assert 40_000 < client.pttl(user.key) <= 50_000
    user("active", 1, ttl_ms=1_500)
    assert 0 < client.pttl(user.key) <= 1_500


def test_user_status_survives_what_is_no_number(user, client):
    # What somebody else has written there would make every update an error.
    client.hset(user.key, "active", "yesterday")
    assert user("active", NOW_S)[b"active"] == b"%d" % NOW_S
