"""Batches that are decoded while training, as digests: what the tests compare, here and from processes of torchrun.

python -m torch.distributed.run --nproc-per-node 2 decoding_worker.py FOLDER WORKERS BATCHES [LARGE]

writes FOLDER/seen-RANK.json: for each batch the clips of this process, the list of unreadable clips as it knows it, and
the ids of all rows that it read. LARGE: from how many clips on a source is large.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # it runs as a program

from noise_clip import write_clip

from peav.data.collate import Batch, Collator
from peav.data.manifest import Row, read_manifest, write_manifest
from peav.distributed import ALONE, DistContext, process_group
from peav.features.live import LiveFeatures
from peav.inference.tokenizer import train_tokenizer
from peav.model import PEAV, preset
from peav.train import batches as batches_module
from peav.train.decoding import DecodingStream, UnreadableClips

SIZE, SEED = 4, 3


def write_clips(folder: Path, count: int) -> Path:
    """So many short clips with a manifest: of every six, one has no sound and one no pictures."""
    records = []
    for number in range(count):
        name, streams = f"clip-{number:02d}", {"sound": number % 6 != 1, "pictures": number % 6 != 2}
        path = write_clip(folder / f"{name}.mkv", 0.3 + 0.02 * number, number, **streams)
        records.append({"id": name, "path": path.name, "text": f"a clip of the number {number}"})
    write_manifest(folder / "manifest.jsonl", records)
    return folder


@cache
def model() -> PEAV:
    return PEAV(preset("nano"))


class Read(Sequence[Row]):
    """Rows that note which of them are read."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows, self.read = rows, set[str]()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index):
        self.read.add(self.rows[index].id)
        return self.rows[index]


def stream(folder: Path, workers: int, dist: DistContext = ALONE, resume: bool = True) -> DecodingStream:
    """Batches of four: two from each half of the folder's manifest."""
    rows = read_manifest(folder / "manifest.jsonl")
    half = len(rows) // 2
    texts = [text for row in rows for texts in row.captions.values() for text in texts]
    collator = Collator(train_tokenizer(texts, 400), 16)
    dist = dist.apart()
    unreadable = UnreadableClips(folder / "failures.jsonl", len(rows), dist, resume)
    live = LiveFeatures(model(), 1.0, workers)
    sources = [Read(rows[:half]), Read(rows[half:])]
    return DecodingStream(sources, [1, 1], SIZE, SEED, live, collator, unreadable, dist)


def clips(batch: Batch) -> list[list[str]]:
    """Of each clip its id, and digests of its sound, its frames and its captions, whatever they are padded to."""
    found = []
    for place, name in enumerate(batch.ids):
        texts = [texts.ids[place][texts.mask[place]] for texts in batch.texts.values()]
        sound = batch.audio[place, : batch.audio_lengths[place]]
        frames = batch.frames[place, : batch.frame_lengths[place]]
        found.append([name, *(hashlib.sha256(x.numpy().tobytes()).hexdigest() for x in (sound, frames, *texts))])
    return found


def main() -> None:
    folder, workers, batches = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    batches_module.LARGE = int(sys.argv[4]) if len(sys.argv) > 4 else batches_module.LARGE
    torch.set_num_threads(1)
    with process_group(torch.device("cpu")) as dist:
        feed = stream(folder, workers, dist)
        seen = [clips(feed.batch(number)) for number in range(batches)]
        feed.close()
        known = sorted(feed.unreadable.known.items())
        read = sorted(set().union(*(source.read for source in feed.sources)))
        (folder / f"seen-{dist.rank}.json").write_text(json.dumps({"seen": seen, "known": known, "read": read}))


if __name__ == "__main__":
    main()
