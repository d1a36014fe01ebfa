"""The log tells what happened and never what was said."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import log as module
from app.log import close_log, open_log, watch_loop
from engine.errors import CheckpointMissing

CANARY = "canary-of-a-private-message"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    level, own = root.level, logging.getLogger("corral").level
    path = open_log(tmp_path)
    yield path
    close_log()
    root.setLevel(level)
    logging.getLogger("corral").setLevel(own)


def raise_canary() -> None:
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        raise RuntimeError(f"while reading {CANARY}") from error


def test_our_own_lines_are_written(path: Path) -> None:
    logging.getLogger("corral.turn").info("turn %d took %.1f s", 7, 1.5)
    assert "INFO corral.turn: turn 7 took 1.5 s" in path.read_text()


def test_foreign_lines_lose_what_they_quote(path: Path) -> None:
    foreign = logging.getLogger("gradio.routes")
    foreign.warning("cannot read %s", CANARY)
    foreign.error(f"Task exception: ValueError('{CANARY}')")
    foreign.info("%s not even noted", CANARY)
    text = path.read_text()
    assert CANARY not in text
    assert "'cannot read %s' at test_log.py:" in text
    assert text.count("\n") == 2


def test_exceptions_keep_type_and_place_only(path: Path) -> None:
    for name in ("corral.jobs", "uvicorn.error"):
        try:
            raise_canary()
        except RuntimeError:
            logging.getLogger(name).exception("turn %d ended", 3)
    text = path.read_text()
    assert CANARY not in text
    assert text.count("builtins.RuntimeError") == 2
    assert text.count("builtins.ValueError") == 2
    assert "raise_canary" in text


def test_a_formatted_traceback_of_another_handler_is_not_taken_over(path: Path) -> None:
    record = logging.makeLogRecord(
        {"name": "corral", "msg": "x", "levelno": 40, "exc_text": CANARY, "stack_info": CANARY}
    )
    logging.getLogger("corral").handle(record)
    assert CANARY not in path.read_text()


def test_our_errors_keep_their_sentence(path: Path) -> None:
    try:
        raise CheckpointMissing("There is no config.json in the folder.")
    except CheckpointMissing:
        logging.getLogger("corral").exception("load")
    assert "CheckpointMissing: There is no config.json in the folder." in path.read_text()


def test_errors_of_threads_tasks_and_the_process_arrive(path: Path) -> None:
    thread = threading.Thread(target=raise_canary, name="turn-12")
    thread.start()
    thread.join()

    async def lose_a_task() -> None:
        watch_loop(asyncio.get_running_loop())

        async def fail() -> None:
            raise_canary()

        asyncio.get_running_loop().create_task(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(lose_a_task())
    gc.collect()
    asyncio.run(asyncio.sleep(0))
    text = path.read_text()
    assert "thread turn-12 ended" in text
    assert "a task ended" in text
    assert CANARY not in text


def test_the_hooks_are_given_back(tmp_path: Path) -> None:
    open_log(tmp_path)
    assert sys.excepthook is not sys.__excepthook__
    close_log()
    assert sys.excepthook is sys.__excepthook__
    assert threading.excepthook is threading.__excepthook__


@pytest.mark.skipif(os.name != "posix", reason="modes are a matter of POSIX")
def test_the_file_is_private_also_after_it_turned_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, module._PrivateFile):
            handler.maxBytes = 300
    for number in range(50):
        logging.getLogger("corral").info("line %d", number)
    files = sorted(path.parent.iterdir())
    assert len(files) == 1 + module.NUM_OLD
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}


def test_a_full_disk_does_not_hurt_the_one_who_logs(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: object, record: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module._PrivateFile, "shouldRollover", full)
    logging.getLogger("corral").info("does not fit")
    assert capsys.readouterr().err == ""
