"""Whether all processes of a run are about to train the same thing: before the first step, and not by a wrong model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from peav.checkpoint.identity import weights_sha256
from peav.data.manifest import Row
from peav.data.table import RowTable
from peav.distributed import DistContext
from peav.errors import TrainingError
from peav.train.recipe import Recipe


def agree_on_recipe(recipe: Recipe, dist: DistContext) -> None:
    """Raises TrainingError in every process where one has another recipe; it names the keys."""
    said = dist.gather_text(json.dumps(asdict(recipe)))
    for rank, other in enumerate(said):
        if other != said[0]:
            keys, own = json.loads(said[0]), json.loads(other)
            changed = ", ".join(change for key in keys for change in changes(key, keys[key], own[key]))
            raise TrainingError(
                f"process {rank} has another recipe than process 0: {changed or 'its keys stand in another order'} "
                "(there is process 0); start all of them with the same command and the same file"
            )


def agree_on_start(sources: Iterable[Iterable[Row]], weights: Mapping[str, Tensor], dist: DistContext) -> None:
    """Raises TrainingError in every process where one has other clips to draw from, or other weights to begin with."""
    if dist.world_size == 1:
        return
    for what, own, fix in (
        ("clips", _digest(sources), "compare their manifests, and the media that each can read"),
        ("weights", weights_sha256(weights), "compare their checkpoints and versions of torch"),
    ):
        said = dist.gather_text(own)
        if other := next((rank for rank, one in enumerate(said) if one != said[0]), None):
            raise TrainingError(f"process {other} begins with other {what} than process 0: {fix}")


def changes(name: str, before: Any, now: Any) -> list[str]:
    """What differs between two values of a recipe's key: `optim.bf16 (true there, false here)`."""
    if isinstance(before, dict) and isinstance(now, dict) and before.keys() == now.keys():
        return [change for key in now for change in changes(f"{name}.{key}", before[key], now[key])]
    return [] if before == now else [f"{name} ({json.dumps(before)} there, {json.dumps(now)} here)"]


def _digest(sources: Iterable[Iterable[Row]]) -> str:
    """Of all rows in their order, but for where their files lie, which may differ from machine to machine."""
    digest = hashlib.sha256()
    for number, rows in enumerate(sources):
        if isinstance(rows, RowTable):  # made with the table, as reading all its rows takes hours
            digest.update(f"{number} {rows.digest}\n".encode(errors="surrogatepass"))
            continue
        for row in rows:
            said = (number, row.id, row.start, row.end, row.captions, row.transcript, row.events, row.split)
            digest.update(f"{said!r}\n".encode(errors="surrogatepass"))
    return digest.hexdigest()
