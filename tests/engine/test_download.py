"""Downloads from a local server with the hub's protocol: resumed, checked, refused, stopped."""

import errno
import json
import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from engine.catalog import installed, resolve
from engine.download import discard, download, repository_name, unfinished
from engine.errors import (
    CheckpointMissing,
    CheckpointUnsafe,
    DiskRefused,
    DownloadDamaged,
    HubUnreachable,
    QuantizationUnchosen,
    RepositoryHidden,
)
from engine.hub import Hub
from engine.transfer import DownloadCancelled, Meter, Progress
from tests.engine.hub_server import COMMIT, HubState, serve

WEIGHTS = bytes(range(256)) * 4096  # 1 MiB
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}" * 500,
    "model-00001-of-00002.safetensors": WEIGHTS,
    "model-00002-of-00002.safetensors": WEIGHTS[::-1] + b"end",
    "model.safetensors.index.json": b'{"weight_map": {}}',
    "LICENSE": b"Some licence",
}
OTHERS = {
    "pytorch_model.bin": b"pickle",
    "consolidated.safetensors": b"twice the same",
    "original/params.json": b"{}",
    "onnx/model.onnx": b"x",
    ".gitattributes": b"x",
    "adapter_model.safetensors": b"x",
}
LARGE = {name for name in FILES if name.endswith("of-00002.safetensors")}


@pytest.fixture
def state() -> HubState:
    return HubState(files={**FILES, **OTHERS}, large=set(LARGE))


@pytest.fixture
def endpoint(state: HubState, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    with serve(state) as address:
        yield address
    huggingface_hub.close_session()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


Fetch = Callable[..., Path]


@pytest.fixture
def fetch(endpoint: str, models: Path) -> Fetch:
    def fetch(
        name: str = "tiny/Model",
        *,
        token: str | None = None,
        cancel: Event | None = None,
        progress: Callable[[Progress], None] = lambda _p: None,
    ) -> Path:
        hub = Hub(endpoint=endpoint, token=token)
        return download(
            hub, name, models, cancel=cancel or Event(), progress=progress, retry_seconds=0.01
        )

    return fetch


def check(folder: Path) -> None:
    found = {file.name: file.read_bytes() for file in folder.iterdir()}
    source = json.loads(found.pop("corral-source.json"))
    assert found == FILES
    assert source == {"repository": "tiny/Model", "commit": COMMIT, "licence": "apache-2.0"}


def test_a_whole_model_arrives_and_nothing_else(
    fetch: Fetch, models: Path, state: HubState
) -> None:
    reports: list[Progress] = []
    folder = fetch(progress=reports.append)
    assert folder == models / "tiny/Model"
    check(folder)
    assert [name for name, _ in installed(models)] == ["tiny/model"]
    assert resolve("tiny/Model", models=models) == folder.resolve()
    assert not (models / ".partial").exists()
    total = sum(map(len, FILES.values()))
    assert {report.num_total_bytes for report in reports} == {total}
    done = [report.num_done_bytes for report in reports]
    assert done == sorted(done)
    assert done[-1] == total
    assert reports[-1].seconds_left in (0.0, None)
    before = len(state.requests)
    assert fetch() == folder  # there already: the hub is not asked
    assert len(state.requests) == before


def test_a_known_short_name_stands_for_its_repository(models: Path) -> None:
    assert repository_name("Llama-3.2-1B-Instruct") == "meta-llama/Llama-3.2-1B-Instruct"
    assert repository_name("owner/name") == "owner/name"
    for name in ("llama-3.2-9b", "a/b/c", "", "../model", "a/b:c/d"):
        with pytest.raises(CheckpointMissing, match="owner/name"):
            repository_name(name)


def test_a_lost_connection_is_taken_up_again(fetch: Fetch, state: HubState) -> None:
    state.cuts = [10**9, 10**9, 300_000, 200_000]  # the first two files are whole
    check(fetch())
    spans = [
        span for name, span in state.file_requests if name.endswith("00001-of-00002.safetensors")
    ]
    assert spans[0] == ""
    assert [int(span.removeprefix("bytes=").removesuffix("-")) > 0 for span in spans[1:]] == [
        True
    ] * 2


def test_a_later_call_goes_on_where_the_first_stopped(
    fetch: Fetch, models: Path, state: HubState
) -> None:
    state.cuts = [10**9, 10**9, *([400_000] + [0] * 10)]
    with pytest.raises(HubUnreachable, match="is kept"):
        fetch()
    assert installed(models) == []
    part = models / ".partial/tiny--Model/model-00001-of-00002.safetensors.part"
    kept = part.stat().st_size
    assert 0 < kept <= 400_000
    state.cuts.clear()
    state.requests.clear()
    check(fetch())
    assert state.file_requests[0] == ("model-00001-of-00002.safetensors", f"bytes={kept}-")
    assert {name for name, _ in state.file_requests}.isdisjoint({"config.json", "tokenizer.json"})


def test_a_server_without_ranges_begins_anew(fetch: Fetch, state: HubState) -> None:
    state.knows_ranges = False
    state.cuts = [10**9, 10**9, 300_000]
    check(fetch())


def test_a_busy_server_is_asked_again(fetch: Fetch, state: HubState) -> None:
    state.statuses = [503, 429, 200, 500]
    check(fetch())


def test_a_server_that_stays_busy_is_given_up(fetch: Fetch, state: HubState) -> None:
    state.statuses = [503] * 50
    with pytest.raises(HubUnreachable, match=r"cannot serve tiny/Model now \(503\)"):
        fetch()
    assert len(state.statuses) == 45


@pytest.mark.parametrize("name", ["model-00002-of-00002.safetensors", "tokenizer.json"])
def test_wrong_bytes_are_refused(name: str, fetch: Fetch, models: Path, state: HubState) -> None:
    right = state.files[name]
    state.wrong[name] = b"X" + right[1:]
    with pytest.raises(DownloadDamaged, match=f"{name} of tiny/Model arrived damaged"):
        fetch()
    assert installed(models) == []
    assert not (models / f".partial/tiny--Model/{name}").exists()
    state.wrong.clear()
    check(fetch())


def test_more_bytes_than_announced_are_not_written(fetch: Fetch, state: HubState) -> None:
    state.wrong["tokenizer.json"] = state.files["tokenizer.json"] + b"x" * (1 << 20)
    check(fetch())


def test_a_damaged_beginning_is_fetched_again(fetch: Fetch, models: Path) -> None:
    folder = models / ".partial/tiny--Model"
    folder.mkdir(parents=True)
    (folder / "model-00001-of-00002.safetensors.part").write_bytes(b"old" * 1000)
    (folder / "model-00002-of-00002.safetensors.part").write_bytes(b"x" * (2 << 20))
    check(fetch())


def test_a_gated_model_asks_for_a_token(fetch: Fetch, state: HubState, endpoint: str) -> None:
    state.gated, state.token = True, "hf_right"
    for token in (None, "hf_wrong"):
        with pytest.raises(CheckpointMissing, match=r"is gated.*accept a licence.*--token-file"):
            fetch(token=token)
    check(fetch(token="hf_right"))
    assert set(state.tokens_at_store) == {""}  # the token stays with the hub


def test_a_private_or_absent_repository_is_said(fetch: Fetch, state: HubState) -> None:
    state.token = "hf_right"
    with pytest.raises(RepositoryHidden, match=r"shows no tiny/Model to you \(401\)"):
        fetch()
    with pytest.raises(RepositoryHidden, match=r"shows no tiny/Other to you \(404\)"):
        fetch("tiny/Other")
    with pytest.raises(RepositoryHidden, match="not the name of a repository"):
        fetch("tiny/-bad..name-")


def test_a_repository_of_pickles_is_refused(fetch: Fetch, state: HubState) -> None:
    for name in [name for name in state.files if name.endswith(".safetensors")]:
        del state.files[name]
    with pytest.raises(CheckpointUnsafe, match="only pickles"):
        fetch()


GGUF = {
    "Tiny-Q4_K_M.gguf": b"GGUF" + WEIGHTS[:1000],
    "Tiny-Q8_0/Tiny-Q8_0-00001-of-00002.gguf": b"GGUF" + WEIGHTS[:1500],
    "Tiny-Q8_0/Tiny-Q8_0-00002-of-00002.gguf": b"GGUF" + WEIGHTS[:500],
    "Tiny-IQ2_XXS.gguf": b"GGUF",
    "mmproj-F16.gguf": b"GGUF",
    "README.md": b"about it",
}


def test_one_quantization_of_many_is_chosen_fetched_and_listed(
    fetch: Fetch, models: Path, state: HubState
) -> None:
    state.files, state.large = dict(GGUF), {name for name in GGUF if name.endswith(".gguf")}
    for unknown in ("", ":Q2_K"):
        with pytest.raises(QuantizationUnchosen, match="Name one behind a colon") as caught:
            fetch(f"tiny/Model{unknown}")
        assert caught.value.choices == (("Q4_K_M", 1004), ("Q8_0", 2008))  # IQ2 is not read
    assert fetch("tiny/Model:q8_0") == models / "tiny/Model/Tiny-Q8_0-00001-of-00002.gguf"
    assert fetch("tiny/Model:Q4_K_M").read_bytes() == GGUF["Tiny-Q4_K_M.gguf"]
    names = ["tiny/model/tiny-q4_k_m", "tiny/model/tiny-q8_0-00001-of-00002"]
    assert [name for name, _ in installed(models)] == names  # a part is no model of its own
    assert resolve(names[0], models=models) == models / "tiny/Model/Tiny-Q4_K_M.gguf"
    assert not (models / ".partial").exists()
    state.requests.clear()
    fetch("tiny/Model:Q8_0")
    assert state.file_requests == []  # it is there


def test_a_quantization_is_taken_up_where_it_stopped(
    fetch: Fetch, models: Path, state: HubState
) -> None:
    state.files, state.large = {"Tiny-Q8_0.gguf": WEIGHTS}, {"Tiny-Q8_0.gguf"}
    state.cuts = [400_000, *([0] * 10)]
    with pytest.raises(HubUnreachable):
        fetch("tiny/Model:Q8_0")
    [(name, kept)] = unfinished(models)
    assert name == "tiny/Model:Q8_0" and 0 < kept <= 400_000
    state.cuts.clear()
    state.requests.clear()
    assert fetch(name).read_bytes() == WEIGHTS
    assert state.file_requests == [("Tiny-Q8_0.gguf", f"bytes={kept}-")]
    assert unfinished(models) == []
    assert fetch("tiny/Model").read_bytes() == WEIGHTS  # the only one needs no name


def test_an_etag_of_another_content_is_refused_before_its_bytes(
    fetch: Fetch, models: Path, state: HubState
) -> None:
    name = "model-00002-of-00002.safetensors"
    state.etags[name] = "0" * 64
    with pytest.raises(DownloadDamaged, match="announces another"):
        fetch()
    assert [each for each, _ in state.file_requests].count(name) == 1  # not asked for again
    assert not (models / f".partial/tiny--Model/{name}.part").exists()
    state.etags.clear()
    check(fetch())


def test_a_repository_without_a_config_is_refused(fetch: Fetch, state: HubState) -> None:
    del state.files["config.json"]
    with pytest.raises(CheckpointMissing, match="no config.json"):
        fetch()


@pytest.mark.parametrize("name", ["../escape.json", "/etc/x.json", "a/../../x.json", "C:\\x.json"])
def test_names_that_leave_the_folder_are_refused(
    name: str, fetch: Fetch, models: Path, state: HubState
) -> None:
    state.files[name] = b"x"
    with pytest.raises(CheckpointUnsafe, match="leaves its folder"):
        fetch()
    assert not models.exists() or not list(models.rglob("*.json"))


def test_cancel_stops_in_the_middle_and_keeps_what_came(
    fetch: Fetch, models: Path, state: HubState
) -> None:
    cancel = Event()

    def stop(progress: Progress) -> None:
        if progress.file.startswith("model-"):
            cancel.set()

    with pytest.raises(DownloadCancelled):
        fetch(cancel=cancel, progress=stop)
    assert (models / ".partial/tiny--Model/config.json").is_file()
    assert installed(models) == []
    check(fetch())


def test_discard_removes_what_is_unfinished(fetch: Fetch, models: Path, state: HubState) -> None:
    state.statuses = [200, 503, 503, 503, 503, 503]
    with pytest.raises(HubUnreachable):
        fetch()
    discard("tiny/Model", models)
    assert not (models / ".partial/tiny--Model").exists()


def test_too_small_a_disk_is_said_before_anything_is_fetched(
    fetch: Fetch, state: HubState, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**12, 0, 10**8))
    with pytest.raises(DiskRefused, match=r"needs 0.3 GB, the disk .* has 0.1 GB"):
        fetch()
    assert state.file_requests == []


def test_a_disk_that_fills_up_keeps_what_is_there(
    fetch: Fetch, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Meter.add

    def full(self: Meter, num_bytes: int) -> None:
        add(self, num_bytes)
        if self._arrived > 500_000:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Meter, "add", full)
        with pytest.raises(DiskRefused, match="is full. Make room and try again"):
            fetch()
    assert list((models / ".partial/tiny--Model").glob("*.part"))
    check(fetch())


def test_a_folder_that_cannot_be_written_is_said(fetch: Fetch, models: Path) -> None:
    models.parent.mkdir(exist_ok=True)
    models.write_text("a file, not a folder")
    with pytest.raises(DiskRefused, match="cannot be written"):
        fetch()


def test_no_network_is_said(models: Path, endpoint: str) -> None:
    hub = Hub(endpoint="http://127.0.0.1:9")
    with pytest.raises(HubUnreachable, match="does not answer"):
        download(hub, "tiny/Model", models, cancel=Event())


def test_offline_is_said(models: Path) -> None:
    with pytest.raises(HubUnreachable, match="HF_HUB_OFFLINE"):
        download(Hub(endpoint="http://127.0.0.1:9"), "tiny/Model", models, cancel=Event())
