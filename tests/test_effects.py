"""Each effect keeps its promise, measured on the sound itself."""

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from scipy import signal

from musicnet_tf import effects
from musicnet_tf.effects import Effects
from musicnet_tf.errors import AudioError
from musicnet_tf.events import Beats, Note, Notes, TagSpans

RATE = 16000


def rng(seed=0):
    return np.random.default_rng(seed)


def sine(frequency, seconds=1.0, amplitude=0.5, rate=RATE):
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def music(seconds=2.0, seed=0):
    """Decaying notes of five harmonics at random times."""
    draw, time = rng(seed), np.arange(round(seconds * RATE)) / RATE
    sound = np.zeros(len(time))
    for onset in np.arange(0.05, seconds, 0.17):
        f0, after = 440 * 2 ** (draw.integers(-18, 12) / 12), np.maximum(time - onset, 0)
        sound += (time >= onset) * np.exp(-4 * after) * sum(np.sin(2 * np.pi * h * f0 * after) / h for h in range(1, 6))
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def frequency_of(audio, rate=RATE):
    """Of the strongest partial, by a parabola through the logarithms of three bins."""
    spectrum = np.log(np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) + 1e-12)
    k = int(np.argmax(spectrum[1:-1])) + 1
    a, b, c = spectrum[k - 1 : k + 2]
    return (k + 0.5 * (a - c) / (a - 2 * b + c)) * rate / len(audio)


def decibels(after, before):
    return 10 * np.log10(np.mean(np.square(after, dtype=float)) / np.mean(np.square(before, dtype=float)))


def gain_at(effect, frequency):
    """Of the steady second half of a sine."""
    tone = sine(frequency, 2.0)
    return decibels(effect(tone)[RATE:], tone[RATE:])


KEEPING = {
    "gain": lambda x: effects.gain(x, -3),
    "normalise": effects.normalise,
    "invert": effects.invert,
    "clip": lambda x: effects.clip(x, percent=5),
    "compress": lambda x: effects.compress(x, RATE),
    "mix": lambda x: effects.mix(x, sine(100)),
    "noise": lambda x: effects.noise(x, rng()),
    "echo": lambda x: effects.echo(x, RATE),
    "impulse_response": lambda x: effects.impulse_response(x, np.array([0.1, 1.0, 0.3])),
    "reverberate": lambda x: effects.reverberate(x, RATE, rng()),
    "low_pass": lambda x: effects.low_pass(x, RATE),
    "high_pass": lambda x: effects.high_pass(x, RATE, 50),
    "equalise": lambda x: effects.equalise(x, RATE),
    "alias": lambda x: effects.alias(x, RATE, 6000),
    "resample": lambda x: effects.resample(x, RATE, 6000),
    "freeverb": lambda x: effects.freeverb(x, RATE),
    "mp3": lambda x: effects.codec(x, RATE, "mp3", 64),
    "ogg": lambda x: effects.codec(x, RATE, "ogg", 64),
}


@pytest.mark.parametrize("name", KEEPING)
def test_what_keeps_time_keeps_length_and_gives_float32_for_any_sound(name):
    for audio in (music(), np.zeros(5000, np.float32), music(0.2)[:3201], sine(300).astype(np.float64)):
        after = KEEPING[name](audio)
        assert (after.dtype, after.shape) == (np.float32, audio.shape)
        assert np.isfinite(after).all()


@pytest.mark.parametrize("name", sorted(set(KEEPING) - {"invert", "mix", "noise"}))
def test_what_keeps_time_leaves_notes_where_they_are(name):
    audio = music()
    late = np.argmax(signal.correlate(KEEPING[name](audio), audio, "full", "fft")) - (len(audio) - 1)
    assert abs(late) <= 0.0005 * RATE  # what a filter of second order at 1 kHz delays


@given(st.floats(-60, 60))
def test_gain_is_in_decibels_and_undone_by_its_inverse(amount):
    audio = music(0.1)
    assert decibels(effects.gain(audio, amount), audio) == pytest.approx(amount, abs=1e-3)
    np.testing.assert_allclose(effects.gain(effects.gain(audio, amount), -amount), audio, rtol=1e-5)


def test_normalised_peak_and_polarity():
    assert np.abs(effects.normalise(sine(100, amplitude=0.1), -6)).max() == pytest.approx(10 ** (-6 / 20), rel=1e-5)
    np.testing.assert_array_equal(effects.invert(effects.invert(music())), music())
    np.testing.assert_array_equal(effects.invert(music()), -music())


@given(snr=st.floats(-10, 60), colour=st.sampled_from(["white", "pink", "brown"]), seed=st.integers(0, 99))
@limits(max_examples=25)
def test_noise_has_the_ratio_that_is_stated(snr, colour, seed):
    audio = music(0.5).astype(np.float64)
    added = effects.noise(audio, rng(seed), snr, colour) - audio
    assert -decibels(added, audio) == pytest.approx(snr, abs=0.1)


@pytest.mark.parametrize(("colour", "slope"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_noise_falls_by_its_colour_an_octave(colour, slope):
    frequency, power = signal.welch(effects.coloured_noise(1 << 18, rng(), colour), RATE, nperseg=4096)
    octaves = [10 * np.log10(power[(frequency >= f) & (frequency < 2 * f)].mean()) for f in (100, 200, 400, 800, 1600)]
    assert np.mean(np.diff(octaves)) == pytest.approx(slope, abs=0.3)


def test_mixing_has_the_ratio_and_repeats_what_is_short():
    audio, other = sine(440), sine(100, 0.01)  # one period
    added = effects.mix(audio, other, 10).astype(np.float64) - audio
    assert -decibels(added, audio) == pytest.approx(10, abs=0.1)
    assert frequency_of(added) == pytest.approx(100, abs=0.5)
    np.testing.assert_array_equal(effects.mix(audio, np.zeros(10)), audio)


@pytest.mark.parametrize("cutoff", [200, 1000, 4000])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_filters_take_three_decibels_at_the_cutoff(cutoff, order):
    for effect in (effects.low_pass, effects.high_pass):
        assert gain_at(lambda x, f=effect: f(x, RATE, cutoff, order), cutoff) == pytest.approx(-3.01, abs=0.05)


def test_filters_pass_one_side_and_take_the_other():
    assert gain_at(lambda x: effects.low_pass(x, RATE, 1000), 100) == pytest.approx(0, abs=0.05)
    assert gain_at(lambda x: effects.low_pass(x, RATE, 500), 2000) < -23  # two octaves at 12 dB
    assert gain_at(lambda x: effects.high_pass(x, RATE, 100), 1000) == pytest.approx(0, abs=0.05)
    assert gain_at(lambda x: effects.high_pass(x, RATE, 1000), 250) < -23
    with pytest.raises(AudioError, match="8000 Hz is not below half of 16000"):
        effects.low_pass(music(), RATE, 8000)


@pytest.mark.parametrize("gain_db", [-9.0, -3.0, 6.0])
@pytest.mark.parametrize(("frequency", "bandwidth"), [(200.0, 1.0), (1000.0, 2.0), (1000.0, 0.5)])
def test_an_equaliser_gives_its_gain_at_its_centre_and_half_at_its_edges(frequency, bandwidth, gain_db):
    def band(audio):
        return effects.equalise(audio, RATE, frequency, gain_db, bandwidth)

    assert gain_at(band, frequency) == pytest.approx(gain_db, abs=0.02)
    for edge in (frequency * 2 ** (-bandwidth / 2), frequency * 2 ** (bandwidth / 2)):
        assert gain_at(band, edge) == pytest.approx(gain_db / 2, abs=0.25)
    assert gain_at(band, frequency / 16) == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize(("level", "expected"), [(-40, -40), (-20, -20), (-12, -18), (0, -15)])
def test_the_compressor_has_the_static_curve_that_is_asked_for(level, expected):
    """Above -20 dB a quarter: -12 dB lies 8 above and comes out 2 above."""
    tone = sine(500, 1.0, amplitude=10 ** (level / 20))
    steady = effects.compress(tone, RATE, -20, 4)[RATE // 2 :]
    assert 20 * np.log10(np.abs(steady).max()) == pytest.approx(expected, abs=0.15)


def test_the_compressor_takes_its_time():
    """After one time constant of attack, a step is reduced by 63% of what it will be; of release, 37% is left."""
    tone = np.concatenate([sine(500, 0.5, 0.01), sine(500, 1.0, 1.0), sine(500, 1.0, 0.01)])
    ratio = np.abs(signal.hilbert(effects.compress(tone, RATE, -20, 4, attack_ms=50, release_ms=200)))
    reduction = -20 * np.log10(ratio / np.abs(signal.hilbert(tone)))
    assert reduction[round(0.55 * RATE)] == pytest.approx(15 * (1 - np.exp(-1)), abs=0.4)
    assert reduction[round(1.7 * RATE)] == pytest.approx(15 * np.exp(-1), abs=0.4)
    with pytest.raises(AudioError, match=r"ratio of 0\.5 is below 1"):
        effects.compress(tone, RATE, ratio=0.5)


def test_clipping_takes_so_many_samples_or_so_many_decibels():
    audio = rng().standard_normal(100_000).astype(np.float32)
    by_share = effects.clip(audio, percent=10)
    assert np.mean(np.abs(audio) > np.abs(by_share).max()) == pytest.approx(0.1, abs=1e-4)
    assert np.abs(effects.clip(audio, decibels=6)).max() == pytest.approx(np.abs(audio).max() / 10**0.3, rel=1e-5)
    np.testing.assert_array_equal(effects.clip(audio), audio)


@pytest.mark.parametrize("rt60", [0.3, 0.8, 2.0])
def test_a_room_has_its_reverberation_time_by_schroeders_integral(rt60):
    """T20 of ISO 3382: a line through the decay from -5 to -25 dB, taken to 60 dB."""
    tail = effects.room(RATE, rng(), rt60)[round(0.08 * RATE) :]  # after the early reflections
    decay = 10 * np.log10(np.cumsum(tail[::-1] ** 2)[::-1] / np.sum(tail**2))
    between = np.flatnonzero((decay <= -5) & (decay >= -25))
    slope = np.polyfit(between / RATE, decay[between], 1)[0]
    assert -60 / slope == pytest.approx(rt60, rel=0.12)


def test_a_rooms_direct_sound_has_its_share_and_comes_first():
    response = effects.room(RATE, rng(), 0.5, 6.0)
    assert response[0] == 1.0
    assert -10 * np.log10(np.sum(response[1:] ** 2)) == pytest.approx(6.0, abs=1e-6)
    np.testing.assert_array_equal(response, effects.room(RATE, rng(), 0.5, 6.0))
    click = np.zeros(RATE, np.float32)
    click[100] = 1
    heard = effects.reverberate(click, RATE, rng(), 0.3)
    np.testing.assert_allclose(heard[:100], 0.0, atol=1e-6)
    assert np.argmax(heard) == 100


def test_an_impulse_response_is_convolved_about_its_direct_sound():
    np.testing.assert_allclose(
        effects.impulse_response(np.array([1.0, 2.0, 0.0, 0.0]), np.array([0.5, 1.0, 0.0, 0.25])),
        [1.0 + 1.0, 2.0, 0.25, 0.5],  # each sample, half of the next, and a quarter of the one two before
        atol=1e-6,
    )


def test_an_echo_is_averaged_with_the_sound():
    click = np.zeros(RATE, np.float32)
    click[0] = 1
    assert dict(zip(*np.unique(np.flatnonzero(effects.echo(click, RATE)), return_counts=True), strict=True)) == {
        0: 1,
        3200: 1,
    }
    assert effects.echo(click, RATE)[[0, 3200]].tolist() == [0.5, 0.25]


@pytest.mark.parametrize(("frequency", "heard"), [(1000, 1000), (5000, 3000), (7000, 1000)])
def test_aliasing_folds_at_half_the_lower_rate(frequency, heard):
    assert frequency_of(effects.alias(sine(frequency), RATE, 8000)) == pytest.approx(heard, abs=1)


def test_resampling_loses_what_is_too_high_and_keeps_the_rest():
    assert gain_at(lambda x: effects.resample(x, RATE, 8000), 5000) < -60
    assert gain_at(lambda x: effects.resample(x, RATE, 8000), 2000) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize(("kind", "kilobits", "likeness"), [("mp3", 32, 0.95), ("mp3", 128, 0.999), ("ogg", 64, 0.98)])
def test_a_codec_is_in_time_to_the_sample_and_alike(rate, kind, kilobits, likeness):
    audio = signal.resample_poly(music(), rate, RATE).astype(np.float32)
    coded = effects.codec(audio, rate, kind, kilobits)
    late = np.argmax(signal.correlate(coded, audio, "full", "fft")) - (len(audio) - 1)
    assert late == 0
    assert likeness < np.corrcoef(audio, coded)[0, 1] < 1


def test_fewer_bits_are_less_alike_and_an_impossible_rate_is_refused():
    audio = music()
    errors = [np.std(effects.codec(audio, RATE, "mp3", k) - audio) for k in (16, 32, 64)]
    assert errors == sorted(errors, reverse=True)
    with pytest.raises(AudioError, match="mp3 at 5000 Hz and 64 kbit/s cannot be encoded"):
        effects.codec(audio, 5000, "mp3", 64)


NOTES = Notes.from_list([Note(0.0, 0.5, 60), Note(0.5, 1.0, 64), Note(1.5, 1.9, 127)])
BEATS = Beats([0.25, 0.75, 1.25, 1.75], [4, 1, 2, 3])
TAGS = TagSpans([0.0, 0.5, 1.5, 0.0], [0.5, 1.0, 1.9, np.inf], ["a", "b", "c", "whole"])


def test_delay_and_trim_move_labels_with_the_sound():
    audio = music()
    late = effects.delay(audio, RATE, 1600)
    np.testing.assert_array_equal(late.audio[1600:], audio)
    assert not late.audio[:1600].any()
    assert late.follow(NOTES).onset.tolist() == pytest.approx([0.1, 0.6, 1.6])
    held = Notes.from_list([Note(-1.0, -0.5, 50), Note(-0.5, 0.2, 51), Note(-0.05, 0.0, 52)])
    assert list(late.follow(held)) == [Note(0.1, pytest.approx(0.3), 51)]  # heard from the sound's beginning on
    assert late.follow_beats(Beats([-0.05, 0.0])).time.tolist() == pytest.approx([0.1])
    cut = effects.trim(audio, RATE, 600, 500)
    np.testing.assert_array_equal(cut.audio, audio[9600:24000])
    moved = cut.follow(NOTES)  # the first is over before, the last begins after
    assert (moved.onset.tolist(), moved.offset.tolist()) == (pytest.approx([-0.1]), pytest.approx([0.4]))
    assert cut.follow_beats(BEATS).time.tolist() == pytest.approx([0.15, 0.65])  # of 0.9 s
    assert cut.follow_beats(BEATS).position.tolist() == [1, 2]
    tags = cut.follow_tags(TAGS)
    assert tags.tag.tolist() == ["b", "whole"]
    assert tags.start.tolist() == pytest.approx([-0.1, -0.6])
    assert tags.stop.tolist() == pytest.approx([0.4, np.inf])
    assert cut.follow_tags(TagSpans([1.0], [1.9], ["d"])).stop.tolist() == pytest.approx([0.9])  # where the sound ends


def test_a_crop_is_a_stretch_of_the_sound_that_is_drawn_evenly():
    audio = np.arange(100, dtype=np.float32)
    starts = []
    for seed in range(300):
        moved = effects.random_resized_crop(audio, 10, 60, rng(seed))
        starts.append(int(moved.audio[0]))
        np.testing.assert_array_equal(moved.audio, audio[starts[-1] : starts[-1] + 60])
        assert moved.time(np.array([starts[-1] / 10])) == pytest.approx(0.0)
    assert (min(starts), max(starts)) == (0, 40)
    assert np.mean(starts) == pytest.approx(20, abs=3)
    with pytest.raises(AudioError, match="crop of 101 samples is not to be had from 100"):
        effects.random_resized_crop(audio, 10, 101, rng())


@pytest.mark.parametrize("factor", [0.8, 1.25, 2.0])
def test_speeding_up_makes_it_shorter_and_higher(factor):
    moved = effects.speed_up(sine(440), RATE, factor)
    assert len(moved.audio) == pytest.approx(RATE / factor, abs=2)
    assert frequency_of(moved.audio) == pytest.approx(440 * factor, rel=1e-3)
    assert moved.semitones == pytest.approx(12 * np.log2(factor))
    assert moved.follow(NOTES).onset[1] == pytest.approx(0.5 / factor)


def test_an_octave_doubles_the_pitch_and_keeps_the_time():
    moved = effects.pitch_shift(sine(440), RATE, 12)
    assert len(moved.audio) == RATE
    assert frequency_of(moved.audio[2000:-2000]) == pytest.approx(880, rel=0.005)
    after = moved.follow(NOTES)
    assert after.pitch.tolist() == [72, 76]  # 139 is no pitch of MIDI
    assert after.onset.tolist() == [0.0, 0.5]


def test_a_stretch_keeps_the_pitch_and_moves_the_time():
    moved = effects.time_stretch(sine(440, 2.0), RATE, 1.25)
    assert len(moved.audio) == pytest.approx(1.6 * RATE, abs=2)
    assert frequency_of(moved.audio[2000:-2000]) == pytest.approx(440, rel=0.005)
    assert moved.follow(NOTES).onset.tolist() == pytest.approx([0.0, 0.4, 1.2])
    assert moved.follow_beats(BEATS).time.tolist() == pytest.approx([0.2, 0.6, 1.0, 1.4])
    assert moved.follow_tags(TAGS).stop.tolist() == pytest.approx([0.4, 0.8, 1.52, np.inf])


def test_one_after_the_other_moves_labels_by_both():
    """Half a second away, then a quarter faster, then an octave up: where a click lands, its label does."""
    clicks = np.zeros(2 * RATE, np.float32)
    clicks[[round(0.75 * RATE), round(1.5 * RATE)]] = 1.0
    first = effects.delay(clicks, RATE, -8000)
    second = first.then(effects.speed_up(first.audio, RATE, 1.25))
    third = second.then(effects.pitch_shift(second.audio, RATE, 12))
    for moved, semitones in ((second, 12 * np.log2(1.25)), (third, 12 + 12 * np.log2(1.25))):
        assert moved.semitones == pytest.approx(semitones)
        assert moved.seconds == pytest.approx(1.2)
        heard = moved.follow(Notes.from_list([Note(0.75, 0.8, 60), Note(1.5, 1.6, 60)]))
        assert heard.onset.tolist() == pytest.approx([0.2, 0.8])
        assert heard.pitch.tolist() == [60 + round(semitones)] * 2
    assert np.sort(np.argsort(np.abs(second.audio))[-2:]) / RATE == pytest.approx([0.2, 0.8], abs=1 / RATE)


def test_wow_swings_the_pitch_by_its_depth_and_says_where_everything_went():
    moved = effects.wow_flutter(sine(1000, 4.0), RATE, percent=2.0, frequency=0.5)
    phase = np.unwrap(np.angle(signal.hilbert(moved.audio)))[800:-800]
    speed = np.diff(phase) * RATE / (2 * np.pi * 1000)
    smooth = np.convolve(speed, np.full(800, 1 / 800), "valid")
    assert (smooth.min(), smooth.max()) == (pytest.approx(0.98, abs=1e-3), pytest.approx(1.02, abs=1e-3))
    clicks, times = np.zeros(4 * RATE, np.float32), np.array([0.4, 1.0, 2.3, 3.1])
    clicks[np.round(times * RATE).astype(int)] = 1.0
    moved = effects.wow_flutter(clicks, RATE, percent=2.0, frequency=0.5)
    expected = moved.time(times)
    assert np.abs(expected - times).max() > 0.005
    for place in expected:
        near = slice(round((place - 0.02) * RATE), round((place + 0.02) * RATE))
        assert (near.start + np.argmax(moved.audio[near])) / RATE == pytest.approx(place, abs=1.5 / RATE)
    before, after = moved.time(np.array([-0.3, 0.0])), moved.time(np.array([4.2, 4.5]))
    assert before.tolist() == pytest.approx([-0.3, 0.0])  # a note that began before the sound stays there
    assert np.diff(after) == pytest.approx(0.3)


ALL = Effects(**{name: {"probability": 1.0} for name in set(Effects.model_fields) - {"high_pass", "low_pass"}})


def test_by_default_nothing_is_changed():
    audio = music()
    np.testing.assert_array_equal(effects.apply(audio, RATE, Effects(), rng()), audio)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_all_at_once_are_repeatable_in_range_and_in_time(rate):
    audio = music()
    hot = effects.apply(audio, rate, effects.RECORDED, rng(3))
    assert (hot.dtype, hot.shape) == (np.float32, audio.shape)
    assert np.abs(hot).max() <= 1.0
    np.testing.assert_array_equal(hot, effects.apply(audio, rate, effects.RECORDED, rng(3)))
    assert np.abs(hot - effects.apply(audio, rate, effects.RECORDED, rng(4))).max() > 0.01
    assert np.abs(effects.apply(audio, rate, ALL, rng(3)) - audio).max() > 0.01


def test_each_effect_happens_as_often_as_it_is_asked_for():
    settings = Effects(polarity={"probability": 0.3})
    audio = np.ones(10, np.float32)
    share = np.mean([effects.apply(audio, RATE, settings, rng(k))[0] < 0 for k in range(1000)])
    assert share == pytest.approx(0.3, abs=0.045)  # three standard deviations


def test_one_effect_does_not_change_what_another_draws():
    audio = music()
    alone = effects.apply(audio, RATE, Effects(level={"probability": 1.0}), rng(5))
    both = effects.apply(audio, RATE, Effects(level={"probability": 1.0}, polarity={"probability": 1.0}), rng(5))
    np.testing.assert_allclose(both, -alone, atol=1e-7)


def test_drawn_values_stay_in_their_ranges():
    settings = Effects(level={"probability": 1.0, "peak_db": (-12.0, -6.0)})
    peaks = [20 * np.log10(np.abs(effects.apply(music(0.1), RATE, settings, rng(k))).max()) for k in range(100)]
    assert -12 <= min(peaks) < -11.5
    assert -6.5 < max(peaks) <= -6 + 1e-4


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"noise": {"probability": 1.5}}, "less than or equal to 1"),
        ({"noise": {"snr_db": (30, 10)}}, r"a range is \[low, high\]"),
        ({"noise": {"colours": ["mauve"]}}, "'white', 'pink' or 'brown'"),
        ({"fuzz": {}}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_settings_are_refused(wrong, told):
    with pytest.raises(pydantic.ValidationError, match=told):
        Effects(**wrong)
