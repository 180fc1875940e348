"""Presence, join and leave: for clients, for the API, across cores."""

from harness import Wire, eventually


def test_G01_G02_presence_counts_clients_and_users(node, fresh):
    # "Who is online" would be wrong with several tabs of one user.
    channel = fresh("presence")
    claims = {"info": {"name": "Ann"}}
    with (
        Wire.connected(node, claims=claims) as first,
        Wire.connected(node, claims=claims) as second,
        Wire.connected(node, "43") as third,
    ):
        wires = [first, second, third]
        for wire in wires:
            wire.subscribe(channel)
        members = node.api("presence", channel=channel)["presence"]
        assert sorted(members) == sorted(wire.session["client"] for wire in wires)
        mine = {"user": "42", "client": first.session["client"], "conn_info": {"name": "Ann"}}
        assert members[first.session["client"]] == mine
        assert node.api("presence_stats", channel=channel) == {"num_clients": 3, "num_users": 2}
        assert second.call(presence={"channel": channel})["presence"]["presence"] == members
        stats = second.call(presence_stats={"channel": channel})["presence_stats"]
        assert stats == {"num_clients": 3, "num_users": 2}
        first.call(unsubscribe={"channel": channel})
        assert node.api("presence_stats", channel=channel) == {"num_clients": 2, "num_users": 2}


def test_presence_ends_with_the_connection(node, fresh):
    # Users would stay online after closing the page.
    channel = fresh("presence")
    with Wire.connected(node) as wire:
        wire.subscribe(channel)
        assert len(node.api("presence", channel=channel)["presence"]) == 1
    eventually(lambda: node.api("presence", channel=channel) == {"presence": {}}, what="empty presence")


def test_G03_presence_needs_feature_and_permission(node, fresh):
    # Member lists would be public, or the reason of a refusal unclear.
    with Wire.connected(node) as wire:
        for kind in ("presence", "presence_stats"):
            assert wire.error(**{kind: {"channel": fresh("open")}}) == 108
            channel = fresh("presence")
            assert wire.error(**{kind: {"channel": channel}}) == 103
            wire.subscribe(channel)
            assert kind in wire.call(**{kind: {"channel": channel}})
            denied = fresh("presencedenied")
            wire.subscribe(denied)
            assert wire.error(**{kind: {"channel": denied}}) == 103


def test_G04_members_see_each_other_come_and_go(node, fresh):
    # Live member lists would not update.
    channel = fresh("members")
    with Wire.connected(node) as ann:
        ann.subscribe(channel)
        me = {"user": "42", "client": ann.session["client"]}
        assert ann.push("join") == {"channel": channel, "join": {"info": me}}
        with Wire.connected(node, "7", claims={"info": {"name": "Bob"}}) as bob:
            bob.subscribe(channel)
            info = {"user": "7", "client": bob.session["client"], "conn_info": {"name": "Bob"}}
            assert bob.push("join")["join"]["info"] == info
            assert ann.push("join")["join"]["info"] == info
            bob.call(unsubscribe={"channel": channel})
            assert ann.push("leave") == {"channel": channel, "leave": {"info": info}}
            bob.quiet()
            bob.subscribe(channel)
            assert ann.push("join")["join"]["info"] == info
        assert ann.push("leave")["leave"]["info"] == info, "closing the connection is leaving"


def test_G05_join_leave_on_request(node, fresh):
    # Clients that do not show members would be woken for each of them.
    channel = fresh("mayjoin")
    with Wire.connected(node) as asks, Wire.connected(node) as does_not, Wire.connected(node, "7") as bob:
        asks.subscribe(channel, join_leave=True)
        does_not.subscribe(channel)
        assert asks.push("join")["join"]["info"]["client"] == asks.session["client"]
        assert asks.push("join")["join"]["info"]["client"] == does_not.session["client"]
        bob.subscribe(channel)
        assert asks.push("join")["join"]["info"]["user"] == "7"
        does_not.quiet()


def test_G09_server_side_subscriptions_count(node, fresh):
    # Users subscribed by their token would be missing from the member list.
    channel = fresh("presence")
    with Wire.connected(node, claims={"channels": [channel]}) as wire:
        assert list(node.api("presence", channel=channel)["presence"]) == [wire.session["client"]]


def test_H11_presence_errors_of_the_api(node, fresh):
    # Backends could not tell a typo from a feature that is off.
    for method in ("presence", "presence_stats"):
        assert node.api_error(method) == 107
        assert node.api_error(method, channel="nope:x") == 102
        assert node.api_error(method, channel=fresh("open")) == 108
    assert node.api("presence_stats", channel=fresh("presence")) == {"num_clients": 0, "num_users": 0}
