"""kill -9 while text streams in: nothing acknowledged is lost, the partial answer is there."""

import os
import random
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage import health
from storage.records import OWNER_ID, DatabaseBusy
from storage.store import Store
from tests.storage import make

WRITER = """
import sys, time
from pathlib import Path
from storage.store import Store
from tests.storage import make

store = Store.open(Path(sys.argv[1]), ballast_bytes=1 << 20)
key = store.create_conversation(1).key
print("key", key, flush=True)
parent = None
for turn_number in range(10_000):
    turn = store.begin_turn(1, key, parent_id=parent, text=f"prompt {turn_number}", client_key="")
    print("prompt", turn.prompt.id, turn.reply.id, turn_number, flush=True)
    for piece in range(12):
        store.append(turn.reply.id, f"{piece} ")
        if piece % 4 == 3:
            make.flush(store)
            print("text", turn.reply.id, piece, flush=True)
        time.sleep(0.001)
    reply = store.finish_reply(
        turn.reply.id, status="done", generation=make.generation(), verdicts=[make.ALLOW]
    )
    parent = reply.id
    print("done", reply.id, flush=True)
"""


def _acknowledged(folder: Path, seconds: float, environment: dict[str, str]) -> list[list[str]]:
    """What a child process acknowledged before it was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", BUILD + WRITER, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline()]  # started
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
        lines += child.stdout.read().splitlines(keepends=True)
    assert child.returncode == -signal.SIGKILL
    return [line.split() for line in lines if line.endswith("\n")]


# The child uses the SQLite that this process uses.
BUILD = (
    "import sys; sys.modules['pysqlite3'] = None\n"
    if sys.modules.get("pysqlite3", 0) is None
    else ""
)


def _check(store: Store, lines: list[list[str]]) -> int:
    """Compare with what was acknowledged; return how many messages were interrupted."""
    key = lines[0][1]
    by_id = {message.id: message for message in store.path(OWNER_ID, key)}
    for kind, *values in lines[1:]:
        message = by_id[int(values[0])]
        if kind == "prompt":
            assert message.content == f"prompt {values[2]}"
            assert by_id[int(values[1])].parent_id == message.id
        elif kind == "text":
            assert message.content.startswith("".join(f"{n} " for n in range(int(values[1]) + 1)))
        elif kind == "done":
            assert message.status == "done"
            assert message.content == "".join(f"{n} " for n in range(12))
            assert message.generations
    statuses = [message.status for message in by_id.values()]
    assert "streaming" not in statuses
    return statuses.count("interrupted")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("count", [4, pytest.param(1000, marks=pytest.mark.full)])
def test_killed_while_streaming(
    tmp_path: Path, guarded_environment: dict[str, str], count: int
) -> None:
    chance = random.Random(11)
    moments = [chance.uniform(0.01, 0.25) for _ in range(count)]

    def kill(n: int) -> tuple[int, int]:
        folder = tmp_path / str(n)
        lines = _acknowledged(folder, moments[n], guarded_environment)
        store = make.open_store(folder)
        assert store.repair is None
        assert store._writer.call(health.problems) == []
        interrupted = _check(store, lines)
        assert store.num_interrupted == interrupted
        if interrupted:
            _goes_on(store, lines[0][1])
        store.close()
        shutil.rmtree(folder)
        return interrupted, len(lines)

    # Each has a folder and a process of its own, and most of its time is waiting.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = list(pool.map(kill, range(count)))
    num_interrupted, num_acknowledged = (sum(column) for column in zip(*counts, strict=True))
    assert num_interrupted >= count // 2, "most kills hit a reply that was being written"
    print(f"{count} kills, {num_acknowledged} acknowledgements, 0 lost")


def _goes_on(store: Store, key: str) -> None:
    """The interrupted answer can be continued."""
    partial = store.path(OWNER_ID, key)[-1]
    assert partial.status == "interrupted"
    resumed = store.resume_reply(OWNER_ID, key, reply_id=partial.id)
    assert resumed.reply.content == partial.content
    assert make.finish(store, partial.id, "end").content == partial.content + "end"


def test_a_second_writer_is_refused_and_told_why(folder: Path) -> None:
    store = make.open_store(folder)
    with pytest.raises(DatabaseBusy, match="Another Corral"):
        make.open_store(folder)
    assert store.create_conversation(OWNER_ID).title == ""
    store.close()
    make.open_store(folder).close()
