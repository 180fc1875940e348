"""Clients that behave as SDKs do, publishers that note what was confirmed, and the judge over both.

A `Follower` keeps subscriptions on some channels: it reconnects, resubscribes after 2500 and asks for recovery from its
position. It notes all it was told. A `Publisher` publishes numbers nobody else uses. `judge` then asserts, for every
follower and channel: no duplicate, order, no gap that was not announced by `recovered: false`, the same publication under
the same position for everybody, and every confirmed publication delivered or the client told.
"""

import collections
import http.client
import itertools
import json
import select
import threading
import time

from .node import API_KEY
from .waiting import eventually
from .wire import Closed, Refused, Wire

_numbers = itertools.count(1)


class Stream:
    """What one follower knows of one channel."""

    def __init__(self):
        self.start = self.position = None
        self.got = []
        self.seen = set()
        # (position before, position after): what lies between was announced as lost.
        self.jumps = []
        self.is_subscribed = False
        self.asked = None
        self.retry_at = 0.0


class Follower(threading.Thread):
    """A client on one node (or behind a `Balanced`) for channels with recovery; use it as a context manager."""

    def __init__(self, node, channels, user="42"):
        super().__init__(daemon=True)
        self.node, self.user = node, user
        self.streams = {channel: Stream() for channel in channels}
        self.closes = []  # codes of ended connections
        self.unsubscribed = []  # (channel, code) of pushes
        self.refused = []  # (channel, code, seconds it took) of subscribe errors
        self.pings = 0
        self.mistakes = []
        self.stopping = False
        self.wire = None

    def __enter__(self):
        self.start()
        eventually(self.has_all, within=20, what="first subscriptions")
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.join(10)

    def has_all(self):
        return all(stream.is_subscribed for stream in self.streams.values())

    def run(self):
        while not self.stopping:
            try:
                with Wire.connected(self.node, self.user, answer_pings=False) as wire:
                    self._follow(wire)
            except Closed as end:
                self.closes.append(end.code)
            except (Refused, OSError, KeyError) as error:
                self.closes.append(repr(error))
            for stream in self.streams.values():
                stream.is_subscribed, stream.asked, stream.retry_at = False, None, 0.0
            if not self.stopping:
                time.sleep(0.1)  # the back-off of an SDK

    def _follow(self, wire):
        asked = {}
        while not self.stopping:
            now = time.monotonic()
            for channel, stream in self.streams.items():
                if not stream.is_subscribed and stream.asked is None and now >= stream.retry_at:
                    wire.id += 1
                    asked[wire.id] = (channel, now)
                    stream.asked = stream.position
                    request = {"channel": channel}
                    if stream.position:
                        request |= {"recover": True, "epoch": stream.position[0], "offset": stream.position[1]}
                    else:
                        stream.asked = ()
                    wire.send({"id": wire.id, "subscribe": request})
            if not (wire.messages or wire.pending or select.select([wire.socket], [], [], 0.05)[0]):
                continue
            message = wire.next()
            if message == {}:
                self.pings += 1
                wire.send({})
            elif "id" in message:
                self._replied(*asked.pop(message["id"]), message)
            else:
                self._pushed(message["push"])

    def _replied(self, channel, since, message):
        stream = self.streams[channel]
        asked, stream.asked = stream.asked, None
        if "error" in message:
            self.refused.append((channel, message["error"]["code"], time.monotonic() - since))
            stream.retry_at = time.monotonic() + 0.2
            return
        result = message["subscribe"]
        stream.is_subscribed = True
        epoch, offset = result["epoch"], result.get("offset", 0)
        if asked and result.get("recovered"):
            if asked[0] != epoch:
                self.mistakes.append(f"{channel}: recovered over a change of epoch {asked} -> {result}")
            stream.position = (epoch, asked[1])
            for publication in result.get("publications", []):
                self._take(channel, publication, "recovered")
            return
        if result.get("publications"):
            self.mistakes.append(f"{channel}: publications without recovery: {result}")
        if asked:
            stream.jumps.append((asked, (epoch, offset)))
        stream.position = (epoch, offset)
        stream.start = stream.start or stream.position

    def _pushed(self, push):
        if "disconnect" in push:
            raise Closed(push["disconnect"]["code"], push["disconnect"].get("reason", ""))
        channel = push["channel"]
        stream = self.streams[channel]
        if "pub" in push:
            if not stream.is_subscribed:
                self.mistakes.append(f"{channel}: publication before the subscribe reply or after the end: {push}")
            else:
                self._take(channel, push["pub"], "live")
        elif "unsubscribe" in push:
            self.unsubscribed.append((channel, push["unsubscribe"]["code"]))
            stream.is_subscribed = False

    def _take(self, channel, publication, how):
        stream = self.streams[channel]
        epoch, offset = stream.position
        came = publication.get("offset", 0)
        if came != offset + 1:
            kind = "again" if came <= offset else "gap"
            self.mistakes.append(f"{channel}: {kind} ({how}): offset {came} after {offset}, {publication}")
        stream.position = (epoch, came)
        stream.got.append((epoch, came, publication["data"]))
        stream.seen.add((epoch, came))

    # ---- for the judge

    def holds(self, channel, epoch, offset):
        """Whether it has this publication, started after it, or was told that something is missing there."""
        stream = self.streams[channel]
        if (epoch, offset) in stream.seen or (epoch == stream.start[0] and offset <= stream.start[1]):
            return True
        return any(_is_between(epoch, offset, *jump) for jump in stream.jumps)


def _is_between(epoch, offset, before, after):
    if before[0] == after[0] == epoch:
        return before[1] < offset <= after[1]
    if epoch == before[0]:
        return offset > before[1]
    if epoch == after[0]:
        return offset <= after[1]
    return True


class Publisher(threading.Thread):
    """Publishes to channels through nodes in turn until the end of the with block; waits for every answer."""

    def __init__(self, nodes, channels, *, every_s=0.0, count=None):
        super().__init__(daemon=True)
        self.nodes, self.channels, self.every_s, self.count = list(nodes), list(channels), every_s, count
        self.confirmed = []  # (channel, data, epoch, offset)
        self.failed = []  # (channel, code, seconds it took, when)
        self.stopping = False
        self.slowest_s = 0.0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping = True
        self.join(30)
        assert not self.is_alive()

    def wait(self, within=60):
        """Until all `count` are published."""
        self.join(within)
        assert not self.is_alive(), f"only {len(self.confirmed)} of {self.count} published in {within} s"

    def run(self):
        connections = {}
        turns = itertools.count() if self.count is None else range(self.count)
        for turn in turns:
            if self.stopping:
                return
            node, channel = self.nodes[turn % len(self.nodes)], self.channels[turn % len(self.channels)]
            data = next(_numbers)
            began = time.monotonic()
            try:
                if node not in connections:
                    connections[node] = http.client.HTTPConnection("127.0.0.1", node.port, timeout=15)
                body = json.dumps({"channel": channel, "data": data})
                connections[node].request("POST", "/api/publish", body, {"X-API-Key": API_KEY})
                answer = json.loads(connections[node].getresponse().read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                connections.pop(node, None)
                answer = {"error": {"code": repr(error)}}
            took = time.monotonic() - began
            self.slowest_s = max(self.slowest_s, took)
            if "error" in answer:
                self.failed.append((channel, answer["error"]["code"], took, time.monotonic()))
                time.sleep(0.02)
            else:
                result = answer["result"]
                self.confirmed.append((channel, data, result.get("epoch"), result.get("offset")))
            if self.every_s:
                time.sleep(self.every_s)


def judge(followers, publishers, *, within=30, may_lose=False):
    """All of the module head. `may_lose`: a failover may have lost what was confirmed, the rest still holds."""
    confirmed = [entry for publisher in publishers for entry in publisher.confirmed]
    assert confirmed, "nothing was published"
    last = {}
    for channel, _, epoch, offset in confirmed:
        if channel not in last or last[channel][1] != epoch or last[channel][0] < offset:
            last[channel] = (offset, epoch)

    def all_are_there():
        for follower in followers:
            assert not follower.mistakes, follower.mistakes[:5]
            for channel, stream in follower.streams.items():
                assert stream.is_subscribed, f"{channel}: not subscribed"
                if channel in last and not may_lose:
                    offset, epoch = last[channel]
                    reached = f"{channel}: at {stream.position}, published up to {(epoch, offset)}"
                    assert follower.holds(channel, epoch, offset), reached
        return True

    eventually(all_are_there, within=within, what="followers at the end of their streams", every=0.1)
    content = {}
    for channel, data, epoch, offset in confirmed:
        if not may_lose:
            assert content.setdefault((channel, epoch, offset), data) == data, (
                f"position given twice: {channel} {epoch} {offset}"
            )
    missing = collections.Counter()
    for number, follower in enumerate(followers):
        for channel, stream in follower.streams.items():
            seen = {(epoch, offset): data for epoch, offset, data in stream.got}
            assert len(seen) == len(stream.got), f"{channel}: duplicates"
            assert len({data for _, _, data in stream.got}) == len(stream.got), f"{channel}: one publication at two positions"
            for (epoch, offset), data in seen.items():
                if not may_lose:
                    known = content.setdefault((channel, epoch, offset), data)
                    assert known == data, f"{channel}: {data} at {epoch} {offset}, others have {known}"
        for channel, _, epoch, offset in confirmed:
            if channel in follower.streams and not may_lose and not follower.holds(channel, epoch, offset):
                missing[(number, channel)] += 1
    assert not missing, f"confirmed, not delivered and nobody told: {missing.most_common(5)}"
