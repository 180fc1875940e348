"""Who a connection is by a header that a trusted proxy sets, and users who have one connection only."""

import contextlib

import pytest
from harness import CORES, Wire, eventually, running, token
from harness.app import namespaces
from harness.backend import Backend, disconnect, result
from harness.node import API_KEY
from harness.redis import RedisServer
from harness.several import on_redis, several
from harness.wire import Refused

PERSONAL = namespaces({"name": "own", "presence": True, "allow_presence_for_subscriber": True})
HEADER = {
    "client": {
        "user_id_http_header": "X-User",
        "subscribe_to_user_personal_channel": {"enabled": True, "personal_channel_namespace": "own"},
    },
    **PERSONAL,
}
SINGLE = {
    "client": {
        "user_id_http_header": "X-User",
        "subscribe_to_user_personal_channel": {
            "enabled": True,
            "personal_channel_namespace": "own",
            "single_connection": True,
        },
    },
    **PERSONAL,
}
REPLACED = (3504, "connection limit")
NOBODY = (3501, "bad request")


@pytest.fixture(scope="module")
def trusting():
    """A node that takes the user from X-User."""
    with running(HEADER) as node:
        yield node
        assert not node.complaints(), node.complaints()


@pytest.fixture(scope="module", params=CORES, ids=lambda cores: f"cores{cores}")
def single(request):
    """A node whose users have one connection each, once per core count."""
    with running(SINGLE, cores=request.param) as node:
        yield node
        assert not node.complaints(), node.complaints()


def by_header(node, user, **fields):
    """A connection that is let in by its header."""
    wire = Wire(node, headers={"X-User": user})
    wire.session = wire.call(connect=fields)["connect"]
    return wire


def user_of(node, wire, channel):
    """Who the node takes a connection for: presence tells."""
    wire.subscribe(channel)
    return node.api("presence", channel=channel)["presence"][wire.session["client"]]["user"]


def refused(node, headers=None, connect=None):
    """How a connect that must fail ends."""
    with Wire(node, headers=headers) as wire:
        wire.send({"id": 1, "connect": connect or {}})
        return wire.closed()


# ---- client.user_id_http_header


def test_C21_header_says_who_connects(trusting, fresh):
    # Sites behind a proxy that knows its users could not connect without tokens.
    with by_header(trusting, "7") as wire:
        assert user_of(trusting, wire, fresh("presence")) == "7"
        assert "expires" not in wire.session and "ttl" not in wire.session
    # Names of headers have no case; the first value counts, spaces around it do not.
    for headers in ({"x-user": "7"}, {"X-User": ["7", "8"]}, {"X-User": "  7 "}):
        with Wire(trusting, headers=headers) as wire:
            wire.session = wire.call(connect={})["connect"]
            assert user_of(trusting, wire, fresh("presence")) == "7", headers


def test_C21_it_is_found_by_the_api(trusting, fresh):
    # The application could neither reach nor throw out who came by a header.
    user, channel = fresh(), fresh("open")
    with by_header(trusting, user) as wire:
        trusting.api("subscribe", user=user, channel=channel)
        assert wire.push("subscribe")["channel"] == channel
        trusting.api("disconnect", user=user)
        assert wire.closed() == (3503, "force disconnect")


def test_C21_no_channels_come_with_it(trusting, fresh):
    # As specified: the header is looked at last, when channels have been given out.
    wanted = fresh("open")
    with by_header(trusting, "7", subs={wanted: {}, "nowhere:x": {}}) as wire:
        assert "subs" not in wire.session
        wire.subscribe(wanted)
    with Wire.connected(trusting, "7") as wire:
        assert list(wire.session["subs"]) == ["own:#7"]


@pytest.mark.parametrize("headers", [None, {"X-User": ""}, {"X-Other": "7"}, {"X-User": ["", "7"]}], ids=str)
def test_C21_without_it_nobody_gets_in(trusting, headers):
    # Whoever reaches the node past the proxy would be somebody.
    assert refused(trusting, headers) == NOBODY


def test_C21_what_the_client_says_is_not_it(trusting):
    # Any client could be any user.
    assert refused(trusting, connect={"headers": {"X-User": "7", "x-user": "7"}}) == NOBODY


def test_C21_only_when_configured(node):
    # Nodes without such a proxy would let anybody in.
    assert refused(node, {"X-User": "7"}) == NOBODY


def test_C21_a_token_goes_first(trusting, fresh):
    # A forged or expired token would be overlooked; a good one would be somebody else's.
    headers = {"X-User": "8"}
    with Wire(trusting, headers=headers) as wire:
        wire.session = wire.call(connect={"token": token("7")})["connect"]
        assert user_of(trusting, wire, fresh("presence")) == "7"
    assert refused(trusting, headers, {"token": "x"}) == (3500, "invalid token")
    with Wire(trusting, headers=headers) as wire:
        assert wire.error(connect={"token": token("7", lifetime_s=-10)}) == 109


def test_C21_anonymity_goes_first(fresh):
    # As specified: visitors without a name stay without one.
    client = {**HEADER["client"], "allow_anonymous_connect_without_token": True}
    lobby = {"name": "lobby", "presence": True, "allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
    with running({"client": client, **namespaces({"name": "own"}, lobby)}) as node, by_header(node, "7") as wire:
        assert user_of(node, wire, fresh("lobby")) == ""


def test_C21_a_backend_goes_first(fresh):
    # The backend knows better; only where it has nothing to say the header counts.
    with Backend() as backend:
        proxy = {"connect": {"enabled": True, "endpoint": backend.url("connect")}}
        with running({"client": {**HEADER["client"], "proxy": proxy}, **PERSONAL}) as node:
            backend["connect"] = result(user="42")
            with by_header(node, "7") as wire:
                assert user_of(node, wire, fresh("presence")) == "42"
            backend["connect"] = disconnect(4501)
            assert refused(node, {"X-User": "7"}) == (4501, "go away")
            backend["connect"] = {}
            with by_header(node, "7") as wire:
                assert user_of(node, wire, fresh("presence")) == "7"
                assert "subs" not in wire.session
            assert refused(node) == NOBODY


def test_C21_the_api_needs_its_key(trusting):
    # The header must open nothing else.
    assert trusting.http("POST", "/api/info", "{}", {"X-User": "7"})[0] == 401
    assert trusting.http("POST", "/api/info", "{}", {"X-User": "7", "X-API-Key": API_KEY})[0] == 200


def test_C21_origins_are_checked(trusting):
    # A foreign page in the browser of a user would act as him.
    with pytest.raises(Refused) as refusal:
        Wire(trusting, headers={"X-User": "7", "Origin": "https://evil.example"})
    assert refusal.value.status == 403


# ---- subscribe_to_user_personal_channel.single_connection


def test_C23_the_second_login_ends_the_first(single, fresh):
    # Two people would share one account.
    user = fresh()
    channel = f"own:#{user}"
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire.connected(single, user))]
        for _ in range(5):
            wires.append(stack.enter_context(Wire.connected(single, user)))
            assert wires[-2].closed() == REPLACED
            assert channel in wires[-1].session["subs"]
        eventually(lambda: single.num_clients(channel) == 1, within=5, what="one subscriber")
        single.publish(channel, 1)
        assert wires[-1].data() == 1
        assert list(single.api("presence", channel=channel)["presence"]) == [wires[-1].session["client"]]
        wires[-1].quiet(0.1)


def test_C23_others_stay(single, fresh):
    # A login would throw out strangers.
    user, other = fresh(), fresh()
    with Wire.connected(single, other) as stranger, Wire.connected(single, user) as first:
        with Wire.connected(single, user) as second:
            assert first.closed() == REPLACED
            stranger.quiet(0.2)
            second.quiet(0.1)


def test_C23_a_bad_login_ends_nobody(single, fresh):
    # Anybody could throw users out.
    user = fresh()
    with Wire.connected(single, user) as wire:
        assert refused(single, connect={"token": token(user, secret="other")}) == (3500, "invalid token")
        with Wire(single) as late:
            assert late.error(connect={"token": token(user, lifetime_s=-10)}) == 109
        wire.quiet(0.2)


def test_C23_commands_behind_connect_are_kept(single, fresh):
    # SDKs send subscribes along with connect; they would be lost while the others are counted.
    user, channel = fresh(), fresh("open")
    with Wire.connected(single, user) as first, Wire(single) as wire:
        wire.send({"id": 1, "connect": {"token": token(user)}}, {"id": 2, "subscribe": {"channel": channel}})
        assert "connect" in wire.next() and "subscribe" in wire.next()
        assert first.closed() == REPLACED


def test_C23_who_comes_by_header_ends_nobody(single, fresh):
    # As specified: it is in no personal channel. A login by token ends it nevertheless, where another is known to be there.
    user = fresh()
    with Wire.connected(single, user) as first, by_header(single, user) as second:
        first.quiet(0.2)
        second.quiet(0.1)
        with Wire.connected(single, user) as third:
            assert first.closed() == REPLACED
            assert second.closed() == REPLACED
            third.quiet(0.1)


def test_C23_who_has_no_name_is_many():
    # All visitors but one would be thrown out.
    changes = {"client": {**SINGLE["client"], "allow_anonymous_connect_without_token": True}, **PERSONAL}
    with running(changes) as node, Wire(node) as one, Wire(node) as two:
        for wire in (one, two):
            assert "subs" not in wire.call(connect={})["connect"]
        one.quiet(0.2)
        two.quiet(0.1)


def test_C23_a_backend_says_who_it_is():
    # Users of a backend that authenticates would have as many connections as they like.
    with Backend() as backend:
        proxy = {"connect": {"enabled": True, "endpoint": backend.url("connect")}}
        with running({"client": {**SINGLE["client"], "proxy": proxy}, **PERSONAL}) as node:
            backend["connect"] = result(user="42")
            with Wire(node) as one, Wire(node) as two:
                assert list(one.call(connect={})["connect"]["subs"]) == ["own:#42"]
                assert list(two.call(connect={})["connect"]["subs"]) == ["own:#42"]
                assert one.closed() == REPLACED
                two.quiet(0.1)


def test_C23_over_nodes(server, fresh):
    # Behind a balancer the second login is on another node more often than not.
    with several(2, on_redis(server.address, SINGLE, prefix=fresh()), cores=(1, 2)) as nodes:
        user = fresh()
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(Wire.connected(nodes[0], user))]
            for number in range(1, 7):
                wires.append(stack.enter_context(Wire.connected(nodes[number % 2], user)))
                assert wires[-2].closed() == REPLACED
            wires[-1].quiet(0.3)
            for node in nodes:
                eventually(
                    lambda node=node: node.api("presence_stats", channel=f"own:#{user}")["num_clients"] == 1,
                    within=5,
                    what="one of them",
                )
            assert not any(node.complaints() for node in nodes)


def test_C23_presence_cannot_be_read():
    # The connection would be let in beside the others; closed for good, the user could not come back after the outage.
    with RedisServer() as redis, running(on_redis(redis.address, SINGLE)) as node:
        with Wire.connected(node, "7"):
            pass
        redis.kill()

        def ending():
            with Wire(node) as wire:
                wire.send({"id": 1, "connect": {"token": token("7")}})
                return wire.closed(within=10)

        assert ending() == (3004, "internal server error")
        redis.start()

        def comes_back():
            with Wire(node) as wire:
                wire.send({"id": 1, "connect": {"token": token("7")}})
                with contextlib.suppress(Exception):
                    return "connect" in wire.next()
            return False

        eventually(comes_back, within=10, what="a connection after the outage")
