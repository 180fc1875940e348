"""Connecting: credentials, tokens, the connect reply. Raw frames, every core count."""

import re
import time

import pytest
from harness import Wire, running, token
from harness.wire import TEXT


@pytest.mark.parametrize("request_fields", [{}, {"token": ""}, {"data": {"x": 1}}])
def test_C01_connect_without_credentials_is_refused(node, request_fields):
    # A node would let anybody in, or an SDK would retry for ever.
    with Wire(node) as wire:
        wire.send({"id": 1, "connect": request_fields})
        assert wire.closed() == (3501, "bad request")
    node.wait_log("credentials not found", level="info")


def test_C02_anonymous_access_is_a_switch():
    # Public sites without login could not connect at all.
    changes = {
        "client": {"allow_anonymous_connect_without_token": True},
        "channel": {"without_namespace": {"presence": True, "allow_subscribe_for_anonymous": True}},
    }
    with running(changes) as node, Wire(node) as wire:
        client = wire.call(connect={})["connect"]["client"]
        wire.subscribe("lobby")
        members = node.api("presence", channel="lobby")["presence"]
        assert members[client]["user"] == "", "an anonymous member is shown with an empty user"
        assert members[client]["client"] == client


def test_C03_insecure_client_mode_needs_no_permission_and_warns():
    # Local development without tokens would not work, or would be left on unnoticed.
    with running({"client": {"insecure": True}}) as node, Wire(node) as wire:
        assert wire.call(connect={})["connect"]["client"]
        wire.subscribe("closed:x")
        assert wire.call(publish={"channel": "closed:x", "data": {"n": 1}}) == {"id": wire.id, "publish": {}}
        assert wire.data() == {"n": 1}
        node.wait_log("insecure", level="warn")
        warnings = [e for e in node.logs("warn") if "insecure" in str(e)]
        assert len(warnings) == 1, warnings


def test_C04_connect_reply_carries_what_sdks_need(node):
    # SDKs take ping interval, pong duty and client id from it; without `version` the Python suite fails.
    with Wire(node) as wire:
        reply = wire.call(connect={"token": token("42", lifetime_s=None)})["connect"]
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", reply["client"])
        assert reply["version"]
        assert (reply["ping"], reply["pong"]) == (25, True)
        assert "time" not in reply and "expires" not in reply and "session" not in reply


def test_C04_server_time_only_on_request():
    # Clients that show server time would have none.
    with running({"client": {"connect_include_server_time": True}}) as node:
        with Wire.connected(node) as wire:
            assert abs(wire.session["time"] - time.time() * 1000) < 10_000


def test_C04_expiring_token_announces_ttl(node):
    # The SDK would not refresh in time and the connection would be closed.
    with Wire.connected(node, claims={"lifetime_s": 600}) as wire:
        assert wire.session["expires"] is True
        assert 595 <= wire.session["ttl"] <= 600


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_D01_hmac_algorithms(node, algorithm):
    # Backends that sign with a longer hash would be locked out.
    with Wire.connected(node, claims={"algorithm": algorithm}) as wire:
        assert wire.session["client"]


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_D01_wrong_secret_is_terminal(node, algorithm):
    # Forged tokens would be accepted, or SDKs would hammer the node with retries.
    with Wire(node) as wire:
        wire.send({"id": 1, "connect": {"token": token(secret="other", algorithm=algorithm)}})
        assert wire.closed() == (3500, "invalid token")


@pytest.mark.parametrize(
    "bad",
    [
        "x",
        "a.b.c",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiI0MiJ9.",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9",
        token("42")[:-6] + "AAAAAA",
        token("42", channel="open:x"),
    ],
    ids=["text", "not base64", "alg none", "two parts", "flipped signature", "subscription token"],
)
def test_D01_malformed_tokens(node, bad):
    # Each of these is a known way around token checks.
    with Wire(node) as wire:
        wire.send({"id": 1, "connect": {"token": bad}})
        assert wire.closed() == (3500, "invalid token")


def test_D04_claims_reach_members_but_meta_does_not(node, fresh):
    # Applications show names from `info`; `meta` is for the backend only and must never leak to clients.
    channel = fresh("members")
    claims = {"info": {"name": "Ann"}, "meta": {"secret": "hidden-meta"}, "channels": [channel]}
    with Wire.connected(node, claims=claims) as wire:
        assert channel in wire.session["subs"]
        member = node.api("presence", channel=channel)["presence"][wire.session["client"]]
        assert member["user"] == "42"
        assert member["conn_info"] == {"name": "Ann"}
        assert "hidden-meta" not in str(member) + str(wire.session)
        assert wire.push("join")["join"]["info"]["conn_info"] == {"name": "Ann"}


def test_D04_subs_claim_wins_over_channels_and_overrides_options(node, fresh):
    # Server-side subscriptions with own channel info and presence would be set up wrongly.
    taken, ignored = fresh("open"), fresh("open")
    subs = {taken: {"info": {"role": "owner"}, "data": {"hello": 1}, "override": {"presence": {"value": True}}}}
    with Wire.connected(node, claims={"subs": subs, "channels": [ignored]}) as wire:
        assert list(wire.session["subs"]) == [taken]
        assert wire.session["subs"][taken]["data"] == {"hello": 1}
    assert node.num_clients(ignored) == 0


def test_D04_unknown_channel_in_token(node):
    # A typo in the backend would be silent.
    with Wire(node) as wire:
        assert wire.error(connect={"token": token(channels=["nope:x"])}) == 102


def test_D05_expired_token_asks_for_a_new_one(node):
    # With a disconnect instead of error 109 the SDK would never call getToken.
    with Wire(node) as wire:
        reply = wire.call(connect={"token": token(lifetime_s=-10)})
        assert reply["error"] == {"code": 109, "message": "token expired"}


def test_D05_commands_after_a_failed_connect_end_the_connection(node):
    # A half-connected client could go on without credentials.
    with Wire(node) as wire:
        assert wire.error(connect={"token": token(lifetime_s=-10)}) == 109
        wire.send({"id": 2, "subscribe": {"channel": "open:x"}})
        assert wire.closed(within=10) in ((3501, "bad request"), (None, ""))


def test_C20_client_name_and_version_are_accepted_but_never_become_labels(node):
    # Attackers could blow up the metrics store with made-up names.
    fields = {"name": "made-up-client-name", "version": "9.9.9-made-up"}
    with Wire.connected(node, fields=fields) as wire:
        assert wire.session["client"]
        metrics = node.http("GET", "/metrics")[2].decode()
        assert "made-up" not in metrics


def test_C24_token_channels_are_subscribed_by_the_node(node, fresh):
    # Server-side subscriptions would deliver nothing, or the client could subscribe to them twice.
    channel = fresh("closed")
    with Wire.connected(node, claims={"channels": [channel]}) as wire:
        assert channel in wire.session["subs"]
        node.publish(channel, {"n": 1})
        assert wire.push() == {"channel": channel, "pub": {"data": {"n": 1}}}
        assert wire.error(subscribe={"channel": channel}) == 105


def test_B03_connect_and_subscribe_in_one_frame(node, fresh):
    # The JavaScript SDK sends them together before any reply; otherwise its first subscribe would fail.
    channel = fresh("open")
    with Wire(node) as wire:
        wire.send({"id": 1, "connect": {"token": token()}}, {"id": 2, "subscribe": {"channel": channel}})
        assert "connect" in wire.next()
        assert wire.next() == {"id": 2, "subscribe": {}}


def test_B03_trailing_newline_is_tolerated(node):
    # Old SDKs end every frame with a newline.
    with Wire.connected(node) as wire:
        wire.send_frame(TEXT, b'{"id":7,"rpc":{"method":"x"}}\n')
        assert wire.reply(7)["error"]["code"] == 108
