"""The file `model.tflite`: a TFLite model, and behind it a zip archive of what one must know to run it.

TFLite reads the first part and is not troubled by the second: so TFLite Metadata, too, packs associated files. The
archive holds `lite.json`, a `Description`, and `filters_<window length>.npy`, the filters of its spectra.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import zipfile
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic

from musicnet_tf import files, validation
from musicnet_tf.errors import ModelError
from musicnet_tf.models import Geometry

FORMAT_VERSION = 1
DESCRIPTION = "lite.json"
INPUT = "input"
"""Of the TFLite model's one signature: float32 `(1, …)`, a window or its spectra → head → activations."""
Precision = Literal["float32", "int8"]
"""Of the weights, and of products with them; everything between them is float32."""


class FrontEnd(pydantic.BaseModel):
    """What a model takes spectra by: fields as of `frontends.LogFrequencySpectrogram`."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    hop_length: pydantic.PositiveInt
    window_lengths: tuple[pydantic.PositiveInt, ...]
    floor_db: float


class Description(pydantic.BaseModel):
    """How the file was made, and how it is run.

    Attributes:
        precision: as of `Precision`.
        spec: geometry of the windows that it takes, as `ModelSpec.to_dict` gives it; a manifest beside it may tell
            of shorter or longer ones, for the same weights.
        front_end: how its input is made of a window; None where it takes the window itself.
        model_bytes: length of the TFLite model.
        model_sha256: of that.
        weights_sha256: name of the weights file that it was made from → its checksum.
        versions: of this library, TensorFlow and Keras.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    format_version: int = FORMAT_VERSION
    precision: Precision
    spec: Geometry
    front_end: FrontEnd | None
    model_bytes: pydantic.PositiveInt
    model_sha256: str
    weights_sha256: dict[str, str]
    versions: dict[str, str]


@dataclasses.dataclass(frozen=True)
class LiteModel:
    """Contents of a file.

    Attributes:
        description: how it is run.
        model: the TFLite model.
        filters: window length → float32 `(window_length // 2 + 1, num_bins)`; empty without a front end.
    """

    description: Description
    model: bytes
    filters: dict[int, np.ndarray]


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(path: Path, contents: LiteModel) -> None:
    """Writes a whole file, or none; equal contents give equal bytes. Raises OutputError."""
    with files.atomic(path) as part:
        part.write_bytes(contents.model)
        with zipfile.ZipFile(part, "a", zipfile.ZIP_DEFLATED) as archive:
            _add(archive, DESCRIPTION, contents.description.model_dump_json(indent=2).encode())
            for length, filters in contents.filters.items():
                buffer = io.BytesIO()
                np.save(buffer, filters)
                _add(archive, _member(length), buffer.getvalue())


def read(path: Path) -> LiteModel:
    """Reads a file and holds it to its checksums.

    Raises:
        ModelError: where it is missing, damaged, of another program or of another format version.
    """
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        with zipfile.ZipFile(io.BytesIO(contents)) as archive:
            description = Description.model_validate_json(archive.read(DESCRIPTION))
            lengths = description.front_end.window_lengths if description.front_end else ()
            filters = {length: _read_filters(archive, length) for length in lengths}
    except pydantic.ValidationError as error:
        raise _damaged(path, validation.describe(Description, error)) from error
    except (zipfile.BadZipFile, LookupError, ValueError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise _damaged(path, " ".join(str(error).split())) from error
    except zlib.error as error:
        raise _damaged(path, str(error)) from error
    if description.format_version != FORMAT_VERSION:
        raise _damaged(path, f"format version {description.format_version}, this program reads {FORMAT_VERSION}")
    model = contents[: description.model_bytes]
    if hashlib.sha256(model).hexdigest() != description.model_sha256:
        raise _damaged(path, "its bytes do not give the checksum that it tells")
    return LiteModel(description, model, filters)


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(f"{path}: no whole TFLite model of this program ({reason}); export the model again")


def _member(window_length: int) -> str:
    return f"filters_{window_length}.npy"


def _add(archive: zipfile.ZipFile, name: str, contents: bytes) -> None:
    member = zipfile.ZipInfo(name)  # of one date, 1980, so that the bytes do not depend on when they were written
    member.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(member, contents)


def _read_filters(archive: zipfile.ZipFile, window_length: int) -> np.ndarray:
    filters = np.load(io.BytesIO(archive.read(_member(window_length))), allow_pickle=False)
    if filters.ndim != 2 or len(filters) != window_length // 2 + 1 or filters.dtype != np.float32:
        raise ValueError(f"{_member(window_length)} holds {filters.dtype} {filters.shape}")
    return filters
