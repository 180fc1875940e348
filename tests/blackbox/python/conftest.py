"""Fixtures of all files: the shared process per core count, and names nobody else uses."""

import itertools
import os

import pytest
from harness import CORES, Gyre

os.environ["NO_PROXY"] = "127.0.0.1"
_numbers = itertools.count(1)


@pytest.fixture(scope="session", params=CORES, ids=lambda cores: f"cores{cores}")
def node(request):
    """A process with config.json, once per core count. Tests share it: use `fresh` for channels and users."""
    gyre = Gyre(cores=request.param)
    try:
        yield gyre.start()
        gyre.stop()
    finally:
        gyre.end()


@pytest.fixture
def fresh():
    """fresh("open") -> a channel of that namespace (or a bare name) that no other test uses."""

    def name(namespace=""):
        return f"{namespace}:{next(_numbers)}" if namespace else f"name{next(_numbers)}"

    return name
