"""The engine on another server against two real ones: `transformers serve` and llama.cpp's.

Both are started here on a tiny checkpoint. llama.cpp's server comes from `CORRAL_LLAMA_CPP` (a
Python that has `llama-cpp-python[server]`), from this environment, or is installed, which compiles
it for minutes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

from engine.base import Chunk, Message, Prompt, Sampling
from engine.endpoint import Address
from engine.errors import ServerUnreachable
from engine.local import LocalEngine
from engine.options import Options
from engine.remote import RemoteEngine
from storage.store import Store
from tests.app.fakes import Bench, TellingEngine, WordGuard
from tests.engine.checkpoints import LLAMA3_TEMPLATE, make_checkpoint
from tests.engine.gguf_files import write_gguf

START_SECONDS = 240
SAME = 5  # characters at least
TALK: list[Message] = [
    {"role": "user", "content": "Hi there"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "How are you?"},
]
GREEDY = Sampling(temperature=0.0, top_p=1.0, min_p=0.0, max_new_tokens=24)
OPENING = "<|start_header_id|>assistant<|end_header_id|>\n\n"
PIECES_BEFORE_DEATH = 40  # the gate has let some of them through by then
LONG = Sampling(temperature=0.0, top_p=1.0, min_p=0.0, max_new_tokens=3000)


@dataclass
class Running:
    """A server that answers, and the text that this engine writes for the same conversation."""

    process: subprocess.Popen[bytes]
    address: Address
    expected: str

    def kill(self) -> None:
        """As a crash would: at once, with all that it started."""
        os.killpg(self.process.pid, signal.SIGKILL)


def tiny(folder: Path) -> tuple[Path, str]:
    """A checkpoint that goes on for long, and its own greedy reply to `TALK`."""
    for seed in range(20):
        made = make_checkpoint(
            folder / str(seed),
            seed=seed,
            max_position_embeddings=4096,
            num_hidden_layers=4,
            vocab_size=261,  # llama.cpp wants as many rows as the tokenizer has tokens
        )
        about = json.loads((made / "tokenizer_config.json").read_text())
        # Jinja drops a line's end at the end of a template, but not inside of an expression.
        about["chat_template"] = LLAMA3_TEMPLATE.removesuffix(OPENING) + f"{{{{ {OPENING!r} }}}}"
        (made / "tokenizer_config.json").write_text(json.dumps(about))
        engine = LocalEngine(made, Options(device="cpu", threads=1, precision="fp32"))
        try:
            chunks = list(engine.stream(Prompt(messages=TALK), GREEDY, cancel=Event(), scope=""))
        finally:
            engine.close()
        if chunks[-1].finish_reason == "length":
            return made, "".join(chunk.text for chunk in chunks)
    raise AssertionError("no tiny checkpoint writes long replies")


def readable(text: str) -> str:
    """ASCII alone: llama.cpp leaves out bytes that are no whole character, others mark them."""
    return "".join(filter(str.isascii, text))


@contextmanager
def started(
    command: list[str], port: int, log: Path, health: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The server that `command` starts, once it answers; ended at the end. Skips if it does not."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environ, start_new_session=True
        )
    try:
        until = time.monotonic() + START_SECONDS
        while not _answers(f"http://127.0.0.1:{port}{health}"):
            if process.poll() is not None or time.monotonic() > until:
                last = log.read_text(errors="replace").strip().splitlines()[-1:]
                pytest.skip(f"{command[0]} {command[1]} does not start here: {''.join(last)}")
            time.sleep(0.3)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(params=["transformers", pytest.param("llama.cpp", marks=pytest.mark.full)])
def server(
    request: pytest.FixtureRequest, checkpoint: tuple[Path, str], tmp_path: Path
) -> Iterator[Running]:
    if os.name != "posix":
        pytest.skip("ends the servers by their process group, which POSIX has")
    folder, expected = checkpoint
    port = free_port()
    where = ["--host", "127.0.0.1", "--port", str(port)]
    if request.param == "transformers":
        program = str(Path(sys.executable).with_name("transformers"))
        command = [program, "serve", str(folder), "--device", "cpu", "--dtype", "float32", *where]
        health, name = "/health", str(folder)
    else:
        model = write_gguf(folder, tmp_path / "tiny.gguf", **{"tokenizer.ggml.merges": ["A B"]})
        python = llama_cpp_python(tmp_path)
        command = [python, "-m", "llama_cpp.server", "--model", str(model), *where]
        command += ["--n_ctx", "4096", "--n_threads", "1", "--model_alias", "tiny"]
        command += ["--type_k", "0", "--type_v", "0"]  # keys and values in fp32, as here
        health, name = "/v1/models", "tiny"
    with started(command, port, tmp_path / "server.log", health) as process:
        yield Running(process, Address.parse(f"http://127.0.0.1:{port}/v1#{name}"), expected)


def llama_cpp_python(folder: Path) -> str:
    """A Python that can run llama.cpp's server; skips with the reason if none can be made."""
    for python in filter(None, (os.environ.get("CORRAL_LLAMA_CPP"), sys.executable)):
        probe = [python, "-c", "import llama_cpp.server.app"]
        if subprocess.run(probe, capture_output=True).returncode == 0:
            return str(python)
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = str(venv / "bin" / "python")
    install = [python, "-m", "pip", "install", "-q", "llama-cpp-python[server]"]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"llama-cpp-python cannot be installed: {done.stderr.strip()[-200:]}")
    return python


@pytest.mark.slow
def test_a_conversation_with_a_real_server(server: Running, tmp_path: Path) -> None:
    """Streamed as here, stopped midway, judged on both sides, and what a dead server leaves."""
    engine = RemoteEngine(server.address, retry_seconds=0.01)
    chunks = list(engine.stream(Prompt(messages=TALK), GREEDY, cancel=Event(), scope=""))
    text = "".join(chunk.text for chunk in chunks)
    assert readable(text)[:SAME] == readable(server.expected)[:SAME]
    cost = chunks[-1].statistics
    assert cost is not None and chunks[-1].finish_reason == "length"
    assert cost.num_new == 24 or cost.num_new == sum(1 for chunk in chunks if chunk.text)
    assert cost.num_prompt > 20

    cancel = Event()
    stream = engine.stream(Prompt(messages=TALK), LONG, cancel=cancel, scope="")
    next(chunk for chunk in stream if chunk.text)
    cancel.set()
    assert list(stream)[-1].finish_reason == "cancelled"
    again = list(engine.stream(Prompt(messages=TALK), GREEDY, cancel=Event(), scope=""))
    assert "".join(chunk.text for chunk in again) == text  # the server is free again

    store = Store.open(tmp_path / "data")
    guard = WordGuard()
    bench = Bench(store, engine, guard, sampling=lambda: GREEDY)
    turn = bench.ask("How are you?")
    assert turn.reply.status == "done"
    assert guard.judged[0] == ("How are you?", None)
    assert guard.judged[-1] == ("How are you?", turn.reply.content)
    assert bench.ask("something forbidden").prompt.status == "blocked"

    doomed = Bench(store, Doomed(engine, server), guard, sampling=lambda: LONG)
    left = doomed.ask("How are you?").reply
    assert (left.status, left.error_code) == ("error", "ServerUnreachable")
    assert left.content and turn.reply.content.startswith(left.content[:SAME])
    with pytest.raises(ServerUnreachable, match="does not answer. Start it, or check its address"):
        list(engine.stream(Prompt(messages=TALK), GREEDY, cancel=Event(), scope=""))
    store.close()
    engine.close()


class Doomed(TellingEngine):
    """The engine of a server that is killed in the middle of an answer."""

    def __init__(self, engine: RemoteEngine, server: Running) -> None:
        super().__init__()
        self._engine, self._server = engine, server

    def stream(
        self, prompt: Prompt, sampling: Sampling, *, cancel: Event, scope: str
    ) -> Iterator[Chunk]:
        chunks = self._engine.stream(prompt, sampling, cancel=cancel, scope=scope)
        for number, chunk in enumerate(chunks):
            if number == PIECES_BEFORE_DEATH:
                self._server.kill()
            yield chunk
