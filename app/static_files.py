"""The files in assets/ that a browser may load, each under a name in a table.

A name from a request is looked up, never joined to a path. An address carries the first characters
of the content's SHA-256, so a browser may keep it for ever and never shows an old one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

from app.routes import STATIC

ASSETS = Path(__file__).resolve().parent.parent / "assets"
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}
VERSION_CHARS = 12


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it goes out."""

    content: bytes
    kind: str
    version: str


class StaticFiles:
    """The files of `folder` and its `icons`, read once."""

    def __init__(self, folder: Path = ASSETS) -> None:
        self._files: dict[str, StaticFile] = {}
        for path in sorted([*folder.glob("*.*"), *folder.glob("icons/*.*")]):
            if path.suffix in KINDS:
                content = path.read_bytes()
                version = hashlib.sha256(content).hexdigest()[:VERSION_CHARS]
                name = path.relative_to(folder).as_posix()
                self._files[name] = StaticFile(content, KINDS[path.suffix], version)

    def version(self, name: str) -> str:
        """What stands behind `?v=` in the address of a file. `KeyError` if there is none."""
        return self._files[name].version

    def url(self, name: str) -> str:
        """The address of a file, new whenever its content is."""
        return f"{STATIC}{name}?v={self.version(name)}"

    def answer(self, name: str, version: str, known: str) -> Response:
        """The file, or 304 if the browser's copy (`known`, an ETag) is the current one."""
        file = self._files.get(name)
        if file is None:
            return Response(status_code=404)
        forever = version == file.version
        etag = f'"{file.version}"'
        headers = {
            "ETag": etag,
            "Cache-Control": "private, max-age=31536000, immutable" if forever else "no-cache",
        }
        if known == etag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.kind, headers=headers)

    def router(self) -> APIRouter:
        """The route that serves them."""
        router = APIRouter()

        async def serve(name: str, request: Request) -> Response:
            known = request.headers.get("if-none-match", "")
            return self.answer(name, request.query_params.get("v", ""), known)

        router.add_api_route(STATIC + "{name:path}", serve, methods=["GET", "HEAD"])
        return router
