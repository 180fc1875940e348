"""What is particular to backends over gRPC; what all events do is in the other files, which ask over both."""

import ssl
import subprocess

import grpc
import pytest
from harness import Wire, running
from harness.app import App, app, everything
from harness.backend import HANG, Backend, Status, result
from harness.grpc_backend import GrpcBackend
from harness.node import merged


@pytest.fixture(scope="module")
def asking_grpc():
    """A node and its backend."""
    with app("grpc") as made:
        yield made


def test_I10_metadata():
    # Cookies would not reach the backend, or secrets that are not its business would.
    with app(
        "grpc",
        http_headers=["X-Req", "cookie", "content-type"],
        emulated_headers=["X-Emu", "x-req", "X-Static"],
        grpc={
            "static_metadata": {"x-static": "s", "x-fixed": "f"},
            "credentials_key": "authorization",
            "credentials_value": "Bearer s3cret",
        },
    ) as made:
        headers = {"X-Req": ["one", "two"], "Cookie": "sid=1", "X-Other": "not listed"}
        emulated = {"X-Emu": "e", "X-Req": "forged", "X-Hidden": "no", "X-Static": "emulated"}
        with made.wire(headers=headers, fields={"headers": emulated}) as wire:
            wire.subscribe("asked:x")
            wire.call(rpc={"method": "m"})
            for event in ("connect", "subscribe", "rpc"):
                got = made.backend.only(event).headers
                assert got["x-req"] == ["one", "two"] and got["cookie"] == ["sid=1"] and got["x-emu"] == ["e"]
                assert got["x-fixed"] == ["f"] and got["x-static"] == ["emulated"]
                assert got["authorization"] == ["Bearer s3cret"]
                assert not {"x-other", "x-hidden"} & set(got)
        assert "s3cret" not in made.node.output()


def test_header_values_that_metadata_cannot_hold():
    # One strange header would make all calls of its client fail.
    with app("grpc", http_headers=["x-req"], emulated_headers=["x-emu"]) as made:
        made.backend["connect"] = result(user="42")
        with Wire(made.node, headers={"X-Req": "caf\u00e9"}) as wire:
            assert "connect" in wire.call(connect={"headers": {"x-emu": "caf\u00e9\r\nx: y"}})


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_I09_status_is_a_failed_call(asking_grpc, code):
    # A status is about the call, and never the application's answer.
    asking_grpc.backend.reset()
    asking_grpc.backend["rpc"] = Status(code.value[0], b"why not")
    with asking_grpc.wire() as wire:
        expected = {"code": 100, "message": "internal server error", "temporary": True}
        assert wire.call(rpc={"method": "m"})["error"] == expected


def test_not_a_message(asking_grpc):
    # Half an answer would be taken for a whole one.
    asking_grpc.backend.reset()
    asking_grpc.backend["rpc"] = b"\x0a\xff\xff"
    with asking_grpc.wire() as wire:
        assert wire.error(rpc={"method": "m"}) == 100
        asking_grpc.backend["rpc"] = result(data=1)
        assert wire.call(rpc={"method": "m"})["rpc"] == {"data": 1}


def test_backend_restarts_and_is_late():
    # A node would have to be started after its backend, and again with it.
    backend = GrpcBackend()
    with running(everything(backend)) as node:
        with Wire(node) as wire:
            assert wire.error(connect={}) == 100
        for _ in range(2):
            backend.start()
            # The first call after the return connects at once, it does not sit out a long back-off.
            with App(node, backend).wire() as wire:
                assert wire.call(rpc={"method": "m"})["rpc"] == {}
                backend.stop()
                assert wire.error(rpc={"method": "m"}) == 100


def test_compression():
    # Gzip is asked for by name.
    with app("grpc", grpc={"compression": True}) as made:
        made.backend["rpc"] = lambda call: result(data=call.fields["data"])
        with made.wire() as wire:
            text = "x" * 20_000
            assert wire.call(rpc={"method": "m", "data": text})["rpc"] == {"data": text}
            assert made.backend.only("rpc").fields["data"] == text


def test_address_without_a_scheme():
    # As the reference takes it.
    with GrpcBackend() as backend:
        changes = {"rpc": {"proxy": {"endpoint": f"127.0.0.1:{backend.port}"}, "without_namespace": {"proxy_enabled": True}}}
        with running(changes) as node, Wire.connected(node) as wire:
            backend["rpc"] = result(data=1)
            assert wire.call(rpc={"method": "m"})["rpc"] == {"data": 1}


def test_large_messages(asking_grpc):
    # Initial state of some megabytes is unusual and allowed, as over HTTP.
    asking_grpc.backend.reset()
    asking_grpc.backend["rpc"] = result(data="x" * 900_000)
    with asking_grpc.wire() as wire:
        assert len(wire.call(rpc={"method": "m"})["rpc"]["data"]) == 900_000


def test_backend_with_an_encoding_of_its_own(asking_grpc):
    # Bytes are bytes: what is no JSON reaches a JSON client as an error, not as a broken frame.
    asking_grpc.backend.reset()
    asking_grpc.backend["rpc"] = result(data=b"\xff not json\n{}")
    with asking_grpc.wire() as wire:
        wire.send({"id": 9, "rpc": {"method": "m"}}, {"id": 10, "rpc": {"method": "m"}})
        try:
            reply = wire.reply(9)
        except ValueError as broken:
            raise AssertionError("a frame that is no JSON") from broken
        except Exception as closed:
            assert getattr(closed, "code", None), closed
        else:
            assert "error" in reply or "rpc" in reply


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Files of a certificate for 127.0.0.1 that signs itself."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        + ["-subj", "/CN=backend", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        + ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )
    return key, cert


@pytest.mark.parametrize("kind", ["grpc", "http"])
@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "unknown"])
def test_tls(certificates, kind, trusted):
    # Calls would be readable, or go to whoever answers.
    key, cert = certificates
    if kind == "grpc":
        pair = [(key.read_bytes(), cert.read_bytes())]
        backend = GrpcBackend(grpc.ssl_server_credentials(pair))
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        backend = Backend(tls=context)
    tls = {"enabled": True, **({"server_ca_pem": str(cert)} if trusted else {})}
    with backend, running(merged(everything(backend), tls_options(kind, tls))) as node:
        backend["connect"] = result(user="42")
        with Wire(node) as wire:
            reply = wire.call(connect={})
            assert ("connect" in reply) is trusted, reply
            assert bool(backend.calls()) is trusted


def tls_options(kind, tls):
    """The TLS object of the connect proxy."""
    return {"client": {"proxy": {"connect": {kind: {"tls": tls}}}}}


def test_timeout_reaches_the_backend(asking_grpc):
    # A backend would go on with work whose answer nobody waits for.
    asking_grpc.backend.reset()
    asking_grpc.backend["rpc"] = HANG
    with asking_grpc.wire() as wire:
        assert wire.error(rpc={"method": "m"}) == 100
        asking_grpc.backend.release()
