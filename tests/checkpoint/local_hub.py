"""A small model hub on 127.0.0.1: as much of the Hugging Face hub's HTTP as its client needs, and its ways to fail."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

Files = dict[str, bytes]


@dataclass
class Repo:
    """Files by revision, and what goes wrong.

    `status` and `code` answer every question about the repository, or with `files_only` every request for a file.
    `halves`: so many downloads of weights end half way; `then_silent`: later ones end before they begin.
    """

    revisions: dict[str, Files] = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    files_only: bool = False
    halves: int = 0
    then_silent: bool = False
    page: bytes | None = None  # of a captive portal

    def commit(self, revision: str) -> str | None:
        """Branches, tags and commits themselves."""
        commits = {name: hashlib.sha1(name.encode()).hexdigest() for name in self.revisions}
        return commits.get(revision, revision if revision in commits.values() else None)

    def files(self, commit: str) -> Files:
        return next(files for name, files in self.revisions.items() if self.commit(name) == commit)


class LocalHub:
    """`with hub.serving() as address`; `hub.log` lists each request as `METHOD path`."""

    def __init__(self, **repos: Repo) -> None:
        self.repos = {f"us/{name.replace('_', '-')}": repo for name, repo in repos.items()}
        self.log: list[str] = []

    @contextmanager
    def serving(self) -> Iterator[str]:
        handler = type("Handler", (_Handler,), {"hub": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.hub.log.append(f"{self.command} {self.path}")
        path = unquote(self.path.partition("?")[0])
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/(?P<rev>[^/]+)|/tree/(?P<tree>[^/]+))?", path):
            self._about(match[1], match["rev"] or match["tree"] or "main", match["tree"] is not None)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(*match.groups())
        else:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.hub.log.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'us'}/{asked['name']}"
            self.hub.repos.setdefault(name, Repo({"main": {}}))
            self._json({"url": f"http://{self.headers['Host']}/{name}", "name": name})
        elif self.path.startswith("/api/validate-yaml"):
            self._json({"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/(.+)/preupload/main", self.path):
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self._json({"files": [file | {"shouldIgnore": False} for file in files]})
        elif match := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.hub.repos[match[1]].revisions["main"][line["value"]["path"]] = content
            page = f"http://{self.headers['Host']}/{match[1]}/commit/{'c' * 40}"
            self._json({"success": True, "commitUrl": page, "commitOid": "c" * 40})
        else:
            self._answer(404, b"", {})

    def _about(self, name: str, revision: str, tree: bool) -> None:
        repo = self.hub.repos.get(name)
        if repo is None:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif repo.page is not None:
            self._answer(200, repo.page, {"Content-Type": "text/html"})
        elif repo.status != 200 and not repo.files_only:
            self._answer(repo.status, b"", repo.headers)
        elif (commit := repo.commit(revision)) is None:
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif tree:
            files = repo.files(commit).items()
            self._json([{"type": "file", "path": p, "size": len(c), "oid": _etag(c)} for p, c in files])
        else:
            names = [{"rfilename": path} for path in repo.files(commit)]
            self._json({"id": name, "modelId": name, "sha": commit, "siblings": names, "tags": [], "private": False})

    def _file(self, name: str, revision: str, path: str) -> None:
        repo = self.hub.repos[name]
        commit = repo.commit(revision)
        assert commit is not None
        if repo.status != 200:
            self._answer(repo.status, b"", repo.headers)
            return
        content = repo.files(commit)[path]
        headers = {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if self.command == "GET" and path.endswith(".safetensors"):
            if repo.halves > 0:
                repo.halves -= 1
                self._answer(200, content, headers, sent=len(content) // 2)
                return
            if repo.then_silent:
                self.close_connection = True
                return
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._answer(206 if start else 200, content[start:], headers)

    def _json(self, data: object) -> None:
        self._answer(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str], sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:sent])
        if sent is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
