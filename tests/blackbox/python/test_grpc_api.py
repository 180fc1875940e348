"""The server API over gRPC, driven by a stub made of the .proto: keys, every method, errors both ways, TLS, reflection."""

import concurrent.futures
import contextlib
import json
import socket
import ssl
import subprocess
import time

import grpc
import pytest
from google.protobuf import message_factory
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from harness import Wire, eventually, running
from harness.grpc_backend import fill, seen, service
from harness.ports import free_port

FILE, NAME = "api.proto", "centrifugal.centrifugo.api.CentrifugoApi"
KEY = "grpc-key"


class Stub:
    """Methods by name, messages as dictionaries. What a call does not say has its default."""

    def __init__(self, port, key=KEY, credentials=None, options=()):
        target = f"localhost:{port}"
        make = grpc.insecure_channel if credentials is None else lambda t, options: grpc.secure_channel(t, credentials, options)
        self.channel = make(target, options=list(options))
        self.metadata = [("authorization", f"apikey {key}")] if key is not None else []

    def __call__(self, method, /, metadata=(), compression=None, **fields):
        described = service(FILE, NAME).methods_by_name[method]
        asked, said = (message_factory.GetMessageClass(each) for each in (described.input_type, described.output_type))
        request = asked()
        fill(request, fields)
        call = self.channel.unary_unary(f"/{NAME}/{method}", asked.SerializeToString, said.FromString)
        return seen(call(request, metadata=[*self.metadata, *metadata], timeout=10, compression=compression))


@contextlib.contextmanager
def served(changes=None, **options):
    """A node that serves it, and its port."""
    port = free_port()
    api = {"enabled": True, "address": "127.0.0.1", "port": port, "key": KEY, **options}
    with running({"grpc_api": api, **(changes or {})}) as node:
        yield node, port


@pytest.fixture(scope="module")
def api():
    with served() as (node, port):
        yield node, Stub(port)


def test_H20_every_method(api):
    # A backend that was written for stubs of upstream would not get far.
    node, stub = api
    with Wire.connected(node, "grpc-user") as wire:
        wire.subscribe("hist:grpc")
        first = stub("Publish", channel="hist:grpc", data={"n": 1})["result"]
        assert first["offset"] == 1 and first["epoch"]
        assert wire.data() == {"n": 1}
        both = stub("Broadcast", channels=["hist:grpc", "nowhere:x"], data={"n": 2})["result"]["responses"]
        assert both[0]["result"]["offset"] == 2 and both[1]["error"]["code"] == 102
        assert wire.data() == {"n": 2}
        assert stub("History", channel="hist:grpc", limit=-1)["result"]["publications"] == [
            {"data": {"n": 1}, "offset": 1},
            {"data": {"n": 2}, "offset": 2},
        ]
        assert stub("HistoryRemove", channel="hist:grpc") == {"result": {}}
        assert stub("History", channel="hist:grpc")["result"]["offset"] == 2
        assert stub("Channels", pattern="hist:*")["result"]["channels"] == {"hist:grpc": {"num_clients": 1}}
        assert stub("Info")["result"]["nodes"][0]["num_clients"] == 1
        assert stub("RPC", method="any")["error"]["code"] == 104
        assert stub("Subscribe", user="grpc-user", channel="open:pushed") == {"result": {}}
        assert wire.push("subscribe")
        assert stub("Unsubscribe", user="grpc-user", channel="open:pushed") == {"result": {}}
        assert stub("Refresh", user="grpc-user") == {"result": {}}
        assert stub("PresenceStats", channel="open:x")["error"]["code"] == 108
        assert stub("Presence", channel="open:x")["error"]["code"] == 108
        assert stub("GetUserStatus", users=["a"])["error"]["code"] == 108
        assert stub("Disconnect", user="grpc-user") == {"result": {}}
        assert wire.closed()[0] == 3503


def test_H20_batch(api):
    # Batches would answer in another order or stop at the first mistake.
    _, stub = api
    commands = [
        {"publish": {"channel": "hist:batch", "data": {"n": 1}}},
        {},
        {"history": {"channel": "hist:batch", "limit": 1}},
    ]
    for parallel in (False, True):
        replies = stub("Batch", commands=commands, parallel=parallel)["replies"]
        assert list(replies[0]) == ["publish"]
        assert replies[1] == {"error": {"code": 104, "message": "not found"}}
        assert replies[2]["history"]["offset"] >= 0


def test_N11_user_status(server):
    # Backends that use stubs would have to speak HTTP for this alone.
    with served({"user_status": {"enabled": True, "redis": {"address": server.address}}}) as (_, port):
        stub = Stub(port)
        assert stub("UpdateUserStatus", users=["42"], state="busy") == {"result": {}}
        known, unknown = stub("GetUserStatus", users=["42", "zz"])["result"]["statuses"]
        assert known.pop("active") > 0 and known == {"user": "42", "state": "busy"}
        assert unknown == {"user": "zz"}
        assert stub("DeleteUserStatus", users=["42"]) == {"result": {}}
        assert stub("GetUserStatus", users=["42"])["result"]["statuses"] == [{"user": "42"}]


def test_payloads_are_bytes(api):
    # Binary data would be refused or changed on its way.
    _, stub = api
    stub("Publish", channel="hist:binary", data=b"\x00\xff\xfe")
    assert stub("History", channel="hist:binary", limit=1)["result"]["publications"][0]["data"] == b"\x00\xff\xfe"


@pytest.mark.parametrize("key", [None, "wrong", f"{KEY} ", ""])
def test_H20_wrong_keys(api, key):
    # Strangers could publish.
    node, _ = api
    stub = Stub(node_port(node), key)
    with pytest.raises(grpc.RpcError) as caught:
        stub("Info")
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.details() == "unauthenticated"


def node_port(node):
    return json.loads((node.dir / "config.json").read_text())["grpc_api"]["port"]


def test_without_key_everybody_may_call():
    # As upstream: the port is protected by other means.
    with served(key="") as (node, port):
        assert "result" in Stub(port, None)("Info")
        node.wait_log("grpc_api.key is empty", level="warn")


def test_H17_transport_error_mode(api):
    # Generated clients that look at statuses would take errors for successes.
    _, stub = api
    with pytest.raises(grpc.RpcError) as caught:
        stub("Publish", [("x-centrifugo-error-mode", "transport")], channel="nowhere:x", data={})
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "unknown channel")
    assert "result" in stub("Publish", [("x-centrifugo-error-mode", "transport")], channel="open:x", data={})
    with served(error_mode="transport") as (_, port):
        with pytest.raises(grpc.RpcError) as caught:
            Stub(port)("Publish", data={})
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        trailers = dict(caught.value.trailing_metadata())
        assert b"centrifugal.centrifugo.api.Error" in trailers["grpc-status-details-bin"]
        assert Stub(port)("Batch", commands=[{"publish": {}}])["replies"][0]["error"]["code"] == 107


def test_sizes_and_compression():
    # A message over the limit must not take the connection down; gzip is what many clients send by default.
    with served(max_receive_message_size=10_000) as (_, port):
        stub = Stub(port)
        with pytest.raises(grpc.RpcError) as caught:
            stub("Publish", channel="open:x", data=b"x" * 20_000)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "result" in stub("Publish", compression=grpc.Compression.Gzip, channel="open:x", data={"a": "b" * 5_000})


def test_many_at_once(api):
    # Calls side by side on one connection would get each other's replies.
    _, stub = api
    described = service(FILE, NAME).methods_by_name["Publish"]
    asked, said = (message_factory.GetMessageClass(each) for each in (described.input_type, described.output_type))
    call = stub.channel.unary_unary(f"/{NAME}/Publish", asked.SerializeToString, said.FromString)
    futures = []
    for n in range(500):
        request = asked()
        fill(request, {"channel": f"hist:many{n}", "data": {"n": n}})
        futures.append(call.future(request, metadata=stub.metadata, timeout=10))
    assert [seen(future.result())["result"]["offset"] for future in futures] == [1] * 500


def test_H20_reflection_on_request_only():
    # Tools that ask a server what it can do (grpcurl) need it; others must not learn it without being asked to.
    def listed(port):
        stub = reflection_pb2_grpc.ServerReflectionStub(grpc.insecure_channel(f"localhost:{port}"))
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = next(iter(stub.ServerReflectionInfo(iter([request]), timeout=10)))
        return [each.name for each in answer.list_services_response.service]

    with served(reflection=True) as (_, port):
        assert NAME in listed(port)
    with served() as (_, port), pytest.raises(grpc.RpcError) as caught:
        listed(port)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_tls_and_client_certificates(tmp_path):
    # Keys and data would go over the network in the clear, or everybody with a key could come in.
    def made(name, *more):
        files = ["-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.crt"]
        new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        subprocess.run([*new, *files, *more], check=True, capture_output=True)

    made("server", "-addext", "subjectAltName=DNS:localhost")
    made("authority")
    signed = ["-CA", tmp_path / "authority.crt", "-CAkey", tmp_path / "authority.key"]
    made("client", *signed, "-addext", "basicConstraints=CA:FALSE")
    read = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    tls = {"enabled": True, "cert_pem": str(tmp_path / "server.crt"), "key_pem": read["server.key"].decode()}
    trusting = grpc.ssl_channel_credentials(read["server.crt"])
    with served(tls=tls) as (_, port):
        assert "result" in Stub(port, credentials=trusting)("Info")
        with pytest.raises(grpc.RpcError):
            Stub(port)("Info")
    with served(tls={**tls, "client_ca_pem": str(tmp_path / "authority.crt")}) as (_, port):
        known = grpc.ssl_channel_credentials(read["server.crt"], read["client.key"], read["client.crt"])
        assert "result" in Stub(port, credentials=known)("Info")
        with pytest.raises(grpc.RpcError) as caught:
            Stub(port, credentials=trusting)("Info")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_who_does_not_begin_is_closed(tmp_path):
    # Strangers who connect and say nothing would take all the files of the process; backends that are idle must stay.
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    files = ["-keyout", tmp_path / "key", "-out", tmp_path / "crt"]
    subprocess.run([*new, *files], check=True, capture_output=True)
    tls = {"enabled": True, "cert_pem": str(tmp_path / "crt"), "key_pem": (tmp_path / "key").read_text()}
    trusting = ssl.create_default_context(cafile=tmp_path / "crt")
    trusting.check_hostname = False
    trusting.set_alpn_protocols(["h2"])
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    with contextlib.ExitStack() as stack:
        _, plain_port = stack.enter_context(served())
        _, tls_port = stack.enter_context(served(tls=tls))

        def opened(port, sends=b"", through=None):
            made = socket.create_connection(("127.0.0.1", port))
            made = stack.enter_context(made if through is None else through.wrap_socket(made))
            made.sendall(sends)
            made.settimeout(30)
            return made

        idle = Stub(plain_port)
        assert "result" in idle("Info")
        began = time.monotonic()
        stays = opened(plain_port, preface + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        silent = [opened(plain_port), opened(plain_port, preface[:20]), opened(tls_port)]
        silent += [opened(tls_port, b"\x16\x03\x01\x01\xf4\x01"), opened(tls_port, through=trusting)]
        for each in silent:
            with contextlib.suppress(ConnectionResetError):
                while each.recv(1000):
                    pass
        assert time.monotonic() - began < 30
        stays.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                assert stays.recv(1000), "closed while it was idle"
        assert "result" in idle("Info")


def test_L01_calls_are_counted():
    # An operator could not see that the API is used; batches would be missing where those over HTTP are not.
    with served() as (node, port):
        stub = Stub(port)
        stub("Info")
        stub("Batch", commands=[{"publish": {"channel": "open:x", "data": {}}}] * 2)

        def counts():
            lines = node.http("GET", "/metrics")[2].decode().splitlines()
            samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
            methods = ("info", "publish", "batch")
            return [samples.get(f'gyre_api_calls_total{{protocol="grpc",method="{each}"}}') for each in methods]

        eventually(lambda: counts() == ["1", "2", "1"], what="calls over gRPC among the metrics")


def test_stop_answers_what_is_under_way():
    # A deploy would fail calls that have been carried out, and backends would make them again.
    count = 20_000
    with served() as (node, port), concurrent.futures.ThreadPoolExecutor(1) as pool:
        stub = Stub(port)
        publish = {"publish": {"channel": "hist:stop", "data": {"n": 1}}}
        batch = pool.submit(stub, "Batch", commands=[publish] * count)
        eventually(lambda: node.api("history", channel="hist:stop")["offset"] > 0, every=0)
        node.stop()
        replies = batch.result()["replies"]
        assert [reply["publish"]["offset"] for reply in replies] == list(range(1, count + 1))
