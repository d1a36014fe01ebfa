"""What was said stands in the database and nowhere else."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event

import pytest

from app.log import close_log, open_log
from app.requests import Again, Send
from app.services import Services
from app.site import Site, build
from engine.base import Chunk, Prompt, Sampling
from engine.errors import DeviceOutOfMemory
from safety.base import Verdict
from storage.records import OWNER_ID
from tests.app.asgi import ask, same_origin
from tests.app.fakes import TellingEngine, WordGuard, ended
from tests.app.house import make_services, sign_in

CANARY = "zebra-canary-4711"


class Quoting(TellingEngine):
    """Fails with errors that quote the prompt, of our kinds and of others."""

    failures: Sequence[type[Exception]] = (RuntimeError, KeyError, MemoryError, UnicodeError)

    def stream(
        self, prompt: Prompt, sampling: Sampling, *, cancel: Event, scope: str
    ) -> Iterator[Chunk]:
        self.prompts.append(prompt)
        yield Chunk("One two three. ", (1, 2, 3), num_prompt=7)
        kind = self.failures[len(self.prompts) % len(self.failures)]
        cause = ValueError(f"cannot read {prompt.messages}")
        raise kind(f"while answering {prompt.messages}") from cause


class QuotingGuard(WordGuard):
    """Cannot judge what holds "refuse", and quotes it."""

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        if "refuse" in prompt:
            raise RuntimeError(f"cannot judge {prompt}")
        return super().judge(prompt, reply)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    root, own = logging.getLogger(), logging.getLogger("corral")
    levels = root.level, own.level
    open_log(tmp_path)
    services = make_services(tmp_path, engine=Quoting(), guard=QuotingGuard())
    services.load()
    yield services
    services.close()
    close_log()
    root.setLevel(levels[0])
    own.setLevel(levels[1])


def finish(services: Services, request: Send | Again) -> str:
    return ended(services.jobs.start(OWNER_ID, request)).status


def outside_the_database(folder: Path) -> dict[str, bytes]:
    """Every file of the data folder but the database itself and the copies of it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
        and not path.name.startswith("corral.db")
        and path.name != "ballast"
        and path.parent.name != "backups"
    }


def test_a_whole_session_of_failures_quotes_nothing(
    services: Services, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    statuses = set()
    for number in range(4):
        statuses.add(finish(services, Send(None, None, f"{CANARY} {number}", f"click-{number}")))
    statuses.add(finish(services, Send(None, None, f"refuse {CANARY}", "click-r")))
    assert "error" in statuses

    async def in_a_loop() -> Site:
        return build(services)

    site = asyncio.run(in_a_loop())
    cookie = sign_in(services, OWNER_ID, "token")
    for body in (
        {"session_hash": "abcd1234", "fn_index": CANARY, "data": [CANARY]},
        {"session_hash": "abcd1234", "fn_index": 0, "data": [{"path": CANARY}]},
        {"session_hash": "abcd1234", "component_id": CANARY, "fn_name": CANARY, "data": CANARY},
        {"session_hash": CANARY, "data": CANARY},
        CANARY,
    ):
        content = json.dumps(body).encode()
        for path in ("/gradio_api/queue/join", "/gradio_api/component_server", "/corral/enter"):
            ask(site.app, "POST", path, headers=same_origin(cookie), body=content)
        ask(site.app, "GET", f"/config?{CANARY}", headers=[("cookie", cookie)])
        ask(site.app, "GET", f"/{CANARY}", headers=[("cookie", cookie)])

    for handler in logging.getLogger().handlers:
        handler.flush()
    files = outside_the_database(services.settings.data)
    log = files["log/corral.log"].decode()
    assert "builtins.RuntimeError" in log  # the failures themselves are told
    assert [name for name, content in files.items() if CANARY.encode() in content] == []
    assert [name for name in files if CANARY in name] == []
    told = capfd.readouterr()
    assert CANARY not in told.out + told.err


def test_the_canary_would_be_found(services: Services) -> None:
    """The same search does find it where it belongs, so it looks in the right place."""
    finish(services, Send(None, None, CANARY, "click"))
    folder = services.settings.data
    kept = b"".join(path.read_bytes() for path in folder.glob("corral.db*"))
    assert CANARY.encode() in kept
    logging.getLogger("corral").info("a careless line: %s", CANARY)
    assert CANARY.encode() in outside_the_database(folder)["log/corral.log"]


def test_our_own_errors_do_not_quote(services: Services) -> None:
    error = DeviceOutOfMemory("The device has no room for this row.")
    logging.getLogger("corral.turn").warning("turn %d", 1, exc_info=error)
    log = outside_the_database(services.settings.data)["log/corral.log"].decode()
    assert "The device has no room for this row." in log
