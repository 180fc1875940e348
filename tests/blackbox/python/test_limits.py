"""Bounds: what one client, one user or one slow network can cost the node."""

import socket
import time

import pytest
from harness import Closed, Wire, eventually, running, token
from harness.wire import TEXT


def test_B05_message_size_limit(node):
    # One client could make the node hold any amount of memory; others must not notice.
    with Wire.connected(node) as big, Wire.connected(node) as other:
        big.send_frame(TEXT, b'{"id":1,"rpc":{"method":"' + b"x" * 70_000 + b'"}}')
        assert big.closed() == (1009, "")
        assert other.error(rpc={"method": "x"}) == 108


def test_B05_message_size_limit_counts_fragments(node):
    # The limit could be walked around with many small frames.
    with Wire.connected(node) as wire:
        wire.send_frame(TEXT, b"{" + b" " * 40_000, fin=False)
        wire.send_frame(0, b" " * 40_000, fin=False)
        assert wire.closed() == (1009, "")


def test_B05_declared_length_allocates_nothing(node):
    # A few bytes could make the node reserve gigabytes.
    before = node.memory_bytes()
    wires = [Wire.connected(node) for _ in range(20)]
    for wire in wires:
        wire.send_frame(TEXT, b"", length=1 << 40)
    for wire in wires:
        assert wire.closed() == (1009, "")
        wire.__exit__()
    assert node.memory_bytes() - before < 64 << 20


def test_B05_limit_is_configurable():
    # Applications with large messages could not be served.
    with running({"websocket": {"message_size_limit": 200_000}}) as node, Wire.connected(node) as wire:
        wire.subscribe("open:big")
        wire.call(publish={"channel": "open:big", "data": "x" * 150_000})
        assert len(wire.data()) == 150_000


def test_C05_stale_connection():
    # Connections that never log in would fill the table.
    with running({"client": {"stale_close_delay": "1s"}}) as node:
        with Wire(node) as wire, Wire.connected(node) as good:
            assert wire.closed(within=6) == (3502, "stale")
            good.quiet(1.5)


def test_3505_too_many_server_side_subscriptions(node):
    # A token could make one connection as expensive as a thousand.
    with Wire(node) as wire:
        wire.send({"id": 1, "connect": {"token": token(channels=[f"open:{n}" for n in range(129)])}})
        assert wire.closed() == (3505, "channel limit")


def test_channel_limit_is_configurable():
    # Dashboards with many channels could not be served.
    with running({"client": {"channel_limit": 2}}) as node, Wire.connected(node) as wire:
        wire.subscribe("open:a")
        wire.subscribe("open:b")
        assert wire.error(subscribe={"channel": "open:c"}) == 106


# ---- pings

PINGS = {"client": {"ping_interval": "2s", "pong_timeout": "1s"}}


def test_B15_client_without_pongs_is_closed():
    # Dead connections of phones would stay for ever.
    with running(PINGS) as node, Wire.connected(node, answer_pings=False) as wire:
        assert (wire.session["ping"], wire.session["pong"]) == (2, True)
        assert wire.next(within=4) == {}
        assert wire.closed(within=4) == (3012, "no pong")


def test_B15_client_with_pongs_stays_and_busy_clients_are_pinged_too():
    # The Python SDK gives up when it sees data but no pings.
    with running(PINGS) as node, Wire.connected(node, answer_pings=False) as wire:
        wire.subscribe("open:busy")
        pings, deadline = 0, time.monotonic() + 7.5
        while time.monotonic() < deadline:
            node.publish("open:busy", 1)
            message = wire.next()
            while message == {}:
                pings += 1
                wire.send({})
                message = wire.next()
        assert 3 <= pings <= 5


def test_unsolicited_pong_is_refused(node):
    # The protocol knows one pong per ping; more is a broken client.
    with Wire.connected(node) as wire:
        wire.send({})
        assert wire.closed() == (3501, "bad request")


def test_pings_can_be_turned_off():
    # Networks with their own keep-alive would carry needless traffic.
    with running({"client": {"ping_interval": "-1s", "pong_timeout": "-1s"}}) as node:
        with Wire.connected(node) as wire:
            assert "ping" not in wire.session and "pong" not in wire.session
            assert wire.error(rpc={"method": "x"}) == 108


# ---- slow consumers


@pytest.mark.parametrize("cores", [1, 2])
def test_B16_slow_consumer_is_dropped_and_memory_stays_bounded(cores):
    # One phone in a tunnel could take all memory of the node.
    with running(cores=cores) as node:
        with Wire.connected(node, receive_buffer=4096) as slow, Wire.connected(node, "7") as fast:
            slow.subscribe("open:flood")
            fast.subscribe("open:flood")
            before = node.memory_bytes()
            for n in range(500):
                node.publish("open:flood", "x" * 100_000)
                assert len(fast.data()) == 100_000, n
            eventually(lambda: node.num_clients("open:flood") == 1, what="slow client dropped")
            assert node.memory_bytes() - before < 64 << 20
            code, reason = slow.closed(within=30)
            assert (code, reason) in ((3008, "slow"), (None, "")), "the close frame may not fit any more"
            fast.quiet(0.1)
            counted = b'centrifugo_client_num_server_disconnects{code="3008"} 1'
            eventually(lambda: counted in node.http("GET", "/metrics")[2], within=12, what="counted disconnect")


def test_B16_bound_counts_only_what_the_peer_does_not_take():
    # Healthy clients would be dropped for one large message; slow ones would be kept for too long.
    with running({"client": {"queue_max_size": 10_000}}, cores=1) as node:
        with Wire.connected(node) as healthy, Wire.connected(node, "7", receive_buffer=4096) as slow:
            healthy.subscribe("open:a")
            slow.subscribe("open:a")
            rounds = 0
            while node.num_clients("open:a") == 2:
                node.publish("open:a", "x" * 20_000)
                assert len(healthy.data()) == 20_000
                rounds += 1
                assert rounds < 1000, "kept although it takes nothing"


# ---- the listening socket


def test_C27_out_of_file_descriptors_is_survived():
    # The node would die or spin in the busiest hour.
    with running(cores=1, files_max=100) as node:
        sockets = []
        for _ in range(200):
            s = socket.socket()
            s.settimeout(5)
            s.connect(("127.0.0.1", node.port))
            sockets.append(s)
        time.sleep(0.2)  # let it run into the limit; there is nothing to poll that needs no connection
        for s in sockets:
            s.close()

        def answers():
            try:
                return node.http("GET", "/health", within=2)[0] == 200
            except OSError:
                return False

        eventually(answers, within=15, what="answer after the flood")


def test_half_requests_do_not_block_others(node):
    # A few slow clients could keep everybody from connecting.
    sockets = []
    for _ in range(100):
        s = socket.create_connection(("127.0.0.1", node.port))
        s.sendall(b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\n")
        sockets.append(s)
    started = time.monotonic()
    with Wire.connected(node) as wire:
        assert wire.session["client"]
    assert time.monotonic() - started < 2
    for s in sockets:
        s.close()
