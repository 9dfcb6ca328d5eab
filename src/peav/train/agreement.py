"""Whether all processes of a run are about to train the same thing: before the first step, and not by a wrong model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice, zip_longest
from typing import Any

from torch import Tensor

from peav.checkpoint.identity import weights_sha256
from peav.data.manifest import Row
from peav.data.table import RowTable
from peav.distributed import DistContext
from peav.errors import TrainingError
from peav.train.recipe import Recipe

BLOCK = 1 << 16  # rows whose digest is compared at once, so that the one that differs is soon found


def agree_on_recipe(recipe: Recipe, resume: bool, dist: DistContext) -> None:
    """Raises TrainingError in every process where one has another recipe, of which it names the keys, or `resume`."""
    said = dist.gather_text(json.dumps(resume))
    if other := next((rank for rank, one in enumerate(said) if one != said[0]), None):
        with_it, without = (0, other) if json.loads(said[0]) else (other, 0)
        raise TrainingError(
            f"process {with_it} was started with --resume (in Python: resume=True) and process {without} without; "
            "start all of them with the same command"
        )
    said = dist.gather_text(json.dumps(asdict(recipe)))
    for rank, text in enumerate(said):
        if text != said[0]:
            keys, own = json.loads(said[0]), json.loads(text)
            changed = ", ".join(change for key in keys for change in changes(key, keys[key], own[key]))
            raise TrainingError(
                f"process {rank} has another recipe than process 0: {changed or 'its keys stand in another order'} "
                "(there is process 0); start all of them with the same command and the same file"
            )


def agree_on_start(sources: Sequence[Iterable[Row]], weights: Mapping[str, Tensor], dist: DistContext) -> None:
    """Raises TrainingError in every process where one has other clips to draw from, or other weights to begin with."""
    if dist.world_size == 1:
        return
    blocks = _digests(sources)
    said = dist.gather_text(" ".join(blocks))
    if other := next((rank for rank, one in enumerate(said) if one != said[0]), None):
        raise TrainingError(
            f"process {other} begins with other clips than process 0: {_first_other(sources, said, other, dist)}; "
            "compare their manifests, and the media that each can read"
        )
    said = dist.gather_text(weights_sha256(weights))
    if other := next((rank for rank, one in enumerate(said) if one != said[0]), None):
        raise TrainingError(
            f"process {other} begins with other weights than process 0: compare their checkpoints and versions of torch"
        )


def changes(name: str, before: Any, now: Any) -> list[str]:
    """What differs between two values of a recipe's key: `optim.bf16 (true there, false here)`."""
    if isinstance(before, dict) and isinstance(now, dict) and before.keys() == now.keys():
        return [change for key in now for change in changes(f"{name}.{key}", before[key], now[key])]
    return [] if before == now else [f"{name} ({json.dumps(before)} there, {json.dumps(now)} here)"]


def _digests(sources: Iterable[Iterable[Row]]) -> list[str]:
    """Of every `BLOCK` rows in their order, but for where their files lie, which may differ from machine to machine."""
    texts = (text for _, text in _texts(sources))
    blocks = iter(lambda: "".join(islice(texts, BLOCK)), "")
    return [hashlib.sha256(block.encode(errors="surrogatepass")).hexdigest()[:16] for block in blocks]


def _first_other(sources: Iterable[Iterable[Row]], said: Sequence[str], other: int, dist: DistContext) -> str:
    """The first clip in which process `other` differs from process 0, after what all have `said` of their blocks."""
    pairs = zip_longest(said[0].split(), said[other].split())
    block = next(number for number, (one, another) in enumerate(pairs) if one != another)
    own = islice(_texts(sources), block * BLOCK, (block + 1) * BLOCK)
    texts = dist.gather_text(json.dumps(list(own) if dist.rank in (0, other) else []))
    both = zip_longest(json.loads(texts[0]), json.loads(texts[other]))
    one, another = next(pair for pair in both if pair[0] != pair[1])
    if one is None or another is None:
        return f"it has no {one[0]!r}" if one else f"it has {another[0]!r} besides"
    if one[0] == another[0]:
        return f"{one[0]!r} with other times, captions or events"
    return f"{another[0]!r} in the place of {one[0]!r}"


def _texts(sources: Iterable[Iterable[Row]]) -> Iterator[tuple[str, str]]:
    """Of each row its id, and all that is compared."""
    for number, rows in enumerate(sources):
        if isinstance(rows, RowTable):  # made with the table, as reading all its rows takes hours
            yield f"source {number}", f"{number} {rows.digest}\n"
            continue
        for row in rows:
            said = (number, row.id, row.start, row.end, row.captions, row.transcript, row.events, row.split)
            yield row.id, f"{said!r}\n"
