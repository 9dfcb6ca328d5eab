"""Asks language models behind any OpenAI-compatible endpoint: vLLM, llama.cpp, SGLang, Ollama, and the paid ones.

Over Python's own HTTP, since no client is sure to be there: huggingface_hub brings httpx, or httpx2, or requests.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import queue
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import numpy as np
from pydantic import BaseModel, ValidationError

from peav.engine.clip import Answer
from peav.engine.endpoint import BudgetError, Endpoint, Meter, api_key
from peav.errors import ChatError, CutError
from peav.utils.checks import shown
from peav.utils.text import decode, parse_json

LARGEST_BODY = 16 << 20  # bytes of one answer
LONGEST_WAIT = 300.0  # seconds: a server that asks for more is not waited for
LONGEST_BACKOFF = 60.0  # seconds between two requests of one row, where the server says nothing
MOST_ANSWERS = 3  # of one row that are not as asked: each is paid for, and the next is likely no better
_AGAIN = (408, 429)  # and every 5xx


@dataclass(frozen=True)
class Question:
    """What is asked of a model about one clip.

    Attributes:
        messages: as the API has them; see `text`, `image` and `audio`.
        answer: a pydantic model that the answer must be; the server is given its JSON schema. None: any text.
    """

    messages: Sequence[dict[str, Any]]
    answer: type[BaseModel] | None = None


def text(said: str) -> dict[str, Any]:
    """A part of a message in words."""
    return {"type": "text", "text": said}


def image(pixels: np.ndarray) -> dict[str, Any]:
    """A part of a message that is a picture (H, W, 3) uint8, as JPEG."""
    from PIL import Image

    Image.fromarray(pixels).save(buffer := io.BytesIO(), "JPEG", quality=90)
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{_base64(buffer)}"}}


def audio(waveform: np.ndarray) -> dict[str, Any]:
    """A part of a message that is sound (S,) float32 at 48 kHz, as a WAV file of 16 bits; what is beyond 1 is cut."""
    from peav.media.write import write_media

    samples = np.round(np.clip(waveform, -1, 1) * 32767).astype(np.int16)
    write_media(buffer := io.BytesIO(), "wav", audio=[samples])
    return {"type": "input_audio", "input_audio": {"data": _base64(buffer), "format": "wav"}}


def _base64(buffer: io.BytesIO) -> str:
    return base64.b64encode(buffer.getvalue()).decode()


class _Again(ChatError):
    """Asking once more may help; not before `after` seconds have passed."""

    after = 0.0


class _NoRedirects(HTTPRedirectHandler):
    """A redirect is an error: another server would be sent the key."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Chat:
    """A client of one endpoint, for any number of threads.

    Raises RecipeError where the variable of the key is not set.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        endpoint.check_endpoint()
        self.endpoint = endpoint
        self._key = api_key(endpoint.api_key_env)
        parts = urlsplit(endpoint.url)
        path = parts.path.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        self._url = urlunsplit(parts._replace(path=path))
        self._where = f"{endpoint.model} at {parts.hostname}"  # neither path nor query: they may hold a key
        self._meter = Meter(endpoint)
        self._opener = build_opener(_NoRedirects)

    def ask(self, question: Question) -> Answer:
        """The answer to one question: a string, or an object by the question's model; asks again where that may help.

        Its tokens are the server's count, over all attempts that were answered.

        Raises:
            ChatError: there is none; this row is given up.
            BudgetError: there is nothing left to ask it with.
        """
        body, prompt, output, answers = self._body(question), 0, 0, 0
        for attempt in itertools.count(1):
            self._meter.start()
            try:
                reply = self._post(body)
                asked, said = _usage(reply)
                self._meter.pay(asked, said)
                prompt, output, answers = prompt + asked, output + said, answers + 1
                return Answer(self._value(reply, question), prompt, output, attempt)
            except _Again as error:
                if error.after > LONGEST_WAIT:
                    raise ChatError(f"{error}; it asks to wait {error.after:.0f} s, which is too long") from error
                if attempt >= self.endpoint.attempts or answers >= MOST_ANSWERS:
                    raise ChatError(f"{error}; given up after {attempt} requests") from error
                self._meter.pause(error.after)
                wait = min(self.endpoint.backoff * 2 ** (attempt - 1), LONGEST_BACKOFF)
                # Of any length to one and a half, so that those who failed together do not come back together.
                self._meter.over.wait(max(error.after, wait * random.uniform(0.5, 1.5)))
        raise AssertionError("counts for ever")

    def ask_all(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer | Exception]]:
        """Ask all, `parallel` at once: each answer by its place, or why there is none, as it comes.

        Raises BudgetError once all that was in flight has been handed on; the places that are left were not answered.
        """
        todo, lock = iter(range(len(questions))), threading.Lock()
        done: queue.SimpleQueue[tuple[int, Answer | Exception] | BudgetError | None] = queue.SimpleQueue()
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                with lock:
                    place = next(todo, None)
                if place is None:
                    break
                try:
                    done.put((place, self.ask(questions[place])))
                except BudgetError as error:
                    stop.set()
                    done.put(error)
                except Exception as error:  # fails this row alone, whatever it is
                    done.put((place, error))
            done.put(None)

        working = min(self.endpoint.parallel, len(questions))
        for _ in range(working):  # daemons: Ctrl-C does not wait for what is in flight
            threading.Thread(target=work, daemon=True).start()
        over = None
        try:
            while working:
                found = done.get()
                if found is None:
                    working -= 1
                elif isinstance(found, BudgetError):
                    over = found
                else:
                    yield found
        finally:
            stop.set()
        if over is not None:
            raise over

    def _body(self, question: Question) -> bytes:
        mine = self.endpoint
        body: dict[str, Any] = {"model": mine.model, "messages": list(question.messages), "max_tokens": mine.max_tokens}
        body |= {"temperature": mine.temperature, "seed": mine.seed}
        if question.answer is not None:
            named = {"name": "answer", "strict": True, "schema": question.answer.model_json_schema()}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        body |= mine.parameters
        return json.dumps({name: value for name, value in body.items() if value is not None}).encode()

    def _post(self, body: bytes) -> dict[str, Any]:
        """Send a request; what the server answers. Raises ChatError, `_Again` where another request may help."""
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = Request(self._url, body, headers)
        try:
            with self._opener.open(request, timeout=self.endpoint.timeout) as response:
                data = self._read(response)
        except HTTPError as error:
            with error:
                raise self._refused(error) from None
        except (OSError, HTTPException) as error:
            raise _Again(f"{self._where}: no answer ({self._safe(str(error) or type(error).__name__)})") from None
        reply = parse_json(decode(data, self._where, _Again), self._where, _Again)
        if not isinstance(reply, dict):
            raise _Again(f"{self._where}: answered {self._safe(shown(reply))}, not an object")
        return reply

    def _read(self, response: Any) -> bytes:
        """The body, however slowly it comes: the time-out of a socket begins anew with each byte."""
        data, deadline = bytearray(), time.monotonic() + self.endpoint.timeout
        while part := response.read1(1 << 16):
            data += part
            if len(data) > LARGEST_BODY:
                raise ChatError(f"{self._where}: an answer of more than {LARGEST_BODY >> 20} MB; is it the right url?")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not whole after {self.endpoint.timeout:g} s")
        return bytes(data)

    def _refused(self, error: HTTPError) -> ChatError:
        """What a status other than 200 means."""
        try:
            said = error.read(2000).decode(errors="replace")
        except (OSError, HTTPException) as broken:
            said = str(broken)
        message = f"{self._where}: status {error.code}: {self._safe(' '.join(said.split()))[:300]}"
        if error.code in _AGAIN or error.code >= 500:
            again = _Again(message)
            again.after = _retry_after(error.headers.get("Retry-After"))
            return again
        if error.code in (401, 403):
            return ChatError(f"{message}; check the key in the variable that api_key_env names")
        if error.code < 400:
            return ChatError(f"{message}; it is elsewhere: give the url that it leads to")
        return ChatError(f"{message}; check url, model and parameters")

    def _value(self, reply: dict[str, Any], question: Question) -> Any:
        """The text of an answer, or its object. Raises ChatError, `_Again` where it is not what was asked for."""
        try:
            choice = reply["choices"][0]
            content, finished = choice["message"]["content"], choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise _Again(f"{self._where}: an answer without choices: {self._safe(shown(reply))}") from None
        if finished == "length":
            raise CutError(f"{self._where}: cut at max_tokens={self.endpoint.max_tokens}; raise it")
        if not isinstance(content, str) or not content.strip():
            raise _Again(f"{self._where}: an answer without text; it ended by {finished!r}")
        if question.answer is None:
            return content.strip()
        try:
            return question.answer.model_validate_json(content).model_dump(mode="json")
        except ValidationError as wrong:
            first = wrong.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "all of it"
            raise _Again(f"{self._where}: not by the schema ({place}: {first['msg']}): {shown(content)}") from None

    def _safe(self, said: str) -> str:
        """What a server says, without the key, which some repeat."""
        return said.replace(self._key, "***") if self._key else said


def _usage(reply: dict[str, Any]) -> tuple[int, int]:
    """Tokens of the prompt and of the answer as the server counts them; 0 where it does not."""
    usage = reply.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    prompt, output = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return (prompt if isinstance(prompt, int) else 0), (output if isinstance(output, int) else 0)


def _retry_after(said: str | None) -> float:
    """Seconds, from a number of them or a date; 0 where it says nothing."""
    try:
        return max(0.0, float(said or 0))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said or "").timestamp() - time.time())
    except ValueError:
        return 0.0
