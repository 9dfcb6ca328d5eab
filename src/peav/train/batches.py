"""The batches of a run, each a function of the seed and its number alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from peav.data.collate import Collator
from peav.data.manifest import Row
from peav.data.sampler import LARGE, MixtureSampler
from peav.data.transforms import SourceTransform
from peav.distributed import ALONE, DistContext
from peav.errors import TrainingError
from peav.features.extract import ClipFeatures
from peav.features.live import LiveFeatures
from peav.features.store import FeatureCache


class Collate(Protocol):
    """Makes a batch of `rows[part]`, whose features `clips` are, with draws for all rows out of `rng`."""

    def __call__(
        self, rows: Sequence[Row], clips: Sequence[ClipFeatures], rng: np.random.Generator, part: slice = ...
    ) -> Any:
        """One batch."""


class Batches:
    """The batches of a run: which clips are in batch k is a function of (seed, k). With several processes each loads
    its own rows of it.

    Captions are drawn for all rows of a batch by one generator. Where a source is large (see `data.sampler`) each clip
    has one of its own instead, and a process reads the rows of its own clips alone. Collates other than `Collator` need
    all rows, whose texts they share.

    Args:
        sources: the training rows of each source, with `weights` their shares of a batch.
        cache: holds what clips are made of; evaluation asks it, too.
        collate: makes a batch of rows and what they hold.
        copies: how many stand beside each clip of a source, by its number; they come on top of `batch_size`.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[Row]],
        weights: Sequence[float],
        batch_size: int,
        seed: int,
        cache: FeatureCache | LiveFeatures,
        collate: Collate,
        dist: DistContext = ALONE,
        copies: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        self.sources, self.seed, self.cache, self.collate, self.dist = sources, seed, cache, collate, dist
        self.large = max(map(len, sources)) > LARGE and isinstance(collate, Collator)
        self.sampler = MixtureSampler([len(rows) for rows in sources], weights, batch_size, seed)
        if 0 in self.sampler.counts:
            raise TrainingError(
                f"a batch of {batch_size} takes {list(self.sampler.counts)} clips from the sources: one would "
                "never be seen; raise optim.batch_size or its weight"
            )
        self.size = batch_size + sum(self.sampler.counts[source] * more for source, more in copies.items())
        if self.size % dist.world_size:
            raise TrainingError(
                f"{self.size} clips a batch do not divide among {dist.world_size} processes; change optim.batch_size"
                f"{' (copies that transforms make come on top of it)' if self.size > batch_size else ''}"
            )

    @property
    def places(self) -> range:
        """Which places of a batch are this process's."""
        return range(self.size)[self.dist.local_shard(self.size)]

    @property
    def told(self) -> range:
        """The places whose rows this process reads."""
        return self.places if self.large else range(self.size)

    def collated(self, number: int, rows: Mapping[int, Row], clips: Sequence[ClipFeatures]) -> Any:
        """Batch `number` of the rows in the places that are `told`, and of the clips in this process's own."""
        # 1 to 5 keep the draws of captions, copies, changes and replacements apart. The sampler's (seed, source, epoch)
        # can meet them, which does no harm; other numbers would give every run other batches.
        rng = np.random.default_rng((self.seed, 1, number))
        if not self.large:
            return self.collate(list(rows.values()), clips, rng, self.dist.local_shard(self.size))
        assert isinstance(self.collate, Collator)
        draws = {place: np.random.default_rng((self.seed, 4, number, place)) for place in rows}
        return self.collate([self.collate.drawn(row, draws[place]) for place, row in rows.items()], clips, rng)

    @property
    def queue(self) -> int | None:
        """How many clips of this process wait, decoded, for their batch; None where nothing is decoded ahead."""
        return None

    def batch(self, number: int) -> Any:
        """The collated batch of this number, counted from 0."""
        raise NotImplementedError

    def ids(self, number: int) -> list[str]:
        """The ids of the clips of a batch, in its order."""
        raise NotImplementedError

    def close(self) -> None:
        """No more batches are wanted."""


class BatchStream(Batches):
    """Batches of features that are stored.

    Args:
        transforms: by the number of a source, what changes its clips when they are drawn; for the others see `Batches`.
    """

    cache: FeatureCache

    def __init__(
        self,
        sources: Sequence[Sequence[Row]],
        weights: Sequence[float],
        batch_size: int,
        seed: int,
        cache: FeatureCache,
        collate: Collate,
        transforms: Mapping[int, SourceTransform] = MappingProxyType({}),
        dist: DistContext = ALONE,
    ) -> None:
        copies = {source: transform.copies or 0 for source, transform in transforms.items()}
        super().__init__(sources, weights, batch_size, seed, cache, collate, dist, copies)
        self.transforms = transforms

    def batch(self, number: int) -> Any:
        """The collated batch of this number, counted from 0."""
        sampled, own = self._sampled(number), self.places
        rows: dict[int, Row] = {}
        changed: dict[int, ClipFeatures | None] = {}
        # Of another process's clips the row alone: captions are drawn for all rows by one generator.
        for place in self.told:
            source, index, transform = sampled[place]
            rows[place] = self.sources[source][index]
            if transform is not None:
                rng = np.random.default_rng((self.seed, 2 if transform.copies else 3, number, place))
                rows[place], changed[place] = transform.draw(rows[place], rng, load=place in own)
        # In one call: from object storage many are read at a time.
        plain = iter(self.cache.load_all([rows[place] for place in own if place not in changed]))
        clips = []
        for place in own:
            clip = changed[place] if place in changed else next(plain)
            assert clip is not None, "a transform that was asked for features gave none"
            clips.append(clip)
        return self.collated(number, rows, clips)

    def ids(self, number: int) -> list[str]:
        """The ids of the clips of a batch, in its order."""
        return [self.sources[source][index].id for source, index, _ in self._sampled(number)]

    def _sampled(self, number: int) -> list[tuple[int, int, SourceTransform | None]]:
        """The clips of a batch by source and index, each with what changes it; after a clip the copies that a transform
        makes of it.
        """
        sampled: list[tuple[int, int, SourceTransform | None]] = []
        for source, index in self.sampler.batch(number):
            transform = self.transforms.get(source)
            copies = 0 if transform is None else transform.copies
            sampled.append((source, index, None if copies else transform))
            sampled += [(source, index, transform)] * (copies or 0)
        return sampled
