"""Start, reload, stop, health, metrics: what operators and their tools see."""

import re
import signal
import socket
import threading
import time

import pytest
from harness import CORES, Closed, Wire, eventually, running
from harness.node import API_KEY


@pytest.mark.parametrize("cores", CORES)
def test_A19_graceful_shutdown(cores):
    # On every deployment clients would be cut off without a reason, or the process would hang.
    with running(cores=cores) as node:
        wires = [Wire.connected(node, str(n)) for n in range(40)]
        silent = Wire(node)
        for wire in wires:
            wire.subscribe("members:a")
        started = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        for wire in wires:
            assert wire.closed() == (3001, "shutdown")
            wire.__exit__()
        silent.__exit__()
        assert node.exit_code() == 0
        assert time.monotonic() - started < 15
        assert not node.logs("error"), node.logs("error")


def test_A19_what_was_accepted_is_delivered_before_the_end():
    # A publication that the API confirmed would be lost on deployment.
    with running() as node, Wire.connected(node) as wire:
        wire.subscribe("open:a")
        for n in range(50):
            node.publish("open:a", n)
        node.process.send_signal(signal.SIGTERM)
        assert [wire.data() for _ in range(50)] == list(range(50))
        assert wire.closed() == (3001, "shutdown")
        assert node.exit_code() == 0


def test_A19_clients_that_do_not_answer_cannot_hold_it():
    # One dead phone would keep the old process alive for hours.
    with running({"shutdown": {"timeout": "8s"}}) as node:
        wires = [Wire.connected(node, str(n)) for n in range(5)]
        node.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        node.exit_code(within=12)
        assert time.monotonic() - started < 10
        for wire in wires:
            wire.__exit__()


HEAD = f"POST /api/info HTTP/1.1\r\nHost: here\r\nX-API-Key: {API_KEY}\r\nContent-Length: 2\r\n\r\n"


@pytest.mark.parametrize("half", [HEAD[:12], HEAD + "{"], ids=["head", "body"])
def test_A19_half_a_request_cannot_hold_it(half):
    # Anybody could make each deployment end with an error.
    with running({"shutdown": {"timeout": "9s"}}, cores=1) as node:
        with socket.create_connection(("127.0.0.1", node.port)) as client:
            client.sendall(half.encode())
            # By the only core, behind that.
            assert node.http("GET", "/health")[0] == 200
            node.stop()


@pytest.mark.parametrize("cores", [1, 4])
def test_C25_restart_and_recover(cores):
    # After a restart the memory engine has nothing: clients must be told, not left believing.
    with running(cores=cores) as node:
        with Wire.connected(node) as wire:
            epoch = wire.subscribe("recovery:a")["epoch"]
            node.publish("recovery:a", 1)
            assert wire.data() == 1
        node.stop()
        node.start()
        with Wire.connected(node) as wire:
            result = wire.subscribe("recovery:a", recover=True, epoch=epoch, offset=1)
            assert result.get("recovered", False) is False and result["epoch"] != epoch


def test_A18_reload():
    # Adding a namespace would need a restart that disconnects everybody.
    with running() as node, Wire.connected(node) as wire:
        assert node.api_error("publish", channel="added:x", data=1) == 102
        text = (node.dir / "config.json").read_text()
        added = '"namespaces": [ { "name": "added", "allow_subscribe_for_client": true },'
        (node.dir / "config.json").write_text(text.replace('"namespaces": [', added, 1))
        node.process.send_signal(signal.SIGHUP)
        eventually(lambda: "error" not in node.api_reply("publish", {"channel": "added:x", "data": 1}), what="new namespace")
        assert wire.subscribe("added:x") == {}
        (node.dir / "config.json").write_text("{broken")
        node.process.send_signal(signal.SIGHUP)
        node.wait_log("config", level="error")
        assert node.publish("added:x", 2) == {}, "the old configuration goes on"
        assert wire.data() == 2


def test_A20_pid_file():
    # Process supervisors that read it would signal a stranger.
    with running({"pid_file": "gyre.pid"}) as node:
        assert (node.dir / "gyre.pid").read_text().strip() == str(node.process.pid)
        node.stop()
        assert not (node.dir / "gyre.pid").exists()


def test_L04_health(node):
    # Load balancers would take the node out.
    code, headers, body = node.http("GET", "/health")
    assert (code, body) == (200, b"{}")
    assert headers["Content-Type"].startswith("application/json")


def test_endpoints_are_off_unless_enabled():
    # Internals would be on the public port by surprise.
    with running({"prometheus": None}) as node:
        assert node.http("GET", "/metrics")[0] == 404
        assert node.http("GET", "/admin")[0] == 404


def samples(node):
    """The metrics page as {"name{labels}": value}."""
    code, headers, body = node.http("GET", "/metrics")
    assert code == 200 and headers["Content-Type"].startswith("text/plain")
    found = {}
    for line in body.decode().splitlines():
        if not line.startswith("#"):
            series, value = line.rsplit(" ", 1)
            assert re.fullmatch(r'[a-z_]+(\{([a-z_]+="[^"]*",?)*\})?', series), line
            assert series not in found, f"twice: {series}"
            found[series] = float(value)
    return found


@pytest.mark.parametrize("cores", CORES)
def test_L01_metrics(cores):
    # Existing dashboards would be empty or show one core's share.
    with running(cores=cores) as node:
        wires = [Wire.connected(node, str(n % 3)) for n in range(8)]
        for wire in wires:
            wire.subscribe("open:a")
            wire.subscribe("members:a")
        node.publish("open:a", 1)
        node.api_error("publish", channel="nope:x", data=1)
        expected = {
            "centrifugo_node_num_clients": 8,
            "centrifugo_node_num_users": 3,
            "centrifugo_node_num_subscriptions": 16,
            "centrifugo_node_num_channels": 2,
            "centrifugo_node_num_nodes": 1,
            'centrifugo_node_messages_sent_count{type="publication",channel_namespace=""}': 1,
            'centrifugo_node_messages_sent_count{type="join",channel_namespace=""}': 8,
            'centrifugo_api_command_errors_total{protocol="http",method="publish",error="102"}': 1,
        }

        def matches():
            now = samples(node)
            shown = {series: now.get(series) for series in expected}
            assert shown == expected
            return True

        eventually(matches, within=12, what="expected metrics")
        assert any(series.startswith("centrifugo_node_build{version=") for series in samples(node))
        assert samples(node)["process_resident_memory_bytes"] > 1 << 20
        for wire in wires:
            wire.__exit__()
        eventually(lambda: samples(node)["centrifugo_node_num_clients"] == 0, within=12, what="zero clients")


def test_L05_logs_are_json_lines():
    # Log shippers would drop lines they cannot parse; `log.level` would not help against noise.
    with running() as node:
        node.stop()
        lines = (node.dir / "stderr").read_text().splitlines()
        assert lines and len(node.logs()) == len(lines), lines
        assert all({"level", "time", "message"} <= set(entry) for entry in node.logs())
    with running({"log": {"level": "error"}}) as node:
        assert not node.logs("info")


def test_L06_refusals_are_visible_at_info(node, fresh):
    # "It does not work" could only be answered with a debugger.
    channel = fresh("closed")
    with Wire.connected(node, "4711") as wire:
        assert wire.error(subscribe={"channel": channel}) == 103
        entry = node.wait_log(channel, level="info")
        assert entry.get("user") == "4711" and entry.get("client") == wire.session["client"]
    with Wire(node) as wire:
        wire.send({"id": 1, "connect": {"token": "nonsense"}})
        assert wire.closed()[0] == 3500
        node.wait_log("token", level="info")


def test_L15_secrets_are_not_logged():
    # Logs are read by more people than keys are meant for.
    with running({"log": {"level": "trace"}}) as node:
        with Wire.connected(node) as wire:
            wire.subscribe("open:a")
            node.publish("open:a", 1)
        node.stop()
        output = node.output()
        assert "test-secret" not in output and "test-api-key" not in output
        assert "eyJ" not in output, "a token in the log is a login for its reader"


@pytest.mark.parametrize("cores", CORES)
def test_storm_of_connections(cores):
    # After a restart of the load balancer everybody comes at once.
    with running(cores=cores) as node:
        failures = []

        def visit(user):
            try:
                for _ in range(15):
                    with Wire.connected(node, str(user)) as wire:
                        wire.subscribe("members:storm")
            except (AssertionError, Closed, OSError) as error:
                failures.append(error)

        threads = [threading.Thread(target=visit, args=(user,)) for user in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        eventually(lambda: node.api("presence", channel="members:storm") == {"presence": {}}, what="nobody left")
        eventually(lambda: node.api("info")["nodes"][0]["num_clients"] == 0, what="no connection left")
