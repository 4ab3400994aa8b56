"""A network that hears by a frozen transcriber: it is that transcriber and a trunk, and the trunk learns from notes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from conftest import ROOT

from musicnet_tf import config, inference, input_pipeline, records, runs, trainer
from musicnet_tf.errors import ConfigError
from musicnet_tf.models.harmonic_cnn import HarmonicCnn
from musicnet_tf.models.note_beat_tcn import NoteBeatTcn
from musicnet_tf.registry import DATASETS

pytest_plugins = ["tiny_models"]

EAR = "{channels: 8, window_frames: 40, dilations: [1, 2]}"
SMALL = [f"model.transcriber={EAR}", "model.window_frames=150", "model.filters=[4, 6]", "model.channels=12"]
SMALL += ["model.dilations=[1, 2, 4, 8]"]
STEADY = ["model.dropout=0", "train.schedule=constant", "train.warmup_steps=0", "train.learning_rate=0.01"]
TRAIN = ["train.batch_size=4", "train.steps_per_epoch=6", "train.steps=12", "train.validation_steps=1", *STEADY]


@pytest.fixture(scope="module")
def ear(make_run, tmp_path_factory):
    """A trained transcriber, which has learnt nothing."""
    fields = ["model={name: harmonic_cnn, channels: 8, window_frames: 40, dilations: [1, 2]}", "name=ear"]
    return make_run(tmp_path_factory.mktemp("ears") / "ear", "tiny", *fields)


@pytest.fixture(scope="module")
def waltzes(tmp_path_factory):
    """Records without sound of waltzes in five tempi: a low note on the first beat, a third on the others."""
    import pretty_midi

    from pipelines import build_records

    scores = tmp_path_factory.mktemp("waltzes")
    for number, bpm in enumerate((84, 96, 110, 126, 144)):
        midi = pretty_midi.PrettyMIDI(initial_tempo=bpm)
        midi.time_signature_changes.append(pretty_midi.TimeSignature(3, 4, 0.0))
        piano, beat = pretty_midi.Instrument(0), 60 / bpm
        for k in range(int(30 / beat)):
            for pitch in (40,) if k % 3 == 0 else (64, 67):
                piano.notes.append(pretty_midi.Note(90, pitch + number, k * beat, (k + 0.8) * beat))
        midi.instruments.append(piano)
        midi.write(str(scores / f"waltz_{number}.mid"))
    options = {"silent": True, "excerpt_seconds": None, "validation_fraction": 0.3, "hold_out_maps": False}
    folder = tmp_path_factory.mktemp("records") / "silent"
    corpus = DATASETS.get("rendered")(root=scores, **options)
    settings = build_records.Settings(corpus, 16000, 12.0, "pcm_s16le", 2)
    build_records.build(settings, folder, build_records.beam_options("FnApiRunner"))
    return folder


@pytest.fixture(scope="module")
def experiment(ear, waltzes):
    def load(*overrides):
        named = [f"data.folder={waltzes.parent}", "data.train=[{records: silent}]", "data.validation=[]"]
        told = [f"initial_weights={ear}", *named, *SMALL, *TRAIN, *overrides]
        return config.load(ROOT / "configs/beats_notes_pretrain.yaml", told)

    return load


@pytest.fixture(scope="module")
def trained(experiment, tmp_path_factory):
    """An experiment, its curve and its run folder."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    return experiment(), trainer.train(experiment(), run), run


def test_the_network_is_a_transcriber_and_what_hears_it():
    model = NoteBeatTcn(transcriber=HarmonicCnn(channels=8, dilations=(1, 2)), window_frames=100, channels=8)
    network = model.build()
    ear, trunk = network.get_layer("transcriber"), network.get_layer("trunk")
    audio = np.random.default_rng(0).normal(0, 0.1, (2, model.spec().window_length)).astype(np.float32)
    heard = {head: keras.ops.sigmoid(value) for head, value in ear(audio).items()}
    ours, theirs = network(audio), trunk(heard)
    assert set(ours) == {"beat", "downbeat"}
    for head, value in ours.items():
        assert value.shape == (2, 100, 1)
        np.testing.assert_allclose(value, theirs[head], atol=1e-6)
    assert {v.path for v in network.trainable_variables} == {v.path for v in trunk.trainable_variables}
    assert ear.trainable_variables == []


def test_an_onset_counts_by_its_velocity_and_all_keys_count():
    network = NoteBeatTcn(window_frames=20, channels=8, filters=(4, 4), dilations=(1,)).build().get_layer("trunk")
    silence = {head: np.zeros((1, 20, 88), np.float32) for head in ("onset", "frame", "velocity")}
    quiet = network(silence)["beat"].numpy()
    for pitch in (0, 44, 87):
        onset, loud = silence["onset"].copy(), silence["velocity"].copy()
        onset[0, 10, pitch], loud[0, 10, pitch] = 1, 1
        soft = network({**silence, "onset": onset})["beat"].numpy() - quiet
        hard = network({**silence, "onset": onset, "velocity": loud})["beat"].numpy() - quiet
        assert np.abs(soft).max() > 0 and np.abs(hard).max() > np.abs(soft).max()
        assert np.abs(network({**silence, "velocity": loud})["beat"].numpy() - quiet).max() == 0


def test_what_is_heard_of_notes_is_what_a_transcriber_should_tell(experiment, waltzes):
    given = experiment()
    heard, targets = next(iter(input_pipeline.validation(given)))
    spec, ear = given.model.spec(), given.model.ear().spec()
    assert {head: value.shape[1:] for head, value in heard.items()} == dict.fromkeys(ear.heads, (150, 88))
    onset, frame, velocity = (heard[head].numpy()[0] for head in ("onset", "frame", "velocity"))
    struck = np.flatnonzero(onset.max(axis=1) >= 0.8)
    beats = np.flatnonzero(targets["beat"].numpy()[0, :, 0] == 1.0)
    assert len(beats) > 2
    assert all(np.abs(struck - k).min() <= 1 for k in beats)  # each beat is where notes begin
    np.testing.assert_allclose(velocity[onset >= 0.8], 90 / 127, atol=1e-6)
    lowest = frame[beats + 2].argmax(axis=1) + ear.heads["frame"].first_pitch
    downbeat = targets["downbeat"].numpy()[0, beats, 0] == 1.0
    np.testing.assert_array_equal(lowest < 50, downbeat)
    assert spec.clock == ear.clock


def test_the_trunk_learns_from_notes_and_the_transcriber_stays_as_it_was(trained, ear):
    given, rows, run = trained
    assert rows[-1]["loss"] < rows[0]["loss"]
    manifest, again, network = runs.load(run)
    _, _, before = runs.load(ear)
    for ours, theirs in zip(network.get_layer("transcriber").get_weights(), before.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert again.model == given.model
    assert {data["corpus"] for data in manifest.training_data} == {"maps", "rendered"}
    audio = np.zeros((1, given.model.spec().window_length), np.float32)
    heads = inference.load(run)(audio)  # whole again, it hears audio
    assert {head: value.shape for head, value in heads.items()} == dict.fromkeys(("beat", "downbeat"), (1, 150, 1))


def test_a_stopped_training_goes_on_with_the_same_curve(trained, experiment, tmp_path):
    given, whole, run = trained
    trainer.train(experiment("train.steps=6"), tmp_path)
    given.write(tmp_path)  # as one that was stopped after its first epoch
    parts = trainer.train(given, tmp_path)
    assert len(parts) == len(whole) == 2
    for one, other in zip(parts, whole, strict=True):
        assert one == pytest.approx(other, rel=1e-3)
    left, right = (runs.load(folder)[2] for folder in (tmp_path, run))
    for one, other in zip(left.get_weights(), right.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_training_goes_on_from_a_whole_network(trained, experiment, tmp_path):
    first = trained[2]
    still = experiment(f"initial_weights={first}", "train.learning_rate=1.0e-30", "train.steps=6", "name=second")
    trainer.train(still, tmp_path)
    ours, theirs = (runs.load(folder)[2] for folder in (tmp_path, first))
    for one, other in zip(ours.trainable_variables, theirs.trainable_variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_network_that_hears_by_another_needs_its_weights(experiment, ear, tmp_path):
    with pytest.raises(ConfigError, match="initial_weights: 'note_beat_tcn' hears by a network that is trained"):
        experiment("initial_weights=''")
    other = experiment("model.transcriber.channels=10")
    with pytest.raises(ConfigError, match="ear has another model section"):
        trainer.train(other, tmp_path / "run")


def test_only_a_network_with_a_transcriber_can_hear_notes():
    with pytest.raises(ConfigError, match=r"data.hear: model 'beat_tcn' has no transcriber"):
        config.load(ROOT / "configs/beats_tcn.yaml", ["data.hear=notes", "initial_weights=''"])


def test_changes_of_what_is_not_heard_are_refused(experiment):
    with pytest.raises(ConfigError, match=r"data.augmentation: changes audio, and data.hear is notes"):
        experiment("data.augmentation.gain_db=6")
    with pytest.raises(ConfigError, match=r"data.notes: changes the notes that a network hears"):
        experiment("data.hear=audio", "data.notes.tempo=0.1")


def test_silent_records_hold_the_notes_and_beats_that_would_be_played(waltzes):
    shard = sorted(waltzes.glob("train-*"))[0]
    fields = next(iter(records.read(shard)))
    audio = records.decode_audio(fields["audio"], "pcm_s16le").numpy()
    assert len(audio) == 12 * 16000 and not audio.any()
    assert len(fields["notes/onset"]) > 20 and len(fields["beats/time"]) > 10
    assert set(np.asarray(fields["beats/position"])) == {1, 2, 3}
