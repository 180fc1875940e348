"""What holds on memory holds on Redis: the tests of the memory engine on a node with Redis, and on two behind a balancer."""

import inspect

import pytest
import test_api
import test_channels
import test_commands
import test_history
import test_presence
from harness.redis import RedisServer
from harness.several import Balanced, on_redis, several

# Two nodes are more than the one these tests count on.
LEFT_OUT = {"test_H14_info", "test_H21_official_python_library"}

for module in (test_api, test_channels, test_commands, test_history, test_presence):
    for name, test in vars(module).items():
        if name.startswith("test_") and callable(test) and "node" in inspect.signature(test).parameters:
            if name not in LEFT_OUT:
                globals()[name] = test


@pytest.fixture(scope="module", params=["one node", "two nodes"])
def node(request):
    """Takes the place of the shared memory node."""
    with RedisServer() as server, several(1 if request.param == "one node" else 2, on_redis(server.address)) as nodes:
        yield nodes[0] if len(nodes) == 1 else Balanced(nodes)
