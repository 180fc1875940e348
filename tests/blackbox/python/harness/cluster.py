"""A Redis Cluster of real processes: three primaries, a replica for each if asked, slots in thirds."""

import contextlib

import redis

from .ports import free_port, free_port_with_bus
from .redis import RedisServer, version
from .waiting import eventually

SLOTS = 16384
START_WITHIN_S = 30


def ports():
    """Two free ports, for clients and for the cluster's bus; before 7.0 the second follows from the first."""
    if version() >= (7, 0):
        return {"port": free_port(), "cluster_port": free_port()}
    return {"port": free_port_with_bus()}


class Cluster:
    """Use it as a context manager. `servers` are the primaries first, then the replicas in the same order.

    `options` are those of all servers, `each` is called for more of every single one.
    """

    def __init__(self, *, primaries=3, replicas=0, each=dict, **options):
        self.primaries, self.replicas = primaries, replicas
        count = primaries * (1 + replicas)
        fixed = {"cluster_enabled": "yes", "cluster_node_timeout": 2000, "cluster_require_full_coverage": "no"}
        self.servers = [
            RedisServer(**{**fixed, **ports(), "cluster_announce_ip": "127.0.0.1", **options, **each()}) for _ in range(count)
        ]
        self.clients = {}

    def __enter__(self):
        try:
            for server in self.servers:
                server.start()
                self.clients[server] = server.client(decode_responses=True)
            self._join()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.end()

    def _join(self):
        first = self.servers[0].options
        port = first["tls_port"] if first.get("tls_cluster") == "yes" else first["port"]
        bus = [first["cluster_port"]] if "cluster_port" in first else []
        for server in self.servers[1:]:
            self.ask(server, "CLUSTER", "MEET", "127.0.0.1", port, *bus)
        share = -(-SLOTS // self.primaries)
        for number, server in enumerate(self.servers[: self.primaries]):
            self.ask(server, "CLUSTER", "ADDSLOTS", *range(number * share, min(SLOTS, (number + 1) * share)))
        self._until(lambda server: len(self._nodes(server)) == len(self.servers), "all nodes known to all")
        for number, server in enumerate(self.servers[self.primaries :]):
            of = self.id(self.servers[number % self.primaries])
            # The gossip about that node may still be on its way.
            eventually(lambda s=server, of=of: self._replicates(s, of), within=START_WITHIN_S, what="replica", every=0.1)
        self._until(lambda server: self.info(server)["cluster_state"] == "ok", "cluster state ok")
        self._until(lambda server: server in self.now_primaries() or self._is_synced(server), "replicas in sync")

    def _replicates(self, server, of):
        with contextlib.suppress(redis.ResponseError):
            return self.ask(server, "CLUSTER", "REPLICATE", of)

    def _is_synced(self, server):
        return self.clients[server].info("replication").get("master_link_status") == "up"

    def _until(self, holds, what):
        alive = [server for server in self.servers if server.process.poll() is None]
        eventually(lambda: all(holds(server) for server in alive), within=START_WITHIN_S, what=what, every=0.1)

    # ---- what it says

    @property
    def url(self):
        """The address with one seed."""
        return f"redis+cluster://127.0.0.1:{self.servers[0].port}"

    @property
    def seeds(self):
        """For `cluster_address`."""
        return ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def ask(self, server, *command):
        """The bare reply of one server: nothing is followed, nothing decoded by the client library."""
        connection = self.clients[server].connection_pool.get_connection()
        try:
            connection.send_command(*command)
            return connection.read_response()
        finally:
            self.clients[server].connection_pool.release(connection)

    def info(self, server):
        """CLUSTER INFO as strings."""
        text = self.ask(server, "CLUSTER", "INFO")
        return dict(line.split(":", 1) for line in text.split("\r\n") if line)

    def id(self, server):
        """The node's name inside the cluster."""
        return self.ask(server, "CLUSTER", "MYID")

    def _nodes(self, server):
        return [line for line in self.ask(server, "CLUSTER", "NODES").splitlines() if "handshake" not in line]

    def now_primaries(self):
        """The living servers that are primaries now."""
        alive = [server for server in self.servers if server.process.poll() is None]
        return [server for server in alive if self.clients[server].info("replication")["role"] == "master"]

    def replica_of(self, primary):
        """A living replica of it."""
        name = self.id(primary)
        for line in self._nodes(primary):
            fields = line.split()
            if fields[3] == name and "fail" not in fields[2]:
                port = int(fields[1].split("@")[0].rsplit(":", 1)[1])
                return next(server for server in self.servers if server.port == port)
        raise AssertionError("it has no replica")

    def slot(self, key):
        """The slot of a key."""
        return self.ask(self.servers[0], "CLUSTER", "KEYSLOT", key)

    def owner(self, slot):
        """The primary that says it owns a slot."""
        for server in self.now_primaries():
            for line in self._nodes(server):
                fields = line.split()
                if "myself" in fields[2]:
                    for part in fields[8:]:
                        first, _, last = part.partition("-")
                        if first.isdigit() and int(first) <= slot <= int(last or first):
                            return server
        raise AssertionError(f"nobody owns slot {slot}")

    # ---- what is done to it

    def keys(self):
        """Keys per primary."""
        return {server: self.clients[server].keys("*") for server in self.now_primaries()}

    def migrate(self, slot, to, *, meanwhile=lambda: None):
        """Moves one slot as redis-cli does it, key by key; `meanwhile` runs when the first is moved and others are not."""
        source = self.owner(slot)
        if source is to:
            return
        self.ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id(to))
        moved = 0
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 1):
            self.ask(source, "MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
            moved += len(keys)
            if meanwhile:
                meanwhile()
                meanwhile = None
        for server in (to, source, *self.now_primaries()):
            self.ask(server, "CLUSTER", "SETSLOT", slot, "NODE", self.id(to))
        return moved
