"""The application's backend over gRPC: the service of proxy.proto with the interface of `Backend`.

Messages are dictionaries as JSON has them: what is bytes in the .proto is the JSON value it holds, or bytes where it holds
none. proxy.proto is compiled when the first one starts.
"""

import concurrent.futures
import contextlib
import functools
import importlib.resources
import json
import pathlib
import tempfile
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from grpc_tools import protoc

from .backend import HANG_UP, Call, Recorder, Status
from .node import ROOT
from .ports import free_port
from .waiting import eventually

PROTOS = ROOT / "proto/protos"
PACKAGE = "centrifugal.centrifugo.proxy"
SERVICE = f"{PACKAGE}.CentrifugoProxy"
METHODS = {
    "Connect": "connect",
    "Refresh": "refresh",
    "Subscribe": "subscribe",
    "Publish": "publish",
    "SubRefresh": "sub_refresh",
    "RPC": "rpc",
    "NotifyCacheEmpty": "cache_empty",
    "NotifyChannelState": "state",
}
# As many calls at once as a test of slow calls makes, and some more.
CALLS_AT_ONCE = 400


@functools.cache
def service(file="proxy.proto", name=SERVICE):
    """The descriptor of a service of one of our .proto files."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "all"
        common = importlib.resources.files("grpc_tools") / "_proto"
        arguments = ["", f"-I{PROTOS}", f"-I{common}", f"--descriptor_set_out={out}", "--include_imports", str(PROTOS / file)]
        assert protoc.main(arguments) == 0, f"{file} does not compile"
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for each in files.file:
        pool.Add(each)
    return pool.FindServiceByName(name)


def fill(message, fields):
    """Sets the fields of a message; names that it does not have are an error of the test."""
    for name, value in fields.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.message_type and field.message_type.GetOptions().map_entry:
            target, plain = getattr(message, name), field.message_type.fields_by_name["value"].message_type is None
            for key, item in value.items():
                if plain:
                    target[key] = item
                else:
                    fill(target[key], item)
        elif field.is_repeated:
            target = getattr(message, name)
            for item in value:
                fill(target.add(), item) if field.message_type else target.append(item)
        elif field.message_type:
            getattr(message, name).SetInParent()
            fill(getattr(message, name), value)
        elif field.type == FieldDescriptor.TYPE_BYTES:
            setattr(message, name, value if isinstance(value, bytes) else json.dumps(value).encode())
        else:
            setattr(message, name, value)


def seen(message):
    """The fields of a message that are set."""

    def value(field, item):
        if field.message_type:
            return seen(item)
        if field.type == FieldDescriptor.TYPE_BYTES:
            try:
                return json.loads(item)
            except ValueError:
                return item
        return item

    def whole(field, item):
        if field.message_type and field.message_type.GetOptions().map_entry:
            return {key: value(field.message_type.fields_by_name["value"], entry) for key, entry in item.items()}
        return [value(field, each) for each in item] if field.is_repeated else value(field, item)

    return {field.name: whole(field, item) for field, item in message.ListFields()}


class GrpcBackend(Recorder):
    """The server. Use it as a context manager; `stop` and `start` keep the port.

    `Status` answers end the call with that gRPC status; headers of a call are its metadata as a dictionary.
    """

    scheme = "grpc"
    broken = Status(grpc.StatusCode.INTERNAL.value[0], b"oops")

    def __init__(self, credentials=None):
        super().__init__()
        self.port, self.credentials = free_port(), credentials
        self.server = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Listens, again after `stop`."""
        pool = concurrent.futures.ThreadPoolExecutor(CALLS_AT_ONCE)
        self.server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        handlers = {method: self._handler(method, event) for method, event in METHODS.items()}
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        eventually(self._listens, what="free port again")
        self.server.start()
        return self

    def _listens(self):
        address = f"127.0.0.1:{self.port}"
        # The socket of the life before may still be closing.
        with contextlib.suppress(RuntimeError):
            if self.credentials:
                return self.server.add_secure_port(address, self.credentials)
            return self.server.add_insecure_port(address)

    def stop(self):
        """The port is closed and so are all connections."""
        if self.server is not None:
            self.release()
            self.server.stop(None).wait(5)
            self.server = None

    def url(self, _event):
        """The endpoint, the same for all events."""
        return f"grpc://127.0.0.1:{self.port}"

    def _handler(self, method, event):
        described = service().methods_by_name[method]
        asked = message_factory.GetMessageClass(described.input_type)
        said = message_factory.GetMessageClass(described.output_type)

        def handle(body, context):
            headers = {}
            for key, value in context.invocation_metadata():
                headers.setdefault(key, []).append(value)
            fields = seen(asked.FromString(body))
            answer = self.decided(Call(event, f"/{SERVICE}/{method}", headers, body, fields, time.time(), 0))
            if answer is HANG_UP:
                context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            if isinstance(answer, Status):
                code = next(code for code in grpc.StatusCode if code.value[0] == answer.code)
                context.abort(code, answer.body.decode())
            if isinstance(answer, bytes):
                return answer
            message = said()
            fill(message, answer)
            return message.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(handle)
