"""WebDataset tars as manifest rows: members that share a name up to its last dot are one clip, wherever they stand.

Media (`.mp4`, `.wav`, `.flac`, `.ogg`, ...) stay in the tar and are read from their place in it; `.txt` is a caption,
`.json` holds a manifest's fields. A tar is read through once, for an index of where everything lies.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from peav.data.manifest import Row, parse_row, unique
from peav.errors import ManifestError, StorageError
from peav.utils.storage import FilePart, is_remote, join, matching, open_binary, read_all, version_mark, write_all
from peav.utils.text import decode, parse_json

SOUND = ("wav", "flac", "ogg", "opus", "mp3", "m4a", "aac")
MOVING = ("mp4", "m4v", "mov", "mkv", "webm", "avi")
PATHS = ("path", "audio_path", "video_path")
FORMAT = 2  # of an index: one of another format is made again
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def read_webdataset(pattern: str, index: str | None = None) -> list[Row]:
    """The clips of all tars that `pattern` names, in the order of the tars and of their members.

    Args:
        pattern: a path or an address, with `{0000..0007}`, `{a,b}`, `*`, `?` or `[0-3]` in it for several.
        index: a folder for the tars' indices, so that the next call need not read the tars.

    Raises:
        ManifestError: a tar is missing, compressed or damaged, a name or an id stands twice, a caption has no clip, or
            fields that do not fit.
    """
    return unique(
        (f"{tar}/{sample['key']}", _row(tar, version, sample))
        for piece in expand(pattern)
        for tar in matching(piece)
        for version, samples in [_samples(tar, index)]
        for sample in samples
    )


def expand(pattern: str) -> list[str]:
    """`clips-{0000..0002}.tar` -> three paths; `{a,b}` -> two; without braces, the pattern itself."""
    pieces = _BRACES.split(pattern)  # every other piece was in braces
    options = [[piece] if place % 2 == 0 else _options(piece) for place, piece in enumerate(pieces)]
    return ["".join(chosen) for chosen in itertools.product(*options)]


def _options(braced: str) -> list[str]:
    found = _RANGE.fullmatch(braced)
    if found is None:
        return braced.split(",")
    first, last = int(found[1]), int(found[2])
    if last < first:
        raise ManifestError(f"{{{braced}}}: counts downwards; write the smaller number first")
    return [str(number).zfill(len(found[1])) for number in range(first, last + 1)]


def _samples(tar: str, index: str | None) -> tuple[str, list[dict[str, Any]]]:
    """What tells this tar from another in its place, and its clips: `key`, `parts` (name, offset, size by extension),
    `text` and `fields`.
    """
    try:
        version = version_mark(tar)
    except FileNotFoundError as error:
        raise ManifestError(f"{tar}: no such tar; check the path and the pattern") from error
    if index is None:
        return version, _scan(tar)
    kept = join(index, f"{hashlib.sha256(tar.encode()).hexdigest()[:24]}.jsonl")
    wanted = {"tar": tar, "version": version, "format": FORMAT}
    try:
        head, *samples = map(json.loads, read_all(kept).splitlines())
        if head == wanted:
            return version, samples
    except StorageError:
        raise
    except (FileNotFoundError, ValueError):  # not there, or damaged
        pass
    samples = _scan(tar)
    lines = [json.dumps(line) + "\n" for line in (wanted, *samples)]
    write_all(kept, "".join(lines).encode())
    return version, samples


def _scan(tar: str) -> list[dict[str, Any]]:
    """Read a tar through; what belongs to no clip is left out (tars hold licenses and notes, too)."""
    samples: dict[str, dict[str, Any]] = {}
    with open_binary(tar) as file:
        for member in _members(tar, file):
            key, extension = _split(member.name)
            sample = samples.setdefault(key, {"key": key, "parts": {}, "text": None, "fields": None})
            if extension in (*SOUND, *MOVING):
                _once(tar, member, extension in sample["parts"])
                sample["parts"][extension] = [member.name, member.offset_data, member.size]
            elif told := {"txt": "text", "json": "fields"}.get(extension):
                _once(tar, member, sample[told] is not None)
                sample[told] = _read(file, member)
    clips = [sample for sample in samples.values() if sample["parts"]]
    _check_captions(tar, samples)
    for sample in clips:  # not those of notes, which may hold anything
        place = f"{tar}/{sample['key']}"
        text, fields = sample["text"], sample["fields"]
        sample["text"] = None if text is None else decode(text, f"{place}.txt", ManifestError).strip()
        sample["fields"] = None if fields is None else _fields(fields, f"{place}.json")
    return clips


def _members(tar: str, file: BinaryIO) -> list[tarfile.TarInfo]:
    try:
        # "r:" takes no compression: members of a compressed tar have no place from which they can be read.
        with tarfile.open(fileobj=file, mode="r:") as archive:
            members = [member for member in archive if member.isfile()]
            file.seek(archive.offset)
            if len(file.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:  # cut off between two members
                raise tarfile.ReadError("it lacks the mark of a tar's end")
            return members
    except StorageError:
        raise
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise ManifestError(f"{tar}: cannot be read ({error}); it must be whole, and not compressed") from error


def _once(tar: str, member: tarfile.TarInfo, again: bool) -> None:
    if again:
        raise ManifestError(f"{tar}: {member.name!r} stands twice; give each clip a name of its own")


def _check_captions(tar: str, samples: dict[str, dict[str, Any]]) -> None:
    """Refuse `clip.txt` beside `clip.left.wav`: whether they belong together cannot be told."""
    media = {key for key, sample in samples.items() if sample["parts"]}
    whole = {key.rpartition("/")[0] + "/" + key.rpartition("/")[2].partition(".")[0]: key for key in sorted(media)}
    for key, sample in samples.items():
        near = whole.get(key.rpartition("/")[0] + "/" + key.rpartition("/")[2])
        if key not in media and near is not None and (sample["text"] is not None or sample["fields"] is not None):
            name = f"{key}.{'txt' if sample['text'] is not None else 'json'}"
            raise ManifestError(
                f"{tar}: {name!r} names no clip, and {near!r} has another name; members of one clip share their name "
                "up to its last dot"
            )


def _split(name: str) -> tuple[str, str]:
    folder, slash, file = name.rpartition("/")
    stem, dot, extension = file.rpartition(".")
    return (folder + slash + stem, extension.lower()) if dot else (name, "")


def _read(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    return file.read(member.size)


def _fields(data: bytes, where: str) -> dict[str, Any]:
    fields = parse_json(decode(data, where, ManifestError), where, ManifestError)
    if not isinstance(fields, dict):
        raise ManifestError(f"{where}: must be a JSON object, not {type(fields).__name__}")
    return fields


def _row(tar: str, version: str, sample: dict[str, Any]) -> Row:
    """Sound comes from a sound file where there is one, else from the video."""
    path = tar if is_remote(tar) else str(Path(tar).absolute())
    parts = {
        extension: FilePart(path, offset, size, name, version=version)
        for extension, (name, offset, size) in sample["parts"].items()
    }
    sound = next((parts[extension] for extension in SOUND if extension in parts), None)
    moving = next((parts[extension] for extension in MOVING if extension in parts), None)
    fields = {key: value for key, value in (sample["fields"] or {}).items() if key not in PATHS}
    if fields.get("id") is None:
        fields["id"] = f"{Path(tar).stem}/{sample['key']}"
    elif isinstance(fields["id"], int):
        fields["id"] = str(fields["id"])
    if sample["text"]:
        fields["text"] = sample["text"]
    streams = {"audio_path": sample["key"], "video_path": moving and sample["key"]}
    row = parse_row(fields | streams, Path(), f"{tar}/{sample['key']}")
    return replace(row, audio_path=sound or moving, video_path=moving)
