"""What strangers may send to a server: it answers rightly or refuses in a sentence, and the next request is served.

Each attack runs a few examples here and many more among the slow tests; all are drawn from fixed seeds. Here are the
bytes of WAV files, and protos; `test_fuzz_rest.py` has JSON and HTTP.
"""

from __future__ import annotations

import io
import struct
import threading
import wave

import numpy as np
import pytest

pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

from conftest import ROOT
from fuzz_target import METADATA, PREDICT, REFUSALS, STATUS, Target, attack, message, outputs
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from musicnet_tf import inference, windowing
from serving.server import Batching, Settings, rest_json

pytest_plugins = ["tiny_models", "toy_servables", "fuzz_fixtures"]
RATE = 16000


# ---- bytes of WAV files


def chunk(name: bytes, body: bytes, claimed: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if claimed is None else claimed) + body + b"\0" * (len(body) % 2)


def fmt(codec=1, channels=1, rate=RATE, byte_rate=None, align=None, bits=16, extra=b"") -> bytes:
    align = min(channels * 2, 2**16 - 1) if align is None else align
    byte_rate = rate * align if byte_rate is None else byte_rate
    return struct.pack("<HHIIHH", codec, channels, rate, byte_rate % 2**32, align, bits) + extra


SIZES = st.sampled_from([0, 1, 2, 16, 2**15, 2**24, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1])
FORMATS = st.builds(
    fmt,
    codec=st.sampled_from([1, 1, 1, 0, 3, 6, 7, 17, 85, 0xFFFE]),
    channels=st.sampled_from([1, 1, 2, 8, 0, 9, 2**16 - 1]),
    rate=st.sampled_from([RATE, RATE, RATE, 0, 1, 44100, 2**32 - 1]),
    byte_rate=st.none() | SIZES,
    align=st.none() | st.sampled_from([0, 1, 2, 2**16 - 1]),
    bits=st.sampled_from([16, 16, 16, 0, 8, 24, 32, 2**16 - 1]),
    extra=st.binary(max_size=6),
)
CHUNKS = st.one_of(
    st.builds(chunk, st.just(b"fmt "), FORMATS | st.just(fmt()), st.none() | SIZES),
    st.builds(chunk, st.just(b"data"), st.binary(max_size=900), st.none() | SIZES),
    st.builds(chunk, st.sampled_from([b"LIST", b"JUNK", b"fact", b"bext", b"\0\0\0\0"]), st.binary(max_size=20), SIZES),
    st.builds(chunk, st.sampled_from([b"LIST", b"JUNK"]), st.binary(max_size=20)),
    st.binary(max_size=9),
)


@st.composite
def wavs(draw) -> bytes:
    """Files in any state of disrepair, some of them sound."""
    usual = [chunk(b"fmt ", fmt(channels=draw(st.sampled_from([1, 2])))), chunk(b"data", draw(st.binary(max_size=900)))]
    chunks = draw(st.lists(CHUNKS, max_size=4)) if draw(st.booleans()) else usual
    chunks = draw(st.permutations(chunks)) if draw(st.booleans()) else chunks
    body = b"WAVE" + b"".join(chunks)
    whole = b"RIFF" + struct.pack("<I", draw(st.just(len(body)) | SIZES)) + body
    whole = bytearray(whole[: draw(st.just(len(whole)) | st.integers(0, len(whole)))])
    for at, value in draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=3)):
        if at < len(whole):
            whole[at] = value
    return bytes(whole)


def samples_of(whole: bytes) -> np.ndarray:
    """What is in a WAV of 16-bit PCM, by a reader of our own that knows chunks alone: `(samples, channels)`."""
    at, channels = 12, 0
    while at + 8 <= len(whole):
        name, size = whole[at : at + 4], int.from_bytes(whole[at + 4 : at + 8], "little")
        body = whole[at + 8 : at + 8 + size]
        if name == b"fmt ":
            channels = int.from_bytes(body[2:4], "little")
        if name == b"data":
            usable = len(body) // (2 * channels) * 2 * channels
            return np.frombuffer(body[:usable], "<i2").reshape(-1, channels)
        at += 8 + size + size % 2
    raise AssertionError("no samples")


@pytest.fixture(scope="module")
def heard(tiny_run):
    """The posteriorgram of samples, told without the server."""
    predictor = inference.load(tiny_run)

    def call(samples: np.ndarray) -> dict[str, np.ndarray]:
        mono = (samples / np.float32(32768)).mean(axis=1, dtype=np.float32)
        return windowing.posteriorgram(mono, predictor.manifest.geometry, predictor)

    return call


def check_wav(target: Target, heard, whole: bytes) -> None:
    request = message(inference.WAV_SIGNATURE, "tiny", wav=np.array([whole], object))
    code, answer = target.refuses_or_answers(PREDICT, request.SerializeToString())
    if code == "OK":
        found, expected = outputs(answer), heard(samples_of(whole))
        assert found[inference.NUM_FRAMES].tolist() == [len(expected["frame"])]
        for head, values in expected.items():
            np.testing.assert_allclose(found[head][0], values, rtol=0, atol=1e-5)


@attack(40)
@given(wavs())
def test_bytes_of_a_wav_are_heard_rightly_or_refused(target, heard, files, whole):
    with files.watched() as opened:
        check_wav(target, heard, whole)
    assert not opened


@pytest.mark.slow
@attack(1500)
@given(wavs())
def test_many_bytes_of_a_wav_are_heard_rightly_or_refused(target, heard, whole):
    check_wav(target, heard, whole)


def pcm(samples: int, channels: int = 1) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((channels, 2, RATE, 0, "NONE", ""))
        file.writeframes(bytes(2 * samples * channels))
    return buffer.getvalue()


def test_a_complaint_that_cannot_be_told_is_a_refusal_as_well(target):
    """TensorFlow quotes the name of a chunk, which is no text."""
    whole = b"RIFF\x25\0\0\0WAVE" + chunk(b"JUNK", b"") + chunk(b"\x80\xff\xfe\0", b"") + chunk(b"fmt ", fmt())
    request = message(inference.WAV_SIGNATURE, "tiny", wav=np.array([whole], object))
    found = target.refuses_or_answers(PREDICT, request.SerializeToString())
    assert found == ("INVALID_ARGUMENT", "the model refuses the bytes that it was given")


def test_sound_files_are_heard_as_such(target, heard):
    """Or the attack above would prove nothing."""
    noise = np.random.default_rng(0).integers(-9000, 9000, (700, 2)).astype("<i2").tobytes()
    body = b"WAVE" + chunk(b"fmt ", fmt(channels=2)) + chunk(b"LIST", b"abcd") + chunk(b"data", noise)
    whole = b"RIFF" + struct.pack("<I", len(body)) + body
    request = message(inference.WAV_SIGNATURE, "tiny", wav=np.array([whole], object))
    assert target.call(PREDICT, request.SerializeToString())[0] == "OK"
    check_wav(target, heard, whole)


def one_for_all() -> predict_pb2.PredictRequest:
    """A recording of which there are to be 64 copies: 12 kB that would become 64 times as much."""
    request = message(inference.WAV_SIGNATURE, "tiny", wav=np.array([pcm(6000)], object))
    request.inputs[inference.WAV].tensor_shape.dim[0].size = 64
    return request


def of_recordings(*recordings: bytes) -> predict_pb2.PredictRequest:
    return message(inference.WAV_SIGNATURE, "tiny", wav=np.array(recordings, object))


def padded_to(seconds: float, count: int) -> predict_pb2.PredictRequest:
    return of_recordings(pcm(int(seconds * RATE)), *[pcm(1)] * (count - 1))


@pytest.mark.parametrize(
    ("request_of", "code", "reason"),
    [
        (one_for_all, "INVALID_ARGUMENT", "'wav' says shape [64] but holds 1 values"),
        (lambda: padded_to(29, 64), "INVALID_ARGUMENT", "may have 28800000 samples together, 1800 seconds"),
        (lambda: of_recordings(pcm(10, 9)), "INVALID_ARGUMENT", "up to 8 channels"),
        (lambda: of_recordings(*[pcm(1)] * 65), "INVALID_ARGUMENT", "Task size 65 is larger than maximum"),
        (lambda: of_recordings(pcm(2**19)), "RESOURCE_EXHAUSTED", "vs. 1048576)"),
        (lambda: message("x" * 10_000), "FAILED_PRECONDITION", "xxx…"),
        (lambda: message(model="é" * 10_000), "NOT_FOUND", "éé…"),
        (lambda: message(**{f"x{n}": 0.0 for n in range(2000)}), "INVALID_ARGUMENT", "{x0,x1,x10,x100,x1000,x1001,"),
    ],
    ids=["repeated", "padded", "channels", "count", "size", "signature", "model", "names"],
)
def test_what_would_grow_is_refused_in_a_sentence(target, request_of, code, reason):
    found, told = target.refuses_or_answers(PREDICT, request_of().SerializeToString())
    assert found == code
    assert reason in told


# ---- protos

ANY_INT = st.sampled_from([0, 1, 2, 3, 64, -1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63)])
TENSORS = st.fixed_dictionaries(
    {"dtype": st.sampled_from([1, 1, 1, 3, 7, 7, 0, 2, 9, 10, 19, 20, 21, 23, 101])},
    optional={
        "tensor_shape": st.fixed_dictionaries(
            {"dim": st.lists(st.fixed_dictionaries({"size": ANY_INT}), max_size=3)},
            optional={"unknown_rank": st.booleans()},
        ),
        "tensor_content": st.binary(max_size=16),
        "float_val": st.lists(st.floats(width=32), max_size=4),
        "int_val": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
        "string_val": st.lists(st.binary(max_size=5), max_size=3),
        "half_val": st.lists(st.integers(0, 2**16), max_size=2),
        "version_number": st.integers(0, 3),
    },
)
SPECS = st.fixed_dictionaries(
    {"name": st.sampled_from(["toy", "toy", "tiny", "", "..", "\0", "é"])},
    optional={
        "signature_name": st.sampled_from(["picky", "ones", "echo", "wav", "describe", "serving_default", "no", "\n"]),
        "version": st.fixed_dictionaries({"value": ANY_INT}),
        "version_label": st.sampled_from(["stable", "", "no", "\r\n", ".."]),
    },
)


def request_of(spec: dict, inputs: dict, wanted: list) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(model_spec=spec, output_filter=wanted)
    for name, fields in inputs.items():
        request.inputs[name].CopyFrom(tensor_pb2.TensorProto(**fields))
    return request


REQUESTS = st.builds(
    request_of,
    SPECS.map(lambda spec: spec if "version" not in spec else {k: v for k, v in spec.items() if k != "version_label"}),
    st.dictionaries(st.sampled_from(["x", "y", "n", "text", "wav", "windows", "each", ""]), TENSORS, max_size=2),
    st.lists(st.sampled_from(["half", "sum", "text", "frame", "", "no"]), max_size=2),
).map(lambda request: request.SerializeToString())


@st.composite
def protos(draw) -> bytes:
    """Requests with anything in their fields, a few bytes of which may be others, or no request at all."""
    whole = bytearray(draw(st.one_of(REQUESTS, REQUESTS, REQUESTS, st.binary(max_size=40))))
    for at, value in draw(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 255)), max_size=3)):
        if whole:
            whole[at % len(whole)] = value
    return bytes(whole[: draw(st.just(len(whole)) | st.integers(0, len(whole)))])


def check_proto(target: Target, method: str, request: bytes) -> None:
    code, answer = target.refuses_or_answers(method, request)
    if code == "OK" and method == PREDICT:
        asked = predict_pb2.PredictRequest.FromString(request)
        assert set(asked.output_filter) in (set(), set(outputs(answer)))


@attack(120)
@given(st.sampled_from([PREDICT, PREDICT, PREDICT, METADATA, STATUS]), protos())
def test_protos_are_answered_or_refused(target, files, method, request):
    with files.watched() as opened:
        check_proto(target, method, request)
    assert not opened


@pytest.mark.slow
@attack(5000)
@given(st.sampled_from([PREDICT, PREDICT, PREDICT, METADATA, STATUS]), protos())
def test_many_protos_are_answered_or_refused(target, method, request):
    check_proto(target, method, request)


def test_a_tensor_of_a_million_dimensions_is_refused_at_once(target):
    request = message("picky", x=np.float32([1]))
    request.inputs["x"].tensor_shape.MergeFromString(b"\x12\x00" * 300_000)
    code, told = target.refuses_or_answers(PREDICT, request.SerializeToString())
    assert (code, told) == ("INVALID_ARGUMENT", "input 'x' has more than 254 dimensions")


# ---- names


def test_no_name_in_a_message_reaches_the_file_system(target, files):
    wanted = ["../../etc/passwd", "/etc/passwd", "..", "\0", "toy/../toy", "file:///etc/passwd"]
    with files.watched() as opened:
        for name in wanted:
            specs = [{"name": name}, {"name": "toy", "version_label": name}, {"name": "toy", "signature_name": name}]
            for spec in specs:
                predict = predict_pb2.PredictRequest(model_spec=spec, output_filter=[name])
                predict.inputs[name].string_val.append(name.encode())
                metadata = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=[name])
                status = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
                assert target.call(PREDICT, predict.SerializeToString())[0] in REFUSALS
                assert target.call(METADATA, metadata.SerializeToString())[0] in REFUSALS
                if "signature_name" not in spec:
                    assert target.call(STATUS, status.SerializeToString())[0] in REFUSALS
    assert not opened
    target.still_answers()


def test_the_watch_over_files_sees_what_threads_open(files, tmp_path):
    """Or the tests above would prove nothing."""
    (tmp_path / "any").touch()
    with files.watched() as opened:
        thread = threading.Thread(target=lambda: (tmp_path / "any").read_text())
        thread.start()
        thread.join()
    assert opened == [f"open {tmp_path / 'any'}"]


def test_limits_are_told_to_operators():
    told = " ".join((ROOT / "serving/README.md").read_text().split())
    limits, sizes = Settings(()), Batching()
    assert (
        f"{inference.MAX_WAV_SECONDS} seconds, {inference.MAX_WAV_CHANNELS} channels |" in told
        and f"{inference.MAX_WAV_BATCH_SECONDS} seconds, each counted as the longest; {inference.MAX_BATCH} of" in told
    )
    assert f"windows in a request | {sizes.max_batch_size} |" in told
    assert f"a gRPC message | {limits.max_message_bytes >> 20} MiB |" in told
    assert f"gRPC requests at once | {limits.grpc_max_threads}, and as many that wait |" in told
    assert f"{limits.max_json_bytes >> 20} MiB, with up to {rest_json._MAX_PARTS} lists, objects and texts" in told
    assert f"REST connections at once | {limits.rest_api_num_threads} |" in told
    assert f"{limits.rest_api_timeout_ms // 1000} seconds each |" in told
