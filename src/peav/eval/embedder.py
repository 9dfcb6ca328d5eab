"""What the protocols ask of a model, and how an `Encoder` gives it from media files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from peav.data.features import clip_key
from peav.data.manifest import Row
from peav.inference.sources import Unreadable
from peav.media import load_audio, load_frames, probe
from peav.objectives.pairs import Medium

DECODED_AT_ONCE = 32


class Embedder(Protocol):
    """Embeds manifest rows and texts; made from files here, from cached features during training."""

    def streams(self, row: Row) -> frozenset[Medium]:
        """The spaces that the row can be embedded in: {"audio"}, {"video"} or all three."""

    def media(self, rows: Sequence[Row], spaces: Collection[Medium]) -> dict[Medium, np.ndarray]:
        """(n, D) for each space, NaN for rows that lack its streams."""

    def texts(self, texts: Sequence[str], space: Medium) -> np.ndarray:
        """(n, D) captions in the text space of a medium."""


class FileEmbedder:
    """Rows read from their files through a `peav.Encoder`, each once in each space.

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
        self._known: dict[tuple[str, Medium], np.ndarray] = {}

    def streams(self, row: Row) -> frozenset[Medium]:
        """The spaces that the row's files allow; a file that a manifest gives as `path` is probed.

        Raises:
            MediaError: a file that cannot be read.
        """
        if row.audio_path is not None and row.audio_path == row.video_path:
            info = probe(row.audio_path)
            return spaces_of(info.has_audio, info.has_video)
        return spaces_of(row.audio_path is not None, row.video_path is not None)

    def media(self, rows: Sequence[Row], spaces: Collection[Medium]) -> dict[Medium, np.ndarray]:
        """(n, D) float32 for each space; a file of several windows counts as their mean weighted by duration.

        Raises:
            MediaError: a file that cannot be read; the figures would be of other clips without it.
        """
        keys = [clip_key(row) for row in rows]
        lacking = {key for key in keys if any((key, space) not in self._known for space in spaces)}
        fresh = {key: row for key, row in zip(keys, rows, strict=True) if key in lacking}
        for space, means in self._embedded(list(fresh.values()), spaces).items():
            self._known.update({(key, space): mean for key, mean in zip(fresh, means, strict=True)})
        nothing = np.zeros((0, self.encoder.output_dim), np.float32)
        return {space: np.stack([self._known[key, space] for key in keys]) if keys else nothing for space in spaces}

    def _embedded(self, rows: Sequence[Row], spaces: Collection[Medium]) -> dict[Medium, np.ndarray]:
        sums = {space: np.zeros((len(rows), self.encoder.output_dim)) for space in spaces}
        seconds = {space: np.zeros((len(rows), 1)) for space in spaces}
        for first in range(0, len(rows), DECODED_AT_ONCE):
            part = rows[first : first + DECODED_AT_ONCE]
            for window in self._windows([self._source(row) for row in part], tuple(spaces)):
                weight = max(window.end - window.start, 1e-3)  # pictures without times have no duration
                for space, embedding in window.embeddings.items():
                    sums[space][first + window.index] += weight * embedding
                    seconds[space][first + window.index] += weight
            self.progress(first + len(part), len(rows))
        with np.errstate(invalid="ignore"):  # 0 / 0, NaN, is the row without the stream
            means = {space: (sums[space] / seconds[space]).astype(np.float32) for space in spaces}
        return {space: unit(mean) for space, mean in means.items()} if self.normalize else means

    def texts(self, texts: Sequence[str], space: Medium) -> np.ndarray:
        """(n, D) float32."""
        return np.asarray(self.encoder.encode_text(list(texts), space=space, normalize=self.normalize))

    def _windows(self, sources: list[Any], spaces: tuple[Medium, ...]) -> Iterator[Any]:
        rate = self.encoder.model.config.audio.codec.sampling_rate
        for result in self.encoder.stream(sources, spaces, sampling_rate=rate, batch_size=self.batch_size):
            if isinstance(result, Unreadable):
                raise result.error
            yield result

    def _source(self, row: Row) -> Any:
        """The file itself where the row is the whole of it, else what the row cuts out of its file or files."""
        if row.start is None and row.end is None and row.audio_path == row.video_path:
            return row.audio_path
        config, start = self.encoder.model.config, row.start or 0.0
        has = self.streams(row)
        parts: dict[str, np.ndarray] = {}
        if "audio" in has:
            assert row.audio_path is not None
            rate = config.audio.codec.sampling_rate
            parts["audio"] = load_audio(row.audio_path, start=start, end=row.end, sampling_rate=rate)
        if "video" in has:
            assert row.video_path is not None
            size = config.video.frame_encoder.image_size
            parts["video"] = load_frames(row.video_path, start=start, end=row.end, size=size).pixels
        return parts


def spaces_of(has_audio: bool, has_video: bool) -> frozenset[Medium]:
    """The spaces that a clip with these streams can be embedded in."""
    if has_audio and has_video:
        return frozenset(("audio", "video", "audio_video"))
    return frozenset(("audio",) if has_audio else ("video",) if has_video else ())


def unit(embeddings: np.ndarray) -> np.ndarray:
    """(n, D) rows scaled to unit length; zero rows stay zero."""
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=-1, keepdims=True), 1e-12)
