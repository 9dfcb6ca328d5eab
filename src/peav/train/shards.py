"""Checkpoints of a model that processes hold in shards: each writes and reads its own part, none holds the whole.

A folder by torch.distributed.checkpoint, written under a temporary name, with checksums, synced and renamed. Another
number of processes, or one alone, may read it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Set
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from peav.distributed import DistContext
from peav.errors import StateError
from peav.utils.atomic import atomic_write, sync

VERSION = 2  # of training checkpoints; the first version, without a number, had logit scales among all other vectors
OLDER = (
    "of a run that an older version of peav began, which trained logit scales and biases in another way: finish it "
    "with that version, or start anew"
)
SUMS = "sums-{}.json"
METADATA = ".metadata"


def save_shards(path: Path, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, dist: DistContext) -> None:
    """Write the folder `path`, which appears when it is whole; every process must call this.

    Raises:
        OSError: in every process, where one could not write.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    if dist.is_main:
        remove_unfinished(path.parent)
        temporary.mkdir(parents=True)
    dist.barrier()
    weights, optimizer_state = get_state_dict(module, optimizer)
    state = {"version": VERSION, "step": step, "module": weights, "optimizer": optimizer_state}
    try:
        dcp.save(state, storage_writer=FileSystemWriter(temporary), process_group=dist.group)
    except dcp.api.CheckpointException as error:  # not an Exception: it would pass by who handles those
        if dist.is_main:
            shutil.rmtree(temporary, ignore_errors=True)
        reasons = ", ".join(f"process {rank}: {failure}" for rank, (failure, _) in error.failures.items())
        raise OSError(f"{path}: cannot be written; {reasons}") from error
    # What others wrote may not be in sight yet on a disk of the network.
    own = [*temporary.glob(f"__{dist.rank}_*.distcp"), *([temporary / METADATA] if dist.is_main else [])]
    with atomic_write(temporary / SUMS.format(dist.rank)) as sums:
        sums.write_text(json.dumps({file.name: _digest(file) for file in own}))
    # Every process's sums are there before the folder has its name, and the main process sees them.
    dist.barrier()
    absent = [rank for rank in range(dist.world_size) if not _arrived(temporary / SUMS.format(rank), dist)]
    if dist.all_reduce_sum(torch.tensor(float(bool(absent)), device=next(module.parameters()).device)):
        raise OSError(f"{path}: lacks a process's part: the output must be on a disk that all machines share")
    if dist.is_main:
        remove_folder(path)  # of the same step, by a run that was since resumed before it
        temporary.replace(path)
        sync(path.parent)
    dist.barrier()


def _arrived(sums: Path, dist: DistContext) -> bool:
    """Whether the main process, which gives the folder its name, sees the files that are listed in `sums`."""
    if not dist.is_main:
        return True
    try:
        return all((sums.parent / name).exists() for name in json.loads(sums.read_text()))
    except (OSError, ValueError):
        return False


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed left of checkpoints in `folder`."""
    for path in [*folder.glob(".step-*.shards.tmp"), *folder.glob(".step-*.shards.gone")]:
        shutil.rmtree(path)


def remove_folder(path: Path) -> None:
    """Remove a checkpoint so that no part of it is ever taken for one."""
    if path.is_dir():
        hidden = path.with_name(f".{path.name}.gone")
        shutil.rmtree(hidden, ignore_errors=True)
        path.rename(hidden)
        shutil.rmtree(hidden)


def load_shards(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, dist: DistContext) -> int:
    """Restore what `save_shards` wrote, in place; returns the number of steps done. Every process must call this.

    Raises:
        StateError: in every process, where a file is missing or has changed, or the folder is of another model.
    """
    if dist.all_reduce_sum(torch.tensor(float(not _whole(path, dist)), device=next(module.parameters()).device)):
        raise StateError(f"{path}: torn or changed since it was written")
    reader = FileSystemReader(path)
    stored = reader.read_metadata().state_dict_metadata
    weights, optimizer_state = get_state_dict(module, optimizer)
    theirs = {key.removeprefix("module.") for key in stored if key.startswith("module.")}
    check_fits(path, "version" in stored, set(weights), theirs)
    state: dict[str, Any] = {"step": 0, "module": weights, "optimizer": optimizer_state}
    # Partial: a parameter without a gradient so far (the bias of a pair under InfoNCE) has no optimizer state.
    planner = DefaultLoadPlanner(allow_partial_load=True)
    dcp.load(state, storage_reader=reader, planner=planner, process_group=dist.group, no_dist=dist.world_size == 1)
    options = StateDictOptions(strict=False)
    set_state_dict(
        module, optimizer, model_state_dict=state["module"], optim_state_dict=state["optimizer"], options=options
    )
    learnt = {key.removeprefix("optimizer.state.").rsplit(".", 1)[0] for key in stored}
    for name, parameter in module.named_parameters():
        if name not in learnt:
            optimizer.state.pop(parameter, None)  # or torch would leave it a step behind the others
    return int(state["step"])


def check_fits(path: Path, versioned: bool, ours: Set[str], theirs: Set[str]) -> None:
    """Raises StateError where the checkpoint at `path` has no version, or `theirs`, its weights, are not `ours`."""
    if not versioned:
        raise StateError(f"{path}: {OLDER}")
    if differing := sorted(ours ^ theirs):
        raise StateError(f"{path}: of another model, which differs in {differing[0]} and {len(differing) - 1} more")


def _whole(path: Path, dist: DistContext) -> bool:
    """Whether this process's share of the files is as it was written, and none is missing."""
    try:
        sums: dict[str, str] = {}
        for file in path.glob(SUMS.format("*")):
            sums |= json.loads(file.read_text())
        written = _written(path)
        there = METADATA in sums and sums.keys() == {file.name for file in written}
        return there and all(_digest(file) == sums[file.name] for file in written[dist.rank :: dist.world_size])
    except (OSError, ValueError):
        return False


def _written(folder: Path) -> list[Path]:
    """What torch wrote there, by name."""
    return sorted(file for file in folder.iterdir() if file.suffix == ".distcp" or file.name == METADATA)


def _digest(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
