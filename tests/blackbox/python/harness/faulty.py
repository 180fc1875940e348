"""A server that speaks just enough of the protocol for the load generator, and breaks it on request.

JSON only, one thread with an event loop. `fault` is called for every delivery with the subscriber's number and the list
of publications for it; it returns the list that is sent instead, or None to cut the connection. `at_subscribe`: with
"cut" the connect reply is all a client gets before its connection ends, with "repeat" it gets that reply twice.
`dies_after` so many publications the server is gone with all connections. `damage` changes the bytes of every push,
`handshake` is one more header of the answer to an upgrade, `info` the status of the API's method of that name.
"""

import asyncio
import base64
import hashlib
import json
import struct
import threading

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Faulty:
    """The server; use it as a context manager. `port` is where it listens."""

    def __init__(
        self,
        fault=lambda _subscriber, publications: publications,
        refuse_publish=False,
        at_subscribe=None,
        dies_after=None,
        damage=lambda push: push,
        handshake=None,
        info=200,
    ):
        self.fault = fault
        self.refuse_publish = refuse_publish
        self.at_subscribe = at_subscribe
        self.dies_after = dies_after
        self.damage = damage
        self.handshake = handshake
        self.info = info
        self.connections = set()
        self.channels = {}
        self.clients = 0

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        started = threading.Event()

        async def serve():
            self.server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024)
            self.port = self.server.sockets[0].getsockname()[1]
            started.set()

        def run():
            self.loop.create_task(serve())
            self.loop.run_forever()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        assert started.wait(5)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)

    async def _connection(self, reader, writer):
        self.connections.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
                headers = dict(line.lower().split(b": ", 1) for line in head[1:] if b": " in line)
                if b"sec-websocket-key" in headers:
                    key = next(line.split(b": ")[1] for line in head if line.lower().startswith(b"sec-websocket-key"))
                    return await self._websocket(reader, writer, key)
                body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
                path = head[0].split()[1]
                status = self.info if path.endswith(b"/info") else 200
                answer = json.dumps(self._api(path, json.loads(body))).encode()
                writer.write(b"HTTP/1.1 %d So\r\nContent-Length: %d\r\n\r\n%s" % (status, len(answer), answer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()

    def _api(self, path, request):
        if path.endswith(b"/info"):
            return {"result": {"nodes": []}}
        if path.endswith(b"/batch"):
            return {"replies": [self._publish(command["publish"]) for command in request["commands"]]}
        return self._publish(request)

    def _publish(self, request):
        if self.refuse_publish:
            return {"error": {"code": 102, "message": "unknown channel"}}
        if self.dies_after is not None:
            self.dies_after -= 1
            if self.dies_after < 0:
                self.server.close()
                for connection in self.connections:
                    connection.transport.abort()
                raise ConnectionError
        for number, writer, waiting in list(self.channels.get(request["channel"], [])):
            waiting.append(request["data"])
            publications = self.fault(number, waiting)
            if publications is None:
                writer.transport.abort()
                continue
            if publications is not waiting:
                waiting.clear()
            for data in publications:
                push = {"push": {"channel": request["channel"], "pub": {"data": data}}}
                self._send(writer, self.damage(json.dumps(push, separators=(",", ":")).encode()))
            waiting.clear()
        return {"result": {}}

    @staticmethod
    def _send(writer, payload, opcode=0x81):
        header = bytes([opcode, len(payload)]) if len(payload) < 126 else struct.pack("!BBH", opcode, 126, len(payload))
        writer.write(header + payload)

    async def _websocket(self, reader, writer, key):
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n")
        if self.handshake:
            writer.write(self.handshake + b"\r\n")
        writer.write(b"\r\n")
        self.clients += 1
        entry = (self.clients, writer, [])
        try:
            while True:
                opcode, length = await reader.readexactly(2)
                length &= 0x7F
                if length == 126:
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                mask = await reader.readexactly(4)
                masked = await reader.readexactly(length)
                data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked))
                if opcode == 0x88:
                    self._send(writer, data, 0x88)
                    return
                replies = [self._reply(json.loads(line), entry) for line in data.split(b"\n")]
                if self.at_subscribe == "cut":
                    self._send(writer, json.dumps(replies[0]).encode())
                    return
                if self.at_subscribe == "repeat":
                    replies.append(replies[0])
                self._send(writer, "\n".join(json.dumps(reply) for reply in replies).encode())
        finally:
            for subscribers in self.channels.values():
                if entry in subscribers:
                    subscribers.remove(entry)

    def _reply(self, command, entry):
        if "connect" in command:
            return {"id": command["id"], "connect": {"client": "c", "version": "0"}}
        self.channels.setdefault(command["subscribe"]["channel"], []).append(entry)
        return {"id": command["id"], "subscribe": {}}
