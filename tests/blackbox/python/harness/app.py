"""A node that asks one backend about everything, over HTTP or over gRPC, and the words that tests of it share."""

import contextlib
import dataclasses

import pytest

from .backend import Backend
from .grpc_backend import GrpcBackend
from .node import BASE_CONFIG, Gyre, running
from .several import QUICK
from .wire import Wire

BACKENDS = {"http": Backend, "grpc": GrpcBackend}
# For tests that wait for seconds for something in which the two do not differ.
over_http = pytest.mark.parametrize("asking_node", ["http"], indirect=True)
# What the timeout of all proxies is unless a test says otherwise: long for a laden machine, short for a test.
TIMEOUT = "2s"
KEPT = {"history_size": 100, "history_ttl": "300s"}
NAMESPACES = [
    {"name": "asked", "subscribe_proxy_enabled": True},
    {"name": "askedkept", "subscribe_proxy_enabled": True, "force_recovery": True, **KEPT},
    {"name": "askedpositions", "subscribe_proxy_enabled": True, "allow_recovery": True, "allow_positioning": True, **KEPT},
    {"name": "askedmembers", "subscribe_proxy_enabled": True, "presence": True, "join_leave": True},
    {"name": "askedusers", "subscribe_proxy_enabled": True, "allow_user_limited_channels": True},
    {
        "name": "subrefresh",
        "subscribe_proxy_enabled": True,
        "sub_refresh_proxy_enabled": True,
        "presence": True,
        "allow_subscribe_for_client": True,
    },
    {"name": "askedpub", "publish_proxy_enabled": True, "allow_subscribe_for_client": True, **KEPT},
    {"name": "askedjson", "publish_proxy_enabled": True, "publication_data_format": "json"},
]


def namespaces(*more):
    """Those of config.json and more: a list is replaced as a whole."""
    return {"channel": {"namespaces": BASE_CONFIG["channel"]["namespaces"] + list(more)}}


def everything(backend, **options):
    """Configuration of a node that asks this backend about all events; `options` are those of every proxy."""

    def at(event):
        return {"endpoint": backend.url(event), "timeout": TIMEOUT, **options}

    return {
        "client": {
            **QUICK["client"],
            "expired_close_delay": "1s",
            "expired_sub_close_delay": "1s",
            "proxy": {"connect": {"enabled": True, **at("connect")}, "refresh": {"enabled": True, **at("refresh")}},
        },
        "channel": {
            "proxy": {event: at(event) for event in ("subscribe", "publish", "sub_refresh")},
            **namespaces(*NAMESPACES)["channel"],
        },
        "rpc": {
            "proxy": at("rpc"),
            "without_namespace": {"proxy_enabled": True},
            "namespaces": [{"name": "on", "proxy_enabled": True}, {"name": "off"}],
        },
    }


@dataclasses.dataclass
class App:
    """A node and its backend."""

    node: Gyre
    backend: object

    def wire(self, user="42", *, fields=None, headers=None, **answer):
        """A connection that the backend lets in as this user; `answer` are further fields of its result."""
        self.backend["connect"] = {"result": {"user": user, **answer}}
        wire = Wire(self.node, headers=headers)
        wire.session = wire.call(connect=fields or {})["connect"]
        wire.user, wire.client = user, wire.session["client"]
        return wire

    def about(self, wire):
        """What every call about this connection holds."""
        encoding = {"transport": "websocket", "protocol": "json", "encoding": "json"}
        return {"client": wire.client, "user": wire.user, **encoding}

    def members(self, channel):
        """Presence as the API tells it."""
        return self.node.api("presence", channel=channel)["presence"]


@contextlib.contextmanager
def app(kind="http", *, cores=2, changes=None, **options):
    """A started pair of them. `options` are those of every proxy, `changes` is called with the backend for a whole
    configuration instead."""
    with BACKENDS[kind]() as backend:
        made = changes(backend) if changes else everything(backend, **options)
        with running(made, cores=cores) as node:
            yield App(node, backend)
