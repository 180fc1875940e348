"""Channel state events: what a backend was told, and nodes that tell it with seconds instead of minutes."""

import contextlib
import threading
import time

from .app import BACKENDS, namespaces
from .backend import Late, result
from .node import merged
from .several import on_redis, several
from .waiting import eventually

DELAY_S = 1
# From the moment on that an event is due until it is told: ticks of one second, a poll, and a laden machine.
TOLD_WITHIN_S = 4
# Of presence entries; they are refreshed every second.
TTL_S = 4
# A lease of a node that is killed is taken over when it has run out.
LEASE_S = 10
CHAT = {
    "name": "chat",
    "presence": True,
    "state_proxy_enabled": True,
    "allow_subscribe_for_client": True,
    "allow_subscribe_for_anonymous": True,
    "allow_presence_for_client": True,
}


class Told:
    """Takes the events of a backend and remembers those that it has accepted, in order.

    `refuse` is an answer that is none, for as long as it is set; `late_s` is what each request takes.
    """

    def __init__(self, backend):
        self.backend, self.lock = backend, threading.Lock()
        self.reset()

    def reset(self):
        """Forgets everything."""
        self.backend.reset()
        self.events, self.refuse, self.late_s = [], None, 0
        self.backend["state"] = self

    def __call__(self, call):
        if self.refuse is not None:
            return self.refuse
        if self.late_s:
            time.sleep(self.late_s)
        with self.lock:
            self.events += [{**event, "at": time.time()} for event in call.fields["events"]]
        return Late(0, result())

    def of(self, channel):
        """The events of a channel."""
        with self.lock:
            return [event for event in self.events if event["channel"] == channel]

    def kinds(self, channel):
        """The same in a word each: "occupied vacated"."""
        return " ".join(event["type"] for event in self.of(channel))

    def expect(self, channel, kinds, within=TOLD_WITHIN_S):
        """Waits until the channel has these events and no others; the last of them."""
        eventually(lambda: self.kinds(channel).startswith(kinds), within=within, what=f"{kinds} of {channel}")
        assert self.kinds(channel) == kinds
        return self.of(channel)[-1]

    def attempts(self):
        """All requests, refused ones too."""
        return self.backend.calls("state")


def telling(backend, address=None, *, delay=f"{DELAY_S}s", changes=None, namespace=None, redis=None, **state):
    """Configuration of a node that tells this backend; `state` are options of `engine.redis.channel_state`,
    `redis` others of `engine.redis`, `namespace` those of `chat`."""
    own = {"presence_ttl": f"{TTL_S}s", "channel_state": {"vacated_event_delay": delay, **state}, **(redis or {})}
    base = {
        "client": {"presence_update_interval": "1s", "channel_limit": 10_000},
        "channel": {
            "proxy": {"state": {"endpoint": backend.url("state"), "timeout": "2s"}},
            **namespaces({**CHAT, **(namespace or {})}, {**CHAT, "name": "silent", "state_proxy_enabled": False})["channel"],
        },
    }
    return on_redis(address, merged(base, changes or {}), **own)


@contextlib.contextmanager
def told_by(count, address=None, *, kind="http", cores=(1, 2), **rest):
    """(nodes, Told) of that many nodes; `rest` as in `telling`."""
    with BACKENDS[kind]() as backend:
        told = Told(backend)
        with several(count, telling(backend, address, **rest), cores=cores) as nodes:
            yield nodes, told


def subscribe_all(wire, channels, command="subscribe", within=30):
    """Subscribes to many channels with few frames; all must succeed."""
    for start in range(0, len(channels), 400):
        part = channels[start : start + 400]
        first = wire.id + 1
        wire.id += len(part)
        wire.send(*({"id": first + n, command: {"channel": channel}} for n, channel in enumerate(part)))
        for n in range(len(part)):
            reply = wire.reply(first + n, within)
            assert command in reply, reply
