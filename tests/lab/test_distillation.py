"""The distilled codec: its start is scaled, and it learns what it is asked to."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from noise_clip import write_clip
from torch import nn
from training_runs import Silent

from peav.checkpoint import save_pretrained
from peav.data.manifest import Row, read_manifest
from peav.errors import RecipeError
from peav.features.logmel import LogMel
from peav.inference.tokenizer import train_tokenizer
from peav.lab.codec import FLATTENING, Components, DistillCodec, _crops, distill_codec, keep_hearing, scale_convolutions
from peav.model import PEAV, preset
from peav.synth.world.write import write_wav
from peav.train.initialize import InitContext
from peav.train.recipe import Data, Optim, Recipe, Source


@pytest.fixture
def model() -> PEAV:
    torch.manual_seed(0)
    return PEAV(preset("nano"))


def test_scaling_gives_every_convolution_outside_the_residual_branches_unit_power(model: PEAV) -> None:
    waveform = torch.randn(2, 9600) * 0.1
    scale_convolutions(model, waveform)
    power: dict[str, torch.Tensor] = {}
    for name, module in model.audio.codec.named_modules():
        if isinstance(module, nn.Conv1d):
            module.register_forward_hook(lambda _m, _i, out, name=name: power.update({name: out.square().mean()}))
    model.encode_codec(waveform)
    for name, value in power.items():
        assert float(value.sqrt()) == pytest.approx(1 / 3 if ".units." in name else 1.0, rel=1e-3), name


@pytest.mark.slow
def test_distilling_lowers_the_error_of_the_readout(model: PEAV, world: Path) -> None:
    rows = [row for row in read_manifest(world / "manifest.jsonl") if row.captions.get("audio")]
    errors: list[float] = []
    config = DistillCodec(steps=60, batch_size=4, lr=3e-3)
    last = distill_codec(model, [rows[:1]], config, 0, progress=lambda _, e: errors.append(e))
    assert len(errors) == 60
    assert last == np.mean(errors[-6:])
    assert np.mean(errors[-10:]) < 0.95 * np.mean(errors[:10])


@pytest.mark.slow
def test_distilling_on_starts_from_the_weights_that_are_there(model: PEAV, world: Path) -> None:
    rows = [row for row in read_manifest(world / "manifest.jsonl") if row.captions.get("audio")]
    before = deepcopy(model.audio.codec.state_dict())
    slight = DistillCodec(steps=1, batch_size=1, lr=1e-9)
    distill_codec(model, [rows], slight, 0, fresh=False)
    torch.testing.assert_close(model.audio.codec.state_dict(), before, rtol=0, atol=1e-6)
    distill_codec(model, [rows], slight, 0, fresh=True)
    assert not torch.allclose(model.audio.codec.conv_in.weight, before["conv_in.weight"], atol=1e-2)


def test_the_target_is_the_principal_components_of_log_mel_with_flattened_variances() -> None:
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(np.cumsum(rng.normal(size=(24, 48000)), axis=1).astype(np.float32) * 1e-3)
    energies = LogMel(48000, 1920)
    target = Components(energies, noise)
    covariance = np.cov(target(noise).flatten(0, 1).double().numpy().T)
    own = np.linalg.eigvalsh(np.cov(energies(noise).flatten(0, 1).double().numpy().T))[-len(covariance) :]
    expected = own ** (1 - FLATTENING)
    np.testing.assert_allclose(covariance, np.diag(expected / expected.mean()), atol=2e-3)


@pytest.mark.slow
def test_a_tower_hears_a_codec_whose_latents_are_mixed_anew_as_it_heard_the_old_one(
    model: PEAV, tmp_path: Path
) -> None:
    rows = []
    for name in "abc":
        path = tmp_path / f"{name}.wav"
        write_wav(path, 0.3 * np.random.default_rng(ord(name)).normal(size=96000))
        rows.append(Row(name, path))
    waveform = _crops([rows], 4, 48000, np.random.default_rng(9))
    scale_convolutions(model, waveform)
    before = deepcopy(model.audio.codec)
    heard = model.audio_hidden(model.encode_codec(waveform)).pooled
    with torch.no_grad():
        mixed = nn.init.orthogonal_(torch.empty(128, 128))
        model.audio.codec.mean.weight.copy_((mixed @ model.audio.codec.mean.weight[..., 0])[..., None])
        model.audio.codec.mean.bias.copy_(mixed @ model.audio.codec.mean.bias + 1)
    deaf = model.audio_hidden(model.encode_codec(waveform)).pooled
    keep_hearing(model, before, [rows], 0)
    again = model.audio_hidden(model.encode_codec(waveform)).pooled
    assert (again - heard).norm() < 0.01 * heard.norm() < 0.1 * (deaf - heard).norm()


def test_a_tower_is_left_alone_where_its_codec_stays_or_nothing_is_heard(model: PEAV, tmp_path: Path) -> None:
    data = Data(cache=str(tmp_path), sources=(Source("m.jsonl"),))
    layer = deepcopy(model.audio.tower.data_proj)
    save_pretrained(model, tmp_path / "same", train_tokenizer(["a"], 300))
    recipe = Recipe("r", str(tmp_path), data, Optim(1, 1), model=str(tmp_path / "same"))
    context = InitContext(recipe, False, ["m.jsonl"], [[]], [False], None, tmp_path, Silent())
    DistillCodec(checkpoint=str(tmp_path / "same")).run(model, context)
    assert torch.equal(model.audio.tower.data_proj.weight, layer.weight)
    before = deepcopy(model.audio.codec)
    with torch.no_grad():
        model.audio.codec.mean.weight.mul_(2)
    keep_hearing(model, before, [[Row("seen", video_path=tmp_path / "v.mp4")]], 0)
    assert torch.equal(model.audio.tower.data_proj.weight, layer.weight)


@pytest.mark.slow
def test_small_sources_are_heard_as_often_as_large_ones(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=48000)
    rows = []
    for name, level in (("large", 0.0), ("small", 0.1)):
        path = tmp_path / f"{name}.wav"
        write_wav(path, level * noise)
        rows.append(Row(name, path))
    crops = _crops([rows[:1] * 99, rows[1:]], 200, 48000, np.random.default_rng(0))
    heard = (crops.abs().amax(1) > 0).float().mean()
    assert 0.4 < heard < 0.6


def test_clips_without_sound_or_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    silent = write_clip(tmp_path / "silent.mp4", 0.5, 0, sound=False)
    torn = tmp_path / "torn.wav"
    torn.write_bytes(b"RIFF")
    good = tmp_path / "good.wav"
    write_wav(good, np.ones(48000, np.float32) / 2)
    rows = [Row("silent", silent, silent), Row("torn", torn), Row("good", good)]
    assert bool((_crops([rows], 20, 48000, np.random.default_rng(0)).abs().amax(1) > 0).all())
    with pytest.raises(RecipeError, match="100 clips in a row have no sound that can be read, the last: "):
        _crops([rows[:2]], 1, 48000, np.random.default_rng(0))


def test_distilling_without_any_sound_says_so(model: PEAV, tmp_path: Path) -> None:
    seen = Row("seen", None, write_clip(tmp_path / "silent.mp4", 0.5, 0, sound=False))
    with pytest.raises(RecipeError, match="no source has a clip with sound"):
        distill_codec(model, [[seen]], DistillCodec(steps=1), 0)
