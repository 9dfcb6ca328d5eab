"""What PEAV_WORKER_HOOK=hostile_decoder:decode does in a worker before it decodes a file, by the file's name."""

from __future__ import annotations

import os
import time
import warnings


def decode(label: str) -> None:
    """Crash, hang, loop, eat memory, raise, or warn."""
    name = os.path.basename(label).lstrip("0123456789-")
    if name.startswith("crash"):
        os.kill(os.getpid(), 11)  # SIGSEGV
    if name.startswith("hang"):
        time.sleep(3600)
    if name.startswith("loop"):
        while True:
            pass
    if name.startswith("eat"):
        held = []
        while True:
            held.append(b"x" * (8 << 20))
            time.sleep(0.001)
    if name.startswith("raise"):
        raise IndexError("tuple index out of range")
    if name.startswith("warn"):
        for _ in range(3):
            warnings.warn(f"{label}: odd", UserWarning, stacklevel=1)
