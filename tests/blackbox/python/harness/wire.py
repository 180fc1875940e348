"""A WebSocket client on a bare socket that can do everything wrong on purpose.

Frames are sent exactly as asked for; JSON commands and replies are a thin layer on top.
"""

import base64
import concurrent.futures
import contextlib
import json
import os
import socket
import struct
import threading
import time

from .tokens import token

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Closed(Exception):
    """The node ended the connection: code and reason of its close frame, or (None, "") without one."""

    def __init__(self, code, reason):
        super().__init__(f"closed with {code} {reason!r}")
        self.code, self.reason = code, reason


class Refused(Exception):
    """The upgrade was answered with something else than 101."""

    def __init__(self, status, head):
        super().__init__(f"upgrade refused with {status}: {head!r}")
        self.status, self.head = status, head


def frame(opcode, payload=b"", *, fin=True, rsv=0, mask=True, length=None):
    """The bytes of one frame; `length` writes another length than the real one."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    size, masked = len(payload) if length is None else length, 0x80 if mask else 0
    if size < 126:
        head += bytes([masked | size])
    elif size < 65536:
        head += struct.pack("!BH", masked | 126, size)
    else:
        head += struct.pack("!BQ", masked | 127, size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    pad = (key * (len(payload) // 4 + 1))[: len(payload)]
    xored = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return head + key + xored.to_bytes(len(payload), "big")


def upgrade_request(port, path="/connection/websocket", headers=None):
    """The text of a correct upgrade; a header of value None is left out, a list is sent line by line."""
    lines = {
        "Host": f"127.0.0.1:{port}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        **(headers or {}),
    }
    text = f"GET {path} HTTP/1.1\r\n"
    for name, value in lines.items():
        if value is not None:
            text += "".join(f"{name}: {v}\r\n" for v in (value if isinstance(value, list) else [value]))
    return (text + "\r\n").encode("latin-1")


class Wire:
    """An open WebSocket. `answer_pings=False` hands the pings (`{}`) out instead of answering them."""

    def __init__(self, node, path="/connection/websocket", headers=None, answer_pings=True, receive_buffer=None):
        self.answer_pings, self.id = answer_pings, 0
        self.pending, self.messages, self.pushes = b"", [], []
        self.frames_read = 0
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(5)
        self.socket.connect(("127.0.0.1", node.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(upgrade_request(node.port, path, headers))
        self.head = self._read_head()

    @classmethod
    def connected(cls, node, user="42", *, fields=None, claims=None, **rest):
        """An authenticated connection."""
        wire = cls(node, **rest)
        request = {"token": token(user, **(claims or {})), **(fields or {})}
        wire.session = wire.call(connect=request)["connect"]
        return wire

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    # ---- bytes and frames

    def _fill(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing more arrived in time")
        self.socket.settimeout(left)
        try:
            chunk = self.socket.recv(1 << 16)
        except ConnectionError:
            chunk = b""
        if not chunk:
            raise Closed(None, "")
        self.pending += chunk

    def _take(self, count, deadline):
        while len(self.pending) < count:
            self._fill(deadline)
        taken, self.pending = self.pending[:count], self.pending[count:]
        return taken

    def _read_head(self, within=5.0):
        deadline = time.monotonic() + within
        while b"\r\n\r\n" not in self.pending:
            self._fill(deadline)
        head, _, self.pending = self.pending.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status != 101:
            raise Refused(status, head)
        return head.decode("latin-1")

    def send_bytes(self, data):
        self.socket.settimeout(10)
        self.socket.sendall(data)

    def send_frame(self, opcode, payload=b"", **rest):
        self.send_bytes(frame(opcode, payload, **rest))

    def read_frame(self, within=5.0):
        """(fin, opcode, payload) of the next frame of any kind."""
        deadline = time.monotonic() + within
        first, second = self._take(2, deadline)
        assert not second & 0x80, "a frame of the node must not be masked"
        assert not first & 0x70, "no extension was negotiated"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._take(2, deadline))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._take(8, deadline))
        self.frames_read += 1
        return bool(first & 0x80), first & 0x0F, self._take(size, deadline)

    # ---- JSON protocol

    def send(self, *commands):
        """Commands in one text frame."""
        self.send_frame(TEXT, "\n".join(json.dumps(c) for c in commands).encode())

    def next(self, within=5.0):
        """The next message of the node. Pings are answered and passed over, a close frame raises Closed."""
        deadline = time.monotonic() + within
        while not self.messages:
            _, opcode, payload = self.read_frame(deadline - time.monotonic())
            if opcode == CLOSE:
                self.socket.settimeout(1)
                try:
                    self.send_frame(CLOSE, payload[:2])
                except OSError:
                    pass
                code = struct.unpack("!H", payload[:2])[0] if payload else None
                raise Closed(code, payload[2:].decode())
            if opcode in (TEXT, BINARY):
                assert opcode == TEXT, "JSON goes out in text frames"
                self.messages += [json.loads(line) for line in payload.decode().split("\n")]
                if self.answer_pings:
                    for _ in range(self.messages.count({})):
                        self.messages.remove({})
                        self.send({})
        return self.messages.pop(0)

    def call(self, within=5.0, **request):
        """Sends one command and returns its reply; pushes that come before it are kept for `push`."""
        self.id += 1
        self.send({"id": self.id, **request})
        return self.reply(self.id, within)

    def reply(self, id, within=5.0):
        deadline = time.monotonic() + within
        while True:
            message = self.next(deadline - time.monotonic())
            if message.get("id") == id:
                return message
            self.pushes.append(message["push"])

    def error(self, **request):
        """The code of the error a command must be answered with."""
        reply = self.call(**request)
        assert "error" in reply, f"{request} succeeded: {reply}"
        assert reply["error"]["message"], "an error carries a text"
        return reply["error"]["code"]

    def subscribe(self, channel, **fields):
        """The subscribe result."""
        reply = self.call(subscribe={"channel": channel, **fields})
        assert "subscribe" in reply, reply
        return reply["subscribe"]

    def push(self, kind="pub", within=5.0):
        """The next push, which must be of this kind: {"channel": …, kind: …}."""
        if not self.pushes:
            self.pushes.append(self.next(within)["push"])
        push = self.pushes.pop(0)
        assert kind in push, f"expected {kind}, got {push}"
        return push

    def data(self, within=5.0):
        """Payload of the next push, which must be a publication."""
        return self.push(within=within)["pub"]["data"]

    def closed(self, within=5.0):
        """Reads on to the end of the connection: (code, reason)."""
        deadline = time.monotonic() + within
        while True:
            try:
                self.next(deadline - time.monotonic())
            except Closed as end:
                return end.code, end.reason

    def quiet(self, window=0.3):
        """Nothing but pings for a while. Only for proving that something does not arrive."""
        assert not self.pushes, self.pushes
        try:
            message = self.next(window)
        except TimeoutError:
            return
        raise AssertionError(f"unexpected: {message}")


def offsets(publications):
    """Their offsets, as they come."""
    return [publication["offset"] for publication in publications]


@contextlib.contextmanager
def attended(*wires):
    """Answers the pings of connections while the test does something else; they must get nothing but pings."""
    over = threading.Event()

    def attend():
        while not over.is_set():
            for wire in wires:
                wire.quiet(0.02)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        done = pool.submit(attend)
        try:
            yield
        finally:
            over.set()
        done.result()
