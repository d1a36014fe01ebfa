"""Moving the data folder and removing everything: nothing is lost that was not meant to be."""

import shutil
from pathlib import Path

import pytest

from app.settings import Settings
from engine.home import MOVED_FILE
from launch import moving
from launch.place import Problem
from launch.words import read_settings
from tests.launch.conftest import used_folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_a_moved_folder_is_whole_and_found_again(home: Path) -> None:
    before = contents(old := used_folder(read_settings([])))
    new = home / "big disk" / "corral"
    assert moving.move(read_settings([]), str(new)) == 0
    assert contents(new) == before
    assert read_settings([]).data == new
    assert contents(old) == {MOVED_FILE: f"{new}\n".encode()}


def test_it_can_be_moved_on_and_back(home: Path) -> None:
    old = used_folder(read_settings([]))
    before = contents(old)
    moving.move(read_settings([]), str(home / "a"))
    moving.move(read_settings([]), str(home / "b"))
    assert not (home / "a").exists()
    assert read_settings([]).data == home / "b"
    (old / MOVED_FILE).rename(old.with_name("note"))  # the old place must be empty
    moving.move(read_settings(["--data", str(home / "b")]), str(old))
    assert contents(old) == before
    assert read_settings([]).data == old


def test_what_a_person_names_wins_over_the_moved_place(home: Path) -> None:
    used_folder(read_settings([]))
    moving.move(read_settings([]), str(home / "a"))
    assert read_settings(["--data", str(home / "c")]).data == home / "c"


def test_moving_another_folder_leaves_the_usual_one_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = used_folder(read_settings([]))
    other = Settings.load(["--data", str(home / "other")], {})
    used_folder(other)
    moving.move(other, str(home / "a"))
    assert "--data or CORRAL_DATA" in capsys.readouterr().out
    assert read_settings([]).data == usual


@pytest.mark.parametrize("target", ["full", "data/corral/inside", "."])
def test_a_bad_target_moves_nothing(target: str, home: Path) -> None:
    settings = Settings.load(["--data", str(home / "data" / "corral")], {})
    before = contents(used_folder(settings))
    (home / "full").mkdir()
    (home / "full" / "file").touch()
    with pytest.raises(Problem, match="Name a(nother)? folder"):
        moving.move(settings, str(home / target))
    assert contents(settings.data) == before


def test_nothing_to_move(home: Path) -> None:
    with pytest.raises(Problem, match="nothing to move"):
        moving.move(read_settings([]), str(home / "a"))


def test_a_short_copy_keeps_the_original(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(old := used_folder(read_settings([])))

    def copy(source: Path, target: Path, **options: object) -> None:
        target.mkdir()
        (target / "corral.db").write_bytes(b"half")

    monkeypatch.setattr(moving.shutil, "copytree", copy)
    with pytest.raises(Problem, match="still in"):
        moving.move(read_settings([]), str(home / "a"))
    assert contents(old) == before
    assert read_settings([]).data == old
    assert not (home / "a").exists(), "the same command can be typed again"


@pytest.mark.parametrize(
    ("failure", "told", "reason"),
    [
        (shutil.Error([("a", "b", "[Errno 28] No space left")]), Problem, r"to .*/a \(.* left\)"),
        (OSError(30, "Read-only file system"), Problem, r"\(Read-only file system\)"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    ],
)
def test_a_copy_that_fails_leaves_no_half_and_says_why(
    failure: BaseException,
    told: type[BaseException],
    reason: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = contents(old := used_folder(read_settings([])))

    def copy(source: Path, target: Path, **options: object) -> None:
        (target / "backups").mkdir(parents=True)
        raise failure

    monkeypatch.setattr(moving.shutil, "copytree", copy)
    with pytest.raises(told, match=reason):
        moving.move(read_settings([]), str(home / "a"))
    assert contents(old) == before and not (home / "a").exists()


def test_models_that_lie_elsewhere_are_linked_from_the_new_place_too(home: Path) -> None:
    old = used_folder(read_settings([]))
    (home / "model").mkdir()
    (home / "model" / "config.json").write_text("{}")
    (old / "models").mkdir()
    (old / "models" / "absolute").symlink_to(home / "model")
    (old / "models" / "relative").symlink_to(Path("../../../model"))
    (old / "models" / "nowhere").symlink_to(home / "gone")
    moving.move(read_settings([]), str(home / "deep" / "er" / "place"))
    models = home / "deep" / "er" / "place" / "models"
    for name in ("absolute", "relative"):
        assert (models / name).is_symlink()
        assert (models / name / "config.json").read_text() == "{}"
    assert (models / "nowhere").is_symlink()
    assert (home / "model" / "config.json").exists()


def refuse(*paths: object, **options: object) -> None:
    raise OSError(30, "Read-only file system")


def test_what_cannot_be_removed_is_named_and_found_in_the_new_place(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(old := used_folder(read_settings([])))
    monkeypatch.setattr(moving.shutil, "rmtree", refuse)
    assert moving.move(read_settings([]), str(home / "a")) == 0
    assert f"{old} could not be removed (Read-only" in capsys.readouterr().out
    assert contents(home / "a") == before and read_settings([]).data == home / "a"


@pytest.fixture
def venv(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that a test may remove."""
    for name in ("VENV", "NEW_VENV", "OLD_VENV"):
        monkeypatch.setattr(moving, name, home / name)
    (home / "VENV").mkdir()
    return home / "VENV"


def type_in(monkeypatch: pytest.MonkeyPatch, answers: list[str]) -> None:
    """Answer the questions in turn; then nobody is at the keyboard."""
    given = iter(answers)

    def answer(question: str) -> str:
        try:
            return next(given)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", answer)


@pytest.mark.parametrize(
    ("answers", "venv_stays", "data_stays"),
    [
        (["no", "no"], True, True),
        (["yes", "yes"], False, True),
        (["yes", "remove everything"], False, False),
        ([], True, True),
    ],
)
def test_removal_asks_first(
    answers: list[str],
    venv_stays: bool,
    data_stays: bool,
    venv: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = used_folder(read_settings([]))
    type_in(monkeypatch, answers)
    assert moving.remove(read_settings([])) == 0
    assert venv.exists() is venv_stays
    assert data.exists() is data_stays


def test_removal_leaves_nothing_where_the_data_was_moved_from(
    venv: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = used_folder(read_settings([]))
    moving.move(read_settings([]), str(home / "a"))
    type_in(monkeypatch, ["no", "remove everything"])
    assert moving.remove(read_settings([])) == 0
    assert not (home / "a").exists() and not old.exists()


def test_data_that_cannot_be_removed_is_named(
    venv: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used_folder(read_settings([]))
    type_in(monkeypatch, ["no", "remove everything"])
    monkeypatch.setattr(moving.shutil, "rmtree", refuse)
    with pytest.raises(Problem, match="could not be removed .Read-only file system"):
        moving.remove(read_settings([]))


def test_a_folder_that_is_not_of_corral_is_neither_removed_nor_moved(
    venv: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "pictures").mkdir()
    (home / "pictures" / "cat.png").touch()
    settings = read_settings(["--data", str(home / "pictures")])
    type_in(monkeypatch, ["no", "remove everything"])
    assert moving.remove(settings) == 0
    assert "is no data folder of Corral" in capsys.readouterr().out
    with pytest.raises(Problem, match="no data folder of Corral"):
        moving.move(settings, str(home / "a"))
    assert (home / "pictures" / "cat.png").exists()
