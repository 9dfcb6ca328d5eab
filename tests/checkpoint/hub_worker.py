"""Resolves names, one after the other, and prints what became of each: in a process of its own, since the hub's client
reads its settings when it is imported."""

from __future__ import annotations

import json
import sys

from peav.checkpoint import CheckpointError, resolve

for name in sys.argv[2:]:
    try:
        result = {"name": name, "folder": str(resolve(name, cache_dir=sys.argv[1]))}
    except CheckpointError as error:
        result = {"name": name, "error": str(error)}
    print(json.dumps(result))
