"""Video states are put on the audio's time base exactly as the original does it, one row at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from peav.model.fusion import nearest_indices


@pytest.mark.slow
def test_nearest_indices_equal_interpolate_for_all_lengths_of_video_and_audio() -> None:
    for source in [*range(1, 34), 100, 299, 300, 901]:
        targets = torch.tensor([*range(1, 260), 499, 750, 751, 1024, 9999])
        index = nearest_indices(torch.full_like(targets, source), targets, int(targets.max()))
        positions = torch.arange(source, dtype=torch.float32)[None, None]
        for row, target in enumerate(targets.tolist()):
            expected = F.interpolate(positions, size=target, mode="nearest")[0, 0].long()
            assert index[row, :target].equal(expected), (source, target)


@settings(max_examples=50)
@given(
    rows=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 60)), min_size=1, max_size=6),
    extra=st.integers(0, 5),
)
def test_indices_never_leave_a_rows_own_frames(rows: list[tuple[int, int]], extra: int) -> None:
    source, target = torch.tensor(rows).T
    index = nearest_indices(source, target, int(target.max()) + extra)
    assert (index >= 0).all()
    assert (index <= (source - 1).clamp(min=0)[:, None]).all()
