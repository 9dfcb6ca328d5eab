"""Asking language models: every row is asked once, or given up alone; budgets and rates hold; keys stay secret."""

from __future__ import annotations

import base64
import io
import pickle
import threading
import time
import wave
from collections import Counter
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel, ConfigDict
from stub_server import StubServer

from peav.engine import chat as module
from peav.engine.chat import Chat, Question, audio, image, text
from peav.engine.clip import Answer
from peav.engine.endpoint import BudgetError, Endpoint
from peav.engine.stage import Stage, StopAsking
from peav.errors import ChatError, RecipeError


class Caption(BaseModel):
    model_config = ConfigDict(extra="forbid")
    caption: str


def client(server: StubServer, **options: Any) -> Chat:
    return Chat(Endpoint(url=server.url, model="stub", **{"backoff": 0.01, **options}))


def ask(said: str, answer: type[BaseModel] | None = None) -> Question:
    return Question([{"role": "user", "content": said}], answer)


def ask_all(chat: Chat, rows: list[str]) -> dict[str, Answer | Exception]:
    found = {}
    for place, answer in chat.ask_all([ask(row) for row in rows]):
        assert rows[place] not in found
        found[rows[place]] = answer
    return found


ROWS = [f"row {number}" for number in range(30)]


def test_an_answer_has_the_text_and_the_tokens_as_the_server_counts_them():
    with StubServer() as server:
        assert client(server).ask(ask("a")) == Answer("about a", prompt_tokens=10, output_tokens=5, attempts=1)
    assert server.bodies == [
        {
            "model": "stub",
            "messages": [{"role": "user", "content": "a"}],
            "max_tokens": 256,
            "temperature": 0.0,
            "seed": 0,
        }
    ]


def test_parameters_are_added_to_a_request_and_none_takes_one_out():
    with StubServer() as server:
        client(server, parameters={"max_tokens": None, "max_completion_tokens": 9}).ask(ask("a"))
    assert server.bodies[0].keys() == {"model", "messages", "temperature", "seed", "max_completion_tokens"}


def test_an_url_may_be_the_whole_address():
    with StubServer() as server:
        chat = Chat(Endpoint(url=f"{server.url}/chat/completions", model="stub"))
        assert chat.ask(ask("a")).value == "about a"


def test_frames_and_sound_reach_the_server_as_they_are():
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:, 24:] = 200
    waveform = np.sin(np.arange(48_000) / 20).astype(np.float32) * 2  # beyond full scale: cut, not wrapped
    with StubServer() as server:
        client(server).ask(Question([{"role": "user", "content": [text("x"), image(pixels), audio(waveform)]}]))
    _, picture, sound = server.bodies[0]["messages"][0]["content"]
    head, data = picture["image_url"]["url"].split(",")
    assert head == "data:image/jpeg;base64"
    there = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert there.shape == pixels.shape
    assert np.abs(there[:, :16].astype(int)).max() < 8
    assert sound["input_audio"]["format"] == "wav"
    with wave.open(io.BytesIO(base64.b64decode(sound["input_audio"]["data"]))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (48_000, 1, 48_000)
        samples = np.frombuffer(file.readframes(48_000), "<i2")
    np.testing.assert_allclose(samples / 32767, np.clip(waveform, -1, 1), atol=1e-4)


def test_an_answer_by_a_schema_is_an_object_and_the_server_is_given_the_schema():
    with StubServer(lambda said: '{"caption": "A dog barks."}') as server:
        assert client(server).ask(ask("a", Caption)).value == {"caption": "A dog barks."}
    given = server.bodies[0]["response_format"]
    assert given["type"] == "json_schema"
    assert given["json_schema"]["schema"] == Caption.model_json_schema()
    assert given["json_schema"]["schema"]["additionalProperties"] is False


TRANSIENT = [408, 429, 500, 502, 503, 529, "hang", "drip", "drop", "malformed", "list", "latin", "truncated"]


@pytest.mark.parametrize("fault", [*TRANSIENT, "no choices", "no text"])
def test_what_may_pass_is_asked_again(fault: Any):
    with StubServer(faults={"a": [fault]}) as server:
        answer = client(server, timeout=0.3).ask(ask("a"))
    assert (answer.value, answer.attempts) == ("about a", 2)
    assert server.asked["a"] == 2


def test_500_four_times_and_then_an_answer():
    with StubServer(faults={"a": [500] * 4}) as server:
        assert client(server).ask(ask("a")).attempts == 5


def test_an_answer_off_the_schema_is_asked_for_again_and_its_tokens_are_paid():
    with StubServer(lambda said: '{"caption": "ok"}', {"a": ["off schema"]}) as server:
        answer = client(server).ask(ask("a", Caption))
    assert answer == Answer({"caption": "ok"}, prompt_tokens=20, output_tokens=10, attempts=2)


def test_a_model_that_never_keeps_to_the_schema_is_asked_three_times():
    says = r"not by the schema .*small model.* given up after 3 requests"
    with StubServer(lambda said: "I am only a small model") as server, pytest.raises(ChatError, match=says):
        client(server).ask(ask("a", Caption))
    assert server.asked["a"] == 3


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (400, "status 400.* check url, model and parameters"),
        (401, "status 401.* check the key in the variable that api_key_env names"),
        (404, "status 404"),
        ((307, {"Location": "http://elsewhere.test/"}), "give the url that it leads to"),
        ("cut", "cut at max_tokens=256"),
        ("huge", "more than 16 MB"),
        ((429, {"Retry-After": "3600"}), "asks to wait 3600 s"),
    ],
)
def test_what_will_not_pass_is_not_asked_again(fault: Any, says: str):
    with StubServer(faults={"a": [fault]}) as server, pytest.raises(ChatError, match=says) as caught:
        client(server).ask(ask("a"))
    assert server.asked["a"] == 1
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("by_date", [False, True])
def test_retry_after_is_waited_for_by_everyone(by_date: bool):
    # A date has whole seconds.
    after = formatdate(time.time() + 2, usegmt=True) if by_date else "0.5"
    with StubServer(faults={"a": [(429, {"Retry-After": after})]}) as server:
        chat = client(server, parallel=1)
        assert ask_all(chat, ["a"])["a"].attempts == 2
        assert chat.ask(ask("b")).value == "about b"
    assert server.times[1] - server.times[0] > 0.4


def test_nothing_is_lost_and_nothing_is_asked_twice_whatever_the_server_does():
    faults = {row: [TRANSIENT[number % len(TRANSIENT)]] for number, row in enumerate(ROWS) if number % 2}
    with StubServer(faults=faults, seconds=0.01) as server:
        found = ask_all(client(server, timeout=0.3), ROWS)
    assert {row: answer.value for row, answer in found.items()} == {row: f"about {row}" for row in ROWS}
    assert server.answered == Counter(ROWS)
    assert server.asked == Counter([*ROWS, *faults])


@pytest.mark.slow
def test_rows_give_up_alone():
    with StubServer(faults={"row 3": [500] * 9, "row 5": [400], "row 8": ["cut"]}) as server:
        found = ask_all(client(server, attempts=4), ROWS)
    failed = {row for row, answer in found.items() if isinstance(answer, Exception)}
    assert failed == {"row 3", "row 5", "row 8"}
    assert found.keys() == set(ROWS)
    assert (server.asked["row 3"], server.asked["row 5"], server.asked["row 8"]) == (4, 1, 1)
    assert all(isinstance(found[row], ChatError) for row in failed)


def test_a_question_that_cannot_be_sent_fails_its_row_alone():
    with StubServer() as server:
        questions = [ask("a"), Question([{"role": "user", "content": object()}]), ask("b")]
        found = dict(client(server).ask_all(questions))
    assert isinstance(found[1], TypeError)
    assert {found[0].value, found[2].value} == {"about a", "about b"}


@pytest.mark.slow
def test_a_server_killed_and_started_again_costs_no_row():
    first = StubServer(seconds=0.02)
    chat = client(first, parallel=2, backoff=0.1)
    threads, second = [], []

    def restart() -> None:
        first.kill()
        time.sleep(0.3)
        second.append(StubServer(port=first.port))

    found = {}
    for place, answer in chat.ask_all([ask(row) for row in ROWS]):
        found[ROWS[place]] = answer
        if len(found) == 5:
            threads.append(threading.Thread(target=restart))
            threads[0].start()
    threads[0].join()
    second[0].kill()
    assert {row: answer.value for row, answer in found.items()} == {row: f"about {row}" for row in ROWS}
    # What was in flight when it went down may be asked again; nothing else is.
    assert sum((first.answered + second[0].answered).values()) <= len(ROWS) + 2


def test_answers_come_as_they_are_there():
    with StubServer(faults={"slow": ["hang"]}) as server:
        first = next(client(server, timeout=5, parallel=2).ask_all([ask("slow"), ask("quick")]))
        assert (first[0], first[1].value) == (1, "about quick")


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [1, 4])
def test_so_many_are_in_flight_as_parallel_says(parallel: int):
    with StubServer(seconds=0.2) as server:
        ask_all(client(server, parallel=parallel), ROWS[:8])
    assert server.most == parallel


def test_no_requests_are_made_past_the_budget_and_all_answers_are_handed_on():
    found: dict[int, Answer | Exception] = {}
    with StubServer(faults={"row 1": [500]}) as server:
        chat = client(server, max_requests=10, parallel=3)
        with pytest.raises(BudgetError, match="all 10 requests of max_requests are made"):
            found.update(chat.ask_all([ask(row) for row in ROWS]))
    assert issubclass(BudgetError, StopAsking)  # the job stops, and the rows stay open
    assert sum(server.asked.values()) == 10
    assert len(found) == sum(server.answered.values())
    assert all(isinstance(answer, Answer) for answer in found.values())


def test_money_stops_the_asking_once_it_is_spent():
    # An answer costs 10 x 1 + 5 x 2 millionths of 1000 dollars: two cents.
    prices = {"input_price": 1000.0, "output_price": 2000.0, "max_dollars": 0.1}
    with StubServer() as server, pytest.raises(BudgetError, match=r"\$0.10 of max_dollars 0.1 are spent"):
        for _ in client(server, parallel=1, **prices).ask_all([ask(row) for row in ROWS]):
            pass
    assert sum(server.asked.values()) == 5


def test_a_budget_that_ends_does_not_wait_for_those_who_back_off():
    with StubServer(faults={"a": [500]}) as server:
        chat, began = client(server, max_requests=2, parallel=2, backoff=30), time.monotonic()
        with pytest.raises(BudgetError):
            list(chat.ask_all([ask("a"), ask("b"), ask("c")]))
    assert time.monotonic() - began < 25


@pytest.mark.parametrize(("option", "rate"), [("requests_per_minute", 1200), ("tokens_per_minute", 18_000)])
def test_rates_are_kept(option: str, rate: float):
    """Both rates are 20 answers a second: they have 15 tokens each."""
    with StubServer() as server:
        ask_all(client(server, parallel=1, **{option: rate}), ROWS[:9])
    assert server.times[-1] - server.times[0] >= 8 / 20 - 0.01


def test_workers_share_budgets_and_rates():
    endpoint = Endpoint(url="http://x/v1", model="m", requests_per_minute=60, max_requests=5, max_dollars=3.0)
    endpoint.shared_by(2)
    assert (endpoint.requests_per_minute, endpoint.tokens_per_minute) == (30, None)
    assert (endpoint.max_requests, endpoint.max_dollars) == (2, 1.5)


def test_a_key_comes_from_the_environment_and_no_message_shows_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUB_KEY", "sk-very-secret\n")
    with StubServer(faults={"a": [401], "b": [500] * 2}) as server:  # the stub repeats it in its errors
        chat = client(server, api_key_env="STUB_KEY", attempts=2)
        for row in ("a", "b"):
            with pytest.raises(ChatError) as caught:
                chat.ask(ask(row))
            assert "no, Bearer ***" in str(caught.value)
            assert "secret" not in f"{caught.value!r} {caught.value.__cause__!r} {chat.endpoint!r}"
    assert server.headers[0]["Authorization"] == "Bearer sk-very-secret"


def test_a_missing_key_and_one_that_no_header_can_hold_are_said_without_showing_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("STUB_KEY", raising=False)
    endpoint = Endpoint(url="http://127.0.0.1/v1", model="m", api_key_env="STUB_KEY")
    with pytest.raises(RecipeError, match="there is no STUB_KEY in the environment"):
        Chat(endpoint)
    monkeypatch.setenv("STUB_KEY", "sk-\nsecret")
    with pytest.raises(RecipeError, match="copy the key again") as caught:
        Chat(endpoint)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "127.0.0.1:8000"}, "url is no address"),
        ({"url": "http://127.0.0.1:port/v1?key=secret"}, "url is no address"),
        ({"url": "http://host/v1 ?key=secret"}, "url is no address"),
        ({"url": "http://me:secret@host/v1"}, "holds a password"),
        ({"parallel": 0}, "parallel must be above 0"),
        ({"max_dollars": 1.0}, "max_dollars needs input_price"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], says: str):
    with pytest.raises(RecipeError, match=says) as caught:
        Chat(Endpoint(**{"url": "http://127.0.0.1:8000/v1", "model": "m", **options}))
    assert "secret" not in str(caught.value)


@dataclass
class Asks(Endpoint, Stage):
    pass


def test_answers_depend_on_the_model_and_not_on_where_and_how_fast_it_is_asked():
    stage = Asks("x", url="http://a/v1", model="m", api_key_env="KEY", parallel=2)
    there = Asks("x", url="http://b/v1", model="m", max_dollars=2.0, input_price=1.0, attempts=3)
    assert stage.identity() == there.identity()
    assert stage.identity().keys() == {"class", "name", "model", "max_tokens", "temperature", "seed", "parameters"}
    assert stage.batch_size == 8


def test_a_slow_body_is_not_waited_for_longer_than_the_time_out():
    with StubServer(faults={"a": ["drip"] * 2}) as server:
        began = time.monotonic()
        with pytest.raises(ChatError, match=r"not whole after 0.3 s"):
            client(server, timeout=0.3, attempts=2).ask(ask("a"))
    assert time.monotonic() - began < 9


def test_the_waits_between_requests_grow_and_differ(monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []

    class Over(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return False

    with StubServer(faults={"a": [500] * 9}) as server:
        chat = client(server, backoff=8.0, attempts=6)
        chat._meter.over = Over()
        with pytest.raises(ChatError):
            chat.ask(ask("a"))
    assert all(0.5 * part <= wait <= 1.5 * part for wait, part in zip(waits, [8, 16, 32, 60, 60], strict=True))
    assert len({wait / part for wait, part in zip(waits, [8, 16, 32, 60, 60], strict=True)}) == 5
    assert module.LONGEST_BACKOFF == 60
