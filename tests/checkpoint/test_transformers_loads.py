"""transformers' own classes load what we convert, whole, and give our outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_peaframe, tiny_peav
from torch import Tensor

from peav.checkpoint import convert, load_model, save_pretrained
from peav.checkpoint.bundle import Checkpoint, ModelConfig, parameter_shapes
from peav.checkpoint.convert import write_checkpoint
from peav.model import PEAV, PEAFrame, preset

TOLERANCE = 2e-5
LENGTHS = (9600, 3)  # samples and frames, and so 5 latents: transformers resamples pictures only where lengths differ


def theirs(directory: Path) -> Any:
    """transformers' model in float32; fails where a key is missing, unexpected or of another shape."""
    pytest.importorskip("timm")  # transformers builds the frame encoder from it
    transformers = pytest.importorskip("transformers")
    video = "PeAudioVideoModel" in (directory / "config.json").read_text()
    kind = transformers.PeAudioVideoModel if video else transformers.PeAudioFrameLevelModel
    model, loaded = kind.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    assert not any(loaded.values()), loaded
    return model.eval()


def cheap_tensors(config: ModelConfig) -> dict[str, Tensor]:
    """bfloat16 weights of any size in seconds: one random stretch over and over, scaled by the inputs of each."""
    stretch = torch.randn(2**20 + 7, generator=torch.Generator().manual_seed(0)).bfloat16()

    def fill(name: str, shape: torch.Size) -> Tensor:
        if len(shape) < 2 and name.endswith(("weight", "alpha")):
            return torch.ones(shape, dtype=torch.bfloat16)
        count, inputs = shape.numel(), shape[1:].numel()
        values = stretch.repeat(-(-count // len(stretch)))[:count].view(shape)
        return values.mul_((inputs if len(shape) > 1 else 2500) ** -0.5)

    return {name: fill(name, shape) for name, shape in parameter_shapes(config).items()}


def error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def assert_equal_outputs(ours: PEAV | PEAFrame, model: Any) -> None:
    """Every head of both models on one random clip.

    transformers reads the text after ModernBERT's final norm unless it is asked for the states of the layers; the
    states of both are compared before it, and then every text head on one state.
    """
    random = torch.Generator().manual_seed(1)
    waveform = torch.rand(1, LENGTHS[0], generator=random) * 0.2 - 0.1
    ids = torch.randint(3, ours.config.text.vocab_size, (1, 12), generator=random)
    latents = ours.encode_codec(waveform)
    audio = ours.audio_hidden(latents)
    # A hook, since transformers 5.24 gives the state after the final norm as the last of `hidden_states`.
    seen: list[Tensor] = []
    model.text_model.final_norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.text_model(input_ids=ids)
    text = ours.text(ids)
    assert error(seen[0], text) <= TOLERANCE
    state = text[:, 0]
    if isinstance(ours, PEAFrame):
        frames = model.audio_head(model.audio_encoder(input_values=waveform[None]).last_hidden_state)
        logits = (frames @ model.text_audio_head(state).T).transpose(1, 2)
        logits = logits * model.text_audio_logit_scale + model.text_audio_logit_bias
        assert error(logits, ours.score(ours.audio_frames(latents), ours.heads["text"](state))) <= TOLERANCE
        return
    size = ours.config.video.frame_encoder.image_size
    pixels = torch.rand(LENGTHS[1], 3, size, size, generator=random) * 2 - 1
    video = ours.video_hidden(ours.frame_features(pixels)[None])
    fused = ours.audio_video_hidden(audio.sequence, None, video.sequence, None)
    given = model.get_audio_video_embeds(
        waveform[None], pixels[None], return_audio_embeds=True, return_video_embeds=True
    )
    found = {
        "audio": given.audio_embeds,
        "video": given.video_embeds,
        "audio_video": given.audio_video_embeds,
        "text_audio": model.audio_model.text_audio_head(state),
        "text_video": model.video_model.text_video_head(state),
        "text_audio_video": model.text_audio_video_head(state),
        "audio_plus_text": model.audio_plus_text_head(torch.cat([audio.pooled, state], -1)),
        "video_plus_text": model.video_plus_text_head(torch.cat([video.pooled, state], -1)),
    }
    pooled = {"audio": audio.pooled, "video": video.pooled, "audio_video": fused.pooled}
    pooled |= {name: state for name in found if name.startswith("text_")}
    pooled |= {f"{kind}_plus_text": torch.cat([pooled[kind], state], -1) for kind in ("audio", "video")}
    errors = {name: error(found[name], ours.project(pooled[name], name)) for name in found}
    assert max(errors.values()) <= TOLERANCE, errors
    assert float(model.audio_video_logit_scale) == float(ours.logit_scale["a_v"])
    assert float(model.audio_model.text_audio_logit_bias) == float(ours.logit_bias["a_ac"])


@pytest.mark.parametrize("layout", ["perception_models", "transformers"])
@pytest.mark.parametrize("kind", [pytest.param("pe-av", marks=pytest.mark.slow), "pe-a-frame"])
def test_golden_checkpoints_load_whole_with_equal_outputs(golden: Path, tmp_path: Path, kind: str, layout: str) -> None:
    start = golden / f"{kind}-{layout}"
    own = convert(start, tmp_path / "own", "peav")
    assert_equal_outputs(load_model(start), theirs(convert(own, tmp_path / "there", "transformers")))


@pytest.mark.slow
@pytest.mark.parametrize("build", [tiny_peav, tiny_peaframe])
def test_a_frame_encoder_of_our_own_size_does_too(tmp_path: Path, build: type) -> None:
    ours = build().eval()
    start = save_pretrained(ours, tmp_path / "start")
    assert_equal_outputs(ours, theirs(convert(start, tmp_path / "there", "transformers")))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small-16-frame", "frame-small"])
def test_the_official_small_models_do_too(tmp_path: Path, name: str) -> None:
    config = preset(name)
    write_checkpoint(Checkpoint(config, cheap_tensors(config)), tmp_path, "transformers")
    ours = load_model(tmp_path)
    assert ours.config == config
    assert_equal_outputs(ours, theirs(tmp_path))


@pytest.mark.slow
def test_what_transformers_saves_again_is_read(tmp_path: Path) -> None:
    """It leaves out `num_labels`."""
    ours = tiny_peav()
    there = convert(save_pretrained(ours, tmp_path / "start"), tmp_path / "there", "transformers")
    theirs(there).save_pretrained(tmp_path / "again")
    again = load_model(tmp_path / "again")
    state = again.state_dict()
    assert all(
        tensor.equal(state[name])
        for name, tensor in ours.state_dict().items()
        if not name.startswith("logit")  # six of the ten pairs are there
    )
