"""What a step of the engine is: a small class on batches of clips, the same on one machine and on a cluster."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from peav.engine.clip import Answer, Clip, Sample
from peav.errors import PeavError

# Short names of the classes that a recipe may give; any other is path/to/file.py:Class.
STAGES: dict[str, str] = {
    "silence": "peav.engine.filters:Silence",
    "static": "peav.engine.filters:Static",
    "duration": "peav.engine.filters:Duration",
    "license": "peav.engine.filters:License",
    "hashes": "peav.engine.hashes:Hashes",
    "embedding": "peav.engine.embedding:Embedding",
    "mismatch": "peav.engine.embedding:Mismatch",
    "similarity": "peav.engine.score:Similarity",
    "clap": "peav.engine.score:Clap",
    "openai": "peav.engine.captioners.openai:OpenAI",
    "transformers": "peav.engine.captioners.transformers:Transformers",
    "llm": "peav.engine.rewrite:Rewrite",
    "template": "peav.engine.template:Template",
    "tagger": "peav.engine.captioners.tagger:Tagger",
    "audio_tagger": "peav.engine.captioners.audio_tagger:AudioTagger",
    "asr": "peav.engine.captioners.asr:Asr",
    "command": "peav.engine.captioners.command:Command",
    "earlier": "peav.engine.captioners.earlier:Earlier",
    "plm_av": "peav.engine.captioners.plm_av:PlmAv",
    "agreement": "peav.engine.agreement:Agreement",
}

OUTSIDE = {"outside": True}
"""Metadata of a field that answers do not depend on: addresses, keys, numbers of workers."""
BAR = {"outside": True, "bar": True}
"""Metadata of a field that answers do not depend on, but what is made of them does: where a measure is good enough."""


@dataclass
class Stage:
    """A step: asks something about each clip, and writes the answer on it.

    A subclass is a dataclass: its fields are its options in a recipe. What it answers must depend on nothing but
    `identity` and `request`, since answers are kept in the run's journal under the hash of both, and a clip whose
    answer is there is not asked about again.

    Attributes:
        name: of the step in a recipe, where there may be several of one class.
        needs: the streams to decode, of `audio` and `video`.
        batch_size: clips a call.
        seconds, gpu_seconds: that a worker, and a GPU, takes for one clip: what a dry run counts with. None: what the
            run's journals have measured is taken for the worker's.
        journaled: False for what is a quick function of the clip alone: it is worked out again each time, one clip a
            call.
    """

    name: str
    seconds: float | None = field(default=None, metadata=OUTSIDE, kw_only=True)
    gpu_seconds: float | None = field(default=None, metadata=OUTSIDE, kw_only=True)
    needs: ClassVar[frozenset[str]] = frozenset()
    batch_size: ClassVar[int] = 16
    journaled: ClassVar[bool] = True

    def identity(self) -> Mapping[str, Any]:
        """What every answer depends on: by default the class and all options but those marked `OUTSIDE` or `BAR`.

        A model's name and version, and the sha256 of a prompt's text, belong here. Cheap: no model is loaded.
        """
        own = {one.name: getattr(self, one.name) for one in fields(self) if not one.metadata.get("outside")}
        return {"class": type(self).__name__, **own}

    def bars(self) -> dict[str, Any]:
        """The options marked `BAR`: where they change, nothing is asked again, and clips end anew."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.metadata.get("bar")}

    def setup(self) -> None:
        """Load what is needed to answer; called once in a worker, and only where there is something to ask."""

    def request(self, clip: Clip) -> Any:  # noqa: ARG002
        """What of a clip its answer depends on besides `identity`, as JSON; None: this clip is not asked about.

        The media are told apart by the engine, for stages that `need` them.
        """
        return {}

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """Answer for each sample by its place, in any order, each as soon as it is there.

        An exception fails its clip alone; one that is raised fails all clips not answered yet, but for `StopAsking`.
        """
        raise NotImplementedError

    def apply(self, clip: Clip, value: Any) -> None:
        """Write an answer's value on its clip: `weak`, `measures`, `captions`, `filtered`."""
        raise NotImplementedError


_SORTED = json.JSONEncoder(sort_keys=True, ensure_ascii=False)  # made once: there is a key for each clip and stage


def identity_of(stage: Stage) -> str:
    """A stage's identity as one text."""
    return json.dumps(stage.identity(), sort_keys=True, ensure_ascii=False, default=str)


def request_key(identity: str, request: Any, media: str) -> str:
    """The hash under which an answer is kept; `media` tells the clip's decoded streams, empty where none are needed."""
    said = _SORTED.encode([identity, request, media])
    return hashlib.sha256(said.encode(errors="surrogatepass")).hexdigest()[:32]


class StopAsking(PeavError):
    """A stage cannot go on with any clip, such as when a budget is spent: the job stops, what is answered is kept."""
