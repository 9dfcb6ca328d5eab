"""An S3 server on 127.0.0.1 (moto's), behind a proxy that does wrong as a test says.

`S3Server().fault` is asked about each request: a status to answer in the server's place, seconds to wait first, or one
of "cut" (the answer ends early), "whole" (Range is ignored) and "reset" (the connection is closed without an answer).
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BUCKET = "clips"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>"
CODES = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}
Fault = int | float | str | None


@dataclass(frozen=True)
class Request:
    """One that came: its verb, the path of what it asks for, and the bytes it asks for (`bytes=0-9`) or None."""

    verb: str
    path: str
    range: str | None


class S3Server:
    """Serves at `url`, which stays the same when it is stopped and started.

    Attributes:
        fault: what goes wrong with a request.
        requests: all that came; `sent`: bytes of all answers; `most`: requests in flight at once.
    """

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        self.behind = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self.behind.start()
        self.target = self.behind.get_host_and_port()
        self.port = 0
        self.reset()
        self.start()
        self.ask("PUT", f"/{BUCKET}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Nothing goes wrong, and nothing is counted yet."""
        self.fault: Callable[[Request], Fault] = lambda request: None
        self.requests: list[Request] = []
        self.sent = self.most = self._now = 0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Listen, where it listened before."""
        self.proxy = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self.proxy.daemon_threads = True
        self.port = self.proxy.server_address[1]
        threading.Thread(target=self.proxy.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Listen no more; connections that are open are closed by what comes next on them."""
        self.fault = lambda request: "reset"
        self.proxy.shutdown()
        self.proxy.server_close()

    def close(self) -> None:
        self.stop()
        self.behind.stop()

    def ask(self, verb: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Any:
        """An answer of the server itself: status, headers and body."""
        connection = http.client.HTTPConnection(*self.target, timeout=60)
        try:
            connection.request(verb, path, body or None, headers or {"Authorization": SIGNED})
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                with server._lock:
                    server._now += 1
                    server.most = max(server.most, server._now)
                try:
                    self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
                finally:
                    with server._lock:
                        server._now -= 1

            def _answer(self, body: bytes) -> None:
                request = Request(self.command, self.path.partition("?")[0], self.headers.get("Range"))
                server.requests.append(request)
                fault = server.fault(request)
                if isinstance(fault, float):
                    time.sleep(fault)
                    fault = None
                if fault == "reset":
                    self.close_connection = True
                    return
                if isinstance(fault, int):
                    code = CODES.get(fault, "ServiceUnavailable")
                    self._send(fault, [("Content-Type", "application/xml")], ERROR.format(code, code).encode())
                    return
                headers = {k: v for k, v in self.headers.items() if k.lower() != "range" or fault != "whole"}
                status, answered, data = server.ask(self.command, self.path, body, headers)
                self._send(status, answered, data, cut=fault == "cut")

            def _send(self, status: int, headers: list[tuple[str, str]], data: bytes, cut: bool = False) -> None:
                self.send_response_only(status)
                own = ("content-length", "connection", "transfer-encoding")
                for name, value in headers:
                    if name.lower() not in own:
                        self.send_header(name, value)
                lengths = [value for name, value in headers if name.lower() == "content-length"]
                length = lengths[0] if self.command == "HEAD" and lengths and status < 400 else str(len(data))
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data[: len(data) // 2] if cut else data)
                    server.sent += len(data)
                self.close_connection = self.close_connection or cut

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                pass

        return Handler
