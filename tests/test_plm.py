"""PLM-AV: what a caption is learned from and how it is written does not depend on what stands beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from media.make import pictures, tone, write_audio, write_video
from safetensors.torch import load_file
from torch.nn import functional as F

from peav.captioner import Captioner
from peav.encoder import Encoder
from peav.errors import CheckpointError
from peav.model import PLM, PLMConfig
from peav.model.plm import Projector, block_causal, packed
from peav.types import DecodeFailure

pytest.importorskip("transformers", reason="pip install transformers")
from random_captioner import save_encoder, save_language_model, save_parts

from peav.inference.language_model import LanguageModel

MIXED = PLMConfig(audio_stride=3, video_stride=2, rank=4, encoder_layers=1)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_parts(tmp_path_factory.mktemp("plm"))


def new_captioner(parts: Path, config: PLMConfig = MIXED) -> Captioner:
    encoder = Encoder.from_pretrained(parts / "encoder", device="cpu")
    language = LanguageModel.load(parts / "language")
    model = PLM(encoder.model, language.model, config, seed=1)
    with torch.no_grad():
        for one in model.adapters.values():
            one.add_(0.05 * torch.randn(one.shape, generator=torch.Generator().manual_seed(2)))
    return Captioner(model, encoder, language)


@pytest.fixture(scope="module")
def captioner(parts: Path) -> Captioner:
    return new_captioner(parts)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("media")
    files = [write_audio(folder / f"{n}.wav", tone(0.5 + n, seed=n)) for n in range(3)]
    return [
        *files,
        write_video(folder / "seen.mp4", pictures(20), sound=tone(0.8)),
        write_video(folder / "mute.mp4", pictures(15)),
    ]


def questions(captioner: Captioner, count: int, seed: int = 0) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (count,), generator=draw).tolist()
    found = []
    for length in lengths:
        positions = 0.1 * torch.randn(length, 32, generator=draw)
        question = captioner.language.question("caption", "audio")
        found.append(captioner.model.embedded(question.filled({"audio": positions})))
    return found


def test_the_loss_of_packed_answers_is_that_of_each_alone(captioner: Captioner) -> None:
    model, language = captioner.model, captioner.language
    asked = questions(captioner, 7)
    texts = ["a dog barks", "rain", "rain falls on a roof in the yard " * 5, "a", "dog", "the roof falls", "a yard"]
    answers = [torch.tensor(language.answer(text, 64)) for text in texts]
    found = model.token_losses(asked, answers)
    alone = []
    for question, answer in zip(asked, answers, strict=True):
        whole = torch.cat([question, model.embeddings(answer)])[None]
        logits = language.model(inputs_embeds=whole).logits[0, len(question) - 1 : -1]
        alone.append(F.cross_entropy(logits, answer, reduction="none"))
    whole = [len(question) + len(answer) - 1 for question, answer in zip(asked, answers, strict=True)]
    assert len(packed(whole)) < len(asked)  # or nothing was packed
    assert torch.allclose(found, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_nothing_of_an_answer_changes_what_another_in_its_row_is_worth(captioner: Captioner) -> None:
    asked = questions(captioner, 3)
    texts = ("a dog barks in the yard " * 12, "rain", "roof")
    long, short, other = (torch.tensor(captioner.language.answer(text, 300)) for text in texts)
    answers = [long, short, other]
    whole = [len(question) + len(answer) - 1 for question, answer in zip(asked, answers, strict=True)]
    assert sorted(map(len, packed(whole))) == [1, 2]  # the second and the third share a row
    one = captioner.model.token_losses(asked, answers)
    two = captioner.model.token_losses(asked, [long, short, torch.flip(other, [0])])
    size = len(long) + len(short)
    assert torch.equal(one[:size], two[:size])
    assert not torch.equal(one[size:], two[size:])


def test_in_bfloat16_rotary_frequencies_stay_what_they_were(parts: Path) -> None:
    model = new_captioner(parts).model
    before = model.language.model.rotary_emb.inv_freq.clone()
    model.to(torch.bfloat16)
    after = model.language.model.rotary_emb.inv_freq
    assert after.dtype == torch.float32
    assert torch.equal(after, before)
    assert {one.dtype for one in [*model.parameters(), *model.language.parameters()]} == {torch.bfloat16}


def test_answers_are_greedy_whatever_the_models_own_settings_ask_for(
    parts: Path, tmp_path: Path, media: list[Path]
) -> None:
    import shutil

    from transformers import GenerationConfig

    shutil.copytree(parts / "language", tmp_path / "language")
    asks = GenerationConfig(repetition_penalty=3.0, do_sample=True, temperature=9.0, eos_token_id=[1, 7])
    asks.save_pretrained(tmp_path / "language")
    plain, changed = new_captioner(parts, PLMConfig(audio_stride=3)), LanguageModel.load(tmp_path / "language")
    assert changed.end == [1, 7]
    changed.end = plain.language.end
    encoder = Encoder.from_pretrained(parts / "encoder", device="cpu")
    other = Captioner(PLM(encoder.model, changed.model, PLMConfig(audio_stride=3), seed=1), encoder, changed)
    assert other.caption(media[:2], max_new_tokens=8) == plain.caption(media[:2], max_new_tokens=8)


def test_what_is_only_heard_is_asked_of_sound_alone(captioner: Captioner, media: list[Path]) -> None:
    *_, seen, mute = media
    for prompt in ("events", "environment"):
        assert captioner.caption(mute, prompt) == ""
        assert captioner.caption(seen, prompt) == captioner.caption(seen, prompt, streams="audio")
    assert captioner.caption(mute)


def test_a_clip_that_is_too_long_for_the_language_model_is_an_error(captioner: Captioner, media: list[Path]) -> None:
    with pytest.raises(ValueError, match="but the language model takes 512: give a shorter window"):
        captioner.caption(media[0], max_new_tokens=600)
    model = captioner.model
    width = model.embeddings.embedding_dim
    long, short = torch.zeros(400, width), torch.zeros(20, width)
    words = torch.ones(300, dtype=torch.long)
    assert len(model.token_losses([long, short], [words[:3], words])) == 303  # each clip counts by itself
    with pytest.raises(ValueError, match="699 positions and tokens of one clip, but the language model takes 512"):
        model.token_losses([long, short], [words, words[:3]])


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_every_sequence_has_one_place_and_no_row_is_longer_than_the_longest(lengths: list[int]) -> None:
    rows = packed(lengths)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert max(sum(lengths[i] for i in row) for row in rows) == max(lengths)


@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), min_size=1, max_size=3))
def test_a_token_sees_its_own_block_up_to_itself(blocks: list[list[int]]) -> None:
    length = max(map(sum, blocks)) + 1
    positions, mask = block_causal(blocks, length, torch.device("cpu"))
    for row, sizes in enumerate(blocks):
        starts = [sum(sizes[:n]) for n in range(len(sizes))]
        for i in range(length):
            own = [s for s, size in zip(starts, sizes, strict=True) if s <= i < s + size]
            first = own[0] if own else i
            assert positions[row, i] == i - first
            assert mask[row, i].nonzero()[:, 0].tolist() == list(range(first, i + 1))


@given(st.lists(st.integers(1, 11), min_size=1, max_size=4), st.integers(1, 4))
def test_a_position_is_the_mean_of_its_neighbors_whatever_the_padding_holds(lengths: list[int], stride: int) -> None:
    torch.manual_seed(0)
    projector = Projector(6, 8, stride, 0.1)
    sequence = torch.full((len(lengths), max(lengths), 6), float("nan"))
    clips = [torch.randn(length, 6) for length in lengths]
    for place, clip in enumerate(clips):
        sequence[place, : len(clip)] = clip
    for clip, found in zip(clips, projector(sequence, torch.tensor(lengths)), strict=True):
        means = [clip[at : at + stride].mean(0) for at in range(0, len(clip), stride)]
        wanted = [projector.down(F.gelu(projector.up(projector.norm(mean)))) for mean in means]
        assert torch.allclose(found, torch.stack(wanted), atol=1e-6)


def test_projected_positions_begin_with_the_spread_of_the_language_models_embeddings() -> None:
    torch.manual_seed(0)
    (found,) = Projector(64, 256, 1, 0.137)(torch.randn(1, 400, 64), torch.tensor([400]))
    assert float(found.std().detach()) == pytest.approx(0.137, rel=0.1)


@pytest.mark.slow
def test_a_caption_alone_is_the_caption_in_any_batch(captioner: Captioner, media: list[Path]) -> None:
    for prompt in ("caption", "events", "what is it?"):
        alone = [captioner.caption(path, prompt) for path in media]
        assert len(set(alone)) > 1
        assert all(alone[:-1])  # the last one is mute
        for size in (2, 5):
            assert captioner.caption(media, prompt, batch_size=size) == alone
        assert captioner.caption(media[::-1], prompt) == alone[::-1]


def test_long_files_are_told_of_window_by_window_and_bad_ones_cost_themselves(
    captioner: Captioner, media: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    found = list(captioner.stream([media[2], bad, media[1]], window=1.0))
    assert [(one.index, isinstance(one, DecodeFailure)) for one in found] == [
        (0, False), (0, False), (1, True), (2, False)]  # fmt: skip
    first, second, _, third = found
    assert [(one.start, one.end, one.modality) for one in (first, second, third)] == [
        (0.0, 1.0, "audio"), (1.0, 2.5, "audio"), (0.0, 1.5, "audio")]  # fmt: skip
    assert captioner.caption(media[2], window=1.0) == f"{first.text}; {second.text}"
    assert [first] == list(captioner.stream([media[2]], window=1.0, isolate=True))[:1]
    waveform = np.zeros(48_000, np.float32)
    assert captioner.caption([waveform], sampling_rate=48_000) == [captioner.caption(waveform, sampling_rate=48_000)]
    assert captioner.caption([]) == []


def test_what_is_saved_is_what_was_trained_and_loads_as_it_was(
    captioner: Captioner, parts: Path, media: list[Path], tmp_path: Path
) -> None:
    captioner.save_pretrained(tmp_path / "told")
    kept = load_file(tmp_path / "told" / "model.safetensors")
    assert {name.split(".")[0] for name in kept} == {"projectors", "adapters"}
    loaded = Captioner.load(tmp_path / "told", device="cpu")
    assert all(torch.equal(kept[name], value) for name, value in loaded.model.state_dict().items())
    assert loaded.caption(media) == captioner.caption(media)
    # The encoder's and the language model's own files are as they were.
    assert Encoder.from_pretrained(parts / "encoder", device="cpu").model_id == captioner.encoder.model_id
    assert LanguageModel.load(parts / "language").model_id == captioner.language.model_id


def test_another_encoder_or_language_model_is_refused(captioner: Captioner, parts: Path, tmp_path: Path) -> None:
    captioner.save_pretrained(tmp_path / "told")
    other = save_language_model(tmp_path / "other", seed=1)
    with pytest.raises(CheckpointError, match=r"other \(.*\) is another model; give the right one as language_model="):
        Captioner.load(tmp_path / "told", language_model=other)
    with pytest.raises(CheckpointError, match="is another model; give the right one as encoder="):
        Captioner.load(tmp_path / "told", encoder=save_encoder(tmp_path / "own", seed=1))
    with pytest.raises(CheckpointError, match=r"no captioner; peav\.load and peav\.Detector\.load take other models"):
        Captioner.load(parts / "encoder")
    with pytest.raises(CheckpointError, match=r"peav\.Captioner\.load"):
        Encoder.from_pretrained(tmp_path / "told")
    with pytest.raises(CheckpointError, match="no language model that transformers can load"):
        LanguageModel.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"rank": -1}}, r"config\.json: config: .*rank and encoder_layers from 0"),
        ({"config": {"rank": 10**9}}, "rank and encoder_layers from 0 to 1024"),
        ({"config": {"audio_stride": "many"}}, r"config\.audio_stride"),
        ({"encoder": "tiny"}, "encoder is 'tiny', which is no object"),
        ({"language_model": {"name": "x"}}, "language_model"),
        ({"version": 2}, "version 2; this peav reads 1: upgrade peav"),
        (
            {"config": {"audio_stride": 3, "rank": 5, "encoder_layers": 1}},
            "has another shape than config.json asks for",
        ),
        ({"config": {"audio_stride": 3}}, "adapters"),
    ],
)
def test_a_damaged_config_names_the_field(
    captioner: Captioner, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    captioner.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        Captioner.load(tmp_path, device="cpu")


def test_a_control_tokens_name_in_a_caption_is_no_such_token(captioner: Captioner) -> None:
    language = captioner.language
    assert language.end[0] not in language.answer("dog <end> cat", 64)[:-1]
    (*_, asked), (*_, plain) = (language.question(words, "audio").parts for words in ("<end>", "end"))
    assert list(asked).count(language.end[0]) == list(plain).count(language.end[0])
    assert language.answer("a dog barks in the yard", 3) == language.answer("a dog barks in the yard", 64)[:3]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('a system prompt first') }}", "takes no single message: a system prompt first"),
        ("{{ messages[0]['content'] | replace('[', '(') }}", "chat template changes messages"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_said_when_it_is_loaded(
    template: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        LanguageModel.load(save_language_model(tmp_path / "language", template=template))


def test_a_chat_template_that_tells_the_date_asks_the_same_on_every_day(tmp_path: Path) -> None:
    dated = "{{ strftime_now('%d %b %Y') }} {{ messages[0]['content'] }}"
    language = LanguageModel.load(save_language_model(tmp_path / "language", template=dated))
    first = language.question("caption", "audio").parts[0]
    assert not isinstance(first, str)
    assert language.text(first) == "26 Jul 2024"


def test_a_question_has_no_system_prompt_that_a_template_would_add(tmp_path: Path) -> None:
    add = "{% if messages[0]['role'] != 'system' %}I am a dog. {% endif %}"
    told = "{% for one in messages %}{{ one['content'] }}{% endfor %}"
    language = LanguageModel.load(save_language_model(tmp_path / "language", template=add + told))
    first = language.question("caption", "audio").parts[0]
    assert not isinstance(first, str)
    assert language.text(first) == ""


@pytest.mark.parametrize("template", [None, "{{ messages[0]['content'] }}"])
def test_a_question_holds_its_prompt_and_the_streams_in_their_order(template: str | None, tmp_path: Path) -> None:
    language = LanguageModel.load(save_language_model(tmp_path / "language", template=template))
    question = language.question("List the sounds.", "audio_video")
    assert [part for part in question.parts if isinstance(part, str)] == ["audio", "video"]
    words = [language.text(part) for part in question.parts if not isinstance(part, str)]
    assert words == ["", "", "List the sounds."]
