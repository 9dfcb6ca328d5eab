"""What `Encoder` and `Detector` share: a model with its tokenizer, its name and its id, loaded, saved and uploaded."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from tokenizers import Tokenizer
from torch import Tensor

from peav.checkpoint import load_model, load_tokenizer, resolve, save_pretrained
from peav.checkpoint.card import read_card, renamed
from peav.checkpoint.convert import read_model_id
from peav.checkpoint.files import read_postprocessing
from peav.checkpoint.hub import full_name
from peav.checkpoint.identity import id_of
from peav.errors import CheckpointError
from peav.inference.text import text_states
from peav.model import PEAV, PEAFrame

logger = logging.getLogger(__name__)
M = TypeVar("M", PEAV, PEAFrame)

if hasattr(os, "register_at_fork"):
    # A forked process has none of OpenMP's threads and would wait for them for ever: it computes with one of its own.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


class Pretrained(Generic[M]):
    """A model in eval mode, its tokenizer, and what it is called."""

    _kind: ClassVar[type]
    _other: ClassVar[str]  # what to say of a checkpoint of the other kind

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Load a checkpoint; arguments and errors as of `peav.load`."""
        target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        directory = resolve(name, revision, cache_dir=cache_dir)
        model = load_model(directory, device=target, dtype=dtype)
        if not isinstance(model, cls._kind):
            raise CheckpointError(f"{os.fspath(name)}: {cls._other}")
        tokenizer = load_tokenizer(directory, model.config.text.vocab_size)
        loaded = cls(model, tokenizer, full_name(name, revision))  # type: ignore[arg-type]
        loaded._directory = directory
        loaded._postprocessing = read_postprocessing(directory)
        logger.info("loaded %s from %s on %s", loaded.name, directory, target)
        return loaded

    def __init__(self, model: M, tokenizer: Tokenizer | None = None, name: str = "model") -> None:
        self.model: M = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self._directory: Path | None = None  # that the weights came from
        self._id: str | None = None
        self._postprocessing: dict[str, Any] | None = None  # of a PE-A-Frame model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def model_id(self) -> str:
        """A hash of all weights and the config: equal ids mean comparable results, whatever the models are called.

        Of a checkpoint it is that of its files, whatever dtype it was loaded in; of a model that was made in memory,
        that of its weights as they are.
        """
        if self._directory is None:
            return id_of(self.model)
        if self._id is None:
            self._id = read_model_id(self._directory)
        return self._id

    def save_pretrained(self, directory: str | os.PathLike[str], *, name: str | None = None) -> None:
        """Write `config.json`, `model.safetensors`, `tokenizer.json` and a model card, for loading from `directory`.

        Args:
            name: what the card calls the model; None: the directory's name. The card that an unchanged model was loaded
                with goes with it.
        """
        self._save(Path(directory), name or Path(directory).resolve().name, os.fspath(directory))

    def push_to_hub(self, repo_id: str, *, private: bool = False, revision: str | None = None) -> str:
        """Upload the model to the Hugging Face hub under the login of `hf auth login`; returns the commit's address.

        The card is called `repo_id`.
        """
        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self._save(Path(folder), repo_id, repo_id)
            commit = api.upload_folder(repo_id=repo_id, folder_path=folder, revision=revision)
        return str(commit.commit_url)

    def _save(self, folder: Path, title: str, path: str) -> None:
        card = None if self._directory is None else read_card(self._directory)
        # A card tells of its weights: changed ones must not go out under the figures of the old.
        kept = renamed(card, title, path) if card is not None and self.model_id == id_of(self.model) else None
        save_pretrained(
            self.model,
            folder,
            self.tokenizer,
            name=title,
            path=path,
            card=kept,
            postprocessing=self._postprocessing,
        )

    def _text_states(self, texts: Sequence[str], batch_size: int, show_progress: bool = False) -> Tensor:
        """The text tower's states (n, D). Raises CheckpointError without a tokenizer."""
        if self.tokenizer is None:
            raise CheckpointError(
                f"{self.name} has no tokenizer.json, so it takes no text; add the one it was trained with"
            )
        return text_states(self.model, self.tokenizer, texts, batch_size, show_progress)
