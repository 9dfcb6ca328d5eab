"""The captioner `transformers`, on small random models of real kinds: it says what transformers itself would say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as tokenizer_models

from peav.data.manifest import Row
from peav.engine.captioners.transformers import Transformers
from peav.engine.clip import Answer, Clip, Sample
from peav.engine.prompts import load_prompt
from peav.engine.stage import STAGES, Stage
from peav.errors import RecipeError
from peav.features.decode import Decoded
from peav.media.resample import as_waveform
from peav.utils.plugins import load_class

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% else %}<|{{ part['type'] }}|>{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}A:{% endif %}"
)


def vocabulary(*special: str) -> dict[str, int]:
    return {token: place for place, token in enumerate([*LETTERS, *special])}


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whisper")
    vocab = vocabulary("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>")
    tokenizer = transformers.WhisperTokenizer(vocab=vocab, merges=[])
    extractor = transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=2)
    transformers.WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    end = vocab["<|endoftext|>"]
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=8,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_source_positions=100,
        max_target_positions=32,
        decoder_start_token_id=vocab["<|startoftranscript|>"],
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        init_std=1.0,  # so that what it says depends on what it hears
    )
    torch.manual_seed(0)
    transformers.WhisperForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def perception_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("perception_lm")
    vocab = vocabulary("<|pad|>", "<|eos|>", "<|image|>", "<|video|>")
    raw = Tokenizer(tokenizer_models.BPE(vocab=vocab, merges=[]))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = {"image_token": "<|image|>", "video_token": "<|video|>"}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<|pad|>", eos_token="<|eos|>", extra_special_tokens=special
    )
    size = {"height": 28, "width": 28}
    transformers.PerceptionLMProcessor(
        video_processor=transformers.PerceptionLMVideoProcessor(size=size),
        image_processor=transformers.PerceptionLMImageProcessor(
            tile_size=28, max_num_tiles=1, vision_input_type="vanilla", size=size
        ),
        tokenizer=tokenizer,
        patch_size=14,
        pooling_ratio=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    eyes = {"embed_dim": 16, "depth": 1, "num_heads": 2, "img_size": [28, 28], "patch_size": [14, 14]}
    eyes |= {"global_pool": "", "use_post_transformer_norm": False, "init_values": 0.1, "ref_feat_shape": [2, 2]}
    config = transformers.PerceptionLMConfig(
        vision_config={"architecture": "vit_pe_core_tiny_patch16_384", "model_args": eyes},
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "pad_token_id": vocab["<|pad|>"],
            "eos_token_id": vocab["<|eos|>"],
            "bos_token_id": None,
            "initializer_range": 1.0,
        },
        vision_use_cls_token=True,
        projector_pooling_ratio=1,
        image_token_id=vocab["<|image|>"],
        video_token_id=vocab["<|video|>"],
    )
    torch.manual_seed(0)
    transformers.PerceptionLMForConditionalGeneration(config).save_pretrained(folder)
    return folder


def samples(count: int = 3) -> list[Sample]:
    rng = np.random.default_rng(0)
    found = []
    for place in range(count):
        wave = (rng.normal(0, 0.1, 24_000 * (place + 1)) * (place + 1)).astype(np.float32)
        frames = rng.integers(0, 80 * (place + 1), (16, 40, 40, 3), dtype=np.uint8)
        found.append(Sample(Clip(str(place), Row(id=str(place), start=1.0, end=5.0)), Decoded(wave, frames)))
    return found


def captioner(model: Path, **options: Any) -> Transformers:
    stage = Transformers("weak", model=str(model), **{"max_new_tokens": 8, "device": "cpu", **options})
    stage.setup()
    return stage


def answers(stage: Transformers, batch: list[Sample]) -> list[Answer]:
    found = dict(stage(batch))
    for answer in found.values():
        if isinstance(answer, Exception):
            raise answer
    return [found[place] for place in range(len(batch))]


def test_it_is_a_stage_that_recipes_can_name():
    assert load_class("transformers", Stage, STAGES) is Transformers


def test_an_audio_captioner_says_what_transformers_says_of_the_same_sound(whisper: Path):
    batch = samples()
    found = answers(captioner(whisper), batch)
    processor = transformers.AutoProcessor.from_pretrained(whisper)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(whisper).eval()
    for sample, answer in zip(batch, found, strict=True):
        sound = as_waveform(sample.media.waveform, 48_000, 16_000)
        features = processor(sound, sampling_rate=16_000, return_tensors="pt").input_features
        tokens = model.generate(features, max_new_tokens=8, do_sample=False)
        assert answer.value == processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()
    assert len({answer.value for answer in found}) > 1
    assert all(0 < answer.output_tokens <= 10 for answer in found)


def test_perception_lm_says_what_transformers_says_of_the_same_frames(perception_lm: Path):
    batch = samples()
    found = answers(captioner(perception_lm, kind="video", frames=4), batch)
    processor = transformers.AutoProcessor.from_pretrained(perception_lm)
    model = transformers.PerceptionLMForConditionalGeneration.from_pretrained(perception_lm).eval()
    asked = f"<|video|>{load_prompt('caption_video_v1').text}A:"
    for sample, answer in zip(batch, found, strict=True):
        frames = sample.media.frames[[0, 5, 10, 15]]
        inputs = processor(text=[asked], videos=[frames], do_sample_frames=False, return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=8, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        assert answer.value == processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)[0].strip()
        assert answer.prompt_tokens == inputs["input_ids"].shape[1]
    assert len({answer.value for answer in found}) > 1


def test_a_caption_does_not_depend_on_the_clips_beside_it(perception_lm: Path):
    batch = samples()
    one, three = captioner(perception_lm, kind="video", batch=1), captioner(perception_lm, kind="video", batch=3)
    assert answers(one, batch) == answers(three, batch)


def test_a_clip_without_the_stream_has_an_empty_caption_and_a_broken_one_fails_alone(whisper: Path):
    good = samples(1)[0]
    silent = Sample(Clip("silent", Row(id="silent")), Decoded(None, good.media.frames))
    broken = Sample(Clip("broken", Row(id="broken")), Decoded(np.full(480, np.nan, np.float32), None))
    found = dict(captioner(whisper)([silent, good, broken, good]))
    assert (found[0].value, found[0].attempts) == ("", 0)
    assert isinstance(found[2], Exception)
    assert found[1] == found[3]
    assert isinstance(found[1], Answer)


def test_identity_knows_a_directory_by_what_it_holds_wherever_it_lies(whisper: Path, tmp_path: Path):
    copy = tmp_path / whisper.name
    copy.mkdir()

    def identity(model: str | Path, **options: Any) -> Any:
        return Transformers("weak", model=str(model), **options).identity()

    for path in whisper.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert identity(copy) == identity(whisper)
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-10] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    assert identity(copy)["model"] != identity(whisper)["model"]
    assert identity("some/captioner")["model"] == "some/captioner"
    assert identity("some/captioner", revision="v2")["model"] == "some/captioner@v2"


def test_a_model_that_cannot_do_it_is_refused_before_the_first_clip(whisper: Path, tmp_path: Path):
    with pytest.raises(RecipeError, match="has no chat template"):
        captioner(whisper, kind="video")
    with pytest.raises(RecipeError, match="cannot be loaded"):
        captioner(tmp_path)
    with pytest.raises(RecipeError, match="frames must be 1 to 16"):
        captioner(whisper, frames=0)
