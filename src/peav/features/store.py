"""Precomputed features on disk: how a clip is written, and the cache that training fills, one file a clip.

Both stores hold a clip as the same safetensors bytes. The cache is a folder of files, since several runs fill it in any
order and replace single clips; `features.prepared` packs them into shards, which one process writes from first to last.
The cache's folder is named after what made the features, so that a change of codec never reads old latents.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from peav.data.manifest import Row
from peav.errors import MediaError, NoAudioStreamError, NoVideoStreamError
from peav.features.extract import ClipFeatures, FeatureExtractor, add_weights
from peav.features.failures import Failures
from peav.features.keys import clip_key, media_version
from peav.features.prepared import PreparedClip
from peav.model import PEAV
from peav.utils.remote import ROUND_TRIPS
from peav.utils.storage import is_remote, write_all

logger = logging.getLogger(__name__)
DAMAGE = (SafetensorError, ValueError, KeyError, TypeError, OSError)  # what reading torn features raises


class FeatureCache:
    """Makes, stores and reads `ClipFeatures` for one model's codec and frame size.

    Clips that lie prepared in shards (`features.prepared`) are read from there.

    Args:
        folder: where the cache lives; it may be shared between models.
        model: supplies the codec and the shapes.
        keep_waveform: store waveforms, for training the codec itself.
        max_seconds: clips longer than this keep their first `max_seconds`.
    """

    def __init__(self, folder: str | Path, model: PEAV, *, keep_waveform: bool = False, max_seconds: float = 10.0):
        self.model = model
        self.extract = FeatureExtractor(model, keep_waveform=keep_waveform, max_seconds=max_seconds)
        self.pixels: FeatureCache | None = None
        self.folder = Path(folder) / self._fingerprint()

    def with_frozen_frames(self) -> FeatureCache:
        """A cache beside this one that holds what the model's frame encoder makes of the frames in this one."""
        frozen = copy(self)
        frozen.pixels = self
        digest = hashlib.sha256(self.folder.name.encode())
        add_weights(digest, self.model.video.frame_encoder)
        frozen.folder = self.folder.parent / digest.hexdigest()[:16]
        return frozen

    def path(self, row: Row) -> Path:
        """The file of a clip, named by its id and by what its features were cut from."""
        return self.folder / f"{clip_key(row)}.safetensors"

    def load(self, row: Row) -> ClipFeatures:
        """The features of a clip that `prepare` has been through; damaged ones are made again.

        Raises:
            PreparedError: a damaged shard. MediaError: damaged features whose media can no longer be read.
        """
        place = row.audio_path or row.video_path
        if isinstance(place, PreparedClip):
            return _asked(row, ClipFeatures(**place.arrays()))
        try:
            return read_clip(self.path(row))
        # Not damage, though an OSError: `prepare` has not been through this clip.
        except FileNotFoundError:
            raise
        except DAMAGE as error:
            logger.warning("%s: damaged features (%s); they are made again", self.path(row), error)
        # The version first: a file that changes while it is decoded is then seen to be another.
        version, features = media_version(row), self._compute(row)
        _store(self.path(row), version, features)
        return features

    def load_all(self, rows: Sequence[Row]) -> list[ClipFeatures]:
        """The features of several clips; from object storage, many at a time."""
        places = [row.audio_path or row.video_path for row in rows]
        if not any(isinstance(place, PreparedClip) and is_remote(place.path) for place in places):
            return [self.load(row) for row in rows]
        with ThreadPoolExecutor(ROUND_TRIPS) as pool:
            return list(pool.map(self.load, rows))

    def in_batches(self, rows: Sequence[Row], size: int) -> Iterator[tuple[list[Row], list[ClipFeatures]]]:
        """The clips, `size` at a time, and their features. All can be read: `prepare` has been through them."""
        for start in range(0, len(rows), size):
            some = list(rows[start : start + size])
            yield some, self.load_all(some)

    def streams(self, row: Row) -> tuple[bool, bool]:
        """Whether a clip that `prepare` has been through has audio and video, told without reading its features."""
        place = row.audio_path or row.video_path
        if isinstance(place, PreparedClip):
            return place.audio and row.audio_path is not None, place.video and row.video_path is not None
        if row.audio_path != row.video_path:
            return row.audio_path is not None, row.video_path is not None
        with safe_open(self.path(row), "numpy") as file:
            names = set(file.keys())
        return bool(names & {"latents", "waveform"}), "frames" in names

    def prepare(
        self, rows: Sequence[Row], progress: Callable[[int], None] = lambda done: None, workers: int = 2
    ) -> tuple[list[Row], list[tuple[Row, MediaError]]]:
        """Compute what is not there yet.

        Returns:
            The rows that have features, in order, and those that failed with their errors.

        Raises:
            TooManyFailures: see `features.failures`.
        """
        failures = Failures(len(rows))
        good: list[Row] = []
        todo = {self.path(row): row for row in rows if not self._prepared(row) and not self._has(row)}
        outcomes = self._made(todo, workers)
        errors: dict[Path, MediaError | None] = {}
        for row in rows:
            while (path := self.path(row)) in todo and path not in errors:
                errors.update([next(outcomes)])
            error = errors.get(path)
            if self._prepared(row) and not any(self.streams(row)):
                lacking = NoVideoStreamError if row.audio_path is None else NoAudioStreamError
                error = lacking(f"{row.audio_path or row.video_path}: prepared without the stream that is asked for")
            failures.note(row, error)
            good += [row] if error is None else []
            progress(len(good) + len(failures.failed))
        return good, failures.failed

    @staticmethod
    def _prepared(row: Row) -> bool:
        return isinstance(row.audio_path or row.video_path, PreparedClip)

    def _has(self, row: Row) -> bool:
        """Whether there are whole features of a clip, made of its media as they are."""
        path, version = self.path(row), media_version(row)
        try:
            with safe_open(path, "numpy") as file:  # it compares the file's length with the header
                return version in ("", _header(file)[1])
        except DAMAGE:
            return False

    def _made(self, todo: Mapping[Path, Row], workers: int) -> Iterator[tuple[Path, MediaError | None]]:
        """Compute and store features; yields each clip's path and why it has none, if it has none."""
        rows = list(todo.values())
        versions = [media_version(row) for row in rows]
        for path, version, made in zip(todo, versions, self._computed(rows, workers), strict=True):
            if isinstance(made, MediaError):
                yield path, made
            else:
                _store(path, version, made)
                yield path, None

    def _computed(self, rows: Sequence[Row], workers: int) -> Iterator[ClipFeatures | MediaError]:
        if self.pixels is None:
            yield from self.extract.of_rows(rows, workers)
            return
        with ThreadPoolExecutor(workers) as pool:
            try:
                yield from pool.map(self._compute, rows)
            finally:
                pool.shutdown(cancel_futures=True)

    def _compute(self, row: Row) -> ClipFeatures:
        return self.extract(row) if self.pixels is None else self.extract.encode_frames(self.pixels.load(row))

    def _fingerprint(self) -> str:
        """Names the codec's weights, the frames' size and number, and what is kept of a clip."""
        extract, config = self.extract, self.model.config
        digest = hashlib.sha256(json.dumps(asdict(config.audio.codec), default=str).encode())
        # Waveforms do not depend on the codec, which trains.
        if not extract.keep_waveform:
            add_weights(digest, self.model.audio.codec)
        digest.update(f"{extract.image_size},{config.video.num_frames},{extract.max_seconds}".encode())
        return digest.hexdigest()[:16]


def clip_bytes(features: ClipFeatures, version: str) -> bytes:
    """A clip as safetensors, with a checksum of the arrays and the version of the media that it was made of."""
    arrays = features.arrays()
    # One value, since safetensors writes several in any order.
    data: bytes = save(arrays, metadata={"made": f"{_checksum(arrays)} {version}"})
    return data


def read_clip(path: Path) -> ClipFeatures:
    """What `clip_bytes` wrote to a file. Raises one of DAMAGE."""
    with safe_open(path, "numpy") as file:
        arrays, (crc, _) = {name: file.get_tensor(name) for name in file.keys()}, _header(file)  # noqa: SIM118
    if _checksum(arrays) != crc:
        raise ValueError("its checksum differs")
    return ClipFeatures(**arrays)


def _store(path: Path, version: str, features: ClipFeatures) -> None:
    write_all(path, clip_bytes(features, version))


def _header(file: safe_open) -> tuple[str, str]:
    """The checksum and the version of the media in a file's header."""
    crc, _, version = file.metadata()["made"].partition(" ")
    return crc, version


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    crc = 0
    for name, array in sorted(arrays.items()):
        crc = zlib.crc32(
            np.ascontiguousarray(array).data, zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), crc)
        )
    return f"{crc:08x}"


def _asked(row: Row, clip: ClipFeatures) -> ClipFeatures:
    """The streams of a prepared clip that the row still names."""
    if row.audio_path is None:
        clip = replace(clip, latents=None)
    return clip if row.video_path is not None else replace(clip, frames=None)
