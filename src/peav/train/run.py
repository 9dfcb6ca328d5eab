"""From a recipe to a trained checkpoint: make the clips, distill the codec, cache features, train, evaluate, save."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from peav.checkpoint import load_model, load_tokenizer, resolve, save_pretrained
from peav.checkpoint.card import model_card, read_card
from peav.checkpoint.hub import local
from peav.data.collate import Collator
from peav.data.frame_targets import FrameTargetMaker
from peav.distributed import DistContext, local_device, process_group
from peav.errors import RecipeError
from peav.features.live import LiveFeatures
from peav.features.prepare import feature_spec
from peav.features.prepared import check_prepared
from peav.features.store import FeatureCache
from peav.inference.tokenizer import train_tokenizer
from peav.jobs import GOES_ON, stoppable
from peav.model import PEAV, PLM, PEAFrame, PEAVConfig, preset
from peav.objectives.auxiliary import AUXILIARY, AuxiliaryLoss, LossContext, loss_name
from peav.recipes.config import from_options, maker_of
from peav.train.agreement import agree_on_recipe, agree_on_start
from peav.train.batches import Batches, BatchStream, Collate
from peav.train.clips import Clips, gather, prepared_folders, texts_of, with_features
from peav.train.decoding import DecodingStream, UnreadableClips
from peav.train.finetune import drop_unused_pairs, reinit
from peav.train.initialize import INITIALIZERS, InitContext, Initializer, take_codec, take_frames, take_text
from peav.train.meter import meter
from peav.train.output import claimed
from peav.train.progress import Reporter
from peav.train.recipe import Recipe
from peav.train.task_captioner import CaptionCollator, CaptionTask, make_captioner
from peav.train.task_contrastive import ContrastiveTask
from peav.train.task_frames import FrameCollator, FrameTask
from peav.train.trackers import OnStep, tracked
from peav.train.train_checkpoint import states, step_of
from peav.train.trainer import Task, Trainer, data_wait, earlier_states
from peav.utils.storage import write_all


def train(recipe: Recipe, reporter: Reporter, resume: bool = False) -> dict[str, Any]:
    """Carry a recipe out; the checkpoint is `output/model`, the figures are returned and in `output/result.json`.

    Everything made on the way (world, codec, features) is kept and found again by the next call. Started by torchrun,
    all processes share each batch.

    Raises:
        RecipeError: what the recipe asks for cannot be. TrainingError: see `Trainer.run`.
        Stopped: Ctrl-C or SIGTERM; the steps that were done are kept.
    """
    device = local_device()
    output = Path(recipe.output)
    with stoppable(lambda: _kept(recipe)), process_group(device) as dist:
        agree_on_recipe(recipe, resume, dist)
        with claimed(output, dist), tracked(recipe, dist.is_main) as track:
            earlier_states(output, resume)  # before hours of preparation
            return _train(recipe, reporter, resume, device, dist, track)


def _kept(recipe: Recipe) -> str:
    """What to say of a run that was stopped."""
    saved = states(Path(recipe.output) / "checkpoints")
    if not saved:
        return f"what was made ready for training is kept; {GOES_ON}"
    done = f"step {step_of(saved[-1])} of {recipe.optim.steps} is kept in {saved[-1]}"
    return f"{done}; run the same command again with --resume (in Python: resume=True), it goes on"


def _train(
    recipe: Recipe, reporter: Reporter, resume: bool, device: torch.device, dist: DistContext, track: OnStep
) -> dict[str, Any]:
    torch.manual_seed(recipe.seed)  # for weights: batches, captions and masks have generators of their own
    output = Path(recipe.output)
    emulated = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("NO AVX", "AVX2")
    if recipe.optim.bf16 and emulated and dist.is_main:
        warnings.warn("this processor is tens of times slower in bf16 than in fp32: set optim.bf16=false", stacklevel=2)
    if not recipe.from_scratch and local(recipe.model) is None and (maker := maker_of(recipe.model)):
        raise RecipeError(f"model: {recipe.model} is not there yet; `peav train {maker}` makes it, run that first")
    with dist.main_first():
        model, tokenizer, cache, clips = _prepare(recipe, reporter)
    if (tune := recipe.tune) is not None:
        recipe = drop_unused_pairs(recipe, clips.training(), cache)
        reinit(model, tune.fresh, recipe.objective.table())
    task = _task(recipe, model, tokenizer, cache, clips, dist, device, resume)
    agree_on_start(clips.groups(), task.module.state_dict(), dist)

    def on_step(record: Mapping[str, Any]) -> None:
        reporter.step(record)
        track(record)

    trainer = Trainer(recipe, task, clips.validation, on_step, dist, meter(recipe, device, dist))
    reporter.stage("train", recipe.optim.steps)
    result: dict[str, Any] = {"validation": trainer.run(resume)}
    result["test"] = trainer.evaluate(recipe.evaluation.final_candidates, clips.test)
    whole = trainer.whole_model()  # by all processes, which may hold it in shards
    if dist.is_main:
        result["data_wait"] = data_wait(output)
        figures = {split: result[split] for split in ("validation", "test")}
        licenses = clips.licenses()
        if isinstance(task, CaptionTask):
            task.captioner.save_pretrained(output / "model", figures=figures, licenses=licenses)
        else:
            assert not isinstance(whole, PLM)
            save_pretrained(whole, output / "model", tokenizer, card=_card(recipe, whole, figures, licenses))
        write_all(output / "result.json", json.dumps(result, indent=1))
    # Nobody goes on before the model is written.
    dist.barrier()
    return result


def _card(recipe: Recipe, model: PEAV | PEAFrame, figures: Mapping[str, Any], licenses: Mapping[str, int]) -> str:
    """Of the model that was trained."""
    base = None if recipe.from_scratch else recipe.model
    found = None if base is None else local(base)
    return model_card(
        model,
        recipe.name,
        os.fspath(Path(recipe.output) / "model"),
        figures=figures,
        licenses=licenses,
        pairs=[pair.name for pair in recipe.objective.table()] if isinstance(model, PEAV) else (),
        base=base,
        base_card=None if found is None else read_card(found),
    )


def _task(
    recipe: Recipe,
    model: PEAV,
    tokenizer: Tokenizer,
    cache: FeatureCache | LiveFeatures,
    clips: Clips,
    dist: DistContext,
    device: torch.device,
    resume: bool = False,
) -> Task:
    """What the recipe trains: frames where it has `align`, a captioner where it has one, else pairs."""
    data, codec = recipe.data, model.config.audio.codec
    if recipe.captioner is None:  # which has an encoder of its own: features are made, and this one is not needed
        model.to(device)
    losses = _auxiliary(recipe, model, clips)
    targets = {name: loss.target for name, loss in losses.items() if loss.has_targets}
    collator = Collator(tokenizer, model.config.text.max_length, data.transcript_share, data.real_share, targets)
    if isinstance(cache, FeatureCache):
        clips = clips.started(recipe, cache)
    feed = partial(_feed, recipe, cache, clips, dist, resume)
    if recipe.align is not None:
        frame_targets = FrameTargetMaker(clips.sources, codec.sampling_rate / codec.hop_length)
        timed = FrameCollator(collator, frame_targets, recipe.align.prior, codec.hop_length)
        return FrameTask(recipe, PEAFrame.from_peav(model), feed(timed), collator, frame_targets, dist)
    if recipe.captioner is not None:
        captioner = make_captioner(recipe)
        captioner.model.to(device)
        collate = CaptionCollator(collator, captioner.language, recipe.captioner)
        return CaptionTask(captioner, feed(collate), collate, dist)
    return ContrastiveTask(recipe, model, feed(collator), collator, losses, dist)


def _feed(
    recipe: Recipe,
    cache: FeatureCache | LiveFeatures,
    clips: Clips,
    dist: DistContext,
    resume: bool,
    collate: Collate,
) -> Batches:
    """The batches: of stored features, or decoded while training."""
    drawn = (clips.sources, clips.shares(recipe.data.temperature), recipe.optim.batch_size, recipe.seed)
    if isinstance(cache, FeatureCache):
        return BatchStream(*drawn, cache, collate, clips.transforms, dist)
    dist = dist.apart()  # batches are loaded in a thread
    unreadable = UnreadableClips(Path(recipe.output) / "failures.jsonl", sum(map(len, clips.sources)), dist, resume)
    return DecodingStream(*drawn, cache, collate, unreadable, dist)


def _auxiliary(recipe: Recipe, model: PEAV, clips: Clips) -> dict[str, AuxiliaryLoss]:
    """The losses beside the pairs, by name."""
    context = LossContext(model.config, clips.training(), recipe.seed)
    losses = {}
    for key, options in recipe.objective.losses().items():
        named = {"class": key, **{name: value for name, value in options.items() if name != "weight"}}
        losses[loss_name(key)] = from_options(AuxiliaryLoss, AUXILIARY, named, "objective.auxiliary", context)
    if recipe.data.decode is not None and any(loss.has_targets for loss in losses.values()):
        raise RecipeError("objective.auxiliary: a loss with targets needs stored latents; leave out data.decode")
    if sum(loss.hides for loss in losses.values()) > 1:
        raise RecipeError("objective.auxiliary: two losses hide latents from the audio tower; leave one out")
    return losses


def _prepare(recipe: Recipe, reporter: Reporter) -> tuple[PEAV, Tokenizer, FeatureCache | LiveFeatures, Clips]:
    """Everything before the first step, made or found again."""
    initializers = [from_options(Initializer, INITIALIZERS, options, "initializers") for options in recipe.initializers]
    prepared = prepared_folders(recipe)
    _check_prepared(recipe, initializers, prepared)
    clips = gather(recipe, reporter)
    if recipe.align is not None:
        clips = clips.sound_alone()
    model, tokenizer = build(recipe, clips)
    context = InitContext(
        recipe,
        fresh=recipe.from_scratch,
        places=[source.place for source in recipe.data.sources],
        sources=clips.sources,
        prepared=[folder is not None for folder in prepared],
        features=None,
        cache=Path(recipe.data.cache),
        reporter=reporter,
    )
    # The codec first, and all that may change it: features are made of its latents.
    take_codec(recipe, model, recipe.codec.checkpoint)
    for one in initializers:
        if not one.needs_features:
            one.run(model, context)
    take_frames(recipe, model)
    if any(prepared):
        frozen = feature_spec(model, recipe.data.max_seconds, f"{recipe.model}, as this recipe has it")
        for folder in filter(None, prepared):
            check_prepared(folder, frozen)
    data = recipe.data
    if data.decode is not None:
        live = LiveFeatures(model, data.max_seconds, data.decode.workers)
        return model, tokenizer, live, clips.held_out_by(live.streams)
    cache = FeatureCache(data.cache, model, keep_waveform=recipe.codec.trainable, max_seconds=data.max_seconds)
    clips = with_features(recipe, cache, clips, reporter)
    for one in initializers:
        if one.needs_features:
            one.run(model, replace(context, sources=clips.sources, features=cache))
    if recipe.frames.frozen:
        cache = cache.with_frozen_frames()
        everything = clips.all()
        reporter.stage("frame features", len(everything))
        cache.prepare(everything, reporter.advance, data.workers)
    return model, tokenizer, cache, clips


def _check_prepared(recipe: Recipe, initializers: Sequence[Initializer], prepared: Sequence[str | None]) -> None:
    """Raises RecipeError where a source is features alone and the recipe needs what they were made of, or there are to
    be no features and something needs them.
    """
    if recipe.data.decode is not None and (any(prepared) or any(one.needs_features for one in initializers)):
        raise RecipeError(
            "data.decode: a prepared source has no recordings, some initializers need features, and none are made; "
            "leave these out, or data.decode"
        )
    sees = not recipe.frames.frozen and recipe.align is None
    if any(prepared) and (sees or initializers or recipe.codec.trainable):
        raise RecipeError(
            "a prepared source has no pictures or waveforms to train from: set frames.frozen: true, leave out "
            "codec.trainable and initializers, and take both codec and frames from a checkpoint"
        )


def build(recipe: Recipe, clips: Clips) -> tuple[PEAV, Tokenizer]:
    """The model and tokenizer of a checkpoint, or a preset with the tokenizer of its text encoder or a trained one."""
    if not recipe.from_scratch:
        directory = resolve(recipe.model, cache_dir=recipe.hub_cache)
        model = load_model(directory)
        tokenizer = load_tokenizer(directory, model.config.text.vocab_size)
        if not isinstance(model, PEAV) or tokenizer is None:
            raise RecipeError(f"{recipe.model}: not a PE-AV checkpoint with a tokenizer.json")
        return model.float(), tokenizer  # weights train in fp32, whatever they are stored in
    config = preset(recipe.model)
    if not isinstance(config, PEAVConfig):
        raise RecipeError(f"model: {recipe.model!r} is no PE-AV preset; choose tiny, small, base or large")
    model = PEAV(config)
    texts = partial(texts_of, clips.sources)
    if (tokenizer := take_text(recipe, model, texts)) is None:
        tokenizer = train_tokenizer(texts(), config.text.vocab_size)
    return model, tokenizer
