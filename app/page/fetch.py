"""The part "Get a Llama" of the dialog Models: suggestions, a download and how far it is.

Nothing here goes online: that begins with the owner's click on a download, in `app/downloads.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.credentials import MODEL_HUB, CredentialInvalid
from app.downloads import DownloadBusy, DownloadView, shown_name
from app.explain import explain
from app.page.figures import count, size, time_left
from app.page.templates import Templates
from app.room import Room, room_here
from app.services import Services
from engine.catalog import KNOWN, KnownModel, known
from engine.shapes import shape


@dataclass(frozen=True, slots=True)
class _Offer:
    """A Llama that can be fetched."""

    name: str
    title: str  # of a suggestion
    parameters: str
    context: str
    about: str
    licence: str
    fit: str  # of a suggestion: what it takes of what is free
    size: str
    here: str  # the name under which it can be used, "" if it is not on this machine
    fits: bool


@dataclass(frozen=True, slots=True)
class _Quantization:
    """One GGUF file (or set of parts) of a repository, to be chosen."""

    name: str
    text: str  # what a click asks for: owner/name:Q4_K_M
    size: str
    fits: bool


@dataclass(frozen=True, slots=True)
class _Left:
    """A download that was stopped."""

    name: str
    about: str


class FetchPanel:
    """Renders the part and does what its buttons ask. Reads files: not on the event loop."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._strings = templates.strings
        self._say = templates.strings.say

    def values(self, here: set[str]) -> dict[str, object]:
        """What the template needs. `here`: names of the models that are on this machine."""
        room = room_here(self._services.settings)
        suggested = room.suggestions() if room else []
        downloads = self._services.downloads
        view = downloads.view()
        return {
            "suggested": [self._offer(m, here, room) for m in suggested],
            "known": [self._offer(m, here, room) for m in KNOWN],
            "left": [
                _Left(each.name, self._left(each.name, each.num_done_bytes))
                for each in downloads.unfinished()
                if view.state != "failed" or each.name != shown_name(view.name)
            ],
            "has_token": bool(self._services.credentials.get(MODEL_HUB)),
            "running": view.state == "running",
        }

    def progress(self) -> dict[str, object]:
        """The download that runs, or how the last one ended, for its template."""
        view = self._services.downloads.view()
        done = view.num_done_bytes / view.num_total_bytes if view.num_total_bytes else 0.0
        return {
            "view": view,
            "name": shown_name(view.name),
            "percent": int(100 * done),
            "line": self._line(view),
            "page": f"huggingface.co/{view.name.partition(':')[0]}",
            "told": explain(view.fault or "unexpected", self._strings),
            "quantizations": self._quantizations(view),
            "has_token": bool(self._services.credentials.get(MODEL_HUB)),
        }

    def _quantizations(self, view: DownloadView) -> list[_Quantization]:
        """What can be chosen of a repository of GGUF files, if that is what it waits for."""
        room = room_here(self._services.settings)
        return [
            _Quantization(
                name,
                f"{view.name.partition(':')[0]}:{name}",
                size(num_bytes),
                room is None or num_bytes < room.free_bytes,
            )
            for name, num_bytes in (view.choices if view.state == "failed" else ())
        ]

    def act(self, mode: str, text: str) -> tuple[str, str]:
        """Do what a button asked. Returns the sentence to say and its tone.

        Raises `CheckpointMissing` for an unknown name.
        """
        downloads, say = self._services.downloads, self._say
        try:
            if mode == "start":
                downloads.start(text)
                return say("panels.fetch.started", name=text), "info"
            if mode == "stop":
                downloads.stop()
                return say("panels.fetch.stopping"), "info"
            if mode == "discard":
                downloads.discard(text)
                return say("panels.fetch.discarded", name=text), "info"
            if mode == "token":
                self._services.credentials.put(MODEL_HUB, text)
                view = downloads.view()
                if view.needs_token:  # this is what it waited for
                    downloads.start(view.name)
                return say("panels.fetch.token_kept"), "info"
            if mode == "forget":
                self._services.credentials.forget(MODEL_HUB)
                return say("panels.fetch.token_gone"), "info"
        except DownloadBusy as error:
            return say("panels.fetch.busy", name=str(error)), "error"
        except CredentialInvalid:
            return say("panels.fetch.token_wrong"), "error"
        return "", "info"

    def ending(self) -> tuple[str, str]:
        """How the last download ended, and in which tone to say it."""
        view = self._services.downloads.view()
        name = shown_name(view.name)
        if view.choices:
            return self._say("panels.fetch.choose", name=name), "info"
        if view.needs_token:
            return self._say("panels.fetch.asks", name=name), "info"
        if view.state == "failed":
            return self._say("panels.fetch.failed", name=name), "error"
        return self._say(f"panels.fetch.{view.state}", name=name), "info"

    def _line(self, view: DownloadView) -> str:
        """1.2 of 2.5 GB · 12.3 MB/s · about 2 min left."""
        if not view.num_total_bytes:
            return self._say("panels.fetch.asking")
        whole = size(view.num_total_bytes)
        parts = [self._say("panels.fetch.of", done=size(view.num_done_bytes), whole=whole)]
        if view.state == "running" and view.bytes_per_second > 0:
            parts.append(self._say("panels.fetch.speed", speed=size(int(view.bytes_per_second))))
        if view.state == "running" and view.seconds_left is not None:
            parts.append(self._say("panels.fetch.left", time=time_left(view.seconds_left)))
        return " · ".join(parts)

    def _left(self, name: str, num_bytes: int) -> str:
        model = known(name)
        if model is None:
            return self._say("panels.fetch.kept", done=size(num_bytes))
        whole = size(model.weights_bytes)
        return self._say("panels.fetch.kept_of", done=size(num_bytes), whole=whole)

    def _offer(self, model: KnownModel, here: set[str], room: Room | None) -> _Offer:
        key = "panels.models.gated" if model.gated else "panels.models.open"
        about = [self._say(key, licence=model.licence)]
        if model.purpose != "chat":
            about.insert(0, self._say(f"panels.models.purpose.{model.purpose}"))
        licence, fits, fit = about[-1], True, ""
        if room is not None:
            need = room.need(shape(model.shape))
            fits = need.fits
            sizes = {"size": size(need.num_bytes), "free": size(room.free_bytes)}
            kind = "needs" if fits else "needs_more"
            about.append(self._say(f"panels.fetch.{kind}", precision=need.precision, **sizes))
            fit = self._say("panels.fetch.fits", precision=need.precision, **sizes)
        title = self._say("panels.fetch.with_account" if model.gated else "panels.fetch.at_once")
        named = next((each for each in (model.name, model.repo.lower()) if each in here), "")
        return _Offer(
            model.name,
            title,
            self._say("panels.fetch.parameters", count=count(model.num_parameters)),
            self._say("panels.fetch.context", count=f"{model.context_length:,}"),
            " · ".join(about),
            licence,
            fit,
            size(model.weights_bytes),
            named,
            fits,
        )
