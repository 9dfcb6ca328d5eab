"""What the protocols ask of a model, and how an `Encoder` gives it from media files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice, product
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from peav.data.manifest import Row
from peav.errors import MediaError
from peav.features.decode import Cut, Decoded, decode_each, decode_task, probe_each
from peav.features.keys import clip_key
from peav.inference.pooling import weighted_mean
from peav.types import DecodeFailure, Modality, modalities

RATE = 48000  # of what `decode_task` decodes
DECODED_AT_ONCE = 32


class Embedder(Protocol):
    """Embeds manifest rows and texts."""

    def streams(self, rows: Sequence[Row]) -> list[frozenset[Modality]]:
        """The spaces that a row can be embedded in: {"audio"}, {"video"}, all three, or none if it cannot be read."""

    def media(self, rows: Sequence[Row], spaces: Collection[Modality]) -> dict[Modality, np.ndarray]:
        """(n, D) for each space, NaN for rows that lack its streams; `streams` knows of those that proved so."""

    def texts(self, texts: Sequence[str], space: Modality) -> np.ndarray:
        """(n, D) captions in the text space of a modality."""


class FileEmbedder:
    """Rows read from their files through a `peav.Encoder`, each once in each space.

    Files are decoded in worker processes. A row that cannot be read is in `failed`, by `clip_key` with the reason, and
    can be embedded in no space.

    Args:
        encoder: what `peav.load` gives.
        normalize: compare by cosine; else by dot product, as the official models are trained.
        batch_size: windows per forward pass.
        progress: called with the number of rows done and their total.
    """

    def __init__(
        self,
        encoder: Any,
        *,
        normalize: bool = False,
        batch_size: int = 8,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.encoder, self.normalize, self.batch_size, self.progress = encoder, normalize, batch_size, progress
        self.failed: dict[str, tuple[Row, MediaError]] = {}
        self._known: dict[tuple[str, Modality], np.ndarray] = {}
        self._probed: dict[Any, tuple[Modality, ...] | MediaError] = {}
        self._lacking: dict[str, set[Modality]] = {}  # what proved not to be there when it was decoded

    def streams(self, rows: Sequence[Row]) -> list[frozenset[Modality]]:
        """The spaces that the rows' files allow; those that a manifest gives as `path` are probed."""
        places = dict.fromkeys(row.audio_path for row in rows if row.audio_path == row.video_path)
        new = [place for place in places if place is not None and place not in self._probed]
        for place, info in zip(new, probe_each(new) if new else (), strict=True):
            self._probed[place] = info if isinstance(info, MediaError) else modalities(info.has_audio, info.has_video)
        return [self._streams(row) for row in rows]

    def _streams(self, row: Row) -> frozenset[Modality]:
        key = clip_key(row)
        if row.audio_path is not None and row.audio_path == row.video_path:
            found = self._probed[row.audio_path]
        else:
            found = modalities(row.audio_path is not None, row.video_path is not None)
        if isinstance(found, MediaError):
            self.failed[key] = row, found
            return frozenset()
        return frozenset() if key in self.failed else frozenset(found) - self._lacking.get(key, set())

    def media(self, rows: Sequence[Row], spaces: Collection[Modality]) -> dict[Modality, np.ndarray]:
        """(n, D) float32 for each space; a file of several windows counts as their mean weighted by duration."""
        self.streams(rows)
        keys = [clip_key(row) for row in rows]
        lacking = {key for key in keys if any((key, space) not in self._known for space in spaces)} - self.failed.keys()
        self._embed({key: row for key, row in zip(keys, rows, strict=True) if key in lacking}, spaces)
        nothing, shape = np.full(self._width, np.nan, np.float32), (len(keys), self._width)
        found = {space: [self._known.get((key, space), nothing) for key in keys] for space in spaces}
        return {space: np.array(own, np.float32).reshape(shape) for space, own in found.items()}

    @property
    def _width(self) -> int:
        return int(self.encoder.output_dim)

    def _embed(self, rows: dict[str, Row], spaces: Collection[Modality]) -> None:
        windows: dict[tuple[str, Modality], list[tuple[Tensor, float]]] = defaultdict(list)
        for key, result in self._windows(rows, tuple(spaces)):
            if isinstance(result, MediaError):
                self.failed[key] = rows[key], result
                continue
            for space, embedding in result.embeddings.items():
                windows[key, space].append((torch.from_numpy(embedding), result.end - result.start))
        for key, space in product(rows, spaces):
            if key in self.failed:
                continue
            if found := windows[key, space]:
                mean = weighted_mean(*zip(*found, strict=True)).numpy()
            else:
                self._lacking.setdefault(key, set()).add(space)
                mean = np.full(self._width, np.nan, np.float32)
            self._known[key, space] = unit(mean) if self.normalize else mean

    def texts(self, texts: Sequence[str], space: Modality) -> np.ndarray:
        """(n, D) float32."""
        return np.asarray(self.encoder.encode_text(list(texts), space=space, normalize=self.normalize))

    def _windows(self, rows: dict[str, Row], spaces: tuple[Modality, ...]) -> Iterator[tuple[str, Any]]:
        """The windows of each row, or why it has none: whole files first, then what is cut out of files."""
        whole = {key: row.audio_path for key, row in rows.items() if _is_whole(row)}
        done, place = 0, {key: i for i, key in enumerate(whole)}
        for key, result in self._streamed(whole, spaces, isolate=True):
            if place[key] > done:
                self.progress(done := place[key], len(rows))
            yield key, result
        done = len(whole)
        if whole:
            self.progress(done, len(rows))
        cut = {key: row for key, row in rows.items() if key not in whole}
        decoded = zip(cut, self._decoded(cut.values()), strict=True)
        while part := dict(islice(decoded, DECODED_AT_ONCE)):
            yield from ((key, clip) for key, clip in part.items() if isinstance(clip, MediaError))
            clips = {key: _streams_of(clip) for key, clip in part.items() if not isinstance(clip, MediaError)}
            yield from self._streamed(clips, spaces)
            self.progress(done := done + len(part), len(rows))

    def _streamed(
        self, sources: dict[str, Any], spaces: tuple[Modality, ...], isolate: bool = False
    ) -> Iterator[tuple[str, Any]]:
        keys, options = list(sources), {"batch_size": self.batch_size, "isolate": isolate}
        for result in self.encoder.stream(list(sources.values()), spaces, sampling_rate=RATE, **options):
            yield keys[result.index], result.error if isinstance(result, DecodeFailure) else result

    def _decoded(self, rows: Collection[Row]) -> Iterator[Decoded | MediaError]:
        """What the rows cut out of their file or files."""
        cut = Cut(None, self.encoder.model.config.video.frame_encoder.image_size, None)
        tasks = [decode_task(row.audio_path, row.video_path, row.start, row.end, cut) for row in rows]
        return decode_each(tasks, None) if tasks else iter(())


def _is_whole(row: Row) -> bool:
    return row.start is None and row.end is None and row.audio_path == row.video_path


def _streams_of(clip: Decoded) -> dict[str, np.ndarray]:
    parts = {"audio": clip.waveform, "video": clip.frames}
    return {name: array for name, array in parts.items() if array is not None}


def unit(embeddings: np.ndarray) -> np.ndarray:
    """(n, D) rows scaled to unit length; zero rows stay zero."""
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=-1, keepdims=True), 1e-12)
