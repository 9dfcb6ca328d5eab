"""A recipe: everything that a training run is, as a short YAML file read into frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from peav.errors import RecipeError
from peav.eval.directions import CLIPS, SPEECH
from peav.model import PRESETS, PLMConfig
from peav.objectives.auxiliary import loss_name
from peav.objectives.pairs import FINETUNE, PAIRS, PRETRAIN, Pair
from peav.recipes.config import from_mapping, read_based
from peav.train.decoding import Decode
from peav.train.legacy import modernized
from peav.utils.atomic import on_disk

FIGURES = (*CLIPS, SPEECH, "auroc", "likelihood")
PARTS = ("audio", "video", "fusion", "text", "heads")
Options = Mapping[str, Any]
"""What a class that a recipe names is made with: `{class: word_swap, share: 0.35}`."""


@dataclass(frozen=True)
class Source:
    """Clips and their share of every batch.

    Attributes:
        place: a path or an address (a manifest, WebDataset tars, a prepared folder, a folder of labeled recordings),
            or a class that makes clips, `{class: world, ...}`; see `data.places`.
        weight: its share, beside the other sources' weights.
        transforms: what is done to its clips, in this order (see `data.transforms`).
    """

    place: str | Options
    weight: float = 1.0
    transforms: tuple[str | Options, ...] = ()

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise RecipeError(f"a source's weight must be above 0, not {self.weight}")

    def __str__(self) -> str:
        if isinstance(self.place, str):
            return self.place
        return str(self.place.get("folder", self.place["class"]))


@dataclass(frozen=True)
class Data:
    """Where clips come from.

    With a `temperature` T a source's share of every batch is its weight times n^(1/T), n being its number of clips: 1
    draws every clip equally often, higher ones favor small sources, and without one its size does not count.
    `transcript_share` and `real_share` are as in `data.collate.Collator`. With `decode` no features are made: clips are
    decoded while training.
    """

    cache: str
    sources: tuple[Source, ...]
    max_seconds: float = 10.0
    temperature: float | None = None
    transcript_share: float = 0.5
    real_share: float = 1 / 11
    workers: int = 2
    decode: Decode | None = None

    def __post_init__(self) -> None:
        on_disk(self.cache, "data.cache")
        if not self.sources:
            raise RecipeError("data.sources: give at least one")
        if self.temperature is not None and self.temperature <= 0:
            raise RecipeError(
                f"data.temperature must be above 0, not {self.temperature}; leave it out for weights alone"
            )
        for name in ("transcript_share", "real_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"data.{name} is a share, from 0 to 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Codec:
    """The codec of a fresh model: random, or taken over from `checkpoint`.

    It is then frozen, as in the paper, unless it is `trainable`.
    """

    checkpoint: str | None = None
    trainable: bool = False


@dataclass(frozen=True)
class Frames:
    """The frame encoder: the model's own, or taken over from `checkpoint`.

    It then trains with the rest, or is `frozen` and its features are cached, which makes training much cheaper.
    `num_frames`: how many frames of a clip the model takes from then on, evenly (16 in the paper's `-16-frame` models);
    by default as many as it did.
    """

    checkpoint: str | None = None
    frozen: bool = False
    num_frames: int | None = None

    def __post_init__(self) -> None:
        if self.num_frames is not None and self.num_frames < 1:
            raise RecipeError(f"frames.num_frames must be at least 1, not {self.num_frames}")


@dataclass(frozen=True)
class Text:
    """The text encoder of a fresh model: random, or taken over from `checkpoint` together with its tokenizer, as in the
    paper (ModernBERT, a PE-AV checkpoint, or a class that makes one; see `train.initialize`). It trains with the rest.
    """

    checkpoint: str | Options | None = None


@dataclass(frozen=True)
class Objective:
    """Which pairs, which loss, and what else is learned.

    Attributes:
        weights: by pair; pairs may count for more or less than one.
        auxiliary: losses beside the pairs, by name (see `objectives.auxiliary`), each with its `weight` and options:
            `{best_rq: {weight: 0.1}}`. A weight of 0 leaves a loss out.
    """

    pairs: str | tuple[str, ...] = "pretrain"
    loss: Literal["sigmoid", "infonce"] = "sigmoid"
    weights: Mapping[str, float] = field(default_factory=dict)
    auxiliary: Mapping[str, Options] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [pair.name for pair in self.table()]
        unknown = [name for name in self.weights if name not in names]
        if unknown:
            raise RecipeError(f"weights: {unknown[0]!r} is not among the pairs that train: {', '.join(names)}")
        if min(self.weights.values(), default=1.0) <= 0:
            raise RecipeError("weights: a pair's weight must be above 0; leave the pair out instead")
        for name, options in self.auxiliary.items():
            weight = options.get("weight", 1.0)
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or weight < 0:
                raise RecipeError(f"objective.auxiliary: {name}: weight must be a number from 0 on, not {weight!r}")
        own = [loss_name(key) for key in self.losses()]
        if twice := [name for name in own if name in names or own.count(name) > 1]:
            raise RecipeError(f"objective.auxiliary: two losses have the name {twice[0]}; rename a class of yours")

    def losses(self) -> dict[str, Options]:
        """The auxiliary losses that count."""
        return {name: options for name, options in self.auxiliary.items() if options.get("weight", 1.0) > 0}

    def table(self) -> tuple[Pair, ...]:
        """The pairs that train."""
        named = {"pretrain": PRETRAIN, "finetune": FINETUNE}
        if isinstance(self.pairs, str):
            if self.pairs not in named:
                raise RecipeError(f"pairs: {self.pairs!r} is neither pretrain, finetune nor a list of pair names")
            return named[self.pairs]
        unknown = [name for name in self.pairs if name not in PAIRS]
        if unknown or not self.pairs:
            raise RecipeError(f"pairs: unknown {unknown}; the names are {', '.join(PAIRS)}")
        return tuple(PAIRS[name] for name in self.pairs)


@dataclass(frozen=True)
class Optim:
    """AdamW with linear warm-up and cosine decay to `final_lr` x lr; a step is `accumulate` batches.

    `recompute`: keep the input of every layer alone and compute the rest anew in the backward pass (gradient
    checkpointing): more time, far less memory. `buckets`: the audio tower takes its clips in so many groups of like
    length, so that short ones are not padded to the longest; the batch and its losses stay what they are.
    """

    steps: int
    batch_size: int
    lr: float = 1e-3
    final_lr: float = 0.02
    warmup: int = 100
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0
    accumulate: int = 1
    bf16: bool = True
    recompute: bool = False
    buckets: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "buckets"):
            if getattr(self, name) < 1:
                raise RecipeError(f"optim.{name} must be at least 1, not {getattr(self, name)}")
        if self.lr <= 0:
            raise RecipeError(f"optim.lr must be above 0, not {self.lr}")


@dataclass(frozen=True)
class Tune:
    """Fine-tuning of the checkpoint that `model` names (see `train.finetune`): which of `PARTS` train, and how.

    `rank` above 0: by LoRA of that rank, merged when the model is saved; 0: the parts' own weights. `ema` above 0:
    the decay of an average of the weights, which is what is evaluated and saved. Parts in `fresh` start from random
    weights; the codec and the frame encoder stay.
    """

    parts: tuple[str, ...] = PARTS
    rank: int = 0
    ema: float = 0.0
    fresh: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown or not self.parts:
            raise RecipeError(f"tune.parts: {unknown} is none of {', '.join(PARTS)}; name one part or more")
        if unknown := [part for part in self.fresh if part not in self.parts]:
            raise RecipeError(
                f"tune.fresh: {unknown[0]!r} is not among tune.parts; a part of random weights must train"
            )
        if self.fresh and self.rank:
            raise RecipeError("tune.fresh: LoRA trains a correction of weights, which are random there; set rank: 0")
        if self.rank < 0:
            raise RecipeError(f"tune.rank must be 0 (train the weights themselves) or a rank above, not {self.rank}")
        if not 0 <= self.ema < 1:
            raise RecipeError(f"tune.ema must be 0 (no average) or a decay below 1, such as 0.99, not {self.ema}")


@dataclass(frozen=True)
class Align:
    """Frame-level training on timed events (see `train.task_frames`) in place of `objective`.

    `clip_weight` above 0: whole clips against their captions too, so that retrieval is kept. `prior`: how often a label
    sounds is taken off what its frames teach (see `data.frame_targets.label_log_odds`).
    """

    clip_weight: float = 0.0
    prior: bool = True

    def __post_init__(self) -> None:
        if self.clip_weight < 0:
            raise RecipeError(f"align.clip_weight must be 0 (no clip loss) or above, not {self.clip_weight}")


@dataclass(frozen=True)
class Captioning:
    """A captioner that is trained in place of the pairs: a language model behind the encoder that `model` names (see
    `train.task_captioner`).

    Attributes:
        language_model: a hub name, a directory that transformers reads, or a `.gguf` file.
        checkpoint: a captioner to go on from, such as one whose projectors alone were trained; it names its language
            model itself.
        audio_stride, video_stride, rank, encoder_layers: as in `model.PLMConfig`.
        max_tokens: the most of a caption that is learned.
        events: how often a clip with timed events is asked for these.
    """

    language_model: str | None = None
    checkpoint: str | None = None
    audio_stride: int = 16
    video_stride: int = 2
    rank: int = 0
    encoder_layers: int = 0
    max_tokens: int = 64
    events: float = 0.25

    def __post_init__(self) -> None:
        if (self.language_model is None) == (self.checkpoint is None):
            raise RecipeError("captioner: give either language_model or checkpoint")
        try:
            PLMConfig(self.audio_stride, self.video_stride, self.rank, self.encoder_layers)
        except ValueError as error:
            raise RecipeError(f"captioner: {error}") from error
        if self.max_tokens < 2 or not 0 <= self.events <= 1:
            raise RecipeError("captioner: max_tokens is at least 2, events a share from 0 to 1")


@dataclass(frozen=True)
class Evaluation:
    """Retrieval among `candidates` held-out clips every `every` steps, and at the end.

    `keep` names a figure of the validation clips: the weights with the highest are then what the run ends with.
    """

    every: int = 200
    candidates: int = 128
    final_candidates: int = 256
    keep: str | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise RecipeError(f"evaluation.every must be at least 1, not {self.every}")
        if self.keep is not None and self.keep not in FIGURES:
            raise RecipeError(f"evaluation.keep: {self.keep!r} is none of {', '.join(FIGURES)}")


@dataclass(frozen=True)
class Recipe:
    """One training run. `model` is a preset or a checkpoint; paths are relative to the working directory.

    With `tune`, `align` or `captioner` the model is always a checkpoint, `tiny` the shipped one; `align` makes a
    PE-A-Frame model of a PE-AV one. `parallel` says how several processes (torchrun) hold the model: each whole, or in
    shards. Checkpoints may be hub names, with `@` and a revision; `hub_cache` is where they are kept, by default the
    hub's own cache. `initializers` change the model before the first step (see `train.initialize`). `report_to`: who is
    told of every step beside the run's own log (see `train.trackers`).
    """

    name: str
    output: str
    data: Data
    optim: Optim
    model: str = "tiny"
    seed: int = 0
    initializers: tuple[str | Options, ...] = ()
    codec: Codec = field(default_factory=Codec)
    frames: Frames = field(default_factory=Frames)
    text: Text = field(default_factory=Text)
    objective: Objective = field(default_factory=Objective)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint_every: int = 100
    parallel: Literal["ddp", "fsdp"] = "ddp"
    tune: Tune | None = None
    align: Align | None = None
    captioner: Captioning | None = None
    hub_cache: str | None = None
    report_to: tuple[Literal["tensorboard", "wandb"], ...] = ()

    def __post_init__(self) -> None:
        on_disk(self.output, "output")
        if self.tune is not None and (self.tune.rank or self.tune.ema) and self.parallel == "fsdp":
            raise RecipeError("tune.rank and tune.ema need the model whole in each process; set parallel: ddp")
        if self.tune is not None and self.tune.rank and self.codec.trainable:
            raise RecipeError("tune.rank: LoRA has no layers in the codec; leave out codec.trainable, or set rank: 0")
        if self.align is not None:
            self._check_align()
        if self.captioner is not None:
            self._check_captioner()
        if self.text.checkpoint is not None and not self.from_scratch:
            raise RecipeError(
                f"text.checkpoint: model {self.model!r} is a checkpoint, which has a text encoder; leave it out"
            )
        if self.optim.buckets > 1 and self.parallel == "fsdp":
            raise RecipeError("optim.buckets needs the model whole in each process; set parallel: ddp, or buckets: 1")
        if self.codec.checkpoint is not None and not self.from_scratch:
            raise RecipeError(
                f"codec.checkpoint: model {self.model!r} is a checkpoint, which has a codec; leave it out, or take "
                "another one over with the initializer {class: distill_codec, checkpoint: ...}"
            )
        if self.checkpoint_every < 1:
            raise RecipeError(f"checkpoint_every must be at least 1, not {self.checkpoint_every}")

    def _check_align(self) -> None:
        if self.tune is not None:
            raise RecipeError("tune and align are two kinds of training; leave one of them out")
        self._refuse("align: frame-level training", {})

    def _check_captioner(self) -> None:
        if self.tune is not None or self.align is not None:
            raise RecipeError("captioner, tune and align are kinds of training of their own; leave the others out")
        if not self.frames.frozen:
            raise RecipeError("captioner: the frame encoder does not train; set frames: {frozen: true}")
        more = {
            "optim.buckets": self.optim.buckets > 1,
            "initializers": bool(self.initializers),
            "frames.checkpoint": self.frames.checkpoint is not None,
            "data.decode": self.data.decode is not None,
        }
        self._refuse("captioner: its training", more)

    def _refuse(self, kind: str, more: Mapping[str, bool]) -> None:
        """Raises RecipeError for keys that are set and that this kind of training does not know: these, and `more`."""
        wrong = {
            "codec.trainable": self.codec.trainable,
            "optim.recompute": self.optim.recompute,
            "parallel: fsdp": self.parallel == "fsdp",
            "objective.auxiliary": bool(self.objective.auxiliary),
            "frames.num_frames": self.frames.num_frames is not None,
        }
        if given := ", ".join(name for name, there in (wrong | dict(more)).items() if there):
            raise RecipeError(f"{kind} knows no {given}; leave it out")

    @property
    def from_scratch(self) -> bool:
        """Whether the model starts from a preset, with random weights."""
        return self.model in PRESETS and (self.tune, self.align, self.captioner) == (None, None, None)


def read_recipe(path: str | Path, overrides: dict[str, str] | None = None) -> Recipe:
    """Read a YAML recipe, and the one that it builds on with `base`, if any; `overrides` maps dotted keys to YAML
    values, e.g. {"optim.steps": "10"}.

    Raises:
        RecipeError: the file is missing, a key is unknown or missing, or a value has the wrong type.
    """
    return recipe_of(read_based(Path(path), overrides))


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """A recipe of plain values, as YAML holds them; errors as of `read_recipe`."""
    return from_mapping(Recipe, modernized(values))
