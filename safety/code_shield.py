"""Meta's Code Shield as a second look at code: in a process and an environment of its own.

It needs semgrep, some hundred megabytes and sixty packages, so it never enters Corral's own
environment: `python -m safety code-shield FOLDER` makes one for it. The process is asked line by
line (`safety/code_shield_worker.py`) under a time limit. Before it is believed it must find two
known weaknesses: with other versions of semgrep it reads no file, exits well and reports nothing.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import venv
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from safety.base import GuardBroken, GuardMissing
from safety.code_blocks import CodeBlock
from safety.code_check import NotChecked
from safety.code_rules import Finding, Severity

PACKAGES = ("codeshield==1.0.1", "semgrep==1.90.0")
"""What belongs together. With semgrep 1.182 Code Shield sees no weakness that needs semgrep."""

WORKER = Path(__file__).with_name("code_shield_worker.py")
LANGUAGES = frozenset(
    {"c", "cpp", "csharp", "java", "javascript", "kotlin", "objective_c", "php", "python", "ruby",
     "rust", "swift", "xml"}
)  # fmt: skip
KNOWN_BAD: Sequence[tuple[str, str, str]] = (
    ("python", "import subprocess\nsubprocess.call(command, shell=True)\n", "78"),  # by semgrep
    ("c", "void f(char *a) { char b[8]; strcpy(b, a); gets(b); }\n", ""),  # by its own patterns
)
_SEVERITIES: Mapping[str, Severity] = {"error": "high", "warning": "medium"}
_REMEMBERED = 256
_START_SECONDS = 60.0


class CodeShield:
    """The process, started when it is first asked. Safe to call from several threads.

    `folder` is the environment that `install` made.
    """

    name = "code-shield"

    def __init__(self, folder: Path, *, timeout_seconds: float = 10.0) -> None:
        self.version = ""
        self._command = [str(_python_of(folder)), "-I", str(WORKER)]
        self._timeout_seconds = timeout_seconds
        self._process: _Process | None = None
        self._known: OrderedDict[tuple[str, str], tuple[Finding, ...] | NotChecked] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, block: CodeBlock) -> tuple[Finding, ...] | None:
        """The weaknesses in `block`; None where it has no rules for the language.

        Blocks for about a second. Raises `NotChecked`.
        """
        if block.language not in LANGUAGES:
            return None
        key = (block.language, block.code)
        with self._lock:
            known = self._known.get(key)
            if known is None or isinstance(known, NotChecked):
                self._known[key] = known = self._answer(*key)
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        if isinstance(known, NotChecked):
            raise known
        return known

    def start(self) -> None:
        """Start and try it. Blocks for seconds. Raises `GuardMissing` or `GuardBroken`."""
        with self._lock:
            self._start()

    def close(self) -> None:
        """End the process. May be repeated."""
        with self._lock:
            self._stop()

    # -- inside; the lock is held --

    def _answer(self, language: str, code: str) -> tuple[Finding, ...] | NotChecked:
        try:
            if self._process is None:
                self._start()
            return self._findings(language, code)
        except (GuardMissing, GuardBroken) as error:
            return NotChecked(str(error))
        except NotChecked as error:
            return error

    def _findings(self, language: str, code: str) -> tuple[Finding, ...]:
        assert self._process is not None
        try:
            answer = self._process.ask({"language": language, "code": code}, self._timeout_seconds)
        except (OSError, ValueError, queue.Empty) as error:
            self._stop()  # what it still says belongs to this question, so it starts anew
            late = f"Code Shield took longer than {self._timeout_seconds:g} s."
            gone = "Code Shield ended."
            raise NotChecked(late if isinstance(error, queue.Empty) else gone) from error
        if not isinstance(found := answer.get("findings"), list):
            raise NotChecked(f"Code Shield could not check it: {answer.get('error')}.")
        return tuple(sorted({_finding(one) for one in found}, key=lambda f: (f.line, f.cwe)))

    def _start(self) -> None:
        self._stop()
        try:
            self._process = _Process(self._command)
            ready = self._process.answer(_START_SECONDS)
            self.version = str(ready["ready"])
        except FileNotFoundError as error:
            raise GuardMissing(
                f"There is no Code Shield in {Path(self._command[0]).parent.parent}. Run "
                "`python -m safety code-shield FOLDER` to install it there."
            ) from error
        except (OSError, ValueError, KeyError, queue.Empty) as error:
            self._stop()
            raise GuardBroken("Code Shield does not start; install it again.") from error
        for language, code, cwe in KNOWN_BAD:
            try:
                found = self._findings(language, code)
            except NotChecked as error:
                self._stop()
                raise GuardBroken(f"Code Shield is not used: {error}") from error
            if not any(not cwe or finding.cwe == int(cwe) for finding in found):
                self._stop()
                raise GuardBroken(
                    f"Code Shield misses a known weakness in {language}, so it is not used. "
                    f"It works with {' and '.join(PACKAGES)}; install it again."
                )

    def _stop(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


class _Process:
    """A child that answers each line with a line."""

    def __init__(self, command: Sequence[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="corral-code-shield-")
        try:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                cwd=self._folder.name,
                env=_environment(self._folder.name),
                start_new_session=True,  # so that what it starts itself can be ended with it
            )
        except OSError:
            self._folder.cleanup()
            raise
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="code-shield", daemon=True).start()

    def ask(self, question: Mapping[str, str], timeout: float) -> Mapping[str, Any]:
        """Send a line and wait for one. Raises `queue.Empty`, `OSError` or `ValueError`."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(question) + "\n")
        self._child.stdin.flush()
        return self.answer(timeout)

    def answer(self, timeout: float) -> Mapping[str, Any]:
        """The next line. Raises `queue.Empty` after `timeout`, `ValueError` if it is no object."""
        answer = json.loads(self._lines.get(timeout=timeout))
        if not isinstance(answer, dict):
            raise ValueError("no object")
        return answer

    def close(self) -> None:
        """Kill it with all that it started, and remove what it left."""
        if sys.platform == "win32":
            self._child.kill()
        else:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(OSError):  # it was gone before all was written
                    pipe.close()
        self._folder.cleanup()

    def _read(self) -> None:
        assert self._child.stdout is not None
        with suppress(ValueError):  # closed meanwhile
            for line in self._child.stdout:
                self._lines.put(line)
        self._lines.put("")  # wakes whoever waits: the child has ended


def install(folder: Path) -> None:
    """Make an environment for Code Shield in `folder`. Downloads; takes minutes.

    Raises `GuardBroken` with what pip said at the end.
    """
    if folder.exists() and any(folder.iterdir()):
        raise GuardBroken(f"{folder} is not empty; name a new folder.")
    venv.EnvBuilder(with_pip=True).create(folder)
    done = subprocess.run(
        [_python_of(folder), "-m", "pip", "install", "--disable-pip-version-check", *PACKAGES],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise GuardBroken(f"Code Shield could not be installed: {last}")


def _python_of(folder: Path) -> Path:
    inner = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
    return folder.absolute().joinpath(*inner)


def _environment(folder: str) -> dict[str, str]:
    """As little as it needs; semgrep tells nobody that it ran and asks for no newer version."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    quiet = {"SEMGREP_SEND_METRICS": "off", "SEMGREP_ENABLE_VERSION_CHECK": "0"}
    return {**kept, **quiet, "HOME": folder, "TMPDIR": folder, "TEMP": folder}


def _finding(one: Mapping[str, Any]) -> Finding:
    digits = "".join(c for c in str(one["cwe"]) if c.isdigit())
    severity = _SEVERITIES.get(str(one["severity"]), "low")
    rule, what = str(one["rule"])[:80], " ".join(str(one["what"]).split())[:200]
    return Finding(rule, int(digits or 0), severity, int(one["line"]), what)
