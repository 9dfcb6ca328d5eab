"""The README.md that goes with saved weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peav.model import PEAV, PEAFrame
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
_USAGE = {
    "PE-AV": 'import peav\n\nmodel = peav.load("{path}")\nclips = model.encode_audio_video(["clip.mp4"])\n'
    'peav.similarity(model.encode_text(["a dog barking"]), clips)',
    "PE-A-Frame": 'import peav\n\npeav.Detector.load("{path}").detect("clip.wav", ["a dog"])',
}
_LOAD = re.compile(r'(peav\.(?:Detector\.)?load)\("[^"]*"\)')
_TITLE = re.compile(r"^# .*$", re.MULTILINE)


def model_card(
    model: PEAV | PEAFrame,
    title: str,
    path: str,
    *,
    figures: Mapping[str, Mapping[str, float]] | None = None,
    licenses: Mapping[str, int] | None = None,
) -> str:
    """A short card: what it is, how to use it, what it expects, and of a model that was trained how good it is.

    Args:
        title: what the model is called.
        path: what `peav.load` is to be given: a directory or a hub name.
        figures: shares of 1 by split and name, such as `{"test": {"t2av": 0.47, "chance": 0.004}}`.
        licenses: of the clips that it was trained on: how many there are of each.
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
        usage=_USAGE[kind].format(path=path),
        frames=frames,
        width=model.config.output_dim,
    )
    return card + _figures(figures or {}) + _licenses(licenses or {})


def read_card(directory: Path) -> str | None:
    """The card in a checkpoint directory, if there is one."""
    path = directory / files.CARD
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def renamed(card: str, title: str, path: str) -> str:
    """The same card for the same model under another name."""
    return _LOAD.sub(lambda match: f'{match[1]}("{path}")', _TITLE.sub(lambda _: f"# {title}", card, count=1))


def _figures(splits: Mapping[str, Mapping[str, Any]]) -> str:
    names = dict.fromkeys(name for figures in splits.values() for name in figures)
    if not names:
        return ""
    head = f"| figure | {' | '.join(splits)} |\n|---|{'---|' * len(splits)}\n"
    rows = (
        f"| {name} | {' | '.join(f'{100 * s[name]:.1f} %' if name in s else '' for s in splits.values())} |\n"
        for name in names
    )
    return f"\n## Figures\n\nOn clips that it was not trained on.\n\n{head}{''.join(rows)}"


def _licenses(counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    rows = "".join(
        f"- {name}: {counted(count, 'clip')}\n" for name, count in sorted(counts.items(), key=lambda pair: -pair[1])
    )
    return f"\n## Licenses of the training data\n\n{rows}"
