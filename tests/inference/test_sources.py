"""Reading ahead of the model keeps order and errors, and lets go at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from peav.inference.sources import read_ahead


def test_reading_ahead_keeps_order_and_errors() -> None:
    def numbers() -> Iterator[int]:
        yield from (1, 2, 3)
        raise ZeroDivisionError

    ahead = read_ahead(numbers())
    assert [next(ahead), next(ahead), next(ahead)] == [1, 2, 3]
    with pytest.raises(ZeroDivisionError):
        next(ahead)


def test_a_stream_given_up_half_way_is_closed_without_waiting_for_the_item_being_made() -> None:
    go_on = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        go_on.wait(60)
        yield 2

    ahead = read_ahead(items())
    assert next(ahead) == 1
    closing = threading.Thread(target=ahead.close, daemon=True)
    closing.start()
    closing.join(20)
    waited = closing.is_alive()
    go_on.set()
    assert not waited
