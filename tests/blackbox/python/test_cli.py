"""The command line: files it writes, tokens it makes, words it finds for wrong configuration."""

import json
import os
import socket
import stat
import subprocess

import jwt
import pytest
from harness import Gyre, Wire, free_port, running
from harness.node import BINARY


@pytest.fixture
def gyre(tmp_path):
    """gyre("version") -> finished process, run in an empty folder with no configuration from outside."""

    def run(*args, env=None, code=0):
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **(env or {})}
        done = subprocess.run([BINARY, *args], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=20)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    return run


def write(folder, **config):
    (folder / "config.json").write_text(json.dumps(config))


def test_A16_version_and_help(gyre):
    # Bug reports could not name a version, newcomers would find no command.
    assert gyre("version").strip().lower().startswith("gyre v0.") and gyre("version").count("\n") == 1
    text = gyre("--help")
    for command in ("genconfig", "checkconfig", "defaultconfig", "defaultenv", "configdoc", "gentoken", "gensubtoken"):
        assert command in text


def test_A01_genconfig(gyre, tmp_path):
    # The first step of every installation; overwriting would lock out everybody.
    gyre("genconfig")
    file = tmp_path / "config.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    config = json.loads(file.read_text())
    secrets = [config["client"]["token"]["hmac_secret_key"], config["http_api"]["key"]]
    secrets += [config["admin"]["password"], config["admin"]["secret"]]
    assert len(set(secrets)) == 4 and all(len(secret) >= 16 for secret in secrets)
    gyre("checkconfig")
    before = file.read_text()
    gyre("genconfig", code=1)
    assert file.read_text() == before


def test_A02_generated_configuration_works(gyre, tmp_path):
    # The second step of every installation.
    gyre("genconfig")
    config = json.loads((tmp_path / "config.json").read_text())
    config["health"] = {"enabled": True}
    config["http_server"] = {"address": "127.0.0.1", "port": free_port()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    given = gyre("gentoken", "-q", "-u", "1")
    node = Gyre(config=config, port=config["http_server"]["port"])
    try:
        node.start()
        body = '{"channel":"x","data":{}}'
        code, _, answer = node.http("POST", "/api/publish", body, {"X-API-Key": config["http_api"]["key"]})
        assert (code, json.loads(answer)) == (200, {"result": {}})
        with Wire(node) as wire:
            assert wire.call(connect={"token": given})["connect"]["client"]
        node.stop()
    finally:
        node.end()


def test_A12_A13_tokens(gyre, tmp_path):
    # Developers make their first tokens with these commands.
    write(tmp_path, client={"token": {"hmac_secret_key": "k" * 32}})
    decode = lambda text: jwt.decode(text, "k" * 32, algorithms=["HS256"])  # noqa: E731
    quiet = gyre("gentoken", "-q", "-u", "42")
    assert "\n" not in quiet
    claims = decode(quiet)
    assert claims["sub"] == "42" and claims["exp"] - claims["iat"] == 604_800
    assert "sub" not in decode(gyre("gentoken", "-q"))
    assert decode(gyre("gentoken", "-u", "42", "-t", "60").split()[-1])["sub"] == "42"
    subscription = decode(gyre("gensubtoken", "-q", "-u", "42", "-s", "chat:a"))
    assert (subscription["sub"], subscription["channel"]) == ("42", "chat:a")
    assert "42" in gyre("checktoken", quiet)
    gyre("checktoken", quiet[:-4] + "AAAA", code=1)
    gyre("gensubtoken", "-u", "42", code=1)


def test_A14_defaults_round_trip(gyre, tmp_path):
    # The printed defaults are the list of options that users copy from.
    gyre("defaultconfig")
    gyre("checkconfig", "--strict")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["client"]["ping_interval"] == "25s"
    lines = dict(line.split("=", 1) for line in gyre("defaultenv").splitlines())
    assert lines["CENTRIFUGO_CLIENT_PING_INTERVAL"] == "25s" and list(lines) == sorted(lines)
    plain = {name: value.strip('"') for name, value in lines.items() if "\\" not in value and '" "' not in value}
    gyre("checkconfig", env=plain)


def test_A15_configdoc(gyre):
    # The reference of all options, made from the same table that reads them.
    text = gyre("configdoc", "-m")
    assert "channel.namespaces" in text and "CENTRIFUGO_CLIENT_PING_INTERVAL" in text and "gyre.cores" in text


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"channel": {"without_namespace": {"history_size": 5}}}, ["history_ttl"]),
        ({"channel": {"namespaces": [{"name": "a"}]}}, ["name"]),
        ({"channel": {"namespaces": [{"name": "ab"}, {"name": "ab"}]}}, ["ab"]),
        ({"client": {"ping_interval": "10"}}, ["ping_interval", "10"]),
        ({"client": {"ping_interval": "5s", "pong_timeout": "8s"}}, ["ping_interval", "pong_timeout"]),
        ({"http_server": {"port": "high"}}, ["port"]),
    ],
)
def test_A11_wrong_configuration_is_refused_with_its_name(gyre, tmp_path, config, words):
    # A node that starts with half of what was meant is worse than one that does not.
    write(tmp_path, **config)
    text = gyre("checkconfig", code=1)
    assert all(word in text for word in words), text
    gyre(code=1)


def test_A10_unknown_keys_only_warn(gyre, tmp_path):
    # A typo would silently switch off a permission; an old key would stop a running system.
    changes = {"channel": {"namespaces": [{"name": "chat", "presense": True}]}}
    with running(changes) as node:
        text = json.dumps(node.wait_log("presense", level="warn"))
        assert "channel.namespaces" in text and "presence" in text, "the nearest match is named"
    write(tmp_path, **changes)
    gyre("checkconfig")
    assert "presense" in gyre("checkconfig", "--strict", code=1)


def test_A03_yaml_and_toml(gyre, tmp_path):
    # Operators keep the format they have.
    (tmp_path / "a.yaml").write_text("client:\n  allowed_origins:\n    - https://a.x\nlog:\n  level: error\n")
    (tmp_path / "a.toml").write_text('[client]\nallowed_origins = ["https://a.x"]\n[log]\nlevel = "error"\n')
    (tmp_path / "a.json").write_text('{"client": {"allowed_origins": ["https://a.x"]}, "log": {"level": "error"}}')
    out = [gyre("defaultconfig", "-b", f"a.{kind}", "-d", "-c", "out.json") for kind in ("json", "yaml", "toml")]
    assert out[0] == out[1] == out[2]
    assert json.loads(out[0])["log"]["level"] == "error"


def test_A04_A05_environment_and_flags():
    # Containers are configured by environment alone; whoever debugs uses a flag.
    from_env, from_flag = free_port(), free_port()
    env = {"CENTRIFUGO_HTTP_SERVER_PORT": str(from_env)}
    for args, port in ((("-c", "config.json"), from_env), (("-c", "config.json", "--http_server.port", str(from_flag)), from_flag)):
        node = Gyre(env=env, args=args)
        node.port = port
        try:
            node.start()
            node.stop()
        finally:
            node.end()


def test_A06_A07_lists_in_the_environment():
    # Lists and namespaces could not be given to a container.
    env = {
        "CENTRIFUGO_CLIENT_ALLOWED_ORIGINS": "https://a.x https://*.b.x",
        "GYRE_CHANNEL_NAMESPACES": '[{"name":"env","presence":true}]',
    }
    with running(env=env) as node:
        for origin in ("https://a.x", "https://sub.b.x"):
            with Wire.connected(node, headers={"Origin": origin}) as wire:
                assert wire.session["client"]
        assert node.api("presence", channel="env:x") == {"presence": {}}
        assert node.api_error("presence", channel="presence:x") == 102


def test_address_in_use():
    # The most common mistake of all must name the address.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        node = Gyre(port=port)
        try:
            node.spawn()
            assert node.exit_code() == 1
            assert str(port) in node.output() and "in use" in node.output()
        finally:
            node.end()


def test_address_in_use_by_a_node():
    # Two nodes would each get half of the clients, and neither would tell.
    with running() as first:
        second = Gyre(port=first.port)
        try:
            second.spawn()
            assert second.exit_code() == 1
            assert str(first.port) in second.output() and "in use" in second.output()
        finally:
            second.end()
        assert first.api("info")["nodes"][0]["uid"]


def test_dev_mode():
    # The two-minute tour of the README: no key, no token, history; and it must not be reachable from outside.
    port = free_port()
    node = Gyre(config=None, args=("--dev", "--http_server.port", str(port)), port=port)
    try:
        node.start()
        with Wire(node, headers={"Origin": "https://any.example"}) as wire:
            assert wire.call(connect={})["connect"]["client"]
            wire.subscribe("hello")
            code, _, answer = node.http("POST", "/api/publish", '{"channel":"hello","data":{"text":"hi"}}')
            assert code == 200 and json.loads(answer)["result"]["offset"] == 1
            assert wire.push()["pub"]["offset"] == 1
        assert "centrifugo_node_num_clients" in node.http("GET", "/metrics")[2].decode()
        assert "dev" in node.output()
        node.stop()
    finally:
        node.end()
    refused = Gyre(config=None, args=("--dev", "--http_server.address", "0.0.0.0"))
    try:
        refused.spawn()
        assert refused.exit_code() != 0
    finally:
        refused.end()
