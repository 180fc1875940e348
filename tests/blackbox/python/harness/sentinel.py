"""A primary, its replica and three Sentinels that watch them, each a process of its own."""

import contextlib

import redis

from .redis import RedisServer
from .waiting import eventually

MASTER = "gyre-master"
DOWN_AFTER_MS = 1000


class SentinelServer(RedisServer):
    """One Sentinel. It rewrites its configuration file, so that is what it is started with, again after a restart."""

    def __init__(self, primary, *, quorum, lines=(), **options):
        super().__init__(**options)
        text = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.dir}", "daemonize no"]
        text += [
            f"sentinel monitor {MASTER} 127.0.0.1 {primary.port} {quorum}",
            f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {MASTER} 5000",
            *lines,
        ]
        (self.dir / "sentinel.conf").write_text("\n".join(text) + "\n")

    def _arguments(self):
        return ["redis-sentinel", str(self.dir / "sentinel.conf"), "--sentinel"]


class Watched:
    """The whole set; use it as a context manager. `sentinel_lines` go into each Sentinel's configuration."""

    def __init__(self, *, replicas=1, sentinels=3, sentinel_lines=(), **options):
        self.first = RedisServer(**options)
        self.servers = [self.first]
        for _ in range(replicas):
            self.servers.append(RedisServer(replicaof=("127.0.0.1", self.first.port), **options))
        self.count, self.sentinel_lines = sentinels, sentinel_lines
        self.sentinels = []

    def __enter__(self):
        try:
            for server in self.servers:
                server.start()
            for _ in range(self.count):
                sentinel = SentinelServer(self.first, quorum=self.count // 2 + 1, lines=self.sentinel_lines)
                self.sentinels.append(sentinel.start())
            eventually(self._knows_all, within=30, what="Sentinels that know each other and the replicas", every=0.2)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for server in [*self.sentinels, *self.servers]:
            server.end()

    def _knows_all(self):
        for sentinel in self.sentinels:
            with self._ask(sentinel) as client:
                state = client.sentinel_master(MASTER)
                assert state["num-other-sentinels"] == self.count - 1, state
                assert state["num-slaves"] >= len(self.servers) - 1, state
                assert "s_down" not in state["flags"], state
        return True

    @contextlib.contextmanager
    def _ask(self, sentinel):
        client = redis.Redis(port=sentinel.port, socket_timeout=2, decode_responses=True)
        try:
            yield client
        finally:
            client.close()

    @property
    def url(self):
        """The address with all Sentinels."""
        first, *rest = [f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels]
        more = "".join(f"&addr={address}" for address in rest)
        return f"redis+sentinel://{first}?sentinel_master_name={MASTER}{more}"

    @property
    def addresses(self):
        """For `sentinel_address`."""
        return ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)

    def primary(self):
        """The server that the Sentinels which answer call the primary."""
        for sentinel in self.sentinels:
            with contextlib.suppress(redis.RedisError), self._ask(sentinel) as client:
                _, port = client.sentinel_get_master_addr_by_name(MASTER)
                return next(server for server in self.servers if server.port == int(port))
        raise AssertionError("no Sentinel answers")

    def fail_over(self):
        """An orderly change of the primary, as for maintenance."""
        with self._ask(self.sentinels[0]) as client:
            client.sentinel_failover(MASTER)
