"""Backends that answer anything at all: a call fails, a client is told so, and the node goes on as before."""

import contextlib
import socket
import threading
import time

import pytest
from harness import Wire
from harness.node import running
from harness.waiting import timed

DEEP = 100_000
MIB = 1 << 20


def plain(body, status="200 OK", *lines):
    """An answer with these bytes."""
    body = body if isinstance(body, bytes) else body.encode()
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *lines, "", ""])
    return head.encode() + body


class Raw:
    """A TCP server that hands each request to `say(socket)` once it has come whole, in a thread per connection."""

    def __init__(self, say):
        self.say, self.over, self.accepted = say, False, 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.listener.close()

    def url(self, event):
        """The endpoint of an event."""
        return f"http://127.0.0.1:{self.port}/{event}"

    def _accept(self):
        while not self.over:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError):
            got = b""
            while b"\r\n\r\n" not in got:
                got += connection.recv(65536) or b"\r\n\r\n"
            self.say(connection)


def endless_body(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    while True:
        connection.sendall(chunk)


def gigabyte(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    for _ in range(1024):
        connection.sendall(b" " * MIB)


def endless_head(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-More: " + b"a" * 1000 + b"\r\n")


def slow_head(connection):
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + b"X: 1\r\n" * 100:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def slow_body(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        connection.sendall(b" ")
        time.sleep(0.05)


def informed_forever(connection):
    while True:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100)


def says(data):
    return lambda connection: connection.sendall(data)


WIRES = {
    "gigabyte": gigabyte,
    "endless_body": endless_body,
    "endless_head": endless_head,
    "slow_head": slow_head,
    "slow_body": slow_body,
    "informed_forever": informed_forever,
    "nothing": says(b""),
    "garbage": says(bytes(range(256)) * 100),
    "http2": says(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)),
    "tls": says(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512)),
    "status_only": says(b"HTTP/1.1 200 OK\r\n"),
    "no_status": says(b"HTTP/1.1\r\n\r\n"),
    "status_0": says(b"HTTP/1.1 000 X\r\n\r\n"),
    "status_99999": says(b"HTTP/1.1 99999 X\r\n\r\n"),
    "length_minus": says(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}"),
    "length_huge": says(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n{}"),
    "length_beyond": says(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n{}"),
    "lengths": says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "short": says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"),
    "chunk_size": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
    "chunk_huge": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
    "chunk_cut": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"),
    "s101": says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{}"),
    "s204": says(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "s304": says(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "s201": says(plain("{}", "201 Created")),
    "file": says(plain("", "302 Found", "Location: file:///etc/passwd")),
    "ftp": says(plain("", "307 X", "Location: ftp://127.0.0.1/")),
    "nowhere": says(plain("", "307 X", "Location: http://[::::]/")),
    "no_location": says(plain("", "307 X")),
    "empty_location": says(plain("", "307 X", "Location:")),
    "location_bytes": says(plain("", "307 X").replace(b"\r\n\r\n", b"\r\nLocation: /\xff\xfe\r\n\r\n")),
    "circle": says(plain("", "307 X", "Location: /rpc")),
    "circle_get": says(plain("", "303 X", "Location: /rpc")),
    "gzip": says(plain(b"\x1f\x8b\x08\x00" + bytes(20), "200 OK", "Content-Encoding: gzip")),
}

# Answers of 200 that hold no result of an RPC.
BODIES = {
    "empty": b"",
    "space": b"   \n",
    "cut": b'{"result":{"data":',
    "array": b"[]",
    "string": b'"x"',
    "number": b"1",
    "html": b"<html>busy</html>",
    "two": b"{}{}",
    "tail": b"{} x",
    "bom": b"\xef\xbb\xbf{}",
    "utf16": '{"result":{}}'.encode("utf-16"),
    "nan": b'{"result":{"data":NaN}}',
    "result_array": b'{"result":[]}',
    "result_string": b'{"result":"x"}',
    "result_number": b'{"result":1}',
    "b64_number": b'{"result":{"b64data":5}}',
    "b64_bad": b'{"result":{"b64data":"%%%"}}',
    "code_string": b'{"error":{"code":"1000","message":"x"}}',
    "code_float": b'{"error":{"code":1000.5,"message":"x"}}',
    "code_minus": b'{"error":{"code":-1,"message":"x"}}',
    "code_huge": b'{"error":{"code":99999999999999999999,"message":"x"}}',
    "error_string": b'{"error":"x"}',
    "message_number": b'{"error":{"code":1000,"message":5}}',
    "deep_array": b'{"result":{"data":' + b"[" * DEEP,
    "deep_object": b'{"x":' + b'{"a":' * DEEP,
}


@pytest.fixture(scope="module")
def small():
    """A node with a short timeout, and a backend that answers anything."""
    with Raw(None) as raw:
        changes = {
            "client": {"allow_anonymous_connect_without_token": True},
            "rpc": {
                "proxy": {"endpoint": raw.url("rpc"), "timeout": "700ms"},
                "without_namespace": {"proxy_enabled": True},
            },
        }
        with running(changes) as node:
            yield node, raw


@pytest.mark.parametrize("name", [*WIRES, *BODIES])
def test_answer_that_is_none(small, name):
    # One wrong byte of the application would take the node, a client, or memory that never comes back.
    node, raw = small
    raw.say = WIRES.get(name) or says(plain(BODIES[name]))
    with Wire.connected(node) as wire:
        before = node.memory_bytes()
        answer, took = timed(lambda: wire.call(rpc={"method": "x", "data": 1}, within=5))
        assert answer == {"id": wire.id, "error": {"code": 100, "message": "internal server error", "temporary": True}}
        assert took < 2.5
        raw.say = says(plain('{"result":{"data":7}}'))
        assert wire.call(rpc={"method": "x", "data": 1})["rpc"] == {"data": 7}
        assert node.memory_bytes() - before < 120 * MIB
