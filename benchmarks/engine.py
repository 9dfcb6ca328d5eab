"""What the captioning engine itself costs: rows a second and CPU time a row with captioners that answer at once.

    python benchmarks/engine.py [--rows 20000] [--workers 1 2] [--ray local] [--keep FOLDER]

A manifest of ROWS rows whose durations are known goes through two stub captioners, a stub score and the template, from
nothing to shards, and then once more, when all is done. CPU time counts every process of the run.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peav.engine.clip import Answer, Clip, Sample, WeakCaption
from peav.engine.ray_runner import on_ray
from peav.engine.recipe import EngineRecipe
from peav.engine.run import caption
from peav.engine.stage import Stage
from peav.recipes.config import from_mapping

SOUNDS = ("a dog barking", "rain falling", "a bell ringing", "an engine idling", "a clock ticking")


@dataclass
class Says(Stage):
    """A captioner that answers at once."""

    def request(self, clip: Clip) -> Any:
        return {"id": clip.id}

    def __call__(self, batch: Sequence[Sample]) -> Iterator[tuple[int, Answer | Exception]]:
        for place, sample in enumerate(batch):
            yield place, Answer(SOUNDS[hash_of(sample.clip.id + self.name) % len(SOUNDS)])

    def apply(self, clip: Clip, value: Any) -> None:
        clip.weak[self.name] = WeakCaption(value, "audio", "stub")


@dataclass
class Scores(Stage):
    """A score that needs no model."""

    def request(self, clip: Clip) -> Any:
        return {name: weak.text for name, weak in clip.weak.items()}

    def __call__(self, batch: Sequence[Sample]) -> Iterator[tuple[int, Answer | Exception]]:
        for place, sample in enumerate(batch):
            yield place, Answer({name: hash_of(sample.clip.id + name) % 1000 / 1000 for name in sample.clip.weak})

    def apply(self, clip: Clip, value: Any) -> None:
        clip.weak |= {name: replace(clip.weak[name], score=score) for name, score in value.items()}


def hash_of(text: str) -> int:
    """The same in every process."""
    return sum(ord(letter) * (place + 7) for place, letter in enumerate(text))


def recipe() -> EngineRecipe:
    here = Path(__file__).resolve()
    captioners = [{"class": f"{here}:Says", "name": name} for name in ("one", "two")]
    score = {"class": f"{here}:Scores", "name": "score"}
    return from_mapping(EngineRecipe, {"name": "stubs", "captioners": captioners, "score": score})


def cpu() -> float:
    """Seconds of this process and of those that have ended."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def measured(name: str, manifest: Path, out: Path, rows: int, **how: Any) -> None:
    for turn in ("first run", "once more"):
        began, used = time.monotonic(), cpu()
        summary = caption(str(manifest), out, recipe(), **how)
        assert summary.done == rows, summary
        wall, spent = time.monotonic() - began, cpu() - used
        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(
            f"| {name}, {turn} | {rows / wall:.0f} | {1000 * spent / rows:.2f} | {wall:.0f} | {peak / 1024:.0f} | "
            f"{size(out / 'shards') / rows:.0f} | {size(out / 'journal') / rows:.0f} |",
            flush=True,
        )


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--ray", help="also on Ray at this address, with as many actors")
    parser.add_argument("--keep", type=Path, help="a folder to work in that stays")
    asked = parser.parse_args()
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="peav-engine-"))
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "clips.jsonl"
    with manifest.open("w") as file:
        for number in range(asked.rows):
            row = {"id": f"clip-{number:08d}", "audio_path": f"clips/{number:08d}.flac", "duration": 10.0}
            file.write(json.dumps(row) + "\n")
    print(f"{asked.rows} rows, Python {sys.version.split()[0]}")
    print("| runner | rows a second | CPU ms a row | seconds | peak MB of a process | shard bytes a row | journal |")
    print("|---|---|---|---|---|---|---|")
    for workers in asked.workers:
        measured(f"{workers} processes", manifest, folder / f"local-{workers}", asked.rows, workers=workers)
        if asked.ray:
            with on_ray(asked.ray, workers, num_cpus=0.5) as runner, redirect_stdout(sys.__stdout__):
                measured(f"{workers} Ray actors", manifest, folder / f"ray-{workers}", asked.rows, runner=runner)
    if not asked.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
