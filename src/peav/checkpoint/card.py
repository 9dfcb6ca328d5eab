"""The README.md that goes with saved weights."""

from __future__ import annotations

from peav.model import PEAV, PEAFrame

_CARD = """---
library_name: peav
license: apache-2.0
tags: [audio, video, embedding, retrieval]
---

# {title}

{what} ({parameters:.1f} M parameters), saved by [peav](https://arxiv.org/abs/2512.19687) {version}.

```python
{usage}
```

Audio: 48 kHz mono. {frames}Embeddings have {width} channels and are not normalised; similarity is the dot product.
"""
_USAGE = {
    "PE-AV": 'import peav\n\nmodel = peav.load("{path}")\nclips = model.encode_audio_video(["clip.mp4"])\n'
    'peav.similarity(model.encode_text(["a dog barking"]), clips)',
    "PE-A-Frame": 'import peav\n\npeav.Detector.load("{path}").detect("clip.wav", ["a dog"])',
}


def model_card(model: PEAV | PEAFrame, path: str, version: str) -> str:
    """A short card: what it is, how to use it, what it expects."""
    kind, frames = "PE-A-Frame", ""
    if isinstance(model, PEAV):
        video = model.config.video
        kind, size = "PE-AV", video.frame_encoder.image_size
        frames = f"Video: {video.num_frames or 'all'} frames, {size} x {size}. "
    return _CARD.format(
        title=path,
        what=f"A {kind} model",
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        version=version,
        usage=_USAGE[kind].format(path=path),
        frames=frames,
        width=model.config.output_dim,
    )
