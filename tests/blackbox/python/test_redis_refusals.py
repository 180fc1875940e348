"""A living Redis that refuses: full, out of connections, permissions taken away, the password changed."""

import contextlib
import re
import time

import redis
from harness import Wire, eventually, running
from harness.checker import Follower, Publisher, judge
from harness.node import ROOT
from harness.redis import RedisServer
from harness.several import BACK_WITHIN_S, QUICK, on_redis, several, works
from harness.state import LEASE_S, TOLD_WITHIN_S, TTL_S, told_by

# What the reference documents for an ACL user.
DOCUMENTED = """hello auth select ping client|setname client|setinfo evalsha eval script|load publish subscribe unsubscribe
xadd xrange xrevrange del expire hget hmget hset hincrby hdel hgetall hlen hexists zadd zrem zrangebyscore zremrangebyscore"""
SINCE_7_2 = {"client|setinfo"}


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
            logged = len(node.complaints())
            admin.config_set("maxmemory", 1)
            for _ in range(20):
                assert node.api_error("publish", channel=channel, data="lost") == 100
            assert node.publish(plain, "needs no memory") == {}
            assert wire.data() == "needs no memory"
            time.sleep(2.2)  # two ticks of presence and position checks
            assert len(node.complaints(logged)) <= 6, "errors of one kind are logged once per streak"
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
        acl(admin, "reset", "resetchannels", "on", ">secret", "~centrifugo.*", "&centrifugo.*")
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
            assert not one.complaints() and not two.complaints()
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


def documented(*features):
    """The rules of docs/operate/redis.md for a node with these features."""
    page = (ROOT / "docs/operate/redis.md").read_text()
    rules = re.search(r"^ACL SETUSER gyre (.+)$", page, re.M)[1].replace("SECRET", "secret")
    for feature in features:
        rules += " " + re.search(rf"^\| `([^`]+)` \| [^|]*{feature}", page, re.M)[1].replace("\\|", "|")
    return rules.split()


def test_J12_documented_acl_user_of_state_and_status(fresh):
    # Whoever turns channel state or user status on later would have them refused by Redis, in production.
    with RedisServer() as server:
        admin = server.client(decode_responses=True)
        acl(admin, *documented("channel state events", "user status"))
        changes = {"user_status": {"enabled": True, "redis": {"reuse_from_engine": True}}}
        channel, user = fresh("chat"), fresh()
        with told_by(1, f"redis://gyre:secret@127.0.0.1:{server.port}", changes=changes, num_partitions=2) as ((node,), told):
            with Wire.connected(node, user) as wire:
                for kinds in ("occupied", "occupied vacated occupied"):
                    wire.subscribe(channel)
                    told.expect(channel, kinds)
                    assert node.api("presence_stats", channel=channel) == {"num_clients": 1, "num_users": 1}
                    assert len(node.api("presence", channel=channel)["presence"]) == 1
                    assert wire.call(unsubscribe={"channel": channel})
                    told.expect(channel, f"{kinds} vacated")
                assert "rpc" in wire.call(rpc={"method": "update_user_status"})
                assert {"active", "online"} <= set(node.api("get_user_status", users=[user])["statuses"][0])
                node.api("update_user_status", users=[user], state="busy")
                node.api("delete_user_status", users=[user])
                wire.subscribe(channel)
                told.expect(channel, "occupied vacated occupied vacated occupied")
                # Now its entry has to run out.
                node.process.kill()
                node.process.wait()
            node.start()
            told.expect(channel, "occupied vacated occupied vacated occupied vacated", within=TTL_S + LEASE_S + TOLD_WITHIN_S)
            assert not node.logs("error"), node.logs("error")
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
                assert len(eventually(node.complaints, what="log line")) <= 4, node.complaints()
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
            logged, used = len(node.complaints()), node.cpu_s()
            time.sleep(2)
            assert node.cpu_s() - used < 0.4 and len(node.complaints()) <= logged + 2
            assert "s3cret" not in node.output()
            admin.config_set("requirepass", "s3cret")
            eventually(lambda: works(node, fresh("recovery")), within=BACK_WITHIN_S, what="publishing again")
            assert not follower.closes
