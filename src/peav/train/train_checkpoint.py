"""Training checkpoints: written whole or not at all, checked before they are trusted, the newest two kept.

Nothing random is stored: which clips, captions and masks a step draws is a function of (seed, step), so the weights,
the optimizer and the step are all that a run is. A checkpoint is one file, or a folder where processes hold the model
in shards (`train.shards`); either way a run may go on with another number of processes.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.fsdp import FSDPModule

from peav.distributed import ALONE, DistContext
from peav.errors import StateError
from peav.train.shards import VERSION, check_fits, load_shards, remove_folder, remove_unfinished, save_shards
from peav.utils.atomic import atomic_write

KEEP = 2
_MAGIC = b"peav-state-1 "
_HEADER = len(_MAGIC) + 64 + 1  # the magic, a SHA-256 and the end of the line


def save_state(
    folder: Path,
    step: int,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    dist: DistContext = ALONE,
    keep: int | None = KEEP,
) -> None:
    """Write `step-N.pt`: the state after N steps, headed by its SHA-256; the newest `keep` stay.

    Of a module in shards it is the folder `step-N.shards`. All stay with `keep` None. Every process must call this.
    """
    name = f"step-{step:07d}"
    if isinstance(module, FSDPModule):
        save_shards(folder / f"{name}.shards", step, module, optimizer, dist)
        other = folder / f"{name}.pt"
    else:
        _save_whole(folder / f"{name}.pt", step, module, optimizer, dist)
        other = folder / f"{name}.shards"
    if dist.is_main:
        # `other`: the same step in the other form, by a run that was resumed before it in another way.
        for path in ([other] if other.exists() else []) + (states(folder)[:-keep] if keep else []):
            if path.exists():
                remove_state(path)
    dist.barrier()


def _save_whole(path: Path, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, dist: DistContext) -> None:
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights, optimizer_state = get_state_dict(module, optimizer, options=options)
    if dist.is_main:
        remove_unfinished(path.parent)
        state = {"version": VERSION, "step": step, "module": weights, "optimizer": optimizer_state}
        with atomic_write(path) as temporary, open(temporary, "wb") as out:
            out.write(_header(""))
            digested = _Digested(out)
            try:
                torch.save(state, cast(BinaryIO, digested))
            except RuntimeError as error:  # of a full disk torch says that a position is unexpected
                raise digested.failed or error from error
            out.seek(0)  # the digest stands at the file's head, and is known at its end
            out.write(_header(digested.sha256.hexdigest()))


class _Digested:
    """A file that is written from here on, and the digest of what is: the state is never in memory a second time."""

    def __init__(self, out: BinaryIO) -> None:
        self.sha256, self._out = hashlib.sha256(), out
        self.failed: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write at the end."""
        self.sha256.update(data)
        try:
            return self._out.write(data)
        except OSError as error:
            self.failed = error
            raise

    def flush(self) -> None:
        """Write what the file holds back."""
        self._out.flush()


class _Content(io.RawIOBase):
    """What stands in a file behind the header, as a file of its own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size
        file.seek(_HEADER)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell() - _HEADER

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: _HEADER, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._size}[whence]
        return self._file.seek(start + offset) - _HEADER

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)  # type: ignore[attr-defined]


def _header(digest: str) -> bytes:
    return _MAGIC + f"{digest:0>64}\n".encode()


def load_state(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, dist: DistContext = ALONE) -> int:
    """Restore what `save_state` wrote, in place; returns the number of steps done. Every process must call this.

    Raises:
        StateError: the file is torn, or a bit of it has changed, or it is of another model.
    """
    if path.suffix == ".shards":
        return load_shards(path, module, optimizer, dist)
    state = read_state(path)
    check_fits(path, "version" in state, module.state_dict().keys(), state["module"].keys())
    # Not strict: a parameter without a gradient so far (the bias of a pair under InfoNCE) has no optimizer state.
    options = StateDictOptions(full_state_dict=True, strict=False)
    saved = state["optimizer"]["state"]
    missing = {name: parameter for name, parameter in module.named_parameters() if name not in saved}
    saved.update({name: {} for name in missing})  # torch before 2.9 asks for every one
    set_state_dict(
        module, optimizer, model_state_dict=state["module"], optim_state_dict=state["optimizer"], options=options
    )
    for parameter in missing.values():
        optimizer.state.pop(parameter, None)  # or torch would leave it a step behind the others
    return int(state["step"])


def read_state(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, checked. Raises StateError."""
    with open(path, "rb") as file:
        header = file.read(_HEADER)
        if header != _header(hashlib.file_digest(file, "sha256").hexdigest()):
            raise StateError(f"{path}: torn or changed since it was written")
        state: dict[str, Any] = torch.load(io.BufferedReader(_Content(file)), map_location="cpu", weights_only=True)
    return state


def states(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"step-\d{7}\.(pt|shards)", path.name))


def remove_state(path: Path) -> None:
    """Remove a checkpoint."""
    if path.is_dir():
        remove_folder(path)
    else:
        path.unlink()


def step_of(path: Path) -> int:
    """The steps that a checkpoint's run had done."""
    return int(path.stem.removeprefix("step-"))
