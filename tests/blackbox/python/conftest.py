"""Fixtures of all files: the shared process per core count, two nodes on a Redis, and names nobody else uses."""

import itertools
import os

import pytest
from harness import CORES, Gyre
from harness.app import BACKENDS, app
from harness.node import merged
from harness.redis import RedisServer, die_with_parent
from harness.several import META_TTL_S, QUICK, on_redis, several

os.environ["NO_PROXY"] = "127.0.0.1"
if "PYTEST_XDIST_WORKER" in os.environ:
    # One of several processes that run tests: its nodes end with it, and it with the one that started it.
    die_with_parent()
_numbers = itertools.count(1)
BRIEF = {
    "allow_subscribe_for_client": True,
    "history_size": 10,
    "history_ttl": f"{META_TTL_S}s",
    "history_meta_ttl": f"{META_TTL_S}s",
    "force_positioning": True,
}


@pytest.fixture(scope="session", params=CORES, ids=lambda cores: f"cores{cores}")
def node(request):
    """A process with config.json, once per core count. Tests share it: use `fresh` for channels and users."""
    gyre = Gyre(cores=request.param)
    try:
        yield gyre.start()
        gyre.stop()
    finally:
        gyre.end()


@pytest.fixture
def fresh():
    """fresh("open") -> a channel of that namespace (or a bare name) that no other test uses."""

    def name(namespace=""):
        return f"{namespace}:{next(_numbers)}" if namespace else f"name{next(_numbers)}"

    return name


@pytest.fixture(scope="module")
def server():
    """A Redis, one per file."""
    with RedisServer() as started:
        yield started


@pytest.fixture(scope="module")
def client(server):
    """Somebody else who uses that Redis."""
    return server.client(decode_responses=True)


@pytest.fixture(scope="module")
def pair(server):
    """Two nodes that share it, one with one core and one with four."""
    changes = merged(QUICK, {"channel": {"without_namespace": BRIEF}})
    with several(2, on_redis(server.address, changes), cores=(1, 4)) as nodes:
        yield nodes
        for node in nodes:
            assert not node.logs("error"), node.logs("error")[:5]


@pytest.fixture(scope="session", params=BACKENDS)
def asking_node(request):
    """A node that asks about everything, and its backend; once over HTTP and once over gRPC."""
    with app(request.param) as made:
        yield made


@pytest.fixture
def asking(asking_node):
    """The same, for one test: the backend has neither answers nor calls."""
    asking_node.backend.reset()
    yield asking_node
    asking_node.backend.reset()
