"""A toy model in shards, trained and saved under torchrun.

torchrun shards_worker.py FOLDER STEPS OUT [full|apart]: go on from the newest checkpoint in FOLDER to STEPS steps,
save each; the first process writes all weights and optimizer states to OUT. With `full` the last process's disk is full
from the second save on, with `apart` each process has a folder of its own in FOLDER; what it raised is then in
OUT.<rank>.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard

from peav.distributed import full, process_group
from peav.train.train_checkpoint import load_state, save_state, states


class Toy(nn.Module):
    """`late` has a gradient from the fourth step on, `never` has none."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.late, self.never = nn.Linear(6, 5), nn.Linear(5, 1), nn.Linear(3, 3)

    def forward(self, step: int) -> torch.Tensor:
        hidden = self.first(torch.linspace(-1, 1, 6) + step).tanh()
        return self.late(hidden).sum() if step >= 3 else hidden.sum()


def main() -> None:
    folder, steps, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    with process_group(torch.device("cpu")) as dist:
        folder = folder / str(dist.rank) if sys.argv[4:] == ["apart"] else folder
        model = Toy()
        if dist.world_size > 1:
            fully_shard(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        found = states(folder)
        done = load_state(found[-1], model, optimizer, dist) if found else 0
        for step in range(done, steps):
            optimizer.zero_grad(set_to_none=True)
            model(step).backward()
            optimizer.step()
            if sys.argv[4:] == ["full"] and step == done + 1 and dist.rank == dist.world_size - 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (256, resource.RLIM_INFINITY))
            try:
                save_state(folder, step + 1, model, optimizer, dist)
            except OSError as error:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                out.with_suffix(f".{dist.rank}").write_text(str(error))
                return
        weights = {name: full(value.detach()) for name, value in model.named_parameters()}
        learnt = {
            f"{name}.{key}": full(value)
            for name, parameter in model.named_parameters()
            for key, value in optimizer.state.get(parameter, {}).items()
        }
        if dist.is_main:
            torch.save(weights | learnt, out)


if __name__ == "__main__":
    main()
