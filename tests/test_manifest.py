"""What a model says of itself survives the file, and what is no manifest is refused with the reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicnet_tf.errors import ModelError
from musicnet_tf.manifest import FILENAME, FORMAT_VERSION, TRAINING_SCORES, Manifest
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

SPEC = ModelSpec(
    clock=FrameClock(16000, 512, origin=256),
    window_length=81920,
    num_frames=160,
    margin=8,
    heads={"frame": HeadSpec(88, 21), "onset": HeadSpec(88, 21)},
)
MANIFEST = Manifest(
    name="tiny",
    task="transcription",
    spec=SPEC.to_dict(),
    decoder={"onset_threshold": 0.5},
    num_parameters=12345,
    training_data=[{"name": "MusicNet", "licence": "CC BY 4.0"}],
    scores={"maps": {"onset_f1": 0.8125}},
)


def test_round_trip_through_the_file(tmp_path):
    MANIFEST.write(tmp_path)
    read = Manifest.read(tmp_path)
    assert read == MANIFEST
    assert read.geometry == SPEC
    assert [p.name for p in tmp_path.iterdir()] == [FILENAME]


@given(
    st.builds(
        ModelSpec,
        clock=st.builds(FrameClock, st.integers(1, 192000), st.integers(1, 4096), st.integers(-4096, 4096)),
        window_length=st.integers(1, 10**7),
        num_frames=st.integers(1, 10**5),
        margin=st.integers(0, 100),
        heads=st.dictionaries(st.text(min_size=1), st.builds(HeadSpec, st.integers(1, 128), st.integers(0, 127))),
    )
)
def test_any_geometry_survives_json(spec):
    manifest = MANIFEST.model_copy(update={"spec": json.loads(json.dumps(spec.to_dict()))})
    assert Manifest.model_validate_json(manifest.model_dump_json()).geometry == spec


def test_refuses_a_folder_without_one(tmp_path):
    with pytest.raises(ModelError, match=r"manifest\.json: not found; is .+ a trained or exported model\?"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not a manifest of this program: .*json"),
        ("[]", "not a manifest"),
        ('{"name": "a", "task": "b"}', "not a manifest.*spec"),
        ('{"name": "a", "task": "b", "spec": {}, "colour": 1}', "not a manifest.*colour"),
        ('{"name": "a", "task": "b", "spec": {"heads": {}}}', "not a manifest.*'spec'.*no geometry of a model"),
    ],
)
def test_refuses_what_is_no_manifest(tmp_path, text, reason):
    (tmp_path / FILENAME).write_text(text)
    with pytest.raises(ModelError, match=reason):
        Manifest.read(tmp_path)


def test_refuses_another_format_version(tmp_path):
    MANIFEST.model_copy(update={"format_version": FORMAT_VERSION + 1}).write(tmp_path)
    with pytest.raises(ModelError, match=rf"format version {FORMAT_VERSION + 1}, this program reads {FORMAT_VERSION}"):
        Manifest.read(tmp_path)


def test_new_thresholds_remove_the_scores_that_the_old_ones_reached():
    scores = {TRAINING_SCORES: {"loss": 0.5}, "maps/validation": {"onset/f1": 0.8}}
    scored = MANIFEST.model_copy(update={"scores": scores, "posteriorgram_threshold": 0.4})
    assert scored.with_thresholds({"onset_threshold": 0.5}, 0.4) == scored
    for decoder, posteriorgram in [({"onset_threshold": 0.6}, 0.4), ({"onset_threshold": 0.5}, 0.3)]:
        changed = scored.with_thresholds(decoder, posteriorgram)
        assert (changed.decoder, changed.posteriorgram_threshold) == (decoder, posteriorgram)
        assert changed.scores == {TRAINING_SCORES: {"loss": 0.5}}


def test_scores_stand_beside_those_of_other_splits():
    scored = MANIFEST.with_scores("maps", {"onset_f1": 0.5}).with_scores("bach10/test", {"onset_f1": 0.25})
    assert scored.scores == {"maps": {"onset_f1": 0.5}, "bach10/test": {"onset_f1": 0.25}}


def test_refuses_a_posteriorgram_threshold_beyond_one(tmp_path):
    MANIFEST.model_copy(update={"posteriorgram_threshold": 1.5}).write(tmp_path)
    with pytest.raises(ModelError, match=r"key 'posteriorgram_threshold': .*less than or equal to 1, got 1.5"):
        Manifest.read(tmp_path)
