"""Redis stops, stalls, forgets, refuses or is cut off: clients stay, errors come quickly, everything comes back by itself."""

import concurrent.futures
import contextlib
import http.server
import random
import re
import signal
import socket
import threading
import time

import pytest
import redis
from harness import Gyre, Wire, eventually, free_port, running
from harness.checker import Follower, Publisher, judge
from harness.fault import FaultProxy
from harness.node import merged
from harness.redis import RedisServer
from harness.several import QUICK, on_redis, several, works

# Pings of clients often enough to see them during a short outage.
LIVELY = merged(QUICK, {"client": {"ping_interval": "2s", "pong_timeout": "1.9s"}})
ANSWERED_WITHIN_S = 6
# From Redis' first answer until a node has reconnected and resubscribed.
BACK_WITHIN_S = 8
# What the reference documents for an ACL user.
DOCUMENTED = """hello auth select ping client|setname client|setinfo evalsha eval script|load publish subscribe unsubscribe
xadd xrange xrevrange del expire hget hmget hset hincrby hdel hgetall hlen hexists zadd zrem zrangebyscore zremrangebyscore"""
SINCE_7_2 = {"client|setinfo"}


def timed(call):
    """(result, seconds)"""
    began = time.monotonic()
    return call(), time.monotonic() - began


def complaints(node, since=0):
    """Log lines at warn and above, but for what is said about the machine."""
    found = [entry for entry in node.logs() if entry["level"] in ("warn", "error")]
    return [entry for entry in found if "tuning hints" not in entry["message"]][since:]


def metric(node, name):
    """Sum of all series of a metric, 0 if there is none."""
    page = node.http("GET", "/metrics")[2].decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if re.match(name + r"[{ ]", line))


# ---- start


@pytest.mark.parametrize(
    "fault", ["nobody listens", "no answer", "wrong password", "wrong user", "no permission", "no such db"]
)
def test_J04_boot_without_redis(fault):
    # A node that cannot work would be put behind the balancer, or the password would be in the log for all to read.
    secret = "pa55word"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RedisServer(requirepass=secret))
        admin = server.client(password=secret)
        admin.execute_command("ACL", "SETUSER", "weak", "on", f">{secret}", "~*", "&*", "+hello", "+auth", "+ping")
        port, user, password, db = server.port, "", secret, ""
        if fault == "nobody listens":
            port = free_port()
        elif fault == "no answer":
            silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = silent.getsockname()[1]
        elif fault == "wrong password":
            password = "other" + secret
        elif fault == "wrong user":
            user = "nobody"
        elif fault == "no permission":
            user = "weak"
        else:
            db = "/99"
        node = Gyre(on_redis(f"redis://{user}:{password}@127.0.0.1:{port}{db}"))
        stack.callback(node.end)
        code, took = timed(node.spawn().exit_code)
        assert code == 1 and took < 8, (code, took, node.output())
        assert f"127.0.0.1:{port}" in node.output() and secret not in node.output()
        assert len(node.output().splitlines()) < 20


def test_boot_against_something_else():
    # A wrong port in the configuration would be a riddle, or hang the start.
    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        node = Gyre(on_redis(f"redis://127.0.0.1:{other.server_port}"))
        try:
            code, took = timed(node.spawn().exit_code)
            assert code == 1 and took < 8
            assert str(other.server_port) in node.output()
        finally:
            other.shutdown()
            thread.join()
            node.end()


# ---- outage and return


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
        eventually(lambda: len(publisher.confirmed) > 200, what="publications before the outage")
        logged = [len(complaints(node)) for node in nodes]
        memory, used = [node.memory_bytes() for node in nodes], [node.cpu_s() for node in nodes]
        pings = [follower.pings for follower in followers]

        server.kill()
        began = time.monotonic()
        for node in nodes:
            calls = {
                "publish": {"channel": plain, "data": 1},
                "broadcast": {"channels": [plain], "data": 1},
                "history": {"channel": channels[0], "limit": 1},
                "history_remove": {"channel": channels[0]},
                "presence": {"channel": members},
                "presence_stats": {"channel": members},
            }
            for method, request in calls.items():
                reply, took = timed(lambda node=node, method=method, request=request: node.api_reply(method, request))
                reply = reply["result"]["responses"][0] if method == "broadcast" else reply
                assert reply.get("error", {}).get("code") == 100, (method, reply)
                assert took < ANSWERED_WITHIN_S
            assert node.http("GET", "/health")[0] == 200
            assert any(entry["name"].endswith(f"_{node.port}") for entry in node.api("info")["nodes"])
        with Wire.connected(nodes[0], "10") as newcomer:
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
                before = [len(complaints(node)) for node in nodes]
        quiet_s = time.monotonic() - began
        for number, node in enumerate(nodes):
            assert node.cpu_s() - quiet_from[number] < 0.15 * quiet_s, "a busy loop"
            assert node.cpu_s() - used[number] < 0.7 * quiet_s
            assert node.memory_bytes() < memory[number] + (16 << 20)
            found = complaints(node, logged[number])
            assert found, "an outage must be in the log"
            assert len(complaints(node)) == before[number], "the log grows during an outage"
            assert followers[number].pings >= pings[number] + 2, "clients are pinged"
            assert not followers[number].closes

        server.start()
        for node in nodes:
            eventually(lambda node=node: works(node, fresh("recovery")), within=BACK_WITHIN_S, what="publishing again")
        listener.quiet(0.01)
        member.quiet(0.01)
        with Publisher(nodes, channels, every_s=0.002, count=200) as after:
            after.wait()
            assert not after.failed
            judge(followers, [publisher, after])
        listener.quiet(0.01)
        member.quiet(0.01)
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
            assert [
                entry
                for entry in node.logs()
                if "reconnect" in str(entry).lower() or "again" in str(entry).lower() or "back" in str(entry).lower()
            ]


def test_stalled_redis(fresh):
    # Calls would hang for minutes, and clients be disconnected, because Redis swaps, saves or runs a long script.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(stalled, fresh, how) for how in ("SIGSTOP", "CLIENT PAUSE", "DEBUG SLEEP")]:
            done.result()


def stalled(fresh, how):
    channels = [fresh("recovery") for _ in range(5)]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RedisServer(enable_debug_command="yes"))
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


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
def test_killed_connections_lose_nothing(fresh, kind):
    # A restart of a proxy or an operator's CLIENT KILL would leave holes in chats.
    channels = [fresh("recovery") for _ in range(10)]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        admin = server.client()
        nodes = stack.enter_context(several(2, on_redis(server.address, QUICK)))
        followers = [stack.enter_context(Follower(node, channels, str(n))) for n, node in enumerate(nodes)]
        publisher = stack.enter_context(Publisher(nodes, channels, every_s=0.001))
        for _ in range(6):
            count = len(publisher.confirmed)
            eventually(lambda count=count: len(publisher.confirmed) > count + 50, within=BACK_WITHIN_S, what="publications")
            admin.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        count = len(publisher.confirmed)
        eventually(lambda: len(publisher.confirmed) > count + 50, within=BACK_WITHIN_S, what="publications")
        publisher.stop()
        judge(followers, [publisher])
        assert not any(follower.closes for follower in followers)
        assert not any(stream.jumps for follower in followers for stream in follower.streams.values())
        assert {code for _, code, _, _ in publisher.failed} <= {100}
        if kind == "pubsub":
            assert not publisher.failed, "publishing does not need the other connection"


def test_all_channels_are_heard_again(fresh):
    # A part of the users would stay deaf after a reconnect, which nobody notices in a graph.
    prefix = fresh("open")
    names = [f"{prefix}.{n}" for n in range(3000)]
    with RedisServer() as server, running(on_redis(server.address), cores=2) as node, contextlib.ExitStack() as stack:
        admin = server.client(decode_responses=True)
        wires = [stack.enter_context(Wire.connected(node, str(n))) for n in range(30)]
        for number, wire in enumerate(wires):
            mine = names[number * 100 : number * 100 + 100]
            wire.send(*({"id": 100 + n, "subscribe": {"channel": name}} for n, name in enumerate(mine)))
            for n in range(100):
                assert "subscribe" in wire.reply(100 + n)
        before = set(admin.pubsub_channels("*"))
        assert len([name for name in before if prefix in name]) == 3000
        admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        eventually(lambda: set(admin.pubsub_channels("*")) == before, within=5, what="the same set of channels")
        eventually(lambda: works(node, fresh("open")), what="publishing")
        for number, wire in enumerate(wires):
            node.publish(names[number * 100 + 99], number)
            assert wire.data() == number


def test_one_log_line_per_streak(fresh):
    # One outage would be hundreds of lines on a large machine, and the reason of the next one drowned.
    with RedisServer() as server, running(on_redis(server.address, QUICK), cores=4) as node, Wire.connected(node) as wire:
        for namespace in ("recovery", "members", "open"):
            wire.subscribe(fresh(namespace))
        for turn in range(2):
            logged = len(complaints(node))
            server.kill()
            eventually(lambda: complaints(node, logged), within=6, what="log line")
            for _ in range(10):
                node.api_error("publish", channel=fresh("recovery"), data=1)
            time.sleep(2)
            found = [entry for entry in complaints(node, logged) if f":{server.port}" in str(entry)]
            assert len(found) == 1, found
            server.start()
            eventually(
                lambda: len([e for e in node.logs("info") if "redis" in e and "again" in e["message"]]) == turn + 1,
                what="its end",
            )


def test_supported_options_are_not_called_unsupported(fresh):
    # Operators would look for a mistake that is none.
    options = {"prefix": "p", "db": 0, "connect_timeout": "2s", "io_timeout": "3s", "presence_ttl": "30s", "client_name": "n"}
    with RedisServer() as server, running(on_redis(server.address, **options)) as node:
        node.publish(fresh("recovery"), 1)
        node.stop()
        assert not complaints(node), "a start without trouble has nothing to complain about"


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_an_outage_is_in_the_metrics_and_in_the_log(fresh, how):
    # Nobody would be woken: all clients are connected, all graphs look as always.
    with RedisServer() as server, running(on_redis(server.address)) as node:
        node.publish(fresh("recovery"), 1)
        logged = len(complaints(node))
        getattr(server, how)()
        # Without any call of anybody.
        eventually(lambda: complaints(node, logged), within=6, what="log line")
        errors = "centrifugo_broker_redis_pub_sub_errors"
        eventually(lambda: metric(node, errors) > 0, within=12, what=errors)


# ---- refusals of a living Redis


def test_no_connection_left(fresh):
    # Redis at its connection limit: a node would give up, or add to the crowd by trying in a loop.
    channel = fresh("recovery")
    with RedisServer() as server, running(on_redis(server.address, QUICK)) as node, Follower(node, [channel]) as follower:
        admin = server.client()
        node.publish(channel, 1)
        ours = len(admin.client_list())
        admin.config_set("maxclients", 1)
        admin.execute_command("CLIENT", "KILL", "SKIPME", "yes")
        assert ours > 1
        eventually(lambda: node.api_reply("publish", {"channel": channel, "data": 2}).get("error", {}).get("code") == 100)
        tried, used = admin.info("stats")["rejected_connections"], node.cpu_s()
        time.sleep(3)
        # Two cores with two lanes, four times a second at most.
        assert admin.info("stats")["rejected_connections"] - tried < 2 * 2 * 4 * 3 + 20
        assert node.cpu_s() - used < 0.5
        admin.config_set("maxclients", 1000)
        eventually(lambda: works(node, fresh("recovery")), within=BACK_WITHIN_S, what="publishing again")
        with Publisher([node], [channel], count=20) as publisher:
            publisher.wait()
        judge([follower], [publisher])
        assert not publisher.failed and not follower.closes


def test_redis_out_of_memory(fresh):
    # A full Redis would look like an outage, throw out clients, or positions would be told that are not stored.
    channel, plain, members = fresh("recovery"), fresh("open"), fresh("members")
    with RedisServer(maxmemory_policy="noeviction") as server, running(on_redis(server.address, QUICK)) as node:
        admin = server.client()
        with Follower(node, [channel]) as follower, Wire.connected(node, "7") as wire:
            wire.subscribe(plain)
            wire.subscribe(members)
            assert wire.push("join")
            node.publish(channel, 1)
            logged = len(complaints(node))
            admin.config_set("maxmemory", 1)
            for _ in range(20):
                assert node.api_error("publish", channel=channel, data="lost") == 100
            assert node.publish(plain, "needs no memory") == {}
            assert wire.data() == "needs no memory"
            time.sleep(2.2)  # two ticks of presence and position checks
            assert len(complaints(node, logged)) <= 6, "errors of one kind are logged once per streak"
            admin.config_set("maxmemory", 0)
            with Publisher([node], [channel], count=20) as publisher:
                publisher.wait()
            judge([follower], [publisher])
            assert not publisher.failed and not follower.closes
            assert all(data != "lost" for _, _, data in follower.streams[channel].got)
            eventually(lambda: list(node.api("presence", channel=members)["presence"]) == [wire.session["client"]])
            wire.quiet(0.1)


def acl(admin, *rules):
    admin.execute_command("ACL", "SETUSER", "gyre", *rules)


def test_J12_documented_acl_user(fresh):
    # An operator who allows what the documentation says would see errors later, in production.
    with RedisServer() as server, contextlib.ExitStack() as stack:
        admin = server.client(decode_responses=True)
        acl(admin, "reset", "on", ">secret", "~centrifugo.*", "&centrifugo.*")
        for command in DOCUMENTED.split():
            with contextlib.suppress(redis.ResponseError) if command in SINCE_7_2 else contextlib.nullcontext():
                acl(admin, f"+{command}")
        changes = on_redis(
            f"redis://gyre:secret@127.0.0.1:{server.port}", QUICK, client_name="node", presence_user_mapping=True
        )
        one, two = stack.enter_context(several(2, changes))
        channel, members = fresh("recovery"), fresh("members")
        with Wire.connected(two) as wire:
            epoch = wire.subscribe(channel)["epoch"]
            wire.subscribe(members)
            assert wire.push("join")
            one.publish(channel, 1, idempotency_key="k", version=1)
            one.publish(channel, 1, idempotency_key="k", version=1)
            one.publish(fresh("open"), 1, idempotency_key="k")
            assert wire.data() == 1
            assert one.api("presence_stats", channel=members) == {"num_clients": 1, "num_users": 1}
            assert len(one.api("presence", channel=members)["presence"]) == 1
            assert len(one.api("history", channel=channel, limit=-1, reverse=True)["publications"]) == 1
            admin.script_flush()
            assert not complaints(one) and not complaints(two)
            heard = set(admin.pubsub_channels("*"))
            admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            eventually(lambda: set(admin.pubsub_channels("*")) == heard, what="resubscription")
            eventually(
                lambda: all("subscribe" in wire.call(subscribe={"channel": fresh("open")}) for _ in range(8)),
                what="subscribing",
            )
            one.publish(channel, 2)
        with Wire.connected(one) as wire:
            result = wire.subscribe(channel, recover=True, epoch=epoch, offset=1)
            assert [publication["data"] for publication in result["publications"]] == [2]
            assert wire.call(unsubscribe={"channel": channel})
        one.api("history_remove", channel=channel)
        eventually(lambda: one.api("presence_stats", channel=members) == {"num_clients": 0, "num_users": 0})
        eventually(lambda: {len(node.api("info")["nodes"]) for node in (one, two)} == {2}, what="info")
        denied = [entry for entry in admin.execute_command("ACL", "LOG") if entry["username"] == "gyre"]
        assert not denied, denied


def test_command_denied_while_running(fresh):
    # A changed ACL would look like an outage, take the connection down or flood the log.
    channel, plain = fresh("recovery"), fresh("open")
    with RedisServer() as server:
        admin = server.client()
        acl(admin, "reset", "on", ">secret", "~*", "&*", "+@all")
        with running(on_redis(f"redis://gyre:secret@127.0.0.1:{server.port}", QUICK)) as node:
            with Follower(node, [channel]) as follower, Wire.connected(node) as wire:
                wire.subscribe(plain)
                node.publish(channel, 1)
                acl(admin, "-xadd")
                for _ in range(20):
                    assert node.api_error("publish", channel=channel, data=2) == 100
                assert node.publish(plain, 1) == {} and wire.data() == 1
                assert 1 <= len(complaints(node)) <= 4, complaints(node)
                acl(admin, "-publish")
                assert node.api_error("publish", channel=plain, data=2) == 100
                acl(admin, "+@all")
                with Publisher([node], [channel], count=5) as publisher:
                    publisher.wait()
                assert node.publish(plain, 3) == {} and wire.data() == 3
                assert not publisher.failed
                eventually(
                    lambda: (
                        follower.streams[channel].got[-1:]
                        and follower.streams[channel].got[-1][2] == publisher.confirmed[-1][1]
                    )
                )
                assert not follower.closes and "secret" not in node.output()


def test_password_changed_while_running(fresh):
    # A rotated secret: the node would hammer Redis, write the password to the log, or need a restart afterwards.
    channel = fresh("recovery")
    with RedisServer(requirepass="s3cret") as server:
        admin = server.client(password="s3cret")
        with running(on_redis(server.address, QUICK, password="s3cret")) as node, Follower(node, [channel]) as follower:
            node.publish(channel, 1)
            admin.config_set("requirepass", "another")
            admin.execute_command("CLIENT", "KILL", "SKIPME", "yes")
            eventually(lambda: node.api_reply("publish", {"channel": channel, "data": 2}).get("error", {}).get("code") == 100)
            logged, used = len(complaints(node)), node.cpu_s()
            time.sleep(2)
            assert node.cpu_s() - used < 0.4 and len(complaints(node)) <= logged + 2
            assert "s3cret" not in node.output()
            admin.config_set("requirepass", "s3cret")
            eventually(lambda: works(node, fresh("recovery")), within=BACK_WITHIN_S, what="publishing again")
            assert not follower.closes


# ---- the way to Redis


def commands_links(proxy):
    return [link for link in proxy.links() if not link.said("SUBSCRIBE")]


def test_slow_way_keeps_order_and_content(fresh):
    # Replies that come late would be given to the wrong caller.
    channels = [fresh("recovery") for _ in range(10)]
    with RedisServer() as server, FaultProxy(server.port) as proxy:
        with several(2, on_redis(proxy.address, QUICK)) as nodes, contextlib.ExitStack() as stack:
            followers = [stack.enter_context(Follower(node, channels, str(n))) for n, node in enumerate(nodes)]
            publishers = [stack.enter_context(Publisher(nodes, channels, count=25)) for _ in range(8)]
            for link in proxy.links():
                link.delay(random.uniform(0.02, 0.15))
            for publisher in publishers:
                publisher.wait()
                assert not publisher.failed
            # Messages later than replies look lost to the position check: 2500 may come, with a recovery after it.
            judge(followers, publishers)
            assert not any(follower.closes for follower in followers)
            assert not any(stream.jumps for follower in followers for stream in follower.streams.values())


def test_repeated_publish_after_a_lost_answer(fresh):
    # The call failed, Redis had done it: a backend that repeats it with its key would publish twice.
    channel, plain = fresh("recovery"), fresh("open")
    with RedisServer() as server, FaultProxy(server.port) as proxy:
        changes = on_redis(proxy.address, QUICK, io_timeout="1s")
        with running(changes, cores=1) as node, Follower(node, [channel]) as follower, Wire.connected(node) as wire:
            wire.subscribe(plain)
            for turn in range(3):
                for link in commands_links(proxy):
                    link.deafen()
                code, took = timed(
                    lambda turn=turn: node.api_error("publish", channel=channel, data=f"h{turn}", idempotency_key=f"h{turn}")
                )
                assert code == 100 and took < 3
                for link in commands_links(proxy):
                    link.deafen()
                eventually(
                    lambda turn=turn: node.publish(plain, turn, idempotency_key=f"p{turn}") == {}, within=5, what="answer"
                )
                result = eventually(
                    lambda turn=turn: node.publish(channel, f"h{turn}", idempotency_key=f"h{turn}"), within=5, what="answer"
                )
                assert result["offset"] == turn + 1
            eventually(lambda: len(follower.streams[channel].got) == 3, what="three publications")
            assert [data for _, _, data in follower.streams[channel].got] == ["h0", "h1", "h2"]
            assert [wire.data() for _ in range(3)] == [0, 1, 2]
            wire.quiet(0.1)
            assert not follower.mistakes and not follower.closes


def test_answers_after_their_deadline(fresh):
    # Answers of calls that were given up would be taken for those of later ones.
    channels = [fresh("recovery") for _ in range(10)]
    with RedisServer() as server, FaultProxy(server.port) as proxy:
        changes = on_redis(proxy.address, QUICK, io_timeout="1s")
        with running(changes, cores=2) as node, contextlib.ExitStack() as stack:
            follower = stack.enter_context(Follower(node, channels))
            publishers = [stack.enter_context(Publisher([node], channels)) for _ in range(4)]
            for _ in range(3):
                for link in commands_links(proxy):
                    link.delay(1.2)
                count = len(publishers[0].failed)
                eventually(lambda count=count: len(publishers[0].failed) > count, what="errors")
                eventually(lambda: works(node, fresh("recovery")), within=BACK_WITHIN_S, what="publishing again")
            for publisher in publishers:
                publisher.stop()
                assert {code for _, code, _, _ in publisher.failed} == {100}
            judge([follower], publishers)
            assert not follower.closes


def test_connections_cut_at_random(fresh):
    # A bad network would lose confirmed messages, or deliver them twice.
    channels = [fresh("recovery") for _ in range(20)]
    with RedisServer() as server, FaultProxy(server.port) as proxy:
        with several(2, on_redis(proxy.address, QUICK)) as nodes, contextlib.ExitStack() as stack:
            followers = [stack.enter_context(Follower(node, channels, str(n))) for n, node in enumerate(nodes)]
            publishers = [stack.enter_context(Publisher(nodes, channels)) for _ in range(3)]
            until = time.monotonic() + 6
            cuts = 0
            while time.monotonic() < until:
                if links := proxy.links():
                    random.choice(links).cut()
                    cuts += 1
                time.sleep(random.uniform(0.02, 0.3))
            assert cuts > 10
            counts = [len(publisher.confirmed) for publisher in publishers]
            for count, publisher in zip(counts, publishers, strict=True):
                eventually(lambda c=count, p=publisher: len(p.confirmed) > c + 50, within=BACK_WITHIN_S, what="publications")
                publisher.stop()
                assert {code for _, code, _, _ in publisher.failed} <= {100}
            judge(followers, publishers)
            assert not any(follower.closes for follower in followers)


def test_reconnects_are_spaced(fresh):
    # After an outage all nodes together would keep Redis from coming up.
    with RedisServer() as server, FaultProxy(server.port) as proxy:
        with running(on_redis(proxy.address), cores=2) as node:
            server.kill()
            eventually(lambda: not proxy.links(), what="lost connections")
            tried = proxy.accepted
            time.sleep(5)
            # Two cores with two lanes, four times a second at most, and somebody who looks after the servers.
            assert proxy.accepted - tried <= (2 * 2 + 1) * 4 * 5
            assert proxy.accepted > tried
            server.start()
            eventually(lambda: works(node, fresh("open")), within=BACK_WITHIN_S, what="publishing again")


def test_stalled_command_connection(fresh):
    # One dead connection would make every call fail, though a new one works.
    channel = fresh("recovery")
    with RedisServer() as server, FaultProxy(server.port) as proxy:
        with running(on_redis(proxy.address, QUICK), cores=2) as node, Follower(node, [channel]) as follower:
            node.publish(channel, 1)
            for link in commands_links(proxy):
                link.freeze()
            code, took = timed(lambda: node.api_error("publish", channel=channel, data=2))
            assert code == 100 and took < ANSWERED_WITHIN_S
            eventually(lambda: works(node, fresh("recovery")), within=5, what="publishing over a new connection")
            assert not follower.closes
            with Publisher([node], [channel], count=20) as publisher:
                publisher.wait()
            judge([follower], [publisher])


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


@pytest.mark.slow
def test_J19_half_dead_message_connection(fresh):
    # Clients would stay connected and deaf until somebody restarts the node.
    plain, kept = fresh("open"), fresh("recovery")
    faults = ("freeze", "swallow", "mute")
    with RedisServer() as server, contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(FaultProxy(server.port)) for _ in faults]
        publisher_node = stack.enter_context(running(on_redis(server.address, QUICK), cores=1))
        nodes = [stack.enter_context(running(on_redis(proxy.address, QUICK), cores=1)) for proxy in proxies]
        listeners = [stack.enter_context(Wire.connected(node, "1")) for node in nodes]
        followers = [stack.enter_context(Follower(node, [kept])) for node in nodes]
        for wire in listeners:
            wire.subscribe(plain)
        publisher = stack.enter_context(Publisher([publisher_node], [kept], every_s=0.05))
        publisher_node.publish(plain, 0)
        assert [wire.data() for wire in listeners] == [0, 0, 0]
        for fault, proxy in zip(faults, proxies, strict=True):
            links = proxy.links("SUBSCRIBE")
            assert links
            for link in links:
                getattr(link, fault)()
        began = time.monotonic()
        # A stalled connection is noticed by its pings; one that answers pings, by the probe.
        for fault, wire, within in zip(faults, listeners, (10, 10, 75), strict=True):

            def arrives(wire=wire):
                publisher_node.publish(plain, 1)
                with contextlib.suppress(TimeoutError):
                    return wire.data(within=0.5) == 1

            eventually(arrives, within=within - (time.monotonic() - began), what=f"messages after {fault}")
        for node in nodes:
            channel = fresh("recovery")
            assert node.publish(channel, 1)["offset"] == 1
            assert complaints(node), "it must be in the log"
        publisher.stop()
        judge(followers, [publisher])
        assert not any(follower.closes for follower in followers) and not publisher.failed


# ---- stop


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_stop_during_an_outage(fresh, how):
    # A deployment during an outage would hang until somebody kills the process.
    with RedisServer() as server, running(on_redis(server.address)) as node, Wire.connected(node) as wire:
        wire.subscribe(fresh("members"))
        wire.subscribe(fresh("recovery"))
        getattr(server, how)()
        node.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            assert wire.closed(within=10) == (3001, "shutdown")
        assert node.exit_code() == 0
