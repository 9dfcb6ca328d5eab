"""The captioner `openai`: what it sends of a clip, and what it says of itself."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stub_server import StubServer

from peav.data.manifest import Row
from peav.engine.captioners.openai import OpenAI
from peav.engine.clip import Clip, Sample
from peav.engine.endpoint import BudgetError
from peav.engine.prompts import load_prompt
from peav.engine.stage import STAGES, Stage, identity_of, request_key
from peav.errors import ChatError, RecipeError
from peav.features.decode import Decoded
from peav.utils.plugins import load_class


def sample(name: str, frames: np.ndarray | None = None, waveform: np.ndarray | None = None) -> Sample:
    return Sample(Clip(name, Row(id=name)), Decoded(waveform, frames))


def pictures() -> np.ndarray:
    """Sixteen frames, each of one gray, so that they can be told apart."""
    return np.stack([np.full((32, 32, 3), 16 * place, np.uint8) for place in range(16)])


def captioner(server: StubServer, **options: Any) -> OpenAI:
    stage = OpenAI("seen", **{"url": server.url, "model": "stub", "kind": "video", "backoff": 0.01, **options})
    stage.setup()
    return stage


def test_it_is_a_stage_that_recipes_can_name():
    assert load_class("openai", Stage, STAGES) is OpenAI


def test_frames_are_sent_evenly_over_the_clip_after_the_prompt():
    with StubServer(lambda said: " A train. ") as server:
        assert [(place, answer.value) for place, answer in captioner(server, frames=4)([sample("a", pictures())])] == [
            (0, "A train.")
        ]
    prompt, *frames = server.bodies[0]["messages"][0]["content"]
    assert prompt == {"type": "text", "text": load_prompt("caption_video_v1").text}
    data = [base64.b64decode(part["image_url"]["url"].split(",")[1]) for part in frames]
    grays = [np.asarray(Image.open(io.BytesIO(one))).mean() for one in data]
    np.testing.assert_allclose(grays, [0, 80, 160, 240], atol=2)


@pytest.mark.parametrize(
    ("kind", "parts"),
    [("audio", ["text", "input_audio"]), ("audio_video", ["text", "image_url", "image_url", "input_audio"])],
)
def test_kind_says_what_is_sent(kind: str, parts: list[str], tmp_path: Path):
    (tmp_path / "mine.txt").write_text("Say what happens.")
    with StubServer() as server:
        stage = captioner(server, kind=kind, frames=2, prompt=str(tmp_path / "mine.txt"))
        list(stage([sample("a", pictures(), np.zeros(4800, np.float32))]))
    assert [part["type"] for part in server.bodies[0]["messages"][0]["content"]] == parts


def test_a_clip_without_the_stream_is_not_asked_about_and_others_fail_alone():
    clips = [sample("a", waveform=np.zeros(480, np.float32)), sample("b", pictures()), sample("c", pictures()[:1])]
    words = load_prompt("caption_video_v1").text
    with StubServer(faults={words: [400]}) as server:
        found = dict(captioner(server, parallel=1)(clips))
    assert (found[0].value, found[0].attempts) == ("", 0)
    assert isinstance(found[1], ChatError)
    assert found[2].value == f"about {words}"
    assert sum(server.asked.values()) == 2


def test_the_budget_stops_the_step_with_the_answers_kept():
    found = {}
    with StubServer() as server:
        stage = captioner(server, max_requests=3, parallel=1)
        with pytest.raises(BudgetError):
            found.update(stage([sample("a", pictures()) for _ in range(5)]))
    assert sum(server.asked.values()) == 3


def test_a_weak_caption_names_its_model_and_its_prompt():
    clip = Clip("a", Row(id="a"))
    stage = OpenAI("seen", url="http://x/v1", model="big", kind="video")
    stage.apply(clip, "A train.")
    weak = clip.weak["seen"]
    assert (weak.text, weak.kind, weak.model) == ("A train.", "video", "big")
    assert weak.prompt == f"caption_video_v1@{load_prompt('caption_video_v1').hash}"


def test_what_is_asked_changes_with_the_prompts_text_and_not_with_its_place(tmp_path: Path):
    def key(folder: str, text: str, **options: Any) -> str:
        path = tmp_path / folder / "mine.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        stage = OpenAI("seen", **{"url": "http://x/v1", "model": "m", "prompt": str(path), **options})
        return request_key(identity_of(stage), stage.request(Clip("a", Row(id="a"))), "media")

    assert key("one", "Say it.") == key("two", "Say it.") == key("one", "Say it.", parallel=3, url="https://y/v1")
    assert len({key("one", "Say it."), key("one", "Say it!"), key("one", "Say it.", model="n")}) == 3
    assert key("one", "Say it.", frames=3) == key("one", "Say it.")  # a captioner of sound sends none


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"frames": 17}, "frames must be 1 to 16"),
        ({"kind": "audio_video"}, "no prompt ships for audio_video"),
        ({"prompt": "caption_video_v0"}, "caption_video_v1"),
        ({"url": "localhost"}, "url is no address"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_asked(options: dict[str, Any], says: str):
    with pytest.raises(RecipeError, match=says):
        OpenAI("seen", **{"url": "http://x/v1", "model": "m", "kind": "video", **options})
