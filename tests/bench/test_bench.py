"""What `peav bench` counts is what a hand counts, and both implementations it times give the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from peav.bench import run
from peav.bench.files import write_clips
from peav.bench.measure import alternated, operations, peak_memory
from peav.bench.parts import Sizes, parts, their_model
from peav.bench.report import to_markdown, to_svg
from peav.media import load_audio, load_frames

CPU = torch.device("cpu")
SMALL = Sizes(seconds=0.4, frames=2, clips=2, texts=6)


def test_operations_are_those_of_the_formulas() -> None:
    linear, x = nn.Linear(30, 50), torch.randn(7, 30)
    forward = 2 * 7 * 30 * 50
    with torch.no_grad():
        assert operations(lambda: linear(x)) == forward
        q = torch.randn(2, 3, 11, 16)
        assert operations(lambda: F.scaled_dot_product_attention(q, q, q)) == 2 * (2 * 2 * 3 * 11 * 11 * 16)
        assert operations(lambda: F.conv1d(torch.randn(2, 4, 20), torch.randn(8, 4, 3))) == 2 * 2 * 8 * 18 * 4 * 3
    # Backward: the weight's gradient; that of the input is not asked for.
    assert operations(lambda: linear(x).sum().backward()) == 2 * forward


def test_the_peak_of_memory_is_what_a_call_holds_at_once() -> None:
    def work() -> None:
        for _ in range(3):
            values = np.ones(50 * 2**20, np.uint8)
            values += 1

    assert 45 * 2**20 < peak_memory(work, CPU) < 110 * 2**20


def test_memory_that_was_freed_before_counts_when_it_is_taken_again() -> None:
    def work() -> None:
        held = [torch.ones(2**14) for _ in range(800)]  # 64 kB each: the allocator keeps such pieces
        time.sleep(0.2)  # for who watches to see it, on a busy machine too
        del held

    work()
    assert peak_memory(work, CPU) > 35 * 2**20


def test_implementations_take_turns() -> None:
    told: list[str] = []

    def tell(name: str) -> Callable[[], object]:
        return lambda: told.append(name)

    assert set(alternated({"a": tell("a"), "b": tell("b")}, 3, CPU)) == {"a", "b"}
    assert told == ["a", "b"] * 4


def test_clips_can_be_read(tmp_path: Any) -> None:
    paths = write_clips(tmp_path, 10)
    assert len(set(paths)) == 10
    assert len({path.stat().st_ino for path in paths}) == 8
    assert abs(len(load_audio(paths[9])) / 48000 - 3) < 0.1
    assert len(load_frames(paths[9]).pixels) == 75


@pytest.mark.slow
def test_both_implementations_compute_the_same() -> None:
    pytest.importorskip("timm")
    encoder = run.random_encoder("nano", "cpu", None)
    theirs = their_model(encoder.model)
    by_name = {part.name: part for part in parts(encoder.model, theirs, SMALL)}
    with torch.inference_mode():
        codec, frames, audio = (by_name[name].works for name in ("codec", "frame encoder", "audio encoder"))
        pairs: list[tuple[Any, Any]] = [
            (codec["peav"](), codec["transformers"]().transpose(1, 2)),  # type: ignore[attr-defined]
            (frames["peav"](), frames["transformers"]().logits),  # type: ignore[attr-defined]
            (audio["peav"]().pooled, audio["transformers"]().pooler_output),  # type: ignore[attr-defined]
        ]
    for ours, other in pairs:
        assert ours.shape == other.shape
        assert (ours - other).abs().max() <= 2e-5 * other.abs().max()


@pytest.mark.slow
def test_a_run_says_all_there_is_to_say() -> None:
    encoder, told = run.random_encoder("nano", "cpu", None), list[str]()
    report = run.bench(encoder, sizes=SMALL, repeats=1, files=3, beside=False, progress=told.append)
    names = ["codec", "audio encoder", "frame encoder", "text encoder", "training step"]
    assert [row["part"] for row in report["parts"]] == names
    assert told == [*names, "memory by length", "3 files"]
    for row in report["parts"]:
        assert row["times_ours"] == 1
        assert 0 < row["share_of_peak"] < 1.5, row  # the peak of a busy machine is not always its best
    assert {name: found["files"] for name, found in report["files"].items()} == dict.fromkeys(report["files"], 3)
    assert report["files"]["embed, one core"]["cores"] == 1
    text, chart = to_markdown(report), to_svg(report)
    assert all(name in text and name in chart for name in names)
    assert all(parameter.grad is None for parameter in encoder.model.parameters())


def test_sizes_and_repeats_that_measure_nothing_are_refused() -> None:
    encoder = run.random_encoder("nano", "cpu", None)
    with pytest.raises(ValueError, match="above 0"):
        run.bench(encoder, repeats=0)
    with pytest.raises(ValueError, match="above 0"):
        run.bench(encoder, sizes=Sizes(seconds=0))
    with pytest.raises(ValueError, match="no size 'huge'"):
        run.random_encoder("huge", None, None)
