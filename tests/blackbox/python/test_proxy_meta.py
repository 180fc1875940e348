"""What follows a connection through its calls: meta, the encoding of payloads, and what SDKs see of proxies."""

import asyncio
import base64
import contextlib
import json
import time

import centrifuge
import pytest
from harness import Wire, eventually, token
from harness.app import BACKENDS, app
from harness.backend import error, result
from test_sdk import Events, encoding, subscribed

assert encoding, "a fixture"


@pytest.fixture(scope="module", params=BACKENDS)
def meta_node(request):
    """A node that tells its backend the meta of connections."""
    with app(request.param, include_connection_meta=True) as made:
        yield made


@pytest.fixture
def meta(meta_node):
    """The same for one test."""
    meta_node.backend.reset()
    return meta_node


def test_meta_of_the_connect_answer(meta, fresh):
    # The backend would have to look up who somebody is at every event.
    backend = meta.backend
    # Late enough for what comes before, also on a laden machine.
    backend["subscribe"] = result(expire_at=int(time.time()) + 6)
    backend["sub_refresh"] = result()
    backend["refresh"] = result(expire_at=int(time.time()) + 100, meta={"tenant": 2})
    with meta.wire(meta={"tenant": 1}, expire_at=int(time.time()) + 5) as wire:
        assert "meta" not in backend.only("connect").fields
        assert "meta" not in wire.session
        wire.subscribe(fresh("subrefresh"))
        wire.call(publish={"channel": fresh("askedpub"), "data": 1})
        wire.call(rpc={"method": "m"})
        for event in ("subscribe", "publish", "rpc"):
            assert backend.only(event).fields["meta"] == {"tenant": 1}, event
        assert backend.wait("refresh", within=15)[0].fields["meta"] == {"tenant": 1}
        # The answer to the refresh replaces it.
        assert backend.wait("sub_refresh", within=15)[0].fields["meta"] == {"tenant": 2}
        eventually(lambda: wire.call(rpc={"method": "n"}) and backend.calls("rpc")[-1].fields["meta"] == {"tenant": 2})


def test_meta_of_a_token(meta):
    # As above, for applications that sign tokens.
    with Wire(meta.node) as wire:
        wire.call(connect={"token": token("7", meta={"tenant": 3})})
        wire.call(rpc={"method": "m"})
        assert meta.backend.only("rpc").fields["meta"] == {"tenant": 3}
    meta.backend.reset()
    with meta.wire() as wire:
        wire.call(rpc={"method": "m"})
        assert "meta" not in meta.backend.only("rpc").fields


def test_meta_is_not_sent_unless_asked(asking):
    # It may hold what a third party's backend must not see.
    with asking.wire(meta={"secret": 1}) as wire:
        wire.call(rpc={"method": "m"})
        assert "meta" not in asking.backend.only("rpc").fields


def test_binary_encoding(fresh):
    # Protobuf payloads would not get through JSON.
    with app("http", binary_encoding=True) as made:
        with made.wire(fields={"data": {"n": 1}}) as wire:
            call = made.backend.only("connect").fields
            assert call["encoding"] == "binary" and call["protocol"] == "json" and "data" not in call
            assert json.loads(base64.b64decode(call["b64data"])) == {"n": 1}
            wire.subscribe(fresh("asked"))
            call = made.backend.only("subscribe").fields
            assert call["encoding"] == "binary" and "data" not in call and "b64data" not in call
            made.backend["publish"] = result(b64data=base64.b64encode(b"[2]").decode())
            channel = fresh("askedpub")
            wire.subscribe(channel)
            wire.call(publish={"channel": channel, "data": [1]})
            assert base64.b64decode(made.backend.only("publish").fields["b64data"]) == b"[1]"
            assert wire.data() == [2]
            made.backend["rpc"] = lambda call: result(b64data=call.fields["b64data"])
            assert wire.call(rpc={"method": "m", "data": "x"})["rpc"] == {"data": "x"}
            made.backend["rpc"] = result(data={"plain": 1})
            assert wire.call(rpc={"method": "m"})["rpc"] == {"data": {"plain": 1}}


# ---- SDKs


@contextlib.asynccontextmanager
async def protobuf_client(node):
    """A Protobuf client that the backend lets in."""
    client = centrifuge.Client(f"ws://127.0.0.1:{node.port}/connection/websocket", use_protobuf=True, proxy=None)
    await client.connect()
    try:
        yield client
    finally:
        await client.disconnect()
        # Whoever stops the node here reads no more, and the node would wait for the end of the connection.
        while node.api("info")["nodes"][0]["num_clients"]:
            await asyncio.sleep(0.02)


async def test_I05_sdk_with_both_encodings(asking, fresh, encoding):
    # The official SDK would not get what the backend gives, in one of its encodings.
    backend, channel, publishes = asking.backend, fresh("asked"), fresh("askedpub")
    hello = base64.b64encode(b'{"hello":"b64"}').decode()
    backend["connect"] = result(user="42", b64data=hello, b64info=base64.b64encode(b"[1]").decode())
    backend["subscribe"] = result(b64data=base64.b64encode(b'{"state":1}').decode())
    backend["rpc"] = result(data={"sum": 3})
    backend["publish"] = result(data={"text": "***"})
    async with encoding.client(asking.node, token="", data=encoding.out({"n": 1})) as client:
        connected = await client.seen.expect("connected")
        assert encoding.back(connected.data) == {"hello": "b64"}
        call = backend.only("connect").fields
        assert call["protocol"] == ("protobuf" if encoding.is_protobuf else "json")
        assert call["encoding"] == "json" and call["data"] == {"n": 1}
        subscription = await subscribed(client, channel)
        assert encoding.back(subscription.first.data) == {"state": 1}
        answer = await client.rpc("sum", encoding.out({"a": 1}))
        assert encoding.back(answer.data) == {"sum": 3} and backend.only("rpc").fields["data"] == {"a": 1}
        listener = await subscribed(client, publishes)
        await client.publish(publishes, encoding.out({"text": "bad"}))
        assert encoding.back((await listener.seen.expect("publication")).pub.data) == {"text": "***"}
        backend["rpc"] = error(1000, "no")
        with pytest.raises(centrifuge.ReplyError) as refused:
            await client.rpc("sum", encoding.out({}))
        assert (refused.value.code, refused.value.message) == (1000, "no")


async def test_bytes_that_are_no_json():
    # Binary protocols would be refused, or break the JSON of a call.
    with app("http", binary_encoding=True) as made:
        made.backend["connect"] = result(user="42")
        made.backend["rpc"] = lambda call: result(b64data=call.fields["b64data"])
        async with protobuf_client(made.node) as client:
            assert (await client.rpc("echo", b"\x00\xff{")).data == b"\x00\xff{"
    with app("http") as made:
        made.backend["connect"] = result(user="42")
        async with protobuf_client(made.node) as client:
            with pytest.raises(centrifuge.ReplyError) as refused:
                await client.rpc("echo", b"\x00\xff{")
            assert refused.value.code == 100
            assert not made.backend.calls("rpc")


async def test_sdk_retries(asking, fresh):
    # After an outage of the backend users would have to reload the page.
    backend, channel = asking.backend, fresh("asked")
    backend["connect"] = backend.broken
    events = Events()
    address = f"ws://127.0.0.1:{asking.node.port}/connection/websocket"
    client = centrifuge.Client(address, events=events, min_reconnect_delay=0.1, max_reconnect_delay=0.2, proxy=None)
    await client.connect()
    try:
        await events.expect("error")
        backend["connect"] = result(user="42")
        await events.expect("connected")
        backend["subscribe"] = backend.broken
        seen = Events()
        subscription = client.new_subscription(channel, events=seen, min_resubscribe_delay=0.1, max_resubscribe_delay=0.2)
        await subscription.subscribe()
        await seen.expect("error")
        backend["subscribe"] = result()
        await seen.expect("subscribed")
        backend["subscribe"] = error(103, "permission denied")
        denied = Events()
        await client.new_subscription(fresh("asked"), events=denied).subscribe()
        assert (await denied.expect("unsubscribed")).code == 103
    finally:
        await client.disconnect()
