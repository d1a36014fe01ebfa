"""Keys and values on the disk: found after a restart, private, and gone with their conversation."""

import stat
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from engine.base import Chunk, Prompt, Sampling, Statistics
from engine.disk_tier import PIECE
from engine.kept_files import MEMORY_ONLY, remove_kept
from engine.local import LocalEngine
from engine.options import Options
from tests.engine.checkpoints import make_checkpoint

NUM_PROMPT = 3 * PIECE + 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("models") / "tiny", max_position_embeddings=1024)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def conversations_kept(folder: Path) -> list[str]:
    """The scopes of which something is kept."""
    return [f"{place.parent.name}/{place.name}" for place in folder.glob("*/*") if place.is_dir()]


def start(folder: Path, kept: Path, **options: Any) -> LocalEngine:
    options = {"precision": "fp32", "disk_folder": kept, **options}
    return LocalEngine(folder, Options(device="cpu", threads=1, **options))


def prompt(num: int = NUM_PROMPT, seed: int = 0) -> Prompt:
    return Prompt(ids=[256, *((seed * 31 + at * at * 7) % 256 for at in range(num - 1))])


def ask(
    engine: LocalEngine, prompt: Prompt, scope: str = "user-1/a", **options: Any
) -> tuple[list[int], Statistics]:
    sampling = Sampling(**{"temperature": 0, "max_new_tokens": 6, **options})
    chunks: list[Chunk] = list(engine.stream(prompt, sampling, cancel=Event(), scope=scope))
    statistics = chunks[-1].statistics
    assert statistics is not None
    return [id for chunk in chunks for id in chunk.ids], statistics


def files(kept: Path) -> list[Path]:
    return sorted(path for path in kept.rglob("*") if path.is_file())


@pytest.fixture
def fresh(folder: Path, kept: Path) -> Iterator[list[LocalEngine]]:
    """Engines to close at the end."""
    engines: list[LocalEngine] = []
    yield engines
    for engine in engines:
        engine.close()


def restarted(engine: LocalEngine, folder: Path, kept: Path, **options: Any) -> LocalEngine:
    engine.close()
    return start(folder, kept, **options)


def test_after_a_restart_the_history_is_not_read_again(
    folder: Path, kept: Path, fresh: list[LocalEngine]
) -> None:
    first = start(folder, kept)
    answer, cold = ask(first, prompt())
    assert cold.num_reused == 0
    second = restarted(first, folder, kept)
    fresh.append(second)
    again, warm = ask(second, prompt())
    assert again == answer
    assert warm.num_reused == 3 * PIECE


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 5}])
@pytest.mark.parametrize("shared", [0, 60, PIECE, 2 * PIECE + 5])
def test_what_the_disk_gives_never_changes_an_answer(
    folder: Path, kept: Path, fresh: list[LocalEngine], shared: int, sampling: dict[str, Any]
) -> None:
    """Also where the device holds a part of the beginning already."""
    first = start(folder, kept)
    expected, _ = ask(first, prompt(), scope="", **sampling)
    ask(first, prompt())
    second = restarted(first, folder, kept)
    fresh.append(second)
    if shared:
        ids = prompt().ids
        assert ids is not None
        ask(second, Prompt(ids=[*ids[:shared], 9, 9]), scope="user-1/b", max_new_tokens=1)
    again, warm = ask(second, prompt(), **sampling)
    assert again == expected
    assert warm.num_reused >= 3 * PIECE


def test_a_turn_writes_only_what_it_added(
    folder: Path, kept: Path, fresh: list[LocalEngine]
) -> None:
    engine = start(folder, kept)
    ask(engine, prompt())
    engine = restarted(engine, folder, kept)
    before = {path: path.stat().st_mtime_ns for path in files(kept)}
    assert len(before) == 3
    longer = prompt()
    assert longer.ids is not None
    ask(engine, Prompt(ids=[*longer.ids, *range(PIECE)]))
    engine.close()
    after = {path: path.stat().st_mtime_ns for path in files(kept)}
    assert len(after) == 4 and all(after[path] == when for path, when in before.items())


def test_files_are_private(folder: Path, kept: Path) -> None:
    engine = start(folder, kept)
    ask(engine, prompt())
    engine.close()
    assert files(kept)
    for path in (kept, *kept.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("scope", ["", "user-1", f"{MEMORY_ONLY}user-2/a", "user-1/../../x"])
def test_guests_and_temporary_chats_leave_no_file(folder: Path, kept: Path, scope: str) -> None:
    engine = start(folder, kept)
    ask(engine, prompt(), scope=scope)
    _, again = ask(engine, prompt(), scope=scope)
    assert (again.num_reused > 0) == bool(scope), "in memory it is kept while the chat goes on"
    engine.close()
    assert files(kept) == []


def test_the_disk_is_not_shared_between_owners(
    folder: Path, kept: Path, fresh: list[LocalEngine]
) -> None:
    engine = start(folder, kept)
    ask(engine, prompt(), scope="user-1/a")
    engine = restarted(engine, folder, kept)
    fresh.append(engine)
    _, other = ask(engine, prompt(), scope="user-2/a")
    assert other.num_reused == 0
    _, guest = ask(engine, prompt(), scope=f"{MEMORY_ONLY}user-1/a")
    assert guest.num_reused == 0
    _, same = ask(engine, prompt(), scope="user-1/b")
    assert same.num_reused == 3 * PIECE


def test_forgetting_removes_files_of_every_model(
    folder: Path, kept: Path, tmp_path: Path, fresh: list[LocalEngine]
) -> None:
    other = make_checkpoint(tmp_path / "other", seed=1, max_position_embeddings=1024)
    for model in (folder, other):
        engine = start(model, kept)
        ask(engine, prompt(), scope="user-1/a")
        ask(engine, prompt(seed=1), scope="user-1/b")
        engine.close()
    assert len(files(kept)) == 12
    engine = start(folder, kept)
    fresh.append(engine)
    assert engine.cache_sizes().disk_bytes == sum(path.stat().st_size for path in files(kept))
    engine.forget("user-1/a")
    assert conversations_kept(kept) == ["user-1/b"] and len(files(kept)) == 6
    assert engine.cache_sizes().disk_bytes == sum(path.stat().st_size for path in files(kept))
    _, gone = ask(engine, prompt(), scope="user-1/a", max_new_tokens=1)
    assert gone.num_reused == 0
    engine.forget("user-1")
    assert files(kept) == []


def test_forgetting_while_an_answer_is_written_leaves_no_file(folder: Path, kept: Path) -> None:
    engine = start(folder, kept)
    sampling = Sampling(temperature=0, max_new_tokens=200)
    stream = engine.stream(prompt(), sampling, cancel=Event(), scope="user-1/a")
    while not next(stream).ids:
        pass
    engine.forget("user-1/a")
    list(stream)
    engine.close()
    assert files(kept) == []


def test_removal_needs_no_engine_and_stays_inside(kept: Path, tmp_path: Path) -> None:
    for place in ("user-1/a", "user-1/b", "user-2/a"):
        (kept / place).mkdir(parents=True)
        (kept / place / "x.safetensors").write_bytes(b"x")
    (tmp_path / "precious").mkdir()
    for scope in ("", "..", "../precious", "user-1/..", "user-1/a/b", "/"):
        remove_kept(kept, scope)
    assert len(files(kept)) == 3 and (tmp_path / "precious").is_dir()
    remove_kept(kept, "user-1/a")
    assert sorted(conversations_kept(kept)) == ["user-1/b", "user-2/a"]


def spoil_content(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def pickle(path: Path) -> None:
    path.write_bytes(b"\x80\x04" + b"x" * 200)


@pytest.mark.parametrize("damage", [spoil_content, cut, empty, pickle])
def test_a_damaged_piece_is_removed_and_read_again(
    folder: Path,
    kept: Path,
    fresh: list[LocalEngine],
    damage: object,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert callable(damage)
    engine = start(folder, kept)
    expected, _ = ask(engine, prompt())
    engine.close()
    for path in files(kept):
        damage(path)
    engine = start(folder, kept)
    fresh.append(engine)
    before = files(kept)
    again, statistics = ask(engine, prompt(), max_new_tokens=6)
    assert again == expected and statistics.num_reused == 0
    assert "damaged and is removed" in caplog.text
    engine.close()
    engine = start(folder, kept)
    fresh.append(engine)
    _, mended = ask(engine, prompt())
    assert mended.num_reused == 3 * PIECE and files(kept) == before


def test_a_piece_under_another_name_is_not_believed(
    folder: Path, kept: Path, fresh: list[LocalEngine]
) -> None:
    engine = start(folder, kept)
    ask(engine, prompt(seed=1), scope="user-1/b")
    engine = restarted(engine, folder, kept)
    foreign = files(kept)
    expected, _ = ask(engine, prompt())
    engine.close()
    mine = [path for path in files(kept) if path not in foreign]
    for own, other in zip(mine, foreign, strict=True):
        own.write_bytes(other.read_bytes())
    engine = start(folder, kept)
    fresh.append(engine)
    again, statistics = ask(engine, prompt())
    assert again == expected and statistics.num_reused == 0


def test_another_precision_finds_nothing(
    folder: Path, kept: Path, fresh: list[LocalEngine]
) -> None:
    engine = start(folder, kept)
    ask(engine, prompt())
    engine = restarted(engine, folder, kept, precision="bf16")
    fresh.append(engine)
    _, statistics = ask(engine, prompt())
    assert statistics.num_reused == 0


def test_the_oldest_conversation_makes_room(
    folder: Path, kept: Path, fresh: list[LocalEngine]
) -> None:
    engine = start(folder, kept)
    ask(engine, prompt(), scope="user-1/a")
    engine.close()
    size = sum(path.stat().st_size for path in files(kept))
    engine = start(folder, kept, disk_bytes=2 * size + 10)
    fresh.append(engine)
    for seed, name in ((1, "b"), (2, "c")):
        ask(engine, prompt(seed=seed), scope=f"user-1/{name}")
    sizes = engine.cache_sizes()
    engine.close()
    assert sizes.disk_limit == 2 * size + 10
    assert sorted(conversations_kept(kept)) == ["user-1/b", "user-1/c"]
    assert sum(path.stat().st_size for path in files(kept)) <= sizes.disk_limit


def test_a_full_disk_never_ends_an_answer(
    folder: Path, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept.write_text("a file where the folder should be")
    engine = start(folder, kept)
    answer, _ = ask(engine, prompt())
    assert len(answer) == 6
    engine.close()
    assert "not kept on the disk" in caplog.text
