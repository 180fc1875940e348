"""The WebSocket itself: the upgrade, frames that break RFC 6455, closing, encodings. Bytes sent by hand."""

import http.client
import socket
import struct

import pytest
from centrifuge.codecs import _ProtobufCodec as protobuf
from harness import Wire, token
from harness.wire import BINARY, CLOSE, PING, PONG, TEXT, Refused, frame, upgrade_request


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Connection": "close"}, 400),
        ({"Upgrade": None}, 400),
        ({"Upgrade": "h2c"}, 400),
        ({"Sec-WebSocket-Version": "8"}, 400),
        ({"Sec-WebSocket-Version": None}, 400),
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, 400),
        ({"Origin": "https://evil.example"}, 403),
    ],
    ids=lambda value: next(iter(value.items())).__str__() if isinstance(value, dict) else str(value),
)
def test_refused_upgrades(node, headers, status):
    # Scanners and broken proxies would hold half-open connections; foreign sites could act as their visitors.
    with pytest.raises(Refused) as refused:
        Wire(node, headers=headers)
    assert refused.value.status == status


def test_B17_refused_origin_is_logged(node):
    # Operators search for hours when a page cannot connect and the node is silent.
    with pytest.raises(Refused):
        Wire(node, headers={"Origin": "https://logged.example"})
    node.wait_log("https://logged.example", level="info")


def test_upgrade_needs_get(node):
    # A form post from a foreign page must not open a connection.
    request = upgrade_request(node.port).replace(b"GET", b"POST", 1)
    with socket.create_connection(("127.0.0.1", node.port), timeout=5) as wire:
        wire.sendall(request)
        assert b" 405 " in wire.recv(4096).split(b"\r\n")[0]


def test_commands_may_follow_the_upgrade_at_once(node):
    # Clients that do not wait for the answer to the upgrade would hang.
    first = frame(TEXT, b'{"id":1,"connect":{"token":"%s"}}' % token().encode())
    with socket.create_connection(("127.0.0.1", node.port), timeout=5) as wire:
        wire.sendall(upgrade_request(node.port) + first)
        received = b""
        while b'"connect"' not in received:
            chunk = wire.recv(4096)
            assert chunk, received
            received += chunk


def test_one_byte_at_a_time(node):
    # Slow networks cut frames anywhere.
    with Wire(node) as wire:
        for byte in frame(TEXT, b'{"id":1,"connect":{"token":"%s"}}\n{"id":2,"rpc":{"method":"x"}}' % token().encode()):
            wire.send_bytes(bytes([byte]))
        assert "connect" in wire.next()
        assert wire.next()["error"]["code"] == 108


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b'{"id":1}', mask=False),
        frame(TEXT, b'{"id":1}', rsv=4),
        frame(TEXT, b'{"id":1}', rsv=1),
        frame(3, b"x"),
        frame(11, b"x"),
        frame(0, b"x"),
        frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"),
        frame(PING, b"x" * 126),
        frame(PING, b"x", fin=False),
        frame(CLOSE, b"x"),
        frame(CLOSE, struct.pack("!H", 1005)),
        frame(CLOSE, struct.pack("!H", 999)),
        frame(CLOSE, struct.pack("!H", 1000) + b"\xff"),
    ],
    ids=[
        "unmasked",
        "rsv1 without compression",
        "rsv3",
        "unknown data opcode",
        "unknown control opcode",
        "continuation of nothing",
        "message inside a message",
        "long ping",
        "fragmented ping",
        "close of one byte",
        "close with reserved code",
        "close with low code",
        "close with bad text",
    ],
)
def test_protocol_violations(node, data):
    # Each is a way to smuggle frames past a proxy or to confuse the parser.
    with Wire.connected(node) as wire, Wire.connected(node) as other:
        wire.send_bytes(data)
        assert wire.closed()[0] in (1002, 1007)
        assert other.error(rpc={"method": "x"}) == 108, "other connections of the core go on"


def test_fragments_with_pings_between(node):
    # Browsers may cut long messages and keep the connection alive meanwhile.
    with Wire.connected(node) as wire:
        wire.send_frame(TEXT, b'{"id":7,"rpc"', fin=False)
        wire.send_frame(PING, b"still here")
        wire.send_frame(0, b':{"method":', fin=False)
        wire.send_frame(0, b'"x"}}')
        assert wire.read_frame() == (True, PONG, b"still here")
        assert wire.reply(7)["error"]["code"] == 108


def test_pings_of_the_client_are_answered(node):
    # Load balancers that ping would drop the connection.
    with Wire.connected(node) as wire:
        for payload in (b"", b"x", b"x" * 125):
            wire.send_frame(PING, payload)
            assert wire.read_frame() == (True, PONG, payload)
        wire.send_frame(PONG, b"nobody asked")
        assert wire.error(rpc={"method": "x"}) == 108


@pytest.mark.parametrize("payload", [b"", struct.pack("!H", 1000) + b"bye", struct.pack("!H", 4321)])
def test_close_is_answered(node, fresh, payload):
    # Browsers would report an unclean end and wait for the timeout.
    channel = fresh("open")
    with Wire.connected(node) as wire:
        wire.subscribe(channel)
        wire.send_frame(CLOSE, payload)
        code, reason = wire.closed()
        assert (code, reason) == (struct.unpack("!H", payload[:2])[0] if payload else None, "")


# ---- encodings


def protobuf_wire(node, **rest):
    wire = Wire(node, **rest)
    wire.send_frame(BINARY, protobuf.encode_commands([{"id": 1, "connect": {"token": token()}}]))
    return wire


def protobuf_replies(wire):
    _, opcode, payload = wire.read_frame()
    assert opcode == BINARY, "Protobuf goes out in binary frames"
    return protobuf.decode_replies(payload)


@pytest.mark.parametrize(
    ("path", "subprotocol", "echoed"),
    [
        ("", "centrifuge-protobuf", "centrifuge-protobuf"),
        ("", "unknown, centrifuge-protobuf, centrifuge-json", "centrifuge-protobuf"),
        ("?cf_protocol=protobuf", None, None),
        ("?format=protobuf", None, None),
    ],
)
def test_B02_ways_to_ask_for_protobuf(node, path, subprotocol, echoed):
    # SDKs of different ages ask in different ways; a wrong guess makes every frame unreadable.
    headers = {"Sec-WebSocket-Protocol": subprotocol}
    with protobuf_wire(node, path=f"/connection/websocket{path}", headers=headers) as wire:
        lines = [line for line in wire.head.lower().split("\r\n") if line.startswith("sec-websocket-protocol")]
        assert lines == ([f"sec-websocket-protocol: {echoed}"] if echoed else [])
        reply = protobuf_replies(wire)[0]
        assert reply["id"] == 1 and reply["connect"]["client"] and reply["connect"]["ping"] == 25


def test_unknown_subprotocol_means_json(node):
    # Proxies that add a protocol of their own would break JSON clients.
    with Wire.connected(node, headers={"Sec-WebSocket-Protocol": "mqtt"}) as wire:
        assert "sec-websocket-protocol" not in wire.head.lower()
        assert wire.session["client"]


def test_C28_binary_data_closes_json_clients_only(node, fresh):
    # One JSON subscriber of a binary channel would receive a frame that its parser dies on.
    channel = fresh("open")
    headers = {"Sec-WebSocket-Protocol": "centrifuge-protobuf"}
    with Wire.connected(node) as json_wire, protobuf_wire(node, headers=headers) as binary, Wire.connected(node) as bystander:
        assert protobuf_replies(binary)[0]["connect"]
        binary.send_frame(BINARY, protobuf.encode_commands([{"id": 2, "subscribe": {"channel": channel}}]))
        assert "subscribe" in protobuf_replies(binary)[0]
        json_wire.subscribe(channel)
        node.api("publish", channel=channel, b64data="/wD/")
        assert json_wire.closed() == (3506, "inappropriate protocol")
        assert protobuf_replies(binary)[0]["push"]["pub"]["data"] == "/wD/"
        assert bystander.error(rpc={"method": "x"}) == 108


def test_protobuf_and_json_clients_share_a_channel(node, fresh):
    # Browsers and devices could not talk to each other.
    channel = fresh("open")
    headers = {"Sec-WebSocket-Protocol": "centrifuge-protobuf"}
    with Wire.connected(node) as json_wire, protobuf_wire(node, headers=headers) as binary:
        protobuf_replies(binary)
        json_wire.subscribe(channel)
        publish = {"channel": channel, "data": "eyJuIjoxfQ=="}  # {"n":1}
        binary.send_frame(BINARY, protobuf.encode_commands([{"id": 2, "publish": publish}]))
        assert json_wire.push()["pub"]["data"] == {"n": 1}


@pytest.mark.parametrize("payload", [b"", b"\x05abc", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x02\xff\xff"])
def test_malformed_protobuf(node, payload):
    # A broken client could crash the node.
    with Wire(node, path="/connection/websocket?cf_protocol=protobuf") as wire:
        wire.send_frame(BINARY, payload)
        assert wire.closed() == (3501, "bad request")


# ---- HTTP on the same port


def test_unknown_paths(node):
    # A misrouted request would be answered by the wrong endpoint.
    for path in ("/", "/connection", "/connection/websocket/", "/connection/websocket/x", "/api/publish/", "/health/x"):
        assert node.http("GET", path)[0] == 404, path


def test_keep_alive_and_upgrade_on_one_connection(node):
    # Proxies reuse their connections for all kinds of requests.
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=5)
    connection.connect()
    for _ in range(3):
        connection.request("GET", "/health")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"{}")
    connection.sock.sendall(upgrade_request(node.port))
    assert connection.sock.recv(4096).startswith(b"HTTP/1.1 101")
    connection.close()


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n", b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000],
    ids=["TLS", "unknown version", "nonsense", "too many headers"],
)
def test_garbage_instead_of_http(node, data):
    # Port scanners knock on every door.
    with socket.create_connection(("127.0.0.1", node.port), timeout=5) as wire:
        try:
            wire.sendall(data)
            wire.shutdown(socket.SHUT_WR)
            while wire.recv(4096):
                pass
        except ConnectionError:
            pass
    assert node.http("GET", "/health")[0] == 200
