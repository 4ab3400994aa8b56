"""What a trained model says of itself, so that whoever runs it holds no constant of it.

A manifest is `manifest.json`: beside the weights of a run or of a shipped model, and in the
`assets.extra/` of an exported SavedModel. Reading one needs no TensorFlow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic

from musicnet_tf import files, validation
from musicnet_tf.errors import ModelError
from musicnet_tf.models import Geometry, ModelSpec

FILENAME = "manifest.json"
FORMAT_VERSION = 1
TRAINING_SCORES = "validation_windows"
"""The entry of `scores` that training writes: of windows, without the decoder's part."""


class Manifest(pydantic.BaseModel):
    """Everything that a caller of the model must know.

    Attributes:
        name: of the model, as in `musicnet list`.
        task: name of the task, which names the decoder.
        spec: geometry, as `ModelSpec.to_dict` gives it.
        decoder: parameters of the task's decoder, thresholds among them.
        posteriorgram_threshold: a pitch counts as sounding in a frame iff its `frame` activation is greater; for
            scores of the posteriorgram itself. None where it was not chosen.
        experiment: the resolved config that it was trained from.
        num_parameters: trainable parameters.
        training_data: name and licence of each corpus it saw.
        licence: of the weights.
        scores: measured figures, by corpus and split (`maps/validation`) and metric, with the thresholds above;
            and those of training, under `TRAINING_SCORES`.
        versions: of this library, TensorFlow and Keras.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    format_version: int = FORMAT_VERSION
    name: str
    task: str
    spec: Geometry
    decoder: dict[str, Any] = {}
    posteriorgram_threshold: float | None = pydantic.Field(default=None, ge=0, le=1)
    experiment: dict[str, Any] = {}
    num_parameters: int = 0
    training_data: list[dict[str, str]] = []
    licence: str = ""
    scores: dict[str, dict[str, float]] = {}
    versions: dict[str, str] = {}

    @property
    def geometry(self) -> ModelSpec:
        """The spec as an object."""
        return ModelSpec.from_dict(self.spec)

    def with_thresholds(self, decoder: dict[str, Any], posteriorgram_threshold: float | None) -> Manifest:
        """With other thresholds, and without the scores that the old ones reached."""
        changed = (decoder, posteriorgram_threshold) != (self.decoder, self.posteriorgram_threshold)
        scores = {name: values for name, values in self.scores.items() if not changed or name == TRAINING_SCORES}
        update = {"decoder": decoder, "posteriorgram_threshold": posteriorgram_threshold, "scores": scores}
        return self.model_copy(update=update)

    def with_scores(self, name: str, scores: dict[str, float]) -> Manifest:
        """With the scores of one corpus and split, in place of earlier ones of that name."""
        return self.model_copy(update={"scores": {**self.scores, name: scores}})

    def write(self, folder: str | Path) -> None:
        """Writes `manifest.json` into a folder."""
        files.write_json(Path(folder) / FILENAME, self.model_dump(mode="json"))

    @classmethod
    def read(cls, folder: str | Path) -> Manifest:
        """Reads `manifest.json` of a folder.

        Raises:
            ModelError: where there is none, or it is of another format version, or damaged.
        """
        path = Path(folder) / FILENAME
        try:
            manifest = cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise ModelError(f"{path}: not found; is {folder} a trained or exported model?") from error
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
        except pydantic.ValidationError as error:
            reason = validation.describe(cls, error)
            raise ModelError(f"{path}: not a manifest of this program: {reason}; export the model again") from error
        if manifest.format_version != FORMAT_VERSION:
            raise ModelError(
                f"{path}: format version {manifest.format_version}, this program reads {FORMAT_VERSION};"
                " export the model again, or use the release that wrote it"
            )
        return manifest
