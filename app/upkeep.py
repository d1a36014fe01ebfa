"""What a running Corral does now and then: end guests, empty the trash, make a daily backup."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread

from storage.records import StorageError
from storage.store import Store

EVERY_SECONDS = 600.0  # so long at most a guest's words outlive a session that ran out

log = logging.getLogger("corral.upkeep")


def start_upkeep(
    store: Store,
    *,
    purge_trash: Callable[[], object],
    keep_days: Callable[[], int] = lambda: 0,
    end_guests: Callable[[], object] = lambda: None,
    end_temporary: Callable[[], object] = lambda: None,
    closing: Event,
    every_seconds: float = EVERY_SECONDS,
) -> Thread:
    """Begin on a thread of its own, at once and then every ten minutes, until `closing` is set.

    `keep_days` says for how long what the guard held back of answers is kept.
    """

    def run() -> None:
        while True:
            _attempt("purge_trash", purge_trash)
            _attempt("drop_withheld", lambda: store.drop_withheld(older_than_days=keep_days()))
            _attempt("end_guests", end_guests)
            _attempt("end_temporary", end_temporary)
            _attempt("backup_daily", store.backup_daily)
            if closing.wait(every_seconds):
                return

    thread = Thread(target=run, name="upkeep", daemon=True)
    thread.start()
    return thread


def _attempt(name: str, do: Callable[[], object]) -> None:
    """Do one thing; a failure is noted and tried again the next time, and stops nothing else."""
    try:
        do()
    except StorageError as error:
        log.warning("%s did not happen: %s", name, type(error).__name__)
