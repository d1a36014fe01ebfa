"""The server as a process: ports, second starts, signals, and what is left afterwards."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app import instance, server
from app.explain import explain
from app.server import SAID
from app.services import Services
from app.settings import Settings
from app.start import PortTaken, find_port
from app.strings import Strings
from storage.records import (
    DatabaseDamaged,
    DatabaseNewer,
    DiskFull,
    FolderUnwritable,
    StorageError,
)
from storage.store import Store
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
STRINGS = Strings.load("en")
START_SECONDS = 90.0  # generous: machines that run tests are busy

# The real program but for the model and guard, which would need weights.
PROGRAM = """
import sys
from app import services
from app.parts import Part
from tests.app.fakes import TellingEngine, WordGuard
services.load_engine = lambda settings: TellingEngine(["Hello there."])
services.load_guard = lambda *_: WordGuard()
from app.__main__ import end_process, main
end_process(main(sys.argv[1:]))
"""


class Running:
    """A Corral in a process of its own."""

    def __init__(
        self, data: Path, environ: dict[str, str], *argv: str, program: str = PROGRAM
    ) -> None:
        self.data = data
        self.out = data.parent / f"out-{time.monotonic_ns()}.txt"
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, "--data", str(data), "--no-browser", *argv],
                cwd=ROOT,
                env={k: v for k, v in environ.items() if k != "DISPLAY"},
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def wait_until_open(self) -> instance.Instance:
        def found() -> instance.Instance | None:
            made = instance.read(self.data)
            if made is not None and made.pid == self.process.pid:
                return made
            assert self.process.poll() is None, self.out.read_text()
            return None

        opened = until(found, START_SECONDS)
        assert opened is not None
        return opened

    def end(self, number: int = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(START_SECONDS)


@pytest.fixture
def free_port() -> int:
    with instance.listen(0) as made:
        return int(made.getsockname()[1])


@pytest.fixture
def running(
    tmp_path: Path, free_port: int, guarded_environment: dict[str, str]
) -> Iterator[Running]:
    made = Running(tmp_path / "data", guarded_environment, "--port", str(free_port))
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def client(found: instance.Instance) -> httpx.Client:
    return httpx.Client(base_url=found.url, trust_env=False, timeout=20)


def enter(found: instance.Instance, browser: httpx.Client) -> None:
    secret = {"Authorization": f"Bearer {found.secret}"}
    url = browser.post("/corral/launch", headers=secret).json()["url"]
    assert url.startswith(found.url)
    token = url.partition("#")[2]
    answer = browser.post("/corral/enter", json={"token": token}, headers={"Origin": found.url})
    assert answer.status_code == 204


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_a_whole_life(running: Running, guarded_environment: dict[str, str]) -> None:
    found = running.wait_until_open()
    with client(found) as browser:
        assert browser.get("/").status_code == 401
        enter(found, browser)
        page = browser.get("/")
        assert page.status_code == 200
        assert "gradio_config" in page.text
        assert browser.get("/config", headers={"Host": "evil.example"}).status_code == 403

        # A second start on the same folder opens this one; a third on the port alone is refused.
        second = Running(running.data, guarded_environment)
        assert second.process.wait(START_SECONDS) == 0
        assert STRINGS.say("server.running_already") in second.out.read_text()
        assert f"{found.url}/corral/enter#" in second.out.read_text()
        other = running.data.parent / "other"
        third = Running(other, guarded_environment, "--port", str(found.port))
        assert third.process.wait(START_SECONDS) == SAID
        said = third.out.read_text().strip()
        assert said == STRINGS.say("server.port_corral", port=found.port)
        assert not (other / "corral.db").exists()

        # The session is still good after a restart; what a browser was told to keep still opens.
        assert running.end(signal.SIGINT) == 0
        assert instance.read(running.data) is None
        again = Running(running.data, guarded_environment, "--port", str(found.port))
        again.wait_until_open()
        assert browser.get("/config").status_code == 200
        assert again.end(signal.SIGTERM) == 0
    log = (running.data / "log" / "corral.log").read_text()
    assert log.count("serving on port") == 2
    assert log.count("INFO corral: ended") == 2
    assert "ERROR" not in log
    assert found.secret not in log


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_a_killed_one_leaves_nothing_in_the_way(
    running: Running, guarded_environment: dict[str, str]
) -> None:
    found = running.wait_until_open()
    running.end(signal.SIGKILL)
    assert instance.read(running.data) is not None  # nobody was there to remove it
    again = Running(running.data, guarded_environment, "--port", str(found.port))
    try:
        assert again.wait_until_open().secret != found.secret
        again.process.send_signal(signal.SIGHUP)  # the terminal window was closed
        assert again.process.wait(START_SECONDS) == 0
    finally:
        again.end(signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_a_model_that_is_not_there_is_told_at_the_terminal(
    running: Running, tmp_path: Path, guarded_environment: dict[str, str]
) -> None:
    unheard = PROGRAM.replace(
        'TellingEngine(["Hello there."])', "services.find_model(settings)"
    )  # as load_engine begins
    assert unheard != PROGRAM
    named = Running(tmp_path / "named", guarded_environment, "--model", "nobody", program=unheard)
    try:
        named.wait_until_open()
        until(lambda: "called 'nobody'" in named.out.read_text(), START_SECONDS)
        assert STRINGS.say("errors.CheckpointMissing.action") in named.out.read_text()
        assert named.process.poll() is None  # another can be chosen on the page
        assert named.end(signal.SIGINT) == 0
    finally:
        named.end(signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_open_streams_do_not_hold_up_the_end(running: Running) -> None:
    found = running.wait_until_open()
    with client(found) as browser:
        enter(found, browser)
        with browser.stream("GET", "/gradio_api/heartbeat/abcd1234") as stream:
            assert next(stream.iter_lines()) == "data: ALIVE"
            assert running.end(signal.SIGINT) == 0
    assert "Traceback" not in running.out.read_text()


@pytest.mark.slow
def test_nothing_heavy_is_imported_before_the_page_is_up(
    tmp_path: Path, guarded_environment: dict[str, str]
) -> None:
    code = (
        "import json, sys; from pathlib import Path; from app.site import build;"
        "from tests.app.house import make_services;"
        f"services = make_services(Path({str(tmp_path / 'data')!r})); build(services);"
        "services.close(); print(json.dumps(sorted(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=guarded_environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    loaded = set(json.loads(ran.stdout))
    assert "gradio" in loaded
    assert not {"torch", "transformers", "safetensors", "sentencepiece"} & loaded


def load(tmp_path: Path, *argv: str) -> Settings:
    return Settings.load(["--data", str(tmp_path), *argv], {})


def test_a_port_that_was_asked_for_is_used_or_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken) as caught:
            find_port(load(tmp_path, "--port", str(port)), STRINGS)
    assert str(caught.value) == STRINGS.say("server.port_taken", port=port)
    made, found = find_port(load(tmp_path, "--port", str(port)), STRINGS)
    made.close()
    assert found == port


def test_the_default_port_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def listen(port: int) -> socket.socket:
        tried.append(port)
        if len(tried) <= 3:
            raise OSError
        return socket.socket()

    monkeypatch.setattr(instance, "listen", listen)
    made, port = find_port(load(tmp_path), STRINGS)
    made.close()
    assert tried == [7860, 7861, 7862, 7863]
    assert port == 7863
    tried.clear()
    monkeypatch.setattr(instance, "listen", lambda port: (_ for _ in ()).throw(OSError()))
    with pytest.raises(PortTaken, match="7860 to 7879"):
        find_port(load(tmp_path), STRINGS)


def test_a_forbidden_port_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(port: int) -> socket.socket:
        raise PermissionError

    monkeypatch.setattr(instance, "listen", forbid)
    with pytest.raises(PortTaken, match="above 1023"):
        find_port(load(tmp_path, "--port", "80"), STRINGS)


def serve(settings: Settings) -> int:
    """`server.serve` without leaving the test's folder."""
    here = Path.cwd()
    try:
        return server.serve(settings)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("kind", [DatabaseDamaged, DatabaseNewer, FolderUnwritable, DiskFull])
def test_a_store_that_does_not_open_is_told(
    kind: type[StorageError],
    tmp_path: Path,
    free_port: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(self: Services) -> None:
        raise kind("Just where it is.")

    monkeypatch.setattr(Services, "start", fail)
    assert serve(load(tmp_path, "--port", str(free_port), "--no-browser")) == SAID
    told = capsys.readouterr()
    assert told.out == ""
    explained = explain(kind("Just where it is."), STRINGS)
    lines = [f"{explained.title}.", "Just where it is.", explained.action]
    assert told.err.splitlines() == lines
    assert kind.__name__ in (tmp_path / "log" / "corral.log").read_text()
    with instance.listen(free_port):
        pass  # the port was given back


def test_a_busy_folder_is_told(
    tmp_path: Path,
    free_port: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "BUSY_SECONDS", 0.1)
    store = Store.open(tmp_path)
    try:
        assert serve(load(tmp_path, "--port", str(free_port), "--no-browser")) == SAID
    finally:
        store.close()
    assert STRINGS.say("errors.DatabaseBusy.title") in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert serve(load(tmp_path, "--no-browser")) == SAID
    finally:
        tmp_path.chmod(0o700)


def test_a_data_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    ended = subprocess.run(
        [sys.executable, "-m", "app", "--data", str(tmp_path / "file"), "--no-browser"],
        cwd=ROOT, capture_output=True, text=True, timeout=START_SECONDS, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "--data" in ended.stderr


@pytest.mark.parametrize("argv", [["--help"], ["serve", "--help"], ["-h"]])
def test_help_goes_to_stdout(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from app.__main__ import main

    assert main(argv) == 0
    assert "--no-browser" in capsys.readouterr().out


def test_wrong_settings_are_one_line_and_status_two(capsys: pytest.CaptureFixture[str]) -> None:
    from app.__main__ import main

    assert main(["--prot", "1"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.strip().splitlines()) == 1


def test_the_environment_is_closed_before_anything_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.__main__ import close_environment

    before = dict(os.environ)
    monkeypatch.setenv("GRADIO_SHARE", "True")
    monkeypatch.setenv("gradio_server_name", "0.0.0.0")
    try:
        close_environment(tmp_path)
        assert "GRADIO_SHARE" not in os.environ
        assert "gradio_server_name" not in os.environ
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
        assert os.environ["GRADIO_TEMP_DIR"].startswith(str(tmp_path))
    finally:
        os.environ.clear()
        os.environ.update(before)
    code = "import sys, app.__main__; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", "import json; " + code],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert not {"gradio", "torch", "fastapi", "sqlite_utils"} & set(json.loads(loaded.stdout))


def test_the_process_leaves_whatever_its_threads_still_do() -> None:
    code = (
        "import threading, time, app.__main__ as m\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "print('stored')\n"
        "m.end_process(3)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (3, "stored\n")
