"""Chains of effects: what a config may say, how often and how strongly each happens, and where labels go."""

from __future__ import annotations

import numpy as np
import pydantic
import pytest
import soundfile
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from scipy import signal

from musicnet_tf import effects
from musicnet_tf.effects import CONTRASTIVE, EFFECTS, PRESETS, TOOLBOX, Chain
from musicnet_tf.effects.freeverb import reverberation
from musicnet_tf.errors import AudioError, ConfigError

RATE = 16000
READER = pydantic.TypeAdapter(Chain)


def rng(seed=0):
    return np.random.default_rng(seed)


def sound(seconds=1.0, seed=0):
    return rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def decibels(after, before):
    return 10 * np.log10(np.mean(np.square(after, dtype=float)) / np.mean(np.square(before, dtype=float)))


def chain(*links):
    return READER.validate_python(list(links))


def sure(name, **values):
    return chain({name: {"probability": 1.0, **values}})


# Reverberation by Jezar's algorithm, a sample at a time as SoX's reverb goes through it.


def reference_reverberation(rate, length, reverberance, damping, room_size):
    scale = (room_size / 100 * 0.9 + 0.1) * rate / 44100
    a = -1 / np.log(1 - 0.3)
    b = 100 / (np.log(1 - 0.98) * a + 1)
    feedback, damped = 1 - np.exp((reverberance - b) / (a * b)), damping / 100 * 0.3 + 0.2
    combs = [[0.0] * int(scale * n + 0.5) for n in (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617)]
    passes = [[0.0] * int(rate / 44100 * n + 0.5) for n in (225, 341, 441, 556)]
    stores, heard = [0.0] * 8, []
    for k in range(length):
        total = 0.0
        for i, comb in enumerate(combs):
            out = comb[k % len(comb)]
            stores[i] = out + (stores[i] - out) * damped
            comb[k % len(comb)] = float(k == 0) + stores[i] * feedback
            total += out
        for line in passes:
            out = line[k % len(line)]
            line[k % len(line)] = total + out * 0.5
            total = out - total
        heard.append(0.015 * total)
    return np.array(heard)


@pytest.mark.parametrize("values", [(50, 50, 100), (0, 100, 0), (100, 0, 37)])
def test_freeverb_is_the_algorithm_a_sample_at_a_time(values):
    expected = reference_reverberation(8000, 4000, *values)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(reverberation(8000, 4000, *values), expected, atol=1e-12)


def test_freeverb_lasts_longer_by_reverberance_and_leaves_the_direct_sound():
    click = np.zeros(RATE, np.float32)
    click[100] = 1.0
    heard = effects.freeverb(click, RATE)
    assert heard[100] == 1.0
    np.testing.assert_allclose(heard[:100], 0.0, atol=1e-8)  # the convolution is a fast Fourier transform's
    whole = click + np.pad(reverberation(RATE, RATE, 20), (100, 0))[:RATE]  # whose end is cut off where it is faint
    assert np.abs(effects.freeverb(click, RATE, 20) - whole).max() < 1e-4 * np.abs(whole[101:]).max()
    tails = [np.sum(reverberation(RATE, RATE, r)[RATE // 2 :] ** 2) for r in (20, 50, 80, 100)]
    assert tails == sorted(tails)
    np.testing.assert_array_equal(effects.freeverb(click[:50], RATE), click[:50])  # shorter than the first reflection


# What a config may say


def test_a_chain_is_a_name_a_mapping_or_a_list():
    noise, polarity = {"noise": {"probability": 0.5, "snr_db": [10, 20]}}, {"polarity": {"probability": 1}}
    as_list = chain(polarity, noise, polarity)
    assert [type(effect) for effect in as_list] == [EFFECTS[n] for n in ("polarity", "noise", "polarity")]
    assert as_list[1].snr_db == (10.0, 20.0)
    assert READER.validate_python({**polarity, **noise}) == as_list[:2]
    assert READER.validate_python({**noise, **polarity}) == as_list[1:]
    assert READER.validate_python("contrastive") == CONTRASTIVE
    assert READER.validate_python({}) == READER.validate_python([]) == ()


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_written_reads_back(name):
    written = READER.dump_python(PRESETS[name], mode="json")
    assert READER.validate_python(written) == PRESETS[name]
    assert all(next(iter(link)) in EFFECTS for link in written)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("contrastiv", r"unknown preset 'contrastiv', did you mean 'contrastive'\?; choose from: contrastive, "),
        ([{"nose": {"probability": 1}}], r"unknown effect 'nose', did you mean 'noise'\?; choose from: room, "),
        ({"noise": {"probability": 1, "snr": 3}}, "effect 'noise': unknown key 'snr'"),
        ({"noise": {"snr_db": [1, 2]}}, "effect 'noise': key 'probability' is missing"),
        ({"noise": {"probability": 1.5}}, "effect 'noise': key 'probability': .* less than or equal to 1"),
        ({"noise": {"probability": 1, "snr_db": [2, 1]}}, r"'snr_db': .*a range is \[low, high\]"),
        ({"pitch_shift": {"probability": 1, "semitones": [2, 1]}}, r"'semitones': .*a range is \[low, high\]"),
        ({"time_stretch": {"probability": 1, "factor": [0, 1]}}, "'factor': .*must be above 0"),
        ({"delay": {"probability": 1, "milliseconds": [-1, 1]}}, "'milliseconds': .*trim takes the beginning away"),
        ({"mix": {"probability": 1}}, "effect 'mix': key 'files' is missing"),
        ({"noise": 0.5}, "effect 'noise': needs its values, such as"),
        ([{"noise": {}, "gain": {}}], "an effect is its name with its values"),
        (["noise"], "an effect is its name with its values"),
    ],
)
def test_wrong_chains_are_refused_by_name(wrong, told):
    with pytest.raises(ConfigError, match=told):
        READER.validate_python(wrong)


def test_the_contrastive_set_is_as_published():
    written = READER.dump_python(CONTRASTIVE, mode="json")
    assert [next(iter(link)) for link in written] == [
        *("polarity", "white_noise", "gain", "high_low_pass", "echo", "pitch_shift", "reverb")
    ]
    assert [effect.probability for effect in CONTRASTIVE] == [0.8, 0.3, 0.2, 0.8, 0.5, 0.4, 0.3]
    values = {name: fields for link in written for name, fields in link.items()}
    assert values["white_noise"]["share"] == [0.3, 0.5]
    assert values["gain"]["gain_db"] == [-20, -1]
    assert (values["high_low_pass"]["high_pass"], values["high_low_pass"]["low_pass"]) == ([200, 1200], [2200, 4000])
    assert values["echo"]["milliseconds"] == [200, 250, 300, 350, 400, 450, 500]
    assert values["echo"]["volume"] == [0.5, 0.5]
    assert values["pitch_shift"]["semitones"] == [-7, 7]
    assert [values["reverb"][key] for key in ("reverberance", "damping", "room_size")] == [[0, 100]] * 3


# What happens


def test_a_chain_of_nothing_changes_nothing():
    np.testing.assert_array_equal(effects.play(sound(), RATE, (), rng()).audio, sound())
    never = tuple(effect.model_copy(update={"probability": 0.0}) for effect in (*TOOLBOX, *CONTRASTIVE))
    np.testing.assert_array_equal(effects.play(sound(), RATE, never, rng()).audio, sound())


def test_effects_come_in_the_order_of_the_chain():
    clip, loud = {"level": {"probability": 1, "peak_db": [-6, -6]}}, {"gain": {"probability": 1, "gain_db": [6, 6]}}
    peaks = [
        np.abs(effects.play(sound(), RATE, chain(*links), rng()).audio).max() for links in ([clip, loud], [loud, clip])
    ]
    assert peaks == pytest.approx([1.0, 10 ** (-6 / 20)], rel=1e-5)


def test_each_happens_as_often_as_it_is_asked_for_and_the_seed_decides():
    often = chain({"polarity": {"probability": 0.3}})
    share = np.mean([effects.play(np.ones(4), RATE, often, rng(k)).audio[0] < 0 for k in range(1000)])
    assert share == pytest.approx(0.3, abs=0.045)  # three standard deviations
    once, again, other = (effects.play(sound(), RATE, PRESETS["recorded"], rng(k)).audio for k in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 0.01


def test_switching_one_off_leaves_what_the_others_draw():
    loud, flip = {"gain": {"probability": 1}}, {"polarity": {"probability": 1}}
    off = {"polarity": {"probability": 0}}
    both, alone = (effects.play(sound(), RATE, chain(first, loud), rng(5)).audio for first in (flip, off))
    np.testing.assert_array_equal(both, -alone)


@given(share=st.floats(0.001, 1), seed=st.integers(0, 99))
@limits(max_examples=20)
def test_white_noise_is_a_share_of_the_music(share, seed):
    audio = sound(0.5)
    added = effects.play(audio, RATE, sure("white_noise", share=[share, share]), rng(seed)).audio - audio.astype(float)
    assert np.sqrt(np.mean(added**2) / np.mean(np.square(audio, dtype=float))) == pytest.approx(share, rel=0.012)
    assert decibels(added, audio) == pytest.approx(20 * np.log10(share), abs=0.1)


def test_high_or_low_pass_is_one_of_both():
    """Below 200 Hz a high pass takes something, above 4 kHz a low pass does, and never both."""
    audio, kinds = sound(2.0), []
    frequency, before = signal.welch(audio, RATE, nperseg=2048)
    for seed in range(40):
        _, after = signal.welch(effects.play(audio, RATE, sure("high_low_pass"), rng(seed)).audio, RATE, nperseg=2048)
        low, high = ((after / before)[band].mean() for band in (frequency < 100, frequency > 6500))
        assert (low < 0.1) != (high < 0.2)
        kinds.append(low < 0.1)
    assert 8 <= sum(kinds) <= 32  # three in ten thousand lie outside


def test_an_echo_comes_at_one_of_the_times():
    click = np.eye(1, RATE, dtype=np.float32)[0]
    heard = {int(np.argmax(effects.play(click, RATE, sure("echo"), rng(k)).audio[1:])) + 1 for k in range(80)}
    assert heard == {round(ms / 1000 * RATE) for ms in range(200, 501, 50)}


def test_gain_and_limits_of_a_rate():
    drawn = [decibels(effects.play(sound(0.05), RATE, sure("gain"), rng(k)).audio, sound(0.05)) for k in range(200)]
    assert -20 <= min(drawn) < -19.5
    assert -1.5 < max(drawn) <= -1
    for name in ("resampling", "aliasing", "low_pass", "high_low_pass"):  # the rate cannot hold their ranges
        assert np.isfinite(effects.play(sound()[:8000], 4000, sure(name), rng()).audio).all()


def test_recorded_responses_and_sounds_are_read_at_the_rate_of_the_music(tmp_path):
    response, other = tmp_path / "response.wav", tmp_path / "other.wav"
    soundfile.write(response, np.eye(1, 4000, 0)[0] + 0.5 * np.eye(1, 4000, 3200)[0], 2 * RATE, subtype="FLOAT")
    soundfile.write(other, np.sin(2 * np.pi * 1000 * np.arange(4 * RATE) / (2 * RATE)), 2 * RATE, subtype="FLOAT")
    click = np.eye(1, RATE, 100, dtype=np.float32)[0]
    heard = effects.play(click, RATE, sure("impulse_response", files=[str(response)]), rng()).audio
    assert np.argsort(np.abs(heard))[-2:].tolist() == [1700, 100]  # 3200 samples at twice the rate later
    added = effects.play(sound(), RATE, sure("mix", files=[str(other)], snr_db=[7, 7]), rng()).audio - sound()
    assert -decibels(added, sound()) == pytest.approx(7, abs=0.1)
    assert np.argmax(np.abs(np.fft.rfft(added))) == 1000
    starts = [effects.play(sound(), RATE, sure("mix", files=[str(other)]), rng(k)).audio - sound() for k in range(3)]
    assert np.abs(starts[0] - starts[1]).max() > 1e-3
    with pytest.raises(ConfigError, match=r"effect 'mix': .*gone\.wav"):
        effects.check(sure("mix", files=[str(tmp_path / "gone.wav")]), RATE)


def test_what_cannot_be_had_at_a_rate_is_told_before():
    effects.check(tuple(effect for preset in PRESETS.values() for effect in preset), 8000)
    with pytest.raises(ConfigError, match="effect 'codec': mp3 at 5000 Hz"):
        effects.check(sure("codec", kinds=["mp3"]), 5000)
    effects.check(chain({"codec": {"probability": 0}}), 5000)
    with pytest.raises(AudioError):
        effects.play(sound(), 5000, sure("codec", kinds=["mp3"]), rng())


MOVING = ("delay", "trim", "speed_up", "time_stretch", "wow_flutter")


def struck(onset, pitch, seconds=2.0):
    """A note of five harmonics that decays."""
    time = np.arange(round(seconds * RATE)) / RATE
    after = np.maximum(time - onset, 0)
    tone = sum(np.sin(2 * np.pi * h * pitch * after) / h for h in range(1, 6))
    return ((time >= onset) * np.exp(-4 * after) * tone).astype(np.float32)


def attack_of(audio, near):
    """Seconds at which the level, in 4 ms, first comes to half of its largest within 0.2 s of `near`."""
    level = np.sqrt(np.convolve(audio**2, np.ones(64) / 64, "same"))
    first, last = (round((near + by) * RATE) for by in (-0.2, 0.2))
    return (first + np.argmax(level[first:last] > 0.5 * level[first:last].max())) / RATE


@given(
    names=st.lists(st.sampled_from([*MOVING, "polarity"]), max_size=3, unique=True),
    seed=st.integers(0, 2**16),
    seconds=st.floats(0.3, 1.5),
)
@limits(max_examples=30)
def test_what_a_chain_reads_is_enough_for_the_sound_that_is_wanted(names, seed, seconds):
    links = [{name: {"probability": 0.7}} for name in names]
    wanted = round(seconds * RATE)
    read = effects.reads(chain(*links), wanted, RATE)
    assert wanted <= read <= 1.4 * wanted + 0.15 * RATE
    moved = effects.play(np.ones(read, np.float32), RATE, chain(*links), rng(seed))
    assert len(moved.audio) >= wanted - 2  # a sample or two of rounding are padded


@pytest.mark.parametrize("name", MOVING)
def test_labels_follow_the_attack(name):
    tolerance = 0.008 if name == "time_stretch" else 0.002
    for seed, pitch in enumerate((55, 220, 880)):
        for onset in (0.5, 1.3):
            moved = effects.play(struck(onset, pitch), RATE, sure(name), rng(seed))
            place = float(moved.time(np.array(onset)))
            assert attack_of(moved.audio, place) == pytest.approx(place, abs=tolerance)


@pytest.mark.parametrize("semitones", [-7, -2, 3, 7])
def test_a_shift_of_pitch_leaves_attacks_where_they_are(semitones):
    for pitch in (110, 440):
        moved = effects.pitch_shift(struck(0.73, pitch), RATE, semitones)
        assert attack_of(moved.audio, 0.73) == pytest.approx(0.73, abs=0.016)


def test_pitch_moves_by_whole_semitones_each_as_likely(monkeypatch):
    """What is drawn; what a shift does to a sound is told by the test of the shift itself."""
    seen = []
    monkeypatch.setattr(
        "musicnet_tf.effects.moved.pitch_shift", lambda audio, rate, by: seen.append(by) or effects.unmoved(audio, rate)
    )
    for seed in range(600):
        effects.play(np.ones(2), RATE, sure("pitch_shift", semitones=[-2, 3]), rng(seed))
    counts = np.bincount(np.array(seen) + 2, minlength=6)
    assert len(counts) == 6
    assert np.sum((counts - 100) ** 2 / 100) < 20.5  # chi-squared of five degrees: one in a thousand is beyond
