"""The official Python SDK, unmodified, in both encodings and on every core count."""

import asyncio
import contextlib
import json

import centrifuge
import pytest
from harness import channel_token, running, token


class Events(centrifuge.ClientEventHandler, centrifuge.SubscriptionEventHandler):
    """Puts every event of a client or a subscription into a queue, as (kind, context)."""

    def __init__(self):
        self.queue = asyncio.Queue()

    async def expect(self, kind, within=8.0):
        """The context of the next event of this kind; others before it are dropped."""
        async with asyncio.timeout(within):
            while True:
                got, context = await self.queue.get()
                if got == kind:
                    return context


for _name in ("connected", "disconnected", "subscribed", "unsubscribed", "publication", "join", "leave", "error"):

    def _record(kind):
        async def handler(self, context):
            self.queue.put_nowait((kind, context))

        return handler

    setattr(Events, f"on_{_name}", _record(_name))


@pytest.fixture(params=[False, True], ids=["json", "protobuf"])
def encoding(request):
    """Makes clients of one encoding; payloads are bytes in Protobuf."""

    class Encoding:
        is_protobuf = request.param

        @staticmethod
        def out(value):
            return json.dumps(value).encode() if request.param else value

        @staticmethod
        def back(value):
            return json.loads(value) if request.param else value

        @staticmethod
        @contextlib.asynccontextmanager
        async def client(node, user="42", **options):
            events = Events()
            options.setdefault("token", token(user, lifetime_s=None))
            address = f"ws://127.0.0.1:{node.port}/connection/websocket"
            client = centrifuge.Client(
                address, events=events, use_protobuf=request.param, max_reconnect_delay=0.3, proxy=None, **options
            )
            client.seen = events
            await client.connect()
            try:
                yield client
            finally:
                await client.disconnect()

    return Encoding


async def subscribed(client, channel, **options):
    events = Events()
    options.setdefault("max_resubscribe_delay", 0.3)
    subscription = client.new_subscription(channel, events=events, **options)
    subscription.seen = events
    await subscription.subscribe()
    subscription.first = await events.expect("subscribed")
    return subscription


async def test_B22_publish_and_receive(node, fresh, encoding):
    # The hello world of every application.
    channel = fresh("open")
    async with encoding.client(node) as ann, encoding.client(node, "7") as bob:
        hello = await ann.seen.expect("connected")
        assert hello.client and hello.version
        there = await subscribed(bob, channel)
        await subscribed(ann, channel)
        await ann.publish(channel, encoding.out({"n": 1}))
        publication = (await there.seen.expect("publication")).pub
        assert encoding.back(publication.data) == {"n": 1}
        assert (publication.info.user, publication.info.client) == ("42", hello.client)
        await asyncio.to_thread(node.publish, channel, {"n": 2})
        assert encoding.back((await there.seen.expect("publication")).pub.data) == {"n": 2}
        await there.unsubscribe()
        assert (await there.seen.expect("unsubscribed")).code == 0


async def test_history_presence_and_rpc(node, fresh, encoding):
    # Everything an SDK call can ask for.
    history, members = fresh("hist"), fresh("members")
    async with encoding.client(node) as client, encoding.client(node) as same_user:
        stream = await subscribed(client, history)
        for n in range(5):
            await stream.publish(encoding.out(n))
        page = await stream.history(limit=2, since=centrifuge.StreamPosition(offset=1, epoch=""))
        assert [(p.offset, encoding.back(p.data)) for p in page.publications] == [(2, 1), (3, 2)]
        assert page.offset == 5 and page.epoch
        newest = await stream.history(limit=1, reverse=True)
        assert [p.offset for p in newest.publications] == [5]
        here, other = await subscribed(client, members), await subscribed(same_user, members)
        stats = await here.presence_stats()
        assert (stats.num_clients, stats.num_users) == (2, 1)
        assert {info.user for info in (await here.presence()).clients.values()} == {"42"}
        assert (await here.seen.expect("join")).info.user == "42"
        await other.unsubscribe()
        assert (await here.seen.expect("leave")).info.user == "42"
        with pytest.raises(centrifuge.ReplyError) as refused:
            await client.rpc("x", encoding.out({}))
        assert refused.value.code == 108
        with pytest.raises(centrifuge.ReplyError) as refused:
            await client.publish(fresh("closed"), encoding.out({}))
        assert refused.value.code == 103


async def test_C25_reconnect_and_recover(node, fresh, encoding):
    # After a lost connection messages would be missing or doubled.
    channel, user = fresh("recovery"), fresh()
    async with encoding.client(node, user) as client:
        stream = await subscribed(client, channel)
        assert stream.first.recoverable and stream.first.positioned and not stream.first.was_recovering
        await asyncio.to_thread(node.publish, channel, 1)
        assert (await stream.seen.expect("publication")).pub.offset == 1
        await client.seen.expect("connected")
        again = {"code": 4000, "reason": "come back"}
        await asyncio.to_thread(node.api, "disconnect", user=user, disconnect=again)
        for n in (2, 3, 4):
            await asyncio.to_thread(node.publish, channel, n)
        await client.seen.expect("connected")
        back = await stream.seen.expect("subscribed")
        assert back.was_recovering and back.recovered
        got = [(await stream.seen.expect("publication")).pub for _ in range(3)]
        assert [(p.offset, encoding.back(p.data)) for p in got] == [(2, 2), (3, 3), (4, 4)]


async def test_server_side_subscriptions(node, fresh, encoding):
    # Channels that the backend chose would stay silent.
    channel = fresh("recovery")
    given = token(channels=[channel], lifetime_s=None)
    async with encoding.client(node, token=given) as client:
        assert (await client.seen.expect("subscribed")).channel == channel
        await asyncio.to_thread(node.publish, channel, {"n": 1})
        context = await client.seen.expect("publication")
        assert (context.channel, encoding.back(context.pub.data)) == (channel, {"n": 1})


@pytest.mark.parametrize(("given", "code"), [("nonsense", 3500), ("", 3501)])
async def test_refused_connections_are_terminal(node, encoding, given, code):
    # SDKs would hammer the node with tokens that can never work.
    async with encoding.client(node, token=given) as client:
        assert (await client.seen.expect("disconnected")).code == code


async def test_expired_token_is_replaced(node, encoding):
    # Users would have to reload the page every time a token runs out.
    fresh_token = token(lifetime_s=600)

    async def get_token():
        return fresh_token

    async with encoding.client(node, token=token(lifetime_s=-10), get_token=get_token) as client:
        assert (await client.seen.expect("connected")).client


async def test_refresh_by_the_sdk(encoding):
    # Connections would end with their first token.
    async def get_token():
        return token(lifetime_s=3)

    quick = {"client": {"expired_close_delay": "1s"}}
    with running(quick) as node:
        async with encoding.client(node, token=token(lifetime_s=3), get_token=get_token) as client:
            await client.seen.expect("connected")
            with pytest.raises(TimeoutError):
                await client.seen.expect("disconnected", within=9)
            assert client.state == centrifuge.ClientState.CONNECTED


async def test_subscription_tokens(node, fresh, encoding):
    # Private channels through the SDK's own token callback.
    channel = fresh("closed")

    async def get_token(name):
        return channel_token(name)

    async with encoding.client(node) as client:
        private = await subscribed(client, channel, get_token=get_token)
        await asyncio.to_thread(node.publish, channel, {"n": 1})
        assert encoding.back((await private.seen.expect("publication")).pub.data) == {"n": 1}
        events = Events()
        denied = client.new_subscription(fresh("closed"), events=events)
        await denied.subscribe()
        assert (await events.expect("unsubscribed")).code == 103


async def test_unsubscribed_by_the_backend(node, fresh, encoding):
    # Codes and texts that the SDK reads without asking whether they are there.
    channel, user = fresh("open"), fresh()
    async with encoding.client(node, user) as client:
        here = await subscribed(client, channel)
        await asyncio.to_thread(node.api, "unsubscribe", user=user, channel=channel)
        gone = await here.seen.expect("unsubscribed")
        assert (gone.code, gone.reason) == (2000, "server unsubscribe")
        await asyncio.to_thread(node.api, "disconnect", user=user)
        over = await client.seen.expect("disconnected")
        assert (over.code, over.reason) == (3503, "force disconnect")
