"""Makes prepared folders (see `features.prepared`): features of a manifest in shards, going on where it stopped."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import tarfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from peav.data.manifest import Row
from peav.errors import MediaError, PreparedError
from peav.features.extract import FeatureExtractor, add_weights
from peav.features.failures import Failures, clip_failure
from peav.features.keys import clip_key, media_version
from peav.features.prepared import CLIPS, FAILURES, FORMAT, SPEC_FILE, FeatureSpec, read_spec, shard_entry, to_line
from peav.features.store import clip_bytes
from peav.jobs import GOES_ON, Pace, stoppable, write_failures
from peav.model import PEAV
from peav.utils.jsonl import read_lines
from peav.utils.lock import FolderLock
from peav.utils.remote import write_new
from peav.utils.storage import FilePart, is_remote, join, names_in, read_all, remove, sizes_in, write_all
from peav.utils.text import counted

logger = logging.getLogger(__name__)
SHARD_CLIPS = 256


@dataclass(frozen=True)
class Prepared:
    """How many clips have features, how many of them were computed now, and how many cannot be read."""

    clips: int
    computed: int
    failed: int


@dataclass(frozen=True)
class Clip:
    """A clip to prepare: its row, its key in the folder, and the version of its media."""

    key: str
    version: str
    row: Row


def prepare(
    rows: Sequence[Row],
    folder: str,
    model: PEAV,
    *,
    name: str,
    root: Path,
    max_seconds: float = 10.0,
    jobs: int = 2,
    shard_clips: int = SHARD_CLIPS,
    progress: Callable[[int], None] = lambda done: None,
) -> Prepared:
    """Compute the features that are not in `folder` yet, a shard at a time, and list all rows with their places.

    Clips are known by their ids, times and paths from `root`; one whose media file was replaced is computed again.
    Those that `failures.jsonl` lists are tried again when their files have changed, or when it is removed. What is
    computed is on the disk within seconds, so that a run that stops loses nothing else.

    Args:
        folder: a path, or an address in object storage. One process at a time may write there, and a second is
            refused; not in object storage, which has no locks: neither writes over what the other has made.
        name: of the model, for messages.
        jobs: clips decoded at a time.
        progress: told how many rows are done.

    Raises:
        PreparedError: another codec, frame encoder or size made what is there, or another process writes there.
        StorageError: the clips' storage or that of the folder fails.
        TooManyFailures: see `features.failures`.
    """
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done)

    held = PreparedError(f"{folder}: another process prepares clips there; wait for it")
    lock = nullcontext() if is_remote(folder) else FolderLock(Path(folder), held)
    with stoppable(lambda: f"{done} of {counted(len(rows), 'clip')} are kept; {GOES_ON}"), lock:
        _claim(folder, feature_spec(model, max_seconds, name))
        clips = [Clip(clip_key(_from(root, row)), media_version(row), row) for row in rows]
        run = _Run(folder, clips, FeatureExtractor(model, max_seconds=max_seconds), jobs)
        done = len(clips) - len(run.todo)
        for first in range(0, len(run.todo), shard_clips):
            run.write_shard(run.todo[first : first + shard_clips], advance)
        places = run.shards.places
        listed = [to_line(clip.row, places[clip.key]) for clip in clips if clip.key in places]
        write_all(join(folder, CLIPS), b"".join(listed))  # last: a folder without it is not finished
        return Prepared(len(listed), run.computed, len(rows) - len(listed))


class _Run:
    """One run of `prepare`: what the folder holds, what failed, and what is still to do."""

    def __init__(self, folder: str, clips: Sequence[Clip], extract: FeatureExtractor, jobs: int) -> None:
        self.folder, self.extract = folder, extract
        self.shards, self.pending, self.pace, self.computed = Shards(folder), Pending(folder), Pace(), 0
        # A clip that failed is tried again when its file has changed; older lists do not say which file failed.
        versions = {clip.key: clip.version for clip in clips}
        listed = {line["clip"]: line for line in read_lines(join(folder, FAILURES))}
        self.failed = {k: line for k, line in listed.items() if line.get("version") in (None, versions.get(k))}
        todo = [clip for clip in clips if not self.shards.has(clip) and clip.key not in self.failed]
        # What is pending comes first: the next shard takes it in, and then `pending` is cleared.
        self.todo = sorted(todo, key=lambda clip: self.pending.get(clip) is None)
        self.failures = Failures(len(clips), before=len(self.failed))
        # In the order of `todo`: `_compute` takes the next one.
        self.made = extract.of_rows([clip.row for clip in self.todo if self.pending.get(clip) is None], jobs)

    def write_shard(self, clips: Sequence[Clip], advance: Callable[[], None]) -> None:
        """Compute what is not pending, and write one more shard of all that can be read."""
        good: list[tuple[Clip, bytes]] = []
        try:
            for clip in clips:
                result = self.pending.get(clip) or self._compute(clip)
                if isinstance(result, MediaError):
                    self.failed[clip.key] = clip_failure(clip.row, result, clip=clip.key, version=clip.version)
                    self.failures.note(clip.row, result)
                else:
                    good.append((clip, result))
                    self.failures.note(clip.row, None)
                advance()
                if self.pace.due():
                    self._save()
        # Also when a signal ends the job.
        finally:
            self._save()
        if good:
            self.shards.write(good)
        self.pending.clear()

    def _compute(self, clip: Clip) -> bytes | MediaError:
        features = next(self.made)
        if isinstance(features, MediaError):
            return features
        data = clip_bytes(self.extract.encode_frames(features), clip.version)
        self.pending.add(clip, data)
        self.computed += 1
        return data

    def _save(self) -> None:
        self.pending.flush()
        write_failures(join(self.folder, FAILURES), self.failed.values())


class Shards:
    """The shards of a folder: `places` says where each clip lies, as fields of a `PreparedClip`."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.places: dict[str, dict[str, Any]] = {}
        sizes = sizes_in(folder)
        indices = [name for name in sorted(sizes) if name.startswith("shard-") and name.endswith(".jsonl")]
        for name in indices:
            self._take(name, read_all(join(folder, name)), sizes.get(_shard(name), 0))
        self.number = 1 + max((int(name[6:-6]) for name in indices), default=-1)

    def has(self, clip: Clip) -> bool:
        """Whether there are features of a clip, made of its media as they are; of older shards it is not known."""
        return clip.key in self.places and clip.version in ("", self.places[clip.key].get("version", clip.version))

    def write(self, clips: Sequence[tuple[Clip, bytes]]) -> None:
        """One more shard; its index comes last, so that a shard counts from then on."""
        shard, offsets = _tar((f"{clip.key}.safetensors", data) for clip, data in clips)
        entries = [
            shard_entry(clip.key, start, data, clip.version) for (clip, data), start in zip(clips, offsets, strict=True)
        ]
        self.number = _put(self.folder, "shard", self.number, shard)
        name = f"shard-{self.number:06d}.jsonl"
        index = "".join(json.dumps(entry) + "\n" for entry in entries)
        write_all(join(self.folder, name), index)
        self._take(name, index, len(shard))
        self.number += 1

    def _take(self, name: str, index: bytes | str, size: int) -> None:
        """Note where a shard's clips lie, as far as its `size` in bytes goes."""
        lines = [json.loads(line) for line in index.splitlines()]
        there = [line for line in lines if line["offset"] + line["size"] <= size]
        if len(there) < len(lines):
            lost = counted(len(lines) - len(there), "clip")
            logger.warning("%s: ends early; the features of %s are made again", join(self.folder, _shard(name)), lost)
        for line in there:
            self.places[line["name"]] = line | {"shard": _shard(name)}


class Pending:
    """Clips of the shard that is not full yet, on the disk every few seconds in `pending-*.tar`."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.names = [name for name in names_in(folder) if name.startswith("pending-")]
        self.clips: dict[str, bytes] = {}  # by key and version
        self.new: dict[str, bytes] = {}
        for name in self.names:
            with tarfile.open(fileobj=io.BytesIO(read_all(join(folder, name)))) as tar:
                for member in tar:
                    data = tar.extractfile(member)
                    assert data is not None
                    self.clips[member.name] = data.read()

    def get(self, clip: Clip) -> bytes | None:
        """The features of this version of a clip, if they are there."""
        return self.clips.get(f"{clip.key}|{clip.version}")

    def add(self, clip: Clip, data: bytes) -> None:
        """Note new ones, for the next `flush`."""
        self.new[f"{clip.key}|{clip.version}"] = data

    def flush(self) -> None:
        """Have what is new on the disk."""
        if not self.new:
            return
        number = _put(self.folder, "pending", len(self.names), _tar(self.new.items())[0])
        self.names.append(f"pending-{number:06d}.tar")
        self.new = {}

    def clear(self) -> None:
        """They stand in a shard."""
        for name in self.names:
            remove(join(self.folder, name))
        self.names, self.new = [], {}  # `clips` may hold some of a later shard, where the manifest's order has changed


def feature_spec(model: PEAV, max_seconds: float, name: str) -> FeatureSpec:
    """What features made with a model depend on; `name` is how messages call the model."""
    extract = FeatureExtractor(model, max_seconds=max_seconds)
    codec, frames = hashlib.sha256(), hashlib.sha256()
    add_weights(codec, model.audio.codec)
    add_weights(frames, model.video.frame_encoder)
    digests = codec.hexdigest()[:12], frames.hexdigest()[:12]
    return FeatureSpec(name, *digests, extract.image_size, extract.num_frames, float(max_seconds))


def _tar(members: Iterable[tuple[str, bytes]]) -> tuple[bytes, list[int]]:
    """A tar, and where each member's bytes start in it."""
    file, offsets = io.BytesIO(), []
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            offsets.append(tar.offset + tarfile.BLOCKSIZE)  # past the member's header
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue(), offsets


def _shard(index: str) -> str:
    """The tar that an index belongs to."""
    return index.removesuffix("jsonl") + "tar"


def _put(folder: str, stem: str, number: int, data: bytes) -> int:
    """Write `stem-number.tar`; in object storage, which has no locks, with the next number that nobody has taken.

    Returns the number.
    """
    name = join(folder, f"{stem}-{{:06d}}.tar")
    if not is_remote(folder):
        write_all(name.format(number), data)
        return number
    while not write_new(name.format(number), data):
        number += 1
    return number


def _claim(folder: str, spec: FeatureSpec) -> None:
    """Note what makes the features of a new folder; an old one goes on with the same."""
    if SPEC_FILE not in names_in(folder):
        write_all(join(folder, SPEC_FILE), json.dumps({"format": FORMAT, **asdict(spec)}, indent=1) + "\n")
    made = read_spec(folder)
    if differing := made.differences(spec):
        raise PreparedError(
            f"{folder} was begun by {made.model} with {'; '.join(differing)} as in {spec.model}: "
            "go on with that model and size, or choose another folder"
        )


def _from(root: Path, row: Row) -> Row:
    """The row with its paths relative to `root`: a manifest that moves with its media keeps its clips."""

    def relative(place: Path | FilePart | None) -> Path | FilePart | None:
        if isinstance(place, FilePart):
            return replace(place, path=os.path.relpath(place.path, root)) if not is_remote(place.path) else place
        return None if place is None else Path(os.path.relpath(place, root))

    return replace(row, audio_path=relative(row.audio_path), video_path=relative(row.video_path))
