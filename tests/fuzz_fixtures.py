"""A server to attack, and the watch over its files: a pytest plugin."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def files():
    from fuzz_target import Files

    return Files()


@pytest.fixture(scope="module")
def target(tiny_export, toy):
    import grpc
    from fuzz_target import Target

    from serving.server import Batching, ModelConfig, Server, Settings

    models = ModelConfig("tiny", tiny_export.parent), ModelConfig("toy", toy.parent, labels={"stable": 1})
    limits = {"max_message_bytes": 2**20, "max_json_bytes": 2**18}
    config = Settings(models, port=0, rest_api_port=0, batching=Batching(max_batch_size=64), poll_seconds=0.0, **limits)
    with Server(config) as server, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        found = Target(server, channel)
        found.still_answers()
        yield found
