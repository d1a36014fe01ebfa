"""Thousands of short turns on the whole way of a message: `python -m benchmarks.soak`.

Page to store without a page: jobs, guard, gate, engine and database as they are, the built-in model
and guard unless others are named. Conversations of ten turns; some answers are stopped in the
middle, some conversations removed for good. Printed now and then: resident memory, keys and values,
threads, files. Memory must stay flat from the first tenth on; if it does not, the exit code is 1.
`--data DIR` goes on in a folder that an earlier run left.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event

import psutil

from app.job import Job
from app.requests import Send
from app.services import Services
from app.settings import Settings
from engine.base import Caching
from engine.memory import give_back
from storage.records import OWNER_ID

TURNS_EACH = 10  # of a conversation
STOPPED = 20  # every so many turns an answer is stopped
REMOVED = 5  # and every so many conversations one is removed
NEW_TOKENS = 8
# More than this is growth: what torch and SQLite keep for themselves comes and goes.
ALLOWED_BYTES, ALLOWED_PART = 16 << 20, 0.03
PROMPTS = ("Hello!", "What is 7 plus 5?", "Tell me about the sea.", "And then?", "Thank you.")


@dataclass(frozen=True, slots=True)
class Sample:
    """What is held after so many turns."""

    turns: int
    resident_bytes: int
    cache_bytes: int  # keys and values on the device and in memory
    cache_disk_bytes: int
    threads: int
    file_bytes: int  # of the data folder
    seconds: float


def soak(services: Services, turns: int, every: int) -> Iterator[Sample]:
    """Do so many turns; a sample after each `every`. The services are loaded and used alone."""
    services.store.set_setting(OWNER_ID, "sampling", json.dumps({"max_new_tokens": NEW_TOKENS}))
    began, key, parent = time.monotonic(), None, None
    past: list[str] = []
    for turn in range(1, turns + 1):
        sent = Send(key, parent, f"{PROMPTS[turn % len(PROMPTS)]} {turn}", f"soak-{began}-{turn}")
        job = services.jobs.start(OWNER_ID, sent)
        if turn % STOPPED == 0:
            services.jobs.stop(OWNER_ID, job.key)
        _wait(job)
        key, parent = job.key, job.reply_id
        if turn % TURNS_EACH == 0:
            past.append(job.key)
            key = parent = None
        if len(past) == REMOVED:
            services.purge(OWNER_ID, past.pop(0))
            past.clear()
        if turn % every == 0:
            yield _sample(services, turn, time.monotonic() - began)


def _wait(job: Job) -> None:
    while (view := job.view()).phase != "ended":
        time.sleep(0.001)
    if view.status == "error":
        raise SystemExit(f"a turn failed: {view.error_code}")


def _sample(services: Services, turns: int, seconds: float) -> Sample:
    engine = services.engine.wait(Event())
    sizes = engine.cache_sizes() if isinstance(engine, Caching) else None
    files = (path for path in services.settings.data.rglob("*") if path.is_file())
    give_back()
    return Sample(
        turns=turns,
        resident_bytes=psutil.Process().memory_info().rss,
        cache_bytes=sizes.device_bytes + sizes.memory_bytes if sizes else 0,
        cache_disk_bytes=sizes.disk_bytes if sizes else 0,
        threads=threading.active_count(),
        file_bytes=sum(path.stat().st_size for path in files),
        seconds=round(seconds, 1),
    )


def growth(samples: Sequence[Sample]) -> int:
    """Bytes by which the last fifth holds more than the fifth behind the first tenth."""
    start, fifth = len(samples) // 10, max(1, len(samples) // 5)
    early = statistics.median(each.resident_bytes for each in samples[start : start + fifth])
    late = statistics.median(each.resident_bytes for each in samples[-fifth:])
    return int(late - early)


def main() -> int:
    """Print a line a sample, and at the end whether memory stayed flat, or one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=10_000)
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--data", type=Path, help="a folder that stays")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="corral-soak-") as place:
        data = str(chosen.data or place)
        services = Services(Settings.load(["--data", data, "--model", chosen.model], {}))
        services.start()
        services.load()
        samples = []
        try:
            services.guard.wait(Event())
            for sample in soak(services, chosen.turns, max(1, chosen.turns // 50)):
                samples.append(sample)
                print(_line(sample), file=sys.stderr, flush=True)
        finally:
            services.close()
    grown = growth(samples)
    flat = grown <= max(ALLOWED_BYTES, ALLOWED_PART * samples[-1].resident_bytes)
    if chosen.json:
        print(json.dumps({"flat": flat, "grown_bytes": grown, "last": asdict(samples[-1])}))
    else:
        print(f"{samples[-1].turns:,} turns: {grown / 1e6:+.1f} MB, {'flat' if flat else 'GROWN'}")
    return 0 if flat else 1


def _line(sample: Sample) -> str:
    return (
        f"{sample.turns:7,} turns  {sample.resident_bytes / 1e6:7.1f} MB  "
        f"cache {sample.cache_bytes / 1e6:.1f} MB, {sample.cache_disk_bytes / 1e6:.1f} on disk  "
        f"{sample.threads} threads  files {sample.file_bytes / 1e6:.1f} MB  {sample.seconds:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
