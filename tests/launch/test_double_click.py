"""The files to double-click start the launcher of their own folder, wherever it lies."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ("Start Corral.command", "Start Corral.bat", "Start Corral.desktop")

needs_bash = pytest.mark.skipif(sys.platform == "win32", reason="needs bash")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout with a space in its name, whose launcher writes down that it ran."""
    place = tmp_path / "my programs" / "corral"
    place.mkdir(parents=True)
    for name in NAMES:
        shutil.copy(ROOT / name, place)
    (place / "launcher.py").write_text(
        "import os, pathlib, sys\n"
        "pathlib.Path('ran').write_text(os.getcwd() + '\\n' + ' '.join(sys.argv[1:]))\n"
        "sys.exit(int(os.environ.get('FAIL', '0')))\n"
    )
    return place


@needs_bash
def test_the_mac_file_runs_the_launcher_beside_it(folder: Path) -> None:
    subprocess.run([folder / NAMES[0]], cwd="/", check=True, timeout=60)
    assert (folder / "ran").read_text().splitlines()[0] == os.path.realpath(folder)


@needs_bash
def test_after_a_failure_the_window_stays_open_until_a_key(folder: Path) -> None:
    run = subprocess.run(
        [folder / NAMES[0]], env={**os.environ, "FAIL": "3"}, input="\n", text=True, timeout=60
    )
    assert run.returncode == 3


@needs_bash
def test_the_linux_file_runs_the_same(folder: Path) -> None:
    """Unquoted as the Desktop Entry specification says: string escapes, then quoting rules."""
    text = (folder / NAMES[2]).read_text()
    line = re.search(r"^Exec=(.*)$", text, re.M)
    assert line is not None
    unescaped = line[1].replace("\\\\", "\\")
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', unescaped)
    words = [re.sub(r'\\(["`$\\])', r"\1", quoted) or bare for quoted, bare in found]
    words = [str(folder / NAMES[2]) if word == "%k" else word for word in words]
    subprocess.run(words, cwd="/", check=True, timeout=60)
    assert (folder / "ran").read_text().splitlines()[0] == os.path.realpath(folder)


def test_the_windows_file_has_windows_line_ends_and_changes_to_its_folder() -> None:
    content = (ROOT / NAMES[1]).read_bytes()
    assert content.count(b"\r\n") == content.count(b"\n") > 5
    assert b'cd /d "%~dp0"' in content


@needs_bash
@pytest.mark.parametrize("name", [NAMES[0], NAMES[2]])
def test_they_may_be_executed(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
