"""Ports for the servers of tests: none is given out twice in a run, and no two processes give out the same.

A server gets its port long before it listens there, and may leave it for a while, so that whoever only looks for a port
that is free finds one that is spoken for. The ports below the ephemeral range, where no outgoing connection takes one
meanwhile, are therefore divided into blocks of `BLOCK`. A process that needs ports takes a block by binding its first
port for as long as it lives, and gives out the others in turn: harness/gyre.mjs of the JavaScript tests does the same.
"""

import random
import socket
import threading

BLOCK = 200
# Before Redis 7.0, the bus of a cluster is this far above the port for clients.
BUS = 10_000
# Their buses end below the ephemeral range, 32,768, and meet no block.
BLOCKS_WITH_BUS = [range(first, first + BLOCK // 4) for first in range(22_000, 22_750, BLOCK // 4)]
# Above Gyre's own ports, 8000 to 11000.
BLOCKS = [range(first, first + BLOCK) for first in (*range(12_000, 22_000, BLOCK), *range(22_800, 32_000, BLOCK))]


class Ports:
    """The ports of one process. They are given out anew only when no block is left."""

    def __init__(self, blocks, *, also=()):
        self.blocks, self.also = blocks, also
        self.held = []
        self.turn = iter(())
        self.lock = threading.Lock()

    def take(self):
        """One on which nobody listens, nor at the distances in `also`."""
        with self.lock:
            while True:
                for port in self.turn:
                    if all(_is_free(port + distance) for distance in (0, *self.also)):
                        return port
                self.turn = self._more()

    def _more(self):
        mine = [block for block, _ in self.held]
        for block in random.sample(self.blocks, len(self.blocks)):
            if block not in mine and (holder := _bound(block[0])):
                self.held.append((block, holder))
                return iter(block[1:])
        assert self.held, "every block of ports is taken by another process"
        return (port for block in mine for port in block[1:])


def _bound(port):
    holder = socket.socket()
    try:
        holder.bind(("127.0.0.1", port))
    except OSError:
        holder.close()
        return None
    return holder


def _is_free(port):
    holder = _bound(port)
    if holder:
        holder.close()
    return holder is not None


_ports = Ports(BLOCKS)
_ports_with_bus = Ports(BLOCKS_WITH_BUS, also=(BUS,))
free_port = _ports.take
free_port_with_bus = _ports_with_bus.take
