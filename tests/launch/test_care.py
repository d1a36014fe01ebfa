"""Updates and the format of the data folder: the old version stays until the new one has run."""

import subprocess
import sys
from pathlib import Path

import pytest

from launch import care, install, place
from launch.place import Problem, check_format, prepare_data_folder
from launch.words import read_settings
from tests.launch.conftest import used_folder
from tests.storage import make


def test_a_new_folder_gets_the_format_and_a_newer_one_is_refused(tmp_path: Path) -> None:
    prepare_data_folder(tmp_path)
    assert (tmp_path / place.FORMAT_FILE).read_text() == f"{place.FORMAT}\n"
    check_format(tmp_path)
    (tmp_path / place.FORMAT_FILE).write_text(f"{place.FORMAT + 1}\n")
    with pytest.raises(Problem, match="newer Corral"):
        prepare_data_folder(tmp_path)
    (tmp_path / place.FORMAT_FILE).write_text("one")
    with pytest.raises(Problem, match="should hold one number"):
        prepare_data_folder(tmp_path)


def test_a_folder_that_was_made_while_the_disk_was_full_is_used_later(tmp_path: Path) -> None:
    (tmp_path / place.FORMAT_FILE).touch()
    prepare_data_folder(tmp_path)
    assert (tmp_path / place.FORMAT_FILE).read_text() == f"{place.FORMAT}\n"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Problem, match="--data FOLDER"):
        prepare_data_folder(tmp_path / "file" / "data")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone that is one commit behind, with an environment in it."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "A tester")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "tester@example.org")

    def git(folder: Path, *words: str) -> None:
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)

    source, clone = tmp_path / "source", tmp_path / "clone"
    source.mkdir()
    git(source, "init", "-b", "main")
    for version in ("old", "new"):
        (source / "file").write_text(version)
        git(source, "add", "file")
        git(source, "commit", "-m", version)
        if version == "old":
            git(tmp_path, "clone", str(source), str(clone))
    venv = clone / ".venv"
    venv.mkdir()
    (venv / "old").touch()
    monkeypatch.setattr(care, "ROOT", clone)
    for name, folder in (("VENV", ".venv"), ("NEW_VENV", ".venv-new"), ("OLD_VENV", ".venv-old")):
        monkeypatch.setattr(care, name, clone / folder)
    return clone


def test_a_failed_update_puts_the_version_from_before_back(
    checkout: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def renewal(command: list[str], cwd: Path) -> int:
        seen.append((cwd / "file").read_text())
        care.NEW_VENV.mkdir()
        return 1

    monkeypatch.setattr(care.subprocess, "call", renewal)
    with pytest.raises(Problem, match="from before is in place again"):
        care.update(read_settings([]))
    assert seen == ["new"]
    assert (checkout / "file").read_text() == "old"
    assert (checkout / ".venv" / "old").exists()
    assert not care.NEW_VENV.exists()


def test_what_stopped_the_other_process_is_said_once_and_stands_in_the_log(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        place.log.info("pip: a long story")
        raise Problem("There is no room.")

    data = used_folder(read_settings([]))
    monkeypatch.setattr(care, "renew", fail)
    assert care.renewal(str(data)) == 1
    assert capsys.readouterr().err == "There is no room.\n"
    log = (data / "log" / "corral.log").read_text()
    assert "pip: a long story" in log and "There is no room." in log


def test_an_update_that_is_stopped_goes_back(
    checkout: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(command: list[str], cwd: Path) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(care.subprocess, "call", stop)
    with pytest.raises(Problem, match="^Stopped. The version from before is in place again"):
        care.update(read_settings([]))
    assert (checkout / "file").read_text() == "old"


def test_a_good_update_keeps_the_new_version(
    checkout: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(care.subprocess, "call", lambda command, cwd: 0)
    assert care.update(read_settings([])) == 0
    assert (checkout / "file").read_text() == "new"


def test_changes_of_ones_own_stop_the_update_and_stay(checkout: Path, home: Path) -> None:
    (checkout / "file").write_text("mine")
    with pytest.raises(Problem, match="cannot be fetched: Your local changes .*: file. Nothing"):
        care.update(read_settings([]))
    assert (checkout / "file").read_text() == "mine"


def test_a_source_that_is_away_stops_the_update(checkout: Path, home: Path) -> None:
    (checkout.parent / "source").rename(checkout.parent / "elsewhere")
    with pytest.raises(Problem, match="source' does not .*. Nothing was changed"):
        care.update(read_settings([]))
    assert (checkout / "file").read_text() == "old"


def test_versions_that_went_apart_are_not_merged(checkout: Path, home: Path) -> None:
    subprocess.run(["git", "commit", "--allow-empty", "-m", "mine"], cwd=checkout, check=True)
    with pytest.raises(Problem, match="fetched: Not possible to fast-forward, aborting. Nothing"):
        care.update(read_settings([]))
    assert (checkout / "file").read_text() == "old"


def test_the_update_stops_where_the_backup_fails(
    checkout: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used_folder(read_settings([]))
    monkeypatch.setattr(care, "venv_python", lambda: Path(sys.executable))  # not a database: fails
    with pytest.raises(Problem, match="backup before the update failed"):
        care.update(read_settings([]))
    assert (checkout / "file").read_text() == "old"


def test_the_database_is_copied_before_an_update(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = read_settings([]).data
    make.open_store(data).close()
    monkeypatch.setattr(care, "venv_python", lambda: Path(sys.executable))
    care.back_up(data)
    [copy] = (data / "backups").iterdir()
    assert copy.name.endswith("-update.db")


def test_what_does_not_start_is_not_swapped_in(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "complete", lambda venv: False)
    monkeypatch.setattr(install, "install", lambda venv: venv.mkdir())

    def fail(python: Path) -> None:
        raise Problem("does not start")

    monkeypatch.setattr(care, "try_out", fail)
    with pytest.raises(Problem, match="does not start"):
        care.renew()
    assert (checkout / ".venv" / "old").exists()
    monkeypatch.setattr(care, "try_out", lambda python: None)
    care.renew()
    assert not (checkout / ".venv" / "old").exists()
    assert not care.NEW_VENV.exists()
    assert not care.OLD_VENV.exists()


def test_a_swap_that_fails_half_way_is_undone(checkout: Path) -> None:
    with pytest.raises(OSError, match="not-there"):
        care.swap(checkout / "not-there", care.VENV, care.OLD_VENV)
    assert (checkout / ".venv" / "old").exists()
