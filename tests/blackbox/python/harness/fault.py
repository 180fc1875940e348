"""A TCP proxy in front of one server that breaks single connections on request, the others stay as they are.

One thread with an event loop. A connection (`Link`) is found by what was sent over it: `proxy.links("SUBSCRIBE")`. What a
fault does to it: `freeze` reads nothing more (buffers fill, as with a stopped process), `swallow` reads and forgets (as
behind a firewall that drops), `mute` forgets only the messages of Pub/Sub, so that pings are still answered (an old
primary after a failover), `deafen` forgets all answers, `delay` keeps the order but is late, `cut` resets. `proxy.refuse()` closes the door for new ones.
"""

import asyncio
import socket
import struct
import threading

# Enough for the greeting and the first subscriptions, by which connections are told apart.
REMEMBERED_BYTES = 1 << 20
RESET = struct.pack("ii", 1, 0)


class Link:
    """One connection from a node, with its twin to the server."""

    def __init__(self, loop):
        self.loop = loop
        self.sent = b""
        self.sent_bytes = self.received_bytes = 0
        self.is_open = True
        self.near = self.far = None
        self.mode = "through"
        self.late_s = 0.0
        self.filter = None

    def said(self, command):
        """Whether this command was sent over it."""
        return b"\r\n%s\r\n" % command.upper().encode() in self.sent.upper()

    def freeze(self):
        self._soon(lambda: [side.pause_reading() for side in (self.near, self.far)])

    def thaw(self):
        self._soon(lambda: [side.resume_reading() for side in (self.near, self.far)])

    def swallow(self):
        self._soon(lambda: setattr(self, "mode", "swallow"))

    def deafen(self):
        self._soon(lambda: setattr(self, "mode", "deafen"))

    def mute(self):
        self._soon(lambda: setattr(self, "filter", Filter()))

    def delay(self, seconds):
        self._soon(lambda: setattr(self, "late_s", seconds))

    def cut(self):
        self._soon(self._cut)

    # ---- on the loop

    def _soon(self, act):
        done = threading.Event()

        def run():
            if self.is_open:
                act()
            done.set()

        self.loop.call_soon_threadsafe(run)
        assert done.wait(5)

    def _cut(self):
        for side in (self.near, self.far):
            side.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            side.abort()

    def _pass(self, to, data):
        if self.mode == "swallow" or (self.mode == "deafen" and to is self.near):
            return
        if self.filter and to is self.near:
            data = self.filter.without_messages(data)
        if self.late_s:
            self.loop.call_later(self.late_s, lambda: to.is_closing() or to.write(data))
        else:
            to.write(data)


class Filter:
    """Takes Pub/Sub messages out of what a server says, RESP2 and RESP3."""

    MESSAGE = (b"message", b"smessage")

    def __init__(self):
        self.pending = b""

    def without_messages(self, data):
        self.pending += data
        kept = []
        while (end := self._end(0)) is not None:
            whole, self.pending = self.pending[:end], self.pending[end:]
            parts = whole.split(b"\r\n", 3)
            if not (whole[:1] in b"*>" and len(parts) > 2 and parts[2] in self.MESSAGE):
                kept.append(whole)
        return b"".join(kept)

    def _end(self, at):
        """Where the value that begins at `at` ends; None = not all of it is here."""
        line = self.pending.find(b"\r\n", at)
        if line < 0:
            return None
        kind, rest, end = self.pending[at : at + 1], self.pending[at + 1 : line], line + 2
        if kind in b"$=!" and int(rest) >= 0:
            end += int(rest) + 2
            return end if end <= len(self.pending) else None
        for _ in range(
            {b"*": 1, b">": 1, b"~": 1, b"%": 2, b"|": 2}.get(kind, 0) * max(0, int(rest) if kind in b"*>~%|" else 0)
        ):
            end = self._end(end)
            if end is None:
                return None
        return end


class _Side(asyncio.Protocol):
    """One end of a link: `near` is the node's, `far` the server's."""

    def __init__(self, proxy, link, is_near):
        self.proxy, self.link, self.is_near = proxy, link, is_near
        self.early = b""

    def connection_made(self, transport):
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transport = transport
        if self.is_near:
            self.link.near = transport
            transport.pause_reading()
            self.proxy.loop.create_task(self._dial())
        else:
            self.link.far = transport

    async def _dial(self):
        try:
            await self.proxy.loop.create_connection(lambda: _Side(self.proxy, self.link, False), "127.0.0.1", self.proxy.target)
        except OSError:
            # The server refuses, so the node is refused as far as that is still possible.
            self.transport.abort()
            return
        if self.transport.is_closing():
            self.link.far.abort()
            return
        self.proxy._links.append(self.link)
        self.transport.resume_reading()

    def data_received(self, data):
        link = self.link
        if self.is_near:
            link.sent_bytes += len(data)
            if len(link.sent) < REMEMBERED_BYTES:
                link.sent += data
            link._pass(link.far, data)
        else:
            link.received_bytes += len(data)
            link._pass(link.near, data)

    def connection_lost(self, _error):
        self.link.is_open = False
        for side in (self.link.near, self.link.far):
            if side is not None and side is not self.transport:
                side.close()


class FaultProxy:
    """The proxy in front of a port of loopback; use it as a context manager. `port` is where it listens."""

    def __init__(self, target):
        self.target = target
        self._links = []
        self.accepted = 0

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        started = threading.Event()

        def side():
            self.accepted += 1
            return _Side(self, Link(self.loop), True)

        async def serve():
            self.server = await self.loop.create_server(side, "127.0.0.1", 0, backlog=256)
            self.port = self.server.sockets[0].getsockname()[1]
            started.set()

        def run():
            self.loop.create_task(serve())
            self.loop.run_forever()
            self.loop.close()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        assert started.wait(5)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        for link in self._links:
            for side in (link.near, link.far):
                side.get_extra_info("socket")._sock.close() if link.is_open else None

    @property
    def address(self):
        """As Gyre's configuration takes it."""
        return f"redis://127.0.0.1:{self.port}"

    def links(self, command=None):
        """The open connections, those over which a command was sent if asked."""
        return [link for link in list(self._links) if link.is_open and (command is None or link.said(command))]

    def refuse(self):
        """New connections are refused from now on; open ones stay."""
        self.loop.call_soon_threadsafe(self.server.close)
