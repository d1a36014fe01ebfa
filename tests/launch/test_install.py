"""Steps of an installation, what is repeated after a failure, and what is not repeated at all."""

import json
import threading
from pathlib import Path

import pytest

from launch import install, machine
from launch.place import Problem, close_log, open_log, prepare_data_folder
from tests.launch.conftest import FakeVenv


def test_the_lock_comes_by_hash_and_torch_by_version(fake_venv: FakeVenv) -> None:
    install.install(fake_venv.folder)
    lock, torch = fake_venv.installs()
    assert f"--no-deps --require-hashes -r {install.LOCK}" in lock
    assert torch.endswith(f" torch=={machine.TORCH_VERSION}")
    assert install.IMPORTS in fake_venv.asked()[-1]
    assert json.loads((fake_venv.folder / install.MARK).read_text())["build"] == "cpu"


def test_a_second_start_installs_nothing(fake_venv: FakeVenv) -> None:
    install.install(fake_venv.folder)
    before = fake_venv.asked()
    install.install(fake_venv.folder)
    assert fake_venv.asked() == before


@pytest.mark.parametrize("broken", ["lock.txt", "torch==", "import app"])
def test_a_failed_installation_is_not_complete_and_can_be_repeated(
    broken: str, fake_venv: FakeVenv
) -> None:
    install.make_environment(fake_venv.folder)
    fake_venv.fail(broken)
    with pytest.raises(Problem, match="run this again|run the same command again"):
        install.install(fake_venv.folder)
    assert not install.complete(fake_venv.folder)
    fake_venv.fail("")
    install.install(fake_venv.folder)
    assert install.complete(fake_venv.folder)


def test_pips_own_reason_reaches_the_person(fake_venv: FakeVenv) -> None:
    install.make_environment(fake_venv.folder)
    fake_venv.fail("lock.txt")
    with pytest.raises(Problem, match="No matching distribution found"):
        install.install(fake_venv.folder)


def test_a_changed_lock_installs_again(
    fake_venv: FakeVenv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install.install(fake_venv.folder)
    changed = tmp_path / "lock.txt"
    changed.write_bytes(install.LOCK.read_bytes() + b"\n")
    monkeypatch.setattr(install, "LOCK", changed)
    assert not install.complete(fake_venv.folder)
    install.install(fake_venv.folder)
    assert len(fake_venv.installs()) == 4


def test_test_tools_are_a_step_of_their_own(fake_venv: FakeVenv) -> None:
    install.install(fake_venv.folder)
    assert not install.complete(fake_venv.folder, tests=True)
    install.install(fake_venv.folder, tests=True)
    assert install.complete(fake_venv.folder, tests=True)
    assert [line.rsplit("/", 1)[-1] for line in fake_venv.installs()][2:] == ["test-lock.txt"]


@pytest.mark.parametrize("answers", [True, False])
def test_pytorchs_own_index_is_used_where_it_answers(
    answers: bool, fake_venv: FakeVenv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "reachable", lambda url: answers)
    install.install(fake_venv.folder)
    torch = [line for line in fake_venv.installs() if "torch==" in line]
    assert len(torch) == 1
    assert (f"--index-url {machine.TORCH_INDEX}cpu" in torch[0]) is answers
    assert torch[0].endswith("+cpu") is answers


def test_where_that_index_fails_the_configured_one_is_asked_and_the_log_says_so(
    fake_venv: FakeVenv, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prepare_data_folder(tmp_path / "data")
    file = open_log(tmp_path / "data")
    monkeypatch.setattr(install, "reachable", lambda url: True)
    install.make_environment(fake_venv.folder)
    fake_venv.fail("--index-url")
    install.install(fake_venv.folder)
    assert [line.split()[-1] for line in fake_venv.installs()[1:]] == [
        f"torch=={machine.TORCH_VERSION}+cpu",
        f"torch=={machine.TORCH_VERSION}",
    ]
    assert "taking PyTorch from pip's own index" in file.read_text()
    assert "pip: Collecting something" in file.read_text()
    close_log()


def test_no_address_outside_is_asked_when_nothing_is_to_be_installed(
    fake_venv: FakeVenv, monkeypatch: pytest.MonkeyPatch
) -> None:
    install.install(fake_venv.folder)

    def asked(url: str) -> bool:
        raise AssertionError(url)

    monkeypatch.setattr(install, "reachable", asked)
    install.install(fake_venv.folder)


def test_an_unreachable_address_is_no_error(network_attempts: list[str]) -> None:
    assert install.reachable("https://packages.invalid/simple/") is False
    network_attempts.clear()  # refused by the guard of these tests, as a cut cable would


def test_locks_name_hashes_only() -> None:
    for lock in (install.LOCK, install.TEST_LOCK):
        text = lock.read_text(encoding="utf-8")
        packages = [line.split("==")[0] for line in text.splitlines() if "==" in line.split("#")[0]]
        assert len(packages) == install.count(lock) > 10
        assert not {"torch", "triton", "pip"} & set(packages)
        assert "://" not in text
        for block in text.split("\n\n# The following")[0].split("\n")[2:]:
            assert block.startswith(("    --hash=sha256:", "    #")) or "==" in block or not block


def test_a_second_start_waits_for_the_first_ones_installation(
    fake_venv: FakeVenv, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding, heard = threading.Event(), threading.Event()
    order: list[str] = []

    def first() -> None:
        with install.only_one(fake_venv.folder):
            holding.set()
            heard.wait(60)
            order.append("the first is done")

    def say(text: str) -> None:
        order.append(text)
        if "waiting for it" in text:
            heard.set()

    monkeypatch.setattr(install, "say", say)
    thread = threading.Thread(target=first)
    thread.start()
    assert holding.wait(60)
    install.install(fake_venv.folder)
    thread.join(60)
    assert "waiting for it" in order[0]
    assert order[1] == "the first is done"
    assert install.complete(fake_venv.folder)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(Problem, match="a folder of your own"),
        install.only_one(tmp_path / "not-there" / ".venv"),
    ):
        pass
