"""Soundscapes as files with a manifest that names what each was made of."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from peav.data.manifest import Row, write_manifest
from peav.data.recordings import origin
from peav.data.records import read_records
from peav.errors import ManifestError, MixingError
from peav.jobs import make_all
from peav.media.write import write_media
from peav.synth.mix.mixer import RATE, Mixer, Sound, Soundscape
from peav.types import Event
from peav.utils.atomic import atomic_write


def write_mixes(
    out: Path,
    mixer: Mixer,
    clips: int,
    seed: int,
    *,
    split: str | None = None,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> Path:
    """Write `clips` soundscapes under `out` and return the path of their manifest.

    Clip i of a split follows from (seed, split, i) alone. Raises MixingError where `out` holds soundscapes already.
    """
    if clips < 1:
        raise MixingError(f"{clips} soundscapes cannot be made; ask for at least 1")
    if (out / "manifest.jsonl").exists():
        raise MixingError(f"{out} holds soundscapes already; choose an empty folder, or remove it")
    kept = "soundscapes were made; run the same command again, it makes them anew"
    records = make_all(partial(_write, out, mixer, seed, split), range(clips), kept, progress, jobs)
    write_manifest(out / "manifest.jsonl", records)
    return out / "manifest.jsonl"


def without_sources(rows: Sequence[Row], manifest: str | Path) -> list[Row]:
    """`rows` without those that the mixtures of a manifest were made of, nor others cut from the same recordings.

    The manifest is one of `write_mixes`, or any whose rows name a `background_source` and whose events name a `source`,
    as an id or as FOLDER/.../FILE.
    """
    path = Path(manifest) / "manifest.jsonl" if Path(manifest).is_dir() else Path(manifest)
    used: dict[str, set[PurePosixPath]] = defaultdict(set)
    for where, record in read_records(path):
        for source in map(PurePosixPath, _sources(record, where)):
            used[origin(source.stem)].add(source)
    named = [(row, PurePosixPath(row.id)) for row in rows]
    return [row for row, name in named if not any(_alike(name, source) for source in used.get(origin(name.stem), ()))]


def _sources(record: Mapping[str, Any], where: str) -> list[str]:
    events = record.get("events") or ()
    if not isinstance(events, (list, tuple)) or not all(isinstance(event, dict) for event in events):
        raise ManifestError(f"{where}: events must be a list of objects, each with its `source`")
    named = [record.get("background_source"), *(event.get("source") for event in events)]
    if not all(name is None or isinstance(name, str) for name in named):
        raise ManifestError(f"{where}: a source must be a string, the id of a row or FOLDER/.../FILE")
    return [name for name in named if name]


def _alike(one: PurePosixPath, other: PurePosixPath) -> bool:
    """Whether two names of one recording lie in the same set: its folder may be linked by another name, so those within
    it count; where one name leaves them out, as older ids do, the set's own does.
    """
    within, others = one.parts[1:-1], other.parts[1:-1]
    return within == others if bool(within) == bool(others) else one.parts[0] == other.parts[0]


def generator(seed: int, split: str | None, index: int) -> np.random.Generator:
    """What a soundscape is drawn with."""
    return np.random.default_rng((seed, zlib.crc32((split or "").encode()), index))


def _write(out: Path, mixer: Mixer, seed: int, split: str | None, index: int) -> dict[str, Any]:
    scape = mixer(generator(seed, split, index))
    path = f"media/mix-{index:06d}.flac"
    with atomic_write(out / path) as temporary:
        write_media(temporary, "flac", audio=[np.round(scape.waveform * 32767).astype(np.int16)])
    name = f"mix-{split or 'all'}-{seed}-{index:06d}"
    return {"id": name, "path": path, "split": split} | _described(scape)


def _described(scape: Soundscape) -> dict[str, Any]:
    def told(sound: Sound) -> dict[str, str]:
        return {"source": sound.id} | ({"license": sound.license} if sound.license else {})

    def marked(event: Event) -> dict[str, Any]:
        return {"onset": event.onset, "offset": event.offset, "label": event.label, "texts": event.texts}

    background = scape.background
    heard = [sound for _, sound in scape.events] + ([] if background is None else [background])
    licenses = dict.fromkeys(sound.license for sound in heard if sound.license)
    return {
        "captions": {"audio": [scape.caption]} if scape.caption else {},
        "duration": len(scape.waveform) / RATE,
        "background": None if background is None else background.label,
        "background_source": None if background is None else background.id,
        "background_license": None if background is None else background.license,
        "license": "; ".join(licenses) or None,
        "events": [marked(event) | told(sound) for event, sound in scape.events],
    }
