"""Aligns two sounds with synctoolbox; runs in an environment of its own: RECORDING SCORE_SOUND PATH.npy.

The pipeline of its example notebook for two recordings: quantised chroma and onset features (DLNCO) at 50 frames a
second, each sound's tuning estimated, MrMsDTW with the notebook's step weights and memory bound, the path made
strictly monotonic. The key is known to be the same, so that no transposition is looked for.
"""

from __future__ import annotations

import sys

import librosa
import numpy as np
from synctoolbox.dtw.mrmsdtw import sync_via_mrmsdtw
from synctoolbox.dtw.utils import make_path_strictly_monotonic
from synctoolbox.feature.chroma import pitch_to_chroma, quantize_chroma
from synctoolbox.feature.dlnco import pitch_onset_features_to_DLNCO
from synctoolbox.feature.pitch import audio_to_pitch_features
from synctoolbox.feature.pitch_onset import audio_to_pitch_onset_features
from synctoolbox.feature.utils import estimate_tuning

SAMPLE_RATE = 22050
FEATURE_RATE = 50
STEP_WEIGHTS = np.array([1.5, 1.5, 2.0])
THRESHOLD_REC = 10**6


def features(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Quantised chroma `(12, n)` and DLNCO `(12, n)` of a sound."""
    sound, _ = librosa.load(path, sr=SAMPLE_RATE)
    tuning = estimate_tuning(sound, SAMPLE_RATE)
    pitch = audio_to_pitch_features(f_audio=sound, Fs=SAMPLE_RATE, tuning_offset=tuning, feature_rate=FEATURE_RATE)
    chroma = quantize_chroma(f_chroma=pitch_to_chroma(f_pitch=pitch))
    peaks = audio_to_pitch_onset_features(f_audio=sound, Fs=SAMPLE_RATE, tuning_offset=tuning)
    dlnco = pitch_onset_features_to_DLNCO(
        f_peaks=peaks, feature_rate=FEATURE_RATE, feature_sequence_length=chroma.shape[1]
    )
    return chroma, dlnco


def main(recording: str, score: str, target: str) -> None:
    """Writes the warp `(p, 2)` in seconds of the recording and of the score's sound."""
    chroma, onsets = features(recording)
    score_chroma, score_onsets = features(score)
    path = sync_via_mrmsdtw(
        f_chroma1=chroma,
        f_onset1=onsets,
        f_chroma2=score_chroma,
        f_onset2=score_onsets,
        input_feature_rate=FEATURE_RATE,
        step_weights=STEP_WEIGHTS,
        threshold_rec=THRESHOLD_REC,
    )
    np.save(target, make_path_strictly_monotonic(path).T / FEATURE_RATE)


if __name__ == "__main__":
    main(*sys.argv[1:])
