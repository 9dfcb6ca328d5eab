"""On a GPU the networks and a training step are what they are on a CPU; on generated tensors alone.

Skipped where there is no GPU. PEAV_TEST_DEVICE=cpu runs them on the CPU, which then is compared with itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from peav.data.collate import Batch, Texts
from peav.model import PEAV, preset
from peav.train.contrastive_module import ContrastiveModule
from peav.train.optimizer import make_optimizer, take_step
from peav.train.recipe import Objective, Optim

CPU = torch.device("cpu")
CLIPS, STEPS, FRAMES = 4, 50, 3


@pytest.fixture
def device() -> Iterator[torch.device]:
    name = os.environ.get("PEAV_TEST_DEVICE", "cuda" if torch.cuda.is_available() else "")
    if not name:
        pytest.skip("no GPU here; PEAV_TEST_DEVICE=cpu runs this on the CPU")
    # Convolutions of cuDNN round fp32 to ten bits unless they are told not to.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield torch.device(name)


def model_on(device: torch.device) -> PEAV:
    torch.manual_seed(0)
    return PEAV(preset("tiny")).eval().to(device)


def batch() -> Batch:
    """Clips of several lengths; one has no sound, one no pictures."""
    draw, own = torch.Generator().manual_seed(1), torch.arange(CLIPS)
    said = Texts(
        torch.randint(3, 2000, (CLIPS, 9), generator=draw),
        torch.arange(9) < torch.tensor([9, 4, 6, 9])[:, None],
        torch.ones(CLIPS, dtype=torch.bool),
        own,
    )
    return Batch(
        ids=list("abcd"),
        audio=torch.randn(CLIPS, STEPS, 128, generator=draw),
        audio_lengths=torch.tensor([STEPS, 20, 0, 33]),
        frames=torch.randint(0, 256, (CLIPS, FRAMES, 64, 64, 3), generator=draw, dtype=torch.uint8),
        frame_lengths=torch.tensor([FRAMES, 0, 1, 2]),
        texts=dict.fromkeys(("audio", "video", "audio_video"), said),
        groups={"audio": own, "video": own},
    )


@torch.no_grad()
def embedded(model: PEAV, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Every kind of output, of the same tensors on any device."""
    draw = torch.Generator().manual_seed(2)
    device, model = next(model.parameters()).device, model.to(dtype)
    sound = (torch.rand(2, 1920 * 30, generator=draw) - 0.5).to(device, dtype)
    pixels = (torch.rand(2 * FRAMES, 3, 64, 64, generator=draw) * 2 - 1).to(device, dtype)
    ids = torch.randint(3, 2000, (2, 12), generator=draw).to(device)
    lengths = torch.tensor([30, 17], device=device)
    latents = model.encode_codec(sound, lengths * 1920)
    audio = model.audio_hidden(latents, lengths)
    video = model.video_hidden(model.frame_features(pixels).unflatten(0, (2, FRAMES)))
    both = model.audio_video_hidden(audio.sequence, lengths, video.sequence, None)
    found = {"audio": audio.pooled, "video": video.pooled, "audio_video": both.pooled}
    found |= {f"text_{name}": model.text_pooled(ids) for name in tuple(found)}
    heads = {name: model.project(state, name).float().cpu() for name, state in found.items()}
    return {"latents": latents.float().cpu(), **heads}


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def test_outputs_are_those_of_a_cpu_and_the_same_bits_twice(device: torch.device) -> None:
    expected, model = embedded(model_on(CPU)), model_on(device)
    first, again = embedded(model), embedded(model)
    for name, values in expected.items():
        assert difference(first[name], values) <= 5e-5, name
        assert torch.equal(first[name], again[name]), name


def test_in_half_precision_outputs_point_the_same_way(device: torch.device) -> None:
    expected, found = embedded(model_on(CPU)), embedded(model_on(device), torch.bfloat16)
    for name, values in expected.items():
        assert torch.cosine_similarity(found[name].flatten(), values.flatten(), dim=0) > 0.99, name


@torch.no_grad()
def test_a_clip_is_itself_in_any_batch_and_in_any_windows(device: torch.device) -> None:
    model = model_on(device)
    sound = torch.rand(1920 * 40, generator=torch.Generator().manual_seed(3)).to(device) - 0.5
    alone = model.encode_codec(sound[None, : 1920 * 23])
    lengths = torch.tensor([40, 23], device=device)
    padded = model.encode_codec(sound.expand(2, -1), lengths * 1920)
    windows = model.encode_codec(sound[None], chunk_steps=10)
    assert difference(padded[1:, :23], alone) <= 1e-5
    assert difference(windows, padded[:1]) <= 1e-5
    own, among = model.audio_hidden(alone).pooled, model.audio_hidden(padded, lengths).pooled[1:]
    assert difference(among, own) <= 1e-5


@pytest.mark.parametrize("recompute", [False, True])
def test_training_steps_have_the_losses_of_a_cpu(device: torch.device, recompute: bool) -> None:
    """AdamW in one kernel, attention fused, frame encoder trained."""

    def losses(there: torch.device) -> list[float]:
        model = model_on(there)
        model.recompute_layers(recompute)
        model.audio.codec.requires_grad_(False)
        module = ContrastiveModule(model, Objective(pairs="finetune")).train()
        optimizer = make_optimizer(module, Optim(steps=3, batch_size=CLIPS))
        found, given = [], batch().to(there)
        module.start(given)
        for _ in range(3):
            optimizer.zero_grad(set_to_none=True)
            total = torch.stack(list(module(given).values())).sum()
            total.backward()
            assert torch.isfinite(take_step(optimizer, 1e-4, 1.0))
            found.append(total.item())
        return found

    expected = losses(CPU)
    assert losses(device) == pytest.approx(expected, rel=1e-3)
    assert expected[2] < expected[0]


def test_adamw_runs_in_one_kernel_where_the_device_has_it(device: torch.device) -> None:
    optimizer = make_optimizer(model_on(device), Optim(steps=1, batch_size=1))
    assert bool(optimizer.param_groups[0]["fused"]) == (device.type == "cuda")
