"""When users were last active and online: RPC, server API, ticks, and each place where it can be kept."""

import contextlib
import time

import pytest
from harness import Gyre, Wire, eventually, running
from harness.cluster import Cluster
from harness.node import merged
from harness.redis import RedisServer
from harness.sentinel import MASTER, Watched
from harness.several import BACK_WITHIN_S, on_redis, several

# A tick is 27 s otherwise.
TICK_S = 1
TICKS = {"client": {"presence_update_interval": f"{TICK_S}s"}}
# Users whose names are something else to Redis, to a cluster's slots, or to a file of configuration.
NAMES = ["a:b", "#1", "{x}", "{}", "}{", "жёлтый 🦉", "with spaces ", "a.b", "*", "\n", '"', "user_status", "x" * 300]


def keeping(redis=None, changes=None, **options):
    """Configuration changes of a node that keeps the status of users."""
    status = {"user_status": {"enabled": True, "redis": redis or {}, **options}}
    return merged(merged(TICKS, status), changes or {})


def update(node, *users, **rest):
    assert node.api("update_user_status", users=list(users), **rest) == {}


def statuses(node, *users):
    return node.api("get_user_status", users=list(users))["statuses"]


def status(node, user):
    (found,) = statuses(node, user)
    assert found.pop("user") == user
    return found


def is_now(time_s):
    return abs(time.time() - time_s) <= 2


def error(node, method, **request):
    return node.api_reply(method, request).get("error", {}).get("code")


def answers(node, method="get_user_status"):
    """Whether calls get through on every core: each is a connection of its own; for `eventually`."""
    return all(error(node, method, users=["nobody"]) is None for _ in range(20))


def active_by_call(wire, **request):
    return wire.call(rpc={"method": "update_user_status", **request})


@pytest.fixture(scope="module")
def node(server):
    """A node with a Redis of user status, and an engine in memory."""
    with running(keeping({"address": server.address}), cores=2) as started:
        yield started


def test_N01_a_call_of_the_client_makes_its_user_active(node, fresh):
    # Applications show who was here when; the call has to come from the official SDKs, whatever they send along.
    user = fresh()
    with Wire.connected(node, user) as wire:
        assert active_by_call(wire, data={})["rpc"] == {"data": {}}
        assert is_now(status(node, user)["active"])
        assert active_by_call(wire, data={"any": ["thing"]})["rpc"] == {"data": {}}
        assert active_by_call(wire)["rpc"] == {"data": {}}


def test_N02_the_application_makes_users_active_who_are_not_connected(node, fresh):
    # Users who come by other ways than a connection would never be active.
    one, two = fresh(), fresh()
    update(node, one, two, one)
    for user in (one, two):
        found = status(node, user)
        assert is_now(found.pop("active")) and found == {}, "nobody is online"


def test_N03_statuses_come_in_the_order_asked_for(node, fresh):
    # A list of friends would get each other's times.
    a, b, nobody = fresh("a"), fresh("b"), fresh("nobody")
    update(node, a)
    update(node, b, state="busy")
    found = statuses(node, b, a, nobody, b)
    assert [entry["user"] for entry in found] == [b, a, nobody, b]
    assert found[2] == {"user": nobody}, "what is not known is absent"
    assert set(found[1]) == {"user", "active"} and found[0] == found[3]
    assert found[0]["state"] == "busy"
    update(node, b)
    assert status(node, b)["state"] == "busy", "an update without state leaves it as it is"
    update(node, b, state="away")
    assert status(node, b)["state"] == "away"


def test_N04_connections_of_its_own_are_few_and_measured(fresh):
    # Idle connections count against the clients that Redis takes; without numbers nobody sees an outage of this Redis.
    names = ("up", "connections_lost_total", "commands_refused_total", "commands_not_taken_total", "in_flight")
    with RedisServer() as own, RedisServer() as engines:
        changes = on_redis(engines.address, client_name="engine")
        kept = {"address": own.address, "client_name": "status"}
        with running(keeping(kept, changes), cores=2) as node:

            def samples(used_by):
                lines = node.http("GET", "/metrics")[2].decode().splitlines()
                found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
                labels = [f'{{core="{core}",used_by="{used_by}"}}' for core in (0, 1)]
                return {name: sum(float(found[f"gyre_redis_{name}{label}"]) for label in labels) for name in names}

            update(node, fresh())
            # One for each core.
            ours = [entry["name"] for entry in own.client().client_list() if entry["name"] in ("status", "engine")]
            assert ours == ["status"] * 2
            eventually(lambda: samples("user_status")["up"] == samples("engine")["up"] == 2, what="connections counted")
            own.stop()
            eventually(lambda: samples("user_status")["up"] == 0, within=15, what="an outage counted")
            eventually(lambda: error(node, "get_user_status", users=["x"]) == 100, what="calls that fail")
            eventually(lambda: samples("user_status")["commands_not_taken_total"] > 0, what="calls that failed counted")
            found = samples("user_status")
            assert found["connections_lost_total"] >= 2 and found["commands_refused_total"] == found["in_flight"] == 0
            engines_own = samples("engine")
            assert (engines_own["up"], engines_own["connections_lost_total"]) == (2, 0)


def test_N04_N05_online_is_renewed_while_connected_and_active_is_not(node, fresh):
    # Everybody would look offline, or nobody as if away from the keyboard.
    user = fresh()
    with Wire.connected(node, user) as wire:
        first = eventually(lambda: status(node, user).get("online"), what="online at connect")
        assert is_now(first) and "active" not in status(node, user)
        active_by_call(wire)
        active = status(node, user)["active"]
        eventually(lambda: status(node, user)["online"] >= active + 3, within=10, what="a later online")
        assert status(node, user)["active"] == active
    last = status(node, user)["online"]
    time.sleep(3 * TICK_S)
    assert status(node, user)["online"] <= last + 2 * TICK_S, "who has left is not renewed"


def test_one_write_for_all_connections_of_a_user(node, server, fresh):
    # A user with a hundred tabs would cost Redis a hundred writes at every tick.
    user = fresh()
    client = server.client(decode_responses=True)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(Wire.connected(node, user))
        with client.monitor() as monitor:
            seen, until = 0, time.monotonic() + 4 * TICK_S
            while time.monotonic() < until:
                client.ping()
                command = monitor.next_command()["command"]
                seen += f"user_status.{user} " in command and command.upper().startswith("EVALSHA")
        assert 2 <= seen <= 6, seen


def test_N06_what_is_deleted_is_gone_until_the_next_tick(node, fresh):
    # A user who wants to be forgotten would stay in lists.
    gone, here = fresh(), fresh()
    update(node, gone, here)
    with Wire.connected(node, here):
        assert node.api("delete_user_status", users=[gone, here, "nobody"]) == {}
        assert status(node, gone) == {}
        eventually(lambda: "online" in status(node, here), what="online of somebody who is still connected")
        assert "active" not in status(node, here)


def test_N07_a_status_ends_some_time_after_its_last_update(server, fresh):
    # A Redis would fill up with everybody who was ever here, or forget those who are.
    with running(keeping({"address": server.address}, expire_interval="1500ms")) as node:
        kept, left = fresh(), fresh()
        update(node, left, kept)
        with Wire.connected(node, kept):
            eventually(lambda: status(node, left) == {}, within=5, what="the end of a status")
            time.sleep(1)
            assert is_now(status(node, kept)["online"]) and "active" in status(node, kept)


def test_users_may_have_any_name(node, server):
    # A user would see or change the status of another, or have none.
    update(node, *NAMES)
    assert all(is_now(found["active"]) for found in statuses(node, *NAMES))
    assert [found["user"] for found in statuses(node, *NAMES)] == NAMES
    keys = server.client(decode_responses=True).keys("centrifugo.user_status.*")
    assert {f"centrifugo.user_status.{name}" for name in NAMES} <= set(keys)
    for name in NAMES[:6]:
        with Wire.connected(node, name) as wire:
            eventually(lambda: "online" in status(node, name), what=f"online of {name!r}")
            assert active_by_call(wire)["rpc"] == {"data": {}}
    node.api("delete_user_status", users=[NAMES[0]])
    assert [entry["user"] for entry in statuses(node, *NAMES) if len(entry) == 1] == [NAMES[0]]


def test_N10_a_list_of_thousands(node, fresh):
    # A chat would ask for a thousand friends one by one.
    users = [f"{fresh()}.{n}" for n in range(5000)]
    update(node, *users[::2])
    found = statuses(node, *users)
    assert [entry["user"] for entry in found] == users
    assert all(("active" in entry) == (n % 2 == 0) for n, entry in enumerate(found))
    node.api("delete_user_status", users=users)
    assert all(len(entry) == 1 for entry in statuses(node, *users))


def test_N11_batches_carry_it(node, fresh):
    # Who sends everything in batches would not have it.
    user = fresh()
    commands = [{"update_user_status": {"users": [user]}}, {"get_user_status": {"users": [user]}}]
    replies = node.api_reply("batch", {"commands": commands})["replies"]
    assert replies[0] == {"update_user_status": {}}
    assert is_now(replies[1]["get_user_status"]["statuses"][0]["active"])
    (reply,) = node.api_reply("batch", {"commands": [{"delete_user_status": {"users": [user]}}]})["replies"]
    assert reply == {"delete_user_status": {}} and status(node, user) == {}


def test_the_anonymous_have_no_status(node, server):
    # All of them would share one.
    with Wire.connected(node, "") as wire:
        assert active_by_call(wire)["error"]["code"] == 103
        time.sleep(2 * TICK_S)
    assert not server.client().exists("centrifugo.user_status.")


def test_what_cannot_be_asked(node):
    # A mistake of the application would look like an empty answer.
    for method in ("update_user_status", "get_user_status", "delete_user_status"):
        assert error(node, method, users=[]) == 107
        assert error(node, method) == 107
        assert error(node, method, users=["a", ""]) == 107


def test_N13_without_it(fresh):
    # A backend that answers the method itself, or an application that asks, has to see that it is off.
    with running() as node:
        assert error(node, "update_user_status", users=["a"]) == 108
        assert error(node, "get_user_status", users=["a"]) == 108
        assert error(node, "delete_user_status", users=["a"]) == 108
        with Wire.connected(node, fresh()) as wire:
            assert active_by_call(wire)["error"]["code"] == 108


def check_everything(nodes, fresh):
    """N01-N03 and N06 on nodes that share a place, with enough users for all shards and slots."""
    one, two = nodes[0], nodes[-1]
    users = [f"{fresh()}{n}" for n in range(40)] + NAMES
    update(one, *users, state="here")
    found = statuses(two, *users)
    assert [entry["user"] for entry in found] == users
    assert all(is_now(entry["active"]) and entry["state"] == "here" for entry in found)
    two.api("delete_user_status", users=users[:20])
    assert [len(entry) for entry in statuses(one, *users)] == [1] * 20 + [3] * (len(users) - 20)
    for user in users[:5]:
        with Wire.connected(one, user) as wire:
            eventually(lambda: is_now(status(two, user).get("online", 0)), what="online on the other node")
            assert active_by_call(wire)["rpc"] == {"data": {}}
            assert is_now(status(two, user)["active"])


def test_N08_two_nodes_and_two_shards(fresh):
    # One Redis would carry all users, or nodes would look for a user at different ones.
    with RedisServer() as first, RedisServer() as second:
        redis = {"address": [first.address, second.address], "prefix": "mine"}
        with several(2, keeping(redis), cores=(1, 4)) as nodes:
            check_everything(nodes, fresh)
            counts = [len(server.client().keys("mine.user_status.*")) for server in (first, second)]
            assert min(counts) >= 5, counts


def test_N08_cluster(fresh):
    # Keys of users would be refused by the wrong primary.
    with Cluster() as cluster:
        redis = {"cluster_address": [",".join(f"127.0.0.1:{server.port}" for server in cluster.servers)]}
        with several(2, keeping(redis)) as nodes:
            check_everything(nodes, fresh)


def test_N08_sentinel(fresh):
    # The status of users would end with the first primary.
    with Watched() as watched:
        addresses = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in watched.sentinels)
        redis = {"sentinel_address": [addresses], "sentinel_master_name": MASTER}
        with several(2, keeping(redis)) as nodes:
            check_everything(nodes, fresh)
            watched.first.kill()
            for node in nodes:
                eventually(lambda node=node: answers(node, "update_user_status"), within=30, what="the new primary")
            user = fresh()
            update(nodes[0], user)
            assert "active" in status(nodes[1], user)


@pytest.mark.parametrize("apart", [False, True], ids=["engine", "beside_other_halves"])
def test_N09_the_engines_redis(server, fresh, apart):
    # Two sets of connections to one Redis, and a configuration that says everything twice.
    prefix = fresh()
    changes = on_redis(server.address, prefix=prefix)
    with RedisServer() as other:
        if apart:
            half = {"enabled": True, "type": "redis", "redis": {"address": other.address}}
            changes = merged(changes, {"broker": half, "presence_manager": half})
        with several(2, keeping({"reuse_from_engine": True, "address": "redis://127.0.0.1:1"}, changes)) as nodes:
            check_everything(nodes, fresh)
            assert server.client().keys(f"{prefix}.user_status.*") and not other.client().keys("*.user_status.*")


def test_N09_the_engines_cluster(fresh):
    # As above, with slots.
    with Cluster() as cluster:
        seeds = [",".join(f"127.0.0.1:{server.port}" for server in cluster.servers)]
        changes = on_redis(None, cluster_address=seeds)
        with several(2, keeping({"reuse_from_engine": True}, changes)) as nodes:
            check_everything(nodes, fresh)


def test_own_redis_beside_that_of_the_engine(server, fresh):
    # Answers of one would be taken for those of the other, and a failover of one for the other's.
    with RedisServer() as own:
        changes = on_redis([server.address])
        with several(2, keeping({"address": own.address}, changes)) as nodes:
            check_everything(nodes, fresh)
            assert own.client().keys("centrifugo.user_status.*")
            channel = fresh("recovery")
            with Wire.connected(nodes[1]) as wire:
                wire.subscribe(channel)
                nodes[0].publish(channel, 1)
                assert wire.data() == 1
            own.kill()
            assert error(nodes[0], "get_user_status", users=["a"]) == 100
            nodes[0].publish(channel, 2)


@pytest.mark.parametrize("reuse", [False, True], ids=["own", "engine"])
def test_a_restart_of_redis(fresh, reuse):
    # A short outage would stop the status of users for good, or cost connections.
    user = fresh()
    with RedisServer(keep=True) as server:
        redis = {"reuse_from_engine": True} if reuse else {"address": server.address}
        with running(keeping(redis, on_redis(server.address) if reuse else {})) as node, Wire.connected(node, user) as wire:
            update(node, user)
            server.kill()
            assert error(node, "get_user_status", users=[user]) == 100
            assert error(node, "update_user_status", users=[user]) == 100
            assert error(node, "delete_user_status", users=[user]) == 100
            assert active_by_call(wire)["error"]["code"] == 100
            time.sleep(2 * TICK_S)
            server.start()
            eventually(lambda: answers(node), within=BACK_WITHIN_S, what="the status of users after the restart")
            assert "active" in status(node, user)
            back_s = time.time()
            eventually(lambda: status(node, user).get("online", 0) >= back_s, within=5, what="a tick after the restart")
            assert active_by_call(wire)["rpc"] == {"data": {}}
            said = [line for line in node.logs("error") if "user" in line["message"] or "redis" in line["message"]]
            assert len(said) <= 1, said


def test_a_redis_that_hangs_fails_calls_in_time(fresh):
    # A client that waits for a dead Redis would wait for ever.
    with RedisServer() as server:
        with running(keeping({"address": server.address, "io_timeout": "1s"})) as node:
            with Wire.connected(node, fresh()) as wire:
                active_by_call(wire)
                server.pause()
                assert error(node, "get_user_status", users=["a"]) == 100
                assert active_by_call(wire)["error"]["code"] == 100
                server.resume()
                eventually(lambda: "rpc" in active_by_call(wire), within=BACK_WITHIN_S, what="an answer")


def test_time_never_goes_back(node, server, fresh):
    # The clock of one node is behind: a user would have been active earlier than before.
    user = fresh()
    ahead_s = int(time.time()) + 1000
    server.client().hset(f"centrifugo.user_status.{user}", mapping={"active": ahead_s, "online": ahead_s})
    update(node, user)
    with Wire.connected(node, user):
        time.sleep(2 * TICK_S)
    assert status(node, user) == {"active": ahead_s, "online": ahead_s}


def refusal(changes):
    """What a node says that does not start."""
    gyre = Gyre(changes)
    try:
        gyre.spawn()
        assert gyre.exit_code() != 0
        return gyre.output()
    finally:
        gyre.end()


def test_configurations_that_cannot_work():
    # A node would start and keep nothing.
    said = refusal(keeping({"reuse_from_engine": True}))
    assert "user_status.redis.reuse_from_engine" in said and "engine.type is memory" in said
    said = refusal(keeping({"address": "redis://127.0.0.1:1"}))
    assert "user_status.redis.address.[0]" in said, said
    said = refusal(keeping({"address": "nonsense://x"}))
    assert "user_status.redis.address.[0]" in said
    said = refusal(keeping(expire_interval="1us"))
    assert "user_status.expire_interval" in said
