"""Waveforms that are asked for again and again, and take time to decode."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

from peav.synth.mix.loudness import Waveform

K = TypeVar("K", bound=Hashable)


class Recent(Generic[K]):
    """Keeps those used last, as many as fit into `limit` bytes; one that does not fit is loaded every time."""

    def __init__(self, load: Callable[[K], Waveform], limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self._load = load
        self._kept: OrderedDict[K, Waveform] = OrderedDict()
        self._lock = Lock()

    def __call__(self, key: K) -> Waveform:
        """The waveform of a key; what `load` raises is raised."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        # Without the lock, so that nobody waits for a decoder; two threads may load the same sound.
        waveform = self._load(key)
        with self._lock:
            if key not in self._kept and waveform.nbytes <= self.limit:
                self._kept[key] = waveform
                self.bytes += waveform.nbytes
            while self.bytes > self.limit:
                _, oldest = self._kept.popitem(last=False)
                self.bytes -= oldest.nbytes
        return waveform
