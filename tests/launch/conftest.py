"""A home of a test's own, and an installation whose pip writes down what it was asked."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.settings import Settings
from launch import install, machine
from launch.place import prepare_data_folder

SCRIPT = """#!{python}
import pathlib, sys
here = pathlib.Path(__file__).parent.parent
with (here / "asked").open("a") as asked:
    asked.write(" ".join(sys.argv[1:]) + "\\n")
if (here / "fail").exists() and (here / "fail").read_text() in " ".join(sys.argv):
    print("ERROR: No matching distribution found for that")
    sys.exit(1)
print("Collecting something")
"""


@dataclass(frozen=True)
class FakeVenv:
    """A folder in the place of `.venv`."""

    folder: Path

    def asked(self) -> list[str]:
        """Every command line that its Python got, in order."""
        return (self.folder / "asked").read_text().splitlines()

    def installs(self) -> list[str]:
        """What pip was asked to install."""
        return [line for line in self.asked() if line.startswith("-m pip install")]

    def fail(self, word: str) -> None:
        """From now on, commands with this word in them fail; an empty word mends it."""
        if word:
            (self.folder / "fail").write_text(word)
        else:
            (self.folder / "fail").unlink()


@pytest.fixture
def fake_venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeVenv:
    """An installation on a machine without GPU whose network reaches nothing."""
    if sys.platform == "win32":
        pytest.skip("the stand-in for pip is a script with a #! line")
    folder = tmp_path / "venv"

    def make(venv: Path) -> None:
        python = venv / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(SCRIPT.format(python=sys.executable))
        python.chmod(0o755)

    monkeypatch.setattr(install, "make_environment", make)
    monkeypatch.setattr(install, "reachable", lambda url: False)
    here = machine.Machine("linux", "x86_64", system_version=(2, 36))
    monkeypatch.setattr(machine, "examine", lambda: here)
    return FakeVenv(folder)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's home with an empty place for data."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "share"))
    monkeypatch.delenv("CORRAL_DATA", raising=False)
    return tmp_path


def used_folder(settings: Settings) -> Path:
    """A data folder with something in every corner."""
    prepare_data_folder(settings.data)
    (settings.data / "corral.db").write_bytes(b"words" * 1000)
    (settings.data / "backups").mkdir()
    (settings.data / "backups" / "corral-1.db").write_bytes(b"older words")
    return settings.data
