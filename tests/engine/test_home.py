"""Everybody finds the data folder, also after it was moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.setting import SettingsInvalid
from app.settings import Settings
from engine.__main__ import main, models_folder
from engine.home import MOVED_FILE, PointerUnreadable, data_folder, default_data_folder


def test_default_folders_by_system() -> None:
    home = Path("/home/x")
    assert default_data_folder("linux", {}, home) == home / ".local/share/corral"
    assert default_data_folder("linux", {"XDG_DATA_HOME": "/d"}, home) == Path("/d/corral")
    relative = default_data_folder("linux", {"XDG_DATA_HOME": "d"}, home)
    assert relative == home / ".local/share/corral"
    mac = default_data_folder("darwin", {}, home)
    assert mac == home / "Library/Application Support/Corral"
    assert default_data_folder("win32", {"LOCALAPPDATA": "/l"}, home) == Path("/l/Corral")
    local = home / "AppData" / "Local" / "Corral"
    assert default_data_folder("win32", {}, home) == local


@pytest.fixture
def usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder, in a home of its own."""
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "share"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CORRAL_DATA", raising=False)
    return default_data_folder()


def test_app_and_engine_follow_a_moved_folder(usual: Path, tmp_path: Path) -> None:
    assert data_folder() == Settings.load().data == usual
    assert models_folder() == usual / "models"
    usual.mkdir(parents=True)
    (usual / MOVED_FILE).write_text(f"{tmp_path / 'elsewhere'}\n")
    assert data_folder() == Settings.load().data == tmp_path / "elsewhere"
    assert models_folder() == tmp_path / "elsewhere" / "models"
    assert Settings.load(["--data", str(tmp_path / "named")]).data == tmp_path / "named"


def test_a_note_that_cannot_be_read_is_said(
    usual: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (usual / MOVED_FILE).mkdir(parents=True)
    with pytest.raises(PointerUnreadable, match="Mend it or remove it"):
        data_folder()
    with pytest.raises(SettingsInvalid, match="Mend it or remove it"):
        Settings.load()
    assert main(["models"]) == 1
    assert "Mend it or remove it" in capsys.readouterr().err
