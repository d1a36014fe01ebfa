"""A small server that speaks the model hub's protocol, with faults on request."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.local_http import Handler, serving

COMMIT = "c0ffee" + "0" * 34


@dataclass
class HubState:
    """What the server holds and how it misbehaves."""

    repo: str = "tiny/Model"
    files: dict[str, bytes] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)  # stored as LFS, served by redirect
    token: str = ""  # asked for if set
    gated: bool = False
    knows_ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes after which each next file is cut off
    statuses: list[int] = field(default_factory=list)  # answers to the next file requests
    wrong: dict[str, bytes] = field(default_factory=dict)  # served in place of the right bytes
    etags: dict[str, str] = field(default_factory=dict)  # announced in place of the right ones
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, range
    tokens_at_store: list[str] = field(default_factory=list)  # must stay empty of tokens
    hold: threading.Event | None = None  # a large file's second half waits for this

    def content(self, name: str) -> bytes:
        """The file of that name, in whichever folder of the repository it lies."""
        return next(c for path, c in self.files.items() if path.split("/")[-1] == name)

    @property
    def file_requests(self) -> list[tuple[str, str]]:
        """(file, range) of everything that was fetched."""
        return [(path.split("/")[-1], span) for _, path, span in self.requests if "/store/" in path]


class _Hub(Handler):
    state: HubState
    store = ""  # another origin, where large files lie, as a CDN is

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.state.requests.append((self.command, path, self.headers.get("Range") or ""))
        if path.startswith(f"/api/models/{self.state.repo}"):
            self.answer(200, json.dumps(listing(self.state)).encode())
        elif path.startswith("/api/") or f"/{self.state.repo}/resolve/" not in path + "/resolve/":
            self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif "/store/" in path:
            self._file(path.split("/")[-1])
        elif not self._allowed():
            code = "GatedRepo" if self.state.gated else "RepoNotFound"
            self.answer(403 if self.state.gated else 401, b"no", {"X-Error-Code": code})
        else:
            name = path.split("/")[-1]
            location = f"{self.store}/store/{path[1:]}?{name}"
            right = hashlib.sha256(self.state.content(name)).hexdigest()
            named = self.state.etags.get(name) or right
            headers = {"Location": location, "X-Repo-Commit": COMMIT}
            self.answer(302, b"", {**headers, "X-Linked-ETag": f'"{named}"'})

    def _allowed(self) -> bool:
        token = self.state.token
        return not token or self.headers.get("Authorization") == f"Bearer {token}"

    def _file(self, name: str) -> None:
        self.state.tokens_at_store.append(self.headers.get("Authorization") or "")
        if self.state.statuses and (status := self.state.statuses.pop(0)) != 200:
            self.answer(status, b"busy")
            return
        content = self.state.wrong.get(name, self.state.content(name))
        start = 0
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if span and self.state.knows_ranges:
            start = int(span[1])
            if start >= len(content):
                self.answer(416, b"")
                return
        rest = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        if start:
            size = len(content)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        if self.state.cuts:
            self.wfile.write(rest[: self.state.cuts.pop(0)])
            self.close_connection = True
            return
        half = len(rest) // 2
        self.wfile.write(rest[:half])
        if self.state.hold is not None and name in self.state.large:
            self.wfile.flush()
            self.state.hold.wait(20)
        self.wfile.write(rest[half:])


@contextmanager
def serve(state: HubState) -> Iterator[str]:
    """Serve `state` on free loopback ports; gives the endpoint."""
    with (
        serving(_Hub, state=state) as store,
        serving(_Hub, state=state, store=f"http://127.0.0.1:{store}") as port,
    ):
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            if state.hold is not None:
                state.hold.set()


def listing(state: HubState) -> dict[str, object]:
    """What `GET /api/models/<repo>?blobs=true` answers."""
    siblings = []
    for name, content in state.files.items():
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": blob}
        if name in state.large:
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
        siblings.append(entry)
    return {
        "id": state.repo,
        "modelId": state.repo,
        "sha": COMMIT,
        "private": False,
        "gated": "manual" if state.gated else False,
        "cardData": {"license": "apache-2.0"},
        "tags": [],
        "siblings": siblings,
    }


@contextmanager
def serve_to_children(
    state: HubState, monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]
) -> Iterator[None]:
    """Serve `state` as the hub of every child process; these obey the guard in `environment`."""
    with serve(state) as endpoint:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
        yield
