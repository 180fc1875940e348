"""The contracts of engine/lua/state_*.lua: each script alone, against a real Redis and a clock of the test's own."""

import random

import pytest
import redis
from harness import eventually
from harness.cluster import SLOTS, Cluster
from harness.node import ROOT
from harness.redis import RedisServer

REAL = {path.stem: path.read_text() for path in (ROOT / "engine/lua").glob("state_*.lua")}
CLOCK = "redis.call('TIME')"
# In tests the clock is a key.
SCRIPTS = {name: text.replace(CLOCK, "redis.call('HMGET', 'clock', 's', 'us')") for name, text in REAL.items()}
# Keys expire by the true clock, which must not interfere.
NOW_MS = 4_000_000_000_123
TTL_MS = 60_000
DELAY_MS = 5_000
LEASE_MS = 10_000_000
LOST, NO, OCCUPIED = -1, 0, 1
PENDING = TOLD = 2
FULL, SILENTLY = 3, 4


class Partition:
    """The scripts with the keys of one partition, on behalf of one holder."""

    def __init__(self, client, tag, *, prefix="p", texts=SCRIPTS, queue_max=1000, delay=DELAY_MS):
        self.client = client
        self.prefix, self.tag = prefix, f"{{{tag}}}"
        self.queue_max, self.delay, self.ttl = queue_max, delay, TTL_MS
        self.now = NOW_MS
        self.token = "node.1"
        self.wants = {"occupied", "vacated"}
        self.scripts = {name: client.register_script(text) for name, text in texts.items()}
        self.has_clock = texts is SCRIPTS
        self.live, self.pending, self.lease, self.tick = map(self.key, ("live", "pending", "lease", "tick"))
        self.queue = self.key("events", "default")

    def key(self, family, rest=None):
        return f"{self.prefix}.chstate.{family}.{self.tag}" + ("" if rest is None else f".{rest}")

    def of(self, channel):
        return [self.key("data", channel), self.key("exp", channel)]

    def run(self, script, keys, *arguments):
        if self.has_clock:
            self.client.hset("clock", mapping={"s": self.now // 1000, "us": self.now % 1000 * 1000 + 999})
        return self.scripts[script](keys=keys, args=arguments)

    def add(self, client, channel="c", info="info"):
        """(new, appended, cancelled, dropped)"""
        queue = [self.queue] if "occupied" in self.wants else []
        keys = [*self.of(channel), self.live, self.pending, *queue]
        told = self.run("state_add", keys, self.ttl // 1000, client, info, channel, self.queue_max, 77)
        number, flags = divmod(told, 16)
        assert number == 77
        return tuple(flags >> bit & 1 for bit in range(4))

    def remove(self, client, channel="c"):
        """(removed, pending)"""
        keys = [*self.of(channel), self.live, self.pending]
        return tuple(self.run("state_remove", keys, client, channel, self.delay))

    def members(self, channel="c"):
        flat = self.run("state_members", self.of(channel))
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def take(self, life=LEASE_MS):
        return self.run("state_lease", [self.lease], self.token, life)

    def release(self):
        return self.run("state_lease", [self.lease], self.token, 0)

    def step(self, age_max=15_000, channels=100, events=100, queues=None):
        """None = lost, else (last tick, live channels, pending channels, [events of each queue])"""
        keys = [self.lease, self.tick, self.live, self.pending, *([self.queue] if queues is None else queues)]
        state, *rest = self.run("state_step", keys, self.token, LEASE_MS, age_max, channels, channels, events)
        if state == 0:
            assert rest == []
            return None
        now, ticked, live, pending, *queues = rest
        assert now == self.now or not self.has_clock
        return ticked, live, pending, [[read(entry) for entry in queue] for queue in queues]

    def expire(self, channel="c"):
        keys = [self.lease, *self.of(channel), self.live, self.pending]
        return self.run("state_expire", keys, self.token, channel, self.delay)

    def vacate(self, channel="c"):
        queue = [self.queue] if "vacated" in self.wants else []
        keys = [self.lease, *self.of(channel), self.live, self.pending, *queue]
        return self.run("state_vacate", keys, self.token, channel, self.queue_max)

    def ack(self, *ids):
        return self.run("state_ack", [self.lease, self.queue], self.token, *ids)

    def work(self):
        """What a worker does in one turn; the channels that it had to look after."""
        _, live, pending, _ = self.step(age_max=-1, events=1)
        for channel in live:
            self.expire(channel.decode())
        for channel in pending:
            self.vacate(channel.decode())
        return live + pending

    def after(self, ms):
        self.now += ms
        return self

    def told(self):
        """All events: (kind, channel, ms since the beginning)"""
        return [(kind, channel, t - NOW_MS) for _, kind, channel, t in map(read, self.client.xrange(self.queue))]

    def kinds(self):
        return [kind for kind, _, _ in self.told()]

    def stored(self, channels=("c",)):
        """All that is kept."""
        pipe = self.client.pipeline(transaction=False)
        for channel in channels:
            pipe.hgetall(self.key("data", channel))
            pipe.zrange(self.key("exp", channel), 0, -1, withscores=True)
        pipe.zrange(self.live, 0, -1, withscores=True)
        pipe.zrange(self.pending, 0, -1, withscores=True)
        pipe.xrange(self.queue)
        pipe.get(self.tick)
        pipe.get(self.lease)
        return pipe.execute()


def read(entry):
    """An entry of the queue, as a script or the client gives it."""
    entry_id, fields = entry
    fields = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    ((kind, told),) = fields.items()
    time, channel = told.decode().split(" ", 1)
    return entry_id, kind.decode(), channel, int(time)


@pytest.fixture(scope="module")
def server():
    with RedisServer() as started:
        yield started


@pytest.fixture(scope="module")
def client(server):
    return server.client()


@pytest.fixture
def part(client, fresh):
    part = Partition(client, fresh())
    part.take()
    part.step()
    return part


# ---- the states of a channel


def test_the_first_one_occupies(part):
    # The backend would start its work for each subscriber again.
    assert part.add("c0") == (1, 1, 0, 0)
    assert [part.add(f"c{n}") for n in range(1, 100)] == [(1, 0, 0, 0)] * 99
    assert part.after(27_000).add("c0") == (0, 0, 0, 0), "renewed"
    assert part.told() == [("occupied", "c", 0)]
    assert len(part.members()) == 100


def test_back_within_the_delay(part):
    # Each reload of a page would stop and start the backend's work.
    part.add("c1")
    assert part.remove("c1") == (1, 1)
    assert part.after(DELAY_MS - 1).work() == []
    assert part.add("c2") == (1, 0, 1, 0)
    assert part.after(DELAY_MS).work() == []
    assert part.kinds() == ["occupied"]


def test_left_for_good(part):
    # The backend would work for a channel without subscribers for ever, or not at all after the second time.
    part.add("c1")
    part.after(100).remove("c1")
    assert part.after(DELAY_MS).work() == [b"c"]
    assert part.told() == [("occupied", "c", 0), ("vacated", "c", 100 + DELAY_MS)]
    assert part.after(DELAY_MS).work() == [] and part.vacate() == NO
    assert part.add("c1") == (1, 1, 0, 0)
    assert part.kinds() == ["occupied", "vacated", "occupied"]


def test_the_delay_begins_with_the_last_leave(part):
    # Somebody who has looked in for a second would shorten the time that others have to come back.
    part.add("c1")
    part.remove("c1")
    part.after(3000).add("c2")
    part.after(1000).remove("c2")
    assert part.after(1000).work() == [], "5 s after the first"
    assert part.after(3999).work() == []
    assert part.after(1).work() == [b"c"]
    assert part.told() == [("occupied", "c", 0), ("vacated", "c", 9000)]


def test_no_delay(part):
    # A delay of 0 would be none that Redis understands, or the usual one.
    part.delay = 0
    part.add("c1")
    part.remove("c1")
    assert part.work() == [b"c"] and part.kinds() == ["occupied", "vacated"]


def test_a_dead_node(part):
    # Subscribers of a node that was killed would be there for ever, or gone before their time.
    part.add("c1")
    part.add("c2")
    assert part.after(TTL_MS - 1).work() == []
    assert len(part.members()) == 2
    assert part.after(1).work() == [b"c"] and part.members() == {}
    assert part.after(DELAY_MS - 1).work() == []
    assert part.after(1).work() == [b"c"]
    assert part.told() == [("occupied", "c", 0), ("vacated", "c", TTL_MS + DELAY_MS)]
    assert not part.client.exists(*part.of("c"))


def test_who_reconnects_keeps_it_occupied(part):
    # The death of one node would be told as vacated and occupied of every channel.
    part.add("old")
    part.after(30_000).add("new")
    assert part.after(TTL_MS - 30_000).work() == [], "the latest expiry counts"
    assert list(part.members()) == [b"new"]
    part.after(10_000).add("new")
    assert part.after(TTL_MS).work() == [b"c"]
    assert part.kinds() == ["occupied"]


def test_a_late_look_finds_it_occupied(part):
    # A worker that was slow would send away whoever came between its question and its answer.
    part.add("c1")
    part.after(TTL_MS)
    _, live, _, _ = part.step(age_max=-1)
    part.add("c2")
    assert live == [b"c"] and part.expire() == NO, "its time has changed"
    part.client.zadd(part.live, {"c": part.now})
    assert part.expire() == OCCUPIED
    assert part.client.zscore(part.live, "c") == part.now + TTL_MS
    part.remove("c2")
    part.after(DELAY_MS)
    _, _, pending, _ = part.step(age_max=-1)
    part.add("c3")
    assert pending == [b"c"] and part.vacate() == NO
    # As if Redis had lost a part of what it knew.
    part.client.zrem(part.live, "c")
    part.client.zadd(part.pending, {"c": part.now})
    assert part.vacate() == OCCUPIED
    assert part.client.zscore(part.live, "c") == part.now + TTL_MS and part.kinds() == ["occupied"]


def test_unknown_clients_change_nothing(part):
    # A removal that is repeated after an error would count the channel as left, or prolong its waiting.
    part.add("c1")
    for then in (0, TTL_MS, 1, DELAY_MS):
        part.after(then)
        before = part.stored()
        assert part.remove("nobody") == (0, 0) and part.stored() == before
        part.work()
    part.add("c1")
    assert part.remove("c1") == (1, 1)
    before = part.after(1000).stored()
    assert part.remove("c1") == (0, 0) and part.stored() == before


def test_leaving_after_the_others_have_expired(part):
    # The last one of a channel whose other subscribers died with their node would leave it occupied.
    part.add("dead")
    part.after(30_000).add("alive")
    assert part.after(30_000).remove("alive") == (1, 1)
    assert part.client.zscore(part.pending, "c") == part.now + DELAY_MS
    part.add("dead2")
    part.after(1000).add("alive")
    part.remove("alive")
    assert part.client.zscore(part.live, "c") == part.now - 1000 + TTL_MS, "the expiry of those who are left"


def test_lost_data(part):
    # After a loss of data backends would never hear of a channel again.
    part.add("c1")
    part.client.delete(part.live, part.pending, *part.of("c"))
    assert part.remove("c1") == (0, 0)
    assert part.add("c1") == (1, 1, 0, 0)
    part.client.delete(part.live)
    assert part.remove("c1") == (1, 0), "not announced: nothing to take back"
    assert part.after(DELAY_MS).work() == []
    part.client.delete(*part.of("c"))
    part.add("c1")
    part.client.delete(*part.of("c"))
    assert part.after(TTL_MS).work() == [b"c"], "the index knows it still"
    assert part.after(DELAY_MS).work() == [b"c"] and part.kinds()[-1] == "vacated"


# ---- events


@pytest.mark.parametrize("wanted", ["occupied", "vacated"])
def test_unwanted_events(part, wanted):
    # Who wants one kind would get both, or a channel would be stuck in a state that is not told.
    part.wants = {wanted}
    for _ in range(2):
        assert part.add("c1") == (1, int(wanted == "occupied"), 0, 0)
        part.remove("c1")
        part.after(DELAY_MS)
        assert part.vacate() == (TOLD if wanted == "vacated" else SILENTLY)
        assert part.stored()[:4] == [{}, [], [], []]
    assert part.kinds() == [wanted] * 2


def test_a_full_queue_drops_the_new(part):
    # What is oldest would be lost, though its backend may be about to take it; or the channel would be stuck.
    part.queue_max = 1
    part.add("c1", "a")
    assert part.add("c1", "b") == (1, 0, 0, 1)
    assert part.add("c2", "b") == (1, 0, 0, 0), "it is occupied all the same"
    part.remove("c1", "a")
    part.after(DELAY_MS)
    assert part.vacate("a") == FULL and part.vacate("a") == NO
    assert [(kind, channel) for kind, channel, _ in part.told()] == [("occupied", "a")]
    ids = [entry[0] for entry in part.step()[3][0]]
    assert part.ack(*ids) == 1
    assert part.add("c1", "a") == (1, 1, 0, 0), "there is room again"


def test_exactly_the_taken_events_go(part):
    # An event that came meanwhile would be forgotten untold; or those that were taken told for ever.
    for n in range(6):
        part.after(1).add("x", f"c{n}")
    (taken,) = part.step(events=3)[3]
    assert [channel for _, _, channel, _ in taken] == ["c0", "c1", "c2"]
    assert [t for *_, t in taken] == [NOW_MS + 1, NOW_MS + 2, NOW_MS + 3]
    part.add("x", "c6")
    ids = [entry[0] for entry in taken]
    assert part.ack(*ids, b"1-1") == 3 and part.ack(*ids) == 0
    assert [channel for _, channel, _ in part.told()] == ["c3", "c4", "c5", "c6"]


def test_backends_have_their_own_queues(part):
    # One that is down would delay the events of all.
    other = Partition(part.client, "")
    other.tag, other.queue = part.tag, part.key("events", "other")
    part.live, other.live = part.key("live"), part.key("live")
    other.pending = part.pending
    part.add("x", "a")
    other.add("x", "b")
    queues = part.step(queues=[part.queue, part.key("events", "none"), other.queue])[3]
    assert [[channel for _, _, channel, _ in queue] for queue in queues] == [["a"], [], ["b"]]
    assert part.step(queues=[])[3] == []


# ---- reading


def test_reading_changes_nothing(part):
    # Somebody who looks would move channels between states, or keep the dead present.
    info = bytes(range(256))
    part.add("c1", info=info)
    part.after(1000).add("c2")
    for then, present in ((0, {b"c1": info, b"c2": b"info"}), (TTL_MS - 1000, {b"c2": b"info"}), (1000, {})):
        part.after(then)
        before = part.stored()
        assert part.members() == present and part.stored() == before
    assert part.members("never") == {}


def test_very_many_expired_at_once(part):
    # After the crash of a large node its channels would fail for good: "too many results to unpack".
    count = 20_000
    data, expiry = part.of("c")
    part.add("c0")
    part.client.hset(data, mapping={f"c{n}": "info" for n in range(count)})
    part.client.zadd(expiry, {f"c{n}": part.now + n % 2 for n in range(count)})
    assert len(part.members()) == count // 2
    part.after(1)
    assert part.members() == {}
    part.add("here")
    assert set(part.members()) == {b"here"} and part.client.hlen(data) == 1


def test_names_and_lifetimes_of_keys(part):
    # What nobody renews any more would be kept for ever; or the index would vanish, and with it who is to be told.
    part.add("c1", "a}{b")
    part.after(20_000).add("c2", "a}{b")
    for key in part.of("a}{b"):
        seconds, micros = part.client.time()
        dies = seconds * 1000 + micros // 1000 + part.client.pttl(key)
        assert abs(dies - (part.now + TTL_MS)) < 10_000
    part.remove("c2", "a}{b")
    part.take()
    assert {part.client.ttl(key) for key in (part.live, part.queue, part.tick)} == {-1}
    part.remove("c1", "a}{b")
    assert part.client.ttl(part.pending) == -1 and not part.client.exists(part.live, *part.of("a}{b"))


# ---- leases and ticks


def test_one_holder(part):
    # Two nodes would tell the same events, in an order that neither knows.
    other = Partition(part.client, part.tag[1:-1])
    other.token = "node.2"
    held, left, token = other.take()
    assert (held, token) == (0, b"node.1") and 0 < left <= LEASE_MS
    other.release()
    assert part.take() == [1, LEASE_MS, b"node.1"], "not another's to give"
    part.add("c1")
    part.remove("c1")
    part.client.zadd(part.live, {"dead": 1})
    part.after(DELAY_MS)
    other.now = part.now
    before = part.stored()
    assert other.step() is None
    assert (other.expire("dead"), other.vacate(), other.ack(part.step()[3][0][0][0])) == (LOST, LOST, LOST)
    assert part.stored()[:5] == before[:5]
    assert part.release() == [0, 0, b""]
    assert part.step() is None and part.vacate() == LOST, "given back"
    assert other.take() == [1, LEASE_MS, b"node.2"]
    assert part.vacate() == LOST and part.release() and other.vacate() == TOLD


def test_leases_run_out_and_are_renewed_by_looking(part):
    # A dead worker would keep its partitions; or each look would be a write to every replica.
    life = part.client.pttl(part.lease)
    assert 0.9 * LEASE_MS < life <= LEASE_MS
    part.client.pexpire(part.lease, LEASE_MS * 7 // 10)
    part.step()
    assert part.client.pttl(part.lease) <= LEASE_MS * 7 // 10, "not yet"
    part.client.pexpire(part.lease, LEASE_MS * 6 // 10)
    part.step()
    assert part.client.pttl(part.lease) > LEASE_MS * 9 // 10
    part.take(life=50)
    eventually(lambda: part.ack("1-1") == LOST, what="end of the lease")
    assert part.step() is None
    part.token = "node.3"
    assert part.take() == [1, LEASE_MS, b"node.3"]


def test_ticks(part):
    # An outage could not be told from a quiet time, or each look would be a write to disk.
    start = part.now
    assert part.step()[0] == start
    assert part.after(999).step()[0] == start
    assert part.after(1).step()[0] == start
    assert part.step()[0] == start + 1000
    part.now = start - 3_600_000
    assert part.step()[0] == start + 1000
    assert part.step()[0] == part.now, "the clock was set back"


def test_a_tick_that_is_none(part):
    # A mistake of an operator at one key would stop the events of a partition for ever.
    part.client.set(part.tick, "junk")
    assert part.step()[0] == -1
    assert part.after(5).step()[0] == part.now - 5, "noted again"


def test_after_an_outage_entries_are_left_alone(part):
    # Redis comes back after a minute: all channels would be told as vacated and occupied though nobody has left.
    part.add("c1", "a")
    part.add("c1", "b")
    part.remove("c1", "b")
    ticked = part.step()[0]
    part.after(TTL_MS)
    for _ in range(2):
        assert part.after(1000).step()[:3] == (ticked, [], []), "nobody has looked for so long"
    assert len(part.step()[3][0]) == 2, "events may be told"
    part.add("c1", "a")
    assert part.step(age_max=-1)[:3] == (ticked, [], [b"b"])
    assert part.step()[:3] == (part.now, [], [b"b"])
    assert part.after(15_000).step()[0] == part.now - 15_000, "not too old yet"


def test_no_tick_yet(client, fresh):
    # On a new Redis, or one that has lost all, nothing would be told for half a minute.
    part = Partition(client, fresh())
    part.take()
    part.add("c1")
    part.remove("c1")
    part.after(DELAY_MS)
    assert part.step()[:3] == (-1, [], [b"c"])
    assert part.step()[0] == part.now


def test_looks_are_bounded_and_begin_with_the_oldest(part):
    # After the death of a large node one look would hold up Redis; or some channels would never have their turn.
    for n in range(10):
        part.after(1).add("x", f"live{n}")
    for n in range(10):
        part.add("x", f"left{n}")
        part.after(1).remove("x", f"left{n}")
    part.client.set(part.tick, part.now + TTL_MS)
    part.after(TTL_MS)
    _, live, pending, _ = part.step(channels=3)
    assert (live, pending) == ([b"live0", b"live1", b"live2"], [b"left0", b"left1", b"left2"])
    assert part.step(channels=0)[1:3] == ([], [])


# ---- all together


class Model:
    """The table of states (pro-features.md 1.5), by the contracts."""

    def __init__(self, part):
        self.part = part
        self.clients, self.live, self.pending, self.events = {}, {}, {}, []
        self.ticked = self.holder = None

    def alive(self, channel):
        alive = [expires for expires, _ in self.clients.get(channel, {}).values() if expires > self.part.now]
        return max(alive, default=None)

    def append(self, kind, channel):
        if len(self.events) >= self.part.queue_max:
            return False
        self.events.append((kind, channel, self.part.now))
        return True

    def add(self, client, channel, info):
        now = self.part.now
        known = self.clients.setdefault(channel, {})
        new = client not in known
        for gone in [name for name, (expires, _) in known.items() if expires <= now]:
            del known[gone]
        known[client] = (now + self.part.ttl, info)
        was = "live" if channel in self.live else "pending" if self.pending.pop(channel, None) else None
        self.live[channel] = self.alive(channel)
        appended = was is None and "occupied" in self.part.wants and self.append("occupied", channel)
        dropped = was is None and "occupied" in self.part.wants and not appended
        return int(new), int(appended), int(was == "pending"), int(dropped)

    def wait(self, channel):
        self.clients.pop(channel, None)
        del self.live[channel]
        self.pending.setdefault(channel, self.part.now + self.part.delay)

    def remove(self, client, channel):
        if self.clients.get(channel, {}).pop(client, None) is None:
            return 0, 0
        if latest := self.alive(channel):
            if channel in self.live:
                self.live[channel] = latest
            return 1, 0
        self.clients.pop(channel)
        if channel not in self.live:
            return 1, 0
        self.wait(channel)
        return 1, 1

    def members(self, channel):
        known = self.clients.get(channel, {}).items()
        return {name.encode(): info.encode() for name, (expires, info) in known if expires > self.part.now}

    def step(self, age_max, channels, events):
        if self.holder != self.part.token:
            return None
        now, ticked = self.part.now, self.ticked
        lists = [], []
        if ticked is None or age_max < 0 or now - ticked <= age_max:
            if ticked is None or now - ticked >= 1000:
                self.ticked = now
            lists = [
                [name.encode() for at, name in sorted((at, name) for name, at in index.items()) if at <= now][:channels]
                for index in (self.live, self.pending)
            ]
        return -1 if ticked is None else ticked, *lists, [self.events[:events]]

    def expire(self, channel):
        if self.holder != self.part.token:
            return LOST
        if self.live.get(channel, self.part.now + 1) > self.part.now:
            return NO
        if latest := self.alive(channel):
            self.live[channel] = latest
            return OCCUPIED
        self.wait(channel)
        return PENDING

    def vacate(self, channel):
        if self.holder != self.part.token:
            return LOST
        if self.pending.get(channel, self.part.now + 1) > self.part.now:
            return NO
        del self.pending[channel]
        if latest := self.alive(channel):
            self.live[channel] = latest
            return OCCUPIED
        self.clients.pop(channel, None)
        if "vacated" not in self.part.wants:
            return SILENTLY
        return TOLD if self.append("vacated", channel) else FULL

    def stored(self, channels):
        kept = []
        for channel in channels:
            known = self.clients.get(channel, {})
            kept.append({name.encode(): info.encode() for name, (_, info) in known.items()})
            kept.append(by_score({name: expires for name, (expires, _) in known.items()}))
        tick = None if self.ticked is None else str(self.ticked).encode()
        holder = self.holder and self.holder.encode()
        return [*kept, by_score(self.live), by_score(self.pending), self.events, tick, holder]


def by_score(index):
    return [[name.encode(), float(at)] for at, name in sorted((at, name) for name, at in index.items())]


CHANNELS = ("a", "b}", "{x}y")
OPERATIONS = ["add"] * 6 + ["remove"] * 5 + ["work"] * 4 + ["expire", "vacate", "members", "ack", "lease", "lose", "key"]


def play(part, dice):
    """Random operations; after each the answer and all that is kept are those of the model. The events of each channel."""
    part.queue_max = dice.choice([1, 3, 1000, 1000])
    part.delay = dice.choice([0, 1, DELAY_MS])
    part.wants = dice.choice([{"occupied", "vacated"}, {"occupied", "vacated"}, {"occupied"}, {"vacated"}])
    model = Model(part)
    all_told, dropped = [], 0
    for number in range(60):
        part.after(dice.choice([0, 0, 1, 999, 1000, DELAY_MS - 1, DELAY_MS, 10_000, 27_000, TTL_MS]))
        channel, name = dice.choice(CHANNELS), f"client{dice.randrange(3)}"
        match dice.choice(OPERATIONS):
            case "add":
                info = f"info{number}"
                answers = part.add(name, channel, info), model.add(name, channel, info)
                dropped += answers[0][3]
            case "remove":
                answers = part.remove(name, channel), model.remove(name, channel)
            case "members":
                answers = part.members(channel), model.members(channel)
            case "expire":
                answers = part.expire(channel), model.expire(channel)
            case "vacate":
                answers = part.vacate(channel), model.vacate(channel)
                dropped += answers[0] == FULL
            case "work":
                asked = dice.choice([15_000, 15_000, -1]), dice.choice([1, 10]), dice.choice([1, 2, 10])
                found, expected = part.step(*asked), model.step(*asked)
                if found:
                    *rest, (queue,) = found
                    found = (*rest, [[tuple(event[1:]) for event in queue]])
                answers = found, expected
                for at, method in ((1, "expire"), (2, "vacate")):
                    for due in (found or ((), (), ()))[at]:
                        both = [getattr(side, method)(due.decode()) for side in (part, model)]
                        assert both[0] == both[1]
                        dropped += both[0] == FULL
            case "ack":
                oldest = part.client.xrange(part.queue, count=dice.randrange(1, 4))
                gone = len(oldest) if model.holder == part.token else LOST
                # There is always something to forget; here it may have gone.
                answers = part.ack(*(entry[0] for entry in oldest or [[b"1-1"]])), gone
                if gone > 0:
                    all_told += model.events[:gone]
                    del model.events[:gone]
            case "lease":
                part.token = f"node.{dice.randrange(2)}"
                model.holder = model.holder or part.token
                held, _, holder = part.take()
                answers = (held, holder), (int(model.holder == part.token), model.holder.encode())
            case "lose":
                # Its life has ended, or it was given back.
                if dice.randrange(2):
                    part.client.delete(part.lease)
                    model.holder = None
                else:
                    part.release()
                    model.holder = None if model.holder == part.token else model.holder
                answers = None, None
            case "key":
                # The keys of a channel end with its last client.
                if not model.alive(channel):
                    part.client.delete(*part.of(channel))
                    model.clients.pop(channel, None)
                answers = None, None
        assert answers[0] == answers[1], number
        stored = part.stored(CHANNELS)
        stored[-3] = [tuple(read(entry)[1:]) for entry in stored[-3]]
        found = [[list(pair) for pair in kept] if at in (1, 3, 5, 6, 7) else kept for at, kept in enumerate(stored)]
        assert found == model.stored(CHANNELS), number
        assert not set(model.live) & set(model.pending)
    all_told += model.events
    if len(part.wants) == 2 and not dropped:
        for channel in CHANNELS:
            kinds = [kind for kind, of, _ in all_told if of == channel]
            assert kinds == (["occupied", "vacated"] * len(kinds))[: len(kinds)]
    return all_told


# The protocol only changes what answers look like.
@pytest.mark.parametrize(("protocol", "seeds"), [(2, 240), (3, 60)])
def test_random_lives(server, fresh, protocol, seeds):
    # A sequence that nobody has thought of would leave a channel announced for ever, or announce it twice.
    client = server.client(protocol=protocol)
    told = 0
    for seed in range(seeds):
        part = Partition(client, fresh())
        try:
            told += len(play(part, random.Random(seed)))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    assert told > 2 * seeds, "too little happens"


# ---- the scripts as such


def test_full_redis(fresh):
    # A channel would lose its place in one index without getting that in the other: never told as vacated. And what waits
    # in the queue would fill Redis for ever.
    with RedisServer() as own:
        part = Partition(own.client(), fresh())
        part.take()
        part.step()
        part.add("c1", "a")
        part.add("c1", "b")
        part.remove("c1", "b")
        part.add("c1", "dead")
        part.client.zadd(part.live, {"dead": 1})
        part.client.zadd(part.of("dead")[1], {"c1": 1})
        ticked = part.now
        part.after(DELAY_MS).members()
        before = part.stored(("a", "b"))
        own.client().config_set("maxmemory", 1)
        part.has_clock = False
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            part.add("c2", "a")
        assert part.stored(("a", "b")) == before
        _, live, pending, (events,) = part.step()
        assert (live, pending, len(events)) == ([b"dead"], [b"b"], 3)
        assert part.step()[0] == ticked, "not noted"
        assert part.remove("c1", "a") == (1, 1)
        assert part.expire("dead") == PENDING and part.vacate("b") == TOLD
        assert part.ack(*(entry[0] for entry in events)) == 3
        assert part.client.zrange(part.pending, 0, -1) == [b"a", b"dead"]


def test_what_is_kept_survives_a_restart():
    # A Redis that keeps its data would come back without the channels that it had announced.
    with RedisServer(keep=True) as own:
        part = Partition(own.client(), "7")
        part.take()
        part.step()
        part.add("c1", "a")
        part.add("c1", "b")
        part.remove("c1", "b")
        before = part.stored(("a", "b"))
        own.kill()
        own.start()
        part = Partition(own.client(), "7")
        assert part.stored(("a", "b")) == before
        assert part.after(DELAY_MS).work() == [b"b"]


def test_the_clock_is_that_of_redis(server, fresh):
    # Nodes whose clocks differ would expire each other's subscribers.
    part = Partition(server.client(), fresh(), texts=REAL)
    assert {name for name, text in REAL.items() if CLOCK not in text} == {"state_lease", "state_ack"}
    part.take()
    before = part.client.time()[0]
    part.delay, part.ttl = 1, 60_000
    part.add("c1")
    assert list(part.members()) == [b"c1"]
    part.remove("c1")
    eventually(lambda: part.vacate() == TOLD, what="the time of the channel")
    times = [read(entry)[3] // 1000 for entry in part.client.xrange(part.queue)]
    assert len(times) == 2 and all(before <= at <= part.client.time()[0] for at in times)


def test_prefixes_are_apart(client, fresh):
    # Two installations on one Redis would announce each other's channels.
    tag = fresh()
    ours, theirs = Partition(client, tag), Partition(client, tag, prefix="q")
    assert ours.add("c1") == theirs.add("c1") == (1, 1, 0, 0)


def test_cluster_mode(fresh):
    # In a cluster a script whose keys are in several slots is refused.
    with RedisServer(cluster_enabled="yes") as own:
        client = own.client()
        client.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS))
        eventually(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), what="cluster")
        for tag in ("0", "127"):
            part = Partition(client, tag, texts=REAL, delay=0)
            slot = client.execute_command("CLUSTER", "KEYSLOT", tag)
            part.take()
            for channel in ("news", "}odd", "{other}", "{}", "a}b{c}"):
                keys = [*part.of(channel), part.live, part.pending, part.lease, part.tick, part.queue]
                assert {client.execute_command("CLUSTER", "KEYSLOT", key) for key in keys} == {slot}
                assert part.add("c1", channel, "info") == (1, 1, 0, 0)
                assert part.members(channel) == {b"c1": b"info"}
                part.client.zadd(part.live, {channel: 1})
                part.client.zadd(part.of(channel)[1], {"c1": 1})
                assert part.step()[1] == [channel.encode()] and part.expire(channel) == PENDING
                assert part.vacate(channel) == TOLD
                assert part.add("c1", channel) == (1, 1, 0, 0) and part.remove("c1", channel) == (1, 1)
                ids = [entry[0] for entry in part.step()[3][0]]
                assert len(ids) == 3 and part.ack(*ids) == 3 and part.vacate(channel) == TOLD
                assert part.ack(*(entry[0] for entry in part.step()[3][0])) == 1


def test_the_last_one_leaves_while_the_slot_moves(fresh):
    # The leave would be refused half-way, and the channel be told as vacated a presence TTL later.
    with Cluster(primaries=2) as cluster:
        tag = fresh()
        slot = cluster.slot(tag)
        source = cluster.owner(slot)
        target = next(server for server in cluster.servers if server is not source)
        part = Partition(source.client(), tag, texts=REAL)
        for channel in ("pending", "one", "two", "three"):
            part.add("c1", channel)
        part.add("c2", "three")
        # Only then a script is run at all: all its keys have to be where it is.
        assert part.remove("c1", "pending") == (1, 1)
        cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.id(source))
        cluster.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.id(target))
        assert part.remove("c1", "one") == (1, 1)
        assert part.remove("c1", "three") == (1, 0)
        keys = cluster.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100)
        cluster.ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        asking = target.client().pipeline(transaction=False)
        for client, channel in (("c1", "two"), ("c2", "three")):
            leaving = [*part.of(channel), part.live, part.pending, client, channel, DELAY_MS]
            asking.execute_command("ASKING")
            asking.execute_command("EVAL", REAL["state_remove"], 4, *leaving)
        assert asking.execute()[1::2] == [[1, 1], [1, 1]]
