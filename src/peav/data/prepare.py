"""Makes prepared folders (`data.prepared`): features of a manifest's clips in shards, going on where it was stopped."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from peav.data.failures import Failures, write_failures
from peav.data.features import ClipFeatures, FeatureMaker, add_weights, clip_key, media_version
from peav.data.manifest import Row
from peav.data.prepared import ABOUT, CLIPS, FAILURES, FORMAT, Frozen, PreparedError, frozen_of, place_of, to_line
from peav.media import MediaError
from peav.model import PEAV
from peav.utils.lock import FolderLock
from peav.utils.storage import FilePart, is_remote, join, names_in, read_all, write_all

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
    Those that `failures.jsonl` lists are not tried again until it is removed.

    Args:
        folder: a path, or an address in object storage. One process at a time may write there; a second is refused,
            except in object storage, which has no locks.
        name: of the model, for messages.
        jobs: clips decoded at a time.
        progress: told how many rows are done.

    Raises:
        PreparedError: another codec, frame encoder or size made what is there, or another process writes there.
        TooManyFailures: see `data.failures`.
    """
    with _alone(folder):
        _claim(folder, frozen_parts(model, max_seconds, name))
        shards, failed = Shards(folder), _failed(folder)
        keyed = [(clip_key(_from(root, row)), row) for row in rows]
        todo = [(key, row) for key, row in keyed if not shards.has(key, media_version(row)) and key not in failed]
        make, failures = FeatureMaker(model, max_seconds=max_seconds), Failures(len(rows), before=len(failed))
        done = len(rows) - len(todo)
        for first in range(0, len(todo), shard_clips):
            clips: list[tuple[str, str, ClipFeatures]] = []
            versions = {key: media_version(row) for key, row in todo[first : first + shard_clips]}
            try:
                for key, row, result in _computed(make, todo[first : first + shard_clips], jobs):
                    if isinstance(result, ClipFeatures):
                        clips.append((key, versions[key], result))
                        failures.note(row, None)
                    else:
                        failed[key] = {"clip": key, "id": row.id, "reason": result}
                        failures.note(row, result)
                    done += 1
                    progress(done)
            finally:
                write_failures(join(folder, FAILURES), failed.values())
            if clips:
                shards.write(clips)
        listed = [to_line(row, shards.places[key]) for key, row in keyed if key in shards.places]
        write_all(join(folder, CLIPS), b"".join(listed))
        return Prepared(len(listed), len(todo) - len(failures.failed), len(rows) - len(listed))


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


def _computed(
    make: FeatureMaker, part: Sequence[tuple[str, Row]], jobs: int
) -> Iterator[tuple[str, Row, ClipFeatures | str]]:
    """Each clip's features, or why it has none."""

    def compute(item: tuple[str, Row]) -> ClipFeatures | str:
        try:
            return make.encode_frames(make(item[1]))
        except MediaError as error:
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for (key, row), result in zip(part, pool.map(compute, part), strict=True):
                yield key, row, result
        finally:
            pool.shutdown(cancel_futures=True)


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
