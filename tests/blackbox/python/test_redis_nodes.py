"""Nodes as a group: they know each other, acts of the API reach clients of any node, nodes go and come."""

import signal

import pytest
from harness import Wire, eventually, free_port, running
from harness.checker import Follower, Publisher, judge
from harness.several import QUICK, on_redis, several
from harness.wire import offsets


def names(node):
    return {entry["name"] for entry in node.api("info")["nodes"]}


def test_J17_info_shows_all_nodes(server, fresh):
    # Dashboards would show one node's share, and dead nodes would stay for ever.
    prefix = fresh("n").replace(":", "")
    changes = on_redis(server.address, QUICK, prefix=prefix, presence_ttl="5s")
    channel = fresh("presence")
    with several(3, changes, cores=(1,)) as nodes, Wire.connected(nodes[0]) as ann, Wire.connected(nodes[2]) as bob:
        for node in nodes:
            eventually(lambda node=node: len(names(node)) == 3, within=5, what="three nodes")
        ann.subscribe(channel)
        bob.subscribe(channel)

        def counts():
            infos = {entry["name"]: entry for entry in nodes[1].api("info")["nodes"]}
            return sorted(entry.get("num_clients", 0) for entry in infos.values()) == [0, 1, 1]

        eventually(counts, within=8, what="clients of other nodes")
        (uid,) = {entry["uid"] for entry in nodes[0].api("info")["nodes"] if entry["name"].endswith(f"_{nodes[2].port}")}
        assert uid
        nodes[1].stop()
        eventually(lambda: len(names(nodes[0])) == 2, within=2, what="a node that stops leaves at once")
        assert nodes[0].api("presence_stats", channel=channel)["num_clients"] == 2
        nodes[2].process.send_signal(signal.SIGKILL)
        nodes[2].process.wait()
        eventually(
            lambda: nodes[0].api("presence_stats", channel=channel)["num_clients"] == 1,
            within=7,
            what="presence without the dead node",
        )
        eventually(lambda: len(names(nodes[0])) == 1, within=16, what="info without the dead node")
        ann.quiet(0.1)


def test_J20_acts_reach_the_clients_of_other_nodes(pair, fresh):
    # Bans, removals from groups and token renewals would depend on the node the backend happens to talk to.
    one, two = pair
    user, channel = fresh(), fresh("members")
    with Wire.connected(two, user) as wire, Wire.connected(two, user) as spared, Wire.connected(two, "9") as other:
        for each in (wire, other):
            each.subscribe(channel)
            assert each.push("join")["join"]["info"]["client"] == each.session["client"]
        assert wire.push("join")
        assert one.api("unsubscribe", user=user, channel=channel) == {}
        assert wire.push("unsubscribe")["unsubscribe"] == {"code": 2000, "reason": "server unsubscribe"}
        assert other.push("leave")["leave"]["info"]["user"] == user
        assert one.api("disconnect", user=user, whitelist=[spared.session["client"]]) == {}
        assert wire.closed() == (3503, "force disconnect")
        assert spared.push("unsubscribe"), "all connections of the user are told"
        spared.quiet(0.1)
        assert one.api("disconnect", user=user, disconnect={"code": 4501, "reason": "see you"}) == {}
        assert spared.closed() == (4501, "see you")
        assert other.error(rpc={"method": "x"}) == 108


@pytest.mark.parametrize("method", ["subscribe", "refresh"])
def test_J20_subscribe_and_refresh_on_the_other_node(pair, fresh, method):
    # A backend that adds users to groups or prolongs sessions would need to know their node.
    one, two = pair
    user, channel = fresh(), fresh("open")
    with Wire.connected(two, user) as wire:
        if method == "subscribe":
            assert one.api("subscribe", user=user, channel=channel) == {}
            assert wire.push("subscribe")["channel"] == channel
            one.publish(channel, 1)
            assert wire.data() == 1
        else:
            assert one.api("refresh", user=user, expired=True) == {}
            assert wire.closed()[0] == 3005


def test_J20_no_user_means_the_anonymous(pair):
    # An empty user id in a backend's bug would throw out everybody.
    with Wire.connected(pair[1], "7") as named, Wire.connected(pair[1], "") as anonymous:
        assert pair[0].api("disconnect", user="") == {}
        assert anonymous.closed()[0] == 3503
        named.quiet(0.1)


def test_channels_of_all_nodes(pair, fresh):
    # Operators would see one node's channels.
    one, two = pair
    prefix = fresh("open")
    with Wire.connected(one) as ann, Wire.connected(two) as bob:
        for number in range(10):
            ann.subscribe(f"{prefix}.{number}")
            bob.subscribe(f"{prefix}.{number + 5}")
        for node in pair:
            found = node.api("channels", pattern=f"{prefix}.*")["channels"]
            assert found == {f"{prefix}.{n}": {"num_clients": 2 if 5 <= n < 10 else 1} for n in range(15)}


def test_rolling_restart(server, fresh):
    # Each deployment would lose messages of those whose node goes.
    changes = on_redis(server.address, QUICK, prefix=fresh("r").replace(":", ""))
    channels = [fresh("recovery") for _ in range(5)]
    with several(2, changes) as nodes, Publisher([nodes[0]], channels, every_s=0.005) as publisher:
        with Follower(nodes[1], channels) as follower, Follower(nodes[0], channels) as steady:
            for _ in range(2):
                nodes[1].stop()
                nodes[1].start()
            publisher.stop()
            judge([follower, steady], [publisher])
            assert follower.closes and follower.closes[0] == 3001 and not steady.closes
            assert not publisher.failed
            assert not any(stream.jumps for stream in follower.streams.values()), "all was recovered"


def test_kill_of_a_node(server, fresh):
    # A crash would lose what was confirmed, though it is in Redis and the clients have another node to go to.
    changes = on_redis(server.address, QUICK, prefix=fresh("r").replace(":", ""))
    channels = [fresh("recovery") for _ in range(5)]
    with several(2, changes) as nodes, Publisher([nodes[0]], channels, every_s=0.005) as publisher:
        moving = Alias(nodes[1])
        with Follower(moving, channels) as follower, Publisher([nodes[1]], channels, every_s=0.005) as dying:
            eventually(lambda: len(dying.confirmed) > 50, what="publications of both")
            moving.node = nodes[0]
            nodes[1].process.kill()
            eventually(lambda: follower.closes and follower.has_all(), what="subscriptions on the other node")
            dying.stop()
            publisher.stop()
            judge([follower], [publisher, dying])
            assert not publisher.failed
            assert not any(stream.jumps for stream in follower.streams.values()), "all was recovered"


class Alias:
    """An address that may change its node."""

    def __init__(self, node):
        self.node = node

    @property
    def port(self):
        return self.node.port


def test_start_with_a_full_redis(server, fresh):
    # A node would need its own Redis, or start with what others left.
    port = free_port()
    changes = on_redis(server.address)
    channel = fresh("recovery")
    with running(changes, port=port) as node:
        first = node.publish(channel, 1)
    with running(changes, port=port) as node, Wire.connected(node) as wire:
        result = wire.subscribe(channel, recover=True, epoch=first["epoch"], offset=0)
        assert result["recovered"] is True and offsets(result["publications"]) == [1], "C25: a restart loses nothing"
