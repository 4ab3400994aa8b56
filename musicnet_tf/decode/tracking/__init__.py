"""Ways from activations to beats, one a file. Times are frames; NumPy, and numba where it is worth it.

| file | what |
|---|---|
| `peaks.py` | local maxima |
| `tempo.py` | autocorrelation and comb filters: which interval is there |
| `greedy.py` | from beat to beat by that interval |
| `state_space.py` | tempo, phase and place in the bar as states of a hidden Markov model |
| `evidence.py` | what activations say for states |
| `viterbi.py` | the most probable way of all through the states, told as soon as it is sure |
| `forward.py` | the most probable state by what was heard so far |
| `trackers.py` | these in turn, over frames that come piece by piece |
| `placement.py` | a beat of the model → the peak of the activation near it |
| `selection.py` | which of several models to believe |
"""
