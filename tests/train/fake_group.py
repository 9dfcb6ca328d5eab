"""One rank of a process group that moves no data: what it holds, and what it would say to the others in a step.

python tests/train/fake_group.py RECIPE DEVICES RANK... [--set KEY=VALUE]   compares it with `peav train --dry-run`.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as torch_dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

from peav.data.collate import Batch, Texts
from peav.distributed import DistContext
from peav.model import PEAV, PEAVConfig, preset
from peav.objectives.auxiliary import LossContext
from peav.objectives.best_rq import BestRQLoss
from peav.train import Recipe, Trainer, plan, read_recipe
from peav.train.optimizer import take_step
from peav.train.task_contrastive import ContrastiveTask
from peav.train.traffic import Collective

# (kind, which argument is the whole) of each operation that talks; all others of these namespaces only wait or wrap.
TALKS = {
    "c10d._allgather_base_": ("all_gather", 0),
    "c10d._reduce_scatter_base_": ("reduce_scatter", 1),
    "c10d.allreduce_": ("all_reduce", 0),
    "_c10d_functional.all_reduce": ("all_reduce", 0),
}
SILENT = {"_c10d_functional.wait_tensor", "_c10d_functional._wrap_tensor_autograd"}


class Talk(TorchDispatchMode):
    """Counts collectives by kind."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Collective] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # it comes again as what it does
        name = str(func.overloadpacket)
        if name in TALKS:
            kind, whole = TALKS[name]
            tensors = [args[whole]] if isinstance(args[whole], Tensor) else args[whole]
            one = Collective(1, sum(tensor.nbytes for tensor in tensors))
            self.found[kind] = self.found.get(kind, Collective(0, 0)) + one
        else:
            assert "c10d" not in name or name in SILENT, name
        return func(*args, **(kwargs or {}))


@contextmanager
def fake_group(rank: int, devices: int) -> Iterator[DistContext]:
    torch_dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=devices)
    try:
        yield DistContext(rank, devices, torch_dist.new_group())
    finally:
        torch_dist.destroy_process_group()


def random_batch(config: PEAVConfig, steps: int, frames: int) -> Batch:
    """One clip of noise with all three captions."""
    size, one = config.video.frame_encoder.image_size, torch.ones(1, dtype=torch.int64)
    ids = torch.full((1, 8), config.text.sep_token_id)
    said = Texts(ids, torch.ones(1, 8, dtype=torch.bool), one.bool(), one)
    return Batch(
        ids=["noise"],
        audio=torch.randn(1, steps, config.audio.codec.latent_dim),
        audio_lengths=one * steps,
        frames=torch.randint(0, 256, (1, frames, size, size, 3), dtype=torch.uint8),
        frame_lengths=one * frames,
        texts=dict.fromkeys(("audio", "video", "audio_video"), said),
        groups={"audio": one, "video": one},
    )


def step(recipe: Recipe, rank: int, devices: int) -> tuple[int, Mapping[str, Collective]]:
    """Build, shard and take one step on one clip a device; bytes of this rank's shards, and what it said."""
    config = preset(recipe.model)
    assert isinstance(config, PEAVConfig)
    with fake_group(rank, devices) as dist:
        with torch.device("meta"):
            model = PEAV(config)
        model.to_empty(device="cpu")  # memory that nobody touches before it is cut into shards
        losses = {}
        if recipe.objective.auxiliary:
            losses["best_rq"] = BestRQLoss(LossContext(config, [], recipe.seed))
        feed: Any = SimpleNamespace(size=devices, places=range(devices)[dist.local_shard(devices)])
        task = ContrastiveTask(recipe, model, feed, None, losses, dist)  # type: ignore[arg-type]  # it evaluates nothing
        trainer = Trainer(recipe, task, [], dist=dist)
        with torch.no_grad():
            for parameter in trainer.module.parameters():
                parameter.to_local().normal_(0, 0.02)
        held = [parameter.to_local().untyped_storage().nbytes() for parameter in trainer.module.parameters()]
        frames = recipe.frames.num_frames or config.video.num_frames
        batch = random_batch(config, int(recipe.data.max_seconds * 25), frames)
        trainer.module.train()
        with Talk() as talk:
            trainer._backward(batch, 1)  # not 0: the first batch also sets scales and biases
            take_step(trainer.optimizer, 1e-4, recipe.optim.clip_norm)
        return sum(held), talk.found


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("devices", type=int)
    parser.add_argument("ranks", type=int, nargs="+")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    values = {"optim.batch_size": str(given.devices)} | dict(one.split("=", 1) for one in given.set)
    recipe = read_recipe(given.recipe, values)
    cost = plan(recipe, given.devices)
    print("planned", cost.shard_bytes, dict(cost.collectives))
    for rank in given.ranks:
        found = step(recipe, rank, given.devices)
        print(f"rank {rank}", *found, "equal" if found == (cost.shard_bytes, cost.collectives) else "DIFFERENT")
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
