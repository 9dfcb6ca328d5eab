"""PLM-AV: a causal language model that hears and sees through PE-AV (arXiv 2512.19687, the data engine's stage 2)."""

# Shapes: B clips, T latents at 25 Hz, N video frames, P pooled positions, L tokens, D width of a tower, W width of the
# language model's embeddings, R packed rows.

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from .lora import LowRank, add_low_rank
from .peav import PEAV


@dataclass(frozen=True)
class PLMConfig:
    """How an encoder and a language model are joined.

    Attributes:
        audio_stride: latents, 25 a second, that make one position.
        video_stride: frames that make one position.
        rank: of LoRA in every linear layer of the language model; 0: it stays as it is.
        encoder_layers: of the encoder's towers, how many of the top layers train too.
    """

    audio_stride: int = 16
    video_stride: int = 2
    rank: int = 0
    encoder_layers: int = 0

    def __post_init__(self) -> None:
        strides, adapters = (self.audio_stride, self.video_stride), (self.rank, self.encoder_layers)
        if min(strides) < 1 or min(adapters) < 0 or max(*strides, *adapters) > 1024:
            raise ValueError(f"strides are from 1, rank and encoder_layers from 0 to 1024, not {self}")


class Projector(nn.Module):
    """Means over `stride` neighboring positions of a tower's sequence, as embeddings of a language model.

    Args:
        std: of the language model's own embeddings, which the projected ones start with.
    """

    def __init__(self, width: int, language_width: int, stride: int, std: float) -> None:
        super().__init__()
        self.stride = stride
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, language_width)
        self.down = nn.Linear(language_width, language_width)
        # GELU of a unit normal has a second moment of .425.
        nn.init.normal_(self.up.weight, std=width**-0.5)
        nn.init.normal_(self.down.weight, std=std / (0.425 * language_width) ** 0.5)
        nn.init.zeros_(self.up.bias)
        nn.init.zeros_(self.down.bias)

    def forward(self, sequence: Tensor, lengths: Tensor) -> list[Tensor]:
        """sequence (B, T, D), `lengths` (B,) in its positions -> for each clip (P, W), P = ceil(length / stride).

        The last position is the mean of what is left. Nothing past a clip's end counts.
        """
        return [self._project(one[:length]) for one, length in zip(sequence, lengths.tolist(), strict=True)]

    def _project(self, sequence: Tensor) -> Tensor:
        pooled = torch.stack([part.mean(0) for part in sequence.split(self.stride)])  # (P, D)
        return self.down(F.gelu(self.up(self.norm(pooled))))


class PLM(nn.Module):
    """An encoder, a projector for each of its streams, and a language model.

    The encoder and the language model are held but not registered: the weights of this module are the projectors and,
    in `adapters`, what else trains. So its state is small, whatever it is built on.

    Args:
        encoder: a PE-AV model; changed in place, as is `language`: nothing of them trains but `adapters`.
        language: a causal language model of transformers.
        seed: of the projectors and of LoRA.
    """

    def __init__(self, encoder: PEAV, language: nn.Module, config: PLMConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self._held = (encoder, language)  # a tuple, which nn.Module does not look into
        table = self.embeddings.weight
        std = float(table.detach().float().std())
        widths = {
            "audio": (encoder.config.audio.transformer.hidden_size, config.audio_stride),
            "video": (encoder.config.video.transformer.hidden_size, config.video_stride),
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projectors = nn.ModuleDict(
                {stream: Projector(width, table.shape[1], stride, std) for stream, (width, stride) in widths.items()}
            )
        self.adapters = nn.ParameterDict(_adapters(encoder, language, config, seed))

    @property
    def encoder(self) -> PEAV:
        """What hears and sees."""
        return self._held[0]

    @property
    def language(self) -> Any:
        """What tells: a causal language model of transformers."""
        return self._held[1]

    @property
    def embeddings(self) -> nn.Embedding:
        """The language model's table of token embeddings."""
        table: nn.Embedding = self.language.get_input_embeddings()
        return table

    def towers(self) -> list[nn.Module]:
        """None that training in shards would gather."""
        return []

    def train(self, mode: bool = True) -> PLM:
        """The held models stay in eval mode: what of them trains does so without dropout."""
        super().train(mode)
        for one in self._held:
            one.eval()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PLM:
        """The held models go to a device or dtype with the rest, but what is computed from a config stays in float32:
        rotary frequencies of another dtype turn by other angles.
        """
        for one in self._held:
            kept = {
                (module, name): buffer
                for module in one.modules()
                for name, buffer in module.named_buffers(recurse=False)
                if name in module._non_persistent_buffers_set  # noqa: SLF001
            }
            one._apply(fn, recurse)  # noqa: SLF001
            for (module, name), buffer in kept.items():
                setattr(module, name, buffer.to(getattr(module, name).device))
        super()._apply(fn, recurse)
        return self

    def positions(self, stream: str, inputs: Tensor, lengths: Tensor) -> list[Tensor]:
        """What the language model is given of a stream of some clips: (P, W) of each.

        Args:
            stream: `audio` or `video`.
            inputs: latents (B, T, 128), or frame features (B, N, F).
            lengths: (B,), in latents or frames, each above 0.
        """
        hidden = self.encoder.audio_hidden if stream == "audio" else self.encoder.video_hidden
        found: list[Tensor] = self.projectors[stream](hidden(inputs, lengths).sequence, lengths)
        return found

    def embedded(self, parts: Sequence[Tensor]) -> Tensor:
        """Token ids (L,) int64 and positions (P, W), one after the other, as embeddings (L, W)."""
        return torch.cat([self.embeddings(part) if part.dtype == torch.int64 else part for part in parts])

    def token_losses(self, sequences: Sequence[Tensor], answers: Sequence[Tensor]) -> Tensor:
        """The negative log likelihood of every token of the answers, one after the other: (sum of their lengths,) fp32.

        Args:
            sequences: for each clip its question as embeddings (L, W), without the answer.
            answers: token ids (A,), the last of them the end of the answer.

        Sequences share rows, packed so that little of a batch is padding; none sees another. Raises ValueError for one
        that is longer than the language model takes.
        """
        told = list(zip(sequences, answers, strict=True))
        self._check_length(max(len(question) + len(answer) for question, answer in told) - 1)
        whole = [torch.cat([question, self.embeddings(answer[:-1])]) for question, answer in told]
        rows = packed([len(one) for one in whole])
        inputs = pad_sequence([torch.cat([whole[i] for i in row]) for row in rows], batch_first=True)  # (R, L, W)
        blocks = [[len(whole[i]) for i in row] for row in rows]
        positions, mask = block_causal(blocks, inputs.shape[1], inputs.device)
        bias = inputs.new_zeros(mask.shape).masked_fill_(~mask, torch.finfo(inputs.dtype).min)[:, None]
        logits = self.language(
            inputs_embeds=inputs, attention_mask=bias, position_ids=positions, use_cache=False
        ).logits  # (R, L, vocabulary)
        losses: dict[int, Tensor] = {}
        for row, logits_of_row in zip(rows, logits, strict=True):
            at = 0
            for i in row:
                end = at + len(whole[i])
                own = logits_of_row[end - len(answers[i]) : end]
                losses[i] = F.cross_entropy(own.float(), answers[i], reduction="none")
                at = end
        return torch.cat([losses[i] for i in range(len(whole))])

    @torch.inference_mode()
    def generate(self, sequences: Sequence[Tensor], end: Sequence[int], max_new_tokens: int) -> list[list[int]]:
        """The likeliest answer to each question, token by token (greedy), up to one of the tokens in `end`.

        Args:
            sequences: for each clip its question as embeddings (L, W).

        Raises ValueError where one and its answer may be longer than the language model takes.
        """
        self._check_length(max(map(len, sequences)) + max_new_tokens)
        lengths = torch.tensor([len(one) for one in sequences])
        longest = int(lengths.max())
        # On the left, so that every answer follows its question without a gap.
        inputs = torch.stack([F.pad(one, (0, 0, longest - len(one), 0)) for one in sequences])  # (B, L, W)
        mask = (torch.arange(longest) >= longest - lengths[:, None]).to(inputs.device)
        tokens = self.language.generate(
            inputs_embeds=inputs,
            attention_mask=mask.long(),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=list(end),
            pad_token_id=end[0],
        )
        return [_until(row, set(end)) for row in tokens.tolist()]

    def check_window(self, seconds: float, frames: int, tokens: int) -> None:
        """Raises ValueError where a clip so long, with so many frames and `tokens` around them, may be too long."""
        codec = self.encoder.config.audio.codec
        latents = seconds * codec.sampling_rate / codec.hop_length
        heard, seen = latents / self.config.audio_stride, frames / self.config.video_stride
        self._check_length(math.ceil(heard) + math.ceil(seen) + tokens)

    def _check_length(self, length: int) -> None:
        most = getattr(self.language.config, "max_position_embeddings", None)
        if most is not None and length > most:
            raise ValueError(
                f"{length} positions and tokens of one clip, but the language model takes {most}: give a shorter window"
            )


def _adapters(encoder: PEAV, language: Any, config: PLMConfig, seed: int) -> dict[str, nn.Parameter]:
    """Freeze two models but for what a config lets train of them: those parameters, by name."""
    encoder.requires_grad_(False)
    language.requires_grad_(False)
    found: dict[str, nn.Parameter] = {}
    if config.encoder_layers:
        for stream, tower in (("audio", encoder.audio.tower), ("video", encoder.video.tower)):
            if config.encoder_layers > len(tower.layers):
                raise ValueError(f"encoder_layers: the {stream} tower has {len(tower.layers)} layers")
            chosen = nn.ModuleList([*tower.layers[-config.encoder_layers :], tower.norm, tower.output])
            found |= {f"{stream}-{name}": one for name, one in chosen.named_parameters()}
    if config.rank:
        decoder = language.base_model
        decoder.requires_grad_(True)  # for `add_low_rank`, which leaves alone what does not train
        add_low_rank(decoder, config.rank, torch.Generator().manual_seed(seed))
        decoder.requires_grad_(False)
        for name, module in decoder.named_modules():
            if isinstance(module, LowRank):
                found |= {f"language-{name}-down": module.down, f"language-{name}-up": module.up}
        if not any(name.startswith("language-") for name in found):
            raise ValueError("rank: the language model has no linear layers that LoRA could train; set rank: 0")
    for one in found.values():
        one.requires_grad_(True)
    return {name.replace(".", "-"): one for name, one in found.items()}


def packed(lengths: Sequence[int]) -> list[list[int]]:
    """Which sequences share a row: each goes, longest first, into the fullest row that has room for it.

    A row is as long as the longest sequence.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fitting = [row for row in range(len(rows)) if room[row] >= lengths[i]]
        if fitting:
            row = min(fitting, key=lambda row: (room[row], row))
            rows[row].append(i)
            room[row] -= lengths[i]
        else:
            rows.append([i])
            room.append(max(lengths) - lengths[i])
    return rows


def block_causal(blocks: Sequence[Sequence[int]], length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Position ids (R, length) that begin anew with each block of a row, and who sees whom (R, length, length) bool.

    A token sees those of its block up to itself. What lies past the blocks sees itself alone, since a softmax over
    nothing is not a number.
    """
    positions = torch.zeros(len(blocks), length, dtype=torch.int64)
    block = torch.arange(length).repeat(len(blocks), 1) + length  # (R, length): padding is a block for each
    for row, sizes in enumerate(blocks):
        at = 0
        for number, size in enumerate(sizes):
            positions[row, at : at + size] = torch.arange(size)
            block[row, at : at + size] = number
            at += size
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return positions.to(device), ((block[:, :, None] == block[:, None]) & causal).to(device)


def _until(tokens: Sequence[int], end: set[int]) -> list[int]:
    stop = next((place for place, token in enumerate(tokens) if token in end), len(tokens))
    return list(tokens[:stop])
