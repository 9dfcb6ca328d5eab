"""What the frozen parts of a model make of each clip, computed once and kept on disk.

A clip's features are its codec latents (or, for a codec that still trains, its waveform) and its resized frames.
Each clip is one `.npz` under a folder named after what made it, so that a change of codec never reads old latents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from peav.checkpoint.atomic import atomic_write
from peav.data.manifest import Row
from peav.media import MediaError, load_audio, load_frames, pad_to_hop, probe
from peav.model import PEAV
from peav.model.frame_encoder import to_pixels


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


class FeatureCache:
    """Makes, stores and reads `ClipFeatures` for one model's codec and frame size.

    Args:
        folder: where the cache lives; it may be shared between models.
        model: supplies the codec and the shapes.
        keep_waveform: store waveforms, for training the codec itself.
        max_seconds: clips longer than this keep their first `max_seconds`.
    """

    def __init__(self, folder: str | Path, model: PEAV, *, keep_waveform: bool = False, max_seconds: float = 10.0):
        self.model, self.keep_waveform, self.max_seconds = model, keep_waveform, max_seconds
        self.pixels: FeatureCache | None = None
        self.folder = Path(folder) / self._fingerprint()

    def with_frozen_frames(self) -> FeatureCache:
        """A cache beside this one that holds what the model's frame encoder makes of the frames in this one."""
        frozen = copy(self)
        frozen.pixels = self
        digest = hashlib.sha256(self.folder.name.encode())
        _add_weights(digest, self.model.video.frame_encoder)
        frozen.folder = self.folder.parent / digest.hexdigest()[:16]
        return frozen

    def path(self, row: Row) -> Path:
        """The file of a clip, named by its id and by what its features were cut from."""
        source = f"{row.id}|{row.audio_path}|{row.video_path}|{row.start}|{row.end}"
        return self.folder / f"{hashlib.sha256(source.encode()).hexdigest()[:24]}.npz"

    def load(self, row: Row) -> ClipFeatures:
        """The features of a clip that `prepare` has been through."""
        with np.load(self.path(row)) as arrays:
            return ClipFeatures(**{name: arrays[name] for name in arrays.files})

    def streams(self, row: Row) -> tuple[bool, bool]:
        """Whether a clip that `prepare` has been through has audio and video, told without reading its features."""
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
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        good: list[Row] = []
        failed: list[tuple[Row, str]] = []
        with ThreadPoolExecutor(workers) as pool:
            for row, error in zip(rows, pool.map(self._ensure, rows), strict=True):
                if error is None:
                    good.append(row)
                else:
                    failed.append((row, error))
                progress(len(good) + len(failed))
        return good, failed

    def _ensure(self, row: Row) -> str | None:
        path = self.path(row)
        if path.exists():
            return None
        try:
            features = self._compute(row)
        except MediaError as error:
            return f"{type(error).__name__}: {error}"
        with atomic_write(path) as temporary, open(temporary, "wb") as out:
            np.savez(out, **{name: array for name, array in vars(features).items() if array is not None})
        return None

    def _compute(self, row: Row) -> ClipFeatures:
        if self.pixels is not None:
            clip = self.pixels.load(row)
            return clip if clip.frames is None else replace(clip, frames=self._encode_frames(clip.frames))
        start = row.start or 0.0
        end = start + self.max_seconds if row.end is None else min(row.end, start + self.max_seconds)
        hop = self.model.config.audio.codec.hop_length
        latents = waveform = frames = None
        if row.audio_path is not None and (row.audio_path != row.video_path or probe(row.audio_path).has_audio):
            waveform = pad_to_hop(load_audio(row.audio_path, start=start, end=end), hop)
            if not self.keep_waveform:
                latents, waveform = self._encode(waveform), None
        if row.video_path is not None and (row.audio_path != row.video_path or probe(row.video_path).has_video):
            video = self.model.config.video
            count = video.num_frames or 16
            frames = load_frames(
                row.video_path, num_frames=count, start=start, end=end, size=video.frame_encoder.image_size
            ).pixels
        return ClipFeatures(latents, None if waveform is None else waveform.astype(np.float16), frames)

    @torch.inference_mode()
    def _encode(self, waveform: np.ndarray) -> np.ndarray:
        latents = self.model.encode_codec(torch.from_numpy(waveform)[None])
        return latents[0].to(torch.float16).numpy()

    @torch.inference_mode()
    def _encode_frames(self, frames: np.ndarray) -> np.ndarray:
        return self.model.frame_features(to_pixels(torch.from_numpy(frames))).to(torch.float16).numpy()

    def _fingerprint(self) -> str:
        """Names the codec's weights, the frames' size and number, and what is kept of a clip."""
        video = self.model.config.video
        digest = hashlib.sha256(json.dumps(asdict(self.model.config.audio.codec), default=str).encode())
        if not self.keep_waveform:
            _add_weights(digest, self.model.audio.codec)
        digest.update(f"{video.frame_encoder.image_size},{video.num_frames},{self.max_seconds}".encode())
        return digest.hexdigest()[:16]


def _add_weights(digest: hashlib._Hash, module: nn.Module) -> None:
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
