"""The README.md that goes with saved weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from textwrap import indent
from typing import Any

from peav.model import PEAV, PEAFrame
from peav.model.pairs import PAIRS, Embedding
from peav.utils.text import counted

from . import files

_CARD = """---
library_name: peav
pipeline_tag: feature-extraction
tags: [audio, video, text, embedding, retrieval, PE-AV]
---

# {title}

A {kind} model ({parameters:.1f} M parameters), saved by [peav](https://arxiv.org/abs/2512.19687) {version}.

```python
{usage}
```

Audio: 48 kHz mono. {frames}Embeddings have {width} channels and are not normalized; similarity is the dot product.
"""
_LOAD = re.compile(r'(peav\.(?:Detector\.)?load)\("[^"]*"\)')
# What a card says of the data: an item of a list, or sections that `model_card` wrote.
_DATA = re.compile(
    r"^(?:- \*\*Data\*\*|## (?:Training|Licenses of the training data)$).*?(?=^- \*\*|^## |\Z)",
    re.MULTILINE | re.DOTALL,
)
_LICENSE = re.compile(r"^license: *(.+)$", re.MULTILINE)
_TITLE = re.compile(r"^# .*$", re.MULTILINE)


def model_card(
    model: PEAV | PEAFrame,
    title: str,
    path: str,
    *,
    figures: Mapping[str, Mapping[str, float]] | None = None,
    licenses: Mapping[str, int] | None = None,
    pairs: Sequence[str] = (),
    base: str | None = None,
    base_card: str | None = None,
) -> str:
    """A short card: what it is, how to use it, what it expects, and of a model that was trained how good it is.

    Args:
        title: what the model is called.
        path: what `peav.load` is to be given: a directory or a hub name.
        figures: shares of 1 by split and name, such as `{"test": {"t2av": 0.47, "chance": 0.004}}`.
        licenses: of the clips that it was trained on: how many there are of each.
        pairs: that it was trained on, by name, see `peav.model.pairs`; the snippet shows one of them.
        base: the checkpoint that training began with.
        base_card: its card, where it is at hand; what this says of data and licenses is quoted.
    """
    kind, frames = "PE-A-Frame", ""
    if isinstance(model, PEAV):
        video = model.config.video
        kind, size = "PE-AV", video.frame_encoder.image_size
        frames = f"Video: {counted(video.num_frames, 'frame') if video.num_frames else 'all frames'}, {size} x {size}. "
    card = _CARD.format(
        title=title,
        kind=kind,
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        version=version("peav"),
        usage=f"import peav\n\n{_usage(pairs or tuple(PAIRS)) if kind == 'PE-AV' else _DETECT}".format(path=path),
        frames=frames,
        width=model.config.output_dim,
    )
    return card + _training(pairs, base, base_card) + figures_table(figures or {}) + licenses_list(licenses or {})


def read_card(directory: Path) -> str | None:
    """The card in a checkpoint directory, if there is one."""
    path = directory / files.CARD
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def renamed(card: str, title: str, path: str) -> str:
    """The same card for the same model under another name."""
    return _LOAD.sub(lambda match: f'{match[1]}("{path}")', _TITLE.sub(lambda _: f"# {title}", card, count=1))


_DETECT = 'peav.Detector.load("{path}").detect("clip.wav", ["a dog"])'


def _usage(pairs: Sequence[str]) -> str:
    """How to compare both sides of a pair: one with words where there is one, of sound and pictures first."""
    table = [PAIRS[name] for name in pairs]
    pair = min(table, key=lambda one: (one.target.caption is None, one.query.modality != "audio_video"))
    lines = ('model = peav.load("{path}")', f"clips = {_encoded(pair.query)}")
    return "\n".join([*lines, f"peav.similarity({_encoded(pair.target)}, clips)"])


def _encoded(side: Embedding) -> str:
    if side.modality is None:
        return f'model.encode_text(["a dog barking"], space="{side.head.removeprefix("text_")}")'
    file = "clip.wav" if side.modality == "audio" else "clip.mp4"
    words = "" if side.caption is None else ', text=["a dog in a garden"]'
    return f'model.encode_{side.modality}(["{file}"]{words})'


def _training(pairs: Sequence[str], base: str | None, base_card: str | None) -> str:
    text = ""
    if base is not None:
        license_ = _LICENSE.search(base_card or "")
        said = "\n".join(match[0].rstrip() for match in _DATA.finditer(base_card or ""))
        text = f"\nIt began with `{base}`{f' (license: {license_[1]})' if license_ else ''}. "
        text += "What that was trained on, and under which licenses, its own card says"
        text += ":\n\n" + indent(said, "> ", lambda line: True) + "\n" if said else ".\n"
    if pairs:
        names = "".join(f"- `{name}`: {_said(PAIRS[name].query)}, {_said(PAIRS[name].target)}\n" for name in pairs)
        text += f"\nTrained on {'this pair' if len(pairs) == 1 else 'these pairs'}:\n\n{names}"
    return f"\n## Training\n{text}" if text else ""


def _said(side: Embedding) -> str:
    parts = (side.modality, side.caption and f"{side.caption} caption")
    return " with ".join(part.replace("_", "-") for part in parts if part)


def figures_table(splits: Mapping[str, Mapping[str, Any]]) -> str:
    """A section with figures, shares of 1, by split; nothing where there are none."""
    names = dict.fromkeys(name for figures in splits.values() for name in figures)
    if not names:
        return ""
    head = f"| figure | {' | '.join(splits)} |\n|---|{'---|' * len(splits)}\n"
    rows = (
        f"| {name} | {' | '.join(f'{100 * s[name]:.1f} %' if name in s else '' for s in splits.values())} |\n"
        for name in names
    )
    return f"\n## Figures\n\nOn clips that it was not trained on.\n\n{head}{''.join(rows)}"


def licenses_list(counts: Mapping[str, int]) -> str:
    """A section with how many clips of each license trained a model; nothing where none did."""
    if not counts:
        return ""
    rows = "".join(
        f"- {name}: {counted(count, 'clip')}\n" for name, count in sorted(counts.items(), key=lambda pair: -pair[1])
    )
    return f"\n## Licenses of the training data\n\n{rows}"
