from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import peav
from peav.model import LOGIT_BIAS_INIT, LOGIT_SCALE_INIT, PEAV
from peav.model.config import preset
from peav.objectives.contrastive import infonce_loss, sigmoid_loss
from peav.objectives.pairs import FINETUNE, PAIRS, PRETRAIN, Embedding, Pair, joint, media, needed, pair_losses, text
from peav.train.recipe import Objective


def batch_of(size: int, seed: int) -> tuple[dict[Embedding, torch.Tensor], ...]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = {key: torch.randn(size, 4, generator=generator) for key in needed(FINETUNE)}
    present = {key: torch.rand(size, generator=generator) < 0.6 for key in needed(FINETUNE)}
    return embeddings, present


SCALES = {name: torch.tensor(1.0 + i) for i, name in enumerate(PAIRS)}
BIASES = {name: torch.tensor(-0.1 * i) for i, name in enumerate(PAIRS)}


def test_the_table_has_the_papers_eight_and_ten_pairs_in_order() -> None:
    eight = ["a_ac", "a_v", "a_avc", "av_ac", "av_avc", "v_ac", "v_vc", "v_avc"]
    assert [pair.name for pair in PRETRAIN] == eight
    assert [pair.name for pair in FINETUNE] == [*eight, "a_vc__v", "v_ac__a"] == list(PAIRS)


@pytest.mark.parametrize("pair", PRETRAIN)
def test_a_caption_is_projected_by_the_head_of_the_medium_it_is_paired_with(pair) -> None:
    caption = pair.target.caption
    assert pair.query.head == pair.query.modality
    assert pair.target.head == ("video" if caption is None else f"text_{pair.query.modality}")


def test_names_say_which_caption_goes_with_which_medium() -> None:
    letters = {"a": "audio", "v": "video", "av": "audio_video", "ac": "audio", "vc": "video", "avc": "audio_video"}
    for pair in PRETRAIN:
        query, target = pair.name.split("_")
        assert pair.query.modality == letters[query]
        assert (pair.target.caption or pair.target.modality) == letters[target]


def test_joint_queries_take_the_other_mediums_caption_and_seek_the_other_medium() -> None:
    assert PAIRS["a_vc__v"].query == joint("audio", "video") == Embedding("audio_plus_text", "audio", "video")
    assert PAIRS["a_vc__v"].target == media("video")
    assert PAIRS["v_ac__a"].query == joint("video", "audio") == Embedding("video_plus_text", "video", "audio")
    assert PAIRS["v_ac__a"].target == media("audio")


def test_each_embedding_is_needed_once_and_in_order_of_use() -> None:
    assert needed([PAIRS["a_v"], PAIRS["a_ac"], PAIRS["v_vc"]]) == (
        media("audio"),
        media("video"),
        text("audio", "audio"),
        text("video", "video"),
    )
    assert len(needed(PRETRAIN)) == 3 + 7
    assert len(needed(FINETUNE)) == 3 + 7 + 2


@pytest.mark.slow
@settings(deadline=None)
@given(size=st.integers(0, 9), seed=st.integers(0, 99))
def test_every_pair_is_the_loss_over_the_samples_that_have_both_sides(size: int, seed: int) -> None:
    embeddings, present = batch_of(size, seed)
    sigmoid = pair_losses(FINETUNE, embeddings, present, SCALES, BIASES)
    infonce = pair_losses(FINETUNE, embeddings, present, SCALES, BIASES, loss="infonce")
    for name, pair in PAIRS.items():
        both = present[pair.query] & present[pair.target]
        x, y = embeddings[pair.query][both], embeddings[pair.target][both]
        torch.testing.assert_close(sigmoid[name], sigmoid_loss(x, y, SCALES[name], BIASES[name]))
        torch.testing.assert_close(infonce[name], infonce_loss(x, y, SCALES[name]))


def test_every_parameter_has_a_gradient_though_no_sample_has_a_video() -> None:
    embeddings, present = batch_of(5, seed=0)
    present = {key: torch.full((5,), "video" not in key.head) for key in present}
    leaves = {key: value.requires_grad_() for key, value in embeddings.items()}
    scales = torch.nn.ParameterDict({name: torch.ones(1) for name in PAIRS})
    biases = torch.nn.ParameterDict({name: torch.zeros(1) for name in PAIRS})
    losses = pair_losses(FINETUNE, leaves, present, scales, biases)
    assert [name for name, loss in losses.items() if loss != 0] == ["a_ac", "a_avc"]
    sum(losses.values()).backward()
    assert all(leaf.grad is not None for leaf in leaves.values())
    assert all(parameter.grad is not None for table in (scales, biases) for parameter in table.values())


def test_equal_captions_are_not_negatives_of_each_other() -> None:
    embeddings, _ = batch_of(2, seed=1)
    present = {key: torch.ones(2, dtype=torch.bool) for key in embeddings}
    pair = PAIRS["a_ac"]
    groups = {pair.target: torch.tensor([7, 7])}
    loss = pair_losses([pair], embeddings, present, SCALES, BIASES, groups=groups)["a_ac"]
    positives = (embeddings[pair.query] * embeddings[pair.target]).sum(-1) * SCALES["a_ac"] + BIASES["a_ac"]
    torch.testing.assert_close(loss, -torch.nn.functional.logsigmoid(positives).mean())


@pytest.mark.parametrize("name", ["a_v", "a_ac", "a_vc__v"])
@pytest.mark.parametrize("loss", ["sigmoid", "infonce"])
def test_a_perfect_model_loses_nothing_by_a_clip_that_is_drawn_twice(name: str, loss: str) -> None:
    pair, clips = PAIRS[name], torch.tensor([0, 1, 2, 0])
    embeddings = {side: torch.eye(4)[clips] for side in (pair.query, pair.target)}
    present = {side: torch.ones(4, dtype=torch.bool) for side in embeddings}
    scales, biases = {name: torch.tensor(100.0)}, {name: torch.tensor(-50.0)}
    own_captions = torch.arange(4) if pair.target.caption else clips  # drawn twice, with another caption each time
    groups = {pair.query: clips, pair.target: own_captions}
    held_against_itself = pair_losses([pair], embeddings, present, scales, biases, loss)[name]
    assert held_against_itself > 0.3
    assert pair_losses([pair], embeddings, present, scales, biases, loss, groups)[name] == pytest.approx(0, abs=1e-6)


def test_every_pair_has_a_scale_and_a_bias_and_every_embedding_a_head_in_the_model() -> None:
    model = PEAV(preset("tiny"))
    assert set(model.logit_scale) == set(model.logit_bias) == set(PAIRS)
    assert {embedding.head for embedding in needed(FINETUNE)} == set(model.heads)


def test_an_eleventh_pair_is_one_line_of_the_table_and_models_of_before_still_load(monkeypatch) -> None:
    monkeypatch.setitem(PAIRS, "v_av", Pair("v_av", media("video"), media("audio_video")))
    model = peav.load("tiny", device="cpu")
    assert model.scale_and_bias("v_av") == (LOGIT_SCALE_INIT, LOGIT_BIAS_INIT)
    assert Objective(pairs=("a_v", "v_av")).table()[1].target == media("audio_video")
