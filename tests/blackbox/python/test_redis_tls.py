"""Redis behind TLS, with the keys an operator has: a private authority, a certificate per server, perhaps one per client."""

import contextlib
import subprocess

import pytest
from harness import Gyre, Wire, eventually, free_port, running
from harness.cluster import Cluster
from harness.redis import RedisServer
from harness.several import QUICK, on_redis, works


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A folder with ca, other (another authority), server and client as .crt and .key."""
    folder = tmp_path_factory.mktemp("keys")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj")
    for name in ("ca", "other"):
        openssl(*new, f"/CN={name}", "-x509", "-days", "2", "-keyout", f"{name}.key", "-out", f"{name}.crt")
    for name in ("server", "client"):
        (folder / "names").write_text(
            "subjectAltName=DNS:localhost,DNS:redis.internal" if name == "server" else "extendedKeyUsage=clientAuth"
        )
        openssl(*new, f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signing)
    try:
        with RedisServer(**options(folder)):
            return folder
    except RuntimeError as error:
        if "TLS support" in str(error) or "Bad directive" in str(error):
            pytest.skip("this Redis is built without TLS")
        raise


def options(keys, auth="no"):
    return {
        "tls_port": free_port(),
        "tls_cert_file": keys / "server.crt",
        "tls_key_file": keys / "server.key",
        "tls_ca_cert_file": keys / "ca.crt",
        "tls_auth_clients": auth,
    }


def ca(keys, name="ca"):
    return {"enabled": True, "server_ca_pem": (keys / f"{name}.crt").read_text()}


def client_keys(keys):
    return {"cert_pem": (keys / "client.crt").read_text(), "key_pem": (keys / "client.key").read_text()}


def test_J12_encrypted_connections(keys, fresh):
    # Managed Redis is reached over TLS only.
    with RedisServer(**options(keys)) as server:
        port = server.options["tls_port"]
        path = {"enabled": True, "server_ca_pem": str(keys / "ca.crt")}
        for changes in (
            on_redis(f"rediss://localhost:{port}", QUICK, tls=ca(keys)),
            on_redis(f"redis://localhost:{port}?tls_enabled=true", QUICK, tls=path),
            on_redis(f"127.0.0.1:{port}", QUICK, tls={**ca(keys), "server_name": "redis.internal"}),
            on_redis(f"rediss://127.0.0.1:{port}", QUICK, tls={"enabled": True, "insecure_skip_verify": True}),
            on_redis(f"rediss://localhost:{port}", QUICK, tls=ca(keys), force_resp2=True),
        ):
            channel = fresh("recovery")
            with running(changes) as node, Wire.connected(node) as wire:
                wire.subscribe(channel)
                assert node.publish(channel, "x" * 60_000)["offset"] == 1
                assert wire.data() == "x" * 60_000, "records of TLS end anywhere"
                names = [f"{channel}.{n}" for n in range(300)]
                responses = node.api("broadcast", channels=names, data="y" * 3000)["responses"]
                assert [response["result"]["offset"] for response in responses] == [1] * 300
                server.client().execute_command("CLIENT", "KILL", "SKIPME", "yes")
                eventually(lambda node=node: works(node, fresh("recovery")), within=8, what="publishing again")
                assert node.publish(channel, 2)["offset"] == 2


def test_clients_with_certificates(keys, fresh):
    # Redis that asks for a certificate would refuse every node.
    with RedisServer(**options(keys, auth="yes")) as server:
        port = server.options["tls_port"]
        with running(on_redis(f"rediss://localhost:{port}", tls={**ca(keys), **client_keys(keys)}), cores=1) as node:
            assert node.publish(fresh("recovery"), 1)["offset"] == 1


@pytest.mark.parametrize("mistake", ["other authority", "other name", "no certificate", "no TLS there", "TLS only there"])
def test_encryption_that_fails(keys, mistake):
    # A node that trusts anybody gives its password away; one that says nothing costs a night.
    with contextlib.ExitStack() as stack:
        auth = "yes" if mistake == "no certificate" else "no"
        server = stack.enter_context(RedisServer(**options(keys, auth)))
        port = server.options["tls_port"]
        address, tls = f"rediss://:pa55@localhost:{port}", ca(keys)
        if mistake == "other authority":
            tls = ca(keys, "other")
        elif mistake == "other name":
            tls["server_name"] = "another.internal"
        elif mistake == "no TLS there":
            port = server.port
            address = f"rediss://:pa55@localhost:{port}"
        elif mistake == "TLS only there":
            address, tls = f"redis://:pa55@localhost:{port}", {"enabled": False}
        node = Gyre(on_redis(address, tls=tls))
        stack.callback(node.end)
        assert node.spawn().exit_code() == 1
        assert f"localhost:{port}" in node.output() or f"127.0.0.1:{port}" in node.output()
        assert "pa55" not in node.output()
        said = (
            "tls"
            if mistake == "no TLS there"
            else {"other authority": "certificate", "other name": "certificate", "no certificate": "certificate"}.get(
                mistake, ""
            )
        )
        assert said in node.output().lower().replace("rediss", ""), node.output()


def test_cluster_behind_TLS(keys, fresh):
    # The cluster names ports of its own; following them without TLS would fail or send keys in the clear.
    prefix = fresh("recovery")
    names = [f"{prefix}.{n}" for n in range(60)]
    with Cluster(each=lambda: {**options(keys), "tls_cluster": "yes"}) as cluster:
        seed = cluster.servers[0].options["tls_port"]
        changes = on_redis(
            f"redis+cluster://127.0.0.1:{seed}?tls_enabled=true", tls={**ca(keys), "server_name": "redis.internal"}
        )
        with running(changes, cores=2) as node, Wire.connected(node) as wire:
            for name in names:
                wire.subscribe(name)
            responses = node.api("broadcast", channels=names, data=1)["responses"]
            assert [response["result"]["offset"] for response in responses] == [1] * 60
            assert sorted(wire.push()["channel"] for _ in names) == sorted(names)
