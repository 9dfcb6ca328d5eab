"""Where a language model is asked, at what pace and for how much money."""

from __future__ import annotations

import os
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from peav.engine.clip import Clip
from peav.engine.stage import OUTSIDE, StopAsking
from peav.errors import RecipeError


class BudgetError(StopAsking):
    """The requests or the money of a run are used up: what is answered is kept, and the next run asks for the rest."""


@dataclass(kw_only=True)
class Endpoint:
    """The options of a stage that asks a language model. A dataclass derives from this first: `(Endpoint, Captioner)`.

    Budgets and rates hold for one `Chat`; the engine divides them among its workers with `shared_by`.

    Attributes:
        url: of the API's version: `http://127.0.0.1:8000/v1`.
        model: as the endpoint calls it.
        api_key_env: the environment variable that has the key, read by the worker that asks; None: without a key.
        max_tokens: the most that an answer may have. One that is cut there is an error.
        temperature, seed: 0 and fixed, so that the same question has the same answer where the server can do it.
        parameters: what else a request has, such as `{top_p: 0.9}`; None takes one of ours out.
        parallel: requests in flight.
        timeout: seconds for one request.
        attempts: requests for one row before it is given up.
        backoff: seconds before the second request, on average; twice as long before each other.
        requests_per_minute, tokens_per_minute: not to be gone past; prompts and answers count, once they are known.
        max_requests: of one run, those that failed included.
        max_dollars: of one run, at the prices below. The answers in flight are still taken, and may go past it.
        input_price, output_price: dollars for a million tokens.
        cached_price: of those of a prompt that the server has seen before; None: `input_price`.
        input_rate, output_rate: tokens a second that one GPU of your own server reads and writes, for a dry run.
        tokenizer: of the model, with which a dry run counts: a `tokenizer.json`, a folder or a hub name; None: it
            estimates.
        media_tokens: that the frames and the sound of a clip add to its prompt, for a dry run.
    """

    url: str = field(metadata=OUTSIDE)
    model: str
    api_key_env: str | None = field(default=None, metadata=OUTSIDE)
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)
    parallel: int = field(default=8, metadata=OUTSIDE)
    timeout: float = field(default=120.0, metadata=OUTSIDE)
    attempts: int = field(default=8, metadata=OUTSIDE)
    backoff: float = field(default=1.0, metadata=OUTSIDE)
    requests_per_minute: float | None = field(default=None, metadata=OUTSIDE)
    tokens_per_minute: float | None = field(default=None, metadata=OUTSIDE)
    max_requests: int | None = field(default=None, metadata=OUTSIDE)
    max_dollars: float | None = field(default=None, metadata=OUTSIDE)
    input_price: float = field(default=0.0, metadata=OUTSIDE)
    output_price: float = field(default=0.0, metadata=OUTSIDE)
    cached_price: float | None = field(default=None, metadata=OUTSIDE)
    input_rate: float | None = field(default=None, metadata=OUTSIDE)
    output_rate: float | None = field(default=None, metadata=OUTSIDE)
    tokenizer: str | None = field(default=None, metadata=OUTSIDE)
    media_tokens: int = field(default=0, metadata=OUTSIDE)

    @property
    def batch_size(self) -> int:
        """Clips a call: several times those in flight, since a batch waits for its slowest."""
        return 4 * self.parallel

    def prompt_parts(self, clip: Clip) -> tuple[str, str]:  # noqa: ARG002
        """The words that every request begins with, and those that follow for this clip: what a dry run counts."""
        return "", ""

    def check_endpoint(self) -> None:
        """Raise RecipeError where the options make no sense."""
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # brackets or a port that make no sense
            usable = False
        # The message does not repeat it, since it may hold a key.
        if not usable or re.search(r"[^!-~]", self.url):
            raise RecipeError("url is no address: give one like http://127.0.0.1:8000/v1")
        if parts.username or parts.password:
            raise RecipeError(f"url of {parts.hostname} holds a password: put it in a variable, named by api_key_env")
        for name in ("max_tokens", "parallel", "timeout", "attempts"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.max_dollars is not None and not (self.input_price or self.output_price):
            raise RecipeError("max_dollars needs input_price and output_price, in dollars for a million tokens")

    def shared_by(self, workers: int) -> None:
        """Take one worker's part of the budgets and the rates."""
        for name in ("requests_per_minute", "tokens_per_minute", "max_dollars"):
            if (whole := getattr(self, name)) is not None:
                setattr(self, name, whole / workers)
        if self.max_requests is not None:
            self.max_requests = max(1, self.max_requests // workers)


class Meter:
    """What all threads of a client have asked and paid, and when the next request may go."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self._lock = endpoint, threading.Lock()
        self._requests, self._dollars = 0, 0.0
        self._next_request = self._next_token = 0.0  # of the monotonic clock
        self.over = threading.Event()

    def start(self) -> None:
        """Count a request and wait for its turn. Raises BudgetError."""
        limits = self._endpoint
        with self._lock:
            if limits.max_requests is not None and self._requests >= limits.max_requests:
                self._end(f"all {self._requests} requests of max_requests are made")
            if limits.max_dollars is not None and self._dollars >= limits.max_dollars:
                self._end(f"${self._dollars:.2f} of max_dollars {limits.max_dollars:g} are spent")
            self._requests += 1
            now = time.monotonic()
            turn = max(now, self._next_request, self._next_token)
            if limits.requests_per_minute:
                self._next_request = turn + 60 / limits.requests_per_minute
        time.sleep(turn - now)

    def pay(self, prompt: int, output: int) -> None:
        """Count the tokens of an answer."""
        limits = self._endpoint
        with self._lock:
            self._dollars += (prompt * limits.input_price + output * limits.output_price) / 1e6
            if limits.tokens_per_minute:
                after = max(time.monotonic(), self._next_token)
                self._next_token = after + (prompt + output) * 60 / limits.tokens_per_minute

    def pause(self, seconds: float) -> None:
        """Have nobody ask for a while."""
        with self._lock:
            self._next_request = max(self._next_request, time.monotonic() + seconds)

    def _end(self, why: str) -> None:
        self.over.set()
        raise BudgetError(f"{self._endpoint.model}: {why}; raise it and run the same command again, it goes on")


def api_key(variable: str | None) -> str:
    """The key in an environment variable; messages never show it."""
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise RecipeError(f"api_key_env: there is no {variable} in the environment; export it before the run")
    if not (key.isascii() and key.isprintable()):
        raise RecipeError(f"api_key_env: {variable} holds characters that no header may have; copy the key again")
    return key
