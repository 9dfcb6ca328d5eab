"""What every layout reads into and writes from: a checkpoint in our own names, nothing lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from peav.model import LOGIT_BIAS_INIT, LOGIT_SCALE_INIT, PAIRS, PEAV, PEAFrame, PEAFrameConfig, PEAVConfig
from peav.model.text import TextEncoder

from .common_layout import CODEC
from .key_map import Tensors

ModelConfig = PEAVConfig | PEAFrameConfig
Json = dict[str, Any]


# What a new model has of each pair, see `add_missing`.
_LOGITS = {"logit_scale": LOGIT_SCALE_INIT, "logit_bias": LOGIT_BIAS_INIT}
_FINAL_NORM = "text.final_norm.weight"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    """A dtype that models compute in, by itself or by name; None: float32. Raises ValueError for any other."""
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype or torch.float32
    if found is None or not found.is_floating_point:
        raise ValueError(f"no dtype {dtype!r}: give one of {', '.join(DTYPES)}")
    return found


@dataclass
class Checkpoint:
    """A model's config and tensors under our names.

    Besides the model's own parameters `tensors` may hold what only some layouts carry and no model of ours reads:
    text layers past the last used one, the text's final norm, the codec bottleneck's scale half and output projection.
    """

    config: ModelConfig
    tensors: Tensors

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of tensors that have to be made up."""
        return self.tensors["text.tokens.weight"].dtype

    def full(self, value: float, *shape: int) -> Tensor:
        """A constant tensor of the checkpoint's dtype."""
        return torch.full(shape, value, dtype=self.dtype)

    def text_layers(self) -> int:
        """How many text layers there are tensors for, used or not."""
        prefix = "text.layers."
        return 1 + max(int(name[len(prefix) :].split(".")[0]) for name in self.tensors if name.startswith(prefix))

    def add_missing(self) -> None:
        """Fill in the model parameters that some public layouts have no place for, with what a new model has."""
        if isinstance(self.config, PEAVConfig):
            for kind, value in _LOGITS.items():
                for pair in PAIRS:
                    self.tensors.setdefault(f"{kind}.{pair}", self.full(value, 1))
            width = self.config.video.frame_encoder.output_dim
            self.tensors.setdefault("video.frame_encoder.proj.bias", self.full(0.0, width))

    def add_unread(self, text_layers: int, bottleneck: bool) -> None:
        """Fill in what a layout demands though PE-AV never reads it: neutral values, dropped again on the way back."""
        text, codec = self.config.text, self.config.audio.codec
        self.tensors.setdefault(_FINAL_NORM, self.full(1.0, text.hidden_size))
        with torch.device("meta"), _SkipInit():
            encoder = TextEncoder(replace(text, num_hidden_layers=text_layers))
        for name, tensor in encoder.state_dict().items():
            self.tensors.setdefault(f"text.{name}", self.full(0.0, *tensor.shape))
        if bottleneck:
            shapes = {"scale": (codec.latent_dim, codec.width, 1), "decode": (codec.width, codec.latent_dim, 1)}
            for name, shape in shapes.items():
                self.tensors.setdefault(f"{CODEC}.{name}.weight", self.full(0.0, *shape))
                self.tensors.setdefault(f"{CODEC}.{name}.bias", self.full(0.0, shape[0]))


def of_later_pairs(names: Iterable[str]) -> set[str]:
    """The scale and bias of each pair that a checkpoint has neither of: it was written before the pair was there."""
    both = [{f"{kind}.{pair}" for kind in _LOGITS} for pair in PAIRS]
    return {name for pair in both if pair.isdisjoint(names) for name in pair}


def is_filler(name: str, tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether a tensor holds just what `add_missing` or `add_unread` would make up, so that it need not be kept."""
    value = 1.0 if name == _FINAL_NORM else _LOGITS.get(name.split(".")[0], 0.0)
    return tensor.dtype == dtype and bool((tensor == value).all())


class _SkipInit(TorchFunctionMode):
    """Leaves out the initialization of layers: random numbers on the meta device would import all of torch's compiler,
    seconds of it.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def skeleton(config: ModelConfig) -> PEAV | PEAFrame:
    """A model of this config whose parameters have shapes but no memory."""
    with torch.device("meta"), _SkipInit():
        return PEAV(config) if isinstance(config, PEAVConfig) else PEAFrame(config)


def parameter_shapes(config: ModelConfig) -> dict[str, torch.Size]:
    """Every parameter's name and shape in a model of this config."""
    return {name: tensor.shape for name, tensor in skeleton(config).state_dict().items()}
