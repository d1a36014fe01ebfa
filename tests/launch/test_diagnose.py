"""`launcher.py check`: facts and errors for a report, nothing that was said, nobody's name."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from launch import diagnose
from launch.diagnose import NUM_ERRORS, NUM_PLACES, last_errors
from launch.words import read_settings
from tests.launch.conftest import used_folder

INFO = "2026-01-02 03:04:05,678 INFO corral: serving on port 7860"
ERROR = "2026-01-02 03:04:06,789 ERROR corral: thread {} ended"
FRAMES = ["builtins.ValueError", "    turn.py:17 take_turn", "    gate.py:4 push"]


def test_the_last_errors_come_with_their_places(tmp_path: Path) -> None:
    log = tmp_path / "corral.log"
    assert last_errors(log) == []
    lines = ["the end of a record that was rotated away", INFO, *FRAMES]
    for number in range(NUM_ERRORS + 2):
        lines += [ERROR.format(number), *FRAMES, INFO]
    log.write_text("\n".join(lines))
    told = last_errors(log)
    assert told[:4] == [ERROR.format(2), *FRAMES]
    assert told[-4:] == [ERROR.format(NUM_ERRORS + 1), *FRAMES]
    assert INFO not in told
    log.write_text("\n".join([ERROR.format(0), *FRAMES * 1000]))
    assert last_errors(log) == [ERROR.format(0), *(FRAMES * 1000)[-NUM_PLACES:]]


def test_what_is_wrong_is_told_without_the_name_of_the_person(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = used_folder(read_settings([]))
    (data / "log" / "corral.log").write_text(f"{ERROR.format(data)}\n")
    monkeypatch.setattr(diagnose, "VENV", home / ".venv")  # nothing is installed
    monkeypatch.setattr(diagnose, "venv_python", lambda: home / ".venv" / "python")
    assert diagnose.check(read_settings(["--port", "7000"])) == 0
    told = capsys.readouterr().out
    assert "not checked (nothing is installed)" in told and "port (command line)" in told
    assert ERROR.format("~/share/corral") in told
    assert str(home) not in told


@pytest.mark.parametrize(
    ("writable", "free", "hindrance"),
    [(False, 10**9, "cannot be written"), (True, 10**3, "is full"), (True, 10**9, "")],
)
def test_a_folder_that_hinders_a_start_is_told(
    writable: bool,
    free: int,
    hindrance: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    used_folder(read_settings([]))
    monkeypatch.setattr(diagnose, "venv_python", lambda: home / ".venv" / "python")
    monkeypatch.setattr(diagnose.os, "access", lambda path, mode: writable)
    monkeypatch.setattr(diagnose.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert diagnose.check(read_settings([])) == bool(hindrance)
    assert ("In the way" in (told := capsys.readouterr().out)) == bool(hindrance)
    assert hindrance in told
