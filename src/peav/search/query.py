"""Search in a library: exact, streamed from disk in batches, so that memory does not grow with the library."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from peav.encoder import TEXT_PAIR, Encoder
from peav.errors import LibraryError, MissingFileError, NotMediaError
from peav.search.library import batches, open_library
from peav.types import MODALITIES, Modality

BATCH_ROWS = 8192  # 32 MB of one space at width 1024


@dataclass(frozen=True)
class Hit:
    """A window that was found. `score` is what hits are ranked by; see `Query`."""

    path: str
    start: float
    end: float
    modality: str
    space: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Vector:
    """What to compare one space with: score = scale * (embedding . vector) + bias, or the cosine."""

    values: np.ndarray  # (D,)
    scale: float = 1.0
    bias: float = 0.0
    cosine: bool = False

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """(n, D) -> (n,)."""
        products = embeddings @ self.values
        if self.cosine:
            norms = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(self.values)
            return np.clip(products / np.maximum(norms, 1e-12), -1.0, 1.0)
        return self.scale * products + self.bias


@dataclass(frozen=True, eq=False)
class Query:
    """One vector for each space that may be searched.

    With one space, every window that has an embedding in it is a candidate. With several, each window is scored in the
    space of its own modality. Scores are the model's logits for pairs that it was trained on, which makes spaces
    comparable with each other, and cosines for like with like (sound with sound), for which there is no trained pair.
    """

    vectors: dict[Modality, Vector]


def make_query(
    encoder: Encoder,
    text: str | None = None,
    *,
    audio: Any = None,
    video: Any = None,
    image: Any = None,
    space: Modality | None = None,
) -> Query:
    """A query of what there is to look by: words, a recording, a picture, or one of these with words.

    Words alone find windows by what they hold. Sound finds what sounds alike, pictures what looks alike; with the other
    `space` sound finds pictures that go with it, and the other way round. Sound with words finds pictures, pictures
    with words find sound.

    Args:
        text: in words; beside sound what is seen, beside pictures what is heard.
        audio, video: one input of `Encoder.encode_audio` or `encode_video`.
        image: a picture: a path, a binary file object, or (H, W, 3) uint8.
        space: search sound, pictures or both; None: what suits each window.

    Raises:
        ValueError: nothing to look for, more than one recording or picture, a space that cannot be searched so.
        MediaError: a recording or picture that cannot be read.
    """
    given = [source is not None for source in (audio, video, image)]
    if sum(given) > 1:
        raise ValueError("give one of audio, video and image, not both or all")
    if not any(given):
        if not text:
            raise ValueError("nothing to look for; give words, audio, video or an image")
        return text_query(encoder, text, space)
    modality: Modality = "audio" if audio is not None else "video"
    source = audio if audio is not None else video if image is None else _frame(image)
    if text is None:
        return media_query(encoder, source, modality, space)
    answers = "video" if modality == "audio" else "audio"
    if space not in (None, answers):
        raise ValueError(f"{modality} with text finds {answers}; leave space away")
    return joint_query(encoder, source, modality, text)


def text_query(encoder: Encoder, text: str, space: Modality | None = None) -> Query:
    """A caption, in one space or in that of each window's modality."""
    spaces = MODALITIES if space is None else (space,)
    return Query({name: _trained(encoder, encoder.encode_text(text, name), TEXT_PAIR[name]) for name in spaces})


def media_query(encoder: Encoder, source: Any, modality: Modality, space: Modality | None = None) -> Query:
    """A recording: what sounds (looks) alike, or with the other `space` what looks (sounds) as it sounds (looks)."""
    space = space or modality
    encode: dict[Modality, Callable[[Any], Any]] = {
        "audio": encoder.encode_audio,
        "video": encoder.encode_video,
        "audio_video": encoder.encode_audio_video,
    }
    values = encode[modality](source)
    if {modality, space} == {"audio", "video"}:
        return Query({space: _trained(encoder, values, "a_v")})
    return Query({space: Vector(np.asarray(values), cosine=True)})


def joint_query(encoder: Encoder, source: Any, modality: Modality, text: str) -> Query:
    """Sound plus what is seen -> pictures, or pictures plus what is heard -> sound."""
    if modality == "audio":
        return Query({"video": _trained(encoder, encoder.encode_audio(source, text), "a_vc__v")})
    return Query({"audio": _trained(encoder, encoder.encode_video(source, text), "v_ac__a")})


def _trained(encoder: Encoder, values: Any, pair: str) -> Vector:
    scale, bias = encoder.scale_and_bias(pair)
    return Vector(np.asarray(values), scale, bias)


def _frame(image: Any) -> np.ndarray:
    """A picture as frames (1, H, W, 3) uint8."""
    if isinstance(image, np.ndarray):
        return image[None]
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(image) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))[None]
    except FileNotFoundError as error:
        raise MissingFileError(f"{image}: no such file; check the spelling") from error
    except UnidentifiedImageError as error:
        raise NotMediaError(f"{image}: not a picture that Pillow reads; convert it to PNG or JPEG") from error


def search(
    path: str | os.PathLike[str],
    query: Query,
    model_id: str,
    top: int = 10,
    *,
    min_score: float = -math.inf,
    by_file: bool = False,
) -> list[Hit]:
    """The `top` windows with the highest scores, best first; ties in the library's order.

    Args:
        path: the library.
        query: what to look for.
        model_id: of the model that the query was made with.
        top: how many.
        min_score: leave out what scores less.
        by_file: of each file the best window alone.

    Raises:
        LibraryError: no library there, one of another model, or one without embeddings in the query's spaces.
    """
    best: list[Hit] = []
    seen = 0
    with open_library(path, model_id) as library:
        columns = ["path", "start", "end", "modality", *query.vectors]
        for batch in batches(library, columns, BATCH_ROWS):
            for hits in _candidates(batch, query, top, by_file):
                seen += len(hits)
                best = sorted([*best, *hits], key=lambda hit: -hit.score)
                best = (list({hit.path: hit for hit in reversed(best)}.values())[::-1] if by_file else best)[:top]
    if not seen:
        raise LibraryError(f"{path}: nothing in it has {' or '.join(query.vectors)}; search another space")
    return [hit for hit in best if hit.score >= min_score]


def _candidates(batch: pa.RecordBatch, query: Query, top: int, by_file: bool) -> Iterator[Sequence[Hit]]:
    """The best of one batch, space by space."""
    modality = np.array(batch.column("modality").to_pylist(), dtype=object)
    for space, vector in query.vectors.items():
        column = batch.column(space)
        chosen = column.is_valid().to_numpy(zero_copy_only=False)
        if len(query.vectors) > 1:
            chosen &= modality == space
        rows = np.flatnonzero(chosen)
        # Only rows that have one: flatten leaves nulls out, and rows would move up.
        embeddings = column.take(pa.array(rows)).flatten().to_numpy().reshape(-1, len(vector.values))
        scores = vector.scores(embeddings)
        order = np.argsort(-scores, kind="stable")
        if by_file:
            paths = batch.column("path").dictionary_encode().indices.to_numpy(zero_copy_only=False)[rows[order]]
            order = order[np.sort(np.unique(paths, return_index=True)[1])]
        yield [
            Hit(
                path=batch.column("path")[row].as_py(),
                start=batch.column("start")[row].as_py(),
                end=batch.column("end")[row].as_py(),
                modality=modality[row],
                space=space,
                score=float(score),
            )
            for row, score in ((rows[i], scores[i]) for i in order[:top])
        ]
