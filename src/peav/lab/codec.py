"""A codec of one's own: its latents learn to give back the log-mel spectrogram they cover.

The official models use a DAC-VAE trained to reconstruct audio on far more than two processor cores. What the towers
need of a codec is that nothing audible is lost, so the small one is distilled: a linear readout of each latent
predicts the log-mel energies of its 40 ms. The readout is thrown away, the codec is then frozen as in the paper.

Most of what varies in log-mel energies is how loud a sound is: the first principal component has 80 % of speech's
variance, while vowels and consonants differ in components of a few per cent and less. The squared error of the energies
themselves is content with loudness and the tilt of the spectrum, so the readout predicts components instead, scaled
such that small ones count, too (docs/results.md has what each codec kept).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from peav.data.manifest import Row
from peav.errors import MediaError, RecipeError
from peav.features.keys import clip_key
from peav.features.logmel import LogMel
from peav.lab.teach import teach
from peav.media import load_audio
from peav.model import PEAV
from peav.train.initialize import InitContext, Initializer, take_codec

READOUT_CROPS = 128
COMPONENTS = 64
FLATTENING = 0.75  # a component of variance v is predicted as one of v^(1 - this): 0 is log-mel itself, 1 whitened
TARGET = (READOUT_CROPS, COMPONENTS, FLATTENING)  # codecs that learned towards another one are not read back
TRIES = 100


@dataclass(frozen=True)
class DistillCodec(Initializer):
    """Distil the codec for `steps`, from scratch where it has random weights; or, with `checkpoint` and no steps, take
    the codec over from there.

    Towers that were trained with another codec hear it as they heard that one, as nearly as a linear map between their
    latents can tell (`keep_hearing`; it needs sound, so not with prepared sources alone).
    """

    steps: int = 0
    batch_size: int = 8
    lr: float = 2e-3
    checkpoint: str | None = None

    def run(self, model: PEAV, context: InitContext) -> None:
        """Change the model's codec, and the audio tower's first layer with it."""
        codec = model.audio.codec
        before = deepcopy(codec)
        take_codec(context.recipe, model, self.checkpoint)
        if self.steps:
            fresh = context.fresh and self.checkpoint is None and context.recipe.codec.checkpoint is None
            clips = [[clip_key(row) for row in rows] for rows in context.sources]
            made_of = [asdict(self), TARGET, clips]
            context.kept("codec", codec, made_of, lambda: self._distill(model, context, fresh), start=not fresh)
        old, new = before.state_dict(), codec.state_dict()
        if not context.fresh and not all(torch.equal(old[name], new[name]) for name in new):
            media = [rows for rows, bare in zip(context.sources, context.prepared, strict=True) if not bare]
            keep_hearing(model, before, media, context.recipe.seed)

    def _distill(self, model: PEAV, context: InitContext, fresh: bool) -> None:
        context.reporter.stage("codec", self.steps)
        distill_codec(
            model,
            context.sources,
            self,
            context.recipe.seed,
            fresh=fresh,
            progress=lambda step, error: context.reporter.advance(step, f"mse {error:.3f}"),
        )


def distill_codec(
    model: PEAV,
    sources: Sequence[Sequence[Row]],
    config: DistillCodec,
    seed: int,
    *,
    fresh: bool = True,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> float:
    """Train `model.audio.codec` in place on one-second crops of audio.

    Args:
        sources: rows; every list is heard equally often, however short: no tower finds again what the codec loses.
        fresh: the codec's weights are random; else they are gone on from.

    Returns:
        The mean squared error of the last tenth of the steps, where 1 is the variance of the target.

    Raises:
        NoSound: hardly a clip of a source has sound that can be read.
    """
    audible = _audible(sources)
    if not audible:
        raise NoSound("the codec: no source has a clip with sound; add one, or leave distill_codec out")
    codec_config = model.config.audio.codec
    rate, hop = codec_config.sampling_rate, codec_config.hop_length
    first = _crops(audible, READOUT_CROPS, rate, _first(seed))
    if fresh:
        scale_convolutions(model, first[: 4 * config.batch_size])
    with torch.no_grad():
        target = Components(LogMel(rate, hop), first)
        readout = _fitted(model.encode_codec(first), target(first))
    parameters = [*model.audio.codec.parameters(), *readout.parameters()]

    def error(step: int) -> Tensor:
        waveform = _crops(audible, config.batch_size, rate, np.random.default_rng((seed, step + 1)))
        return (readout(model.encode_codec(waveform)) - target(waveform)).square().mean()

    return teach(parameters, error, config.steps, config.lr, warmup=50, progress=progress)


class NoSound(RecipeError):
    """Hardly a clip of a source has sound that can be read."""


class Components:
    """The first `COMPONENTS` principal components of `energies`, flattened by `FLATTENING`, variance one on average.

    Args:
        energies: (B, S) -> (B, T, M).
        waveform: (B, S), the sounds whose components they are.
    """

    def __init__(self, energies: LogMel, waveform: Tensor) -> None:
        self.energies = energies
        values = energies(waveform).flatten(0, 1)  # (B * T, M)
        self.mean = values.mean(0)
        variances, directions = torch.linalg.eigh(torch.cov(values.double().T))
        floor = max(1e-9, 1e-6 * float(variances[-1]))  # sounds may have fewer components than that: noise stays noise
        variances, directions = variances[-COMPONENTS:].clamp(min=floor), directions[:, -COMPONENTS:]
        flat = variances ** (1 - FLATTENING)
        self.projection = (directions * (flat / flat.mean() / variances).sqrt()).float()

    def __call__(self, waveform: Tensor) -> Tensor:
        """(B, S) -> (B, T, COMPONENTS)."""
        return (self.energies(waveform) - self.mean) @ self.projection


@torch.no_grad()
def keep_hearing(model: PEAV, before: nn.Module, sources: Sequence[Sequence[Row]], seed: int) -> None:
    """Let the audio tower hear the latents of its codec as it heard those of the codec `before`.

    Its first layer is put behind the linear map from the new latents to the old ones, by least squares on crops of
    `sources`: towers that are trained on then have less to learn anew. Without sound in them nothing changes.
    """
    audible = [row for rows in _audible(sources) for row in rows]
    try:
        waveform = _crops([audible], READOUT_CROPS, model.config.audio.codec.sampling_rate, _first(seed))
    except NoSound:  # a run without sound trains nothing that hears
        return
    back = _fitted(model.encode_codec(waveform), before(waveform))
    layer = model.audio.tower.data_proj
    layer.bias.add_(layer.weight @ back.bias)
    layer.weight.copy_(layer.weight @ back.weight)


def _fitted(latents: Tensor, target: Tensor) -> nn.Linear:
    """The linear readout of latents (B, T, D) that is nearest to the target (B, T, M), by least squares."""
    x = torch.cat([latents.flatten(0, 1), torch.ones(latents.shape[0] * latents.shape[1], 1)], dim=1).double()
    # In fp64: normal equations square the condition number.
    square = x.T @ x  # (D + 1, D + 1)
    ridge = 1e-6 * square.diagonal().mean() * torch.eye(x.shape[1], dtype=x.dtype)
    solution = torch.linalg.solve(square + ridge, x.T @ target.flatten(0, 1).double()).float()
    readout = nn.Linear(latents.shape[-1], target.shape[-1])
    with torch.no_grad():
        readout.weight.copy_(solution[:-1].T)
        readout.bias.copy_(solution[-1])
    return readout


@torch.no_grad()
def scale_convolutions(model: PEAV, waveform: Tensor) -> None:
    """Give every convolution of the codec orthogonal rows and unit-variance output on `waveform` (B, S).

    Snake does its work where its input is of order one; a plain initialization leaves audio a hundred times smaller
    and learns nothing for hundreds of steps. Residual branches get a third (layer-sequential unit variance,
    arXiv 1511.06422).
    """
    for name, module in model.audio.codec.named_modules():
        if isinstance(module, nn.Conv1d):
            nn.init.orthogonal_(module.weight.view(len(module.weight), -1))
            assert module.bias is not None
            module.bias.zero_()
            module.weight /= _output_std(model, module, waveform) * (3.0 if ".units." in name else 1.0)


def _output_std(model: PEAV, module: nn.Module, waveform: Tensor) -> Tensor:
    """Root mean square of a module's output over all the windows that the codec cuts `waveform` into."""
    squares: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: squares.append(output.square().flatten()))
    model.encode_codec(waveform)
    handle.remove()
    return torch.cat(squares).mean().sqrt()


def _audible(sources: Sequence[Sequence[Row]]) -> list[list[Row]]:
    return [heard for rows in sources if (heard := [row for row in rows if row.audio_path is not None])]


def _first(seed: int) -> np.random.Generator:
    """Draws the crops that the readout is first fitted to; step n draws from (seed, n)."""
    return np.random.default_rng((seed, 0))


def _heard(rows: Sequence[Row], rng: np.random.Generator) -> np.ndarray:
    """The samples of a random row, of another where that has no sound or cannot be read: `failures.jsonl` names those
    when features are made.
    """
    problem: MediaError | None = None
    for _ in range(TRIES if rows else 0):
        row = rows[int(rng.integers(len(rows)))]
        assert row.audio_path is not None
        try:
            return load_audio(row.audio_path, start=row.start or 0.0, end=row.end)
        except MediaError as error:
            problem = error
    raise NoSound(f"the codec: {TRIES} clips in a row have no sound that can be read, the last: {problem}")


def _crops(sources: Sequence[Sequence[Row]], count: int, rate: int, rng: np.random.Generator) -> Tensor:
    """(count, rate) one-second crops at random places and levels; shorter clips are tiled."""
    crops = []
    for rows in (sources[index] for index in rng.integers(len(sources), size=count)):
        waveform = _heard(rows, rng)
        if len(waveform) < rate:
            waveform = np.resize(waveform, rate)
        start = rng.integers(len(waveform) - rate + 1)
        crops.append(waveform[start : start + rate] * 10 ** rng.uniform(-0.5, 0.5))
    return torch.from_numpy(np.stack(crops).astype(np.float32))
