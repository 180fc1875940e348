"""The server API over HTTP: keys, status codes, every method, and the official Python library on top."""

import base64
import socket
import time

import cent
import pytest
from harness import Wire, eventually, running
from harness.node import API_KEY


def status(node, path="/api/info", body="{}", headers=None, method="POST"):
    return node.http(method, path, body, headers)[0]


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ({"X-API-Key": API_KEY}, "", 200),
        ({"Authorization": f"apikey {API_KEY}"}, "", 200),
        ({"Authorization": f"ApiKey {API_KEY}"}, "", 200),
        ({}, f"?api_key={API_KEY}", 200),
        ({"X-API-Key": "wrong"}, f"?api_key={API_KEY}", 200),
        ({}, "", 401),
        ({"X-API-Key": "wrong"}, "", 401),
        ({"X-API-Key": API_KEY + "x"}, "", 401),
        ({"X-API-Key": "wrong", "Authorization": f"apikey {API_KEY}"}, "", 401),
        ({"Authorization": f"Bearer {API_KEY}"}, "", 401),
        ({}, "?api_key=wrong", 401),
    ],
)
def test_H01_api_key(node, headers, query, expected):
    # Anybody could publish, or an existing backend could not.
    assert status(node, f"/api/info{query}", headers=headers) == expected


def test_H02_without_a_key_nobody_gets_in():
    # A forgotten key would leave the API open to the world.
    with running({"http_api": {"key": None}}) as node:
        assert status(node) == 401
        assert status(node, headers={"X-API-Key": ""}) == 401
    with running({"http_api": {"key": None, "insecure": True}}) as node:
        assert status(node) == 200


def test_H18_method_and_decode_errors(node):
    # Backends could not tell their own mistakes from trouble of the node.
    key = {"X-API-Key": API_KEY}
    assert status(node, method="GET", headers=key) == 405
    assert status(node, method="GET") == 405, "before the key is looked at"
    assert status(node, "/api/nonsense", headers=key) == 404
    for body in ("{bad", "", "[]", "7", "{} {}", '{"channel":5}', '{"channel":"a","skip_history":"yes"}'):
        assert status(node, "/api/publish", body, key) == 400, body


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("null", 107),
        ("{}", 107),
        ('{"channel":"open:x"}', 107),
        ('{"channel":"open:x","b64data":"%%%"}', 107),
        ('{"channel":"nope:x","data":1}', 102),
        ('{"channel":"open:x","data":null,"unknown":[1]}', None),
        ('{"CHANNEL":"open:x","Data":{}}', None),
    ],
)
def test_H04_publish_errors_have_status_200(node, body, code):
    # API libraries read the error from the body and treat other statuses as an outage.
    reply = node.api_reply("publish", body)
    assert reply.get("error", {}).get("code") == code, reply
    if code is None:
        assert reply == {"result": {}}


def test_H03_publish_result(node, fresh):
    # Backends that store positions would store nothing.
    assert node.publish(fresh("open"), {}) == {}
    result = node.publish(fresh("hist"), {})
    assert result["offset"] == 1 and len(result["epoch"]) == 8


def test_H05_b64data(node, fresh):
    # Backends without JSON could not publish.
    channel = fresh("open")
    with Wire.connected(node) as wire:
        wire.subscribe(channel)
        node.api("publish", channel=channel, b64data=base64.b64encode(b'{"n": 1}').decode())
        assert wire.data() == {"n": 1}
        # Encoders of MIME break lines.
        node.api("publish", channel=channel, b64data=base64.encodebytes(b'{"n": "%s"}' % (b"x" * 100)).decode())
        assert wire.data() == {"n": "x" * 100}


def test_H06_broadcast(node, fresh):
    # A notification to many users would be lost for all because of one bad channel.
    good, other = fresh("open"), fresh("hist")
    with Wire.connected(node) as wire:
        wire.subscribe(good)
        responses = node.api("broadcast", channels=[good, "nope:x", other], data={"n": 1})["responses"]
        assert responses[0] == {"result": {}}
        assert responses[1]["error"]["code"] == 102
        assert responses[2]["result"]["offset"] == 1
        assert wire.data() == {"n": 1}
    assert node.api_error("broadcast", data={}) == 107
    assert node.api_error("broadcast", channels=[good], b64data="%%%") == 107


def test_broadcast_to_many_channels(node, fresh):
    # Channels have their homes on different cores; each must get its copy.
    prefix = fresh("hist")
    names = [f"{prefix}.{n}" for n in range(500)]
    responses = node.api("broadcast", channels=names, data=1)["responses"]
    assert [response["result"]["offset"] for response in responses] == [1] * 500
    assert len({response["result"]["epoch"] for response in responses}) == 500


def test_H08_unsubscribe(node, fresh):
    # Somebody removed from a group would go on reading it.
    channel, user = fresh("members"), fresh()
    with Wire.connected(node, user) as wire, Wire.connected(node) as other:
        wire.subscribe(channel)
        wire.push("join")
        other.subscribe(channel)
        wire.push("join"), other.push("join")
        assert node.api("unsubscribe", user=user, channel=channel) == {}
        reason = {"code": 2000, "reason": "server unsubscribe"}
        assert wire.push("unsubscribe") == {"channel": channel, "unsubscribe": reason}
        assert other.push("leave")["leave"]["info"]["user"] == user
        node.publish(channel, 1)
        assert other.data() == 1
        wire.quiet(0.1)
        assert node.num_clients(channel) == 1
        wire.subscribe(channel)
    assert node.api_error("unsubscribe", user=user, channel="nope:x") == 102


def test_H08_unsubscribe_one_connection(node, fresh):
    # Closing one tab's access would close all tabs of the user.
    channel, user = fresh("open"), fresh()
    with Wire.connected(node, user) as one, Wire.connected(node, user) as two:
        one.subscribe(channel)
        two.subscribe(channel)
        node.api("unsubscribe", user=user, channel=channel, client=one.session["client"])
        assert one.push("unsubscribe")["unsubscribe"]["code"] == 2000
        node.publish(channel, 1)
        assert two.data() == 1


def test_H09_disconnect(node, fresh):
    # Banned users would stay connected, on whatever core they are.
    user = fresh()
    wires = [Wire.connected(node, user) for _ in range(5)]
    spared = wires.pop()
    with spared, Wire.connected(node, user + "x") as other:
        assert node.api("disconnect", user=user, whitelist=[spared.session["client"]]) == {}
        for wire in wires:
            assert wire.closed() == (3503, "force disconnect")
            wire.__exit__()
        given = {"code": 4501, "reason": "see you"}
        assert node.api("disconnect", user=user, client=spared.session["client"], disconnect=given) == {}
        assert spared.closed() == (4501, "see you")
        assert other.error(rpc={"method": "x"}) == 108
    assert node.api("disconnect", user="nobody-has-this-id") == {}


def test_H13_channels(node, fresh):
    # Operators would see a part of the channels, or count subscribers twice.
    prefix = fresh("open")
    names = [f"{prefix}.{n}" for n in range(20)]
    with Wire.connected(node) as one, Wire.connected(node) as two:
        for name in names:
            one.subscribe(name)
        two.subscribe(names[0])
        found = node.api("channels", pattern=f"{prefix}.*")["channels"]
        assert found == {name: {"num_clients": 2 if name == names[0] else 1} for name in names}
        assert list(node.api("channels", pattern=f"{prefix}.[0]")["channels"]) == [names[0]]
        assert set(names) <= set(node.api("channels")["channels"])
    assert node.api("channels", pattern="nothing:*") == {"channels": {}}
    assert node.api_error("channels", pattern="[") == 100


def test_H14_info(node, fresh):
    # Monitoring would show wrong totals when connections are spread over cores.
    channel = fresh("open")
    wires = [Wire.connected(node, fresh()) for _ in range(8)]
    for wire in wires:
        wire.subscribe(channel)
    (info,) = node.api("info")["nodes"]
    assert info["uid"] and info["name"].endswith(f"_{node.port}") and info["version"]
    assert info["num_clients"] >= 8 and info["num_users"] >= 8 and info["num_subs"] >= 8 and info["num_channels"] >= 1
    for wire in wires:
        wire.__exit__()
    eventually(lambda: node.api("info")["nodes"][0]["num_clients"] < 8, what="closed connections out of the count")


def test_results_that_are_no_json(node, fresh):
    # Binary data must not break the envelope that the backend parses.
    channel = fresh("hist")
    node.api("publish", channel=channel, b64data="/wD/")
    assert status(node, "/api/history", f'{{"channel":"{channel}","limit":1}}', {"X-API-Key": API_KEY}) == 500


def test_H21_official_python_library(node, fresh):
    # The library validates every field of every answer.
    channel, user = fresh("members"), fresh()
    api = cent.Client(f"http://127.0.0.1:{node.port}/api", API_KEY)
    with Wire.connected(node, user) as wire:
        wire.subscribe(channel)
        assert api.publish(cent.PublishRequest(channel=channel, data={"n": 1})).offset == 0
        position = api.publish(cent.PublishRequest(channel=fresh("hist"), data={}, idempotency_key="x"))
        assert position.offset == 1 and position.epoch
        broadcast = api.broadcast(cent.BroadcastRequest(channels=[channel, "nope:x"], data=2))
        assert broadcast.responses[0].error is None and broadcast.responses[1].error.code == 102
        presence = api.presence(cent.PresenceRequest(channel=channel)).presence
        assert presence[wire.session["client"]].user == user
        assert api.presence_stats(cent.PresenceStatsRequest(channel=channel)).num_users == 1
        history = fresh("hist")
        for n in range(3):
            api.publish(cent.PublishRequest(channel=history, data=n))
        page = api.history(cent.HistoryRequest(channel=history, limit=2, reverse=True))
        assert [p.offset for p in page.publications] == [3, 2] and page.offset == 3
        api.history_remove(cent.HistoryRemoveRequest(channel=history))
        assert api.channels(cent.ChannelsRequest(pattern=channel)).channels[channel].num_clients == 1
        assert api.info(cent.InfoRequest()).nodes[0].num_clients >= 1
        api.unsubscribe(cent.UnsubscribeRequest(user=user, channel=channel))
        api.disconnect(cent.DisconnectRequest(user=user))
        assert wire.closed()[0] == 3503
        with pytest.raises(cent.CentApiResponseError) as refused:
            api.publish(cent.PublishRequest(channel="nope:x", data={}))
        assert refused.value.code == 102
    with pytest.raises(cent.CentUnauthorizedError):
        cent.Client(f"http://127.0.0.1:{node.port}/api", "wrong").info(cent.InfoRequest())


def test_H21_base_address_that_ends_in_a_slash(node, fresh):
    # Whoever writes it like that would get 404 for every call. As upstream.
    client = cent.Client(f"http://127.0.0.1:{node.port}/api/", api_key=API_KEY)
    assert client.publish(cent.PublishRequest(channel=fresh("hist"), data=1)).offset == 1
    status, headers, _ = node.http("POST", "/api//publish?a=b", "{}")
    assert (status, headers["Location"]) == (307, "/api/publish?a=b")
    assert node.http("POST", "/api//nosuch", "{}")[0] == 404


@pytest.mark.parametrize(("path", "code"), [("/api//info", 307), ("/api/nosuch", 404), ("/api/info", 401)])
def test_refused_before_the_body_is_there(node, path, code):
    # The connection would end without a word, and the client's next call on it would be lost.
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as client, client.makefile("rb") as answers:
        for _ in range(3):
            client.sendall(f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n".encode())
            time.sleep(0.05)
            client.sendall(b"{}")
            head = iter(answers.readline, b"\r\n")
            assert next(head).startswith(b"HTTP/1.1 %d" % code)
            headers = {name.lower(): value.strip() for name, value in (line.split(b":", 1) for line in head)}
            assert b"connection" not in headers
            answers.read(int(headers[b"content-length"]))
