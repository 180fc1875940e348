"""Subscriptions that expire: the backend says whether they live on."""

import time

from harness import channel_token, eventually
from harness.app import over_http
from harness.backend import HANG, disconnect, error, result

SOON_S = 2
# Expiry is seen at a presence tick, one a second here.
NOTICED_S = 5


def soon(seconds=SOON_S):
    return int(time.time()) + seconds


def later():
    return result(expire_at=soon(100))


def test_I08_what_the_backend_is_asked(asking, fresh):
    # As for the subscribe proxy.
    channel = fresh("subrefresh")
    asking.backend["subscribe"] = result(expire_at=soon())
    asking.backend["sub_refresh"] = later()
    with asking.wire() as wire:
        got = wire.subscribe(channel)
        assert "ttl" not in got and "expires" not in got
        call = asking.backend.wait("sub_refresh", client=wire.client, within=SOON_S + NOTICED_S)[0]
        assert call.fields == {**asking.about(wire), "channel": channel}
        wire.quiet(1.5)
        asking.backend.only("sub_refresh", client=wire.client)
        wire.send({"id": 9, "sub_refresh": {"channel": channel, "token": channel_token(channel)}})
        assert wire.closed() == (3501, "bad request")


ENDINGS = {
    "expired": result(expired=True),
    "none": {},
    "error": error(1000),
    "disconnect": disconnect(4501),
    "past": result(expire_at=1),
}


def test_I08_expired(asking, fresh):
    # A user who may not read any more would go on reading; or lose all other channels too.
    channels = {fresh("subrefresh"): answer for answer in ENDINGS.values()}
    asking.backend["subscribe"] = result(expire_at=soon())
    asking.backend["sub_refresh"] = lambda call: channels[call.fields["channel"]]
    with asking.wire() as wire:
        for channel in (*channels, fresh("open")):
            wire.subscribe(channel)
        ended = [wire.push("unsubscribe", within=SOON_S + NOTICED_S) for _ in channels]
        assert {push["channel"] for push in ended} == set(channels)
        assert all(push["unsubscribe"] == {"code": 2501, "reason": "subscription expired"} for push in ended)
        assert {asking.node.num_clients(channel) for channel in channels} == {0}
        wire.call(rpc={"method": "still here"})
        wire.quiet(1.2)


def test_I08_a_result_counts_whatever_is_beside_it(asking, fresh):
    # As for connections: nobody is told of the rest.
    beside = (error(1000), disconnect(4501), {**error(1000), **disconnect(4501)})
    channels = {fresh("subrefresh"): {**answer, **later()} for answer in beside}
    asking.backend["subscribe"] = result(expire_at=soon())
    asking.backend["sub_refresh"] = lambda call: channels[call.fields["channel"]]
    with asking.wire() as wire:
        for channel in channels:
            wire.subscribe(channel)
        asking.backend.wait("sub_refresh", len(beside), client=wire.client, within=SOON_S + NOTICED_S)
        wire.quiet(1.5)
        assert len(asking.backend.calls("sub_refresh", client=wire.client)) == len(beside)


@over_http
def test_server_side_subscription_expired(asking, fresh):
    # What the application subscribed its user to would never end.
    channel = fresh("subrefresh")
    asking.backend["sub_refresh"] = {}
    with asking.wire() as wire:
        asking.node.api("subscribe", user="42", channel=channel, expire_at=soon())
        wire.push("subscribe")
        assert wire.closed(within=SOON_S + NOTICED_S) == (3006, "subscription expired")


@over_http
def test_server_side_subscription_prolonged(asking, fresh):
    # Users would be thrown out although the backend keeps them.
    channel = fresh("subrefresh")
    asking.backend["sub_refresh"] = later()
    with asking.wire() as wire:
        asking.node.api("subscribe", user="42", channel=channel, expire_at=soon())
        wire.push("subscribe")
        asking.backend.wait("sub_refresh", client=wire.client, within=SOON_S + NOTICED_S)
        wire.quiet(1.5)


@over_http
def test_no_new_time_means_no_expiry(asking, fresh):
    # Opposite of what the refresh proxy does, as specified.
    channel = fresh("subrefresh")
    asking.backend["subscribe"] = result(expire_at=soon())
    asking.backend["sub_refresh"] = result()
    with asking.wire() as wire:
        wire.subscribe(channel)
        asking.backend.wait("sub_refresh", client=wire.client, within=SOON_S + NOTICED_S)
        asking.backend["sub_refresh"] = result(expired=True)
        wire.quiet(2)
        asking.backend.only("sub_refresh", client=wire.client)


@over_http
def test_backend_fails(asking, fresh):
    # An outage of the backend would take away subscriptions.
    channels = {fresh("subrefresh"): answer for answer in (asking.backend.broken, HANG)}
    asking.backend["subscribe"] = result(expire_at=soon())
    asking.backend["sub_refresh"] = lambda call: channels[call.fields["channel"]]
    with asking.wire() as wire:
        for channel in channels:
            wire.subscribe(channel)
        asking.backend.wait("sub_refresh", 2, client=wire.client, within=SOON_S + NOTICED_S + 3)
        # The timeout, and a tick after it.
        wire.quiet(3.2)
        for channel in channels:
            asking.backend.only("sub_refresh", channel=channel)
            assert asking.node.num_clients(channel) == 1


@over_http
def test_info(asking, fresh):
    # Others would see a role that has changed since.
    channel = fresh("subrefresh")
    asking.backend["subscribe"] = result(expire_at=soon(), info={"role": "old"})
    asking.backend["sub_refresh"] = result(expire_at=soon(100), info={"role": "new"})
    with asking.wire() as wire:
        wire.subscribe(channel)

        def shown():
            wire.quiet(0.05)
            return asking.members(channel)[wire.client]["chan_info"]

        assert shown() == {"role": "old"}
        eventually(lambda: shown() == {"role": "new"}, within=SOON_S + NOTICED_S, what="the new info")


@over_http
def test_subscription_with_a_token(asking, fresh):
    # Whoever came with a token is the backend's business once it is over.
    channel = fresh("subrefresh")
    asking.backend["sub_refresh"] = {}
    with asking.wire() as wire:
        got = wire.subscribe(channel, token=channel_token(channel, lifetime_s=SOON_S))
        assert "ttl" not in got
        pushed = wire.push("unsubscribe", within=SOON_S + NOTICED_S)
        assert pushed["unsubscribe"]["code"] == 2501


@over_http
def test_unsubscribed_while_the_backend_thinks(asking, fresh):
    # The end of an old subscription would end the new one of the same name.
    channel = fresh("subrefresh")
    asking.backend["subscribe"] = result(expire_at=soon())
    asking.backend["sub_refresh"] = HANG
    with asking.wire() as wire:
        wire.subscribe(channel)
        asking.backend.wait("sub_refresh", client=wire.client, within=SOON_S + NOTICED_S)
        wire.call(unsubscribe={"channel": channel})
        asking.backend["subscribe"] = result()
        wire.subscribe(channel)
        asking.backend["sub_refresh"] = {}
        asking.backend.release()
        wire.quiet(1.5)
        assert asking.node.num_clients(channel) == 1
