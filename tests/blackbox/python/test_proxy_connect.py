"""The backend decides who connects, and with what."""

import base64
import time

import pytest
from harness import Wire, eventually, running, token
from harness.app import everything
from harness.backend import HANG, Backend, Late, disconnect, error, result
from harness.node import merged

TRANSPORT = {"transport": "websocket", "protocol": "json", "encoding": "json"}


def b64(data):
    return base64.b64encode(data).decode()


def test_I01_what_the_backend_is_asked(asking):
    # Backends written for the reference would not find what they look for, or trip over what they do not know.
    known = {"name": "web", "version": "1.2", "data": {"n": [1, None]}, "subs": {"open:a": {}, "open:b": {}}}
    with asking.wire(fields=known) as wire:
        call = asking.backend.only("connect")
        call.fields["channels"].sort()
        said = {"name": "web", "version": "1.2", "data": {"n": [1, None]}, "channels": ["open:a", "open:b"]}
        assert call.fields == {"client": wire.client, **TRANSPORT, **said}
        # None of those is subscribed by being asked for.
        assert "subs" not in wire.session
    asking.backend.reset()
    with asking.wire() as wire:
        assert asking.backend.only("connect").fields == {"client": wire.client, **TRANSPORT}


def test_I01_credentials(asking, fresh):
    # The user would be somebody else, or be shown to others without a name.
    channel = fresh("members")
    with asking.wire("7", info={"name": "Ann"}, channels=[channel], data={"hello": 1}) as wire:
        assert wire.session["data"] == {"hello": 1}
        assert list(wire.session["subs"]) == [channel]
        info = {"user": "7", "client": wire.client, "conn_info": {"name": "Ann"}}
        assert wire.push("join")["join"]["info"] == info
        assert asking.members(channel) == {wire.client: info}
        assert "ttl" not in wire.session and "expires" not in wire.session


def test_base64_fields(asking, fresh):
    # Backends in languages whose bytes are base64 could not send initial data.
    channel = fresh("presence")
    subs = {channel: {"b64info": b64(b"[3]"), "b64data": b64(b"[4]")}}
    answer = {"info": 0, "b64info": b64(b"[1]"), "data": 0, "b64data": b64(b"[2]"), "subs": subs}
    with asking.wire(**answer) as wire:
        assert wire.session["data"] == [2] and wire.session["subs"][channel]["data"] == [4]
        member = asking.members(channel)[wire.client]
        assert (member["conn_info"], member["chan_info"]) == ([1], [3])
    asking.backend["connect"] = result(user="42", b64data="not base64!")
    with Wire(asking.node) as wire:
        assert wire.error(connect={}) == 100


def test_channels_and_subs_are_merged(asking, fresh):
    # Channels would be missing after connecting, or come without their options.
    plain, both, only = fresh("mayjoin"), fresh("mayjoin"), fresh("mayjoin")
    hidden = {"presence": {"value": False}, "join_leave": {"value": False}}
    subs = {both: {"data": "both", "info": 1, "override": hidden}, only: {"data": "only", "info": 2}}
    with asking.wire(channels=[plain, both], subs=subs) as wire:
        got = {channel: sub.get("data") for channel, sub in wire.session["subs"].items()}
        assert got == {plain: None, both: "both", only: "only"}
        assert list(asking.members(plain)) == [wire.client] and not asking.members(both)
        assert asking.members(only)[wire.client]["chan_info"] == 2
        for channel in (plain, both, only):
            asking.node.publish(channel, channel)
            assert wire.data() == channel
        assert not asking.backend.calls("subscribe"), "server-side subscriptions are nobody's question"


def test_channels_without_a_name_are_passed_over(asking, fresh):
    # An empty entry in a list would be a subscription that no SDK can leave again.
    plain = fresh("mayjoin")
    with asking.wire(channels=["", plain], subs={"": {"data": 1}}) as wire:
        assert list(wire.session["subs"]) == [plain]


def test_subs_overrides(asking, fresh):
    # An application that turns positions or member lists on for single users would not get them.
    forced = {name: {"value": True} for name in ("presence", "join_leave", "force_push_join_leave", "force_recovery")}
    channel, position = fresh("hist"), fresh("hist")
    subs = {channel: {"override": forced}, position: {"override": {"force_positioning": {"value": True}}}}
    with asking.wire(subs=subs) as wire:
        assert wire.session["subs"][channel]["recoverable"] and wire.session["subs"][channel]["positioned"]
        assert wire.session["subs"][position]["positioned"] and "recoverable" not in wire.session["subs"][position]
        assert wire.push("join")["channel"] == channel


def test_anonymous_and_nobody(asking):
    # A backend that lets everybody in would be refused; one that says nothing would let everybody in.
    asking.backend["connect"] = result()
    with Wire(asking.node) as wire:
        assert wire.call(connect={})["connect"]["client"]
        wire.call(rpc={"method": "whoami"})
        assert asking.backend.only("rpc").fields.get("user", "") == ""
    asking.backend["connect"] = {}
    with Wire(asking.node) as wire:
        wire.send({"id": 1, "connect": {}})
        assert wire.closed() == (3501, "bad request")


def test_nobody_falls_through_to_anonymous():
    # Sites that are open to all could not use a backend for those who are known.
    with Backend() as backend, running(
        merged(everything(backend), {"client": {"allow_anonymous_connect_without_token": True}})
    ) as node:
        with Wire(node) as wire:
            assert wire.call(connect={})["connect"]["client"]
        backend["connect"] = error(1001, "not you")
        with Wire(node) as wire:
            assert wire.error(connect={}) == 1001


def test_a_token_bypasses_the_backend(asking):
    # Each reconnect with a token would cost a call, or a wrong token would get a second chance.
    asking.backend["connect"] = result(user="backend")
    with Wire(asking.node) as wire:
        assert wire.call(connect={"token": token("7")})["connect"]["client"]
    with Wire(asking.node) as wire:
        wire.send({"id": 1, "connect": {"token": "nonsense"}})
        assert wire.closed()[0] == 3500
    assert not asking.backend.calls()


@pytest.mark.parametrize("code", [1, 103, 1000, 1999])
def test_I02_error(asking, code):
    # The application could not tell its users why.
    for temporary in (False, True):
        asking.backend["connect"] = error(code, "no, you", temporary=temporary)
        with Wire(asking.node) as wire:
            expected = {"code": code, "message": "no, you", **({"temporary": True} if temporary else {})}
            assert wire.call(connect={}) == {"id": 1, "error": expected}


@pytest.mark.parametrize("code", [4000, 4501, 4999])
def test_I02_disconnect(asking, code):
    # Clients would come back although they must not, or stay away although they may come.
    asking.backend["connect"] = {**disconnect(code, "bye"), **error(1000), **result(user="42")}
    with Wire(asking.node) as wire:
        wire.send({"id": 1, "connect": {}})
        assert wire.closed() == (code, "bye")


def test_error_counts_more_than_result(asking):
    # A backend that sends both means the error.
    asking.backend["connect"] = {**error(1000), **result(user="42")}
    with Wire(asking.node) as wire:
        assert wire.error(connect={}) == 1000


def test_I02_backend_fails(asking):
    # SDKs would give up for good because of a passing failure.
    asking.backend["connect"] = asking.backend.broken
    with Wire(asking.node) as wire:
        expected = {"code": 100, "message": "internal server error", "temporary": True}
        assert wire.call(connect={}) == {"id": 1, "error": expected}


def test_I12_timeout(asking):
    # A slow backend would keep clients waiting for as long as it likes.
    asking.backend["connect"] = HANG
    with Wire(asking.node) as wire:
        began = time.monotonic()
        assert wire.error(connect={}) == 100
        assert 1.9 < time.monotonic() - began < 4


def test_expiry_in_the_past(asking):
    # A connection would be let in and thrown out at once, again and again.
    asking.backend["connect"] = result(user="42", expire_at=int(time.time()) - 10)
    with Wire(asking.node) as wire:
        assert wire.error(connect={}) == 110


def test_unknown_namespace(asking):
    # A mistake of the backend would look like a network problem.
    for answer in ({"channels": ["nope:x"]}, {"subs": {"nope:x": {}}}):
        asking.backend["connect"] = result(user="42", **answer)
        with Wire(asking.node) as wire:
            assert wire.error(connect={}) == 102


def test_client_leaves_while_the_backend_thinks(asking):
    # Answers for those who have gone would be given to somebody else, or pile up.
    asking.backend["connect"] = Late(0.5, result(user="gone", channels=["presence:gone"]))
    wires = [Wire(asking.node) for _ in range(20)]
    for wire in wires:
        wire.send({"id": 1, "connect": {}})
    asking.backend.wait("connect", 20)
    for wire in wires:
        wire.__exit__()
    with asking.wire("43") as wire:
        time.sleep(0.7)
        wire.quiet(0.1)
        assert asking.members("presence:gone") == {}
    eventually(lambda: asking.node.api("info")["nodes"][0]["num_clients"] == 0, within=10, what="no client left")


def test_commands_wait_for_the_connect_answer(asking, fresh):
    # A client that sends everything at once would be refused, or subscribe before it is known.
    channel = fresh("open")
    asking.backend["connect"] = Late(0.3, result(user="42"))
    with Wire(asking.node) as wire:
        wire.send({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": channel}}, {"id": 3, "rpc": {"method": "x"}})
        assert [wire.next()["id"] for _ in range(3)] == [1, 2, 3]
        assert asking.backend.only("rpc").fields["user"] == "42"
    asking.backend["connect"] = error(1000)
    with Wire(asking.node) as wire:
        wire.send({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": channel}})
        assert wire.next()["error"]["code"] == 1000
        wire.quiet(0.5)
        assert asking.node.num_clients(channel) == 0


def test_expiry_is_shown_to_clients_that_refresh_themselves():
    # Without a refresh proxy the client must know when to come with a token.
    with Backend() as backend:
        changes = merged(everything(backend), {"client": {"proxy": {"refresh": {"enabled": False}}}})
        with running(changes) as node:
            for seconds, shown in ((100, {98, 99, 100}), (366 * 86400 * 3, {365 * 86400, 365 * 86400 - 1})):
                backend["connect"] = result(user="42", expire_at=int(time.time()) + seconds)
                with Wire(node) as wire:
                    session = wire.call(connect={})["connect"]
                    assert session["expires"] and session["ttl"] in shown
                    assert "ttl" in wire.call(refresh={"token": token("42")})["refresh"]
            assert not backend.calls("refresh")
