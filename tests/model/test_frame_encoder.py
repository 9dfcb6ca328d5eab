"""The frame encoder's pieces against the modules and formulas of its paper."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from peav.inference import batching
from peav.model import PEAV, FrameEncoderConfig, PEAVConfig, preset
from peav.model.frame_encoder import FrameEncoder, to_pixels

CONFIG = FrameEncoderConfig(64, 16, 32, 2, 2, output_dim=24, pool_heads=4)


def encoder(config: FrameEncoderConfig = CONFIG) -> FrameEncoder:
    torch.manual_seed(0)
    model = FrameEncoder(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.requires_grad_(False)


def test_attention_pooling_equals_multihead_attention() -> None:
    pool, tokens = encoder().pool, torch.randn(3, 17, 32)
    reference = nn.MultiheadAttention(32, 4, batch_first=True).requires_grad_(False)
    reference.in_proj_weight.copy_(torch.cat([pool.q.weight, pool.kv.weight]))
    reference.in_proj_bias.copy_(torch.cat([pool.q.bias, pool.kv.bias]))
    reference.out_proj.load_state_dict(pool.out.state_dict())
    pooled = reference(pool.probe.expand(3, 1, -1), tokens, tokens, need_weights=False)[0][:, 0]
    torch.testing.assert_close(pool(tokens), pooled + pool.mlp(pool.norm(pooled)))


@pytest.mark.parametrize("cls_token", [True, False])
def test_rotary_positions_turn_x_in_the_first_half_and_y_in_the_second(cls_token: bool) -> None:
    config = FrameEncoderConfig(64, 16, 32, 1, 2, output_dim=8, pool_heads=4, use_cls_token=cls_token)
    rotation = encoder(config)._rotation(4, 3, torch.device("cpu"))
    assert rotation.shape == (12 + cls_token, 8)
    if cls_token:
        torch.testing.assert_close(rotation[0], torch.ones(8, dtype=torch.complex64))
    for row in range(4):
        for column in range(3):
            for pair in range(8):
                place = (column if pair < 4 else row) + cls_token
                angle = place * 10000.0 ** (-2 * (pair % 4) / 8)
                expected = torch.tensor(complex(math.cos(angle), math.sin(angle)), dtype=torch.complex64)
                torch.testing.assert_close(rotation[cls_token + row * 3 + column, pair], expected)


def test_positions_are_stretched_only_off_the_native_grid() -> None:
    model = encoder()
    assert model._positions(4, 4) is model.position
    stretched = model._positions(6, 2)
    table = model.position[1:].T.reshape(1, 32, 4, 4)
    expected = F.interpolate(table, (6, 2), mode="bilinear").reshape(32, 12).T
    torch.testing.assert_close(stretched[1:], expected)
    assert stretched[0].equal(model.position[0])


def test_a_frame_does_not_depend_on_its_neighbours() -> None:
    model, pixels = encoder(), torch.rand(5, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(model(pixels)[2:3], model(pixels[2:3]), rtol=1e-5, atol=1e-6)


def test_every_position_and_pixel_matters() -> None:
    model, pixels = encoder(), torch.rand(1, 3, 64, 64).requires_grad_()
    model(pixels).square().sum().backward()
    assert pixels.grad is not None
    assert (pixels.grad != 0).all()


def test_another_size_of_image_is_taken() -> None:
    assert encoder()(torch.rand(2, 3, 96, 32)).shape == (2, 24)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pixels_are_scaled_in_float32_whatever_the_dtype(dtype: torch.dtype) -> None:
    frames = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(2, 16, 16, 3)
    naive = ((frames.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5).to(dtype)
    assert torch.equal(to_pixels(frames, dtype), naive)


def test_inference_and_training_see_the_same_pixels() -> None:
    torch.manual_seed(0)
    model = PEAV(preset("tiny")).eval()
    frames = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(batching.frame_features(model, frames.numpy()), model.frame_features(to_pixels(frames)))


def test_equal_frames_are_encoded_once_and_each_has_its_own_features() -> None:
    torch.manual_seed(0)
    model = PEAV(preset("nano")).eval()
    slides = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    shown = [2, 2, 0, 2, 3, 0, 0, 1]  # a slide may come again
    given_to: list[int] = []
    model.video.frame_encoder.register_forward_pre_hook(lambda _, inputs: given_to.append(len(inputs[0])))
    with torch.inference_mode():
        found = batching.frame_features(model, slides[shown].numpy())
        assert sum(given_to) == 4
        whole = model.frame_features(to_pixels(slides[shown]))
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-6)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


@pytest.mark.parametrize("name", ["nano", "tiny", "small", "large"])
def test_what_frames_take_on_a_cpu_is_bounded_by_their_number(name: str) -> None:
    config = preset(name)
    assert isinstance(config, PEAVConfig)
    frames = config.video.frame_encoder
    at_once = batching.frames_at_once(frames)
    widest = (frames.grid**2 + 1) * frames.mlp_width * 4
    assert 8 <= at_once <= 64
    assert at_once == 8 or at_once * widest <= 64 * 2**20
