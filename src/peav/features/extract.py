"""From clips to features: what the frozen parts of a model make of a clip's sound and frames."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from peav.data.manifest import Row
from peav.errors import MediaError
from peav.features.decode import Cut, Decoded, decode, decode_each, decode_task
from peav.inference.batching import frame_features
from peav.inference.lanes import in_lanes
from peav.media import pad_to_hop
from peav.model import PEAV
from peav.model.config import DEFAULT_NUM_FRAMES


@dataclass(frozen=True)
class ClipFeatures:
    """One clip, ready for the towers; a stream that it lacks is None.

    `latents`: (T, latent_dim) float16 at 25 a second, or None when the waveform is kept instead.
    `waveform`: (S,) float16 (float32 where it is not stored) at the codec's rate, a whole number of hops, or None.
    `frames`: (N, size, size, 3) uint8, or (N, F) float16 features of a frozen frame encoder, or None.
    """

    latents: np.ndarray | None = None
    waveform: np.ndarray | None = None
    frames: np.ndarray | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """Those that there are, by name."""
        return {name: array for name, array in vars(self).items() if array is not None}


class FeatureExtractor:
    """Computes `ClipFeatures` with one model's codec and frame size; arguments as of `FeatureCache`."""

    def __init__(self, model: PEAV, *, keep_waveform: bool = False, max_seconds: float = 10.0) -> None:
        self.model, self.keep_waveform, self.max_seconds = model, keep_waveform, max_seconds

    def __call__(self, row: Row) -> ClipFeatures:
        """Decode a clip here: latents (or waveform) and pixels. Raises MediaError."""
        return self.of_decoded(decode(row.audio_path, row.video_path, row.start, row.end, self.cut))

    def of_rows(self, rows: Iterable[Row], workers: int) -> Iterator[ClipFeatures | MediaError]:
        """The features of each clip, or why it has none; decoded in worker processes, ahead of the codec's work, which
        on a CPU is done for several clips at a time.
        """
        tasks = (decode_task(row.audio_path, row.video_path, row.start, row.end, self.cut) for row in rows)
        decoded = decode_each(tasks, self.max_seconds, workers)
        return in_lanes(self._made, decoded, _device(self.model.audio.codec))

    def _made(self, decoded: Decoded | MediaError) -> ClipFeatures | MediaError:
        return decoded if isinstance(decoded, MediaError) else self.of_decoded(decoded)

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
        return self.model.config.video.num_frames or DEFAULT_NUM_FRAMES

    @torch.inference_mode()
    def encode_frames(self, clip: ClipFeatures) -> ClipFeatures:
        """The clip with what the model's frame encoder makes of its pixels: (N, F) float16."""
        if clip.frames is None:
            return clip
        features = frame_features(self.model, clip.frames)
        return replace(clip, frames=features.to(torch.float16).cpu().numpy())

    @torch.inference_mode()
    def _encode(self, waveform: np.ndarray) -> np.ndarray:
        # A copy, since numpy's memory may begin anywhere, and some processors' matrix products round by where it does.
        samples = torch.tensor(waveform, device=_device(self.model.audio.codec))
        latents = self.model.encode_codec(samples[None])
        return latents[0].to(torch.float16).cpu().numpy()


def add_weights(digest: hashlib._Hash, module: nn.Module) -> None:
    """Let a digest depend on a module's weights, at single precision."""
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().numpy().tobytes())


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
