"""From a recipe to a trained checkpoint: make the clips, distil the codec, cache features, train, evaluate, save."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from peav.checkpoint import load_model, load_tokenizer, resolve, save_pretrained
from peav.data.collate import Collator
from peav.data.frame_targets import FrameTargetMaker
from peav.data.manifest import Row, by_fold, read_manifest
from peav.data.recordings import read_recordings
from peav.data.webdataset import read_webdataset
from peav.distributed import DistContext, local_device, process_group
from peav.errors import RecipeError, TrainingError
from peav.features.cache import FeatureCache, clip_key
from peav.features.failures import TooManyFailures, write_failures
from peav.features.prepare import frozen_parts
from peav.features.prepared import check_prepared, read_prepared
from peav.inference.tokenizer import train_tokenizer
from peav.lab.splice import Splicer, spliceable
from peav.lab.word_labels import spoken_vocabulary
from peav.model import PEAV, PEAFrame, PEAVConfig, preset
from peav.synth.mix import Remixer, make_mixer, make_mixtures, mixable, sounds_of, without_sources
from peav.synth.world import generate
from peav.synth.world.captioner import with_synthetic_captions
from peav.train.align import Alignment, TimedCollator
from peav.train.contrast import Contrast
from peav.train.feed import Feed
from peav.train.finetune import renew, served
from peav.train.parts import ready_codec, ready_frames, take_frames, take_text
from peav.train.recipe import Data, Recipe, Source, World
from peav.train.reporter import Reporter
from peav.train.trainer import Task, Trainer, data_wait, earlier_states
from peav.types import Event
from peav.utils.atomic import atomic_write


@dataclass(frozen=True)
class Clips:
    """Training rows by source with their weights, and held-out rows; `altered` are by number the
    sources whose clips are spliced or mixed when they are drawn."""

    sources: list[list[Row]]
    weights: list[float]
    validation: list[Row]
    test: list[Row]
    altered: Mapping[int, Source] = field(default_factory=dict)

    def groups(self) -> list[list[Row]]:
        """The rows of each source, then those held out."""
        return [*self.sources, self.validation, self.test]

    def shares(self, temperature: float | None) -> list[float]:
        """How the sources share a batch, see `recipe.Data`; they need not sum to one."""
        if temperature is None:
            return self.weights
        return [
            weight * len(rows) ** (1 / temperature) for weight, rows in zip(self.weights, self.sources, strict=True)
        ]

    def sound_alone(self) -> Clips:
        """The clips that have sound, without their pictures."""
        *sources, validation, test = [
            [replace(row, video_path=None) for row in rows if row.audio_path is not None] for rows in self.groups()
        ]
        return replace(self, sources=sources, validation=validation, test=test)

    def all(self) -> list[Row]:
        """Every row."""
        return [row for rows in self.groups() for row in rows]


def train(recipe: Recipe, reporter: Reporter, resume: bool = False) -> dict[str, Any]:
    """Carry a recipe out; the checkpoint is `output/model`, the figures are returned and in `output/result.json`.

    Everything made on the way (world, codec, features) is kept and found again by the next call. Started by torchrun,
    all processes share each batch.
    """
    device = local_device()
    with process_group(device) as dist:
        return _train(recipe, reporter, resume, device, dist)


def _train(recipe: Recipe, reporter: Reporter, resume: bool, device: torch.device, dist: DistContext) -> dict[str, Any]:
    torch.manual_seed(recipe.seed)
    output = Path(recipe.output)
    output.mkdir(parents=True, exist_ok=True)
    earlier_states(output, resume)  # before hours of preparation
    if recipe.optim.bf16 and device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("NO AVX", "AVX2"):
        warnings.warn("this processor is tens of times slower in bf16 than in fp32: set optim.bf16=false", stacklevel=2)
    with dist.main_first():
        model, tokenizer, cache, clips = _prepare(recipe, reporter)
    if (tune := recipe.tune) is not None:
        recipe = served(recipe, [row for rows in clips.sources for row in rows], cache)
        renew(model, tune.fresh, recipe.objective.table())
    task = _task(recipe, model.to(device), tokenizer, cache, clips, dist)
    trainer = Trainer(recipe, task, clips.validation, on_step=reporter.step, dist=dist)
    reporter.stage("train", recipe.optim.steps)
    result: dict[str, Any] = {"validation": trainer.run(resume)}
    result["test"] = trainer.evaluate(recipe.evaluation.final_candidates, clips.test)
    whole = trainer.whole_model()
    if dist.is_main:
        result["data_wait"] = data_wait(output)
        figures = {split: result[split] for split in ("validation", "test")}
        licenses = Counter(row.license or "unknown" for rows in clips.sources for row in rows)
        save_pretrained(whole, output / "model", tokenizer, name=recipe.name, figures=figures, licenses=licenses)
        with atomic_write(output / "result.json") as temporary:
            Path(temporary).write_text(json.dumps(result, indent=1), encoding="utf-8")
    dist.barrier()
    return result


def _task(
    recipe: Recipe, model: PEAV, tokenizer: Tokenizer, cache: FeatureCache, clips: Clips, dist: DistContext
) -> Task:
    """What the recipe trains: frames where it has `align`, else pairs."""
    optim, codec, length = recipe.optim, model.config.audio.codec, model.config.text.max_length
    rate = codec.sampling_rate / codec.hop_length
    words = _vocabulary(recipe, clips)
    collator = Collator(tokenizer, length, recipe.data.transcript_share, words, rate, recipe.data.real_share)
    clips, remixers = _remixed(recipe, cache, clips)
    batches = (clips.sources, clips.shares(recipe.data.temperature), optim.batch_size, recipe.seed, cache)
    if recipe.align is not None:
        sources = [_labelled(rows) if source in remixers else rows for source, rows in enumerate(clips.sources)]
        targets = FrameTargetMaker(sources, rate)
        timed = TimedCollator(collator, targets, recipe.align.prior)
        feed = Feed(*batches, timed, remixers=remixers, dist=dist)
        return Alignment(recipe, PEAFrame.from_peav(model), feed, collator, targets, dist)
    splicers = {
        number: (
            Splicer(clips.sources[number], cache, source.splice, rate, codec.hop_length, source.splice_video),
            source.near_misses,
        )
        for number, source in clips.altered.items()
        if source.splice
    }
    return Contrast(recipe, model, Feed(*batches, collator, splicers, remixers, dist), collator, dist)


def _remixed(recipe: Recipe, cache: FeatureCache, clips: Clips) -> tuple[Clips, dict[int, Remixer]]:
    """What mixes the clips of each source with `mix`, and the clips without those of them in which nothing is heard."""
    remixers, sources = {}, list(clips.sources)
    for number, source in clips.altered.items():
        if source.mix is not None:
            failures = Path(recipe.output) / f"mix-{number}-failures.jsonl"
            remixers[number] = Remixer(make_mixer(sources[number], (), failures, source.mix), cache.make)
            sources[number] = [row for row in sources[number] if remixers[number].takes(row)]
    return replace(clips, sources=sources), remixers


def _labelled(rows: Sequence[Row]) -> list[Row]:
    """Rows with an event of no length for each of their labels: these are known, how long they sound is not."""
    return [
        replace(row, events=tuple(Event(sound.label, onset=0.0, offset=0.0) for sound in sounds_of([row])))
        for row in rows
    ]


def _prepare(recipe: Recipe, reporter: Reporter) -> tuple[PEAV, Tokenizer, FeatureCache, Clips]:
    """Everything before the first step, made or found again."""
    clips = gather(recipe, reporter)
    if recipe.align is not None:
        clips = clips.sound_alone()
    model, tokenizer = build(recipe, clips)
    ready_codec(recipe, model, clips.sources, reporter)
    take_frames(recipe, model)
    _check_prepared(recipe, model)
    data = recipe.data
    cache = FeatureCache(data.cache, model, keep_waveform=recipe.codec.trainable, max_seconds=data.max_seconds)
    clips = _cached(recipe, cache, clips, reporter)
    ready_frames(recipe, model, cache, clips.sources, reporter)
    if recipe.frames.frozen:
        cache = cache.with_frozen_frames()
        everything = clips.all()
        reporter.stage("frame features", len(everything))
        cache.prepare(everything, reporter.advance, data.workers)
    return model, tokenizer, cache, clips


def gather(recipe: Recipe, reporter: Reporter) -> Clips:
    """The rows of every source, the world's made first where it is missing."""
    data = recipe.data
    sources: list[list[Row]] = []
    weights: list[float] = []
    validation: list[Row] = []
    test: list[Row] = []
    if data.world is not None:
        rows = read_manifest(_make_world(data.world, data.workers, reporter))
        # The folder may hold more clips, of an earlier run that asked for more.
        train = [row for row in rows if row.split == "train"][: data.world.train]
        sources.append(_captioned(train, data.world))
        weights.append(data.world_weight)
        validation += [row for row in rows if row.split == "validation"][: data.world.validation]
        test += [row for row in rows if row.split == "test"][: data.world.test]
    altered: dict[int, Source] = {}
    for source in data.sources:
        if source.only is not None:
            rows = [row for row in _rows(source, data, reporter) if row.transcript]
        elif source.recordings is None:
            rows = _rows(source, data, reporter)
            validation += [row for row in rows if row.split == "validation"]
            test += [row for row in rows if row.split == "test"]
        else:
            rows = _rows(source, data, reporter)
        chosen = [row for row in rows if row.split in (None, "train")]
        if source.splice:
            chosen = spliceable(chosen, data.max_seconds)
        if source.mix is not None:
            chosen = mixable(chosen)
        if not chosen:
            fit = " with each word of its transcript at its time" if source.splice else ""
            fit += " with sound and a label or events" if source.mix else ""
            raise RecipeError(f"{source}: no row of split train{fit}")
        if source.splice or source.mix is not None:
            altered[len(sources)] = source
        sources.append(chosen)
        weights.append(source.weight)
    # A manifest may be a source twice, once as it is and once mixed or spliced: each of its clips is tested on once.
    validation, test = (list({clip_key(row): row.by_people() for row in rows}.values()) for rows in (validation, test))
    return Clips(sources, weights, validation, test, altered)


def _rows(source: Source, data: Data, reporter: Reporter) -> list[Row]:
    rows = _read(source, data, reporter)
    return rows if source.test_fold is None else by_fold(rows, source.test_fold, str(source))


def _read(source: Source, data: Data, reporter: Reporter) -> list[Row]:
    if source.mixtures is not None:
        reporter.stage("mixtures", source.mixtures.train + source.mixtures.validation)
        return make_mixtures(source.mixtures, data.workers, reporter.advance)
    if source.manifest is not None:
        rows, world = read_manifest(source.manifest), data.world
        own = world is not None and Path(source.manifest).resolve().parent == Path(world.folder).resolve()
        return _captioned(rows, world) if world is not None and own else rows
    if source.prepared is not None:
        return read_prepared(source.prepared)
    if source.webdataset is not None:
        return read_webdataset(source.webdataset, f"{data.cache}/webdataset")
    assert source.recordings is not None
    rows = read_recordings(source.recordings)
    return rows if source.without is None else without_sources(rows, source.without)


def _captioned(rows: list[Row], world: World) -> list[Row]:
    return [with_synthetic_captions(row) for row in rows] if world.synthetic else rows


def _make_world(world: World, workers: int, reporter: Reporter) -> Path:
    """Make what is missing; the path of the manifest."""
    counts = {"train": world.train, "validation": world.validation, "test": world.test}
    reporter.stage("world", sum(counts.values()))
    made = 0

    def count(batch: int, _total: int) -> None:
        nonlocal made
        made += batch
        reporter.advance(made)

    for split, clips in counts.items():
        manifest = generate(Path(world.folder), clips, world.seed, splits=(split,), jobs=workers, progress=count)
    return manifest


def build(recipe: Recipe, clips: Clips) -> tuple[PEAV, Tokenizer]:
    """The model and tokenizer of a checkpoint, or a preset with the tokenizer of its text encoder or a trained one."""
    if not recipe.from_scratch:
        directory = resolve(recipe.model, cache_dir=recipe.hub_cache)
        model = load_model(directory)
        tokenizer = load_tokenizer(directory, model.config.text.vocab_size)
        if not isinstance(model, PEAV) or tokenizer is None:
            raise RecipeError(f"{recipe.model}: not a PE-AV checkpoint with a tokenizer.json")
        return model.float(), tokenizer
    config = preset(recipe.model)
    if not isinstance(config, PEAVConfig):
        raise RecipeError(f"model: {recipe.model!r} is no PE-AV preset; choose tiny, small, base or large")
    model = PEAV(config)
    if (tokenizer := take_text(recipe, model)) is None:
        texts = [text for rows in clips.sources for row in rows for text in _texts(row)]
        tokenizer = train_tokenizer(texts, config.text.vocab_size)
    return model, tokenizer


def _texts(row: Row) -> Sequence[str]:
    captions = [caption for kind in row.captions.values() for caption in kind]
    return [*captions, row.transcript] if row.transcript else captions


def _check_prepared(recipe: Recipe, model: PEAV) -> None:
    """Raises PreparedError where features in shards are not those that this model's frozen parts would make."""
    folders = [source.prepared for source in recipe.data.sources if source.prepared is not None]
    if folders:
        frozen = frozen_parts(model, recipe.data.max_seconds, f"{recipe.model}, as this recipe has it")
        for folder in folders:
            check_prepared(folder, frozen)


def _vocabulary(recipe: Recipe, clips: Clips) -> dict[str, int] | None:
    if recipe.objective.words_weight == 0:
        return None
    return spoken_vocabulary(row for rows in clips.sources for row in rows)


def _cached(recipe: Recipe, cache: FeatureCache, clips: Clips, reporter: Reporter) -> Clips:
    """Features of every clip; those that cannot be decoded go to `failures.jsonl` and out of the run."""
    everything = clips.all()
    reporter.stage("features", len(everything))
    failures = Path(recipe.output) / "failures.jsonl"
    try:
        good, failed = cache.prepare(everything, reporter.advance, recipe.data.workers)
    except TooManyFailures as error:
        write_failures(str(failures), ({"id": row.id, "reason": reason} for row, reason in error.failed))
        raise TrainingError(f"{error}; all are in {failures}") from error
    write_failures(str(failures), ({"id": row.id, "reason": reason} for row, reason in failed))
    if failed:
        reporter.advance(len(everything), f"{len(failed)} left out, see {failures}")
    kept = {cache.path(row) for row in good}  # not by id: two sources may use the same ids
    *sources, validation, test = [
        [row.with_streams(*cache.streams(row)) if row.plain else row for row in rows if cache.path(row) in kept]
        for rows in clips.groups()
    ]
    if not all(sources):
        raise TrainingError(f"a source has no clip that can be decoded, see {failures}")
    return replace(clips, sources=sources, validation=validation, test=test)
