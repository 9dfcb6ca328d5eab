"""The world as a recipe's source: as files with a manifest, or in tars."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from peav.data.manifest import Row, read_manifest
from peav.data.places import Place, PlaceContext
from peav.data.webdataset import read_webdataset
from peav.synth.world.write import generate
from peav.utils.atomic import atomic_write, on_disk
from peav.utils.jsonl import read_lines

T = TypeVar("T")


@dataclass(frozen=True)
class World(Place):
    """So many clips of each split of the procedural world, made under `folder` where they are not there yet.

    `machine`: of each kind the first caption counts as people's, the others as a machine's (`Row.synthetic`).
    """

    folder: str
    train: int
    validation: int = 0
    test: int = 0
    seed: int = 0
    machine: bool = False

    def rows(self, context: PlaceContext) -> list[Row]:
        """The first clips of each split: the folder may hold more, of a run that asked for more."""
        chosen = self.first(read_manifest(self.made(context)), attrgetter("split"))
        return [replace(row, synthetic=by_machine(row.captions)) for row in chosen] if self.machine else chosen

    @property
    def counts(self) -> dict[str, int]:
        """How many clips of each split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def first(self, clips: Sequence[T], split: Callable[[T], str | None]) -> list[T]:
        """So many clips of each split as are asked for."""
        return [clip for name, size in self.counts.items() for clip in [x for x in clips if split(x) == name][:size]]

    def made(self, context: PlaceContext) -> Path:
        """Make the clips; returns their manifest."""
        context.stage("world", sum(self.counts.values()))
        folder, numbers = on_disk(self.folder, "a world's folder"), count(1)

        def progress(_done: int) -> None:
            context.advance(next(numbers))  # of all splits

        for split, clips in self.counts.items():
            if clips:
                generate(folder, clips, self.seed, splits=(split,), jobs=context.workers, progress=progress)
        return folder / "manifest.jsonl"


@dataclass(frozen=True)
class WorldTars(World):
    """The same clips packed into so many WebDataset `tars` under `folder`, and read from there."""

    tars: int = 1

    def rows(self, context: PlaceContext) -> list[Row]:
        """The clips, in the order of the tars."""
        manifest = self.made(context)
        lines = read_lines(manifest)
        told = [
            line for split, clips in self.counts.items() for line in [x for x in lines if x["split"] == split][:clips]
        ]
        if self.machine:
            made = [by_machine(line["captions"]) for line in told]
            real = [{kind: texts[:1] for kind, texts in line["captions"].items()} for line in told]
            told = [line | {"captions": a, "synthetic": b} for line, a, b in zip(told, real, made, strict=True)]
        name = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]  # other clips are in other tars
        for number in range(self.tars):
            tar = Path(self.folder) / f"{name}-{number:04}.tar"
            if not tar.exists():  # one that is replaced would hold other clips, since their time differs
                _pack(tar, manifest.parent, told[number :: self.tars])
        return read_webdataset(f"{self.folder}/{name}-*.tar", f"{context.cache}/webdataset")


def by_machine(captions: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """All captions of each kind but the first."""
    return {kind: texts[1:] for kind, texts in captions.items() if texts[1:]}


def _pack(tar: Path, folder: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Each clip's file and what is told of it."""
    with atomic_write(tar) as temporary, tarfile.open(temporary, "w") as archive:
        for record in records:
            media = folder / record["path"]
            _add(archive, f"{record['id']}{media.suffix}", media.read_bytes())
            _add(archive, f"{record['id']}.json", json.dumps(record).encode())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
