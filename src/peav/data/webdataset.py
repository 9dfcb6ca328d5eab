"""WebDataset tars as manifest rows: members that share a name up to its first dot are one clip.

Media (`.mp4`, `.wav`, `.flac`, `.ogg`, ...) stay in the tar and are read from their place in it; `.txt` is a caption,
`.json` holds a manifest's fields. A tar is read through once, for an index of where everything lies.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from peav.data.manifest import ManifestError, Row, parse_row
from peav.utils.storage import FilePart, is_remote, join, open_binary, read_all, size_and_time, write_all

SOUND = ("wav", "flac", "ogg", "opus", "mp3", "m4a", "aac")
MOVING = ("mp4", "m4v", "mov", "mkv", "webm", "avi")
PATHS = ("path", "audio_path", "video_path")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def read_webdataset(pattern: str, index: str | None = None) -> list[Row]:
    """The clips of all tars that `pattern` names, in the order of the tars and of their members.

    Args:
        pattern: a path or an address, with `{0000..0007}` and `{a,b}` in it for several.
        index: a folder for the tars' indices, so that the next call need not read the tars.

    Raises:
        ManifestError: a tar is missing, compressed or damaged, a clip has no media, or fields that do not fit.
    """
    rows, seen = [], set()
    for tar in expand(pattern):
        for sample in _samples(tar, index):
            row = _row(tar, sample)
            if row.id in seen:
                raise ManifestError(f"{tar}: {row.id!r} stands twice; give each clip a name, or an `id`, of its own")
            seen.add(row.id)
            rows.append(row)
    return rows


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


def _samples(tar: str, index: str | None) -> list[dict[str, Any]]:
    """The clips of a tar: `key`, `parts` (name, offset, size by extension), `text` and `fields`."""
    try:
        version = list(size_and_time(tar))
    except FileNotFoundError as error:
        raise ManifestError(f"{tar}: no such tar; check the path and the braces") from error
    if index is None:
        return list(_scan(tar))
    kept = join(index, f"{hashlib.sha256(tar.encode()).hexdigest()[:24]}.jsonl")
    try:
        head, *samples = map(json.loads, read_all(kept).splitlines())
        if head == {"tar": tar, "version": version}:
            return samples
    except FileNotFoundError:
        pass
    samples = list(_scan(tar))
    lines = [json.dumps(line) + "\n" for line in ({"tar": tar, "version": version}, *samples)]
    write_all(kept, "".join(lines).encode())
    return samples


def _scan(tar: str) -> Iterator[dict[str, Any]]:
    """Read a tar through; clips without media are left out (tars hold licences and notes, too)."""
    with open_binary(tar) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                members = [member for member in archive if member.isfile()]
        except tarfile.TarError as error:
            raise ManifestError(f"{tar}: cannot be read ({error}); it must be whole, and not compressed") from error
        for key, group in itertools.groupby(members, key=lambda member: _split(member.name)[0]):
            sample: dict[str, Any] = {"key": key, "parts": {}, "text": None, "fields": None}
            for member in group:
                extension = _split(member.name)[1]
                if extension in (*SOUND, *MOVING):
                    sample["parts"][extension] = [member.name, member.offset_data, member.size]
                elif extension == "txt":
                    sample["text"] = _text(tar, file, member).strip()
                elif extension == "json":
                    sample["fields"] = _fields(tar, file, member)
            if sample["parts"]:
                yield sample


def _split(name: str) -> tuple[str, str]:
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return folder + slash + stem, extension.lower()


def _text(tar: str, file: BinaryIO, member: tarfile.TarInfo) -> str:
    file.seek(member.offset_data)
    try:
        return file.read(member.size).decode()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{tar}/{member.name}: not UTF-8 ({error.reason}); write it as UTF-8") from error


def _fields(tar: str, file: BinaryIO, member: tarfile.TarInfo) -> dict[str, Any]:
    try:
        fields = json.loads(_text(tar, file, member))
    except json.JSONDecodeError as error:
        raise ManifestError(f"{tar}/{member.name}: not JSON ({error.msg})") from error
    if not isinstance(fields, dict):
        raise ManifestError(f"{tar}/{member.name}: must be a JSON object, not {type(fields).__name__}")
    return fields


def _row(tar: str, sample: dict[str, Any]) -> Row:
    """Sound comes from a sound file where there is one, else from the video."""
    path = tar if is_remote(tar) else str(Path(tar).absolute())
    parts = {
        extension: FilePart(path, offset, size, name) for extension, (name, offset, size) in sample["parts"].items()
    }
    sound = next((parts[extension] for extension in SOUND if extension in parts), None)
    moving = next((parts[extension] for extension in MOVING if extension in parts), None)
    fields = {key: value for key, value in (sample["fields"] or {}).items() if key not in PATHS}
    identity = fields.get("id")
    fields["id"] = f"{Path(tar).stem}/{sample['key']}" if identity is None else str(identity)
    if sample["text"]:
        fields["text"] = sample["text"]
    streams = {"audio_path": sample["key"], "video_path": moving and sample["key"]}
    row = parse_row(fields | streams, Path(), f"{tar}/{sample['key']}")
    return replace(row, audio_path=sound or moving, video_path=moving)
