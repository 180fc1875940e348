"""Channel state events: configurations that cannot work, and those that work worse than they could."""

import pytest
from harness import Gyre, running
from harness.redis import RedisServer
from harness.state import telling

# Nobody is asked before the start is refused.
NOWHERE = "redis://127.0.0.1:1"


class At:
    """Stands for a backend whose address is all that counts."""

    @staticmethod
    def url(_event):
        return "http://127.0.0.1:1/state"


def refused(changes):
    """What a node says that does not start."""
    node = Gyre(changes)
    try:
        assert node.spawn().exit_code() == 1, node.output()
        assert "panicked" not in node.output()
        return node.output().lower()
    finally:
        node.end()


def test_M15_needs_redis():
    # Events would never come, and nothing would say why.
    changes = telling(At, NOWHERE)
    changes["engine"] = {"type": "memory"}
    said = refused(changes)
    assert "state_proxy_enabled" in said and "redis" in said


def test_memory_presence_before_redis():
    # As above: what counts is where presence is.
    changes = telling(At, NOWHERE)
    changes["presence_manager"] = {"enabled": True, "type": "memory"}
    said = refused(changes)
    assert "state_proxy_enabled" in said and "presence" in said


def test_M14_needs_presence():
    # As above.
    said = refused(telling(At, NOWHERE, namespace={"presence": False}))
    assert "presence: true" in said and "state_proxy_enabled" in said


@pytest.mark.parametrize("proxy", [None, {"timeout": "1s"}])
def test_needs_an_endpoint(proxy):
    # As above.
    changes = telling(At, NOWHERE)
    if proxy is None:
        del changes["channel"]["proxy"]
    else:
        changes["channel"]["proxy"]["state"] = proxy
    said = refused(changes)
    assert "channel.proxy.state" in said and "endpoint" in said


@pytest.mark.parametrize(
    ("namespace", "state", "words"),
    [
        ({"state_proxy_name": "nope"}, {}, ["nope"]),
        ({"state_events": ["occupied", "gone"]}, {}, ["state_events", "gone"]),
        ({}, {"num_partitions": -1}, ["num_partitions"]),
        ({}, {"event_queue_limit": -1}, ["event_queue_limit"]),
    ],
)
def test_values(namespace, state, words):
    # A typing error would show as events that never come.
    said = refused(telling(At, NOWHERE, namespace=namespace, **state))
    assert all(word in said for word in words), said


def test_nothing_enabled_needs_nothing():
    # A section of the configuration that nobody uses must not stop a node.
    changes = telling(At, NOWHERE, namespace={"state_proxy_enabled": False})
    changes["engine"] = {"type": "memory"}
    with running(changes) as node:
        assert not node.logs("error")


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru", "allkeys-lru", "allkeys-lfu"])
def test_M22_eviction_policy(policy):
    # Redis would throw the queue away when its memory is full, and only then would it show.
    with RedisServer(maxmemory_policy=policy) as server, running(telling(At, server.address)) as node:
        if policy.startswith("allkeys"):
            entry = node.wait_log("maxmemory-policy", level="warn")
            assert policy in str(entry)
        else:
            assert not [entry for entry in node.complaints() if "policy" in str(entry)]
