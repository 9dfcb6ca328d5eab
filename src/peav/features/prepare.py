"""Makes prepared folders (see `features.prepared`): features of a manifest in shards, going on where it stopped."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.numpy import load, save

from peav.data.manifest import Row
from peav.errors import MediaError, PreparedError
from peav.features.cache import ClipFeatures, FeatureMaker, add_weights, clip_key, media_version
from peav.features.failures import Failures, write_failures
from peav.features.prepared import ABOUT, CLIPS, FAILURES, FORMAT, Frozen, frozen_of, place_of, to_line
from peav.jobs import Pace, stoppable
from peav.model import PEAV
from peav.utils.lock import FolderLock
from peav.utils.storage import FilePart, is_remote, join, names_in, read_all, remove, write_all

SHARD_CLIPS = 256


@dataclass(frozen=True)
class Prepared:
    """How many clips have features, how many of them were computed now, and how many cannot be read."""

    clips: int
    computed: int
    failed: int


class Shards:
    """The shards of a folder: `places` says where each clip lies, as fields of a `PreparedClip`."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.places: dict[str, dict[str, Any]] = {}
        indices = [name for name in names_in(folder) if name.startswith("shard-") and name.endswith(".jsonl")]
        for name in indices:
            self._take(name, read_all(join(folder, name)))
        self.number = 1 + max((int(name[6:-6]) for name in indices), default=-1)

    def has(self, key: str, version: str) -> bool:
        """Whether there are features of a clip, made of this version of its media; of older shards it is not known."""
        return key in self.places and version in ("", self.places[key].get("version", version))

    def write(self, clips: Sequence[tuple[str, str, ClipFeatures]]) -> None:
        """One more shard of keys, versions and features; its index comes last, so that a shard counts from then on."""
        name = f"shard-{self.number:06d}"
        shard, lines = io.BytesIO(), []
        with tarfile.open(fileobj=shard, mode="w") as tar:
            for key, version, features in clips:
                arrays = features.arrays()
                data = save(arrays)
                member = tarfile.TarInfo(f"{key}.safetensors")
                member.size = len(data)
                start = tar.offset + tarfile.BLOCKSIZE  # past the member's header
                tar.addfile(member, io.BytesIO(data))
                lines.append(json.dumps(place_of(key, start, arrays, data, version)) + "\n")
        write_all(join(self.folder, f"{name}.tar"), shard.getvalue())
        index = "".join(lines).encode()
        write_all(join(self.folder, f"{name}.jsonl"), index)
        self._take(f"{name}.jsonl", index)
        self.number += 1

    def _take(self, name: str, index: bytes) -> None:
        shard = f"{name.removesuffix('.jsonl')}.tar"
        for line in map(json.loads, index.splitlines()):
            self.places[line["name"]] = line | {"shard": shard}


def frozen_parts(model: PEAV, max_seconds: float, name: str) -> Frozen:
    """What features made with a model depend on; `name` is how messages call the model."""
    make = FeatureMaker(model, max_seconds=max_seconds)
    codec, frames = hashlib.sha256(), hashlib.sha256()
    add_weights(codec, model.audio.codec)
    add_weights(frames, model.video.frame_encoder)
    digests = codec.hexdigest()[:12], frames.hexdigest()[:12]
    return Frozen(name, *digests, make.image_size, make.num_frames, float(max_seconds))


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
        folder: a path, or an address in object storage. One process at a time may write there; a second is refused,
            except in object storage, which has no locks.
        name: of the model, for messages.
        jobs: clips decoded at a time.
        progress: told how many rows are done.

    Raises:
        PreparedError: another codec, frame encoder or size made what is there, or another process writes there.
        TooManyFailures: see `features.failures`.
    """
    done = [0]
    with (
        stoppable(lambda: f"stopped: {done[0]} of {len(rows)} clips are kept; run the same command again, it goes on"),
        _alone(folder),
    ):
        _claim(folder, frozen_parts(model, max_seconds, name))
        shards, failed = Shards(folder), _failed(folder)
        keyed = [(clip_key(_from(root, row)), row) for row in rows]
        versions = {key: media_version(row) for key, row in keyed}
        # A clip that failed is tried again when its file has changed; older lists do not say which file failed.
        failed = {key: line for key, line in failed.items() if line.get("version") in (None, versions.get(key))}
        todo = [(key, row) for key, row in keyed if not shards.has(key, versions[key]) and key not in failed]
        pending, pace = Pending(folder), Pace()
        make, failures = FeatureMaker(model, max_seconds=max_seconds), Failures(len(rows), before=len(failed))
        done[0], computed = len(rows) - len(todo), 0
        made = make.of_rows([row for key, row in todo if pending.get(key, versions[key]) is None], jobs)
        for first in range(0, len(todo), shard_clips):
            part = todo[first : first + shard_clips]
            clips: list[tuple[str, str, ClipFeatures]] = []
            try:
                for key, row in part:
                    result: ClipFeatures | MediaError | None = pending.get(key, versions[key])
                    if result is None:
                        result = next(made)
                        if isinstance(result, ClipFeatures):
                            result = make.encode_frames(result)
                            pending.add(key, versions[key], result)
                            computed += 1
                    if isinstance(result, MediaError):
                        reason = f"{type(result).__name__}: {result}"
                        failed[key] = {"clip": key, "id": row.id, "reason": reason, "version": versions[key]}
                        failures.note(row, reason)
                    else:
                        clips.append((key, versions[key], result))
                        failures.note(row, None)
                    done[0] += 1
                    progress(done[0])
                    if pace.due():
                        pending.flush()
                        write_failures(join(folder, FAILURES), failed.values())
            finally:
                pending.flush()
                write_failures(join(folder, FAILURES), failed.values())
            if clips:
                shards.write(clips)
            pending.clear()
        listed = [to_line(row, shards.places[key]) for key, row in keyed if key in shards.places]
        write_all(join(folder, CLIPS), b"".join(listed))
        return Prepared(len(listed), computed, len(rows) - len(listed))


class Pending:
    """Clips of the shard that is not full yet, on the disk every few seconds in `pending-*.tar`."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.names = [name for name in names_in(folder) if name.startswith("pending-")]
        self.clips: dict[tuple[str, str], ClipFeatures] = {}
        self.new: dict[tuple[str, str], ClipFeatures] = {}
        for name in self.names:
            with tarfile.open(fileobj=io.BytesIO(read_all(join(folder, name)))) as tar:
                for member in tar:
                    data = tar.extractfile(member)
                    assert data is not None
                    key, _, version = member.name.partition("|")
                    self.clips[key, version] = ClipFeatures(**load(data.read()))

    def get(self, key: str, version: str) -> ClipFeatures | None:
        """The features of this version of a clip, if they are there."""
        return self.clips.get((key, version))

    def add(self, key: str, version: str, features: ClipFeatures) -> None:
        """Note new ones, for the next `flush`."""
        self.new[key, version] = features

    def flush(self) -> None:
        """Have what is new on the disk."""
        if not self.new:
            return
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for (key, version), features in self.new.items():
                data = save(features.arrays())
                member = tarfile.TarInfo(f"{key}|{version}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        name = f"pending-{len(self.names):06d}.tar"
        write_all(join(self.folder, name), file.getvalue())
        self.names.append(name)
        self.new = {}

    def clear(self) -> None:
        """They stand in a shard."""
        for name in self.names:
            remove(join(self.folder, name))
        self.names, self.clips, self.new = [], {}, {}


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    if is_remote(folder):
        yield
        return
    try:
        lock = FolderLock(Path(folder))
    except BlockingIOError as error:
        raise PreparedError(f"{folder}: another process prepares clips there; wait for it") from error
    try:
        yield
    finally:
        lock.release()


def _claim(folder: str, frozen: Frozen) -> None:
    """Note what makes the features of a new folder; an old one goes on with the same."""
    if ABOUT in names_in(folder):
        made = frozen_of(folder)
        if differing := made.differences(frozen):
            raise PreparedError(
                f"{folder} was begun by {made.model} with {'; '.join(differing)} as in {frozen.model}: "
                "go on with that model and size, or choose another folder"
            )
        return
    write_all(join(folder, ABOUT), (json.dumps({"format": FORMAT, **asdict(frozen)}, indent=1) + "\n").encode())


def _failed(folder: str) -> dict[str, dict[str, str]]:
    try:
        lines = read_all(join(folder, FAILURES)).splitlines()
    except FileNotFoundError:
        return {}
    return {line["clip"]: line for line in map(json.loads, lines)}


def _from(root: Path, row: Row) -> Row:
    """The row with its paths relative to `root`: a manifest that moves with its media keeps its clips."""

    def relative(place: Path | FilePart | None) -> Path | FilePart | None:
        if isinstance(place, FilePart):
            return replace(place, path=os.path.relpath(place.path, root)) if not is_remote(place.path) else place
        return None if place is None else Path(os.path.relpath(place, root))

    return replace(row, audio_path=relative(row.audio_path), video_path=relative(row.video_path))
