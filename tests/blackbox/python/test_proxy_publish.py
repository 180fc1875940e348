"""The backend decides about publications of clients, and may change them."""

import base64
import json

import pytest
from harness.backend import HANG, Late, disconnect, error, result
from harness.wire import TEXT


def subscribed(asking, wire, channel):
    """Somebody who listens; the namespace of publish tests lets everybody do that."""
    wire.subscribe(channel)
    return channel


def test_I06_what_the_backend_is_asked(asking, fresh):
    # Backends written for the reference would not find what they look for.
    channel = fresh("askedpub")
    with asking.wire() as wire:
        wire.call(publish={"channel": channel, "data": {"n": [1, 2]}})
        assert asking.backend.only("publish").fields == {**asking.about(wire), "channel": channel, "data": {"n": [1, 2]}}


def test_payload_is_not_touched(asking, fresh):
    # Signatures over the payload would not match: numbers, key order and spaces must stay as they are.
    channel = fresh("askedpub")
    raw = '{"b":1.0,"a": 12345678901234567890123,"b":[ ]}'
    with asking.wire() as wire, asking.wire("43") as other:
        subscribed(asking, other, channel)
        wire.send_frame(TEXT, b'{"id":9,"publish":{"channel":"%s","data":%s}}' % (channel.encode(), raw.encode()))
        assert wire.reply(9)["publish"] == {}
        _, _, payload = other.read_frame()
        assert raw in payload.decode()
        # Between tokens a call may have other spaces.
        assert raw.replace(" ", "") in asking.backend.only("publish").body.decode().replace(" ", "")


def test_null_is_data(asking, fresh):
    # Who publishes null would be told that there is no data.
    channel = fresh("askedpub")
    with asking.wire() as wire, asking.wire("43") as other:
        subscribed(asking, other, channel)
        assert wire.call(publish={"channel": channel, "data": None})["publish"] == {}
        call = asking.backend.only("publish")
        assert "data" in call.fields and call.fields["data"] is None
        push = other.push()
        assert "data" in push["pub"] and push["pub"]["data"] is None


@pytest.mark.parametrize("answer", [{}, {"result": {}}], ids=["nothing", "empty result"])
def test_I06_allowed(asking, fresh, answer):
    # Every application begins with an empty answer.
    channel = fresh("askedpub")
    asking.backend["publish"] = answer
    with asking.wire(info={"name": "Ann"}) as wire, asking.wire("43") as other:
        subscribed(asking, other, channel)
        assert wire.call(publish={"channel": channel, "data": {"text": "hi"}})["publish"] == {}
        info = {"user": "42", "client": wire.client, "conn_info": {"name": "Ann"}}
        got = other.push()["pub"]
        assert (got["data"], got["offset"], got["info"]) == ({"text": "hi"}, 1, info)


def test_I06_replaced(asking, fresh):
    # The words that a moderator takes out would be delivered.
    channel = fresh("askedpub")
    with asking.wire() as wire, asking.wire("43") as other:
        subscribed(asking, other, channel)
        for answer, expected in (
            ({"data": {"text": "***"}}, {"text": "***"}),
            ({"b64data": base64.b64encode(b"[1]").decode()}, [1]),
            # Other than in all other results.
            ({"data": "data wins", "b64data": base64.b64encode(b"[2]").decode()}, "data wins"),
            ({"data": None}, None),
            ({"data": False}, False),
        ):
            asking.backend["publish"] = result(**answer)
            assert wire.call(publish={"channel": channel, "data": 1})["publish"] == {}
            assert other.data() == expected
        kept = asking.node.api("history", channel=channel, limit=-1)["publications"]
        assert [publication["data"] for publication in kept] == [{"text": "***"}, [1], "data wins", None, False]
        asking.backend["publish"] = result(b64data="?")
        assert wire.error(publish={"channel": channel, "data": 1}) == 100


def test_I06_skip_history(asking, fresh):
    # "Ann is typing" would be replayed to everybody who comes back.
    channel = fresh("askedpub")
    asking.backend["publish"] = result(skip_history=True)
    with asking.wire() as wire:
        subscribed(asking, wire, channel)
        wire.call(publish={"channel": channel, "data": 1})
        assert "offset" not in wire.push()["pub"]
        assert asking.node.api("history", channel=channel, limit=-1)["publications"] == []


def test_tags_idempotency_version(asking, fresh):
    # A retry would be delivered twice, and an old state after a newer one.
    channel = fresh("askedpub")
    with asking.wire() as wire:
        subscribed(asking, wire, channel)
        asking.backend["publish"] = result(tags={"kind": "a"}, idempotency_key="once")
        for _ in range(2):
            assert wire.call(publish={"channel": channel, "data": 1})["publish"] == {}
        assert wire.push()["pub"]["tags"] == {"kind": "a"}
        wire.quiet(0.2)
        for version, epoch in ((5, "x"), (4, "x"), (6, "x"), (1, "y")):
            asking.backend["publish"] = result(version=version, version_epoch=epoch)
            wire.call(publish={"channel": channel, "data": [version, epoch]})
        assert [wire.data() for _ in range(3)] == [[5, "x"], [6, "x"], [1, "y"]]
        wire.quiet(0.2)


def test_I06_denied(asking, fresh):
    # Refused words would be delivered.
    channel = fresh("askedpub")
    with asking.wire() as wire, asking.wire("43") as other:
        subscribed(asking, other, channel)
        for answer in (error(103, "permission denied"), error(1000, "slow down", temporary=True)):
            asking.backend["publish"] = answer
            assert wire.call(publish={"channel": channel, "data": 1})["error"] == answer["error"]
        asking.backend["publish"] = asking.backend.broken
        expected = {"code": 100, "message": "internal server error", "temporary": True}
        assert wire.call(publish={"channel": channel, "data": 1})["error"] == expected
        asking.backend["publish"] = HANG
        assert wire.error(publish={"channel": channel, "data": 1}) == 100
        asking.backend["publish"] = disconnect(4500, "spam")
        wire.send({"id": 9, "publish": {"channel": channel, "data": 1}})
        assert wire.closed() == (4500, "spam")
        other.quiet(0.2)


def test_the_backend_alone_decides(asking, fresh):
    # A namespace that forbids publishing and a client that is not subscribed are its business.
    channel = fresh("askedpub")
    with asking.wire("") as anonymous:
        assert anonymous.call(publish={"channel": channel, "data": 1})["publish"] == {}
        call = asking.backend.only("publish")
        if asking.backend.scheme == "http":
            assert '"user":""' in call.body.decode().replace(" ", "")
    assert len(asking.node.api("history", channel=channel, limit=-1)["publications"]) == 1


def test_not_asked(asking, fresh):
    # The API would wait for the backend that calls it; what is wrong anyway would cost calls.
    channel = fresh("askedpub")
    asking.node.publish(channel, 1)
    with asking.wire() as wire:
        assert wire.error(publish={"channel": "nope:x", "data": 1}) == 102
        assert wire.error(publish={"channel": channel + "é", "data": 1}) == 107
        assert wire.error(publish={"channel": channel}) == 107
        wire.call(publish={"channel": fresh("open"), "data": 1})
        assert wire.error(publish={"channel": fresh("asked"), "data": 1}) == 103
        assert not asking.backend.calls("publish")
        # What the backend says is not checked again.
        wire.call(publish={"channel": fresh("askedjson"), "data": {"n": 1}})
        assert len(asking.backend.calls("publish")) == 1


def test_order_of_one_client(asking, fresh):
    # Chat messages of one person would be shuffled.
    channel, count = fresh("askedpub"), 30
    asking.backend["publish"] = lambda call: Late(0.03 if call.fields["data"] % 3 == 0 else 0, {})
    with asking.wire() as wire, asking.wire("43") as other:
        subscribed(asking, other, channel)
        wire.send(*({"id": 100 + n, "publish": {"channel": channel, "data": n}} for n in range(count)))
        assert [other.data() for _ in range(count)] == list(range(count))
        assert [wire.next()["id"] for _ in range(count)] == [100 + n for n in range(count)]


def test_own_publication_and_chan_info(asking, fresh):
    # The publisher would not see what the others see.
    channel = fresh("askedpub")
    asking.backend["publish"] = lambda call: result(data={"by": call.fields["user"], "was": call.fields["data"]})
    with asking.wire() as wire:
        subscribed(asking, wire, channel)
        assert wire.call(publish={"channel": channel, "data": 1})["publish"] == {}
        assert wire.data() == {"by": "42", "was": 1}


def test_large_payload(asking, fresh):
    # What fits into a frame fits into a call.
    channel = fresh("askedpub")
    with asking.wire() as wire:
        subscribed(asking, wire, channel)
        data = {"text": 'ä\\"\n' * 5000}
        assert len(json.dumps(data)) < 65000
        wire.call(publish={"channel": channel, "data": data})
        assert wire.data() == data and asking.backend.only("publish").fields["data"] == data
