"""The output folder of a run: of one run at a time, and the same folder in all of its processes."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from peav.distributed import DistContext
from peav.errors import TrainingError
from peav.utils.lock import FolderLock


@contextmanager
def claimed(output: Path, dist: DistContext) -> Iterator[None]:
    """Hold the folder, making it, while this run trains: until its main process has ended, whatever started it.

    Raises:
        TrainingError: another run holds it, or processes have a folder of that name on a disk of their own.
    """
    held = TrainingError(f"{output}: another run is training there; wait until it ends, or choose another output")
    try:
        # Of the folder within, since `ablate` holds the output itself while it looks whether a run is to be trained.
        with FolderLock(output / "checkpoints", held) if dist.is_main else nullcontext():
            _check_shared(output, dist)
            yield
    finally:
        with suppress(OSError):  # something is in it, as after any run that came to something
            output.rmdir()


def _check_shared(output: Path, dist: DistContext) -> None:
    """Every process writes a file, and the main one looks for all of them."""
    if dist.world_size == 1:
        return
    output.mkdir(parents=True, exist_ok=True)
    own = output / f".process-{dist.rank}-{secrets.token_hex(6)}"
    try:
        own.touch()
        names = dist.gather_text(own.name)
        missing = [rank for rank, name in enumerate(names) if not (output / name).exists()]
        missing = json.loads(dist.gather_text(json.dumps(missing))[0])
    finally:
        own.unlink(missing_ok=True)
    if missing:
        raise TrainingError(
            f"{output} is another folder for process {', '.join(map(str, missing))} than for process 0: choose an "
            "output on a disk that all machines share"
        )
