"""Cache recovery mode: a subscriber gets the latest publication, and nothing of what was before."""

import contextlib
import time

import centrifuge
import pytest
from harness import Gyre, Wire, eventually, running, token
from harness.app import namespaces
from harness.node import merged
from harness.redis import RedisServer
from harness.several import QUICK, on_redis, several
from test_sdk import Events

CACHE = {
    "history_size": 5,
    "history_ttl": "300s",
    "force_recovery": True,
    "force_recovery_mode": "cache",
    "allow_subscribe_for_client": True,
    "allow_publish_for_client": True,
}
NAMESPACES = [
    {"name": "cache", **CACHE},
    {"name": "auto", **CACHE, "auto_cache_recover": True},
    {"name": "brief", **CACHE, "history_ttl": "1s"},
    {"name": "one", **CACHE, "history_size": 1},
    {"name": "both", **CACHE, "force_recovery": False, "allow_recovery": True},
]


@pytest.fixture(scope="module", params=["memory 1", "memory 4", "redis"])
def nodes(request):
    """(where publications come from, where subscribers are): one node, or two over Redis."""
    changes = merged(QUICK, namespaces(*NAMESPACES))
    with contextlib.ExitStack() as stack:
        if request.param == "redis":
            server = stack.enter_context(RedisServer())
            yield stack.enter_context(several(2, on_redis(server.address, changes), cores=(1, 4)))
        else:
            node = stack.enter_context(running(changes, cores=int(request.param[-1])))
            yield [node, node]


def recovered(wire, channel, **position):
    """(recovered, data of the publications, offset) of a subscribe with recovery."""
    got = wire.subscribe(channel, recover=True, **position)
    assert got["was_recovering"] and got["recoverable"] and got["positioned"]
    return got.get("recovered", False), [each["data"] for each in got.get("publications", [])], got.get("offset", 0)


def test_F14_latest_only(nodes, fresh):
    # A dashboard would show old numbers first, or none until the next change.
    channel, (source, node) = fresh("cache"), nodes
    for n in range(1, 4):
        source.publish(channel, n)
    with Wire.connected(node) as wire, Wire.connected(node) as plain:
        assert recovered(wire, channel) == (True, [3], 0)
        got = plain.subscribe(channel)
        assert not got.get("publications") and "was_recovering" not in got
        # And it goes on from there.
        source.publish(channel, 4)
        for each in (wire, plain):
            assert each.push()["pub"]["data"] == 4
            each.quiet(0.1)


def test_F14_what_the_client_has(nodes, fresh):
    # After each break of the network the same state would come again, or a newer one would not.
    channel, (source, node) = fresh("cache"), nodes
    position = [source.publish(channel, n) for n in range(1, 4)][-1]
    with contextlib.ExitStack() as stack:

        def ask(**at):
            return recovered(stack.enter_context(Wire.connected(node)), channel, **at)

        assert ask(**position) == (True, [], 3)
        assert ask(epoch=position["epoch"], offset=1) == (True, [3], 1)
        assert ask(epoch="other", offset=3) == (True, [3], 3)
        assert ask(epoch=position["epoch"], offset=9) == (True, [3], 9)
        assert ask(epoch=position["epoch"], offset=0) == (True, [3], 0)


def test_F14_nothing_there(nodes, fresh):
    # An empty channel must not look like one whose state the client knows.
    channel, (source, node) = fresh("cache"), nodes
    with Wire.connected(node) as wire:
        assert recovered(wire, channel) == (False, [], 0)
        source.publish(channel, 1)
        assert wire.data() == 1


def test_F14_state_has_run_out(nodes, fresh):
    # Whoever knows the last state is up to date although nobody keeps it any more; others must load it elsewhere.
    channel, (source, node) = fresh("brief"), nodes
    position = source.publish(channel, 1)
    eventually(lambda: not source.api("history", channel=channel, limit=-1)["publications"], within=6)
    with Wire.connected(node) as knows, Wire.connected(node) as does_not, Wire.connected(node) as wrong:
        assert recovered(knows, channel, **position)[:2] == (True, [])
        assert recovered(does_not, channel)[:2] == (False, [])
        assert recovered(wrong, channel, offset=1, epoch="other")[:2] == (False, [])
        source.publish(channel, 2)
        for wire in (knows, does_not, wrong):
            assert wire.data() == 2


def test_F14_removed(nodes, fresh):
    # A state that was taken back would be delivered.
    channel, (source, node) = fresh("cache"), nodes
    source.publish(channel, 1)
    source.api("history_remove", channel=channel)
    with Wire.connected(node) as wire:
        assert recovered(wire, channel)[:2] == (False, [])


def test_F14_skipped_publications_are_no_state(nodes, fresh):
    # "Ann is typing" would be shown as the state of the channel.
    channel, (source, node) = fresh("cache"), nodes
    source.publish(channel, "state")
    source.publish(channel, "typing", skip_history=True)
    with Wire.connected(node) as wire:
        assert recovered(wire, channel) == (True, ["state"], 0)


def test_F14_whole_publication(nodes, fresh):
    # Tags and the publisher would be missing in what is handed over.
    channel, (source, node) = fresh("one"), nodes
    with Wire.connected(source, claims={"info": {"name": "Ann"}}) as ann, Wire.connected(node) as wire:
        ann.call(publish={"channel": channel, "data": 1})
        (publication,) = wire.subscribe(channel, recover=True)["publications"]
        info = {"user": "42", "client": ann.session["client"], "conn_info": {"name": "Ann"}}
        assert (publication["data"], publication["offset"], publication["info"]) == (1, 1, info)
        source.publish(channel, 2, tags={"kind": "x"})
        assert wire.push()["pub"]["tags"] == {"kind": "x"}
        with Wire.connected(node) as later:
            (publication,) = later.subscribe(channel, recover=True)["publications"]
            assert publication == {"data": 2, "offset": 2, "tags": {"kind": "x"}}


def test_F14_no_112(nodes, fresh):
    # Clients that ask to be told of a lost position would be refused, although there is none to lose here.
    channel, (source, node) = fresh("cache"), nodes
    source.publish(channel, 1)
    with Wire.connected(node) as wire:
        assert recovered(wire, channel, epoch="other", offset=7, flag=2) == (True, [1], 7)


def test_F14_on_request(nodes, fresh):
    # The mode is that of the namespace, whoever asks for recovery.
    channel, (source, node) = fresh("both"), nodes
    for n in range(1, 4):
        source.publish(channel, n)
    with Wire.connected(node) as wire, Wire.connected(node) as plain:
        assert "recoverable" not in plain.subscribe(channel)
        got = wire.subscribe(channel, recover=True, recoverable=True)
        # Without the right to history the wish does not count.
        assert got.get("recoverable", False) is False or [p["data"] for p in got["publications"]] == [3]


def test_F14_at_connect(nodes, fresh):
    # Server-side subscriptions recover, too.
    channel, (source, node) = fresh("cache"), nodes
    for n in range(1, 4):
        source.publish(channel, n)
    with Wire.connected(node, claims={"channels": [channel]}, fields={"subs": {channel: {"recover": True}}}) as wire:
        got = wire.session["subs"][channel]
        assert got["recovered"] and [each["data"] for each in got["publications"]] == [3]
    with Wire.connected(node, claims={"channels": [channel]}) as wire:
        assert not wire.session["subs"][channel].get("publications")


def test_F15_auto(nodes, fresh):
    # Clients that cannot ask would wait for the next change.
    channel, empty, (source, node) = fresh("auto"), fresh("auto"), nodes
    for n in range(1, 4):
        source.publish(channel, n)
    with Wire.connected(node) as wire, Wire.connected(node, claims={"channels": [channel, empty]}) as other:
        got = wire.subscribe(channel)
        assert got["recovered"] and got["was_recovering"] and [each["data"] for each in got["publications"]] == [3]
        got = other.session["subs"]
        assert got[channel]["recovered"] and [each["data"] for each in got[channel]["publications"]] == [3]
        assert got[empty]["was_recovering"] and not got[empty].get("recovered")
        source.publish(channel, 4)
        assert wire.data() == other.data() == 4


def test_F15_subscribed_by_the_api(nodes, fresh):
    # As above, for users whom the application subscribes.
    channel, (source, node), user = fresh("auto"), nodes, fresh()
    source.publish(channel, 1)
    with Wire.connected(node, user) as wire:
        source.api("subscribe", user=user, channel=channel)
        pushed = wire.push("subscribe")
        assert pushed["channel"] == channel
        # The state follows as a publication: a subscribe push has no room for it.
        assert wire.data() == 1


def test_F15_with_a_position(nodes, fresh):
    # Whoever has the state gets it once only.
    channel, (source, node) = fresh("auto"), nodes
    position = source.publish(channel, 1)
    with Wire.connected(node) as wire:
        assert recovered(wire, channel, **position) == (True, [], 1)


def test_F14_published_meanwhile(nodes, fresh):
    # Between the state that is handed over and what follows there must be neither a hole nor a repetition.
    channel, (source, node) = fresh("cache"), nodes
    source.publish(channel, 0)
    for turn in range(30):
        with Wire.connected(node) as wire:
            wire.send({"id": 100, "subscribe": {"channel": channel, "recover": True}})
            last = [source.publish(channel, [turn, n]) for n in range(3)][-1]["offset"]
            got = wire.reply(100)["subscribe"]
            seen = [each["offset"] for each in got.get("publications", [])]
            while seen[-1:] != [last]:
                seen.append(wire.push()["pub"]["offset"])
            assert seen == list(range(seen[0], last + 1)), seen
            wire.quiet(0.01)


async def test_F14_sdk(nodes, fresh):
    # The official SDK would show an old state after a break.
    channel, (source, node) = fresh("cache"), nodes
    source.publish(channel, {"n": 1})

    async def nothing_known(_channel):
        return centrifuge.StreamPosition(offset=0, epoch="")

    events = Events()
    address = f"ws://127.0.0.1:{node.port}/connection/websocket"
    client = centrifuge.Client(address, token=token("42"), max_reconnect_delay=0.2, proxy=None)
    await client.connect()
    try:
        await client.new_subscription(channel, events=events, get_state=nothing_known).subscribe()
        first = await events.expect("subscribed")
        assert first.was_recovering and first.recovered
        assert (await events.expect("publication")).pub.data == {"n": 1}
        await client.disconnect()
        for n in range(2, 5):
            source.publish(channel, {"n": n})
        await client.connect()
        assert (await events.expect("publication")).pub.data == {"n": 4}
    finally:
        await client.disconnect()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"auto_cache_recover": True, "force_recovery_mode": "stream"}, "auto_cache_recover"),
        ({"auto_cache_recover": True, "force_recovery": False}, "auto_cache_recover"),
        ({"force_recovery_mode": "caches"}, "force_recovery_mode"),
        ({"history_size": 0}, "history_size"),
    ],
)
def test_refused_at_start(options, word):
    # A mistake would show as a state that never comes.
    node = Gyre(namespaces({"name": "cache", **CACHE, **options}))
    try:
        assert node.spawn().exit_code() == 1
        assert word in node.output()
    finally:
        node.end()


def test_recoveries_are_counted(fresh):
    # On dashboards a lost cache would look like a full one, and a stream like a cache.
    with running(namespaces(*NAMESPACES), cores=2) as node, Wire.connected(node) as wire, Wire.connected(node) as other:
        stream, cache, empty = fresh("recovery"), fresh("cache"), fresh("cache")
        epoch = node.publish(stream, 1)["epoch"]
        node.publish(cache, 1)
        wire.subscribe(stream, recover=True, epoch=epoch)
        wire.subscribe(cache, recover=True)
        wire.subscribe(empty, recover=True)
        other.subscribe(stream, recover=True, offset=1, epoch=epoch)
        other.subscribe(cache)

        def recoveries(recovered, brought):
            labels = f'recovered="{recovered}",channel_namespace="",has_recovered_publications="{brought}"'
            return node.metric(f"centrifugo_client_recover{{{labels}}}")

        def counts():
            actions = [f'{{action="{action}",channel_namespace=""}}' for action in ("history_recover", "history_recover_cache")]
            return [
                *(recoveries(*which) for which in (("yes", "yes"), ("yes", "no"), ("no", "no"))),
                *(node.metric(f"centrifugo_node_action_count{labels}") for labels in actions),
            ]

        eventually(lambda: counts() == [2, 1, 1, 2, 2], what="2 with, 1 without, 1 failed; 2 of streams, 2 of caches")


def test_F14_ends_with_the_epoch(fresh):
    # After a loss of data the client would believe that it has the state.
    with RedisServer() as server, running(on_redis(server.address, namespaces(*NAMESPACES))) as node:
        channel = fresh("cache")
        position = node.publish(channel, 1)
        server.client().flushall()
        node.publish(channel, 2)
        with Wire.connected(node) as wire:
            assert recovered(wire, channel, **position) == (True, [2], 1)
        server.client().flushall()
        time.sleep(0.01)
        with Wire.connected(node) as wire:
            assert recovered(wire, channel, **position)[:2] == (False, [])
