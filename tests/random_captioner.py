"""A captioner of random weights: the encoder `nano` and a language model of two small layers, with a tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch
from random_model import random_encoder

WORDS = ["a dog barks in the yard", "rain falls on a roof", "Describe what is heard and seen.", "List the sounds."]
TEMPLATE = "{% for m in messages %}<user>{{ m['content'] }}<end>{% endfor %}<assistant>"


def save_language_model(folder: Path, seed: int = 0, template: str | None = TEMPLATE) -> Path:
    """A small random Llama in transformers' layout."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    own = Tokenizer(models.BPE())
    own.pre_tokenizer, own.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<pad>", "<end>", "<user>", "<assistant>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    own.train_from_iterator(
        WORDS, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, eos_token="<end>", pad_token="<pad>")
    tokenizer.chat_template = template
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, eos_token_id=1, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_encoder(folder: Path, seed: int = 0) -> Path:
    """The preset `nano` with random weights, in our layout."""
    random_encoder(seed).save_pretrained(folder)
    return folder


def save_parts(folder: Path) -> Path:
    """An encoder in `folder/encoder` and a language model in `folder/language`; the folder."""
    save_language_model(folder / "language")
    save_encoder(folder / "encoder")
    return folder


def save_captioner(folder: Path) -> Path:
    """A captioner of random weights with its two parts beside it; its directory."""
    from peav.captioner import Captioner
    from peav.encoder import Encoder
    from peav.inference.language_model import LanguageModel
    from peav.model import PLM, PLMConfig

    save_parts(folder)
    encoder = Encoder.from_pretrained(folder / "encoder", device="cpu")
    language = LanguageModel.load(folder / "language")
    model = PLM(encoder.model, language.model, PLMConfig(audio_stride=3), seed=1)
    Captioner(model, encoder, language).save_pretrained(folder / "captioner")
    return folder / "captioner"
