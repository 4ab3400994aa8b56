"""Models as TFLite files, run without TensorFlow: it starts in a fraction of a second, and takes less of a CPU.

A file is made by `convert.py`, holds what `container.py` says, and is run by `predictor.py`; the features of the
shipped family are computed by `spectra.py`, outside the file's graph.
"""
