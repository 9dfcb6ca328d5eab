"""Promises of the whole model: rows are independent, low precision works, a new model is ready to train."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from golden_data import relative_error
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from peav.checkpoint import load_model
from peav.model import PAIRS, PEAV, PEAFrame, PEAVConfig, preset

HOP = 1920


@pytest.fixture(scope="module")
def peav(golden: Path) -> PEAV:
    model = load_model(golden / "pe-av-perception_models")
    assert isinstance(model, PEAV)
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def peaframe(golden: Path) -> PEAFrame:
    model = load_model(golden / "pe-a-frame-transformers")
    assert isinstance(model, PEAFrame)
    return model.requires_grad_(False)


def embed(model: PEAV, waveform: Tensor, features: Tensor, ids: Tensor, sizes: Tensor | None) -> dict[str, Tensor]:
    """All eight embeddings; `sizes` (B, 3): valid latent steps, frames and tokens of every row."""
    steps, frames, tokens = (None, None, None) if sizes is None else sizes.T
    latents = model.encode_codec(waveform, None if steps is None else steps * HOP)
    audio, video = model.audio_hidden(latents, steps), model.video_hidden(features, frames)
    fused = model.audio_video_hidden(audio.sequence, steps, video.sequence, frames)
    mask = None if tokens is None else torch.arange(ids.shape[1]) < tokens[:, None]
    cls = model.text_hidden(ids, mask)[:, 0]
    pooled = {
        "audio": audio.pooled,
        "video": video.pooled,
        "audio_video": fused.pooled,
        "text_audio": cls,
        "text_video": cls,
        "text_audio_video": cls,
        "audio_plus_text": torch.cat([audio.pooled, cls], -1),
        "video_plus_text": torch.cat([video.pooled, cls], -1),
    }
    return {head: model.project(state, head) for head, state in pooled.items()}


row_sizes = st.tuples(st.integers(1, 60), st.integers(1, 20), st.integers(1, 90))


@pytest.mark.slow
@settings(max_examples=15)
@given(rows=st.lists(row_sizes, min_size=1, max_size=5), seed=st.integers(0, 99))
def test_every_embedding_alone_equals_the_clip_in_any_padded_batch(
    peav: PEAV, rows: list[tuple[int, int, int]], seed: int
) -> None:
    torch.manual_seed(seed)
    sizes = torch.tensor(rows)
    steps, frames, tokens = (int(n) + seed % 3 for n in sizes.max(0).values)  # at times all rows are padded
    waveform, features = torch.randn(len(rows), steps * HOP) * 0.3, torch.randn(len(rows), frames, 512)
    ids = torch.randint(0, 2000, (len(rows), tokens))
    together = embed(peav, waveform, features, ids, sizes)
    for row, (s, f, t) in enumerate(rows):
        one = slice(row, row + 1)
        alone = embed(peav, waveform[one, : s * HOP], features[one, :f], ids[one, :t], None)
        errors = {head: relative_error(together[head][one], alone[head]) for head in alone}
        assert max(errors.values()) <= 1e-5, errors


@pytest.mark.slow
@settings(max_examples=8)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_frame_logits_alone_equal_those_in_any_padded_batch(peaframe: PEAFrame, lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    waveform, sizes = torch.randn(len(lengths), max(lengths) * HOP) * 0.3, torch.tensor(lengths)
    ids = torch.randint(0, 2000, (3, 9))
    logits = peaframe.frame_logits(peaframe.encode_codec(waveform, sizes * HOP), sizes, ids)
    for row, length in enumerate(lengths):
        latents = peaframe.encode_codec(waveform[row : row + 1, : length * HOP])
        alone = peaframe.frame_logits(latents, None, ids)
        assert relative_error(logits[row : row + 1, :, :length], alone) <= 1e-5
        assert (logits[row, :, length:] == float("-inf")).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_runs_audio_and_video_together_and_stays_near_fp32(golden: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    inputs = (torch.randn(2, 30 * HOP) * 0.1, torch.randn(2, 6, 512), torch.randint(0, 2000, (2, 9)))
    sizes = torch.tensor([[30, 6, 9], [11, 4, 5]])
    model = load_model(golden / "pe-av-transformers").requires_grad_(False)
    low = load_model(golden / "pe-av-transformers", dtype=dtype).requires_grad_(False)
    assert isinstance(model, PEAV)
    assert isinstance(low, PEAV)
    exact = embed(model, *inputs, sizes)
    rounded = embed(low, inputs[0].to(dtype), inputs[1].to(dtype), inputs[2], sizes)
    for head, value in rounded.items():
        assert value.dtype == dtype
        assert torch.cosine_similarity(value.float(), exact[head]).min() > 0.99, head


@pytest.mark.slow
def test_low_precision_frames_stay_near_fp32(peav: PEAV) -> None:
    pixels = torch.rand(1, 3, 384, 384) * 2 - 1
    exact = peav.frame_features(pixels)
    encoder = type(peav.video.frame_encoder)(peav.config.video.frame_encoder).eval().requires_grad_(False)
    encoder.load_state_dict(peav.video.frame_encoder.state_dict())
    rounded = encoder.bfloat16()(pixels.bfloat16()).float()
    assert torch.cosine_similarity(rounded, exact).item() > 0.99


def tiny() -> PEAV:
    config = preset("tiny")
    assert isinstance(config, PEAVConfig)
    return PEAV(config)


def test_a_new_model_is_ready_to_train() -> None:
    torch.manual_seed(0)
    model = tiny()
    assert set(model.logit_scale) == set(model.logit_bias) == set(PAIRS)
    assert all(value.item() == 10.0 for value in model.logit_scale.values())
    assert all(value.item() == -10.0 for value in model.logit_bias.values())
    for name, parameter in model.named_parameters():
        if name.endswith("alpha") or (parameter.ndim == 1 and name.endswith("weight")):
            assert (parameter == 1).all(), name
        elif name.endswith("bias") and "logit" not in name:
            assert not parameter.any(), name
        elif parameter.ndim > 1:
            embedding = "token" in name or name.endswith("position")
            std = 0.02 if embedding else parameter[0].numel() ** -0.5
            assert parameter.abs().max() <= 2 * std, name
            if parameter.numel() > 1000:
                assert 0.8 * std < parameter.std() < std, name


@pytest.mark.slow
def test_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    model = tiny()
    waveform, pixels = torch.randn(2, 12 * HOP) * 0.1, torch.rand(2 * 3, 3, 64, 64) * 2 - 1
    features = model.frame_features(pixels).unflatten(0, (2, 3))
    ids = torch.randint(3, model.config.text.vocab_size, (2, 8))
    outputs = embed(model, waveform, features, ids, torch.tensor([[12, 3, 8], [7, 2, 5]]))
    sum(value.square().sum() for value in outputs.values()).backward()  # type: ignore[union-attr]
    silent = {name for name, p in model.named_parameters() if p.grad is None and "logit" not in name}
    assert not silent


def test_an_unknown_head_is_an_error(peav: PEAV) -> None:
    with pytest.raises(KeyError):
        peav.project(torch.zeros(1, 256), "speech")


@pytest.mark.slow
def test_recomputed_layers_give_the_same_gradients_and_keep_less() -> None:
    def run(recompute: bool) -> tuple[dict[str, torch.Tensor], int]:
        torch.manual_seed(0)
        model, kept = tiny(), []
        model.recompute_layers(recompute)
        latents, pixels = torch.randn(2, 30, 128), torch.randn(4, 3, 64, 64)
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
            audio = model.audio_hidden(latents, torch.tensor([30, 12]))
            text = model.text_hidden(torch.randint(3, 99, (2, 9)))
            loss = audio.pooled.sum() + text[:, 0].sum() + model.frame_features(pixels).sum()
        loss.backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, sum(kept)

    (plain, much), (recomputed, little) = run(False), run(True)
    assert plain.keys() == recomputed.keys()
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)
    assert little < much / 2


def test_no_layer_asks_the_device_how_long_a_row_is() -> None:
    """Tensors on `meta` have no values, so that every question, which on a GPU waits for it, is an error here."""
    with torch.device("meta"):
        model = PEAV(preset("nano"))
        waveform, pixels = torch.empty(2, 10 * 1920), torch.empty(2, 4, 64)
    samples, frames = torch.tensor([10 * 1920, 4 * 1920]), torch.tensor([4, 2])
    with torch.no_grad():
        latents = model.encode_codec(waveform, samples)
        audio = model.audio_hidden(latents, samples // 1920)
        video = model.video_hidden(pixels, frames)
        fused = model.audio_video_hidden(audio.sequence, samples // 1920, video.sequence, frames, cls_only=True)
    assert fused.pooled.is_meta
    assert fused.pooled.shape == (2, 64)
    # The question itself is what fails.
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        model.audio_hidden(latents, (samples // 1920).to("meta"))
