"""A small server that speaks the model hub's protocol, with faults on request."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

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


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is part of the tests."""


@contextmanager
def serve(state: HubState) -> Iterator[str]:
    """Serve `state` on a free loopback port; gives the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            state.requests.append((self.command, path, self.headers.get("Range") or ""))
            if path.startswith(f"/api/models/{state.repo}"):
                self._answer(200, json.dumps(listing(state)).encode())
            elif path.startswith("/api/") or f"/{state.repo}/resolve/" not in path + "/resolve/":
                self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            elif "/store/" in path:
                self._file(path.split("/")[-1])
            elif not self._allowed():
                code = "GatedRepo" if state.gated else "RepoNotFound"
                self._answer(403 if state.gated else 401, b"no", {"X-Error-Code": code})
            else:
                name = path.split("/")[-1]
                location = f"{other_origin}/store/{path[1:]}?{name}"
                named = state.etags.get(name) or hashlib.sha256(state.content(name)).hexdigest()
                headers = {"Location": location, "X-Repo-Commit": COMMIT}
                self._answer(302, b"", {**headers, "X-Linked-ETag": f'"{named}"'})

        def _allowed(self) -> bool:
            return not state.token or self.headers.get("Authorization") == f"Bearer {state.token}"

        def _file(self, name: str) -> None:
            state.tokens_at_store.append(self.headers.get("Authorization") or "")
            if state.statuses and (status := state.statuses.pop(0)) != 200:
                self._answer(status, b"busy")
                return
            content = state.wrong.get(name, state.content(name))
            start = 0
            span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            if span and state.knows_ranges:
                start = int(span[1])
                if start >= len(content):
                    self._answer(416, b"")
                    return
            rest = content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest)))
            if start:
                size = len(content)
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.end_headers()
            if state.cuts:
                self.wfile.write(rest[: state.cuts.pop(0)])
                self.close_connection = True
                return
            half = len(rest) // 2
            self.wfile.write(rest[:half])
            if state.hold is not None and name in state.large:
                self.wfile.flush()
                state.hold.wait(20)
            self.wfile.write(rest[half:])

        def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for header, value in (headers or {}).items():
                self.send_header(header, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = _Server(("127.0.0.1", 0), Handler)
    store = _Server(("127.0.0.1", 0), Handler)  # another origin, as a CDN is
    other_origin = f"http://127.0.0.1:{store.server_port}"
    threads = [threading.Thread(target=s.serve_forever, args=(0.02,)) for s in (server, store)]
    for thread in threads:
        thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        if state.hold is not None:
            state.hold.set()
        for each in (server, store):
            each.shutdown()
            each.server_close()
        for thread in threads:
            thread.join()


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
