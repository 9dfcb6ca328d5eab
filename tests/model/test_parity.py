"""Outputs equal the original implementation's on the golden checkpoints, in both public layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from golden_data import LAYOUTS, Clip, load_clip, relative_error, run_peaframe, run_peav
from safetensors.torch import load_file

from peav.checkpoint import load_model
from peav.model import PEAV, PEAFrame

TOLERANCE = 2e-5


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_peav_output_equals_the_originals(golden: Path, layout: str, index: int) -> None:
    model = load_model(golden / f"pe-av-{layout}")
    assert isinstance(model, PEAV)
    outputs = run_peav(model, load_clip(golden, index))
    prefix = f"clip{index}."
    reference = {
        name.removeprefix(prefix): tensor
        for name, tensor in load_file(golden / "outputs_pe_av.safetensors").items()
        if name.startswith(prefix)
    }
    assert outputs.keys() == reference.keys()
    errors = {name: relative_error(outputs[name], reference[name]) for name in reference}
    assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_peaframe_output_equals_the_originals(golden: Path, layout: str, index: int) -> None:
    model = load_model(golden / f"pe-a-frame-{layout}")
    assert isinstance(model, PEAFrame)
    outputs = run_peaframe(model, load_clip(golden, index))
    reference = load_file(golden / "outputs_pe_a_frame.safetensors")
    errors = {name: relative_error(value, reference[f"clip{index}.{name}"]) for name, value in outputs.items()}
    assert max(errors.values()) <= TOLERANCE, errors


@torch.no_grad()
def test_audio_and_frame_scores_equal_transformers_own_model(golden: Path) -> None:
    PeAudioFrameLevelModel = pytest.importorskip("transformers").PeAudioFrameLevelModel

    directory = golden / "pe-a-frame-transformers"
    theirs = PeAudioFrameLevelModel.from_pretrained(directory, dtype=torch.float32).eval()
    ours, clip = load_model(directory), load_clip(golden, 0)
    assert isinstance(ours, PEAFrame)
    audio = theirs.audio_encoder(input_values=clip.waveform[None])
    latents = ours.encode_codec(clip.waveform)
    hidden = ours.audio_hidden(latents)
    assert relative_error(hidden.sequence, audio.last_hidden_state) <= TOLERANCE
    assert relative_error(hidden.pooled, audio.pooler_output) <= TOLERANCE
    # Their text is taken after the final norm, so the heads are compared on one text state.
    state = torch.randn(3, ours.config.text.hidden_size)
    logits = (theirs.audio_head(audio.last_hidden_state) @ theirs.text_audio_head(state).T).transpose(1, 2)
    logits = logits * theirs.text_audio_logit_scale + theirs.text_audio_logit_bias
    assert relative_error(ours.score(ours.audio_frames(latents), ours.heads["text"](state)), logits) <= TOLERANCE


@pytest.mark.slow
@torch.no_grad()
def test_audio_video_states_equal_transformers_own_model(golden: Path, tmp_path: Path) -> None:
    PeAudioVideoModel = pytest.importorskip("transformers").PeAudioVideoModel

    # transformers 5.24 builds another frame encoder than the golden file holds, unless its config has `num_labels`.
    directory = shutil.copytree(golden / "pe-av-transformers", tmp_path / "labelled", copy_function=shutil.copyfile)
    directory.chmod(0o755)
    data = json.loads((directory / "config.json").read_text())
    vision = data["audio_video_config"]["video_config"]["vision_config"]
    vision["num_labels"] = len(vision["label_names"])
    (directory / "config.json").write_text(json.dumps(data))
    theirs = PeAudioVideoModel.from_pretrained(directory, dtype=torch.float32).eval()
    ours, clip = load_model(golden / "pe-av-transformers"), load_clip(golden, 0)
    assert isinstance(ours, PEAV)
    media = {"input_values": clip.waveform[None], "pixel_values_videos": clip.pixels[None]}
    embeds = theirs.get_audio_video_embeds(**media).audio_video_embeds
    assert relative_error(run_peav(ours, clip)["audio_video"], embeds) <= TOLERANCE


def test_the_same_input_gives_bit_equal_outputs_twice(golden: Path) -> None:
    model = load_model(golden / "pe-av-transformers")
    assert isinstance(model, PEAV)
    clip: Clip = load_clip(golden, 1)
    first, second = run_peav(model, clip), run_peav(model, clip)
    assert all(first[name].equal(second[name]) for name in first)
