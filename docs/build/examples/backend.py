"""A backend for Gyre in plain Python: who may connect, read and write, calls, state events, empty caches.

    python3 backend.py            listens on 127.0.0.1:3000, calls Gyre's API at http://127.0.0.1:8000/api

Gyre asks by POST with a JSON object and takes an answer of status 200: {"result": {…}}, {"error": {"code", "message"}} or
{"disconnect": {"code", "reason"}}. PORT, GYRE_API and GYRE_API_KEY in the environment change the defaults.
"""

import http.cookies
import http.server
import json
import os
import urllib.request

PORT = int(os.environ.get("PORT", "3000"))
GYRE_API = os.environ.get("GYRE_API", "http://127.0.0.1:8000/api")
GYRE_API_KEY = os.environ.get("GYRE_API_KEY", "change-me")

# In real life: your sessions, members and messages.
SESSIONS = {"ann-session": "ann", "bob-session": "bob"}
MEMBERS = {"room:1": {"ann", "bob"}, "room:2": {"ann"}}
MESSAGES = {"room:1": [{"from": "bob", "text": "Hello!"}]}
SCORES = {"score:final": {"home": 2, "away": 1}}
occupied = set()


def connect(call, headers):
    """Who is it? Gyre has forwarded the cookie of the page."""
    cookie = http.cookies.SimpleCookie(headers.get("Cookie", ""))
    user = SESSIONS.get(cookie["session"].value) if "session" in cookie else None
    if user is None:
        # 4500 and above: do not come back by yourself.
        return {"disconnect": {"code": 4501, "reason": "sign in first"}}
    return {"result": {"user": user, "info": {"name": user.title()}}}


def subscribe(call, headers):
    """May this user read the channel? The first data travels with the answer."""
    channel = call["channel"]
    if call["user"] not in MEMBERS.get(channel, ()):
        return {"error": {"code": 403, "message": "not a member"}}
    return {"result": {"data": {"messages": MESSAGES.get(channel, [])}}}


def publish(call, headers):
    """May this user write it? Others get what we answer, not what the client sent."""
    channel, user = call["channel"], call["user"]
    text = call["data"].get("text") if isinstance(call["data"], dict) else None
    if user not in MEMBERS.get(channel, ()):
        return {"error": {"code": 403, "message": "not a member"}}
    if not isinstance(text, str) or not 0 < len(text) <= 500:
        return {"error": {"code": 400, "message": "text of 1 to 500 characters expected"}}
    message = {"from": user, "text": text}
    MESSAGES.setdefault(channel, []).append(message)
    return {"result": {"data": message}}


def rpc(call, headers):
    """Anything else a client may want to know."""
    if call["method"] == "rooms":
        return {"result": {"data": sorted(room for room, users in MEMBERS.items() if call["user"] in users)}}
    if call["method"] == "occupied":
        return {"result": {"data": sorted(occupied)}}
    return {"error": {"code": 404, "message": "no such method"}}


def state(call, headers):
    """Channels that got their first subscriber, and that have lost the last one. May be told twice."""
    for event in call["events"]:
        if event["type"] == "occupied":
            occupied.add(event["channel"])
        elif event["type"] == "vacated":
            occupied.discard(event["channel"])
    return {"result": {}}


def cache_empty(call, headers):
    """A subscriber wants the latest state of a channel, and Gyre has none: publish it, and say so."""
    channel = call["channel"]
    if channel not in SCORES:
        return {"result": {"populated": False}}
    gyre("publish", channel=channel, data=SCORES[channel])
    return {"result": {"populated": True}}


EVENTS = {
    "/connect": connect,
    "/subscribe": subscribe,
    "/publish": publish,
    "/rpc": rpc,
    "/state": state,
    "/cache_empty": cache_empty,
}


def gyre(method, **request):
    """One call of Gyre's server API."""
    headers = {"Content-Type": "application/json", "X-API-Key": GYRE_API_KEY}
    call = urllib.request.Request(f"{GYRE_API}/{method}", json.dumps(request).encode(), headers)
    with urllib.request.urlopen(call, timeout=5) as answer:
        reply = json.load(answer)
    if "error" in reply:
        raise RuntimeError(f"{method}: {reply['error']}")
    return reply["result"]


class Backend(http.server.BaseHTTPRequestHandler):
    """One connection from a node. HTTP/1.1 keeps it open, so that a call does not begin with a handshake."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        handle = EVENTS.get(self.path)
        try:
            status, answer = (200, handle(json.loads(body), self.headers)) if handle else (404, {})
        except Exception as error:
            # Gyre answers its client with error 100, and logs the status.
            self.log_error("%s: %r", self.path, error)
            status, answer = 500, {}
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Backend)
    print(f"listening on http://127.0.0.1:{PORT}", flush=True)
    server.serve_forever()
