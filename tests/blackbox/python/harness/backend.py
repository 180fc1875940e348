"""The application's backend: a real HTTP/1.1 server that records every request and answers what the test says.

`backend["rpc"] = {"result": {…}}` answers all calls of one event, which is the last part of the path; a function of the
call answers each one anew. Besides objects, an answer is one of `Status`, `Late`, `HANG`, `HANG_UP`, or bytes that go out
as they are. Events without an answer get `{}`. Each connection has a thread, so calls run at once.
"""

import dataclasses
import http.client
import http.server
import json
import threading
import time

from .ports import free_port
from .waiting import eventually

EVENTS = ("connect", "refresh", "subscribe", "publish", "sub_refresh", "rpc", "cache_empty", "state")
# The call is not answered before the backend is stopped or told something else, see `Backend.release`.
HANG = object()
# The connection is closed without an answer.
HANG_UP = object()


@dataclasses.dataclass
class Status:
    """An answer with another status, or with a body that is no JSON object."""

    code: int
    body: bytes = b"{}"
    headers: tuple = ()


@dataclasses.dataclass
class Late:
    """An answer after some time."""

    seconds: float
    answer: object


@dataclasses.dataclass
class Call:
    """One request as it came. `fields` is its message as JSON has it, also over gRPC."""

    event: str
    path: str
    headers: object
    body: bytes
    fields: dict
    at: float
    # Which connection of the backend it came over; two calls with the same number share one.
    connection: int


def result(**fields):
    """The event is allowed, with these fields."""
    return {"result": fields}


def error(code, message="refused", **rest):
    """The command is answered with this error."""
    return {"error": {"code": code, "message": message, **rest}}


def disconnect(code, reason="go away"):
    """The client is closed."""
    return {"disconnect": {"code": code, "reason": reason}}


class Recorder:
    """What the HTTP and the gRPC backend have in common: answers by event, calls in order."""

    def __init__(self):
        self.answers, self._calls = {}, []
        self.released = threading.Event()

    def __setitem__(self, event, answer):
        self.answers[event] = answer

    def reset(self):
        """As after the start: no answers, no calls, nothing hangs."""
        self.release()
        self.answers.clear()
        self._calls.clear()

    def release(self):
        """Ends what hangs; those calls fail."""
        self.released.set()
        self.released = threading.Event()

    def calls(self, event=None, **fields):
        """The calls so far, those of one event with these fields if asked."""
        return [
            call
            for call in list(self._calls)
            if event in (None, call.event) and all(call.fields.get(name) == value for name, value in fields.items())
        ]

    def wait(self, event, count=1, within=5.0, **fields):
        """The calls of an event, once there are that many."""
        eventually(lambda: len(self.calls(event, **fields)) >= count, within=within, what=f"{count} calls of {event}")
        return self.calls(event, **fields)

    def only(self, event, **fields):
        """The one call of an event there has been."""
        calls = self.calls(event, **fields)
        assert len(calls) == 1, f"{len(calls)} calls of {event}: {[call.fields for call in calls]}"
        return calls[0]

    def decided(self, call):
        """Records a call; what it is to be answered with, after the time it takes."""
        self._calls.append(call)
        released = self.released
        answer = self.answers.get(call.event, {})
        if callable(answer):
            answer = answer(call)
        if isinstance(answer, Late):
            released.wait(answer.seconds)
            answer = answer.answer
        if answer is HANG:
            released.wait(60)
            return HANG_UP
        return answer


class Backend(Recorder):
    """The server. Use it as a context manager; `stop` and `start` keep the port. `tls` is an ssl context."""

    scheme = "http"
    # An answer that is none.
    broken = Status(500, b"oops")

    def __init__(self, tls=None):
        super().__init__()
        self.port, self.tls = free_port(), tls
        self.server = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Listens, again after `stop`."""
        self.server = _Server(self)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        return self

    def stop(self):
        """The port is closed and so are all connections, as if the process had been killed."""
        if self.server is None:
            return
        self.server.shutdown()
        self.server.server_close()
        self.release()
        self.server.close_connections()
        self.thread.join(5)
        self.server = None

    def url(self, event):
        """The endpoint of an event."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/{event}"


class _Server(http.server.ThreadingHTTPServer):
    """One life of the server."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512

    def __init__(self, backend):
        self.backend, self.open = backend, set()
        self.lock = threading.Lock()
        self.accepted = 0
        super().__init__(("127.0.0.1", backend.port), _Connection)
        if backend.tls:
            self.socket = backend.tls.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request, client_address):
        """A client that goes away is no news."""

    def close_connections(self):
        with self.lock:
            for connection in self.open:
                # The thread that reads from it wakes up.
                connection.shutdown(2)


class _Connection(http.server.BaseHTTPRequestHandler):
    """One connection with all its requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        with self.server.lock:
            self.server.accepted += 1
            self.number = self.server.accepted
            self.server.open.add(self.connection)

    def finish(self):
        with self.server.lock:
            self.server.open.discard(self.connection)
        super().finish()

    def log_message(self, *_):
        """Nothing on the terminal."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        event = self.path.partition("?")[0].rsplit("/", 1)[-1]
        try:
            fields = json.loads(body)
        except ValueError:
            fields = {}
        call = Call(event, self.path, self.headers, body, fields, time.time(), self.number)
        self._say(self.server.backend.decided(call))

    def do_GET(self):
        """Nobody should; recorded like the others."""
        self.do_POST()

    def _say(self, answer):
        if isinstance(answer, bytes):
            self.wfile.write(answer)
            self.close_connection = True
            return
        if answer is HANG_UP:
            self.close_connection = True
            return
        if not isinstance(answer, Status):
            answer = Status(200, json.dumps(answer).encode(), (("Content-Type", "application/json"),))
        reason = http.client.responses.get(answer.code, "Unknown")
        lines = [f"HTTP/1.1 {answer.code} {reason}", f"Content-Length: {len(answer.body)}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        self.wfile.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
