"""The pages of docs/build: their configurations start, their backends do what the pages say."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from harness import Gyre, Wire, eventually, free_port, token
from harness.node import API_KEY, ROOT
from harness.redis import RedisServer, die_with_parent

BUILD = ROOT / "docs/build"
BACKENDS = {"python": [sys.executable, "backend.py"], "node": ["node", "backend.mjs"]}


def blocks(page):
    """The JSON of a page, in order."""
    return [json.loads(text) for text in re.findall(r"```json\n(.*?)```", (BUILD / page).read_text(), re.DOTALL)]


def placed(page, node_port, backend_port, redis_port=None):
    """The page's whole configuration with the ports of this test."""
    text = json.dumps(blocks(page)[0])
    text = text.replace("127.0.0.1:3000", f"127.0.0.1:{backend_port}").replace("change-me-too", "test-secret")
    text = text.replace("127.0.0.1:6379", f"127.0.0.1:{redis_port}").replace('"change-me"', f'"{API_KEY}"')
    config = json.loads(text)
    config["http_server"] = {"address": "127.0.0.1", "port": node_port}
    config["health"] = {"enabled": True}
    return config


@contextlib.contextmanager
def example(language, node_port):
    """A running example: its port."""
    if shutil.which(BACKENDS[language][0]) is None:
        pytest.skip(f"{language} is not installed")
    port = free_port()
    env = {**os.environ, "PORT": str(port), "GYRE_API": f"http://127.0.0.1:{node_port}/api", "GYRE_API_KEY": API_KEY}
    process = subprocess.Popen(
        BACKENDS[language],
        cwd=BUILD / "examples",
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=die_with_parent,
    )
    try:
        assert process.stdout.readline().startswith("listening on")
        yield port
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def started(page, language, redis_port=None):
    """A node with a page's configuration, and an example that answers it."""
    port = free_port()
    with example(language, port) as backend_port:
        node = Gyre(config=placed(page, port, backend_port, redis_port), port=port)
        try:
            node.start()
            assert not node.complaints(), node.complaints()
            yield node, backend_port
            node.stop()
        finally:
            node.end()


def ask(port, path, body):
    """(status, answer) of a backend."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


@pytest.mark.parametrize("language", BACKENDS)
def test_the_examples_alone(language):
    # Somebody who copies an example begins with its faults.
    with example(language, free_port()) as port:
        assert ask(port, "rpc", {"user": "ann", "method": "rooms"}) == (200, {"result": {"data": ["room:1", "room:2"]}})
        assert ask(port, "nothing", {}) == (404, {})
        assert ask(port, "toString", {}) == (404, {})
        assert ask(port, "publish", {})[0] in (200, 500)
        assert ask(port, "connect", {})[1]["disconnect"]["code"] == 4501
        events = [{"channel": "device:1", "type": kind, "time_ms": 1} for kind in ("occupied", "occupied", "vacated", "new")]
        assert ask(port, "state", {"events": events[:2]}) == (200, {"result": {}})
        assert ask(port, "rpc", {"user": "ann", "method": "occupied"})[1]["result"]["data"] == ["device:1"]
        assert ask(port, "state", {"events": events[2:]}) == (200, {"result": {}})
        assert ask(port, "rpc", {"user": "ann", "method": "occupied"})[1]["result"]["data"] == []
        assert ask(port, "cache_empty", {"channel": "score:none"}) == (200, {"result": {"populated": False}})
        # There is no node to publish to.
        assert ask(port, "cache_empty", {"channel": "score:final"}) == (500, {})


@pytest.mark.parametrize("language", BACKENDS)
def test_backend_in_10_minutes(language):
    # The first page that a newcomer tries.
    with started("backend.md", language) as (node, _), contextlib.ExitStack() as stack:

        def connected(name):
            wire = stack.enter_context(Wire(node, headers={"Cookie": f"theme=dark; session={name}-session"}))
            wire.session = wire.call(connect={})["connect"]
            return wire

        ann, bob = connected("ann"), connected("bob")
        with Wire(node, headers={"Cookie": "session=stolen"}) as stranger:
            stranger.send({"id": 1, "connect": {}})
            assert stranger.closed() == (4501, "sign in first")
        for wire in (ann, bob):
            assert wire.subscribe("room:1")["data"] == {"messages": [{"from": "bob", "text": "Hello!"}]}
        reply = bob.call(subscribe={"channel": "room:2"})
        assert reply["error"] == {"code": 403, "message": "not a member"}
        assert ann.call(publish={"channel": "room:1", "data": {"text": "hi"}})["publish"] == {}
        for wire in (ann, bob):
            assert wire.data() == {"from": "ann", "text": "hi"}
        assert ann.error(publish={"channel": "room:1", "data": {"text": "x" * 501}}) == 400
        assert ann.error(publish={"channel": "room:1", "data": "text"}) == 400
        assert bob.error(publish={"channel": "room:2", "data": {"text": "hi"}}) == 403
        assert ann.call(rpc={"method": "rooms"})["rpc"] == {"data": ["room:1", "room:2"]}
        assert ann.error(rpc={"method": "nope"}) == 404


@pytest.mark.parametrize("language", BACKENDS)
def test_channel_state(language):
    # As above.
    with RedisServer() as redis, started("channel-state.md", language, redis.port) as (node, backend):

        def occupied():
            return ask(backend, "rpc", {"user": "ann", "method": "occupied"})[1]["result"]["data"]

        with Wire.connected(node, "ann") as wire:
            wire.subscribe("device:7")
            eventually(lambda: occupied() == ["device:7"], within=5)
        # The page's own delay of 5 s.
        eventually(lambda: occupied() == [], within=12)


@pytest.mark.parametrize("language", BACKENDS)
def test_cache_empty(language):
    # As above.
    with started("cache-empty.md", language) as (node, _), Wire(node) as wire:
        wire.call(connect={"token": token("ann")})
        got = wire.subscribe("score:final", recover=True)
        assert got["recovered"] and [each["data"] for each in got["publications"]] == [{"home": 2, "away": 1}]
        got = wire.subscribe("score:none", recover=True)
        assert got["was_recovering"] and not got.get("recovered")
        node.publish("score:none", 1)
        assert wire.data() == 1


def test_named_proxies_of_the_page():
    # The smaller configurations are for copying, too.
    transform, several = blocks("backend.md")[1:]
    several = json.loads(json.dumps(several))
    proxy = {"endpoint": "http://127.0.0.1:3000/x", "http": {"status_to_code_transforms": [transform]}}
    several["channel"]["proxy"] = {"subscribe": proxy}
    several["channel"]["without_namespace"] = {"subscribe_proxy_enabled": True}
    port = free_port()
    several |= {"http_server": {"address": "127.0.0.1", "port": port}, "health": {"enabled": True}}
    several |= {"http_api": {"key": API_KEY}, "client": {"token": {"hmac_secret_key": "test-secret"}}}
    node = Gyre(config=several, port=port)
    try:
        node.start()
        assert not node.complaints()
        node.stop()
    finally:
        node.end()


def test_who_connects_of_the_page():
    # The configurations of the page are for copying; its nodes would not let users in, or let them all in twice.
    header, single = blocks("users.md")
    with page_node(header) as node:
        with Wire(node, headers={"X-User": "7"}) as wire:
            assert "connect" in wire.call(connect={})
        assert not node.complaints()
    with page_node({**single, "http_api": {"key": API_KEY}}, {"token": {"hmac_secret_key": "test-secret"}}) as node:
        with Wire.connected(node, "7") as first, Wire.connected(node, "7"):
            assert first.closed() == (3504, "connection limit")
        assert not node.complaints()


@contextlib.contextmanager
def page_node(config, client=None):
    """A node with a configuration of a page."""
    port = free_port()
    config = {**config, "http_server": {"address": "127.0.0.1", "port": port}, "health": {"enabled": True}}
    config["client"] = {**config["client"], **(client or {})}
    node = Gyre(config=config, port=port)
    try:
        yield node.start()
        node.stop()
    finally:
        node.end()
