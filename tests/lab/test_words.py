"""The loss on words is the mean over labeled frames, whatever stands in the others."""

from __future__ import annotations

import torch

from peav.data.manifest import Row
from peav.lab.words import WordFrames
from peav.model import preset
from peav.objectives.auxiliary import AudioStates, LossContext
from peav.objectives.frame_loss import FrameLoss
from peav.types import Word

WIDTH = preset("nano").audio.transformer.hidden_size


def five_words() -> WordFrames:
    return WordFrames(LossContext(preset("nano"), [Row("r", words=tuple(Word(word, 0, 1) for word in "abcde"))]))


def loss_of(words: WordFrames, states: torch.Tensor, labels: torch.Tensor) -> FrameLoss:
    lengths = torch.full((len(states),), states.shape[1])
    return words.on_audio(AudioStates(states, lengths, None, states, states, labels))


def test_the_loss_is_the_mean_negative_log_likelihood_of_labelled_frames() -> None:
    torch.manual_seed(0)
    words, states = five_words(), torch.randn(2, 4, WIDTH)
    labels = torch.tensor([[0, 3, -1, 5], [-1, -1, 1, 1]])
    loss, accuracy = loss_of(words, states, labels).mean()
    naive, right = [], []
    for b in range(2):
        for t in range(4):
            if labels[b, t] >= 0:
                scores = words.head(states[b, t])
                naive.append(scores.exp().sum().log() - scores[labels[b, t]])
                right.append(float(scores.argmax() == labels[b, t]))
    torch.testing.assert_close(loss, torch.stack(naive).mean())
    assert accuracy.item() == torch.tensor(sum(right) / len(right)).item()


def test_unlabelled_frames_do_not_matter_and_a_batch_without_labels_costs_nothing() -> None:
    words, states = five_words(), torch.randn(1, 3, WIDTH)
    labels = torch.tensor([[2, -1, 0]])
    changed = states.clone()
    changed[0, 1] = 1e6
    assert torch.equal(loss_of(words, states, labels).total, loss_of(words, changed, labels).total)
    loss, accuracy = loss_of(words, states, torch.full((1, 3), -1)).mean()
    loss.backward()
    assert (loss.item(), accuracy.item()) == (0.0, 0.0)
    assert not words.head.weight.grad.any()
