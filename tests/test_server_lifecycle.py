"""The development server from start to stop: versions that come and go under load, deadlines, clients that leave."""

from __future__ import annotations

import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("grpc", reason="needs the extra 'serving'")
pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

import tensorflow as tf
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from server_stubs import SECONDS, X, predict_request, refused, serving, settings_of, stubs_of
from tensorflow_serving.apis import prediction_log_pb2

from musicnet_tf.errors import ConfigError, ServingError
from serving.server import Batching, ModelConfig, Server, VersionPolicy, config_files

pytest_plugins = ["toy_servables"]


def test_versions_are_swapped_under_load_without_a_lost_request(toy_model):
    answered = []
    with serving(ModelConfig("toy", toy_model), poll_seconds=0.01) as (_, stubs):
        done = threading.Event()

        def ask():
            while not done.is_set():
                request = predict_request(x=X, y=X)
                response = stubs.prediction.Predict(request, SECONDS)  # raises where one is lost
                assert response.outputs["sum"].tensor_content == (X + X).tobytes()
                answered.append(response.model_spec.version.value)

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask) for _ in range(4)]
            try:
                for version in (2, 3, 4):
                    shutil.copytree(toy_model / "1", toy_model / ".part")
                    (toy_model / ".part").rename(toy_model / str(version))
                    while not answered or answered[-1] < version:
                        assert not [future for future in asking if future.done()]
            finally:
                done.set()
            for future in asking:
                future.result(SECONDS)
        assert set(answered) == {1, 2, 3, 4}
        assert stubs.status("toy")[4] == "AVAILABLE"


def test_a_version_is_warmed_up_with_the_requests_that_it_brings(toy_model):
    assets = toy_model / "1" / "assets.extra"
    assets.mkdir()

    def bring(**inputs):
        log = prediction_log_pb2.PredictionLog(predict_log={"request": predict_request(**inputs)})
        with tf.io.TFRecordWriter(str(assets / "tf_serving_warmup_requests")) as writer:
            writer.write(log.SerializeToString())

    bring(x=X, y=X)
    with serving(ModelConfig("toy", toy_model)) as (server, stubs):
        assert stubs.status("toy") == {1: "AVAILABLE"}
        bring(signature="picky", x=np.float32([-1]))
        shutil.copytree(toy_model / "1", toy_model / "2")
        server.models.poll()
        assert stubs.status("toy") == {2: "END", 1: "AVAILABLE"}


def test_a_damaged_version_takes_nothing_down(toy_model):
    (toy_model / "2").mkdir()
    (toy_model / "2" / "saved_model.pb").write_bytes(b"\xff nonsense")
    (toy_model / "3").mkdir()
    (toy_model / "3" / "saved_model.pb").write_bytes(b"")
    (toy_model / "4").mkdir()
    whole = (toy_model / "1" / "saved_model.pb").read_bytes()
    (toy_model / "4" / "saved_model.pb").write_bytes(whole[: len(whole) // 2])
    with serving(ModelConfig("toy", toy_model, VersionPolicy(all=True))) as (_, stubs):
        assert stubs.status("toy") == {4: "END", 3: "END", 2: "END", 1: "AVAILABLE"}
        assert stubs.predict(version=1, x=X, y=X)["sum"].tolist() == [[2, 4]]


def test_models_are_taken_from_the_file_when_it_changes(toy_model, tmp_path):
    config = tmp_path / "models.config"
    one = 'model_config_list {{ config {{ name: "{}" base_path: "{}" }} }}'
    config.write_text(one.format("first", toy_model))
    changes = {"model_config_file": config, "model_config_poll_seconds": 0.01}
    models = config_files.read_models(config)
    with Server(settings_of(*models, **changes)) as server, stubs_of(server) as stubs:
        assert stubs.predict("first", x=X, y=X)["sum"].tolist() == [[2, 4]]
        config.write_text("nonsense")
        config.write_text(one.format("second", toy_model))
        while "second" not in server.models.names():
            pass
        assert stubs.predict("second", x=X, y=X)["sum"].tolist() == [[2, 4]]
        assert refused(stubs.predict, "first", x=X, y=X)[0] is StatusCode.NOT_FOUND


@pytest.fixture
def slow_server(toy_model):
    """A server whose model answers when `let_go` is set; `held` is set once it has begun."""
    with serving(ModelConfig("toy", toy_model), batching=Batching(num_batch_threads=1), grpc_max_threads=4) as (
        server,
        stubs,
    ):
        with server.models.acquire("toy") as (_, servable):
            run, held, let_go = servable.run, threading.Event(), threading.Event()

            def slowly(signature, inputs):
                held.set()
                assert let_go.wait(SECONDS)
                return run(signature, inputs)

            servable.run = slowly
        yield server, stubs, held, let_go
        let_go.set()


def test_a_deadline_that_passes_in_the_queue_is_told_and_the_request_is_not_run(slow_server):
    server, stubs, held, let_go = slow_server
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(stubs.predict, x=X, y=X)
        assert held.wait(SECONDS)
        assert refused(stubs.predict, x=X, y=X, timeout=0.05)[0] is StatusCode.DEADLINE_EXCEEDED
        let_go.set()
        assert running.result(SECONDS)["sum"].tolist() == [[2, 4]]
        assert stubs.predict(x=X, y=X)["sum"].tolist() == [[2, 4]]
    ran = server.metrics.registry.get_sample_value("tensorflow_serving_batching_session_processed_batch_size_count")
    assert ran == 2


def test_requests_beyond_the_threads_and_those_that_wait_are_refused(slow_server):
    server, stubs, held, let_go = slow_server
    room = 2 * server.settings.grpc_max_threads
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(stubs.predict, x=X, y=X)
        assert held.wait(SECONDS)
        others = [stubs.prediction.Predict.future(predict_request(x=X, y=X), SECONDS) for _ in range(room + 4)]
        while len(refused := [call for call in others if call.done()]) < 5:
            pass
        assert {call.code() for call in refused} == {StatusCode.RESOURCE_EXHAUSTED}
        let_go.set()
        assert running.result(SECONDS)["sum"].tolist() == [[2, 4]]
        codes = [call.code() for call in others]
        assert codes.count(StatusCode.RESOURCE_EXHAUSTED) == 5
        assert codes.count(StatusCode.OK) == room - 1


def test_when_stopped_running_requests_end_and_new_ones_are_refused(slow_server):
    server, stubs, held, let_go = slow_server
    watch = stubs.health.Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(stubs.predict, x=X, y=X)
        assert held.wait(SECONDS)
        stopping = pool.submit(server.stop, SECONDS)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        while server._requests.gate.is_open:
            pass
        with stubs_of(server) as late:
            assert refused(late.predict, x=X, y=X) == (StatusCode.UNAVAILABLE, "the server is being stopped")
            assert late.check() == health_pb2.HealthCheckResponse.NOT_SERVING
        assert not stopping.done()
        let_go.set()
        assert running.result(SECONDS)["sum"].tolist() == [[2, 4]]
        stopping.result(SECONDS)


def test_a_client_that_goes_away_takes_its_request_with_it(slow_server):
    server, stubs, held, let_go = slow_server
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(stubs.predict, x=X, y=X)
        assert held.wait(SECONDS)
        waiting = stubs.prediction.Predict.future(predict_request(x=X, y=X), SECONDS)
        while not server._scheduler._queue:
            pass
        (task,) = server._scheduler._queue
        waiting.cancel()
        while not task.future.cancelled():
            pass
        let_go.set()
        assert running.result(SECONDS)["sum"].tolist() == [[2, 4]]


def test_a_port_that_is_taken_is_named(toy):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for change, flag in [({"port": port}, "--port"), ({"rest_api_port": port}, "--rest_api_port")]:
            with pytest.raises(ServingError, match=rf"127.0.0.1:{port}: cannot listen there.*{flag}"):
                Server(settings_of(ModelConfig("toy", toy.parent), **change)).__enter__()


def test_a_label_without_its_version_keeps_the_server_from_starting(toy):
    with pytest.raises(ConfigError, match="label 'stable' names version 7"):
        Server(settings_of(ModelConfig("toy", toy.parent, labels={"stable": 7}))).__enter__()
