"""Channels: who may subscribe and publish, what arrives, in which order. Raw frames, every core count."""

import base64

import pytest
from harness import Wire, channel_token, eventually, running, token


def anonymous(node):
    """A connection of the anonymous user."""
    return Wire.connected(node, user=None)


def test_E03_channel_without_namespace(node, fresh):
    # The simplest set-up, one kind of channel without prefix, would not work.
    channel = fresh()
    with Wire.connected(node) as wire:
        assert wire.subscribe(channel) == {}
        node.publish(channel, {"n": 1})
        assert wire.push() == {"channel": channel, "pub": {"data": {"n": 1}}}


def test_E01_a_channel_lives_as_long_as_its_subscribers(node, fresh):
    # Operators would see channels nobody uses, or miss those in use.
    channel = fresh("open")
    assert node.publish(channel, {}) == {}
    with Wire.connected(node) as wire:
        wire.subscribe(channel)
        assert node.num_clients(channel) == 1
    eventually(lambda: channel not in node.api("channels")["channels"], what="channel without entry")


def test_E05_anonymous_users_need_a_permission_of_their_own(node, fresh):
    # A channel for logged-in users would be readable without login.
    with anonymous(node) as wire:
        assert wire.error(subscribe={"channel": fresh("open")}) == 103
        assert wire.subscribe(fresh("anon")) == {}


@pytest.mark.parametrize(
    ("namespace", "subscribed", "user", "code"),
    [
        ("open", False, "42", None),
        ("closed", False, "42", 103),
        ("subpub", False, "42", 103),
        ("subpub", True, "42", None),
        ("anon", True, "42", 103),
        ("anonpub", False, None, None),
        ("anon", True, None, 103),
    ],
)
def test_E06_publish_permissions(node, fresh, namespace, subscribed, user, code):
    # Clients could write where they may only read, or could not write where they may.
    channel = fresh(namespace)
    with Wire.connected(node, user=user) as wire:
        if subscribed:
            wire.subscribe(channel)
        reply = wire.call(publish={"channel": channel, "data": {"n": 1}})
        assert reply.get("error", {}).get("code") == code, reply


def test_E07_publisher_gets_its_own_message_with_its_info(node, fresh):
    # Chats show a message when it comes back; without `info` nobody would know the author.
    channel = fresh("open")
    with Wire.connected(node, claims={"info": {"name": "Ann"}}) as ann, Wire.connected(node, "7") as bob:
        ann.subscribe(channel)
        bob.subscribe(channel)
        assert ann.call(publish={"channel": channel, "data": {"n": 1}}) == {"id": ann.id, "publish": {}}
        info = {"user": "42", "client": ann.session["client"], "conn_info": {"name": "Ann"}}
        for wire in (ann, bob):
            assert wire.push() == {"channel": channel, "pub": {"data": {"n": 1}, "info": info}}


def test_E08_publications_of_the_api_have_no_info(node, fresh):
    # Clients would show a user for messages of the backend.
    channel = fresh("open")
    with Wire.connected(node) as wire:
        wire.subscribe(channel)
        node.publish(channel, [1], tags={"kind": "x"})
        assert wire.push()["pub"] == {"data": [1], "tags": {"kind": "x"}}


def test_E09_private_prefix_needs_a_token(node, fresh):
    # A namespace open to clients would open its private channels too.
    channel = "$" + fresh("open")
    with Wire.connected(node) as wire:
        assert wire.error(subscribe={"channel": channel}) == 103
        assert wire.subscribe(channel, token=channel_token(channel, lifetime_s=None)) == {}


@pytest.mark.parametrize("user", ["42", "567"])
def test_E10_user_limited_channel_lets_its_users_in(node, fresh, user):
    # A dialog of two would be closed to them.
    with Wire.connected(node, user) as wire:
        assert wire.subscribe(fresh("hidden") + "#42,567") == {}


@pytest.mark.parametrize("user", ["7", "4", "425", None])
def test_E10_user_limited_channel_keeps_others_out(node, fresh, user):
    # A dialog of two could be overheard, even where the namespace is open to all clients.
    with Wire.connected(node, user) as wire:
        for namespace in ("hidden", "dialog"):
            assert wire.error(subscribe={"channel": fresh(namespace) + "#42,567"}) == 103


def test_E11_hash_means_nothing_without_the_option(node, fresh):
    # Names with a # of other applications would be closed by surprise.
    with Wire.connected(node, "7") as wire:
        assert wire.subscribe(fresh("open") + "#42") == {}


def test_E12_channel_regex(node):
    # Clients could create channels of any name.
    with Wire.connected(node) as wire:
        assert wire.subscribe("digits:12") == {}
        assert wire.error(subscribe={"channel": "digits:ab"}) == 107


def test_E13_boundaries_are_configurable():
    # Applications whose names hold colons could not choose namespaces.
    changes = {"channel": {"namespace_boundary": "/", "private_prefix": "!"}}
    with running(changes) as node, Wire.connected(node) as wire:
        assert wire.error(subscribe={"channel": "closed/x"}) == 103
        assert wire.error(subscribe={"channel": "nope/x"}) == 102
        assert wire.subscribe("closed:x") == {}, "a colon is an ordinary character now"
        assert wire.error(subscribe={"channel": "!open/x"}) == 103


def test_E14_data_format(node, fresh):
    # Broken data of one publisher would break every subscriber.
    broken = base64.b64encode(b"{broken").decode()
    assert node.api_error("publish", channel=fresh("json"), b64data=broken) == 107
    assert node.api_error("publish", channel=fresh("open")) == 107
    assert node.api("publish", channel=fresh("binary")) == {}
    assert node.publish(fresh("json"), {"n": 1}) == {}


def test_E15_order_of_publications(node, fresh):
    # Applications rely on order within a channel, whatever core the subscriber is on.
    channel = fresh("open")
    wires = [Wire.connected(node, str(n)) for n in range(6)]
    try:
        for wire in wires:
            wire.subscribe(channel)
        for n in range(300):
            node.publish(channel, n)
        for wire in wires:
            assert [wire.data() for _ in range(300)] == list(range(300))
            wire.quiet(0.05)
    finally:
        for wire in wires:
            wire.__exit__()


def test_C29_publications_share_frames(node, fresh):
    # A burst would cost each client a frame, and each frame a wake-up of its device.
    channel = fresh("open")
    with Wire.connected(node) as wire:
        wire.subscribe(channel)
        before = wire.frames_read
        commands = [{"id": 1000 + n, "publish": {"channel": channel, "data": n}} for n in range(200)]
        wire.send(*commands)
        published, confirmed = [], []
        while len(confirmed) < 200 or len(published) < 200:
            message = wire.next()
            if "push" in message:
                published.append(message["push"]["pub"]["data"])
            else:
                confirmed.append(message["id"])
        assert published == list(range(200))
        assert confirmed == [1000 + n for n in range(200)]
        assert wire.frames_read - before < 400


def test_payload_text_survives_unchanged(node, fresh):
    # Money amounts as 1.10, big numbers and key order would change on their way.
    channel = fresh("open")
    text = '{"b":1.10,"a":123456789012345678901234567890,"s":"\\u00e9\\u2028<&>","e":1e2,"n":null}'
    with Wire.connected(node) as wire:
        wire.subscribe(channel)
        node.api_reply("publish", f'{{"channel":"{channel}","data":{text}}}')
        _, _, payload = wire.read_frame()
        assert f'"data":{text}' in payload.decode()


def test_E16_many_channels_at_once(node, fresh):
    # A page with many widgets would load slowly or in part.
    prefix = fresh("open")
    with Wire.connected(node) as wire:
        wire.send(*({"id": 100 + n, "subscribe": {"channel": f"{prefix}.{n}"}} for n in range(128)))
        assert [wire.next() for _ in range(128)] == [{"id": 100 + n, "subscribe": {}} for n in range(128)]
        for n in range(128):
            node.publish(f"{prefix}.{n}", n)
        assert sorted(wire.data() for _ in range(128)) == list(range(128))


def test_unsubscribe_and_subscribe_in_one_frame(node, fresh):
    # SDKs send both at once when a component is rebuilt; reordered, the channel would stay silent.
    channel = fresh("open")
    with Wire.connected(node) as wire:
        wire.subscribe(channel)
        for round_ in range(20):
            wire.send({"id": 50, "unsubscribe": {"channel": channel}}, {"id": 51, "subscribe": {"channel": channel}})
            assert wire.reply(50) == {"id": 50, "unsubscribe": {}}
            assert wire.reply(51) == {"id": 51, "subscribe": {}}
            node.publish(channel, round_)
            assert wire.data() == round_
        wire.quiet(0.05)


def test_many_users_come_and_go(node, fresh):
    # Leftovers of closed connections would pile up until the node is restarted.
    channel = fresh("presence")
    for _ in range(3):
        wires = [Wire.connected(node, str(n)) for n in range(30)]
        for wire in wires:
            wire.subscribe(channel)
        assert node.num_clients(channel) == 30
        assert node.api("presence_stats", channel=channel) == {"num_clients": 30, "num_users": 30}
        for wire in wires:
            wire.__exit__()
        eventually(lambda: node.num_clients(channel) == 0, what="empty channel")
    assert node.api("presence", channel=channel) == {"presence": {}}


def test_C24_requested_server_side_subscriptions(node, fresh):
    # SDKs ask for the channels they had; one they must not have would be given, or the whole connect refused.
    allowed, denied = fresh("open"), fresh("closed")
    with Wire(node) as wire:
        reply = wire.call(connect={"token": token(), "subs": {allowed: {}, denied: {}}})["connect"]
        assert list(reply["subs"]) == [allowed]
