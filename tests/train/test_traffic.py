"""What devices hold and say to each other, as planned and as it is."""

from __future__ import annotations

import pytest
from fake_group import step

from peav.recipes import SHIPPED
from peav.train import plan, read_recipe
from peav.train.traffic import Collective, sent_bytes

NANO = {"model": "nano", "optim.batch_size": "48", "data.max_seconds": "1"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "changes"),
    [
        (0, {}),
        (47, {"frames.frozen": "true", "objective.auxiliary": "{}"}),
        (20, {"objective.loss": "infonce", "objective.pairs": "[a_ac, a_v]", "optim.recompute": "false"}),
        (5, {"parallel": "fsdp", "objective.pairs": "finetune"}),
    ],
)
def test_each_of_48_ranks_holds_and_says_what_was_planned(rank: int, changes: dict[str, str]) -> None:
    """Built, sharded and stepped in a process group that moves no data."""
    recipe = read_recipe(SHIPPED / "phase1_small.yaml", NANO | changes)
    cost = plan(recipe, 48)
    held, said = step(recipe, rank, 48)
    assert held == cost.shard_bytes
    assert said == cost.collectives


def test_a_reduction_is_sent_around_a_ring_twice() -> None:
    said = {"all_gather": Collective(3, 800), "all_reduce": Collective(1, 80)}
    assert sent_bytes(said, 8) == 800 * 7 / 8 + 2 * 80 * 7 / 8
    assert sent_bytes({}, 1) == 0
