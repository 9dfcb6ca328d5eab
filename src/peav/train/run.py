"""From a recipe to a trained checkpoint: make the clips, distil the codec, cache features, train, evaluate, save."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from peav.checkpoint import load_model, load_tokenizer, resolve, save_pretrained
from peav.checkpoint.atomic import atomic_write
from peav.data.collate import Collator
from peav.data.failures import TooManyFailures, write_failures
from peav.data.features import FeatureCache, add_weights, clip_key
from peav.data.manifest import Event, Row, read_manifest
from peav.data.mix import Remixer, make_mixer, make_mixtures, mixable, sounds_of, without_sources
from peav.data.prepare import frozen_parts
from peav.data.prepared import check_prepared, read_prepared
from peav.data.recordings import read_recordings
from peav.data.splice import Splicer, spliceable
from peav.data.timed import FrameTargetMaker
from peav.data.tokenizer import train_tokenizer
from peav.data.webdataset import read_webdataset
from peav.data.words import spoken_vocabulary
from peav.data.world import generate
from peav.data.world.captioner import with_synthetic_captions
from peav.model import PEAV, PEAFrame, PEAVConfig, preset
from peav.objectives.ranks import Ranks
from peav.train.align import Alignment, TimedCollator
from peav.train.codec import distil_codec
from peav.train.contrast import Contrast
from peav.train.errors import TrainingError
from peav.train.feed import Feed
from peav.train.finetune import renew, served
from peav.train.frames import pretrain_frames
from peav.train.parallel import local_device, process_group
from peav.train.reading import RecipeError
from peav.train.recipe import Codec, Data, Frames, Recipe, Source, World
from peav.train.trainer import Task, Trainer, data_wait, earlier_states


class Reporter(Protocol):
    """Who is told how a run goes."""

    def stage(self, name: str, total: int | None) -> None:
        """A new stage begins; `total` is its number of steps where known."""

    def advance(self, done: int, note: str = "") -> None:
        """The stage has done so much."""

    def step(self, record: Mapping[str, Any]) -> None:
        """One training step's log record."""


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
    with process_group(device) as ranks:
        return _train(recipe, reporter, resume, device, ranks)


def _train(recipe: Recipe, reporter: Reporter, resume: bool, device: torch.device, ranks: Ranks) -> dict[str, Any]:
    torch.manual_seed(recipe.seed)
    output = Path(recipe.output)
    output.mkdir(parents=True, exist_ok=True)
    earlier_states(output, resume)  # before hours of preparation
    with ranks.one_by_one():
        model, tokenizer, cache, clips = _prepare(recipe, reporter)
    if (tune := recipe.tune) is not None:
        recipe = served(recipe, [row for rows in clips.sources for row in rows], cache)
        renew(model, tune.fresh, recipe.objective.table())
    task = _task(recipe, model.to(device), tokenizer, cache, clips, ranks)
    trainer = Trainer(recipe, task, clips.validation, on_step=reporter.step, ranks=ranks)
    reporter.stage("train", recipe.optim.steps)
    result: dict[str, Any] = {"validation": trainer.run(resume)}
    result["test"] = trainer.evaluate(recipe.evaluation.final_candidates, clips.test)
    whole = trainer.whole_model()
    if ranks.first:
        result["data_wait"] = data_wait(output)
        save_pretrained(whole, output / "model", tokenizer)
        with atomic_write(output / "result.json") as temporary:
            Path(temporary).write_text(json.dumps(result, indent=1), encoding="utf-8")
    ranks.wait()
    return result


def _task(recipe: Recipe, model: PEAV, tokenizer: Tokenizer, cache: FeatureCache, clips: Clips, ranks: Ranks) -> Task:
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
        feed = Feed(*batches, timed, remixers=remixers, ranks=ranks)
        return Alignment(recipe, PEAFrame.from_peav(model), feed, collator, targets, ranks)
    splicers = {
        number: Splicer(clips.sources[number], cache, source.splice, rate, codec.hop_length, source.splice_video)
        for number, source in clips.altered.items()
        if source.splice
    }
    return Contrast(recipe, model, Feed(*batches, collator, splicers, remixers, ranks), collator, ranks)


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
    return [replace(row, events=tuple(Event(0.0, 0.0, sound.label) for sound in sounds_of([row]))) for row in rows]


def _prepare(recipe: Recipe, reporter: Reporter) -> tuple[PEAV, Tokenizer, FeatureCache, Clips]:
    """Everything before the first step, made or found again."""
    clips = gather(recipe, reporter)
    if recipe.align is not None:
        clips = clips.sound_alone()
    model, tokenizer = build(recipe, clips)
    _ready_codec(recipe, model, clips, reporter)
    _take_frames(recipe, model)
    _check_prepared(recipe, model)
    data = recipe.data
    cache = FeatureCache(data.cache, model, keep_waveform=recipe.codec.trainable, max_seconds=data.max_seconds)
    clips = _cached(recipe, cache, clips, reporter)
    _ready_frames(recipe, model, cache, clips, reporter)
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
        sources.append([with_synthetic_captions(row) for row in train] if data.world.synthetic else train)
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
    if source.mixtures is not None:
        reporter.stage("mixtures", source.mixtures.train + source.mixtures.validation)
        return make_mixtures(source.mixtures, data.workers, reporter.advance)
    if source.manifest is not None:
        return read_manifest(source.manifest)
    if source.prepared is not None:
        return read_prepared(source.prepared)
    if source.webdataset is not None:
        return read_webdataset(source.webdataset, f"{data.cache}/webdataset")
    assert source.recordings is not None
    rows = read_recordings(source.recordings)
    return rows if source.without is None else without_sources(rows, source.without)


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
    """A checkpoint's model and tokenizer, or a fresh preset with a tokenizer trained on the captions."""
    if not recipe.from_scratch:
        directory = resolve(recipe.model)
        model, tokenizer = load_model(directory), load_tokenizer(directory)
        if not isinstance(model, PEAV) or tokenizer is None:
            raise RecipeError(f"{recipe.model}: not a PE-AV checkpoint with a tokenizer.json")
        return model.float(), tokenizer
    config = preset(recipe.model)
    if not isinstance(config, PEAVConfig):
        raise RecipeError(f"model: {recipe.model!r} is no PE-AV preset; choose tiny, small, base or large")
    texts = [text for rows in clips.sources for row in rows for text in _texts(row)]
    tokenizer = train_tokenizer(texts, config.text.vocab_size)
    return PEAV(config), tokenizer


def _texts(row: Row) -> Sequence[str]:
    captions = [caption for kind in row.captions.values() for caption in kind]
    return [*captions, row.transcript] if row.transcript else captions


def _ready_codec(recipe: Recipe, model: PEAV, clips: Clips, reporter: Reporter) -> None:
    """Give a fresh model its codec: a checkpoint's, distilled on if so asked, or one from scratch.

    What an earlier run distilled is read back.
    """
    codec = recipe.codec
    if codec.checkpoint is not None:
        model.audio.codec.load_state_dict(load_model(codec.checkpoint).float().audio.codec.state_dict())
    if codec.distil_steps == 0:
        return
    path = _made(recipe, "codec", codec, clips, model.audio.codec if codec.checkpoint is not None else None)
    if path.exists():
        model.audio.codec.load_state_dict(load_file(path))
        return
    reporter.stage("codec", codec.distil_steps)
    with torch.random.fork_rng(devices=[]):  # what is drawn after this must not depend on whether it was done before
        distil_codec(
            model,
            clips.sources,
            codec,
            recipe.seed,
            fresh=codec.checkpoint is None,
            progress=lambda step, error: reporter.advance(step, f"mse {error:.3f}"),
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        save_file(model.audio.codec.state_dict(), temporary)


def _take_frames(recipe: Recipe, model: PEAV) -> None:
    """Give a fresh model the frame encoder of a checkpoint, if the recipe names one."""
    checkpoint = recipe.frames.checkpoint
    if checkpoint is None:
        return
    source = load_model(checkpoint).float()
    if not isinstance(source, PEAV):
        raise RecipeError(f"frames.checkpoint: {checkpoint} holds no frame encoder; give a PE-AV checkpoint")
    model.video.frame_encoder.load_state_dict(source.video.frame_encoder.state_dict())


def _check_prepared(recipe: Recipe, model: PEAV) -> None:
    """Raises PreparedError where features in shards are not those that this model's frozen parts would make."""
    folders = [source.prepared for source in recipe.data.sources if source.prepared is not None]
    if folders:
        frozen = frozen_parts(model, recipe.data.max_seconds, f"{recipe.model}, as this recipe has it")
        for folder in folders:
            check_prepared(folder, frozen)


def _ready_frames(recipe: Recipe, model: PEAV, cache: FeatureCache, clips: Clips, reporter: Reporter) -> None:
    """Teach a fresh model's frame encoder, or read back what an earlier run taught it."""
    frames, encoder = recipe.frames, model.video.frame_encoder
    if frames.pretrain_steps == 0:
        return
    path = _made(recipe, "frames", frames, clips)
    if path.exists():
        encoder.load_state_dict(load_file(path))
        return
    reporter.stage("frames", frames.pretrain_steps)
    rows = [row for source in clips.sources for row in source]
    with torch.random.fork_rng(devices=[]):
        pretrain_frames(
            model, rows, cache, frames, recipe.seed, lambda step, loss: reporter.advance(step, f"loss {loss:.3f}")
        )
    with atomic_write(path) as temporary:
        save_file(encoder.state_dict(), temporary)


def _made(
    recipe: Recipe, part: str, config: Codec | Frames, clips: Clips, start: torch.nn.Module | None = None
) -> Path:
    """Where a trained part of a fresh model is kept: named after all that made it, the weights of `start` too."""
    names = [f"{row.id}|{row.audio_path}|{row.video_path}" for rows in clips.sources for row in rows]
    digest = hashlib.sha256(json.dumps([asdict(config), names]).encode())
    if start is not None:
        add_weights(digest, start)
    return Path(recipe.data.cache) / f"{part}-{recipe.model}-{recipe.seed}-{digest.hexdigest()[:12]}.safetensors"


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
