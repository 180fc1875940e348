"""The load generator: every workload passes against a node, and against a server that breaks its promises it must fail.

A checker that cannot fail would make every published number worthless, so most of this file is about failing.
"""

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest
from harness import Gyre
from harness.faulty import Faulty
from harness.node import API_KEY, BINARY

LOADTEST = pathlib.Path(os.environ.get("GYRE_LOADTEST_BIN") or BINARY.parent / "gyre-loadtest").resolve()
assert LOADTEST.exists(), f"{LOADTEST} is not built: make generator"

SECRET = ["--token-key", "test-secret", "--api-key", API_KEY]
SHORT = ["--warmup", "300ms", "--duration", "1500ms"]


def start(port, *args):
    url = f"ws://127.0.0.1:{port}/connection/websocket"
    command = [str(LOADTEST), args[0], "--url", url, *args[1:]]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(port, tmp_path, *args):
    """Exit code, record and what was printed."""
    record = tmp_path / "run.json"
    process = start(port, *args, "--json", str(record))
    try:
        printed, _ = process.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert record.exists(), printed
    return process.returncode, json.loads(record.read_text()), printed


@pytest.fixture(scope="module")
def pinging():
    """A node whose pings come often enough to see some."""
    gyre = Gyre({"client": {"ping_interval": "1s", "pong_timeout": "900ms"}}, cores=2)
    try:
        yield gyre.start()
    finally:
        gyre.end()


@pytest.mark.parametrize("protocol", ["json", "protobuf"])
@pytest.mark.parametrize(
    "args",
    [
        ["idle", "--clients", "200", "--hold", "4s", "--personal", "--groups", "7", "--broadcast", "--cores", "3"],
        ["fanout", "--channels", "2", "--subscribers", "100", "--publish-rate", "50", *SHORT],
        ["fanout", "--subscribers", "50", "--publish-rate", "160", "--burst", "16", *SHORT],
        ["mesh", "--clients", "200", "--channels-per-client", "3", "--publish-rate", "200", "--cores", "3", *SHORT],
        ["churn", "--clients", "200", "--channels", "5", "--reconnect-rate", "100", *SHORT],
        ["churn", "--clients", "200", "--channels", "5", "--reconnect-rate", "100", "--recover", *SHORT],
        ["storm", "--clients", "200", "--channels", "5", "--drop-all", "--recover", "--cores", "2", *SHORT],
        ["publish", "--connections", "4", "--pipeline", "4", "--rate", "500", *SHORT],
        ["publish", "--via", "ws", "--connections", "4", "--batch", "3", "--rate", "500", *SHORT],
    ],
    ids=lambda args: "-".join([args[0], *(word.strip("-") for word in args if word in ("--recover", "ws", "--burst"))]),
)
def test_workloads_pass_against_a_node(pinging, tmp_path, args, protocol):
    # A generator that finds faults where there are none would be switched off.
    namespace = "recovery" if "--recover" in args else "open"
    prefix = f"{namespace}:{protocol}{time.monotonic_ns()}"
    code, record, printed = run(pinging.port, tmp_path, *args, *SECRET, "--protocol", protocol, "--prefix", prefix)
    assert code == 0, printed
    totals = record["totals"]
    assert totals["expected"] == totals["delivered"]
    assert totals["lost"] == totals["duplicated"] == totals["disordered"] == totals["connect_failed"] == 0
    assert totals["open"] == 0, "everybody has left"
    if args[0] == "idle":
        assert totals["delivered"] == 200
        assert totals["pings"] >= 3 * 200
    else:
        assert totals["published"] > 0
    if args[0] in ("churn", "storm"):
        assert record["latencies"]["recovery"]["count"] >= 100


def fault_once(change):
    """A fault in the 20th delivery of the third subscriber."""
    seen = {}

    def fault(subscriber, waiting):
        seen[subscriber] = seen.get(subscriber, 0) + 1
        if subscriber == 3 and seen[subscriber] == 20:
            return change(list(waiting))
        return list(waiting)

    return fault


def held_back():
    """The 20th delivery of the third subscriber comes after the 21st."""
    state = {"count": 0, "held": []}

    def fault(subscriber, waiting):
        publications = list(waiting)
        if subscriber == 3:
            state["count"] += 1
            if state["count"] == 20:
                state["held"] = publications
                return []
            publications, state["held"] = publications + state["held"], []
        return publications

    return fault


FANOUT = ["fanout", "--subscribers", "20", "--publish-rate", "50", *SHORT]


@pytest.mark.parametrize(
    ("fault", "counter", "count"),
    [
        (fault_once(lambda publications: []), "lost", 1),
        (fault_once(lambda publications: publications * 2), "duplicated", 1),
        (held_back(), "disordered", 1),
        (fault_once(lambda publications: None), "closed", 1),
    ],
    ids=["lost", "duplicated", "disordered", "cut"],
)
def test_a_fault_in_one_delivery_fails_the_run(tmp_path, fault, counter, count):
    # One wrong delivery in a thousand: exit code 1, and the right counter says what it was.
    with Faulty(fault) as server:
        code, record, printed = run(server.port, tmp_path, *FANOUT)
    assert code == 1, printed
    totals = record["totals"]
    found = {name: totals[name] for name in ("lost", "duplicated", "disordered", "closed")}
    assert found == {"lost": 0, "duplicated": 0, "disordered": 0, "closed": 0} | {counter: count}, printed


def test_the_last_publication_counts_too(tmp_path):
    # Nothing comes after the last one, so no gap shows that it is missing.
    state = {"count": 0}

    def fault(subscriber, waiting):
        state["count"] += subscriber == 3
        return [] if subscriber == 3 and state["count"] > 80 else list(waiting)

    with Faulty(fault) as server:
        code, record, printed = run(server.port, tmp_path, *FANOUT)
    totals = record["totals"]
    assert code == 1, printed
    assert totals["lost"] == totals["expected"] - totals["delivered"] == state["count"] - 80 > 0


def test_a_damaged_payload_fails_the_run(tmp_path):
    def damage(publications):
        return [dict(data, p=data["p"][:-1] + "y") for data in publications]

    with Faulty(fault_once(damage)) as server:
        code, record, printed = run(server.port, tmp_path, *FANOUT)
    assert code == 1, printed
    assert any("damaged" in name for name in record["totals"]["errors"]), printed


def test_an_honest_small_server_passes(tmp_path):
    # The faults above must be what fails, not the small server.
    with Faulty() as server:
        code, record, printed = run(server.port, tmp_path, *FANOUT)
    assert code == 0, printed
    assert record["totals"]["delivered"] == record["totals"]["expected"] > 1000


def test_refused_publications_fail_the_run(tmp_path):
    with Faulty(refuse_publish=True) as server:
        code, record, printed = run(server.port, tmp_path, *FANOUT)
    assert code == 1, printed
    assert record["totals"]["publish_failed"] > 0
    assert record["totals"]["errors"]["publish: error 102"] == record["totals"]["publish_failed"]


def test_publications_that_were_never_made_fail_the_run(tmp_path):
    # 50 a second for 1.8 s are 90: "30 of 30 delivered" of a server that died on the way must not be the whole story.
    with Faulty(dies_after=30) as server:
        code, record, printed = run(server.port, tmp_path, *FANOUT)
    assert code == 1, printed
    totals = record["totals"]
    made = totals["published"] + totals["publish_failed"]
    assert totals["published"] == 30 and totals["not_made"] == 90 - made >= 50, printed
    assert f"{totals['not_made']} publications of the schedule were not made" in record["verdict"]["violations"], printed
    assert f", {totals['not_made']} not made" in printed


def test_text_that_is_not_utf8_fails_the_run(tmp_path):
    # In a member that nobody reads: browsers end a connection for it.
    def damage(push):
        return push.replace(b'"pub":{', b'"pub":{"tags":{"a":"\xff"},')

    with Faulty(damage=damage) as server:
        code, record, printed = run(server.port, tmp_path, *FANOUT)
    assert code == 1, printed
    assert record["totals"]["errors"]["server broke the websocket protocol: code 1007"] == 20, printed
    assert "20 x server broke the websocket protocol: code 1007 (text is not utf-8)" in record["verdict"]["violations"]


@pytest.mark.parametrize(
    "header", [b"Sec-WebSocket-Extensions: permessage-deflate", b"Sec-WebSocket-Protocol: centrifuge-protobuf"]
)
def test_a_handshake_that_accepts_what_was_not_offered_fails_the_run(tmp_path, header):
    with Faulty(handshake=header) as server:
        code, record, printed = run(server.port, tmp_path, "idle", "--clients", "2", "--hold", "300ms")
    assert code == 1, printed
    assert any("server broke the websocket handshake" in line for line in record["verdict"]["violations"]), printed


def test_nobody_listens(tmp_path):
    # No server at all: an end with the cause, not a run that waits for ever.
    code, record, printed = run(9, tmp_path, "idle", "--clients", "10", "--hold", "1s")
    assert code == 1, printed
    assert record["totals"]["errors"]["connect: ECONNREFUSED"] >= 10


@pytest.mark.parametrize(
    "workload", [["idle", "--personal", "--hold", "300ms"], ["fanout", *SHORT]], ids=["idle", "fanout"]
)
def test_clients_that_never_get_their_subscriptions_fail_the_run(tmp_path, workload):
    # A connect reply alone is no client: a run in which nobody was ready must not pass.
    count = ["--clients" if workload[0] == "idle" else "--subscribers", "5"]
    with Faulty(at_subscribe="cut") as server:
        code, record, printed = run(server.port, tmp_path, *workload, *count)
    assert code == 1, printed
    assert "5 clients could not connect" in record["verdict"]["violations"], printed
    # Clients that wait for their next attempt cost nothing: a core that spins would take all of a CPU.
    assert record["seconds"][-1]["generator_cpu_us"] < 1_000_000, printed


def test_a_repeated_connect_reply_fails_the_run(tmp_path):
    with Faulty(at_subscribe="repeat") as server:
        code, record, printed = run(server.port, tmp_path, "idle", "--clients", "5", "--hold", "300ms", "--personal")
    assert code == 1, printed
    assert record["totals"]["errors"] == {"reply to nothing": 5}, printed


def test_output_that_cannot_be_written_leaves_the_record(tmp_path):
    # A full disk behind the terminal's log must not cost the results of an hour.
    record = tmp_path / "run.json"
    with Faulty() as server, open("/dev/full", "w") as full:
        url = f"ws://127.0.0.1:{server.port}/connection/websocket"
        command = [str(LOADTEST), "idle", "--url", url, "--clients", "2", "--hold", "300ms", "--json", str(record)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1 and "cannot print" in done.stderr and "panicked" not in done.stderr, done.stderr
    assert json.loads(record.read_text())["verdict"]["violations"] == []


def test_ctrl_c_while_clients_come_in_is_no_failure(pinging, tmp_path):
    # 1000 clients at 20 a second: most of them have not been dialled when the operator has had enough.
    record = tmp_path / "run.json"
    clients = ["--clients", "1000", "--connect-rate", "20", "--prefix", "open:early", *SECRET]
    process = start(pinging.port, "idle", *clients, "--hold", "1s", "--json", str(record))
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=90)
    assert process.returncode == 0, printed
    assert json.loads(record.read_text())["verdict"]["violations"] == [], printed


def test_ctrl_c_does_not_hide_what_had_failed(tmp_path):
    # Nobody listens: the clients dialled so far have failed, however early the operator sees it and stops.
    record = tmp_path / "run.json"
    process = start(9, "idle", "--clients", "1000", "--connect-rate", "20", "--hold", "1s", "--json", str(record))
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=90)
    assert process.returncode == 1, printed
    record = json.loads(record.read_text())
    (violation,) = record["verdict"]["violations"]
    failed = int(violation.removesuffix(" clients could not connect"))
    assert 1 <= failed <= record["totals"]["dialled"] < 500, printed


def test_a_refused_key_ends_the_run_before_it_begins(pinging, tmp_path):
    # The only publication comes after the hold, maybe an hour later: too late to hear that the key was refused.
    for workload in (["idle", "--clients", "3", "--hold", "5s", "--broadcast"], FANOUT):
        for key, words in (([], "wants a key"), (["--api-key", "wrong"], "does not take the key")):
            process = start(pinging.port, *workload, "--token-key", "test-secret", *key)
            printed, _ = process.communicate(timeout=30)
            assert process.returncode == 2, printed
            assert words in printed and "http 401 (unauthorized)" in printed and "--api-key" in printed, printed


def test_a_server_without_info_is_noted(tmp_path):
    # Compatible servers need not have every method: whether publishing works, the run says.
    with Faulty(info=404) as server:
        code, record, printed = run(server.port, tmp_path, *FANOUT)
    assert code == 0, printed
    assert "--api-url" in " ".join(record["notes"]) and "warning: " in printed, printed


def test_rates_divide_what_came_by_when_it_came(pinging, tmp_path):
    # The measured part is as long as asked for, to the microsecond, and 75 publications are due within it.
    args = ["fanout", "--subscribers", "20", "--publish-rate", "50", "--warmup", "300ms", "--duration", "1500500us"]
    code, record, printed = run(pinging.port, tmp_path, *args, "--prefix", "open:rate", *SECRET)
    assert code == 0, printed
    measured = record["measured"]
    assert measured["seconds"] == 1.5005
    # What is on its way at either end depends on the machine.
    assert abs(measured["published"] - 75) <= 10 and abs(measured["delivered"] - 75 * 20) <= 10 * 20, printed


def test_ctrl_c_ends_politely(pinging, tmp_path):
    record = tmp_path / "run.json"
    clients = ["--clients", "100", "--prefix", "open:int", *SECRET]
    process = start(pinging.port, "idle", *clients, "--hold", "10m", "--json", str(record))
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=20)
    totals = json.loads(record.read_text())["totals"]
    assert process.returncode == 0, printed
    assert (totals["dialled"], totals["open"], totals["errors"]) == (100, 0, {}), printed


@pytest.mark.alone
def test_stalled_subscribers_disturb_nobody(pinging, tmp_path):
    args = ["fanout", "--subscribers", "50", "--stalled", "3", "--publish-rate", "300", "--size", "16384"]
    args += ["--warmup", "300ms", "--duration", "4s", "--prefix", "open:stall", *SECRET]
    code, record, printed = run(pinging.port, tmp_path, *args)
    assert code == 0, printed
    assert "3 stalled subscribers" in " ".join(record["notes"]), printed
    assert "still connected" not in " ".join(record["notes"]), printed
