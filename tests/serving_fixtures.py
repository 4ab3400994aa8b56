"""Both protocols and both ways of waiting, so that each test of the client runs for all: a pytest plugin."""

from __future__ import annotations

import contextlib

import pytest
from scripted_servers import SERVERS
from serving_ways import WAYS

from serving import retry


@pytest.fixture(scope="module", params=["threads", "asyncio"])
def connect(request):
    return WAYS[request.param]


@pytest.fixture(scope="module", params=["grpc", "http"])
def scheme(request):
    return request.param


@pytest.fixture
def hurried(monkeypatch):
    """No pause between attempts."""
    monkeypatch.setattr(retry, "BASE", 0.0)


@pytest.fixture
def play(scheme, connect, hurried):
    """`play(script, options)`: a predictor of a model on a server that plays the script."""
    with contextlib.ExitStack() as stack:

        def start(script, options=None, model="echo"):
            target = stack.enter_context(SERVERS[scheme](script))
            return stack.enter_context(connect(f"{scheme}://{target}/{model}", options))

        yield start
