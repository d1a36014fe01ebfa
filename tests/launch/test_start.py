"""The second start finds the running Corral; a stale or foreign one is not trusted."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from launch import start as starting
from launch.place import Problem, prepare_data_folder
from launch.start import LAUNCH_PATH, RUN_FILE, Running, find_running, refuse_running
from tests.local_http import Handler, serving

SECRET = "the-secret-of-this-run"

Told = dict[str, Any]


class _Corral(Handler):
    """Answers as the server does: a one-time address for the secret, else a refusal."""

    running: Told

    def do_POST(self) -> None:
        known = self.headers["Authorization"] == f"Bearer {SECRET}" and self.path == LAUNCH_PATH
        answer = {"url": self.running["url"]} if known else {"detail": "no"}
        self.answer(200 if known else 403, json.dumps(answer).encode())


@pytest.fixture
def corral() -> Iterator[Told]:
    """Its port and the url that it tells."""
    running: Told = {}
    with serving(_Corral, running=running) as port:
        running.update(port=port, url=f"http://127.0.0.1:{port}/corral/enter#once")
        yield running


def write_run_file(data: Path, **values: object) -> None:
    data.mkdir(exist_ok=True)
    run = {"pid": os.getpid(), "port": 1, "secret": SECRET, "url": "", "started_at": 0, **values}
    (data / RUN_FILE).write_text(json.dumps(run))


def test_the_running_one_is_found_and_opened(
    corral: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run_file(tmp_path, port=corral["port"])
    opened: list[str] = []
    monkeypatch.setattr(starting.webbrowser, "open", lambda url: bool(opened.append(url)) or True)
    monkeypatch.setattr(starting, "has_screen", lambda: True)
    assert starting.start(Settings.load(["--data", str(tmp_path)], {}), []) == 0
    assert opened == [f"http://127.0.0.1:{corral['port']}/corral/enter#once"]
    assert not (tmp_path / "log").exists()  # nothing was installed or started


def test_without_a_browser_the_address_is_printed(
    corral: Told, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run_file(tmp_path, port=corral["port"])
    settings = Settings.load(["--data", str(tmp_path), "--no-browser"], {})
    assert starting.start(settings, []) == 0
    assert f"127.0.0.1:{corral['port']}/corral/enter#once" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"pid": 1, "port": "x", "secret": ""}', "null"]
)
def test_a_run_file_that_makes_no_sense_is_as_none(content: str, tmp_path: Path) -> None:
    (tmp_path / RUN_FILE).write_text(content)
    assert Running.read(tmp_path) is None
    assert find_running(tmp_path) is None


def test_a_crashed_one_left_its_file(tmp_path: Path, corral: Told) -> None:
    write_run_file(tmp_path, port=1)  # nobody listens there
    assert find_running(tmp_path) is None
    write_run_file(tmp_path, port=corral["port"], secret="of an earlier run")
    assert find_running(tmp_path) is None


@pytest.mark.parametrize(
    "url", ["https://elsewhere.example/", "file:///etc/passwd", "http://127.0.0.1:1/", 7, None]
)
def test_whatever_listens_there_cannot_open_another_address(
    url: object, tmp_path: Path, corral: Told
) -> None:
    corral["url"] = url
    write_run_file(tmp_path, port=corral["port"])
    assert find_running(tmp_path) is None


def test_words_that_touch_the_data_refuse_while_it_runs(tmp_path: Path, corral: Told) -> None:
    write_run_file(tmp_path, port=corral["port"])
    with pytest.raises(Problem, match="Ctrl-C in its window, then move"):
        refuse_running(tmp_path, "move it again")


def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> tuple[int, str]:
    """Serve with a small program in the place of the server; its status and what was printed."""
    data = tmp_path / "data"
    prepare_data_folder(data)
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\nimport os, sys, time, signal\n{code}\n")
    program.chmod(0o755)
    monkeypatch.setattr(starting, "venv_python", lambda: program)
    settings = Settings.load(["--data", str(data), "--port", "7777"], {})
    return starting.serve(settings, ["--port", "7777"], data / "log" / "corral.log"), str(data)


needs_scripts = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a #! script")


@needs_scripts
def test_the_server_gets_its_folder_words_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_SHARE", "True")
    told = tmp_path / "told"
    code = f"open({str(told)!r}, 'w').write(os.getcwd() + '\\n' + ' '.join(sys.argv[1:]) + '\\n'"
    code += " + str('GRADIO_SHARE' in os.environ))"
    status, data = serve(tmp_path, monkeypatch, code)
    assert status == 0
    place, words, shared = told.read_text().splitlines()
    assert place == os.path.realpath(f"{data}/run/empty")
    assert words == f"-m app --port 7777 --data={data}"
    assert shared == "False"


@needs_scripts
@pytest.mark.parametrize(("status", "said"), [(3, True), (2, False), (0, False)])
def test_an_unexpected_end_names_the_log(
    status: int,
    said: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert serve(tmp_path, monkeypatch, f"sys.exit({status})")[0] == status
    assert ("corral.log" in capsys.readouterr().out) is said


@needs_scripts
def test_a_killed_server_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve(tmp_path, monkeypatch, "os.kill(os.getpid(), signal.SIGKILL)")[0] == 137
    assert "ended unexpectedly" in capsys.readouterr().out


def interrupt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the launcher waits for the server for the first time."""
    errors: list[BaseException] = [KeyboardInterrupt()]
    real = subprocess.Popen.wait

    def wait(child: "subprocess.Popen[bytes]", timeout: float | None = None) -> int:
        if errors:
            raise errors.pop()
        return real(child, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)


@needs_scripts
def test_ctrl_c_waits_for_the_server_and_ends_cleanly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal interrupts both; the server finishes its work before the launcher returns."""
    finished = tmp_path / "finished"
    code = f"time.sleep(0.3)\nopen({str(finished)!r}, 'w').close()"
    interrupt_once(monkeypatch)
    assert serve(tmp_path, monkeypatch, code)[0] == 0
    assert finished.exists()


@needs_scripts
def test_a_server_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "END_SECONDS", 0.2)
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"
    interrupt_once(monkeypatch)
    assert serve(tmp_path, monkeypatch, code)[0] == 0
