"""Subscription tokens, refreshing, expiry, key options, personal channels. What tokens of a connect may hold is in
test_connect.py."""

import time

import pytest
from harness import Wire, channel_token, eventually, running, token

# Expiry within seconds instead of the default minute.
QUICK = {"client": {"expired_close_delay": "1s", "expired_sub_close_delay": "1s", "presence_update_interval": "1s"}}


def with_token(**options):
    return {"client": {"token": options}}


def test_D11_subscription_token_opens_a_closed_channel(node, fresh):
    # Private channels could not be used at all.
    channel = fresh("closed")
    with Wire.connected(node) as wire:
        given = channel_token(channel, info={"role": "owner"}, data={"hello": 1})
        assert wire.subscribe(channel, token=given)["data"] == {"hello": 1}
        node.publish(channel, 1)
        assert wire.data() == 1


@pytest.mark.parametrize("changes", [{"channel": "closed:other"}, {"user": "7"}, {"client": "somebody"}])
def test_D11_token_for_something_else_is_terminal(node, fresh, changes):
    # A token of another user or channel would be as good as the right one.
    channel = fresh("closed")
    with Wire.connected(node) as wire:
        given = channel_token(**{"channel": channel, **changes})
        wire.send({"id": 9, "subscribe": {"channel": channel, "token": given}})
        assert wire.closed() == (3500, "invalid token")


def test_D11_bad_and_expired_subscription_tokens(node, fresh):
    # Forged tokens would open channels; for expired ones the SDK could not ask for a new one.
    channel = fresh("open")
    with Wire.connected(node) as wire:
        assert wire.error(subscribe={"channel": channel, "token": "nonsense"}) == 103
        assert wire.error(subscribe={"channel": channel, "token": channel_token(channel, secret="other")}) == 103
        assert wire.error(subscribe={"channel": channel, "token": token()}) == 103
        assert wire.error(subscribe={"channel": channel, "token": channel_token(channel, lifetime_s=-10)}) == 109
        assert wire.subscribe(channel) == {}, "a refused subscription leaves nothing behind"


def test_D12_separate_keys_for_subscription_tokens():
    # Whoever may sign subscription tokens could log in as anybody.
    separate = {"client": {"subscription_token": {"enabled": True, "hmac_secret_key": "sub-secret"}}}
    with running(separate) as node, Wire.connected(node) as wire:
        assert wire.error(subscribe={"channel": "closed:a", "token": channel_token("closed:a")}) == 103
        given = channel_token("closed:a", secret="sub-secret")
        assert wire.subscribe("closed:a", token=given)["expires"] is True
        with Wire(node) as other:
            other.send({"id": 1, "connect": {"token": token(secret="sub-secret")}})
            assert other.closed() == (3500, "invalid token")


def test_D14_token_overrides_namespace_options(node, fresh):
    # Per-subscription options of the backend would be ignored.
    channel = fresh("histclient")
    overrides = {"force_recovery": {"value": True}}
    with Wire.connected(node) as wire:
        assert wire.subscribe(channel, token=channel_token(channel, override=overrides))["recoverable"] is True


def test_C18_refresh_prolongs_a_connection(node):
    # Users would be thrown out at the end of their first token.
    with Wire.connected(node, claims={"lifetime_s": 60}) as wire:
        refreshed = wire.call(refresh={"token": token(lifetime_s=3600)})["refresh"]
        assert refreshed["expires"] is True and 3590 <= refreshed["ttl"] <= 3600


@pytest.mark.parametrize(
    ("given", "close"),
    [
        ("", (3501, "bad request")),
        ("nonsense", (3500, "invalid token")),
        (token(secret="other"), (3500, "invalid token")),
        (token("7"), (3500, "invalid token")),
        (token(lifetime_s=-10), (3005, "connection expired")),
        (token(channels=["open:new"]), (3010, "insufficient state")),
    ],
    ids=["empty", "nonsense", "other secret", "other user", "expired", "other channels"],
)
def test_refused_refresh(node, given, close):
    # A connection could change its user or live on with a bad token.
    with Wire.connected(node, claims={"lifetime_s": 60}) as wire:
        wire.send({"id": 9, "refresh": {"token": given}})
        assert wire.closed() == close


def test_C19_expired_connection_is_closed():
    # Logged-out users would go on reading.
    with running(QUICK) as node, Wire.connected(node, claims={"lifetime_s": 2}) as wire:
        started = time.monotonic()
        assert wire.closed(within=10) == (3005, "connection expired")
        assert time.monotonic() - started > 2, "not before the token ran out and the grace passed"


def test_D06_expire_at_overrides_the_end_of_the_connection():
    # Backends could not separate the life of a token from that of a connection.
    with running(QUICK) as node, Wire.connected(node, claims={"lifetime_s": 2, "expire_at": 0}) as wire:
        assert "expires" not in wire.session
        wire.quiet(4)


def test_D13_expired_subscription_is_taken_away():
    # Access to a channel that ended would go on until the page is closed.
    with running(QUICK) as node, Wire.connected(node) as wire:
        result = wire.subscribe("closed:a", token=channel_token("closed:a", lifetime_s=2))
        assert result["expires"] is True and 1 <= result["ttl"] <= 2
        expired = {"code": 2501, "reason": "subscription expired"}
        assert wire.push("unsubscribe", within=10) == {"channel": "closed:a", "unsubscribe": expired}
        eventually(lambda: node.num_clients("closed:a") == 0, what="subscription gone")


def test_D13_sub_refresh(node, fresh):
    # Subscriptions with tokens would end although the backend prolongs them.
    channel = fresh("closed")
    with Wire.connected(node) as wire:
        assert wire.error(sub_refresh={"channel": channel, "token": channel_token(channel)}) == 103
        wire.subscribe(channel, token=channel_token(channel, lifetime_s=60))
        longer = channel_token(channel, lifetime_s=3600)
        refreshed = wire.call(sub_refresh={"channel": channel, "token": longer})["sub_refresh"]
        assert refreshed["expires"] is True and 3590 <= refreshed["ttl"] <= 3600
        assert wire.error(sub_refresh={"channel": channel, "token": ""}) == 107
        assert wire.error(sub_refresh={"channel": channel, "token": channel_token(channel, lifetime_s=-9)}) == 109
        wire.send({"id": 9, "sub_refresh": {"channel": channel, "token": "nonsense"}})
        assert wire.closed() == (3500, "invalid token")


def test_D07_audience_and_issuer():
    # Tokens made for another service would be accepted.
    with running(with_token(audience="chat", issuer_regex="^https://id[.]example")) as node:
        good = {"aud": ["chat", "mail"], "iss": "https://id.example.org"}
        with Wire.connected(node, claims=good) as wire:
            assert wire.session["client"]
        for changes in ({"aud": "mail"}, {"aud": None}, {"iss": "https://evil.example"}):
            claims = {name: value for name, value in {**good, **changes}.items() if value}
            with Wire(node) as wire:
                wire.send({"id": 1, "connect": {"token": token(**claims)}})
                assert wire.closed() == (3500, "invalid token")


def test_D08_custom_user_claim():
    # Existing tokens of an identity provider could not be used.
    with running(with_token(user_id_claim="uid")) as node, Wire.connected(node, None, claims={"uid": "9"}) as wire:
        wire.subscribe("presence:a")
        assert node.api("presence", channel="presence:a")["presence"][wire.session["client"]]["user"] == "9"


def test_D09_key_rotation():
    # Changing the key would throw out everybody at once.
    hour = int(time.time()) + 3600
    previous = {"hmac_previous_secret_key": "old", "hmac_previous_secret_key_valid_until": hour}
    with running(with_token(**previous)) as node:
        for secret in ("old", "test-secret"):
            with Wire.connected(node, claims={"secret": secret}) as wire:
                assert wire.session["client"]
    previous["hmac_previous_secret_key_valid_until"] = hour - 7200
    with running(with_token(**previous)) as node, Wire(node) as wire:
        wire.send({"id": 1, "connect": {"token": token(secret="old")}})
        assert wire.closed() == (3500, "invalid token")


def test_D10_anonymous_tokens_can_be_banned():
    # A backend that forgets the user id would let everybody in as nobody.
    with running({"client": {"disallow_anonymous_connection_tokens": True}}) as node, Wire(node) as wire:
        wire.send({"id": 1, "connect": {"token": token(None)}})
        assert wire.closed() == (3507, "permission denied")


def test_D15_signature_check_can_be_skipped_with_a_warning():
    # Development against a foreign token would not work, or the switch would stay on unnoticed.
    with running({"client": {"insecure_skip_token_signature_verify": True}}) as node:
        with Wire.connected(node, claims={"secret": "whatever"}) as wire:
            assert wire.session["client"]
        assert node.wait_log("signature", level="warn")


def test_C22_personal_channel():
    # Notifications to a user would need a subscription in every client.
    personal = {"client": {"subscribe_to_user_personal_channel": {"enabled": True}}}
    with running(personal) as node:
        with Wire.connected(node) as wire, Wire.connected(node, None) as nobody:
            assert list(wire.session["subs"]) == ["#42"]
            assert "subs" not in nobody.session
            node.publish("#42", "for you")
            assert wire.push() == {"channel": "#42", "pub": {"data": "for you"}}


def test_C22_personal_channel_in_a_namespace():
    # Personal channels could not have history or presence.
    options = {"enabled": True, "personal_channel_namespace": "recovery"}
    with running({"client": {"subscribe_to_user_personal_channel": options}}) as node:
        with Wire.connected(node) as wire:
            assert wire.session["subs"]["recovery:#42"]["recoverable"] is True
            epoch = wire.session["subs"]["recovery:#42"]["epoch"]
        node.publish("recovery:#42", "while away")
        with Wire.connected(node, fields={"subs": {"recovery:#42": {"recover": True, "epoch": epoch}}}) as wire:
            back = wire.session["subs"]["recovery:#42"]
            assert back["recovered"] is True
            assert [p["data"] for p in back["publications"]] == ["while away"]
