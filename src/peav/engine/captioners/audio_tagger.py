"""Captions from an AudioSet tagger such as YAMNet or PANNs, as a tflite or ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from peav.engine import fingerprint
from peav.engine.captioners.base import Captioner, import_extra, listed
from peav.engine.clip import Answer, Sample
from peav.engine.stage import OUTSIDE
from peav.errors import RecipeError
from peav.utils.text import lines, read_text, table

NO_SOUND = (
    "Silence",
    "Animal",
    "Domestic animals, pets",
    "Livestock, farm animals, working animals",
    "Wild animals",
)
Scores = Callable[[np.ndarray], np.ndarray]  # one window's samples (S,) float32 -> scores (classes,)


@dataclass
class AudioTagger(Captioner):
    """Names the classes with the highest scores over a clip, "dog and bark", or nothing where none clears the bar.

    The file takes samples, (S,) or (1, S) float32, and gives scores from 0 to 1 a class, with any number of rows.

    Attributes:
        model: a `.tflite` file (run by ai-edge-litert) or an `.onnx` file (run by onnxruntime).
        classes: its classes in their order: a CSV with a column `display_name`, or a text file with one a line. The
            alternatives in a name become words: "Waves, surf" is said as "waves or surf".
        rate: that the model wants, in Hz.
        window: seconds that the model takes at once; None: what the file asks for.
        hop: seconds between the beginnings of windows; None: half a window. The last one ends with the clip.
        pool: a class' score for the clip is the maximum over windows, or the mean, which a short sound does not lift.
        exclude: classes that are never said: by default those of AudioSet that tell of no sound.
        top: the most classes in a caption.
        min_score: the lowest score of a class in a caption.
        threads: of the runtime.
    """

    model: str
    classes: str
    rate: int = 16_000
    window: float | None = None
    hop: float | None = None
    pool: Literal["mean", "max"] = "max"
    exclude: Sequence[str] = NO_SOUND
    top: int = 3
    min_score: float = 0.1
    threads: int = field(default=1, metadata=OUTSIDE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind != "audio":
            raise RecipeError(f"captioner {self.name}: kind {self.kind}: a tagger of sound alone; leave kind out")
        if self.pool not in ("mean", "max"):
            raise RecipeError(f"captioner {self.name}: pool {self.pool!r}: give mean or max")
        if Path(self.model).suffix not in _RUNTIMES:
            raise RecipeError(f"captioner {self.name}: model {self.model}: give a .tflite or an .onnx file")

    def identity(self) -> Mapping[str, Any]:
        """The options, with the hashes of the two files in place of their names."""
        return {**super().identity(), "model": self._sha256, "classes": self._labels_sha256}

    @property
    def model_name(self) -> str:
        """Name and hash of the file."""
        return f"{Path(self.model).name}@{self._sha256[: fingerprint.DIGITS]}"

    def setup(self) -> None:
        """Load the model. Raises RecipeError where file and classes do not fit each other."""
        self._labels = _read_classes(self.classes)
        samples, self._scores = _RUNTIMES[Path(self.model).suffix](self.model, len(self._labels), self.threads)
        wanted = samples if self.window is None else round(self.window * self.rate)
        if wanted is None:
            raise RecipeError(f"captioner {self.name}: {self.model} takes any length: give a window, in seconds")
        if samples not in (None, wanted):
            raise RecipeError(f"captioner {self.name}: {self.model} takes {samples} samples: leave window out")
        self._samples = wanted

    def caption(self, sample: Sample) -> Answer:
        """The best classes; see the class."""
        scores = self.scores(sample)
        ranked = (place for place in np.argsort(-scores, kind="stable") if self._labels[place] not in self.exclude)
        best = [place for place in islice(ranked, self.top) if scores[place] >= self.min_score]
        return Answer(listed([_said(self._labels[place]) for place in best]))

    def scores(self, sample: Sample) -> np.ndarray:
        """(classes,) float64, over all windows; a clip that is shorter than one is followed by silence."""
        from peav.media import as_waveform

        assert sample.media is not None
        waveform = as_waveform(sample.media.waveform, 48_000, self.rate)
        waveform = np.pad(waveform, (0, max(0, self._samples - len(waveform))))
        hop = self._samples // 2 if self.hop is None else round(self.hop * self.rate)
        last = len(waveform) - self._samples
        starts = [*range(0, last, max(1, hop)), last]
        rows = np.stack([self._scores(waveform[start : start + self._samples]) for start in starts]).astype(np.float64)
        return rows.mean(0) if self.pool == "mean" else rows.max(0)

    @cached_property
    def _sha256(self) -> str:
        return _hash(self.model)

    @cached_property
    def _labels_sha256(self) -> str:
        return _hash(self.classes)


def _hash(path: str) -> str:
    try:
        return fingerprint.of_file(path)
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}; check the path in the recipe") from error


def _read_classes(path: str) -> list[str]:
    text = read_text(path, RecipeError)
    if path.endswith(".csv"):
        return [row["display_name"] for _, row in table(text, ",", path, RecipeError, ["display_name"])]
    return [line.strip() for _, line in lines(text)]


def _said(name: str) -> str:
    """Turn "Waves, surf" into "waves or surf"; R&B keeps its capitals."""
    return " or ".join(
        words[:1].lower() + words[1:] if words[1:2].islower() or words[1:2] == " " else words
        for words in name.split(", ")
    )


def _tflite(path: str, classes: int, threads: int) -> tuple[int | None, Scores]:
    """How many samples a model takes, None for any number, and what runs it."""
    model = import_extra("ai_edge_litert.interpreter").Interpreter(path, num_threads=threads)
    given = model.get_input_details()[0]
    out = [one["index"] for one in model.get_output_details() if one["shape"][-1] == classes]
    _check(path, classes, out, given["shape_signature"])
    fixed = int(given["shape_signature"][-1])

    def scores(samples: np.ndarray) -> np.ndarray:
        shape = (*given["shape"][:-1], len(samples))
        if tuple(model.get_input_details()[0]["shape"]) != shape:
            model.resize_tensor_input(given["index"], shape)
        model.allocate_tensors()
        model.set_tensor(given["index"], samples.reshape(shape))
        model.invoke()
        return np.asarray(model.get_tensor(out[0])).reshape(-1, classes).mean(0)

    return fixed if fixed > 0 else None, scores


def _onnx(path: str, classes: int, threads: int) -> tuple[int | None, Scores]:
    """The same for ONNX."""
    onnxruntime = import_extra("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=onnxruntime.get_available_providers())
    given = session.get_inputs()[0]
    out = [one.name for one in session.get_outputs() if one.shape and one.shape[-1] == classes]
    _check(path, classes, out, given.shape)
    fixed = given.shape[-1]

    def scores(samples: np.ndarray) -> np.ndarray:
        shaped = samples.reshape((1,) * (len(given.shape) - 1) + (-1,))
        (found,) = session.run(out[:1], {given.name: shaped})
        return np.asarray(found).reshape(-1, classes).mean(0)

    return fixed if isinstance(fixed, int) else None, scores


def _check(path: str, classes: int, outputs: list[Any], shape: Any) -> None:
    if not outputs:
        raise RecipeError(f"{path} has no output of {classes} classes: give the file of classes that belongs to it")
    if len(shape) not in (1, 2):
        raise RecipeError(f"{path} takes an input of shape {tuple(shape)}: give a model that takes samples")


_RUNTIMES: dict[str, Callable[[str, int, int], tuple[int | None, Scores]]] = {".tflite": _tflite, ".onnx": _onnx}
