"""Redis stops, stalls or forgets: clients stay, errors come quickly, everything comes back by itself."""

import concurrent.futures
import contextlib
import re
import signal
import threading
import time

import pytest
from harness import Wire, eventually, running
from harness.checker import Follower, Publisher, judge
from harness.redis import RedisServer, debug_allowed
from harness.several import ANSWERED_WITHIN_S, BACK_WITHIN_S, LIVELY, QUICK, on_redis, several, works
from harness.waiting import timed
from harness.wire import attended


@pytest.mark.parametrize("kept", [True, False], ids=["data kept", "data lost"])
def test_J05_J06_outage_and_return(fresh, kept):
    # An outage of Redis would throw out all clients, and its end would need restarts or leave clients with holes.
    channels = [fresh("recovery") for _ in range(20)]
    plain, members = fresh("open"), fresh("members")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RedisServer(keep=kept))
        nodes = stack.enter_context(several(2, on_redis(server.address, LIVELY)))
        followers = [stack.enter_context(Follower(node, channels, str(n))) for n, node in enumerate(nodes)]
        listener, member = (stack.enter_context(Wire.connected(node, "9")) for node in nodes)
        listener.subscribe(plain)
        member.subscribe(members)
        assert member.push("join")
        publisher = stack.enter_context(Publisher(nodes, channels, every_s=0.002))
        with attended(listener, member):
            eventually(lambda: len(publisher.confirmed) > 200, within=30, what="publications before the outage")
        logged = [len(node.complaints()) for node in nodes]
        memory, used = [node.memory_bytes() for node in nodes], [node.cpu_s() for node in nodes]
        pings = [follower.pings for follower in followers]

        server.kill()
        began = time.monotonic()
        with attended(listener, member):
            for node in nodes:
                during_an_outage(node, plain, channels[0], members)
        with Wire.connected(nodes[0], "10") as newcomer:
            with attended(listener, member):
                for channel in (fresh("recovery"), fresh("open"), fresh("members")):
                    code, took = timed(lambda channel=channel: newcomer.error(subscribe={"channel": channel}))
                    assert code == 100 and took < ANSWERED_WITHIN_S
            assert listener.error(publish={"channel": plain, "data": 1}) == 100
            assert listener.call(unsubscribe={"channel": plain})["unsubscribe"] == {}
            # The node may still hear the channel, then the subscription is as good as one that never ended.
            again = listener.call(subscribe={"channel": plain})
            assert "subscribe" in again or again["error"]["code"] == 100, again
        # The node's own work: nobody publishes now.
        publisher.stop()
        quiet_from = [node.cpu_s() for node in nodes]
        before = None
        while time.monotonic() < began + 7:
            listener.quiet(0.2)
            member.quiet(0.2)
            if before is None and time.monotonic() > began + 4:
                # By now all that notice it have said so: connections, calls, ticks, news of the other nodes.
                before = [len(node.complaints()) for node in nodes]
        quiet_s = time.monotonic() - began
        for number, node in enumerate(nodes):
            assert node.cpu_s() - quiet_from[number] < 0.15 * quiet_s, "a busy loop"
            assert node.cpu_s() - used[number] < 0.7 * quiet_s
            assert node.memory_bytes() < memory[number] + (16 << 20)
            found = node.complaints(logged[number])
            assert found, "an outage must be in the log"
            assert len(node.complaints()) == before[number], "the log grows during an outage"
            assert followers[number].pings >= pings[number] + 2, "clients are pinged"
            assert not followers[number].closes

        with attended(listener, member):
            server.start()
            for node in nodes:
                eventually(lambda node=node: works(node, fresh("recovery")), within=BACK_WITHIN_S, what="publishing again")
            with Publisher(nodes, channels, every_s=0.002, count=200) as after:
                after.wait()
                assert not after.failed
                judge(followers, [publisher, after])
        for follower in followers:
            assert not follower.closes
            jumps = [jump for stream in follower.streams.values() for jump in stream.jumps]
            if kept:
                assert not jumps, "what the window of history holds is recovered"
            else:
                assert {before[0] != after[0] for before, after in jumps} == {True}
                assert all(stream.jumps for stream in follower.streams.values())
        if "error" in again:
            listener.subscribe(plain)
        nodes[1].publish(plain, "back")
        assert listener.data() == "back"
        # Presence was not renewed meanwhile; the next tick brings it back, without a join.
        here = [member.session["client"]]
        eventually(lambda: list(nodes[0].api("presence", channel=members)["presence"]) == here, what="presence")
        member.quiet(0.1)
        for node in nodes:
            eventually(lambda node=node: len(node.api("info")["nodes"]) == 2, within=10, what="two nodes in info")
            eventually(
                lambda node=node: [e for e in node.logs() if re.search("reconnect|again|back", str(e), re.IGNORECASE)],
                what="its end in the log",
            )


def test_one_log_line_per_streak(fresh):
    # One outage would be hundreds of lines on a large machine, and the reason of the next one drowned.
    with RedisServer() as server, running(on_redis(server.address, QUICK), cores=4) as node, Wire.connected(node) as wire:
        for namespace in ("recovery", "members", "open"):
            wire.subscribe(fresh(namespace))
        for turn in range(2):
            logged = len(node.complaints())
            server.kill()
            eventually(lambda: node.complaints(logged), within=6, what="log line")
            for _ in range(10):
                node.api_error("publish", channel=fresh("recovery"), data=1)
            time.sleep(2)
            found = [entry for entry in node.complaints(logged) if f":{server.port}" in str(entry)]
            assert len(found) == 1, found
            server.start()
            eventually(
                lambda: len([e for e in node.logs("info") if "redis" in e and "again" in e["message"]]) == turn + 1,
                what="its end",
            )


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_an_outage_is_in_the_metrics_and_in_the_log(fresh, how):
    # Nobody would be woken: all clients are connected, all graphs look as always.
    with RedisServer() as server, running(on_redis(server.address)) as node:
        node.publish(fresh("recovery"), 1)
        logged = len(node.complaints())
        getattr(server, how)()
        # Without any call of anybody.
        eventually(lambda: node.complaints(logged), within=6, what="log line")
        errors = "centrifugo_broker_redis_pub_sub_errors"
        eventually(lambda: node.metric(errors) > 0, within=12, what=errors)


def during_an_outage(node, plain, channel, members):
    """Everything that needs Redis fails soon, everything else works."""
    calls = {
        "publish": {"channel": plain, "data": 1},
        "broadcast": {"channels": [plain], "data": 1},
        "history": {"channel": channel, "limit": 1},
        "history_remove": {"channel": channel},
        "presence": {"channel": members},
        "presence_stats": {"channel": members},
    }
    for method, request in calls.items():
        reply, took = timed(lambda: node.api_reply(method, request))
        reply = reply["result"]["responses"][0] if method == "broadcast" else reply
        assert reply.get("error", {}).get("code") == 100, (method, reply)
        assert took < ANSWERED_WITHIN_S
    assert node.http("GET", "/health")[0] == 200
    assert any(entry["name"].endswith(f"_{node.port}") for entry in node.api("info")["nodes"])


def test_stalled_redis(fresh):
    # Calls would hang for minutes, and clients be disconnected, because Redis swaps, saves or runs a long script.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(stalled, fresh, how) for how in ("SIGSTOP", "CLIENT PAUSE", "DEBUG SLEEP")]:
            done.result()


def stalled(fresh, how):
    channels = [fresh("recovery") for _ in range(5)]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RedisServer(**debug_allowed()))
        admin = server.client(socket_timeout=20)
        nodes = stack.enter_context(several(2, on_redis(server.address, LIVELY), cores=(1,)))
        followers = [stack.enter_context(Follower(node, channels, str(n))) for n, node in enumerate(nodes)]
        publisher = stack.enter_context(Publisher(nodes, channels, every_s=0.01))
        eventually(lambda: len(publisher.confirmed) > 50, what="publications before the stall")
        began = time.monotonic()
        if how == "SIGSTOP":
            server.pause()
        elif how == "CLIENT PAUSE":
            admin.client_pause(6500, all=True)
        else:
            sleeper = threading.Thread(target=lambda: admin.execute_command("DEBUG", "SLEEP", "6.5"))
            sleeper.start()
        eventually(lambda: publisher.failed, within=ANSWERED_WITHIN_S, what="an error")
        with Wire.connected(nodes[0], "10") as newcomer:
            channel = fresh("recovery")
            newcomer.id += 1
            newcomer.send({"id": newcomer.id, "subscribe": {"channel": channel}})
            reply, took = timed(lambda: newcomer.reply(newcomer.id, within=ANSWERED_WITHIN_S))
            assert reply.get("error", {}).get("code") == 100 or time.monotonic() - began > 6, reply
        for node in nodes:
            assert node.http("GET", "/health")[0] == 200
        time.sleep(max(0, began + 6.5 - time.monotonic()))
        if how == "SIGSTOP":
            server.resume()
        elif how == "DEBUG SLEEP":
            sleeper.join()
        for node in nodes:
            eventually(lambda node=node: works(node, fresh("recovery")), within=BACK_WITHIN_S, what="publishing again")
        confirmed = len(publisher.confirmed)
        eventually(lambda: len(publisher.confirmed) > confirmed + 50, within=BACK_WITHIN_S, what="publications afterwards")
        publisher.stop()
        assert {code for _, code, _, _ in publisher.failed} == {100}
        assert publisher.slowest_s < ANSWERED_WITHIN_S
        judge(followers, [publisher])
        assert not any(follower.closes for follower in followers)


@pytest.mark.alone
def test_memory_is_bounded_while_redis_stalls(fresh):
    # Traffic goes on while nothing is taken: the node would be killed for its memory, with all its clients.
    prefix = fresh("hist")
    names = [f"{prefix}.{n}" for n in range(500)]
    answers, stop = [], threading.Event()
    with RedisServer() as server, running(on_redis(server.address), cores=2) as node:
        node.api("broadcast", channels=names, data=1)
        base = node.memory_bytes()
        server.pause()

        def flood():
            while not stop.is_set():
                reply, took = timed(lambda: node.api_reply("broadcast", {"channels": names, "data": "x" * 50_000}))
                answers.append((reply, took))

        threads = [threading.Thread(target=flood) for _ in range(8)]
        for thread in threads:
            thread.start()
        peak, until = 0, time.monotonic() + 5
        while time.monotonic() < until:
            peak = max(peak, node.memory_bytes())
            time.sleep(0.05)
        stop.set()
        server.resume()
        for thread in threads:
            thread.join()
        assert peak < base + (256 << 20), f"{peak >> 20} MiB"
        assert answers and max(took for _, took in answers) < ANSWERED_WITHIN_S
        for reply, _ in answers:
            codes = {entry["error"]["code"] for entry in reply["result"]["responses"] if "error" in entry}
            assert codes <= {100}
        eventually(lambda: works(node, fresh("recovery")), within=BACK_WITHIN_S, what="publishing again")
        eventually(lambda: node.memory_bytes() < base + (128 << 20), within=20, what="memory given back")


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_stop_during_an_outage(fresh, how):
    # A deployment during an outage would hang until somebody kills the process.
    with RedisServer() as server, running(on_redis(server.address)) as node, Wire.connected(node) as wire:
        wire.subscribe(fresh("members"))
        wire.subscribe(fresh("recovery"))
        left = fresh("members")
        wire.subscribe(left)
        getattr(server, how)()
        wire.call(unsubscribe={"channel": left})
        node.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            assert wire.closed(within=10) == (3001, "shutdown")
        assert node.exit_code() == 0
