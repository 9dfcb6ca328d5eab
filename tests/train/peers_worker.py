"""One of two processes that add numbers until something ends them: what became of number 1, each says on stderr.

RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=... python peers_worker.py WHAT      or under torchrun
"""

from __future__ import annotations

import os
import sys
import time

import torch

from peav.distributed import process_group
from peav.errors import PeavError, UndecodableError
from peav.utils import peers


def main(what: str) -> None:
    other = os.environ["RANK"] == "1"
    if what == "absent":
        peers.JOINING = 2.0
    with process_group(torch.device("cpu")) as dist:
        with dist.main_first():
            print("alone", flush=True)
            if what == "fails first" and other:
                raise UndecodableError("dog.wav: is damaged")
        print("ready", os.getpid(), flush=True)
        while True:
            if what == "fails" and other:
                raise UndecodableError("dog.wav: is damaged")
            if what == "breaks" and other:
                raise KeyError("dog")
            dist.all_reduce_sum(torch.ones(1))
            time.sleep(0.05)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except PeavError as error:
        sys.exit(f"error: {error}")
