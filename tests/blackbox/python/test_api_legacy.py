"""Server API: the stream of commands on the bare prefix, which is all that older libraries speak."""

import json

import pytest
from harness import Wire, running
from harness.node import API_KEY

KEY = {"X-API-Key": API_KEY}


def send(node, *commands, separator="\n", path="/api"):
    """The replies to commands, which are objects or text."""
    body = separator.join(one if isinstance(one, str) else json.dumps(one) for one in commands)
    status, headers, answer = node.http("POST", path, body, KEY)
    assert status == 200, (status, body, answer)
    assert headers["Content-Type"] == "application/json"
    assert not answer.endswith(b"\n")
    return [json.loads(line) for line in answer.split(b"\n")]


def refusal(node, body):
    return node.http("POST", "/api", body, KEY)[0]


@pytest.mark.parametrize("separator", ["\n", "", " \r\n\t"])
def test_H19_commands_and_replies(node, fresh, separator):
    # gocent matches replies to commands by their place.
    channel, stream = fresh("open"), fresh("hist")
    with Wire.connected(node) as wire:
        wire.subscribe(channel)
        replies = send(
            node,
            {"method": "publish", "params": {"channel": channel, "data": {"n": 1}}},
            {"id": 7, "method": "publish", "params": {"channel": stream, "data": 2}},
            {"id": 4294967295, "method": "publish", "params": {"channel": "nope:x", "data": 2}},
            {"id": 8, "method": "history", "params": {"channel": stream, "limit": 1}},
            separator=separator,
        )
        assert wire.data() == {"n": 1}
    assert replies[0] == {"result": {}}
    assert replies[1]["id"] == 7 and replies[1]["result"]["offset"] == 1
    assert replies[2] == {"id": 4294967295, "error": {"code": 102, "message": "unknown channel"}}
    assert replies[3]["result"]["publications"][0]["data"] == 2
    assert len(replies) == 4


def test_H19_methods_by_name_and_number(node, fresh):
    # Each library has its own way to name them, and some have both.
    user, channel, stream = fresh(), fresh("members"), fresh("hist")
    node.publish(stream, 1)
    with Wire.connected(node, user) as wire:
        for method in (11, "subscribe", "Subscribe"):
            assert send(node, {"method": method, "params": {"channel": channel, "user": user}}) == [{"result": {}}]
        assert wire.push("subscribe")["channel"] == channel
        for method in (5, "presence_stats", "PRESENCE_STATS"):
            reply = send(node, {"method": method, "params": {"channel": channel}})
            assert reply == [{"result": {"num_clients": 1, "num_users": 1}}]
        assert list(send(node, {"method": 4, "params": {"channel": channel}})[0]["result"]["presence"])
        found = send(node, {"method": 8, "params": {"pattern": channel}})[0]["result"]["channels"]
        assert found == {channel: {"num_clients": 1}}
        for method, params in ((12, {"user": user}), (2, {"user": user, "channel": channel})):
            assert send(node, {"method": method, "params": params}) == [{"result": {}}]
        # What gocent still sends beside it.
        params = {"user": user, "disconnect": {"code": 4501, "reason": "go", "reconnect": False}, "reconnect": True}
        assert send(node, {"method": "DISCONNECT", "params": params}) == [{"result": {}}]
        assert wire.closed()[0] == 4501
    assert send(node, {"params": {"channel": stream, "data": 1}})[0]["result"]["offset"] == 2, "publish is number 0"
    responses = send(node, {"method": 1, "params": {"channels": [stream, "nope:x"], "data": 1}})[0]["result"]
    assert responses["responses"][0]["result"]["offset"] == 3
    assert send(node, {"method": 6, "params": {"channel": stream}})[0]["result"]["offset"] == 3
    assert send(node, {"method": 7, "params": {"channel": stream}}) == [{"result": {}}]
    for command in ({"method": "info"}, {"method": 9, "params": [5]}):
        assert send(node, command)[0]["result"]["nodes"][0]["uid"]


def test_H19_methods_that_are_not_here(node):
    # A library that offers more than the server does must hear so, for that command alone.
    not_found = {"code": 104, "message": "not found"}
    for method in (13, 14, 33, 99, -1, "connections", "MAP_PUBLISH", "send_push_notification"):
        good = {"method": "channels", "params": {"pattern": "nothing"}}
        replies = send(node, {"id": 1, "method": method, "params": {}}, good)
        assert replies == [{"id": 1, "error": not_found}, {"result": {"channels": {}}}], method
    assert send(node, {"method": "rpc", "params": {"method": "x"}}) == [{"error": not_found}]
    for method in (15, "get_user_status", 17):
        assert send(node, {"method": method, "params": {"users": ["1"]}})[0]["error"]["code"] == 108


def test_H19_parameters_that_are_wrong(node):
    # One command's mistake must not cost the others.
    bad = {"code": 107, "message": "bad request"}
    for command in (
        {"method": "publish"},
        {"method": "publish", "params": None},
        {"method": "publish", "params": []},
        {"method": "publish", "params": {"channel": 5, "data": 1}},
        {"method": "history", "params": {"channel": "hist:x", "limit": "1"}},
        {"method": "channels"},
        {},
        "null",
    ):
        replies = send(node, command, {"id": 2, "method": "presence_stats", "params": {"channel": "nope:x"}})
        assert replies[0] == {"error": bad}, command
        assert replies[1]["id"] == 2 and replies[1]["error"]["code"] == 102


def test_H19_bodies_that_are_refused(node, fresh):
    # What came before the mistake has been done: a library that repeats the call must be able to rely on that.
    stream = fresh("hist")
    good = json.dumps({"method": "publish", "params": {"channel": stream, "data": 1}})
    for body in ("", " \n", "{bad", "[]", "7", '{"id":"1"}', '{"id":-1}', '{"method":"nonsense"}', '{"method":1.5}'):
        assert refusal(node, body) == 400, body
    assert refusal(node, f"{good}\n{{bad\n{good}") == 400
    assert refusal(node, f'{good}\n{{"method":"nonsense"}}') == 400
    assert node.api("history", channel=stream)["offset"] == 2
    # A result that is no JSON costs the whole answer.
    node.api("publish", channel=stream, b64data="/wD/")
    assert refusal(node, json.dumps({"method": "history", "params": {"channel": stream, "limit": 5}})) == 500


def test_H19_keys_paths_and_modes(node):
    # The same doors as for the other calls, and errors are never statuses here.
    command = json.dumps({"method": "publish", "params": {"channel": "nope:x", "data": 1}})
    assert node.http("POST", "/api", command)[0] == 401
    assert node.http("POST", "/api", command, {"Authorization": f"apikey {API_KEY}"})[0] == 200
    assert node.http("GET", "/api", headers=KEY)[0] == 405
    assert node.http("POST", "/api/", command, KEY)[0] == 404
    assert node.http("POST", "/api", command, {**KEY, "X-Centrifugo-Error-Mode": "transport"})[0] == 200
    with running({"http_api": {"handler_prefix": "/"}}) as other:
        assert send(other, command, path="/")[0]["error"]["code"] == 102
        assert other.http("POST", "/publish", "{}", KEY)[0] == 200
    with running({"http_api": {"disabled": True}}) as other:
        assert other.http("POST", "/api", command, KEY)[0] == 404


def test_H19_many_commands(node, fresh):
    # Long bodies are answered whole, and in order.
    stream = fresh("hist")
    commands = [{"id": n, "method": "publish", "params": {"channel": stream, "data": n}} for n in range(1, 701)]
    replies = send(node, *commands)
    assert [(reply["id"], reply["result"]["offset"]) for reply in replies] == [(n, n) for n in range(1, 701)]
