"""The clips of a run: read from every source, their features made, those that cannot be used left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, starmap
from pathlib import Path

from peav.data.manifest import Row
from peav.data.places import PLACES, Place, PlaceContext, is_prepared, read_place
from peav.data.table import JoinedRows, RowTable, select
from peav.data.transforms import TRANSFORMS, Choice, SourceContext, SourceTransform
from peav.errors import RecipeError, TrainingError
from peav.features.failures import TooManyFailures, clip_failure
from peav.features.keys import clip_key
from peav.features.store import FeatureCache
from peav.jobs import write_failures
from peav.recipes.config import from_options
from peav.train.progress import Reporter
from peav.train.recipe import Recipe, Source

HELD_OUT = 10_000  # rows of a split of a table that are held out at most
TOLD = 100_000  # rows of a table whose texts a tokenizer learns from at most


@dataclass(frozen=True)
class Clips:
    """Training rows by source with their weights, and held-out rows; `transforms` are by the number of a source what
    changes its clips when they are drawn. The rows of a large manifest are a `RowTable`.
    """

    sources: list[Sequence[Row]]
    weights: list[float]
    validation: list[Row]
    test: list[Row]
    transforms: Mapping[int, SourceTransform] = field(default_factory=dict)

    def groups(self) -> list[Sequence[Row]]:
        """The rows of each source, then those held out."""
        return [*self.sources, self.validation, self.test]

    def shares(self, temperature: float | None) -> list[float]:
        """How the sources share a batch, see `recipe.Data`; they need not sum to one."""
        if temperature is None:
            return self.weights
        return [
            weight * len(rows) ** (1 / temperature) for weight, rows in zip(self.weights, self.sources, strict=True)
        ]

    def changed(self, change: Callable[[Sequence[Row]], Sequence[Row]]) -> Clips:
        """What `change` makes of the rows of each source, and of those held out."""
        sources, (validation, test) = map(change, self.sources), map(list, map(change, (self.validation, self.test)))
        return replace(self, sources=list(sources), validation=validation, test=test)

    def held_out_by(self, streams: Callable[[Row], tuple[bool, bool]]) -> Clips:
        """The same with the plain texts of rows that are held out under the kinds of the `streams` of their files."""
        validation, test = (
            [row.with_streams(*streams(row)) if row.plain else row for row in rows]
            for rows in (self.validation, self.test)
        )
        return replace(self, validation=validation, test=test)

    def sound_alone(self) -> Clips:
        """The clips that have sound, without their pictures."""
        return self.changed(_heard)

    def training(self) -> Sequence[Row]:
        """The rows of all sources."""
        return JoinedRows(self.sources)

    def all(self) -> Sequence[Row]:
        """Every row."""
        return JoinedRows(self.groups())

    def licenses(self) -> Counter[str]:
        """How many training rows have each license, `unknown` for none."""
        counts = (
            rows.licenses() if isinstance(rows, RowTable) else Counter(row.license or "unknown" for row in rows)
            for rows in self.sources
        )
        return sum(counts, start=Counter())

    def started(self, recipe: Recipe, cache: FeatureCache) -> Clips:
        """The clips that may be drawn, once transforms are ready to change them."""
        sources = list(self.sources)
        for number, transform in self.transforms.items():
            failures = Path(recipe.output) / f"source-{number}-failures.jsonl"
            context = SourceContext(cache, recipe.data.max_seconds, failures)
            sources[number] = transform.start(list(sources[number]), context)
        return replace(self, sources=sources)


def prepared_folders(recipe: Recipe) -> list[str | None]:
    """Of each source the folder of prepared features that it is, None where it is something else."""
    places = [source.place for source in recipe.data.sources]
    return [place if isinstance(place, str) and is_prepared(place) else None for place in places]


def gather(recipe: Recipe, reporter: Reporter) -> Clips:
    """The rows of every source; those that a class makes are made first where they are missing.

    Raises:
        RecipeError: a source has no row that trains, or names what there is not.
    """
    data = recipe.data
    context = PlaceContext(data.cache, data.workers, reporter.stage, reporter.advance)
    sources: list[Sequence[Row]] = []
    held_out: dict[str, list[Row]] = {"validation": [], "test": []}
    changing: dict[int, SourceTransform] = {}
    transforms = [_transforms(recipe, source) for source in data.sources]  # all of them first: a mistake costs no time
    for number, (source, own) in enumerate(zip(data.sources, transforms, strict=True)):
        rows = _rows(source, context)
        for transform in own:
            rows = transform.all_rows(rows) if isinstance(transform, Choice) else transform.all_rows(list(rows))
        for split, some in held_out.items():
            some += _held_out(rows, split)
        chosen = select(rows, lambda row: row.trains)
        for transform in own:
            if not isinstance(transform, Choice):
                chosen = transform.train_rows(list(chosen), data.max_seconds)
            if transform.copies is not None:
                changing[number] = transform
        if not chosen:
            fit = " and ".join(transform.fits for transform in own if transform.fits)
            raise RecipeError(f"{source}: no row of split train{fit and f' with {fit}'}")
        sources.append(chosen)
    # A manifest may be a source twice, once as it is and once changed: each of its clips is tested on once.
    validation, test = (list({clip_key(row): row.by_people() for row in rows}.values()) for rows in held_out.values())
    return Clips(sources, [source.weight for source in data.sources], validation, test, changing)


def _heard(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows with sound, without their pictures."""
    some = select(rows, lambda row: bool(row.audio_path))
    if isinstance(some, RowTable):
        return some.changed(lambda group: replace(group, video_path=False))
    return [replace(row, video_path=None) for row in some]


def _held_out(rows: Sequence[Row], split: str) -> list[Row]:
    """The rows of a split; of a table some, evenly, since features of all of them are made and kept in memory."""
    own = select(rows, lambda row: row.split == split)
    return list(own.some(HELD_OUT) if isinstance(own, RowTable) else own)


def _rows(source: Source, context: PlaceContext) -> Sequence[Row]:
    if isinstance(source.place, str):
        return read_place(source.place, context)
    return from_options(Place, PLACES, source.place, "a source's place").rows(context)


def _transforms(recipe: Recipe, source: Source) -> list[SourceTransform]:
    found = [
        from_options(SourceTransform, TRANSFORMS, options, f"{source}: transforms") for options in source.transforms
    ]
    if sum(transform.copies is not None for transform in found) > 1:
        raise RecipeError(f"{source}: two transforms change what is drawn; leave one out")
    if recipe.data.decode is not None and any(transform.copies is not None for transform in found):
        raise RecipeError(f"{source}: a transform changes what is drawn by stored features; leave out data.decode")
    if recipe.parallel == "fsdp" and any(transform.needs_codec for transform in found):
        raise RecipeError(f"{source}: a transform needs the codec whole in each process; set parallel: ddp")
    if isinstance(source.place, str) and is_prepared(source.place) and any(one.needs_codec for one in found):
        raise RecipeError(f"{source}: a transform needs recordings, and these are prepared features; leave it out")
    return found


def with_features(recipe: Recipe, cache: FeatureCache, clips: Clips, reporter: Reporter) -> Clips:
    """Make the features of every clip; those that cannot be decoded go to `failures.jsonl` and out of the run."""
    everything = clips.all()
    reporter.stage("features", len(everything))
    failures = Path(recipe.output) / "failures.jsonl"
    try:
        good, failed = cache.prepare(everything, reporter.advance, recipe.data.workers)
    except TooManyFailures as error:
        write_failures(failures, starmap(clip_failure, error.failed))
        raise TrainingError(f"{error}; all are in {failures}") from error
    write_failures(failures, starmap(clip_failure, failed))
    if failed:
        reporter.advance(len(everything), f"{len(failed)} left out, see {failures}")
    kept = {cache.path(row) for row in good}  # not by id: two sources may use the same ids
    clips = clips.changed(
        lambda rows: [
            row.with_streams(*cache.streams(row)) if row.plain else row for row in rows if cache.path(row) in kept
        ]
    )
    if not all(clips.sources):
        raise TrainingError(f"a source has no clip that can be decoded, see {failures}")
    return clips


def texts_of(sources: Sequence[Sequence[Row]]) -> Iterator[str]:
    """Every caption and transcript; of a large table, those of some rows."""
    for rows in sources:
        for row in rows.some(TOLD) if isinstance(rows, RowTable) else rows:
            yield from filter(None, (*chain(*row.captions.values()), row.transcript))
