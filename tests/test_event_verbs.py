"""What the verbs that hear recordings have in common."""

import pytest
import soundfile

from musicnet_tf import inference

VERBS = {"transcribe": "notes", "beats": "beats", "tag": "tags"}


@pytest.mark.parametrize("verb", VERBS)
def test_the_default_model_is_told_where_it_is_not_there(musicnet, tmp_path, monkeypatch, verb):
    soundfile.write(tmp_path / "silence.wav", [0.0] * 16000, 16000)
    monkeypatch.setattr(inference, "PRETRAINED", tmp_path / "none")
    outcome = musicnet(verb, tmp_path / "silence.wav", f"--output_dir={tmp_path / 'out'}")
    assert outcome.status == 1
    (line,) = outcome.stderr.splitlines()
    name = inference.DEFAULT_MODELS[VERBS[verb]]
    assert line.startswith(f"musicnet {verb}: error: {name}: no folder and no shipped model")
