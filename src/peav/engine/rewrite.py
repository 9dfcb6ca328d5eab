"""Rewriting by a language model: weak captions in, one answer with the captions of each kind out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, create_model

from peav.engine.chat import Chat, Question
from peav.engine.clip import Answer, Clip, Sample
from peav.engine.endpoint import Endpoint
from peav.engine.prompts import load_prompt
from peav.engine.sources import NOTHING, Sources, plain
from peav.engine.stage import Stage
from peav.engine.words import words
from peav.errors import CutError
from peav.types import MODALITIES, Modality

KEYS: dict[Modality, str] = {"audio": "audio", "video": "visual", "audio_video": "audio_visual"}
"""What prompts and answers call the kinds of captions, as the paper does."""
MOST_WORDS, MOST_SPOKEN = 100, 200  # of a weak caption and of a transcript: a model that loops must not fill the prompt
_BRACKETS = str.maketrans("[]", "()")


class Client(Protocol):
    """Who is asked: `peav.engine.chat.Chat`, or anything else that answers."""

    def ask_all(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer | Exception]]:
        """Each answer by its place, its value `{"text": ...}`, in any order; an exception fails its clip alone."""


@dataclass
class Rewrite(Endpoint, Stage):  # type: ignore[override]  # Endpoint's `batch_size` is meant
    """Asks a language model for the captions of each clip; options of where it is asked are those of `Endpoint`.

    An answer that cannot be read, or is cut, is a refusal, as one that fails a check: the clip is asked about once more
    and then falls back. A clip of which nothing is known is filtered, and the model is not asked.

    Attributes:
        prompt: the name of one that ships, or the path of a text file.
        again: the second try, for clips whose rewrite in hand was refused: the model is told why.
    """

    prompt: str = "rewrite_v1"
    again: bool = False

    def __post_init__(self) -> None:
        self.check_endpoint()
        self._prompt = load_prompt(self.prompt)
        self._client: Client | None = None

    def identity(self) -> Mapping[str, Any]:
        """The model, its parameters and the prompt's text."""
        return {**super().identity(), "prompt": self._prompt.label}

    def setup(self) -> None:
        """Make the client."""
        self._client = self.client()

    def client(self) -> Client:
        """Who is to be asked."""
        return Chat(self)

    def request(self, clip: Clip) -> Any:
        """What the model is given of the clip; see the prompt. None where it is not asked again."""
        if self.again and not clip.rejected:
            return None
        sources = Sources.of(clip)
        given: dict[str, Any] = {"id": plain(clip.id)}
        for kind, key in KEYS.items():
            weak = [(_bounded(one.text, MOST_WORDS), one.confidence) for one in sources.weak[kind]]
            given[key] = [{"text": text, **({"confidence": sure} if sure else {})} for text, sure in weak]
        given["transcript"] = _bounded(sources.transcript or "", MOST_SPOKEN)
        given["write"] = [KEYS[kind] for kind in sources.kinds]
        given["rejected"] = clip.rejected if self.again else []
        return {key: value for key, value in given.items() if value or key == "write"}

    def question(self, clip: Clip) -> Question:
        """What is asked: the prompt as the system's message, which all clips share, and what is known of this one."""
        system, user = self.prompt_parts(clip)
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        return Question(messages, _schema(Sources.of(clip).kinds))

    def prompt_parts(self, clip: Clip) -> tuple[str, str]:
        """The system's message and the user's."""
        return self._prompt.text, quoted(self.request(clip))

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """The model's answer to each, as text; None for those of which nothing is known."""
        assert self._client is not None, "setup comes first"
        asked = []
        for place, sample in enumerate(batch):
            if Sources.of(sample.clip).kinds:
                asked.append(place)
            else:
                yield place, Answer(None, attempts=0)
        for number, answer in self._client.ask_all([self.question(batch[place].clip) for place in asked]):
            if isinstance(answer, Answer):  # without lone surrogates, which no file takes
                answer = replace(answer, value=answer.value["text"].encode(errors="ignore").decode())
            elif isinstance(answer, CutError):  # a small model that loops: refused, as what else it may say
                answer = Answer("")
            yield asked[number], answer

    def apply(self, clip: Clip, value: str | None) -> None:
        """Write the captions on the clip, and what is wrong with the answer into `rejected`."""
        if value is None:
            clip.filtered = NOTHING
            return
        clip.captions, clip.rejected = read(value, plain(clip.id), Sources.of(clip).kinds)
        clip.provenance = dict.fromkeys(clip.captions, f"{self._prompt.label}, {self.model}")


def read(said: str, identity: str, kinds: Iterable[Modality] = MODALITIES) -> tuple[dict[Modality, str], list[str]]:
    """The captions in an answer, and what is wrong with its form: `schema` and `id`, the first two checks.

    What stands around the JSON object is passed over, such as Markdown's fences, and so are captions that were not
    asked for.
    """
    try:
        answer = json.loads(said[said.find("{") : said.rfind("}") + 1])
    except (ValueError, RecursionError):
        return {}, ["schema: the answer is no JSON object, or is cut"]
    found = {kind: answer.get(KEYS[kind]) for kind in kinds}
    captions = {kind: plain(text) for kind, text in found.items() if isinstance(text, str) and words(plain(text))}
    reasons = []
    if missing := [KEYS[kind] for kind in found if kind not in captions]:
        reasons.append(f"schema: no text for {', '.join(missing)}")
    if answer.get("id") != identity:
        reasons.append("id: not that of the clip; copy it as it is given")
    return captions, reasons


def quoted(given: Any) -> str:
    """JSON on one line. No text in it can end its field or be taken for a mark of a chat's template: `<|im_end|>`."""
    return json.dumps(given, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e")


def _bounded(text: str, most: int) -> str:
    """A text of so many words, on one line, without the square brackets of which some chats make their marks."""
    return " ".join(plain(text).split()[:most]).translate(_BRACKETS)


class _Said(BaseModel):
    text: str


class _AsItIs(BaseModel):
    """An answer's schema that is told to the server and not held against the answer: `read` does that.

    A wrong form is a refusal here, with a second try and a fallback; for the client it would be an error.
    """

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **_: Any) -> Any:
        """The text as it is."""
        return _Said(text=json_data if isinstance(json_data, str) else json_data.decode())


@lru_cache
def _schema(kinds: tuple[Modality, ...]) -> type[BaseModel]:
    """An object with the clip's id and a text for each kind, in the order of the prompt."""
    fields: dict[str, Any] = dict.fromkeys(("id", *(KEYS[kind] for kind in kinds)), (str, ...))
    return create_model("Captions", __base__=_AsItIs, **fields)
