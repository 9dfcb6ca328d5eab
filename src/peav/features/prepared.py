"""Prepared folders: the features of clips in shards, on disk or in object storage, and the rows that go with them.

    prepared.json          what made the features: codec, frame encoder, sizes
    clips.jsonl            every clip's row and where its features lie, in the manifest's order
    shard-000000.tar       features, one `.safetensors` a clip
    shard-000000.jsonl     where each clip lies in the shard; written last, so a shard without it does not count
    failures.jsonl         clips that could not be read

A clip is one range of bytes, read at random, so the order of a shuffle needs neither a buffer nor whole shards.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from safetensors.numpy import load

from peav.data.manifest import Row
from peav.errors import PreparedError
from peav.types import Event, Word
from peav.utils.storage import FilePart, join, read_all, read_range, whole

SPEC_FILE, CLIPS, FAILURES = "prepared.json", "clips.jsonl", "failures.jsonl"
FORMAT = 1


@dataclass(frozen=True)
class PreparedClip(FilePart):
    """A clip's features within a shard, which streams it turned out to have, and its bytes' checksum.

    `version` is that of the media which the features were made of.
    """

    audio: bool
    video: bool
    crc: int

    def read(self) -> bytes:
        """The clip as safetensors, of whichever shard is there: its checksum says whether it is the one."""
        return whole(self, read_range(self.path, self.offset, self.size))

    def arrays(self) -> dict[str, np.ndarray]:
        """The features by name.

        Raises:
            PreparedError: the shard is damaged or gone. StorageError: the storage fails. OSError: the shard ends early.
        """
        try:
            data = self.read()
        except FileNotFoundError as error:
            raise PreparedError(
                f"{self.path}: no such shard; copy it there again, or prepare the clips again"
            ) from error
        # safetensors has no checksum of its own.
        if zlib.crc32(data) != self.crc:
            raise PreparedError(f"{self}: damaged; remove this shard and its .jsonl, and prepare the clips again")
        arrays: dict[str, np.ndarray] = load(data)
        return arrays


def shard_entry(name: str, offset: int, data: bytes, version: str) -> dict[str, Any]:
    """The fields of a `PreparedClip` but for its path; `data` is the clip as safetensors."""
    arrays = load(data)
    streams = {"audio": "latents" in arrays, "video": "frames" in arrays}
    return {"name": name, "offset": offset, "size": len(data), "crc": zlib.crc32(data), "version": version} | streams


@dataclass(frozen=True)
class FeatureSpec:
    """What features depend on: digests of the frozen parts' weights, sizes. `model` is only a name for messages."""

    model: str
    codec: str
    frame_encoder: str
    image_size: int
    num_frames: int
    max_seconds: float

    def differences(self, other: FeatureSpec) -> list[str]:
        """Where two differ, `codec 1a2b, not 3c4d`; names of models do not count."""
        ours, theirs = asdict(self), asdict(other)
        return [
            f"{key.replace('_', ' ')} {ours[key]}, not {theirs[key]}"
            for key in ours
            if key != "model" and ours[key] != theirs[key]
        ]


def read_prepared(folder: str) -> list[Row]:
    """The rows of a prepared folder, in the manifest's order; their paths are `PreparedClip`s.

    Raises:
        PreparedError: it is no prepared folder, or `peav prepare` has not come to its end there.
    """
    read_spec(folder)
    try:
        lines = read_all(join(folder, CLIPS)).splitlines()
    except FileNotFoundError as error:
        raise PreparedError(f"{folder}: not finished; run the same `peav prepare` again, it goes on") from error
    return [_row(json.loads(line), folder) for line in lines]


def check_prepared(folder: str, spec: FeatureSpec) -> None:
    """Raises PreparedError, naming both, unless the folder was made by just these frozen parts."""
    made = read_spec(folder)
    if differing := made.differences(spec):
        raise PreparedError(
            f"{folder} was prepared by {made.model} with {'; '.join(differing)} as in {spec.model}: prepare the "
            "clips again with this model, or take codec, frames and frames.num_frames from the one that prepared them"
        )


def read_spec(folder: str) -> FeatureSpec:
    """What made a prepared folder. Raises PreparedError."""
    try:
        about = json.loads(read_all(join(folder, SPEC_FILE)))
        if about.pop("format") != FORMAT:
            raise PreparedError(f"{folder}: made by another version of peav; prepare it again")
        return FeatureSpec(**about)
    except FileNotFoundError as error:
        raise PreparedError(f"{folder}: no {SPEC_FILE} here; give a folder that `peav prepare` made") from error
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise PreparedError(f"{folder}/{SPEC_FILE}: cannot be read ({error!r}); prepare the clips again") from error


def to_line(row: Row, place: Mapping[str, Any]) -> bytes:
    """A row and its place as a line of `clips.jsonl`; of its paths only whether each is there."""
    values = asdict(row)
    paths = {"audio": values.pop("audio_path") is not None, "video": values.pop("video_path") is not None}
    line = {**values, "paths": paths, "place": place}
    return (json.dumps(line, ensure_ascii=False, default=str) + "\n").encode(errors="backslashreplace")


def _row(line: dict[str, Any], folder: str) -> Row:
    paths, place = line.pop("paths"), line.pop("place")
    shard = join(folder, place.pop("shard"))
    clip = PreparedClip(path=shard, **place)
    words = tuple(Word(**word) for word in line.pop("words"))
    events = tuple(Event(**{**event, "texts": tuple(event["texts"])}) for event in line.pop("events"))
    return Row(
        audio_path=clip if paths["audio"] else None,
        video_path=clip if paths["video"] else None,
        words=words,
        events=events,
        plain=tuple(line.pop("plain")),
        **line,
    )
