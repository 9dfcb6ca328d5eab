"""What training makes of a batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from parallel_worker import SIZE, model, random_batch
from torch import Tensor

from peav.objectives.pairs import needed
from peav.train.contrastive_module import ContrastiveModule, forward
from peav.train.recipe import Objective


def repeated(values: Tensor) -> Tensor:
    """The second half of a batch is the first again."""
    return values[torch.arange(SIZE) % (SIZE // 2)]


@pytest.mark.parametrize("loss", ["sigmoid", "infonce"])
def test_clips_drawn_twice_are_not_their_own_negatives_in_any_pair(loss: str) -> None:
    """Captions differ between the two draws of a clip: then its media alone say that it is one clip."""
    batch = random_batch(3, last_part_silent=False)
    media = {name: repeated(getattr(batch, name)) for name in ("audio", "audio_lengths", "frames", "frame_lengths")}
    clips = {medium: torch.arange(SIZE) % (SIZE // 2) for medium in ("audio", "video")}
    texts = {
        kind: replace(t, groups=torch.arange(SIZE), present=repeated(t.present)) for kind, t in batch.texts.items()
    }
    batch = replace(batch, **media, texts=texts, groups=clips)
    objective = Objective(pairs="finetune", loss=loss)
    trainable = ContrastiveModule(model(0), objective).double().eval()
    batch = replace(batch, audio=batch.audio.double())
    got = trainable(batch)
    output = forward(trainable.model, batch, needed(trainable.pairs))
    for pair in trainable.pairs:
        valid = output.present[pair.query] & output.present[pair.target]
        numbers = (torch.arange(SIZE) % (SIZE // 2))[valid]
        x, y = output.embeddings[pair.query][valid], output.embeddings[pair.target][valid]
        scale, bias = trainable.model.logit_scale[pair.name], trainable.model.logit_bias[pair.name]
        apart = (numbers[:, None] != numbers) | torch.eye(len(x), dtype=torch.bool)
        logits = scale * x @ y.T
        if loss == "sigmoid":
            signs = 2 * torch.eye(len(x), dtype=torch.float64) - 1
            want = -(torch.nn.functional.logsigmoid(signs * (logits + bias)) * apart).sum() / max(len(x), 1)
        else:
            kept = logits.masked_fill(~apart, -torch.inf)
            want = -(kept.log_softmax(1).diagonal() + kept.log_softmax(0).diagonal()).sum() / 2 / max(len(x), 1)
        torch.testing.assert_close(got[pair.name].double(), want, rtol=1e-9, atol=1e-9)
        assert len(x) > len(numbers.unique()), "the batch must have repeats of a pair, or the test shows nothing"
