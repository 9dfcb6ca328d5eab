"""A recipe: everything that a training run is, as a short YAML file read into frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from peav.errors import RecipeError
from peav.eval.directions import CLIPS, SPEECH
from peav.model import PRESETS
from peav.objectives.pairs import FINETUNE, PAIRS, PRETRAIN, Pair
from peav.synth.mix import Mixing, Mixtures
from peav.train.reading import read_dataclass

PLACES = ("manifest", "recordings", "mixtures", "prepared", "webdataset")
FIGURES = (*CLIPS, SPEECH, "auroc")
PARTS = ("audio", "video", "fusion", "text", "heads")


@dataclass(frozen=True)
class World:
    """So many clips of each split of the procedural world, made under `folder` where they are not there yet.

    `synthetic`: those to train on, in other sources of the folder too, have a captioning model's captions as well (see
    `synth.world.captioner`); `data.real_share` says how often a clip's own are read.
    """

    folder: str
    train: int
    validation: int
    test: int
    seed: int = 0
    synthetic: bool = False


@dataclass(frozen=True)
class Source:
    """A manifest and its share of every batch; `recordings` instead names a folder of labeled recordings, `mixtures`
    soundscapes to be made (see `synth.mix`), `prepared` what `peav prepare` made (a folder, or an address),
    `webdataset` tars (a path or an address with braces, `clips-{0000..0007}.tar`; see `data.webdataset`).

    With `only: transcript` its clips with speech train, nothing of it is held out: for more speech from a manifest that
    is a source already. With `splice` only its clips with timed words train, and with each stands in the batch, on top
    of `optim.batch_size`, a near miss that has about this share of its words from another clip (see `lab.splice`), or
    as many as `near_misses` says; with `splice_video` it has its pictures too, for clips that look alike.
    With `lips` a frame encoder that is pretrained learns to read the lips of its speakers, see `lab.lips`.
    `test_fold` holds out one `fold` of its rows as the test split, whatever split they have. `without` names a manifest
    of mixtures: the recordings that those were made of are left out. With `mix` its clips
    with a label, or with events that sound alone, train: such a sound is heard in a soundscape drawn anew every time,
    with others of the source and one caption for all (see `synth.mix`); `mixtures` spend the time for it once.
    """

    manifest: str | None = None
    recordings: str | None = None
    mixtures: Mixtures | None = None
    prepared: str | None = None
    webdataset: str | None = None
    weight: float = 1.0
    only: Literal["transcript"] | None = None
    splice: float = 0.0
    splice_video: bool = False
    near_misses: int = 1
    lips: bool = False
    test_fold: int | None = None
    without: str | None = None
    mix: Mixing | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.splice <= 1:
            raise RecipeError(f"a source's splice is a share of words, from 0 to 1, not {self.splice}")
        if (self.splice_video or self.near_misses != 1) and not self.splice:
            raise RecipeError("a source's splice_video and near_misses go with `splice`, the share of words")
        if self.near_misses < 1:
            raise RecipeError(f"a source's near_misses must be at least 1, not {self.near_misses}; leave out `splice`")
        if sum(getattr(self, place) is not None for place in PLACES) != 1:
            raise RecipeError(f"a source needs just one of {', '.join(PLACES)}")
        if self.without is not None and self.recordings is None:
            raise RecipeError("a source's `without` goes with `recordings`; mixtures have a `without` of their own")
        if self.test_fold is not None and self.mixtures is not None:
            raise RecipeError("a source's `test_fold` is of its rows; mixtures have a `test_fold` of their own")
        if self.mix is not None and (self.splice or self.prepared is not None):
            raise RecipeError("a source's `mix` needs its recordings, and leaves no speech to splice; leave it out")
        if self.weight <= 0:
            raise RecipeError(f"a source's weight must be above 0, not {self.weight}")

    def __str__(self) -> str:
        return str(next(getattr(self, place) for place in PLACES if getattr(self, place) is not None))


@dataclass(frozen=True)
class Data:
    """Where clips come from. The world, when there is one, is a source of weight `world_weight`.

    With a `temperature` T a source's share of every batch is its weight times n^(1/T), n being its number of clips: 1
    draws every clip equally often, higher ones favor small sources, and without one its size does not count.
    `transcript_share` and `real_share` are as in `data.collate.Collator`.
    """

    cache: str
    world: World | None = None
    world_weight: float = 1.0
    sources: tuple[Source, ...] = ()
    max_seconds: float = 10.0
    temperature: float | None = None
    transcript_share: float = 0.5
    real_share: float = 1 / 11
    workers: int = 2

    def __post_init__(self) -> None:
        if self.world is None and not self.sources:
            raise RecipeError("data needs `world` or at least one entry in `sources`")
        if self.temperature is not None and self.temperature <= 0:
            raise RecipeError(
                f"data.temperature must be above 0, not {self.temperature}; leave it out for weights alone"
            )
        for name in ("transcript_share", "real_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"data.{name} is a share, from 0 to 1, not {getattr(self, name)}")
        for source in self.sources:
            if source.mix is not None and source.mix.duration > self.max_seconds:
                raise RecipeError(
                    f"mix.duration: soundscapes of {source.mix.duration:g} s do not fit into data.max_seconds, "
                    f"{self.max_seconds:g}; change one of them"
                )


@dataclass(frozen=True)
class Codec:
    """The codec: the model's own, or taken over from `checkpoint`; then distilled on for `distil_steps` (see
    `lab.codec`), from scratch where it has random weights.

    It is then frozen, as in the paper, unless it is `trainable`. Towers that were trained with another codec hear it as
    they heard that one, as nearly as a linear map between their latents can tell (`lab.codec.keep_hearing`; it needs
    sound, so not with `prepared` sources alone).
    """

    checkpoint: str | None = None
    distil_steps: int = 0
    distil_batch: int = 8
    distil_lr: float = 2e-3
    trainable: bool = False


@dataclass(frozen=True)
class Frames:
    """The frame encoder: taken over from `checkpoint`, or taught the words of visual captions for `pretrain_steps`
    (see `lab.frames`), or neither.

    It then trains with the rest, or is `frozen` and its features are cached, which makes training much cheaper.
    `num_frames`: how many frames of a clip the model takes from then on, evenly (16 in the paper's `-16-frame` models);
    by default as many as it did.
    """

    checkpoint: str | None = None
    pretrain_steps: int = 0
    pretrain_batch: int = 96
    pretrain_lr: float = 2e-3
    frozen: bool = False
    num_frames: int | None = None

    def __post_init__(self) -> None:
        if self.num_frames is not None and self.num_frames < 1:
            raise RecipeError(f"frames.num_frames must be at least 1, not {self.num_frames}")
        if self.checkpoint is not None and self.pretrain_steps:
            raise RecipeError("frames: give `checkpoint` or `pretrain_steps`, not both")


@dataclass(frozen=True)
class Text:
    """The text encoder of a fresh model: random, or taken over from `checkpoint` together with its tokenizer, as in the
    paper (ModernBERT, or a PE-AV checkpoint; see `checkpoint.load_text_encoder`). It then trains with the rest."""

    checkpoint: str | None = None


@dataclass(frozen=True)
class Objective:
    """Which pairs, which loss, how much BEST-RQ and how much of `lab.words` on clips with timed words.

    `best_rq_rows` is the share of clips whose spans are masked. `weights` lets pairs count for more or less than one.
    """

    pairs: str | tuple[str, ...] = "pretrain"
    loss: Literal["sigmoid", "infonce"] = "sigmoid"
    best_rq_weight: float = 0.0
    best_rq_rows: float = 0.5
    words_weight: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [pair.name for pair in self.table()]
        unknown = [name for name in self.weights if name not in names]
        if unknown:
            raise RecipeError(f"weights: {unknown[0]!r} is not among the pairs that train: {', '.join(names)}")
        if min(self.weights.values(), default=1.0) <= 0:
            raise RecipeError("weights: a pair's weight must be above 0; leave the pair out instead")

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
    """Frame-level training on timed events (see `train.align`) in place of `objective`.

    `clip_weight` above 0: whole clips against their captions too, so that retrieval is kept. `prior`: how often a label
    sounds is taken off what its frames teach (see `data.frame_targets.label_log_odds`).
    """

    clip_weight: float = 0.0
    prior: bool = True

    def __post_init__(self) -> None:
        if self.clip_weight < 0:
            raise RecipeError(f"align.clip_weight must be 0 (no clip loss) or above, not {self.clip_weight}")


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

    With `tune` or `align` the model is always a checkpoint, `tiny` the shipped one; `align` makes a PE-A-Frame model of
    a PE-AV one. `parallel` says how several processes
    (torchrun) hold the model: each whole, or in shards. Checkpoints may be hub names, with `@` and a revision;
    `hub_cache` is where they are kept, by default the hub's own cache.
    """

    name: str
    output: str
    data: Data
    optim: Optim
    model: str = "tiny"
    seed: int = 0
    codec: Codec = field(default_factory=Codec)
    frames: Frames = field(default_factory=Frames)
    text: Text = field(default_factory=Text)
    objective: Objective = field(default_factory=Objective)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint_every: int = 100
    parallel: Literal["ddp", "fsdp"] = "ddp"
    tune: Tune | None = None
    align: Align | None = None
    hub_cache: str | None = None

    def __post_init__(self) -> None:
        if self.tune is not None and (self.tune.rank or self.tune.ema) and self.parallel == "fsdp":
            raise RecipeError("tune.rank and tune.ema need the model whole in each process; set parallel: ddp")
        if self.tune is not None and self.tune.rank and self.codec.trainable:
            raise RecipeError("tune.rank: LoRA has no layers in the codec; leave out codec.trainable, or set rank: 0")
        if self.align is not None:
            self._check_align()
        if self.text.checkpoint is not None and not self.from_scratch:
            raise RecipeError(
                f"text.checkpoint: model {self.model!r} is a checkpoint, which has a text encoder; leave it out"
            )
        if self.optim.buckets > 1 and self.parallel == "fsdp":
            raise RecipeError("optim.buckets needs the model whole in each process; set parallel: ddp, or buckets: 1")
        if self.parallel == "fsdp" and any(source.mix for source in self.data.sources):
            raise RecipeError(
                "a source's `mix` needs the codec whole in each process; set parallel: ddp, or use mixtures"
            )
        sees = not self.frames.frozen and self.align is None
        alive = sees or self.frames.pretrain_steps or self.codec.trainable or self.codec.distil_steps
        if alive and any(source.prepared is not None for source in self.data.sources):
            raise RecipeError(
                "a `prepared` source has no pictures or waveforms to train from: set frames.frozen: true, leave out "
                "codec.trainable, codec.distil_steps and frames.pretrain_steps, and take both from a `checkpoint`"
            )
        if any(source.lips for source in self.data.sources) and not self.frames.pretrain_steps:
            raise RecipeError("a source's `lips` are read in frames.pretrain_steps; set these, or leave out `lips`")
        if self.checkpoint_every < 1:
            raise RecipeError(f"checkpoint_every must be at least 1, not {self.checkpoint_every}")

    def _check_align(self) -> None:
        if self.tune is not None:
            raise RecipeError("tune and align are two kinds of training; leave one of them out")
        wrong = {
            "codec.trainable": self.codec.trainable,
            "optim.recompute": self.optim.recompute,
            "parallel: fsdp": self.parallel == "fsdp",
            "splice": any(source.splice for source in self.data.sources),
            "frames.num_frames": self.frames.num_frames is not None,
        }
        if given := [name for name, there in wrong.items() if there]:
            raise RecipeError(f"align: frame-level training knows no {', '.join(given)}; leave it out")

    @property
    def from_scratch(self) -> bool:
        """Whether the model starts from a preset, with random weights."""
        return self.model in PRESETS and self.tune is None and self.align is None


def read_recipe(path: str | Path, overrides: dict[str, str] | None = None) -> Recipe:
    """Read a YAML recipe; `overrides` maps dotted keys to YAML values, e.g. {"optim.steps": "10"}.

    Raises:
        RecipeError: the file is missing, a key is unknown or missing, or a value has the wrong type.
    """
    return read_dataclass(Recipe, Path(path), overrides)
