"""One tree of errors that a person can act on.

Every message names the file or key, what was wrong with it, and the way out. The command line prints
it as one line and exits with status 1; anything that is not a `MusicNetError` is a fault of ours and
keeps its traceback.
"""


class MusicNetError(Exception):
    """Root of every error that the library raises on purpose."""


class AudioError(MusicNetError):
    """Audio that cannot be read, decoded or used."""


class ScoreError(MusicNetError):
    """A score or label file that cannot be read, or notes that cannot exist."""


class DatasetError(MusicNetError):
    """A corpus whose files are missing or not laid out as published."""


class RecordError(MusicNetError):
    """A TFRecord set that is truncated, foreign or of another schema version."""


class ConfigError(MusicNetError):
    """An unknown key, a value of the wrong type, or parts that do not fit together."""


class ModelError(MusicNetError):
    """A saved model that is missing, incomplete or incompatible."""


class OutputError(MusicNetError):
    """A place that cannot be written to."""


class ServingError(MusicNetError):
    """A model server that refused or did not answer."""


class VersionGoneError(ServingError):
    """The version of a model that a client began with, which the server has let go: begin again with another."""


class AlignmentError(MusicNetError):
    """A score and a recording that cannot be laid onto one another."""
