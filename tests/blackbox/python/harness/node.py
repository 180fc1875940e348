"""One gyre process per `Gyre`: written configuration, free port, readiness, captured log, clean end.

The process must end with exit code 0 after SIGTERM; whatever happens, it is killed by its pid at the latest when the
test is over, so that nothing stays behind.
"""

import contextlib
import copy
import ctypes
import http.client
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import tempfile

from .ports import free_port
from .waiting import eventually

ROOT = pathlib.Path(__file__).resolve().parents[4]
BINARY = pathlib.Path(os.environ.get("GYRE_BIN") or ROOT / "target/release/gyre").resolve()
BASE_CONFIG = json.loads((ROOT / "tests/blackbox/config.json").read_text())
CORES = [int(n) for n in os.environ.get("GYRE_TEST_CORES", "1,2,4").split(",")]
API_KEY = BASE_CONFIG["http_api"]["key"]
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
START_WITHIN_S = 10
STOP_WITHIN_S = 15
# Read when gRPC is imported, by other files: what it does in a child between fork and exec ends the child now and then.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"


def merged(base, changes):
    """`changes` laid over `base`: objects key by key, everything else replaced; None removes a key."""
    result = copy.deepcopy(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


class Gyre:
    """A gyre process. `changes` are laid over config.json; `config=None` starts without any file."""

    def __init__(self, changes=None, *, cores=2, config="merged", env=None, args=("-c", "config.json"), port=None, files_max=None):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="gyre-test-"))
        self.port = port or free_port()
        self.files_max = files_max
        self.args = list(args)
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.dir), "GYRE_CORES": str(cores), **(env or {})}
        self.process = None
        if config == "merged":
            listen = {"http_server": {"address": "127.0.0.1", "port": self.port}}
            config = merged(merged(BASE_CONFIG, listen), changes or {})
        if config is not None:
            (self.dir / "config.json").write_text(json.dumps(config, indent=1))

    # ---- life

    def spawn(self):
        """Starts the process without waiting for anything."""

        def prepare():
            # Even a test run that is killed leaves no node behind.
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if self.files_max is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (self.files_max, self.files_max))

        assert BINARY.exists(), f"{BINARY} is missing; build it with: cargo build --release"
        with open(self.dir / "stdout", "ab") as stdout, open(self.dir / "stderr", "ab") as stderr:
            self.process = subprocess.Popen(
                [str(BINARY), *self.args],
                cwd=self.dir,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                preexec_fn=prepare,
            )
        return self

    def start(self):
        """Starts the process and waits until /health answers."""
        return self.spawn().wait_ready()

    def wait_ready(self):
        """Until /health answers; fails if the process ends instead."""
        eventually(self._is_ready, within=START_WITHIN_S, what="answer of /health")
        return self

    def _is_ready(self):
        code = self.process.poll()
        if code is not None:
            raise RuntimeError(f"gyre ended with {code} while starting:\n{self.output()}")
        try:
            return self.http("GET", "/health")[0] == 200
        except OSError:
            return False

    def exit_code(self, within=STOP_WITHIN_S):
        """Waits for the process to end by itself."""
        return self.process.wait(timeout=within)

    def stop(self, within=STOP_WITHIN_S):
        """SIGTERM; the exit code must be 0."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=within)
        assert code == 0, f"exit code {code} after SIGTERM:\n{self.output()[-4000:]}"

    def end(self):
        """Leaves nothing behind: neither the process nor its folder."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    # ---- what it says

    def output(self):
        """Everything written to stdout and stderr so far."""
        return "".join((self.dir / name).read_text(errors="replace") for name in ("stdout", "stderr"))

    def logs(self, level=None):
        """The log lines so far as objects, those of one level if asked."""
        found = []
        for line in (self.dir / "stderr").read_text(errors="replace").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                entry = json.loads(line)
                if isinstance(entry, dict) and level in (None, entry.get("level")):
                    found.append(entry)
        return found

    def complaints(self, since=0):
        """Log lines at warn and above, but for what is said about the machine; without the first `since`."""
        found = [entry for entry in self.logs() if entry["level"] in ("warn", "error")]
        return [entry for entry in found if "tuning hints" not in entry["message"]][since:]

    def metric(self, name):
        """Sum of all series of a metric, 0 if there is none."""
        page = self.http("GET", "/metrics")[2].decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if re.match(name + r"[{ ]", line))

    def wait_log(self, *words, level=None, within=5.0):
        """The first log line whose text holds all the words."""

        def search():
            return next((e for e in self.logs(level) if all(w in json.dumps(e) for w in words)), None)

        return eventually(search, within=within, what=f"{level or ''} log line with {words}")

    def memory_bytes(self):
        """Resident memory of the process."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def cpu_s(self):
        """Processor time of the process so far, of all its threads."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # ---- HTTP

    def http(self, method, path, body=None, headers=None, port=None, within=10.0):
        """One request on a connection of its own: (status, headers, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=within)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def api_reply(self, method, request):
        """The whole answer object of a server API method."""
        body = request if isinstance(request, (str, bytes)) else json.dumps(request)
        status, _, answer = self.http("POST", f"/api/{method}", body, {"X-API-Key": API_KEY})
        assert status == 200, f"{method}: status {status}: {answer[:200]!r}"
        return json.loads(answer)

    def api(self, method, **request):
        """The result of a server API method; an error fails the test."""
        reply = self.api_reply(method, request)
        assert "error" not in reply, f"{method} {request}: {reply}"
        return reply["result"]

    def api_error(self, method, **request):
        """The error code of a server API method that must fail."""
        reply = self.api_reply(method, request)
        assert "result" not in reply, f"{method} {request} succeeded: {reply}"
        assert reply["error"]["message"], "an error carries a text"
        return reply["error"]["code"]

    def publish(self, channel, data, **rest):
        """API publish; {} or offset and epoch."""
        return self.api("publish", channel=channel, data=data, **rest)

    def num_clients(self, channel):
        """Subscribers of a channel as the API sees them."""
        return self.api("channels", pattern=channel)["channels"].get(channel, {}).get("num_clients", 0)


@contextlib.contextmanager
def running(changes=None, **rest):
    """A started process for the length of a with block, stopped cleanly at its end."""
    node = Gyre(changes, **rest)
    try:
        yield node.start()
        if node.process.poll() is None:
            node.stop()
    finally:
        node.end()

