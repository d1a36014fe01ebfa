"""The dialog Models and the change of model behind it, with engines that load at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from app import running_model
from app import services as services_module
from app.models import ModelBusy, ModelUnloaded, model_choices, take_over
from app.page.panels import Panels
from app.room import Room
from app.services import Services
from app.settings import Settings
from engine import placement
from engine.base import Engine, EngineInfo
from engine.catalog import KNOWN
from engine.errors import CheckpointBroken, CheckpointMissing, DeviceOutOfMemory
from engine.placement import Offloading
from engine.stores import Stores
from tests.app.fakes import TellingEngine, WordGuard
from tests.app.panel_events import fire, make_panels

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 288,
    "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
    "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
}  # fmt: skip
LARGE = {
    "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192,
}  # fmt: skip
GB = 10**9
HOSTILE = ["${print(1)}", "`+print(1)+`", "<img src=x onerror=print(1)>", "\"' onload=print(1) x="]


@dataclass
class Named(TellingEngine):
    name: str = ""
    note: str = ""
    spread: str = ""
    unrecorded: str = ""

    def info(self) -> EngineInfo:
        told = {"note": self.note, "spread": self.spread, "unrecorded": self.unrecorded}
        return EngineInfo(self.name, "p", "none", 0, 4096, "cpu", "fp32", **told)


@dataclass
class Completing(Named):
    """A base model."""

    def info(self) -> EngineInfo:
        return replace(super().info(), chat=False)


@dataclass
class Coupled(Named):
    """Says that "one" is an adapter over its own model."""

    def holds(self, path: Path) -> bool:
        return path.name == "one"

    def switched(self, path: Path) -> Engine:
        return Named(name=f"{path.name} over {self.name}")


@dataclass
class Garage:
    """Loads `Named` engines; `broken` names raise what stands beside them."""

    kind: type[Named] = Named
    broken: dict[str, Exception] = field(default_factory=dict)
    loaded: list[Named] = field(default_factory=list)
    asked: list[Settings] = field(default_factory=list)
    hold: Event | None = None

    def load(self, settings: Settings) -> Engine:
        if self.hold is not None:
            assert self.hold.wait(10)
        if settings.model in self.broken:
            raise self.broken[settings.model]
        self.asked.append(settings)
        self.loaded.append(self.kind(name=Path(settings.model).name))
        return self.loaded[-1]


@pytest.fixture
def garage(monkeypatch: pytest.MonkeyPatch) -> Garage:
    made = Garage()
    monkeypatch.setattr(services_module, "load_engine", made.load)
    monkeypatch.setattr(running_model, "fits_beside", lambda folder, device: True)
    return made


def start(data: Path, *argv: str) -> Services:
    running = Services(Settings.load(["--data", str(data), *argv], {}))
    running.guard.replace(WordGuard)
    running.start()
    running.load()
    running.engine.wait(Event())
    running.guard.wait(Event())
    return running


@pytest.fixture
def services(garage: Garage, tmp_path: Path) -> Iterator[Services]:
    for name in ("one", "two"):
        make_model(tmp_path / "data", name)
    running = start(tmp_path / "data")
    yield running
    running.close()


def make_model(data: Path, name: str, **changes: object) -> None:
    folder = data / "models" / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**LLAMA, **changes}))
    (folder / "model.safetensors").write_bytes(b"x" * 3_000_000)


def shown(panels: Panels, **data: object) -> dict[str, Any]:
    panel: dict[str, Any] = fire(panels.panel, {"mode": "models", **data})["panel"]
    return panel


def test_it_shows_what_runs_what_is_here_and_what_can_be_had(panels: Panels) -> None:
    html = shown(panels)["html"]
    assert "4,096 tokens" in html  # of what runs
    assert 'data-mode="use" data-text="one"' in html and 'data-mode="use" data-text="two"' in html
    assert 'data-mode="use" data-text="built-in"' not in html  # in use
    assert "small built-in model: basic" in html and "get a Llama below" in html
    assert "3.0 MB" in html
    for model in KNOWN:
        assert f'data-text="{model.name}" aria-label="Download {model.name}"' in html


def test_another_model_answers_and_the_old_one_is_closed(
    panels: Panels, services: Services, garage: Garage
) -> None:
    painted = fire(panels.model, {"mode": "use", "text": "two"})
    assert painted["panel"]["kind"] == "models"
    assert services.engine.wait(Event()).info().model == "two"
    assert garage.loaded[0].closed and not garage.loaded[1].closed
    told = shown(panels, on=True)
    assert (told["said"], told["tone"]) == ("two answers from now on.", "info")
    assert not told["loading"] and "built-in model: basic" not in told["html"]
    assert (
        'data-mode="use" data-text="built-in"' in told["html"]
        and 'data-mode="use" data-text="two"' not in told["html"]
    )


def test_a_base_model_is_said_to_complete(
    panels: Panels, services: Services, garage: Garage
) -> None:
    said = "it completes texts rather than chats"
    assert said not in shown(panels)["html"]
    garage.kind = Completing
    services.running.use("two")
    services.engine.wait(Event())
    assert said in shown(panels)["html"]


@pytest.mark.parametrize(
    ("places", "told"),
    [
        ({"cuda:0": 2 * GB, "cuda:1": 2 * GB}, "it would lie on 2 GPUs"),
        (
            {"cuda:0": 2 * GB, "cpu": 9 * GB},
            r"(\d+) of 16 layers would lie there, \S+ [GM]B come from main memory for every",
        ),
        (
            {"cuda:0": 2 * GB, "cpu": GB // 5, "disk": 9 * GB},
            r"(\d+) of 16 layers would lie there, \S+ [GM]B come from the disk for every",
        ),
    ],
)
def test_a_model_that_is_larger_than_the_device_says_where_it_would_lie(
    panels: Panels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    places: dict[str, int],
    told: str,
) -> None:
    make_model(tmp_path / "data", "large", **LARGE)
    room = Room("cuda", places["cuda:0"], 1, places["cuda:0"], Offloading("disk"))
    monkeypatch.setattr(Room, "of_machine", lambda _device, _offload: room)
    monkeypatch.setattr(placement, "places_here", lambda *_, **__: places)
    monkeypatch.setattr(placement, "bandwidth", lambda *_: 4e9)
    html = shown(panels)["html"]
    assert "does not fit: takes 3." in html and "2.0 GB are free" in html
    found = re.search(told, html)
    assert found
    if found.groups():
        assert 0 < int(found[1]) < 16
        assert re.search(r"at least 0\.\d+ s each", html)


@pytest.mark.parametrize("language", ["en", "zh-Hans", "zh-Hant"])
def test_a_model_in_several_places_says_where_it_lies(
    services: Services, garage: Garage, language: str
) -> None:
    lies = "Of 16 layers lie 9 on cuda:0, 7 in main memory."
    garage.loaded[0].spread = lies
    html = shown(make_panels(services, language))["html"]
    assert {"en": lies, "zh-Hans": "9 层在 cuda:0 上，", "zh-Hant": "9 層在 cuda:0 上，"}[
        language
    ] in html
    assert (lies in html) is (language == "en")


def test_a_gpu_that_does_without_graphs_says_why(services: Services, garage: Garage) -> None:
    garage.loaded[0].unrecorded = "Answers are written without CUDA graphs."
    assert garage.loaded[0].unrecorded in shown(make_panels(services))["html"]


def test_an_adapter_over_the_model_that_answers_is_switched_to_and_not_loaded(
    services: Services, garage: Garage
) -> None:
    garage.kind = Coupled
    services.running.use("two")
    assert services.engine.wait(Event()).info().model == "two"
    services.running.use("one")
    assert services.engine.wait(Event()).info().model == "one over two"
    assert [settings.model for settings in garage.asked] == ["built-in", "two"]
    assert garage.loaded[1].closed  # it frees nothing as long as the adapter answers
    services.running.use("one")  # asked for once more: loaded as a model of its own
    assert services.engine.wait(Event()).info().model == "one"


def test_the_choice_holds_for_the_next_start_unless_that_names_a_model(
    services: Services, tmp_path: Path
) -> None:
    services.running.use("two")
    services.engine.wait(Event())
    services.close()
    again = start(tmp_path / "data")
    try:
        assert (again.running.name, again.engine.wait(Event()).info().model) == ("two", "two")
    finally:
        again.close()
    named = start(tmp_path / "data", "--model", "one")
    try:
        assert named.engine.wait(Event()).info().model == "one"
        html = shown(make_panels(named))["html"]
        assert "started with the model named (command line)" in html
    finally:
        named.close()


def test_while_it_loads_the_page_says_so_and_takes_no_other(
    panels: Panels, services: Services, garage: Garage
) -> None:
    garage.hold = Event()
    assert fire(panels.model, {"mode": "use", "text": "one"})["panel"]["loading"]
    assert "one is being loaded" in shown(panels)["html"]
    refused = fire(panels.model, {"mode": "use", "text": "two"})["panel"]
    assert (refused["tone"], "html" in refused) == ("error", False)
    with pytest.raises(ModelBusy):
        services.running.use("two")
    garage.hold.set()
    assert services.engine.wait(Event()).info().model == "one"


def test_a_model_that_does_not_load_leaves_the_old_one_answering(
    panels: Panels, services: Services, garage: Garage
) -> None:
    garage.broken["two"] = CheckpointBroken("model.safetensors is <b>cut</b> short.")
    fire(panels.model, {"mode": "use", "text": "two"})
    assert services.engine.wait(Event()) is garage.loaded[0]
    assert not garage.loaded[0].closed
    assert services.running.name == "built-in"
    assert services.store.setting(1, "model") is None
    told = shown(panels, on=True)
    assert told["tone"] == "error"
    assert told["said"].startswith("two was not loaded, and Built-in answers on.")
    assert "model.safetensors is <b>cut</b> short." in told["said"]  # set as text, not as HTML


def test_when_the_first_model_failed_another_can_be_chosen(
    garage: Garage, services: Services, panels: Panels
) -> None:
    services.engine.replace(lambda: garage.load(replace(services.settings, model="gone")))
    services.engine.wait(Event())
    garage.broken["one"] = CheckpointBroken("The weights are damaged.")

    def fail() -> Engine:
        raise CheckpointMissing("There is no model called <i>gone</i>.")

    services.engine.replace(fail)
    with pytest.raises(CheckpointMissing):
        services.engine.wait(Event())
    html = shown(panels)["html"]
    assert "There is no model called &lt;i&gt;gone&lt;/i&gt;." in html
    fire(panels.model, {"mode": "use", "text": "one"})
    with pytest.raises(CheckpointBroken):
        services.engine.wait(Event())
    assert shown(panels, on=True)["said"].startswith("one was not loaded. The model's files")
    fire(panels.model, {"mode": "use", "text": "two"})
    assert services.engine.wait(Event()).info().model == "two"


@pytest.mark.parametrize("name", ["", "three", "/etc", "..", "llama-3.2-1b-instruct", "broken"])
def test_only_what_is_listed_and_sound_can_be_chosen(
    panels: Panels, services: Services, garage: Garage, tmp_path: Path, name: str
) -> None:
    make_model(tmp_path / "data", "broken", architectures=["GPT2LMHeadModel"], model_type="gpt2")
    panel = fire(panels.model, {"mode": "use", "text": name})["panel"]
    assert panel["tone"] == "error"
    assert len(garage.loaded) == 1
    assert services.running.name == "built-in"


def test_guards_are_listed_but_do_not_chat(panels: Panels, tmp_path: Path) -> None:
    make_model(tmp_path / "data", "llama-guard-3-1b")
    html = shown(panels)["html"]
    assert "it judges texts and does not chat" in html
    assert 'data-mode="use" data-text="llama-guard-3-1b"' not in html


def test_an_adapter_is_listed_with_the_model_that_it_changes(
    panels: Panels, tmp_path: Path
) -> None:
    folder = tmp_path / "data" / "models" / "mine"
    folder.mkdir()
    told = {"peft_type": "LORA", "base_model_name_or_path": "some/<b>model</b>"}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    html = shown(panels)["html"]
    assert "LoRA adapter over some/&lt;b&gt;model&lt;/b&gt;" in html
    assert 'data-mode="use" data-text="mine"' not in html  # its weights are missing


def test_names_of_folders_and_notes_of_engines_are_text(
    panels: Panels, services: Services, garage: Garage, tmp_path: Path
) -> None:
    for name in HOSTILE:
        make_model(tmp_path / "data", name)
    garage.loaded[0].name = garage.loaded[0].note = "".join(HOSTILE)
    html = shown(panels)["html"]
    assert "<img" not in html
    assert "&#34;&#39; onload=print(1) x=" in html
    fire(panels.model, {"mode": "use", "text": "<img src=x onerror=print(1)>"})
    assert services.engine.wait(Event()).info().model == "<img src=x onerror=print(1)>"
    assert "<img" not in shown(panels, on=True)["html"]


def test_only_the_owner_may_change_it_or_see_the_folders(
    panels: Panels, services: Services, garage: Garage
) -> None:
    html = fire(panels.panel, {"mode": "models"}, user_id=2)["panel"]["html"]
    assert str(services.settings.data) not in html
    assert 'data-event="' not in html
    panel = fire(panels.model, {"mode": "use", "text": "one", "corral_user": 1}, user_id=2)["panel"]
    assert panel["said"] == "Only the owner of this Corral can change this."
    assert (
        fire(panels.model, {"mode": "use", "text": "one"}, user_id=None)["panel"]["tone"] == "error"
    )
    assert len(garage.loaded) == 1


def test_an_unloaded_model_is_closed_and_can_be_chosen_again(
    services: Services, garage: Garage
) -> None:
    services.running.unload()
    with pytest.raises(ModelUnloaded):
        services.engine.wait(Event())
    assert garage.loaded[0].closed
    services.running.use("built-in")
    assert services.engine.wait(Event()).info().model == "built-in"
    services.running.unload()
    with pytest.raises(ModelUnloaded):
        services.engine.wait(Event())


def test_precision_and_context_are_those_of_the_page_unless_the_start_named_them(
    services: Services, garage: Garage, tmp_path: Path
) -> None:
    services.store.set_setting(1, "precision", "int8")
    services.store.set_setting(1, "context", "2048")
    services.running.use("one")
    services.engine.wait(Event())
    assert (garage.asked[-1].precision, garage.asked[-1].context) == ("int8", 2048)
    make_model(tmp_path / "second", "one")
    named = start(tmp_path / "second", "--precision", "bf16")
    named.store.set_setting(1, "precision", "int8")
    named.running.use("one")
    named.engine.wait(Event())
    assert (garage.asked[-1].precision, garage.asked[-1].context) == ("bf16", 0)
    named.close()


def test_ending_in_the_midst_of_a_change_closes_both(garage: Garage, services: Services) -> None:
    garage.hold = Event()
    services.running.use("one")
    services.close()
    garage.hold.set()
    services.engine.wait(Event())
    assert [engine.closed for engine in garage.loaded] == [True, True]


@pytest.mark.parametrize("reason", ["no room", "out of memory"])
def test_without_room_for_both_the_old_one_is_closed_first(reason: str) -> None:
    old, order = Named(name="old"), []

    def load_new() -> Engine:
        order.append(f"new, old closed: {old.closed}")
        if not old.closed:
            raise DeviceOutOfMemory("full")
        return Named(name="new")

    engine, error = take_over(
        old, load_new=load_new, load_old=lambda: old, fits=lambda: reason != "no room"
    )
    assert (engine.info().model, error) == ("new", None)
    assert order[-1] == "new, old closed: True"
    assert len(order) == (1 if reason == "no room" else 2)


def test_if_the_new_one_does_not_fit_even_alone_the_old_one_is_loaded_again() -> None:
    def fail() -> Engine:
        raise DeviceOutOfMemory("full")

    old, again = Named(name="old"), Named(name="old")
    engine, error = take_over(old, load_new=fail, load_old=lambda: again, fits=lambda: True)
    assert engine is again
    assert old.closed and isinstance(error, DeviceOutOfMemory)


def test_a_model_in_the_hubs_cache_and_one_given_as_a_folder_are_listed(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--Some--Llama" / "snapshots" / "abc"
    make_model(tmp_path / "elsewhere", "mine")
    (tmp_path / "elsewhere" / "models" / "mine").rename(tmp_path / "mine")
    snapshot.parent.mkdir(parents=True)
    make_model(tmp_path / "x", "y")
    (tmp_path / "x" / "models" / "y").rename(snapshot)
    settings = Settings(data=tmp_path / "data", model=str(tmp_path / "mine"))
    choices = model_choices(settings, stores=Stores(tmp_path / "hub"))
    assert [choice.name for choice in choices] == ["built-in", settings.model, "some/llama"]
    assert all(choice.num_parameters and not choice.problem for choice in choices)
