"""One rotating log file in the data folder: what happened, never what was said.

Our own loggers write ids, timings and counts. Of foreign log records only the unfilled template
and the place are kept, and of exceptions their types and places: their texts may quote a message.
Errors of ours are whole sentences about files and numbers and are kept.
"""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import os
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType

from app.setting import SettingsInvalid
from engine.errors import EngineError
from safety.base import GuardError
from storage.records import StorageError

FOLDER = "log"
NAME = "corral.log"
MAX_BYTES = 1 << 20
NUM_OLD = 3
_OURS = (EngineError, GuardError, StorageError, SettingsInvalid)
_OWN_LOGGERS = frozenset({"corral", "engine", "safety", "storage"})
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

log = logging.getLogger("corral")


class PrivateFormatter(logging.Formatter):
    """Formats records so that no foreign text gets into the file."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and for an exception one more per frame."""
        if record.name.partition(".")[0] not in _OWN_LOGGERS:
            template = str(record.msg) if record.args else "a message"
            place = f"{Path(record.pathname).name}:{record.lineno}"
            record = logging.makeLogRecord(
                {**record.__dict__, "msg": f"{template!r} at {place}", "args": ()}
            )
        record.exc_text = None  # may have been filled by another handler's formatter
        record.stack_info = None
        return super().format(record)

    def formatException(self, ei: object) -> str:  # the name is logging's
        """The chain of exceptions, each by type and place."""
        error = ei[1] if isinstance(ei, tuple) else None
        return describe(error) if isinstance(error, BaseException) else ""


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """A log that only its owner can read, and that a full disk does not make noisy."""

    def _open(self):  # type: ignore[no-untyped-def]  # as in logging
        stream = super()._open()
        if os.name == "posix":
            os.chmod(self.baseFilename, 0o600)  # noqa: PTH101  # a path string of logging's
        return stream

    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written must not hurt what it tells about."""


def describe(error: BaseException) -> str:
    """An exception and its causes without foreign texts."""
    lines: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        text = f": {current}" if isinstance(current, _OURS) else ""
        if isinstance(current, OSError) and current.errno is not None and not text:
            text = f": errno {current.errno}"
        lines.append(f"{type(current).__module__}.{type(current).__qualname__}{text}")
        for frame in traceback.extract_tb(current.__traceback__):
            lines.append(f"    {Path(frame.filename).name}:{frame.lineno} {frame.name}")
        current = current.__cause__ or current.__context__
    return "\n".join(lines)


def open_log(folder: Path) -> Path:
    """Send all logging to `log/corral.log` in the data folder, uncaught errors of threads too.

    Raises `OSError` if the file cannot be opened.
    """
    path = folder / FOLDER / NAME
    path.parent.mkdir(mode=0o700, exist_ok=True)
    handler = _PrivateFile(path, maxBytes=MAX_BYTES, backupCount=NUM_OLD, encoding="utf-8")
    handler.setFormatter(PrivateFormatter(_FORMAT))
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _PrivateFile)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
    threading.excepthook = _thread_failed
    sys.excepthook = _process_failed
    return path


def close_log() -> None:
    """Close the file and give the hooks back."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _PrivateFile)]:
        root.removeHandler(handler)
        handler.close()
    threading.excepthook = threading.__excepthook__
    sys.excepthook = sys.__excepthook__


def watch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Send what nobody caught on the event loop to the log."""
    loop.set_exception_handler(_task_failed)


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread else "?"
    if args.exc_value is not None:
        log.error("thread %s ended\n%s", name, describe(args.exc_value))


def _process_failed(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        log.critical("the process ended\n%s", describe(error))
    sys.__excepthook__(kind, error, trace)


def _task_failed(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    if isinstance(error, BaseException):
        log.error("a task ended\n%s", describe(error))
    else:
        log.error("the event loop reports a problem")
