"""Effects and mixing in training: labels follow, one seed decides, and nothing happens unasked."""

from __future__ import annotations

import keras
import numpy as np
import pydantic
import pytest
import tensorflow as tf
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from musicnet_tf import config, effects, input_pipeline, trainer, validation
from musicnet_tf.augment import Augmentation, mixup, played
from musicnet_tf.effects import Chain
from musicnet_tf.errors import ConfigError
from musicnet_tf.events import Beats, Note, Notes, TagSpans
from musicnet_tf.models.mlp import Mlp

RATE = 16000
TINY = ROOT / "configs/tiny.yaml"
READER = pydantic.TypeAdapter(Chain)
SEED = tf.constant([3, -14])  # folding in gives negative ones as well


def sure(**links):
    """A chain of effects that all happen."""
    return READER.validate_python({name: {"probability": 1.0, **values} for name, values in links.items()})


def record_of(notes=(), beats=(), tags=()):
    """What a record tells of notes (onset, offset, pitch), beats and tags (start, stop), in samples."""
    onset, offset, pitch = np.array(notes, np.int64).reshape(-1, 3).T
    start, stop = np.array(tags, np.int64).reshape(-1, 2).T
    times = {
        "notes/onset": onset,
        "notes/offset": offset,
        "notes/pitch": pitch,
        "notes/velocity": np.full(len(onset), 64),
    }
    return {**times, "beats/time": np.array(beats, np.int64), "tags/start": start, "tags/stop": stop}


def play(audio, record, length, chain, seed=SEED):
    samples, moved = played(tf.constant(audio), record, RATE, length, chain, seed)
    return samples.numpy(), {name: np.asarray(values) for name, values in moved.items()}


def noise(length=RATE):
    return np.random.default_rng(0).normal(0, 0.1, length).astype(np.float32)


# One window


def test_labels_by_hand():
    """Twice as fast, and so an octave higher, and then a tenth of a second later."""
    record = record_of([(0, 800, 60), (4000, 4800, 127)], [800, 1600], [(0, 16000)])
    chain = sure(speed_up={"factor": [2, 2]}, delay={"milliseconds": [100, 100]})
    samples, moved = play(noise(), record, 9000, chain)
    assert samples.shape == (9000,)
    assert not samples[:1600].any()
    assert samples[1600:].any()
    assert moved["notes/onset"].tolist() == [1600, 3600]
    assert moved["notes/offset"].tolist() == [2000, 4000]
    assert moved["notes/pitch"].tolist() == [72, 139]  # of which no head has a class
    assert moved["notes/velocity"].tolist() == [64, 64]
    assert moved["beats/time"].tolist() == [2000, 2400]
    assert (moved["tags/start"].tolist(), moved["tags/stop"].tolist()) == ([1600], [9600])


def test_a_chain_that_moves_nothing_leaves_labels_and_a_short_sound_ends_in_silence():
    record = record_of([(0, 800, 60)], [5])
    samples, moved = play(noise(5000), record, 8000, sure(polarity={}))
    np.testing.assert_array_equal(samples, np.pad(-noise(5000), (0, 3000)))
    for name, values in record.items():
        np.testing.assert_array_equal(moved[name], values)


times = st.lists(st.integers(-4000, 40000), min_size=1, max_size=6, unique=True)


@settings(max_examples=30)
@given(times, st.integers(-(2**31), 2**31 - 1), st.sampled_from(["speed_up", "wow_flutter", "trim", "delay"]))
def test_labels_go_where_the_effects_say(samples, draw, name):
    """Against the events in seconds, which follow the sound by themselves."""
    samples = np.sort(samples)
    record = record_of([(s, s + 500, 60) for s in samples], samples, [(s, s + 900) for s in samples])
    chain, audio = sure(**{name: {}}), np.zeros(20000, np.float32)
    _, moved = play(audio, record, 16000, chain, tf.constant([draw, 7]))
    sound = effects.play(audio, RATE, chain, np.random.default_rng(np.array([draw, 7], np.int32).astype(np.uint32)))
    notes = Notes.from_list([Note(s / RATE, (s + 500) / RATE, 60) for s in samples])
    spans = TagSpans(samples / RATE, (samples + 900) / RATE, ["a"] * len(samples))
    within = (moved["notes/offset"] > np.maximum(moved["notes/onset"], 0)) & (
        moved["notes/onset"] < sound.seconds * RATE
    )
    onset = sound.follow(notes).onset * RATE
    assert len(onset) == within.sum()
    assert np.all((moved["notes/onset"][within] >= onset - 1e-3) & (moved["notes/onset"][within] < onset + 1))
    beats = sound.follow_beats(Beats(samples / RATE)).time * RATE
    here = moved["beats/time"][(moved["beats/time"] >= 0) & (moved["beats/time"] < sound.seconds * RATE)]
    assert len(beats) <= len(here) <= len(beats) + 1  # one just before the sound is rounded up to its first sample
    assert np.all(np.abs(here[len(here) - len(beats) :] - beats) <= 1)
    starts = sound.follow_tags(spans).start * RATE
    bears = (moved["tags/stop"] > np.maximum(moved["tags/start"], 0)) & (moved["tags/start"] < sound.seconds * RATE)
    assert np.all(np.abs(moved["tags/start"][bears][-len(starts) :] - starts) <= 1 + 1e-3) or not len(starts)


def test_the_seed_decides():
    chain = READER.validate_python("recorded")
    once, again, other = (play(noise(), record_of(), RATE, chain, tf.constant(s))[0] for s in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 1e-3
    in_graph = tf.function(lambda x: played(x, record_of(), RATE, RATE, chain, tf.constant([1, 2]))[0])(noise())
    np.testing.assert_array_equal(in_graph, once)


# Whole pipelines


@pytest.fixture(scope="module")
def experiment(tiny_records):
    """Experiments on a network of frames alone, whose pipeline is traced soon."""
    model = Mlp(sample_rate=RATE, window=512, hidden=4, hop_length=320, window_frames=49)

    def make(*overrides):
        small = ["train.steps=2", "train.steps_per_epoch=1", "train.validation_steps=1", "data.windows_per_excerpt=2"]
        loaded = config.load(TINY, [*small, f"data.folder={tiny_records.parent}", *overrides])
        return loaded.model_copy(update={"model": model})

    return make


def flat(dataset):
    """Every window of a dataset: audio and targets."""
    batches = dataset.as_numpy_iterator()
    return [(audio[i], targets["frame"][i]) for audio, targets in batches for i in range(len(audio))]


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a, b) and np.array_equal(x, y) for (a, x), (b, y) in zip(one, other, strict=True)
    )


@pytest.fixture(scope="module")
def plain(experiment):
    """Eight windows as they are."""
    windows = flat(input_pipeline.training(experiment()))
    assert sum(targets.sum() for _, targets in windows) > 50
    return windows


MANY = (
    "data.augmentation={pitch_shift: 1, effects: [{noise: {probability: 0.5}}, {echo: {probability: 0.5}},"
    " {speed_up: {probability: 0.5, factor: [0.8, 1.25]}}, {polarity: {probability: 0.5}}]}"
)


def test_what_effects_make_is_a_function_of_seed_and_epoch(experiment, plain):
    whole = flat(input_pipeline.training(experiment(MANY)))
    assert not same(plain, whole)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    assert same(flat(input_pipeline.training(experiment(MANY), first_epoch=1).with_options(options)), whole[4:])


def test_effects_that_never_happen_change_nothing_and_those_that_leave_notes_leave_targets(experiment, plain):
    flip = "data.augmentation.effects={echo: {probability: 0}, polarity: {probability: 1}, trim: {probability: 0}}"
    for (audio, targets), (other, others) in zip(plain, flat(input_pipeline.training(experiment(flip))), strict=True):
        np.testing.assert_array_equal(audio, -other)
        np.testing.assert_array_equal(targets, others)


def test_targets_follow_effects_that_move_notes(experiment, plain):
    """A fifth of a second of silence, then what sounded, played twice as slowly and so an octave lower."""
    slow = "speed_up: {probability: 1, factor: [0.5, 0.5]}, delay: {probability: 1, milliseconds: [200, 200]}"
    moved = flat(input_pipeline.training(experiment(f"data.augmentation.effects={{{slow}}}")))
    for (_, before), (audio, after) in zip(plain, moved, strict=True):
        assert not audio[:3200].any()
        assert not after[:10].any()  # nor is what began before heard in it
        later = after[10 + np.arange(0, 39, 2)]  # 3200 samples are ten frames; centres are at 256 + 320 k
        agree = later[:, :-12] == before[: len(later), 12:]
        assert agree.mean() > 0.99  # a centre lies elsewhere between two hops
        assert before[: len(later), 12:].sum() == pytest.approx(later[:, :-12].sum(), abs=0.1 * later.sum() + 2)


@pytest.mark.slow
def test_validation_is_left_as_it_is(experiment):
    windows = flat(input_pipeline.validation(experiment()))
    assert same(flat(input_pipeline.validation(experiment(MANY))), windows)


def test_what_cannot_be_had_is_refused_before_training(experiment):
    missing = "data.augmentation.effects={mix: {probability: 1, files: [gone.wav]}}"
    with pytest.raises(ConfigError, match=r"data\.augmentation\.effects: effect 'mix': gone\.wav"):
        input_pipeline.training(experiment(missing))
    stretched = experiment("data.augmentation.effects={time_stretch: {probability: 0.1}}", "data.polyphony=1")
    one_frame = stretched.model_copy(update={"model": Mlp(sample_rate=RATE, window=512, hidden=4)})
    with pytest.raises(ConfigError, match=r"data\.polyphony: .* effects that move notes, or data\.polyphony"):
        input_pipeline.training(one_frame)


@pytest.mark.slow
def test_a_network_trained_with_effects_is_the_same_again(experiment):
    def weights():
        whole = experiment(MANY, "train.steps=2")
        keras.utils.set_random_seed(whole.seed)
        model = trainer.compiled(whole.model.build(), whole)
        model.fit(input_pipeline.training(whole), verbose=0)
        return model.get_weights()

    for one, other in zip(weights(), weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# Configs


@pytest.mark.parametrize("value", ["contrastive", "toolbox", "recorded", "{gain: {probability: 1, gain_db: [-3, 3]}}"])
def test_effects_of_a_config_read_back(tmp_path, value):
    before = config.load(TINY, [f"data.augmentation.effects={value}"])
    before.write(tmp_path)
    after = config.load(tmp_path / config.FILENAME)
    assert after == before
    assert after.data.augmentation.effects
    hash(after.data.augmentation)


def test_by_default_there_are_none():
    assert (Augmentation().effects, Augmentation().mixup) == ((), 0.0)
    assert not Augmentation().moves
    assert Augmentation(effects="toolbox").moves
    assert not Augmentation(effects="recorded").moves


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("effects={noise: {probability: 1, snr: 3}}", "effect 'noise': unknown key 'snr', did you mean 'snr_db'"),
        ("effects=contrastif", "unknown preset 'contrastif', did you mean 'contrastive'"),
        ("effect={}", r"unknown key 'data\.augmentation\.effect', did you mean 'effects'"),
        ("mixup=-1", r"key 'data\.augmentation\.mixup': .* greater than or equal to 0"),
        (
            "mixup=0.2",
            r"data\.augmentation\.mixup: tags of two windows can be mixed, and what task 'notes' learns cannot",
        ),
    ],
)
def test_wrong_augmentation_is_refused_by_name(override, told):
    with pytest.raises(ConfigError, match=told):
        config.load(TINY, [f"data.augmentation.{override}"])


# Mixing


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_parts_are_drawn_from_beta(alpha):
    """A batch of ones and zeros: where a window meets one of the other kind, the part is seen."""
    count = 6000
    audio = (np.arange(count) % 2).astype(np.float32)[:, None]
    mixed = mixup(tf.constant(audio), {}, alpha, tf.constant([5, 6]))[0].numpy()[:, 0]
    part = np.where(audio[:, 0] == 1, mixed, 1 - mixed)
    part = part[(part > 0) & (part < 1)]  # met one of its own kind otherwise
    assert len(part) == pytest.approx(count / 2, rel=0.15)
    assert part.mean() == pytest.approx(0.5, abs=4 * np.sqrt(1 / (4 * (2 * alpha + 1)) / len(part)))
    assert part.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
    assert stats.kstest(part, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def parts_of(rows, mixed):
    """For each mixed row, of which two rows it is made: the error, and the part of the row at its own place."""
    found = []
    for i, heard in enumerate(mixed):
        tried = []
        for other in rows:
            difference = rows[i] - other
            part = difference @ (heard - other) / max(difference @ difference, 1e-9)
            tried.append((np.abs(other + part * difference - heard).max(), part))
        found.append(min(tried))
    return np.array(found).T


def test_audio_and_targets_are_mixed_in_the_same_parts_with_another_window_each():
    rng = np.random.default_rng(0)
    audio = rng.normal(size=(64, 20)).astype(np.float32)
    target = (rng.random((64, 3, 5)) < 0.4).astype(np.float32)

    def mix(seed):
        mixed, targets = mixup(tf.constant(audio), {"tag": tf.constant(target)}, 0.5, tf.constant(seed))
        return np.concatenate([mixed, targets["tag"].numpy().reshape(64, -1)], axis=1)

    error, part = parts_of(np.concatenate([audio, target.reshape(64, -1)], axis=1), mix([1, 2]))
    assert error.max() < 1e-5
    assert (part.min() > -1e-5, part.max() < 1 + 1e-5) == (True, True)
    assert np.mean((part > 0.01) & (part < 0.99)) > 0.6
    np.testing.assert_array_equal(mix([1, 2]), mix([1, 2]))
    assert np.abs(mix([1, 2]) - mix([1, 3])).max() > 0.1


def test_a_training_on_tags_mixes_windows_and_moves_tags(tiny_records):
    """Of instruments: the windows of each batch, by pairs, and what sounds in them in the same parts."""
    described = {
        **{"name": "tagger", "task": {"name": "tags", "tags": ["piano", "violin"], "labels": "instruments"}},
        "model": {
            **{"name": "instrument_cnn", "num_tags": 2, "num_mels": 16, "chunk_frames": 40, "frame_spectra": 10},
            **{"filters": (4, 6), "pools": ((1, 2), (5, 2)), "temporal_filters": 6, "dilations": (1,), "dense": 7},
        },
        "train": {"steps": 2, "steps_per_epoch": 1, "batch_size": 16},
    }

    def windows(**augmentation):
        data = {"folder": str(tiny_records.parent), "train": [{"records": "tiny"}], "augmentation": augmentation}
        experiment = validation.construct(config.Experiment, {**described, "data": data}, where="tagger")
        batches = input_pipeline.training(experiment).as_numpy_iterator()
        return [np.concatenate([audio, targets["tag"].reshape(16, -1)], axis=1) for audio, targets in batches]

    mixed_parts = []
    for whole, mixed in zip(windows(), windows(mixup=1.0), strict=True):
        error, part = parts_of(whole, mixed)
        assert error.max() < 1e-4
        mixed_parts.append(part)
    assert np.abs(mixed_parts[0] - mixed_parts[1]).max() > 0.05  # each batch has parts of its own
    assert np.std(np.concatenate(mixed_parts)) > 0.15


def test_the_mean_of_a_batch_stays_and_so_does_what_is_unknown():
    rng = np.random.default_rng(1)
    audio = rng.normal(size=(400, 8)).astype(np.float32)
    target = rng.choice([-1.0, 0.0, 1.0], (400, 2, 3)).astype(np.float32)
    mixed, targets = mixup(tf.constant(audio), {"tag": tf.constant(target)}, 1.0, tf.constant([8, 9]))
    np.testing.assert_allclose(mixed.numpy().mean(axis=0), audio.mean(axis=0), atol=0.15)
    heard = targets["tag"].numpy()
    assert np.all(heard[target == -1] == -1)
    known = heard[heard != -1]
    assert (known.min() >= 0, known.max() <= 1) == (True, True)
    assert np.mean(heard == -1) == pytest.approx(1 - (2 / 3) ** 2, abs=0.05)
    tiny, _ = mixup(tf.constant(audio), {}, 1e-3, tf.constant([8, 9]))  # both gammas underflow at times
    assert np.isfinite(tiny).all()
