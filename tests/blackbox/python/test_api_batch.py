"""Server API: several commands in one call, methods without a subject here, and errors as HTTP statuses."""

import json

import cent
import pytest
from harness import Wire, eventually, running
from harness.node import API_KEY

KEY = {"X-API-Key": API_KEY}
TRANSPORT = {**KEY, "X-Centrifugo-Error-Mode": "transport"}
NOT_FOUND = {"error": {"code": 104, "message": "not found"}}
BAD_REQUEST = {"error": {"code": 107, "message": "bad request"}}
NOT_AVAILABLE = {"error": {"code": 108, "message": "not available"}}


def batch(node, *commands, **rest):
    return node.api_reply("batch", {"commands": commands, **rest}).get("replies", [])


def publish(channel, data):
    return {"publish": {"channel": channel, "data": data}}


def answer(node, method, body, headers=KEY):
    status, _, text = node.http("POST", f"/api/{method}", json.dumps(body), headers)
    return status, json.loads(text)


@pytest.mark.parametrize("parallel", [False, True])
def test_H15_batch(node, fresh, parallel):
    # A backend that sends its commands together would take one command's answer for another's.
    stream, open_channel = fresh("hist"), fresh("open")
    first = node.publish(stream, {"n": 1})
    with Wire.connected(node) as wire:
        wire.subscribe(open_channel)
        replies = batch(
            node,
            publish(open_channel, {"a": [1, None]}),
            {"history": {"channel": stream, "limit": 10}},
            publish("nope:x", 1),
            {"nonsense": {}},
            None,
            {},
            {"presence_stats": {"channel": fresh("members")}},
            {"broadcast": {"channels": [open_channel, "nope:x"], "data": 2}},
            parallel=parallel,
        )
        assert replies[0] == {"publish": {}}
        assert replies[1]["history"]["publications"] == [{"data": {"n": 1}, "offset": 1}]
        assert replies[1]["history"]["epoch"] == first["epoch"]
        assert replies[2] == {"error": {"code": 102, "message": "unknown channel"}}
        assert replies[3:6] == [NOT_FOUND, BAD_REQUEST, NOT_FOUND]
        assert replies[6] == {"presence_stats": {"num_clients": 0, "num_users": 0}}
        responses = replies[7]["broadcast"]["responses"]
        assert responses[0] == {"result": {}} and responses[1]["error"]["code"] == 102
        assert len(replies) == 8
        assert [wire.data(), wire.data()] == [{"a": [1, None]}, 2]


def test_H15_batch_sees_what_it_did(node, fresh):
    # One after another is the promise: a history would miss the publication just before it.
    stream = fresh("hist")
    commands = []
    for n in range(1, 4):
        commands += [publish(stream, n), {"history": {"channel": stream, "limit": -1}}]
    replies = batch(node, *commands)
    for n in range(1, 4):
        assert replies[2 * n - 2]["publish"]["offset"] == n
        page = replies[2 * n - 1]["history"]["publications"]
        assert [publication["data"] for publication in page] == list(range(1, n + 1))


def test_H15_parallel_batch_keeps_the_order_of_replies(node, fresh):
    # More commands than may be under way at a time, with their homes on all cores.
    prefix = fresh("hist")
    names = [f"{prefix}.{n}" for n in range(1500)]
    replies = batch(node, *(publish(name, name) for name in names), parallel=True)
    assert [reply["publish"]["offset"] for reply in replies] == [1] * 1500
    replies = batch(node, *({"history": {"channel": name, "limit": 1}} for name in names), parallel=True)
    assert [reply["history"]["publications"][0]["data"] for reply in replies] == names


def test_H15_of_several_methods_one_is_chosen(node, fresh):
    # Both would be done, or the one that the reply does not tell of.
    stream, other = fresh("hist"), fresh("hist")
    (reply,) = batch(node, {"history": {"channel": other, "limit": 1}, **publish(stream, 1)})
    assert reply["publish"]["offset"] == 1
    (reply,) = batch(node, {"info": {}, "history_remove": {"channel": stream}})
    assert reply == {"history_remove": {}}


def test_H15_bodies_of_batches(node, fresh):
    # A call with a mistake in it must not be half done; an empty one is no mistake.
    channel = fresh("hist")
    good = json.dumps(publish(channel, 1))
    for body in ("{}", "null", '{"commands":[]}', '{"commands":null,"parallel":true}'):
        assert node.api_reply("batch", body) == {}, body
    for body in ("[]", "", f'{{"commands":[{good},{{"publish":{{"channel":5}}}}]}}', '{"commands":[[]]}', f"[{good}]"):
        assert node.http("POST", "/api/batch", body, KEY)[0] == 400, body
    assert node.api("history", channel=channel, limit=-1)["publications"] == []
    assert node.http("POST", "/api/batch", "{}")[0] == 401


def test_H15_batch_with_a_result_that_is_no_json(node, fresh):
    # Binary data must not break the envelope that the backend parses.
    channel = fresh("hist")
    node.api("publish", channel=channel, b64data="/wD/")
    body = json.dumps({"commands": [{"history": {"channel": channel, "limit": 1}}]})
    assert node.http("POST", "/api/batch", body, KEY)[0] == 500


def test_H21_official_python_library_in_batches(node, fresh):
    # The library indexes each reply by its method and validates what it finds there.
    stream, user = fresh("hist"), fresh()
    api = cent.Client(f"http://127.0.0.1:{node.port}/api", API_KEY)
    with Wire.connected(node, user) as wire:
        for parallel in (False, True):
            replies = api.batch(
                cent.BatchRequest(
                    requests=[
                        cent.PublishRequest(channel=stream, data={"n": 1}),
                        cent.BroadcastRequest(channels=[fresh("open"), "nope:x"], data=1),
                        cent.HistoryRequest(channel=stream, limit=1),
                        cent.UnsubscribeRequest(user=user, channel=stream),
                        cent.InfoRequest(),
                        cent.ChannelsRequest(pattern="nothing"),
                    ],
                    parallel=parallel,
                )
            ).replies
            assert replies[0].offset >= 1 and replies[0].epoch
            assert replies[1].responses[1].error.code == 102
            assert replies[2].publications[0].data == {"n": 1}
            assert replies[4].nodes[0].num_clients >= 1
            assert replies[5].channels == {}
        api.batch(cent.BatchRequest(requests=[cent.DisconnectRequest(user=user)]))
        assert wire.closed()[0] == 3503


def test_H16_rpc(node):
    # Libraries tell "there is no such method" from "you forgot the name".
    assert node.api_reply("rpc", {"method": "anything", "params": {"a": 1}}) == NOT_FOUND
    assert node.api_reply("rpc", {"params": None}) == BAD_REQUEST
    assert batch(node, {"rpc": {"method": "x"}}, {"rpc": {}}) == [NOT_FOUND, BAD_REQUEST]
    assert node.http("POST", "/api/rpc", '{"method":5}', KEY)[0] == 400


def test_N13_user_status_that_is_off(node):
    # A backend must hear that nothing is kept, rather than that nobody was ever there.
    for method in ("update_user_status", "get_user_status", "delete_user_status"):
        assert node.api_reply(method, {"users": ["42"]}) == NOT_AVAILABLE
        assert batch(node, {method: {"users": ["42"]}}) == [NOT_AVAILABLE]
        assert node.http("POST", f"/api/{method}", '{"users":"42"}', KEY)[0] == 400


@pytest.mark.parametrize(
    ("method", "body", "status", "code"),
    [
        ("publish", {"channel": "nope:x", "data": 1}, 404, 102),
        ("rpc", {"method": "x"}, 404, 104),
        ("publish", {"channel": "open:x"}, 400, 107),
        ("history", {"channel": "open:x"}, 400, 108),
        ("channels", {"pattern": "["}, 500, 100),
    ],
)
def test_H17_errors_as_statuses(node, method, body, status, code):
    # Gateways and libraries that go by the status would take failures for successes.
    got, error = answer(node, method, body, TRANSPORT)
    assert (got, error["code"], sorted(error)) == (status, code, ["code", "message"])
    got, envelope = answer(node, method, body)
    assert (got, envelope) == (200, {"error": error})
    got, envelope = answer(node, method, body, {**KEY, "X-Centrifugo-Error-Mode": "other"})
    assert (got, envelope) == (200, {"error": error})


def test_H17_position_that_is_gone(node, fresh):
    # 416 is how a backend learns to start over.
    since = {"offset": 1, "epoch": "other"}
    channel = fresh("hist")
    node.publish(channel, 1)
    assert answer(node, "history", {"channel": channel, "limit": 1, "since": since}, TRANSPORT)[0] == 416


def test_H17_what_has_no_status(node, fresh):
    # A partial failure must not hide what has succeeded.
    channel = fresh("hist")
    body = {"commands": [publish(channel, 1), publish("nope:x", 1)]}
    status, replies = answer(node, "batch", body, TRANSPORT)
    assert status == 200 and replies["replies"][0]["publish"]["offset"] == 1
    assert replies["replies"][1]["error"]["code"] == 102
    status, result = answer(node, "broadcast", {"channels": [channel, "nope:x"], "data": 1}, TRANSPORT)
    assert status == 200 and result["result"]["responses"][1]["error"]["code"] == 102
    assert answer(node, "publish", {"channel": channel, "data": 1}, TRANSPORT)[1]["result"]["offset"] == 3
    assert node.http("POST", "/api/publish", "{bad", TRANSPORT)[::2] == (400, b"Bad Request\n")


def test_H17_errors_as_statuses_by_configuration(fresh):
    # The operator chooses for callers who cannot send a header.
    with running({"http_api": {"error_mode": "transport"}}) as node:
        assert answer(node, "publish", {"channel": "nope:x", "data": 1})[0] == 404
        assert answer(node, "publish", {"channel": fresh("open"), "data": 1}) == (200, {"result": {}})
        assert answer(node, "batch", {"commands": [None]}) == (200, {"replies": [BAD_REQUEST]})


def test_H17_unknown_mode_is_refused():
    # A typing mistake would leave every error a success.
    with pytest.raises(RuntimeError, match="http_api.error_mode"), running({"http_api": {"error_mode": "http"}}):
        pass


def test_L01_commands_of_batches_are_counted():
    # Error rates per method would miss whatever backends send in batches.
    with running() as node:
        node.api_error("publish", channel="nope:x", data=1)
        batch(node, publish("nope:x", 1), publish("open:x", 1), {"info": {}})
        name = 'centrifugo_api_command_errors_total{protocol="http",method="publish",error="102"}'
        calls = 'gyre_api_calls_total{protocol="http",method="publish"}'

        def samples():
            lines = node.http("GET", "/metrics")[2].decode().splitlines()
            return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))

        eventually(lambda: samples().get(calls) == "3" and samples().get(name) == "2", within=12, what="counted calls")
        assert samples()['gyre_api_calls_total{protocol="http",method="batch"}'] == "1"


def test_L02_mistakes_of_backends_are_counted(fresh):
    # An alert on calls that nobody understands, as dashboards for upstream have it, would stay silent.
    with running() as node:
        assert node.http("POST", "/api/publish", "{bad", KEY)[0] == 400
        binary = fresh("hist")
        node.api("publish", channel=binary, b64data="/w==")
        body = json.dumps({"channel": binary, "limit": 1})
        assert node.http("POST", "/api/history", body, KEY)[0] == 500
        batch(node, {"connections": {}})

        def labels():
            lines = node.http("GET", "/metrics")[2].decode().splitlines()
            return [line.split("{")[1] for line in lines if line.startswith("centrifugo_api_command_errors_total{")]

        expected = [
            'protocol="http",method="history",error="marshal"} 1',
            'protocol="http",method="publish",error="unmarshal"} 1',
            'protocol="http",method="unknown",error="104"} 1',
        ]
        eventually(lambda: labels() == expected, within=12, what="counted mistakes")
