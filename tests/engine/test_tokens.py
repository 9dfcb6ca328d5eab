"""Tokens are counted with a model's own tokenizer; without one, the count is marked as an estimate."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from peav.engine.tokens import count_tokens
from peav.errors import CheckpointError, RecipeError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "dog": 1, "barks": 2, "[CLS]": 3, "?": 4}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A", special_tokens=[("[CLS]", 3)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_tokenizer_counts_exactly_from_its_folder_or_its_file(folder: Path):
    assert count_tokens("a dog barks", folder) == (3, False)  # without what a template puts around it
    assert count_tokens("a dog barks", folder / "tokenizer.json") == (3, False)


def test_without_a_tokenizer_it_is_an_estimate_and_says_so():
    count, is_estimate = count_tokens("A dog barks twice and a man laughs in a small room.")
    assert is_estimate
    assert 8 <= count <= 18
    assert count_tokens("") == (0, True)


def test_a_tokenizer_that_is_not_there_or_is_none_is_an_error(tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(RecipeError, match=r"cannot be read .*give a tokenizer\.json"):
        count_tokens("a", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match="cannot be read"):
        count_tokens("a", tmp_path / "empty")
    with pytest.raises(CheckpointError, match="no directory 'nowhere'"):
        count_tokens("a", "nowhere")
