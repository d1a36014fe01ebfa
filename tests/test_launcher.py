"""The file that any Python from 3.8 on can read: it finds a fitting one or says what to install."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import launcher

SOURCE = Path(launcher.__file__)


def test_it_parses_on_python_3_8() -> None:
    ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_before_the_version_is_known_to_fit_only_old_modules_are_imported() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    modules = {
        alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names
    }
    modules |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert modules <= {"os", "shutil", "subprocess", "sys", "typing"}


@pytest.mark.parametrize(
    ("version", "expected"),
    [((3, 8), False), ((3, 10), False), ((3, 11), True), ((3, 14), True), ((3, 15), False)],
)
def test_the_range_of_pythons(version: tuple[int, int], expected: bool) -> None:
    assert launcher.fits(version) is expected


def test_the_range_is_the_one_of_the_project() -> None:
    project = (SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8")
    oldest, beyond = launcher.OLDEST, (launcher.NEWEST[0], launcher.NEWEST[1] + 1)
    wanted = f'">={oldest[0]}.{oldest[1]},<{beyond[0]}.{beyond[1]}"'
    assert f"requires-python = {wanted}" in project


def test_a_newer_python_on_the_path_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version in (("python3.13", "3 9"), ("python3.12", "3 12")):  # the first one lies
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho {version}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launcher.another_python("linux") == [str(tmp_path / "python3.12")]


def test_windows_asks_its_own_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher.shutil, "which", lambda name: name if name == "py" else None)
    assert launcher.candidates("win32")[0] == ["py", "-3.13"]
    assert launcher.candidates("linux") == []


@pytest.mark.parametrize("platform", ["win32", "darwin", "linux"])
def test_without_one_it_says_what_to_install(
    platform: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(launcher, "fits", lambda version: False)
    monkeypatch.setattr(launcher.shutil, "which", lambda name: None)
    assert launcher.main([]) == 1
    said = capsys.readouterr().err
    assert "needs Python 3.11 to 3.14" in said
    assert "run this again" in said
    assert len(said.splitlines()) == 1


def test_the_found_python_gets_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[list[str]] = []
    monkeypatch.setattr(launcher, "fits", lambda version: False)
    monkeypatch.setattr(launcher, "another_python", lambda platform: ["python3.13"])

    def call(command: list[str], env: dict[str, str]) -> int:
        heard.append(command)
        assert env[launcher.TRIED] == "1"
        return 7

    monkeypatch.setattr(launcher.subprocess, "call", call)
    assert launcher.main(["test", "--all"]) == 7
    assert heard == [["python3.13", str(SOURCE.resolve()), "test", "--all"]]


def test_two_pythons_never_hand_over_to_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launcher, "fits", lambda version: False)
    monkeypatch.setattr(launcher, "another_python", lambda platform: ["python3.13"])
    monkeypatch.setenv(launcher.TRIED, "1")
    assert launcher.main([]) == 1
    assert "needs Python" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--port", "70000"], 2, "--port must lie between 1 and 65535"),
        (["--port"], 2, "--port needs a value"),
        (["--prot", "80"], 2, "Did you mean --port?"),
        (["--device", "gpu"], 2, "--device must be"),
        (["--precision", "int3"], 2, "--precision must be"),
        (["--data", " "], 2, "--data must be a folder"),
        (["tset"], 2, "Did you mean test?"),
        (["move"], 2, "move FOLDER"),
        (["test", "--fast"], 1, "--all alone"),
        (["share", "--share-hours", "0"], 2, "--share-hours must lie between"),
        (["download"], 2, "download NAME"),
    ],
)
def test_wrong_words_and_values_get_one_clear_line(
    words: list[str], status: int, said: str, tmp_path: Path
) -> None:
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "SYSTEMROOT": "C:\\Windows"}
    run = subprocess.run(
        [sys.executable, str(SOURCE), *words], capture_output=True, text=True, env=home
    )
    assert (run.returncode, run.stdout) == (status, "")
    assert said in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_help_names_every_word_and_setting() -> None:
    run = subprocess.run([sys.executable, str(SOURCE), "--help"], capture_output=True, text=True)
    assert run.returncode == 0
    for word in ("test", "check", "update", "move", "remove", "share", "download"):
        assert f"\n  {word}" in run.stdout or f" {word} " in run.stdout
    for option in ("--data", "--port", "--no-browser", "--model", "--device", "--precision"):
        assert option in run.stdout
