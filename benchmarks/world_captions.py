"""What captions of the world get right: those of two captioners that err, and what the engine makes of both.

    python benchmarks/world_captions.py --world runs/world-smoke --scorer runs/engine_stage0/model

Of the clips that train: how many have a caption of the sound, and of the picture, that names all that is there, and one
that names a thing that is not. Nothing is trained; `peav ablate ablation_engine` trains on these captions.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from peav.data.manifest import Row, read_manifest
from peav.data.places import read_clips
from peav.engine.recipe import read_recipe
from peav.engine.run import caption
from peav.engine.work import Job, Progress, Task, work
from peav.lab.weak import STREAMS, named, things

NAMES = {
    "captioner a": "world_a",
    "captioner b": "world_b",
    "both, without confidence": "world_joined",
    "both, with confidence": "world_stage1",
    "no mistakes": "world_true",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=Path, default=Path("runs/world-smoke"))
    parser.add_argument("--out", type=Path, default=Path("runs/world-captions"))
    parser.add_argument("--scorer", help="a PE-AV model; without one, captions have no confidence")
    parser.add_argument("--limit", type=int, help="the first clips alone")
    arguments = parser.parse_args()
    truth = {row.id: row for row in read_manifest(arguments.world / "manifest.jsonl", "train")}
    print("| captions | clips |" + "".join(f" {stream}: all | {stream}: wrong |" for stream in STREAMS))
    print("| --- | --- |" + " --- | --- |" * len(STREAMS))
    for title, name in NAMES.items():
        weighed = name == "world_stage1"
        if weighed and arguments.scorer is None:
            continue
        recipe = read_recipe(f"engine/{name}", {"score.model": arguments.scorer} if weighed else {})
        out = arguments.out / name.removeprefix("world_")
        caption(str(arguments.world / "manifest.jsonl"), out, recipe, limit=arguments.limit, runner=here)
        rows = [row for row in read_clips(str(out)) if row.id in truth]
        print(f"| {title} | {len(rows)} |" + "".join(shares(rows, truth, stream) for stream in STREAMS), flush=True)


def here(job: Job, tasks: Iterable[Task]) -> Iterator[Progress | tuple[Task, Exception | None]]:
    """A runner in this process, which is quicker to start."""
    for task in tasks:
        yield from work(job, task)
        yield task, None


def shares(rows: list[Row], truth: dict[str, Row], stream: str) -> str:
    """Of the clips with this stream, how many captions name all things, and how many a wrong one."""
    pairs = [
        (named(row.synthetic[stream][0], stream), things(truth[row.id], stream))
        for row in rows
        if row.synthetic.get(stream)
    ]
    every = sum(there <= said for said, there in pairs) / len(pairs)
    wrong = sum(bool(said - there) for said, there in pairs) / len(pairs)
    return f" {100 * every:.1f} | {100 * wrong:.1f} |"


if __name__ == "__main__":
    main()
