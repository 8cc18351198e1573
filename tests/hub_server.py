"""A Hugging Face Hub on this machine, as far as huggingface_hub asks it for what this package does.

The client is the real one; the answers have the form of those of huggingface.co (routes, headers and
error codes as huggingface_hub 1.0 and 2.4 read them).
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_a_token_of_the_tests"


@dataclass
class Repository:
    """A repository: files by commit, and the commit of each branch."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], branch: str = "main", message: str = "made") -> str:
        parent = self.branches.get(branch)
        content = {**(self.commits[parent] if parent else {}), **files}
        seed = repr((parent, sorted(content.items()), len(self.commits))).encode()
        sha = hashlib.sha1(seed).hexdigest()
        self.commits[sha], self.branches[branch] = content, sha
        self.messages.append(message)
        return sha


class Hub:
    """The server's repositories, and the requests that came."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.before_commit: Any = (
            None  # called when a commit arrives, as if somebody else were faster
        )

    def add(self, name: str, files: dict[str, bytes], **about: bool) -> Repository:
        made = self.repositories[name] = Repository(**about)
        made.commit({".gitattributes": b"", **files})
        return made

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        made = self.repositories[name]
        return {k: v for k, v in made.commits[made.branches[branch]].items() if k[0] != "."}

    def downloaded(self) -> list[str]:
        return [
            line.rsplit("/", 1)[-1] for line in self.requests if "GET" in line and "resolve" in line
        ]


class _Answer(Exception):  # noqa: N818
    def __init__(self, status: int, code: str = "", words: str = "") -> None:
        self.status, self.code, self.words = status, code, words


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *about: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self._body()
        parts = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {parts.path}")
        headers = {}
        try:
            status, content, headers = self._route(
                [unquote(part) for part in parts.path.strip("/").split("/")],
                parse_qs(parts.query),
                body,
            )
        except _Answer as answer:
            status, content = answer.status, json.dumps({"error": answer.words}).encode()
            headers = {"X-Error-Code": answer.code, "X-Error-Message": answer.words}
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    @property
    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, name: str) -> Repository:
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not self._known):
            raise _Answer(404 if self._known else 401, "RepoNotFound", "Repository not found")
        if found.gated:
            raise _Answer(403, "GatedRepo", "Access to this model is restricted")
        return found

    def _route(
        self, parts: list[str], query: dict[str, list[str]], body: bytes
    ) -> tuple[int, bytes, dict[str, str]]:
        def said(content: Any) -> tuple[int, bytes, dict[str, str]]:
            return 200, json.dumps(content).encode(), {"Content-Type": "application/json"}

        match (self.command, *parts):
            case ("POST", "api", "validate-yaml"):
                return said({"errors": [], "warnings": []})
            case ("POST", "api", "repos", "create"):
                return said(self._create(json.loads(body)))
            case ("GET", "api", "models", owner, name, *rest) if rest[:1] in ([], ["revision"]):
                return said(self._info(f"{owner}/{name}", rest[1] if rest else "main"))
            case ("GET", "api", "models", owner, name, "tree", revision):
                _, files = self._at(self._repository(f"{owner}/{name}"), revision)
                return said([{"type": "file", **_about(*each)} for each in files.items()])
            case ("POST", "api", "models", owner, name, "branch", branch):
                self._write(f"{owner}/{name}").commit({}, "main")
                made = self._write(f"{owner}/{name}")
                made.branches[branch] = made.branches["main"]
                return said({})
            case ("POST", "api", "models", owner, name, "preupload", _):
                files = json.loads(body)["files"]
                modes = {"uploadMode": "regular", "shouldIgnore": False}
                return said({"files": [{"path": file["path"], **modes} for file in files]})
            case ("POST", "api", "models", owner, name, "commit", branch):
                return said(self._commit(f"{owner}/{name}", branch, body))
            case (_, owner, name, "resolve", revision, file):
                sha, files = self._at(self._repository(f"{owner}/{name}"), revision)
                if file not in files:
                    raise _Answer(404, "EntryNotFound", "Entry not found")
                etag = hashlib.sha256(files[file]).hexdigest()
                return 200, files[file], {"X-Repo-Commit": sha, "ETag": f'"{etag}"'}
        raise _Answer(404, "", f"no such route: {self.path}")

    def _at(self, made: Repository, revision: str) -> tuple[str, dict[str, bytes]]:
        sha = made.branches.get(revision, revision)
        if sha not in made.commits:
            raise _Answer(404, "RevisionNotFound", "Invalid rev id")
        return sha, made.commits[sha]

    def _info(self, name: str, revision: str) -> dict[str, Any]:
        made = self._repository(name)
        sha, files = self._at(made, revision)
        siblings = [{"rfilename": file, **_about(file, text)} for file, text in files.items()]
        return {"id": name, "sha": sha, "private": made.private, "siblings": siblings, "tags": []}

    def _write(self, name: str) -> Repository:
        if not self._known:
            raise _Answer(401, "", "Invalid username or password.")
        if name.startswith("locked/"):
            raise _Answer(403, "", "You don't have the rights to write here")
        return self._repository(name)

    def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        if not self._known:
            raise _Answer(401, "", "Invalid username or password.")
        name = f"{asked['organization']}/{asked['name']}"
        self.hub.add(name, {}, private=_is_private(asked))
        return {"url": f"https://huggingface.co/{name}", "name": name}

    def _commit(self, name: str, branch: str, body: bytes) -> dict[str, Any]:
        made = self._write(name)
        if self.hub.before_commit is not None:
            self.hub.before_commit()
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, made.branches[branch]):
            raise _Answer(412, "", "A commit has happened since. Please refresh and try again.")
        files = {one["value"]["path"]: one["value"]["content"] for one in lines[1:]}
        content = {path: base64.b64decode(text) for path, text in files.items()}
        sha = made.commit(content, branch, header["summary"])
        return {"commitUrl": f"https://huggingface.co/{name}/commit/{sha}", "commitOid": sha}


def _is_private(asked: dict[str, Any]) -> bool:
    """What a client asks for: in words since huggingface_hub 2, before that as a yes or no."""
    return asked.get("visibility") == "private" or bool(asked.get("private"))


def _about(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {"path": path, "size": len(content), "oid": blob, "blobId": blob}


@contextmanager
def running() -> Iterator[tuple[Hub, str]]:
    """Serves a hub without repositories; yields it with its address."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield hub, f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
