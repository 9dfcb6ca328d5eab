"""A checkpoint restores weights and optimizer to the bit, whatever has not trained yet."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import torch
from torch import nn

from peav.errors import StateError
from peav.train.train_checkpoint import load_state, save_state


class Branches(nn.Module):
    """The `late` branch has no gradient before step three, the `never` branch none at all."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.late, self.never = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.optimizer = torch.optim.AdamW(self.parameters(), lr=0.1, weight_decay=0.1)

    def step(self, number: int) -> float:
        x = torch.randn(3, 4, generator=torch.Generator().manual_seed(number))
        loss = self.first(x).square().mean()
        if number >= 3:
            loss = loss + self.late(x).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def test_a_checkpoint_is_written_without_a_second_copy_in_memory(tmp_path: Path) -> None:
    module = nn.Linear(1000, 1000)
    module.more = nn.ModuleList(nn.Linear(1000, 1000) for _ in range(7))
    optimizer = torch.optim.AdamW(module.parameters())
    sum(parameter.sum() for parameter in module.parameters()).backward()
    optimizer.step()
    tracemalloc.start()
    save_state(tmp_path, 1, module, optimizer)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "step-0000001.pt").stat().st_size > 96e6
    assert most < 10e6  # of the 4 MB of one matrix, not of all that the file holds


@pytest.mark.parametrize("saved", [1, 2, 3, 4])
def test_a_restored_run_has_the_losses_and_weights_of_one_that_never_stopped(saved: int, tmp_path: Path) -> None:
    whole, stopped = Branches(), Branches()
    expected = [whole.step(number) for number in range(7)]
    for number in range(saved):
        stopped.step(number)
    save_state(tmp_path, saved, stopped, stopped.optimizer)
    resumed = Branches()
    assert load_state(tmp_path / f"step-{saved:07d}.pt", resumed, resumed.optimizer) == saved
    assert [resumed.step(number) for number in range(saved, 7)] == expected[saved:]
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    one, other = Branches(), Branches()
    one.step(0)
    save_state(tmp_path, 1, one, one.optimizer)
    other.more = nn.Linear(4, 4)
    other.optimizer.add_param_group({"params": list(other.more.parameters())})
    with pytest.raises(StateError, match=r"differs in more.bias and 1 more"):
        load_state(tmp_path / "step-0000001.pt", other, other.optimizer)


def test_a_run_of_an_older_version_is_refused_and_the_reason_given(tmp_path: Path, monkeypatch) -> None:
    """Its optimizer holds scales and biases in another way: going on would be neither the old run nor a new one."""
    one = Branches()
    one.step(0)
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, *to: save({k: v for k, v in state.items() if k != "version"}, *to))
    save_state(tmp_path, 1, one, one.optimizer)
    with pytest.raises(StateError, match="older version of peav"):
        load_state(tmp_path / "step-0000001.pt", one, one.optimizer)
