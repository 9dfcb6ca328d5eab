"""The batches of a run, each a function of the seed and its number alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from peav.data.manifest import Row
from peav.data.sampler import MixtureSampler
from peav.distributed import ALONE, DistContext
from peav.errors import TrainingError
from peav.features.cache import ClipFeatures, FeatureCache
from peav.lab.splice import Splicer, bare
from peav.synth.mix import Remixer


class Collate(Protocol):
    """Makes a batch of `rows[part]`, whose features `clips` are, with draws for all rows out of `rng`."""

    def __call__(
        self, rows: Sequence[Row], clips: Sequence[ClipFeatures], rng: np.random.Generator, part: slice = ...
    ) -> Any: ...


class Drawn(NamedTuple):
    """A clip at a place of a batch, and what else is to be made of it."""

    row: Row
    splicer: Splicer | None = None
    remixer: Remixer | None = None


class Feed:
    """Draws, loads and collates the clips of each batch; with several processes, this one's part of them.

    Args:
        sources: the training rows of each source, with `weights` their shares of a batch.
        cache: holds their features.
        splicers: make near misses, on top of the batch, for every clip of the sources at these places; each so many.
        remixers: put every clip of the sources at these places into a soundscape.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[Row]],
        weights: Sequence[float],
        batch_size: int,
        seed: int,
        cache: FeatureCache,
        collate: Collate,
        splicers: Mapping[int, tuple[Splicer, int]] = MappingProxyType({}),
        remixers: Mapping[int, Remixer] = MappingProxyType({}),
        dist: DistContext = ALONE,
    ) -> None:
        self.sources, self.seed, self.cache, self.collate = sources, seed, cache, collate
        self.splicers, self.remixers, self.dist = splicers, remixers, dist
        self.sampler = MixtureSampler([len(rows) for rows in sources], weights, batch_size, seed)
        if 0 in self.sampler.counts:
            raise TrainingError(
                f"a batch of {batch_size} takes {list(self.sampler.counts)} clips from the sources: one would "
                "never be seen; raise optim.batch_size or its weight"
            )
        self.size = batch_size + sum(self.sampler.counts[source] * count for source, (_, count) in splicers.items())
        if self.size % dist.world_size:
            raise TrainingError(
                f"{self.size} clips a batch do not divide among {dist.world_size} processes; change optim.batch_size"
                f"{' (near misses come on top of it)' if splicers else ''}"
            )

    @property
    def places(self) -> range:
        """Which places of a batch are this process's."""
        return range(self.size)[self.dist.local_shard(self.size)]

    def batch(self, number: int) -> Any:
        """The collated batch of this number, counted from 0."""
        drawn = self._drawn(number)
        # Bare or remixed even where another process has them: captions are drawn for all rows by one generator.
        rows = [row if splicer is None else bare(row) for row, splicer, _ in drawn]
        mixed = {}
        for place, (row, _, remixer) in enumerate(drawn):
            if remixer is not None:
                rows[place], mixed[place] = remixer(row, np.random.default_rng((self.seed, 3, number, place)))
        whole = iter(self.cache.load_all([drawn[place].row for place in self.places if not any(drawn[place][1:])]))
        clips = []
        for place in self.places:
            row, splicer, remixer = drawn[place]
            if splicer is not None:
                rows[place], clip = splicer(row, np.random.default_rng((self.seed, 2, number, place)))
                clips.append(clip)
            else:
                clips.append(next(whole) if remixer is None else remixer.make.of_sound(mixed[place]))
        return self.collate(
            rows, clips, np.random.default_rng((self.seed, 1, number)), self.dist.local_shard(self.size)
        )

    def ids(self, number: int) -> list[str]:
        """The ids of the clips of a batch, in its order."""
        return [drawn.row.id for drawn in self._drawn(number)]

    def _drawn(self, number: int) -> list[Drawn]:
        """The clips of a batch, and after each of a spliced source the same clip with what makes its near misses."""
        drawn = []
        for source, index in self.sampler.batch(number):
            row = self.sources[source][index]
            drawn.append(Drawn(row, remixer=self.remixers.get(source)))
            if source in self.splicers:
                splicer, count = self.splicers[source]
                drawn += [Drawn(row, splicer)] * count
        return drawn
