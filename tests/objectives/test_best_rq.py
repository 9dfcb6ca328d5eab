from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from peav.objectives.best_rq import BestRQ


def small(**options) -> BestRQ:
    return BestRQ(latent_dim=12, width=8, codes=32, code_dim=6, **options)


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(5 + clip) for clip in range(count)]


def latents_of(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, 12, generator=torch.Generator().manual_seed(seed)) * 3 + 1


def naive_labels(objective: BestRQ, clip: torch.Tensor) -> torch.Tensor:
    """Frame by frame: normalize the clip, project, take the code with the largest cosine."""
    clip = (clip - clip.mean(0)) / (clip.var(0, unbiased=False) + 1e-5).sqrt()
    return torch.stack(
        [F.cosine_similarity(frame @ objective.projection, objective.codebook).argmax() for frame in clip]
    )


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), padding=st.integers(0, 5))
def test_labels_are_those_of_the_clip_alone_whatever_pads_it(lengths: list[int], padding: int) -> None:
    objective = small()
    latents = latents_of(len(lengths), max(lengths) + padding)
    valid = torch.arange(latents.shape[1]) < torch.tensor(lengths)[:, None]
    labels = objective.labels(torch.where(valid[..., None], latents, torch.nan), torch.tensor(lengths))
    for row, clip, length in zip(labels, latents, lengths, strict=True):
        assert torch.equal(row[:length], naive_labels(objective, clip[:length]))


def test_labels_do_not_change_with_level_or_steady_color() -> None:
    objective, latents = small(), latents_of(2, 20)
    colored = latents * 4 + torch.linspace(-2, 2, 12)
    assert (objective.labels(latents) == objective.labels(colored)).float().mean() > 0.97


def test_labels_use_much_of_the_codebook() -> None:
    assert small().labels(latents_of(1, 2000)).unique().numel() > 24


def test_the_seed_alone_decides_projection_and_codebook_and_they_are_frozen_and_saved() -> None:
    one, same, other = small(seed=3), small(seed=3), small(seed=4)
    assert torch.equal(one.codebook, same.codebook)
    assert torch.equal(one.projection, same.projection)
    assert not torch.equal(one.codebook, other.codebook)
    assert {name for name, _ in one.named_parameters()} == {"hidden", "head.weight", "head.bias"}
    assert {"projection", "codebook"} <= set(one.state_dict())


def test_spans_are_the_generators_alone_and_have_their_length() -> None:
    objective = small(mask_probability=0.02, span=4)
    latents = latents_of(3, 200)
    masked, mask = objective.mask(latents, None, generators(3))
    again, mask_again = objective.mask(latents, None, generators(3))
    assert torch.equal(masked, again)
    assert torch.equal(mask, mask_again)
    starts = torch.stack([torch.rand(200, generator=generator) for generator in generators(3)]) < 0.02
    expected = torch.zeros_like(mask)
    for row, start in starts.nonzero().tolist():
        expected[row, start : start + 4] = True
    assert torch.equal(mask, expected)
    assert torch.equal(masked[~mask], latents[~mask])
    assert (masked[mask] == objective.hidden).all()


def test_a_clips_spans_do_not_depend_on_what_shares_its_batch() -> None:
    objective, latents = small(), latents_of(2, 60)
    _, together = objective.mask(latents, torch.tensor([40, 60]), generators(2))
    _, alone = objective.mask(latents[:1, :40], None, generators(1))
    assert torch.equal(together[0, :40], alone[0])


def test_padding_and_clips_of_no_length_are_never_masked() -> None:
    objective = small(mask_probability=1.0)
    latents, lengths = latents_of(3, 9), torch.tensor([4, 0, 9])
    masked, mask = objective.mask(latents, lengths, generators(3))
    assert torch.equal(mask.sum(1), lengths)
    assert torch.equal(masked[1], latents[1])


def test_the_default_hides_about_a_third() -> None:
    _, mask = small().mask(latents_of(20, 500), None, generators(20))
    assert 0.28 < mask.float().mean() < 0.38


def test_loss_and_accuracy_are_means_over_hidden_frames() -> None:
    objective = small()
    sequence = torch.randn(2, 7, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(32, (2, 7), generator=torch.Generator().manual_seed(2))
    mask = torch.zeros(2, 7, dtype=torch.bool)
    mask[0, 2:5] = mask[1, 6] = True
    loss, accuracy = objective.loss(sequence, labels, mask).mean()
    terms = [F.cross_entropy(objective.head(sequence[b, t]), labels[b, t]) for b, t in mask.nonzero().tolist()]
    torch.testing.assert_close(loss, torch.stack(terms).mean())
    hits = [objective.head(sequence[b, t]).argmax() == labels[b, t] for b, t in mask.nonzero().tolist()]
    assert accuracy == torch.stack(hits).float().mean()


def test_nothing_hidden_gives_zero_with_zero_gradients() -> None:
    objective = small()
    sequence = torch.randn(1, 3, 8, requires_grad=True)
    loss, accuracy = objective.loss(
        sequence, torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3, dtype=torch.bool)
    ).mean()
    loss.backward()
    assert loss == 0
    assert accuracy == 0
    assert (sequence.grad == 0).all()
    assert (objective.head.weight.grad == 0).all()


def test_autocast_leaves_labels_alone_and_the_loss_in_fp32() -> None:
    objective, latents = small(), latents_of(2, 50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        labels = objective.labels(latents.bfloat16())
        loss, _ = objective.loss(torch.randn(2, 50, 8), labels, torch.ones(2, 50, dtype=torch.bool)).mean()
    assert torch.equal(labels, objective.labels(latents.bfloat16().float()))
    assert loss.dtype == torch.float32


def test_hidden_labels_that_follow_from_their_neighbours_are_learnt() -> None:
    """A convolution over masked latents beats the majority class: gradients reach the mask vector and the head."""
    torch.manual_seed(0)
    objective = small(mask_probability=0.05, span=2)
    tower = torch.nn.Conv1d(12, 8, 5, padding=2)
    phase = torch.arange(64)[None] + torch.arange(16)[:, None]
    latents = torch.stack([torch.sin(phase * (0.1 + 0.05 * k) + k) for k in range(12)], -1)
    labels = objective.labels(latents)
    optimizer = torch.optim.Adam([*objective.parameters(), *tower.parameters()], lr=0.02)
    drawing = generators(len(latents))
    for _ in range(150):
        masked, mask = objective.mask(latents, None, drawing)
        loss, accuracy = objective.loss(tower(masked.transpose(1, 2)).transpose(1, 2), labels, mask).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    majority = labels.flatten().bincount().max() / labels.numel()
    assert accuracy > majority + 0.2
    assert objective.hidden.abs().max() > 0
