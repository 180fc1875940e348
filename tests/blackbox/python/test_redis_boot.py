"""The start: forms of addresses, and a Redis that is not there, or something else, or refuses."""

import contextlib
import http.server
import socket
import threading

import pytest
from harness import Gyre, Wire, free_port, running
from harness.redis import RedisServer
from harness.several import on_redis
from harness.waiting import timed


def test_J03_address_forms(fresh):
    # Configurations that work with the reference would not start here.
    with RedisServer(requirepass="first/s:e@c?r#t%", unixsocket="sock", unixsocketperm=700) as server:
        admin = server.client(password="first/s:e@c?r#t%")
        admin.execute_command("ACL", "SETUSER", "gyre", "on", ">second", "~*", "&*", "+@all")
        secret = "first%2Fs%3Ae%40c%3Fr%23t%25"
        socket = server.dir / "sock"
        plain = {"password": "first/s:e@c?r#t%"}
        forms = [
            (f"redis://:{secret}@127.0.0.1:{server.port}", {}),
            (f"redis://gyre:second@127.0.0.1:{server.port}/3", {}),
            (f"redis://gyre:second@localhost:{server.port}?connect_timeout=2s&io_timeout=3s", {}),
            (f"127.0.0.1:{server.port}", plain),
            (f"tcp://127.0.0.1:{server.port}", {"user": "gyre", "password": "second"}),
            (f"redis://127.0.0.1:{server.port}?force_resp2=true", {**plain, "client_name": "resp2"}),
            (f"redis://127.0.0.1:{server.port}", {**plain, "client_name": "resp3"}),
            (f"unix://{socket}", plain),
        ]
        for address, options in forms:
            channel = fresh("recovery")
            with running(on_redis(address, **options), cores=1) as node, Wire.connected(node) as wire:
                wire.subscribe(channel)
                assert node.publish(channel, address)["offset"] == 1
                assert wire.data() == address
                if name := options.get("client_name"):
                    ours = [entry for entry in admin.client_list() if entry["name"] == name]
                    assert ours and {entry.get("resp", name[4:]) for entry in ours} == {name[4:]}
                assert "second" not in node.output() and "first" not in node.output()


@pytest.mark.parametrize(
    "fault", ["nobody listens", "no answer", "wrong password", "wrong user", "no permission", "no such db"]
)
def test_J04_boot_without_redis(fault):
    # A node that cannot work would be put behind the balancer, or the password would be in the log for all to read.
    secret = "pa55word"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RedisServer(requirepass=secret))
        admin = server.client(password=secret)
        admin.execute_command("ACL", "SETUSER", "weak", "on", f">{secret}", "~*", "&*", "+hello", "+auth", "+ping")
        port, user, password, db = server.port, "", secret, ""
        if fault == "nobody listens":
            port = free_port()
        elif fault == "no answer":
            silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = silent.getsockname()[1]
        elif fault == "wrong password":
            password = "other" + secret
        elif fault == "wrong user":
            user = "nobody"
        elif fault == "no permission":
            user = "weak"
        else:
            db = "/99"
        node = Gyre(on_redis(f"redis://{user}:{password}@127.0.0.1:{port}{db}"))
        stack.callback(node.end)
        code, took = timed(node.spawn().exit_code)
        assert code == 1 and took < 8, (code, took, node.output())
        assert f"127.0.0.1:{port}" in node.output() and secret not in node.output()
        assert len(node.output().splitlines()) < 20


def test_boot_against_something_else():
    # A wrong port in the configuration would be a riddle, or hang the start.
    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        node = Gyre(on_redis(f"redis://127.0.0.1:{other.server_port}"))
        try:
            code, took = timed(node.spawn().exit_code)
            assert code == 1 and took < 8
            assert str(other.server_port) in node.output()
        finally:
            other.shutdown()
            thread.join()
            node.end()


def test_supported_options_are_not_called_unsupported(fresh):
    # Operators would look for a mistake that is none.
    options = {"prefix": "p", "db": 0, "connect_timeout": "2s", "io_timeout": "3s", "presence_ttl": "30s", "client_name": "n"}
    with RedisServer() as server, running(on_redis(server.address, **options)) as node:
        node.publish(fresh("recovery"), 1)
        node.stop()
        assert not node.complaints(), "a start without trouble has nothing to complain about"
