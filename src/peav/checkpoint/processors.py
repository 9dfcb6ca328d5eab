"""The transformers layout's processor files: the sampling rate and the number of frames stand there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from peav.model import PEAFrameConfig
from peav.model.config import Frames, SamplingRate

from .bundle import ModelConfig
from .fields import Section
from .files import read_json, write_json

_VIDEO, _AUDIO, _BOTH = "video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json"


class Processors(NamedTuple):
    """What the processors prescribe."""

    num_frames: int | None = None  # of a clip; None: all of them
    sampling_rate: int = 48000


def read_processors(directory: Path) -> Processors:
    """Read what there is; newer files keep both processors in one, older ones keep one each.

    Raises CheckpointError, naming file and field, for values out of their bounds.
    """
    video = _find(directory, "video_processor", (_VIDEO, _BOTH, _AUDIO), "num_frames", Frames)
    audio = _find(directory, "feature_extractor", (_AUDIO, _BOTH), "sampling_rate", SamplingRate)
    return Processors(video, audio or Processors().sampling_rate)


def _find(directory: Path, part: str, names: tuple[str, ...], key: str, kind: Any) -> int | None:
    for path in (directory / name for name in names if (directory / name).is_file()):
        root = Section(read_json(path), str(path))
        section = root.section(part, root.values)
        value: int | None = section.take(kind | None, section.field(key))
        if value is not None:
            return value
    return None


def write_processors(config: ModelConfig, directory: Path) -> None:
    """Write the files that transformers' own processors read."""
    codec = config.audio.codec
    audio = {
        "feature_extractor_type": "PeAudioFeatureExtractor",
        "feature_size": 1,
        "sampling_rate": codec.sampling_rate,
        "hop_length": codec.hop_length,
    }
    write_json(directory / _AUDIO, audio)
    if isinstance(config, PEAFrameConfig):
        return
    size = config.video.frame_encoder.image_size
    video = {
        "video_processor_type": "PeVideoVideoProcessor",
        "num_frames": config.video.num_frames,
        "do_resize": True,
        "size": {"height": size, "width": size},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    write_json(directory / _VIDEO, video)
