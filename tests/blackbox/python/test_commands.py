"""Malformed, unknown and refused commands on raw frames."""

import pytest
from harness import Wire, token
from harness.wire import BINARY, TEXT


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b"",
        b"\n",
        b"[]",
        b'"text"',
        b"7",
        b'{"id":1',
        b'{"id":"1","connect":{}}',
        b'{"id":-1,"connect":{}}',
        b'{"id":1,"connect":[]}',
        b'{"id":1,"connect":{"token":5}}',
        b"\x00\x01\x02",
        b'{"id":1,"connect":{}}\n\n{"id":2,"rpc":{}}',
        b"{" * 60000,
    ],
    ids=lambda p: repr(p[:24]),
)
def test_C07_malformed_frame(node, payload):
    # A broken client could crash the node or hang its connection.
    with Wire(node) as wire:
        wire.send_frame(TEXT, payload)
        assert wire.closed() == (3501, "bad request")


def test_C07_valid_commands_before_a_malformed_one_are_answered(node):
    # Replies already earned would be lost together with the connection.
    with Wire(node) as wire:
        wire.send_frame(TEXT, b'{"id":1,"connect":{"token":"%s"}}\nbroken' % token().encode())
        assert "connect" in wire.next()
        assert wire.closed() == (3501, "bad request")


@pytest.mark.parametrize("command", [{"id": 1}, {"id": 1, "nonsense": {}}, {"id": 1, "ping": {}}])
def test_C07_unknown_command(node, command):
    # Clients of a future protocol would wait for ever for a reply.
    with Wire.connected(node) as wire:
        wire.send({**command, "id": 9})
        assert wire.closed() == (3501, "bad request")


@pytest.mark.parametrize(
    "command",
    [
        {"subscribe": {"channel": "open:x"}},
        {"publish": {"channel": "open:x", "data": {}}},
        {"history": {"channel": "hist:x"}},
        {"rpc": {"method": "x"}},
        {"send": {"data": {}}},
        {},
    ],
    ids=lambda c: next(iter(c), "pong"),
)
def test_C06_command_before_connect(node, command):
    # Anybody could act without credentials.
    with Wire(node) as wire:
        wire.send({"id": 1, **command})
        assert wire.closed() == (3501, "bad request")


def test_C06_pong_before_connect(node):
    # A bare {} must not count as a sign of life of an unauthenticated client.
    with Wire(node) as wire:
        wire.send({})
        assert wire.closed() == (3501, "bad request")


def test_C06_second_connect(node):
    # A connection could change its user half-way.
    with Wire.connected(node) as wire:
        wire.send({"id": 2, "connect": {"token": token("43")}})
        assert wire.closed() == (3501, "bad request")


def test_C07_connect_without_id_is_no_connect(node):
    # The reply could not be matched by any client; the protocol calls it a pong.
    with Wire(node) as wire:
        wire.send({"connect": {"token": token()}})
        assert wire.closed() == (3501, "bad request")


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history"])
def test_C07_missing_channel(node, kind):
    # Clients with an empty variable in the channel name would get confusing answers.
    with Wire.connected(node) as wire:
        wire.send({"id": 5, kind: {"data": {}} if kind == "publish" else {}})
        assert wire.closed() == (3501, "bad request")


def test_C07_unknown_fields_and_binary_opcode_are_tolerated(node):
    # Newer SDKs send fields this node does not know; some clients send JSON in binary frames.
    with Wire.connected(node) as wire:
        wire.send_frame(BINARY, b'{"id":5,"subscribe":{"channel":"open:tolerant","new_field":[1,{"x":null}]},"y":1}')
        assert wire.reply(5) == {"id": 5, "subscribe": {}}


def test_C08_unknown_namespace(node):
    # A typo in a channel name would look like a permission problem.
    with Wire.connected(node) as wire:
        for kind in ("subscribe", "publish", "presence", "presence_stats", "history"):
            fields = {"channel": "nope:x", **({"data": {}} if kind == "publish" else {})}
            assert wire.error(**{kind: fields}) == 102, kind


def test_C09_permission_denied(node, fresh):
    # Channels of a namespace without permissions would be readable by everybody.
    channel = fresh("closed")
    with Wire.connected(node) as wire:
        assert wire.call(subscribe={"channel": channel}) == {
            "id": wire.id,
            "error": {"code": 103, "message": "permission denied"},
        }
        assert wire.error(publish={"channel": channel, "data": {}}) == 103
    assert node.num_clients(channel) == 0


def test_C10_already_subscribed(node, fresh):
    # A second subscription would deliver everything twice.
    channel = fresh("open")
    with Wire.connected(node) as wire:
        assert wire.subscribe(channel) == {}
        assert wire.error(subscribe={"channel": channel}) == 105
        node.publish(channel, 1)
        assert wire.data() == 1
        wire.quiet()


def test_C11_channel_limit(node, fresh):
    # One client could take any amount of memory.
    prefix = fresh("open")
    with Wire.connected(node) as wire:
        for n in range(128):
            wire.subscribe(f"{prefix}.{n}")
        assert wire.error(subscribe={"channel": f"{prefix}.128"}) == 106
        wire.call(unsubscribe={"channel": f"{prefix}.0"})
        assert wire.subscribe(f"{prefix}.128") == {}


def test_C12_channel_name_length_and_alphabet(node):
    # Over-long and non-ASCII names break brokers behind the node.
    with Wire.connected(node) as wire:
        longest = "open:" + "x" * 250
        assert wire.subscribe(longest) == {}
        assert wire.error(subscribe={"channel": longest + "y"}) == 107
        assert wire.error(subscribe={"channel": "open:caf\u00e9"}) == 107
        assert wire.error(publish={"channel": "open:caf\u00e9", "data": {}}) == 107


def test_C16_unsubscribe_ends_delivery_and_frees_the_channel(node, fresh):
    # Clients would pay for channels they left; the API would list dead channels.
    channel = fresh("open")
    with Wire.connected(node) as wire, Wire.connected(node) as other:
        wire.subscribe(channel)
        other.subscribe(channel)
        assert wire.call(unsubscribe={"channel": channel}) == {"id": wire.id, "unsubscribe": {}}
        node.publish(channel, 1)
        assert other.data() == 1
        wire.quiet()
        other.call(unsubscribe={"channel": channel})
        assert channel not in node.api("channels")["channels"]


def test_C16_unsubscribe_of_a_channel_never_subscribed(node, fresh):
    # SDKs send it on races; an error would make them reconnect.
    with Wire.connected(node) as wire:
        assert wire.call(unsubscribe={"channel": fresh("open")})["unsubscribe"] == {}


def test_C17_rpc_and_send_without_a_backend(node):
    # Clients would wait for a reply that never comes.
    with Wire.connected(node) as wire:
        assert wire.error(rpc={"method": "x", "data": {}}) == 108
        wire.send({"send": {"data": {}}})
        assert wire.closed() == (3508, "not available")


def test_C07_many_commands_in_one_frame_are_answered_in_order(node):
    # Replies out of order break clients that pipeline.
    with Wire.connected(node) as wire:
        wire.send(*({"id": n, "rpc": {"method": "x"}} for n in range(100, 600)))
        assert [wire.next()["id"] for _ in range(500)] == list(range(100, 600))
