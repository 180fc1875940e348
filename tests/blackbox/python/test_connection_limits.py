"""How many clients a node takes, how many connections a user, and how fast: over all cores together, never more."""

import contextlib
import json
import re
import signal
import socket
import struct
import time

import pytest
from harness import CORES, Closed, Gyre, Wire, eventually, running, token
from harness.wire import Refused, upgrade_request

every_core_count = pytest.mark.parametrize("cores", CORES)


def metric(node, name):
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\d+)$", node.http("GET", "/metrics")[2].decode(), re.MULTILINE)
    return int(found[1]) if found else 0


def open_socket(node):
    s = socket.create_connection(("127.0.0.1", node.port))
    s.settimeout(10)
    return s


def reset(s):
    """Ends a connection with RST, as a device that loses power does."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def handshakes_at_once(node, count):
    """Upgrades sent before any answer is read: the sockets that got in, and the statuses of the others."""
    sockets = [open_socket(node) for _ in range(count)]
    for s in sockets:
        s.sendall(upgrade_request(node.port))
    inside, refused = [], []
    for s in sockets:
        status = int(s.recv(4096).split()[1])
        if status == 101:
            inside.append(s)
        else:
            refused.append(status)
            s.close()
    return inside, refused


def gets_in(node):
    try:
        return Wire(node)
    except (Refused, Closed):
        return None


# ---- client.connection_limit


@every_core_count
def test_C13_connection_limit(cores):
    # A node would take clients until it has no memory for any of them.
    with running({"client": {"connection_limit": 10}}, cores=cores) as node, contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire.connected(node, str(n))) for n in range(10)]
        for _ in range(3):
            with pytest.raises(Refused) as refused:
                Wire(node)
            assert refused.value.status == 503
        eventually(lambda: metric(node, "centrifugo_node_client_connection_limit") == 3, what="counted refusals")
        entry = node.wait_log("client.connection_limit", level="warn")
        assert entry["limit"] == 10
        assert len([e for e in node.logs("warn") if "client.connection_limit" in e["message"]]) == 1
        assert node.publish("open:x", 1) == {}, "the server API is not for clients and has no limit"
        wires.pop().socket.close()
        with eventually(lambda: gets_in(node), what="place of the one that left"):
            with pytest.raises(Refused):
                Wire(node)


@every_core_count
def test_C13_racing_handshakes_never_exceed_the_limit(cores):
    # A reconnect storm over several cores would overrun the limit that is there for it.
    with running({"client": {"connection_limit": 10}}, cores=cores) as node:
        for _ in range(5):
            inside, refused = handshakes_at_once(node, 60)
            assert (len(inside), set(refused)) == (10, {503})
            for s in inside:
                reset(s)
            eventually(lambda: sum(metric_by_core(node, "gyre_core_connections")) <= 1, what="end of all")


def metric_by_core(node, name):
    text = node.http("GET", "/metrics")[2].decode()
    return [int(n) for n in re.findall(rf"^{name}{{[^}}]*}} (\d+)$", text, re.MULTILINE)]


@every_core_count
def test_C13_places_of_abandoned_handshakes_come_back(cores):
    # Scanners and broken clients would use the node up for good, one place each.
    with running({"client": {"connection_limit": 5, "stale_close_delay": "1s"}}, cores=cores) as node:
        for n in range(200):
            s = open_socket(node)
            request = upgrade_request(node.port)
            s.sendall(request if n % 2 else request[: 10 + n % 100])
            # Some leave politely, some not; some have two requests on the way.
            if n % 4 == 1:
                s.sendall(request)
            reset(s) if n % 3 else s.close()
        silent = eventually(lambda: gets_in(node), what="a place after the flood")
        assert silent.closed(within=6) == (3502, "stale")
        silent.socket.close()

        def five():
            with contextlib.ExitStack() as stack:
                inside, _ = handshakes_at_once(node, 8)
                for s in inside:
                    stack.callback(reset, s)
                return len(inside) == 5

        eventually(five, every=0.3, what="all five places")


def test_C13_the_limit_can_be_changed_without_a_restart():
    # Operators could only react to a full node by throwing everybody out.
    with running({"client": {"connection_limit": 1}}, cores=2) as node, Wire.connected(node):
        assert gets_in(node) is None
        file = node.dir / "config.json"
        config = json.loads(file.read_text())
        config["client"]["connection_limit"] = 3
        file.write_text(json.dumps(config))
        node.process.send_signal(signal.SIGHUP)
        with eventually(lambda: gets_in(node), what="new limit"):
            inside, refused = handshakes_at_once(node, 5)
            assert (len(inside), refused) == (1, [503] * 4)
            inside[0].close()


@pytest.mark.parametrize("option", ["connection_limit", "user_connection_limit", "connection_rate_limit"])
def test_negative_limits_are_refused(option):
    # A slip of the pen would switch the limit off in silence.
    node = Gyre({"client": {option: -1}})
    try:
        assert node.spawn().exit_code() == 1
        assert f"client.{option}: -1 is too small, the least is 0" in node.output()
    finally:
        node.end()


# ---- client.user_connection_limit


@every_core_count
def test_C14_user_connection_limit(cores):
    # One account could be shared by a whole company, or by an attacker's machines.
    client = {"user_connection_limit": 2, "allow_anonymous_connect_without_token": True}
    with running({"client": client}, cores=cores) as node, contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire.connected(node, "42")) for _ in range(2)]
        for _ in range(3):
            with Wire(node) as third:
                third.send({"id": 1, "connect": {"token": token("42")}})
                assert third.closed() == (3504, "connection limit")
        for _ in range(4):
            anonymous = stack.enter_context(Wire(node))
            assert anonymous.call(connect={})["connect"]["client"]
        stack.enter_context(Wire.connected(node, "43"))
        assert node.wait_log("client.user_connection_limit", level="warn")["limit"] == 2
        counted = b'centrifugo_client_num_server_disconnects{code="3504"} 3'
        eventually(lambda: counted in node.http("GET", "/metrics")[2], what="counted refusals")

        wires[0].socket.close()
        stack.enter_context(eventually(lambda: connected_or_refused(node, "42"), what="seat of the one that left"))
        # A connection that the server ends gives its seat back as well.
        node.api("disconnect", user="42")
        for _ in range(2):
            stack.enter_context(eventually(lambda: connected_or_refused(node, "42"), what="seats of the disconnected"))


def connected_or_refused(node, user):
    wire = Wire(node)
    try:
        wire.session = wire.call(connect={"token": token(user)})["connect"]
        return wire
    except Closed as end:
        assert (end.code, end.reason) == (3504, "connection limit")
        wire.socket.close()
        return None


@every_core_count
def test_C14_racing_connects_never_exceed_the_limit(cores):
    # Whoever connects fast enough would get around the limit.
    with running({"client": {"user_connection_limit": 2}}, cores=cores) as node:
        for n in range(10):
            user = f"user{n}"
            wires = [Wire(node) for _ in range(20)]
            for wire in wires:
                wire.send({"id": 1, "connect": {"token": token(user)}})
            inside = 0
            for wire in wires:
                try:
                    inside += "connect" in wire.reply(1)
                except Closed as end:
                    assert end.code == 3504
            assert inside == 2
            # Half of them end while others still ask.
            for wire in wires:
                wire.socket.close()
            again = [eventually(lambda: connected_or_refused(node, user), what="free seats") for _ in range(2)]
            for wire in again:
                wire.socket.close()


# ---- client.connection_rate_limit


@every_core_count
def test_C15_connection_rate_limit(cores):
    # After an outage all clients at once would cost the node everything it has.
    with running({"client": {"connection_rate_limit": 5}}, cores=cores) as node:
        started = time.monotonic()
        inside, refused = handshakes_at_once(node, 50)
        # A bucket of five, and five more for every second that it took.
        assert 5 <= len(inside) <= 5 + 5 * (time.monotonic() - started) + 1
        assert set(refused) == {503}
        assert node.wait_log("client.connection_rate_limit", level="warn")["per_second"] == 5
        eventually(lambda: metric(node, "gyre_connection_rate_limited_total") == len(refused), what="counted refusals")
        assert node.publish("open:x", 1) == {}, "the server API is not for clients and has no limit"
        for s in inside:
            s.close()
        with eventually(lambda: gets_in(node), what="a connection in the next second"):
            pass


# ---- open files


@pytest.mark.parametrize("cores", [1, 2])
def test_C27_open_file_limit_is_named_and_survived(cores):
    # The node would die, spin or stay deaf after the busiest hour, and nobody would know why.
    with running(cores=cores, files_max=100) as node, Wire.connected(node) as inside:
        inside.subscribe("open:inside")
        sockets = []
        for _ in range(100 * cores + 200):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", node.port))
            sockets.append(s)
        entry = node.wait_log("cannot accept connections", level="warn")
        assert "100" in json.dumps(entry) and "LimitNOFILE" in entry["message"]
        inside.call(publish={"channel": "open:inside", "data": 1})
        assert inside.data() == 1, "who is in notices nothing"
        for s in sockets:
            s.close()
        eventually(lambda: healthy(node), within=15, what="answer after the flood")
        with Wire.connected(node) as wire:
            wire.subscribe("open:x")
        said = [e for e in node.logs("warn") if "cannot accept connections" in e["message"]]
        assert len(said) <= cores * 2, "one line per core and ten seconds"


def healthy(node):
    try:
        return node.http("GET", "/health", within=2)[0] == 200
    except OSError:
        return False
