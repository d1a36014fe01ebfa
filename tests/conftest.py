"""What every test shares: one compute thread, no network, the shared data folder."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.stores import Stores
from tests import network_guard
from tests.engine.openai_server import ServerState, serve

ROOT = Path(__file__).resolve().parent.parent

# Read by libraries when they are imported, which happens in the test modules, after this file.
os.environ.update(
    OMP_NUM_THREADS="1",  # two cores are shared with the test runner and a browser
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    GRADIO_ANALYTICS_ENABLED="False",
    NO_PROXY="127.0.0.1,localhost,::1",
    no_proxy="127.0.0.1,localhost,::1",
)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of licensed rows and hostile strings beside the checkout; skips without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the shared data folder beside the checkout ({folder.name}/)")
    return folder


@pytest.fixture(scope="session")
def _watched_network() -> list[str]:
    return network_guard.install()


@pytest.fixture(autouse=True)
def network_attempts(_watched_network: list[str]) -> Iterator[list[str]]:
    """Fails the test that tried to reach anything but this machine, even if it caught the error.

    A test that tries on purpose reads the attempts here and clears the list.
    """
    _watched_network.clear()
    yield _watched_network
    attempts = list(_watched_network)
    _watched_network.clear()
    assert not attempts, f"tried to reach the network: {attempts}"


@pytest.fixture(autouse=True)
def no_other_programs(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No model that this machine's owner may have for other programs is found by a test."""
    empty = tmp_path_factory.getbasetemp() / "nothing-here"
    monkeypatch.setattr("engine.stores.Stores.usual", lambda *_, **__: Stores(hub=empty))


@pytest.fixture
def server() -> ServerState:
    """Another server: what it is to answer, how it is to misbehave, what it was asked."""
    return ServerState()


@pytest.fixture
def server_address(server: ServerState) -> Iterator[str]:
    with serve(server) as address:
        yield address


@pytest.fixture
def guarded_environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment for a child Python in which the same network rule holds.

    The child refuses non-loopback connections and notes them in a file; the test fails on any.
    """
    log = tmp_path / "network-attempts.txt"
    paths = [str(ROOT / "tests" / "child_site"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    yield {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "NETWORK_GUARD_LOG": str(log),
        "PYTHONDONTWRITEBYTECODE": "1" if sys.dont_write_bytecode else "",
    }
    attempts = log.read_text().splitlines() if log.exists() else []
    assert not attempts, f"a child process tried to reach the network: {attempts}"
