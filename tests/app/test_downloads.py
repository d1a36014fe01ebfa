"""Downloads as the page starts them, against a local server that speaks the hub's protocol."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from app.credentials import MODEL_HUB, CredentialInvalid, Credentials
from app.downloads import DownloadBusy, Downloads, DownloadView, Unfinished
from engine.catalog import installed
from engine.errors import CheckpointMissing
from tests.engine.hub_server import HubState, serve_to_children
from tests.waiting import until

TOKEN = "hf_privateprivateprivate"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": bytes(range(256)) * 4096,
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, guarded_environment: dict[str, str]) -> Iterator[HubState]:
    """A hub that the child process finds, and whose network guard it obeys."""
    state = HubState(files=dict(FILES), large={"model.safetensors"})
    with serve_to_children(state, monkeypatch, guarded_environment):
        yield state


@pytest.fixture
def downloads(tmp_path: Path) -> Iterator[Downloads]:
    made = Downloads(tmp_path / "models", Credentials(tmp_path))
    yield made
    made.close()


def ended(downloads: Downloads) -> DownloadView:
    until(lambda: downloads.view().state != "running")
    return downloads.view()


def test_a_download_is_followed_stopped_taken_up_by_a_new_start_and_used(
    hub: HubState, downloads: Downloads, tmp_path: Path
) -> None:
    assert downloads.view().state == "none"
    assert hub.requests == []  # nothing goes online by itself
    hub.hold = Event()  # half of the weights comes, then the server waits
    downloads.start("tiny/Model")
    assert downloads.view() == DownloadView("tiny/Model", "running")
    with pytest.raises(DownloadBusy):
        downloads.start("tiny/Model")
    with pytest.raises(DownloadBusy):
        downloads.discard("tiny/Model")
    assert downloads.unfinished() == []  # it runs
    part = tmp_path / "models" / ".partial" / "tiny--Model" / "model.safetensors.part"
    until(lambda: part.is_file() and part.stat().st_size >= 100_000)
    assert downloads.view().num_total_bytes == sum(map(len, FILES.values()))
    downloads.stop()
    view = ended(downloads)
    assert view.state == "stopped"
    hub.hold.set()
    hub.hold = None

    later = Downloads(tmp_path / "models", Credentials(tmp_path))  # after a new start
    [kept] = later.unfinished()
    assert kept.name == "tiny/Model"
    assert 0 < kept.num_done_bytes < view.num_total_bytes
    hub.requests.clear()
    later.start("tiny/Model")
    view = ended(later)
    assert (view.state, view.num_done_bytes) == ("done", view.num_total_bytes)
    assert view.model == "tiny/model"
    [(name, span)] = hub.file_requests
    assert name == "model.safetensors" and span  # the rest of it and nothing else
    assert later.unfinished() == []
    assert [name for name, _ in installed(tmp_path / "models")] == ["tiny/model"]


def test_a_gated_model_asks_for_a_token_which_is_told_to_the_hub_alone(
    hub: HubState,
    downloads: Downloads,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    hub.gated, hub.token = True, TOKEN
    downloads.start("tiny/Model")
    view = ended(downloads)
    assert (view.state, view.needs_token) == ("failed", True)
    assert "accept" in view.problem
    Credentials(tmp_path).put(MODEL_HUB, f" {TOKEN}\n")
    downloads.start("tiny/Model")
    command = Path(f"/proc/{downloads._process.pid}")  # type: ignore[union-attr]
    if command.is_dir():
        told = (command / "cmdline").read_bytes() + (command / "environ").read_bytes()
        assert TOKEN.encode() not in told
    assert ended(downloads).state == "done"
    assert set(hub.tokens_at_store) == {""}
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(downloads.view())


def test_a_repository_of_quantizations_asks_which(hub: HubState, downloads: Downloads) -> None:
    hub.files = {"Tiny-Q4_0.gguf": b"GGUF" * 10, "Tiny-Q8_0.gguf": b"GGUF" * 20}
    hub.large = set(hub.files)
    downloads.start("tiny/Model")
    view = ended(downloads)
    assert (view.fault, view.choices) == ("QuantizationUnchosen", (("Q4_0", 40), ("Q8_0", 80)))
    downloads.start("tiny/Model:Q8_0")
    view = ended(downloads)
    assert (view.state, view.choices, view.model) == ("done", (), "tiny/model/tiny-q8_0")


def test_a_name_that_leads_nowhere_is_refused_before_anything_starts(
    downloads: Downloads, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointMissing, match="owner/name"):
        downloads.start("no such model")
    assert downloads.view().state == "none"
    downloads.stop()
    left = tmp_path / "models" / ".partial" / "meta-llama--Llama-3.2-1B-Instruct"
    left.mkdir(parents=True)
    (left / "model.safetensors.part").write_bytes(b"123")
    assert downloads.unfinished() == [Unfinished("llama-3.2-1b-instruct", 3)]
    downloads.discard("llama-3.2-1b-instruct")
    assert downloads.unfinished() == []


def test_credentials_are_private_and_survive_damage(tmp_path: Path) -> None:
    kept = Credentials(tmp_path)
    assert kept.get("a") == ""
    kept.put("a", "  secret-a\n")
    kept.put("b", "secret-b")
    assert Credentials(tmp_path).get("a") == "secret-a"
    file = tmp_path / "credentials.json"
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "secret" not in repr(kept)
    kept.forget("a")
    kept.forget("never there")
    assert (kept.get("a"), kept.get("b")) == ("", "secret-b")
    for content in ("", "[]", "{", '{"b": 7}'):
        file.write_text(content)
        assert kept.get("b") == ""
    kept.put("b", "again")
    assert kept.get("b") == "again"


@pytest.mark.parametrize("secret", ["", "  ", "two words", "tab\tinside", "ключ", "x" * 5000])
def test_what_cannot_be_a_token_is_refused(tmp_path: Path, secret: str) -> None:
    with pytest.raises(CredentialInvalid):
        Credentials(tmp_path).put("a", secret)
    assert not (tmp_path / "credentials.json").exists()
