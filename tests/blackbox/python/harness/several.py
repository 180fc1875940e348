"""Several nodes that share a Redis, and the balancer in front of them.

`Balanced` looks like one node to a test: each connection and each API call goes to the next node, as behind a balancer
without sticky sessions. What holds on one node must hold there.
"""

import contextlib
import itertools
import time

from .node import Gyre, merged

# Ticks that are seconds in production, so that tests of what happens at a tick do not take minutes.
QUICK = {"client": {"presence_update_interval": "1s", "channel_position_check_delay": "1s"}}
# And pings of clients often enough to see them during a short outage.
LIVELY = merged(QUICK, {"client": {"ping_interval": "2s", "pong_timeout": "1.9s"}})
# A call that Redis does not answer fails after `io_timeout`, 4 s, and a look at the clock.
ANSWERED_WITHIN_S = 6
# From Redis' first answer until a node has reconnected and resubscribed.
BACK_WITHIN_S = 8
# Of channels without a namespace of the nodes in `pair`, see conftest.py.
META_TTL_S = 3


def on_redis(address, changes=None, **options):
    """Configuration changes of a node whose engine is this Redis; `options` are those of `engine.redis`."""
    if address is not None:
        options["address"] = address
    return merged({"engine": {"type": "redis", "redis": options}}, changes or {})


@contextlib.contextmanager
def several(count, changes, *, cores=(1, 2)):
    """Started nodes of one configuration; node n has `cores[n % len(cores)]` cores. All stop cleanly at the end."""
    nodes = [Gyre(changes, cores=cores[n % len(cores)]) for n in range(count)]
    try:
        for node in nodes:
            node.spawn()
        for node in nodes:
            node.wait_ready()
        yield nodes
        for node in nodes:
            if node.process.poll() is None:
                node.stop()
    finally:
        for node in nodes:
            node.end()


def works(node, channels):
    """Whether the node publishes; for `eventually`. A name is taken for many channels, so that all cores are asked."""
    if isinstance(channels, str):
        channels = [f"{channels}.{number}" for number in range(20)]
    for channel in channels:
        reply = node.api_reply("publish", {"channel": channel, "data": time.monotonic_ns()})
        assert "error" not in reply, reply
    return True


class Balanced(Gyre):
    """Nodes behind a round-robin balancer. Only what goes over the network; processes are `nodes`."""

    def __init__(self, nodes):
        self.nodes = nodes
        self._turns = itertools.cycle(nodes)

    @property
    def port(self):
        """Of the next node."""
        return next(self._turns).port
