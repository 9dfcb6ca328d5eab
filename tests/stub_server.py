"""An OpenAI-compatible server on 127.0.0.1 that does wrong by a script, for tests of who asks it.

`StubServer(faults={"a": [500, 500]})` fails the first two requests whose last words are "a" and then answers. A fault
is a status, a pair of a status and its headers, or one of the names in `FAULTS`.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = int | str | tuple[int, dict[str, str]]


def words(body: dict[str, Any]) -> str:
    """The text of a request's last message."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content).strip()


def completion(text: str | None, finish: str = "stop", tokens: tuple[int, int] = (10, 5)) -> dict[str, Any]:
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}


class StubServer:
    """Answers `answer(words)` to everyone, after the faults that are scripted for these words.

    Attributes:
        asked: how many requests came, by their words, and `answered` those that got a good answer.
        bodies, headers: of every request, in their order.
        most: requests that were in flight at once.
    """

    def __init__(
        self,
        answer: Callable[[str], str] = lambda said: f"about {said}",
        faults: Mapping[str, Sequence[Fault]] | None = None,
        *,
        seconds: float = 0.0,
        port: int = 0,
    ) -> None:
        self.answer, self.seconds = answer, seconds
        self.faults = {said: list(script) for said, script in (faults or {}).items()}
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.most = self._now = 0
        self._lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                stub._handle(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> StubServer:
        return self

    def __exit__(self, *_: Any) -> None:
        self.kill()

    def kill(self) -> None:
        """Take no more requests, from one moment to the next."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        said = words(body)
        with self._lock:
            self.asked[said] += 1
            self.bodies.append(body)
            self.headers.append(dict(handler.headers))
            self.times.append(time.monotonic())
            self._now += 1
            self.most = max(self.most, self._now)
            script = self.faults.get(said, [])
            fault = script.pop(0) if script else None
        try:
            time.sleep(self.seconds)
            with self._lock:
                self._now -= 1  # before the answer, after which the client may ask the next
            if fault is None and handler.path != "/v1/chat/completions":
                fault = 404
            if fault is None:
                with self._lock:
                    self.answered[said] += 1
                send(handler, json.dumps(completion(self.answer(said))).encode())
            elif isinstance(fault, str):
                FAULTS[fault](handler)
            else:
                status, headers = fault if isinstance(fault, tuple) else (fault, {})
                error = {"error": {"message": f"no, {handler.headers.get('Authorization')}", "code": status}}
                send(handler, json.dumps(error).encode(), status, headers)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client did not wait


def send(
    handler: BaseHTTPRequestHandler, data: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> None:
    handler.send_response(status)
    for name, value in {
        "Content-Type": "application/json",
        "Content-Length": str(len(data)),
        **(headers or {}),
    }.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def _hang(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(1.0)


def _drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte at a time, so that no single wait is long."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def _huge(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b" " * (1 << 20))


def _drop(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True


GOOD = json.dumps(completion("good")).encode()
FAULTS: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {
    "hang": _hang,
    "drip": _drip,
    "drop": _drop,
    "huge": _huge,
    "malformed": lambda handler: send(handler, b'{"choices": [{"mess'),
    "list": lambda handler: send(handler, b"[1, 2]"),
    "latin": lambda handler: send(handler, b"\xff\xfe\x00"),
    "truncated": lambda handler: send(handler, GOOD[:40], headers={"Content-Length": str(len(GOOD))}),
    "no choices": lambda handler: send(handler, b'{"choices": []}'),
    "no text": lambda handler: send(handler, json.dumps(completion(None)).encode()),
    "cut": lambda handler: send(handler, json.dumps(completion("half a sent", "length")).encode()),
    "off schema": lambda handler: send(handler, json.dumps(completion('{"caption": 3}')).encode()),
}
