"""Batches side by side: the same results in the same order, errors in their place, torch's threads as they were."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from random_model import close, random_encoder

from peav.inference.lanes import in_lanes

CPU = torch.device("cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("two_threads")
def test_results_come_in_order_and_several_are_made_at_a_time() -> None:
    together = threading.Barrier(2)

    def work(item: int) -> tuple[int, int]:
        together.wait(timeout=60)  # would stand still if one came after the other
        time.sleep(0.02 * (item % 2 == 0))
        return item, torch.get_num_threads()

    assert list(in_lanes(work, range(6), CPU)) == [(item, 1) for item in range(6)]
    assert torch.get_num_threads() == 2
    seen: list[int] = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert seen == [2], "threads to come have as many as before"


@pytest.mark.usefixtures("two_threads")
def test_only_a_few_items_are_taken_ahead_and_an_error_comes_in_its_place() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    def work(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    results = in_lanes(work, items(), CPU)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(taken) <= 6
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert len(taken) <= 7


def test_with_one_thread_it_is_map() -> None:
    here = threading.current_thread()
    assert list(in_lanes(lambda item: (item, threading.current_thread() is here), [1, 2], CPU)) == [
        (1, True),
        (2, True),
    ]


@pytest.mark.usefixtures("two_threads")
def test_embeddings_in_lanes_are_those_of_one_thread_and_the_same_bits_twice() -> None:
    encoder = random_encoder()
    noise = np.random.default_rng(0)
    sounds = [noise.normal(0, 0.1, 4000 * (i + 1)).astype(np.float32) for i in range(9)]
    once, again = (encoder.encode_audio(sounds, sampling_rate=48000, batch_size=2) for _ in range(2))
    assert np.array_equal(once, again)
    torch.set_num_threads(1)
    alone = encoder.encode_audio(sounds, sampling_rate=48000, batch_size=2)
    assert all(close(row, one) for row, one in zip(once, alone, strict=True))
