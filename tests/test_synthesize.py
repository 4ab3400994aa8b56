import re
import shutil

import numpy as np
import pytest

from musicnet_tf import record_info, records, scores, synthesis
from musicnet_tf.effects import RECORDED
from musicnet_tf.errors import ConfigError
from musicnet_tf.events import Note, Notes
from pipelines import synthesize

needs_synthesiser = pytest.mark.skipif(
    not (shutil.which("fluidsynth") and synthesis.find_soundfonts()),
    reason="fluidsynth or a soundfont is not installed (apt install fluidsynth timgm6mb-soundfont)",
)


@pytest.fixture
def midi(tmp_path):
    """Three pieces by Scarlatti for harpsichord and cello, 12 notes each."""
    folder = tmp_path / "midi"
    folder.mkdir()
    for number in (1, 2, 3):
        notes = [Note(0.3 * k, 0.3 * k + 0.25, 50 + number + k, 70, (6, 42)[k % 2]) for k in range(12)]
        scores.to_midi(Notes.from_list(notes)).write(str(folder / f"Scarlatti_K{number}.mid"))
    return folder


@pytest.fixture
def run(musicnet, midi, tmp_path):
    font = min(synthesis.find_soundfonts(), key=lambda path: path.stat().st_size)

    def call(*flags, output="set", folder=midi):
        return musicnet(
            *("synthesize", folder, f"--output_dir={tmp_path / output}", "--seconds=2", "--sample_rate=8000"),
            *("--encoding=pcm_s16le", "--recordings_per_shard=2", f"--set=soundfonts=['{font}']", *flags),
        )

    return call


def shards(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.tfrecord")}


@needs_synthesiser
def test_a_folder_of_midi_becomes_records_whose_labels_are_what_was_played(run, midi, tmp_path):
    outcome = run("--variants=2")
    assert outcome.status == 0, outcome.stderr
    assert re.search(r"^train +6 recordings +0\.00 h +\d+ notes$", outcome.stdout, re.MULTILINE)
    info = record_info.read_info(tmp_path / "set")
    assert (info.corpus, info.sample_rate, len(info.recordings)) == ("rendered", 8000, 6)
    assert {entry["work"] for entry in info.recordings.values()} == {f"Scarlatti: k{k}" for k in (1, 2, 3)}
    dataset = synthesize.corpus(midi, {"excerpt_seconds": 2.0, "variants": 2})
    by_id = {recording.id: recording for recording in dataset.recordings()}
    sounds = {}
    for entry, notes in records.read_notes(tmp_path / "set"):
        expected = dataset.load_notes(by_id[entry["id"]])
        np.testing.assert_allclose(notes.onset, expected.onset, atol=0.5 / 8000)
        assert notes.pitch.tolist() == expected.pitch.tolist()
        assert set(notes.instrument.tolist()) == {6, 42}
        assert set(notes.velocity.tolist()) != {70}, "the touch is not varied"
    for shard in info.shards:
        for record in records.read(tmp_path / "set" / shard.file, info):
            audio = np.frombuffer(record["audio"], "<i2") / 32768
            assert len(audio) == 16000
            assert 10 ** (-21 / 20) < np.abs(audio).max() <= 1.0
            sounds[record["id"].decode()] = audio
    for k in (1, 2, 3):
        one, other = (sounds[f"Scarlatti_K{k}-0{variant}"] for variant in ("", "-v1"))
        assert np.corrcoef(one, other)[0, 1] < 0.9


@needs_synthesiser
def test_a_second_run_makes_what_is_missing_byte_for_byte_and_another_seed_other_sound(run, tmp_path):
    assert run().status == 0
    first = shards(tmp_path / "set")
    stamps = {name: (tmp_path / "set" / name).stat().st_mtime_ns for name in first}
    lost = sorted(first)[0]
    (tmp_path / "set" / lost).unlink()
    assert run().status == 0
    assert shards(tmp_path / "set") == first
    after = {name: (tmp_path / "set" / name).stat().st_mtime_ns for name in first}
    assert {name for name in first if after[name] != stamps[name]} == {lost}
    assert run("--seed=1").status == 0
    other = shards(tmp_path / "set")
    assert other.keys() == first.keys()
    assert all(other[name] != data for name, data in first.items())


@needs_synthesiser
@pytest.mark.slow
def test_several_processes_give_the_same_bytes_as_one(run, tmp_path):
    assert run(output="a").status == 0
    assert run("--num_workers=2", output="b").status == 0
    assert shards(tmp_path / "a") == shards(tmp_path / "b")


@needs_synthesiser
def test_a_damaged_file_is_told_and_the_rest_is_made(run, midi, tmp_path):
    (midi / "Scarlatti_K4.mid").write_bytes(b"not midi")
    outcome = run("--strict")
    assert outcome.status == 1
    (told,) = [line for line in outcome.stdout.splitlines() if line.startswith("left out")]
    assert "Scarlatti_K4" in told
    assert len(record_info.read_info(tmp_path / "set").recordings) == 3


def test_the_defaults_are_laid_under_what_is_set(tmp_path):
    corpus = synthesize.corpus(tmp_path, {"effects": {"noise": {"probability": 0.0}}, "tempo": 0.0})
    assert corpus.effects.room == RECORDED.room
    assert corpus.effects.noise.probability == 0.0
    assert corpus.effects.noise.snr_db == RECORDED.noise.snr_db
    assert (corpus.tempo, corpus.tune_cents, corpus.font_per_voice, corpus.sustain) == (0.0, 20.0, True, True)
    with pytest.raises(ConfigError, match="synthesize: unknown key 'soundfont', did you mean 'soundfonts'"):
        synthesize.corpus(tmp_path, {"soundfont": "x"})
    with pytest.raises(ConfigError, match=r"effects\.noise\.snr_db"):
        synthesize.corpus(tmp_path, {"effects": {"noise": {"snr_db": [40, 20]}}})


def test_wrong_use_is_told(musicnet, tmp_path):
    outcome = musicnet("synthesize", f"--output_dir={tmp_path / 'set'}")
    assert outcome.status == 2
    assert "expected one folder of scores" in outcome.stderr
    outcome = musicnet("synthesize", tmp_path / "none", f"--output_dir={tmp_path / 'set'}", "--encoding=pcm_s16le")
    assert outcome.status == 1
    assert "none: not a folder" in outcome.stderr
