"""What the frozen parts of a model make of each clip, computed once and kept on disk.

A clip's features are its codec latents (or, for a codec that still trains, its waveform) and its resized frames.
Each clip is one `.npz` under a folder named after what made it, so that a change of codec never reads old latents.
"""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import nn

from peav.data.manifest import Row
from peav.errors import MediaError
from peav.features.decode import Cut, Decoded, decode, decode_each, decode_task
from peav.features.failures import Failures
from peav.features.prepared import PreparedClip
from peav.media import pad_to_hop
from peav.model import PEAV
from peav.model.frame_encoder import to_pixels
from peav.utils.atomic import atomic_write
from peav.utils.storage import FilePart, is_remote

VERSION = "version"  # of the media, among the arrays of a clip
DAMAGE = (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, OSError)  # what reading torn features raises
ROUND_TRIPS = 32  # reads from object storage at a time
# np.load parses headers with Python's own parser, which fails now and then (SystemError) in several threads of 3.11.
_PARSING = Lock()


@dataclass(frozen=True)
class ClipFeatures:
    """One clip, ready for the towers; a stream that it lacks is None.

    `latents`: (T, latent_dim) float16 at 25 a second, or None when the waveform is kept instead.
    `waveform`: (S,) float16 at the codec's rate, a whole number of hops, or None.
    `frames`: (N, size, size, 3) uint8, or (N, F) float16 features of a frozen frame encoder, or None.
    """

    latents: np.ndarray | None = None
    waveform: np.ndarray | None = None
    frames: np.ndarray | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """Those that there are, by name."""
        return {name: array for name, array in vars(self).items() if array is not None}


class FeatureMaker:
    """Computes `ClipFeatures` with one model's codec and frame size; arguments as of `FeatureCache`."""

    def __init__(self, model: PEAV, *, keep_waveform: bool = False, max_seconds: float = 10.0) -> None:
        self.model, self.keep_waveform, self.max_seconds = model, keep_waveform, max_seconds

    def __call__(self, row: Row) -> ClipFeatures:
        """Decode a clip here: latents (or waveform) and pixels. Raises MediaError."""
        return self.of_decoded(decode(row.audio_path, row.video_path, row.start, row.end, self.cut))

    def of_rows(self, rows: Iterable[Row], workers: int) -> Iterator[ClipFeatures | MediaError]:
        """The features of each clip, or why it has none; decoded in worker processes, ahead of the codec's work."""
        tasks = (decode_task(row.audio_path, row.video_path, row.start, row.end, self.cut) for row in rows)
        for decoded in decode_each(tasks, self.max_seconds, workers):
            yield decoded if isinstance(decoded, MediaError) else self.of_decoded(decoded)

    def of_decoded(self, clip: Decoded) -> ClipFeatures:
        """Those of a decoded clip."""
        sound = ClipFeatures() if clip.waveform is None else self.of_sound(clip.waveform)
        return replace(sound, frames=clip.frames)

    @property
    def cut(self) -> Cut:
        """What is decoded of a clip."""
        return Cut(self.num_frames, self.image_size, self.max_seconds)

    def of_sound(self, waveform: np.ndarray) -> ClipFeatures:
        """Those of (S,) samples at the codec's rate."""
        waveform = pad_to_hop(waveform, self.model.config.audio.codec.hop_length)
        if self.keep_waveform:
            return ClipFeatures(waveform=waveform.astype(np.float16))
        return ClipFeatures(latents=self._encode(waveform))

    @property
    def image_size(self) -> int:
        """Side of a frame, in pixels."""
        return self.model.config.video.frame_encoder.image_size

    @property
    def num_frames(self) -> int:
        """How many frames of a clip; 16 for models that otherwise take all."""
        return self.model.config.video.num_frames or 16

    @torch.inference_mode()
    def encode_frames(self, clip: ClipFeatures) -> ClipFeatures:
        """The clip with what the model's frame encoder makes of its pixels: (N, F) float16."""
        if clip.frames is None:
            return clip
        features = self.model.frame_features(to_pixels(torch.from_numpy(clip.frames)))
        return replace(clip, frames=features.to(torch.float16).numpy())

    @torch.inference_mode()
    def _encode(self, waveform: np.ndarray) -> np.ndarray:
        device = next(self.model.audio.codec.parameters()).device
        latents = self.model.encode_codec(torch.from_numpy(waveform)[None].to(device))
        return latents[0].to(torch.float16).cpu().numpy()


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
        self.model, self.make = model, FeatureMaker(model, keep_waveform=keep_waveform, max_seconds=max_seconds)
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
        return self.folder / f"{clip_key(row)}.npz"

    def load(self, row: Row) -> ClipFeatures:
        """The features of a clip that `prepare` has been through; damaged ones are made again.

        Raises:
            PreparedError: a damaged shard. MediaError: damaged features whose media can no longer be read.
        """
        place = row.audio_path or row.video_path
        if isinstance(place, PreparedClip):
            return _asked(row, ClipFeatures(**place.arrays()))
        try:
            with _PARSING, open(self.path(row), "rb") as file, np.load(file) as arrays:
                return ClipFeatures(**{name: arrays[name] for name in arrays.files if name != VERSION})
        except DAMAGE as error:
            if isinstance(error, FileNotFoundError):
                raise
            warnings.warn(f"{self.path(row)}: damaged features ({error}); they are made again", stacklevel=2)
        version, features = media_version(row), self._compute(row)
        self._store(row, version, features)
        return features

    def load_all(self, rows: Sequence[Row]) -> list[ClipFeatures]:
        """The features of several clips; from object storage, many at a time."""
        places = [row.audio_path or row.video_path for row in rows]
        if not any(isinstance(place, PreparedClip) and is_remote(place.path) for place in places):
            return [self.load(row) for row in rows]
        with ThreadPoolExecutor(ROUND_TRIPS) as pool:
            return list(pool.map(self.load, rows))

    def streams(self, row: Row) -> tuple[bool, bool]:
        """Whether a clip that `prepare` has been through has audio and video, told without reading its features."""
        place = row.audio_path or row.video_path
        if isinstance(place, PreparedClip):
            return place.audio and row.audio_path is not None, place.video and row.video_path is not None
        if row.audio_path != row.video_path:
            return row.audio_path is not None, row.video_path is not None
        with np.load(self.path(row)) as arrays:
            return not {"latents", "waveform"}.isdisjoint(arrays.files), "frames" in arrays.files

    def prepare(
        self, rows: Sequence[Row], progress: Callable[[int], None] = lambda done: None, workers: int = 2
    ) -> tuple[list[Row], list[tuple[Row, str]]]:
        """Compute what is not there yet.

        Returns:
            The rows that have features, in order, and those that failed with the reason.

        Raises:
            TooManyFailures: see `features.failures`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        failures = Failures(len(rows))
        good: list[Row] = []
        todo = {self.path(row): row for row in rows if not self._prepared(row) and not self._has(row)}
        outcomes = zip(todo, self._made(list(todo.values()), workers), strict=True)
        reasons: dict[Path, str | None] = {}
        for row in rows:
            path, error = self.path(row), None
            if self._prepared(row):
                error = None if any(self.streams(row)) else "it was prepared without the stream that is asked for"
            elif path in todo:
                while path not in reasons:
                    made, reason = next(outcomes)
                    reasons[made] = reason
                error = reasons[path]
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
            return path.exists() and version in ("", _version_in(path))
        except DAMAGE:
            return False

    def _made(self, rows: Sequence[Row], workers: int) -> Iterator[str | None]:
        """Compute and store features; yields for each clip why it has none, if it has none."""
        versions = [media_version(row) for row in rows]
        for row, version, made in zip(rows, versions, self._computed(rows, workers), strict=True):
            if isinstance(made, MediaError):
                yield f"{type(made).__name__}: {made}"
            else:
                self._store(row, version, made)
                yield None

    def _computed(self, rows: Sequence[Row], workers: int) -> Iterator[ClipFeatures | MediaError]:
        if self.pixels is None:
            yield from self.make.of_rows(rows, workers)
            return
        with ThreadPoolExecutor(workers) as pool:
            try:
                yield from pool.map(self._compute, rows)
            finally:
                pool.shutdown(cancel_futures=True)

    def _store(self, row: Row, version: str, features: ClipFeatures) -> None:
        with atomic_write(self.path(row)) as temporary, open(temporary, "wb") as out:
            np.savez(out, **features.arrays(), **{VERSION: np.array(version)})  # type: ignore[arg-type]

    def _compute(self, row: Row) -> ClipFeatures:
        return self.make(row) if self.pixels is None else self.make.encode_frames(self.pixels.load(row))

    def _fingerprint(self) -> str:
        """Names the codec's weights, the frames' size and number, and what is kept of a clip."""
        make, config = self.make, self.model.config
        digest = hashlib.sha256(json.dumps(asdict(config.audio.codec), default=str).encode())
        if not make.keep_waveform:
            add_weights(digest, self.model.audio.codec)
        digest.update(f"{make.image_size},{config.video.num_frames},{make.max_seconds}".encode())
        return digest.hexdigest()[:16]


def clip_key(row: Row) -> str:
    """Names a clip by its id and by what its features are cut from, a tar that took another's place being another."""
    versions = [place.version for place in (row.audio_path, row.video_path) if isinstance(place, FilePart)]
    source = "|".join(map(str, (row.id, row.audio_path, row.video_path, row.start, row.end, *versions)))
    return hashlib.sha256(source.encode()).hexdigest()[:24]


def media_version(row: Row) -> str:
    """Tells a clip's files from others in their place.

    Empty where that cannot be told: they are gone, or in a tar, whose version is in the clip's key.
    """
    marks = []
    for path in dict.fromkeys((row.audio_path, row.video_path)):
        if isinstance(path, Path):
            try:
                status = path.stat()
            except OSError:  # it is refused when it is read
                return ""
            marks.append(f"{status.st_size}-{status.st_mtime_ns}")
    return " ".join(marks)


def _version_in(path: Path) -> str:
    """The version of the media that stored features were made of; that of older caches is not known."""
    with _PARSING, open(path, "rb") as file, np.load(file) as arrays:
        return str(arrays[VERSION]) if VERSION in arrays.files else "unknown"


def _asked(row: Row, clip: ClipFeatures) -> ClipFeatures:
    """The streams of a prepared clip that the row still names."""
    if row.audio_path is None:
        clip = replace(clip, latents=None)
    return clip if row.video_path is not None else replace(clip, frames=None)


def add_weights(digest: hashlib._Hash, module: nn.Module) -> None:
    """Let a digest depend on a module's weights, at single precision."""
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
