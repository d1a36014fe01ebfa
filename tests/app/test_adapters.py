"""An adapter in the models folder, chosen on the page: it answers over the model that runs."""

from pathlib import Path
from threading import Event

from app.services import Services
from app.settings import Settings
from engine.base import Engine, Prompt, Sampling
from engine.local import LocalEngine
from tests.app.fakes import WordGuard
from tests.engine.adapter_files import merge, write_adapter
from tests.engine.answers import greedy_reply
from tests.engine.checkpoints import make_checkpoint


def ids(engine: Engine) -> list[int]:
    prompt = Prompt(messages=[{"role": "user", "content": "Hello, who are you?"}])
    sampling = Sampling(temperature=0, max_new_tokens=24)
    chunks = engine.stream(prompt, sampling, cancel=Event(), scope="")
    return [id for chunk in chunks for id in chunk.ids]


def test_an_adapter_is_chosen_and_left_again_without_loading(tmp_path: Path) -> None:
    models = tmp_path / "data" / "models"
    base = make_checkpoint(models / "someone" / "tiny")
    adapter = write_adapter(base, models / "my-style", base_model_name_or_path="someone/tiny")
    merged = merge(base, adapter, tmp_path / "merged", lambda _: 2)
    named = ["--data", str(tmp_path / "data"), "--model", "someone/tiny"]
    services = Services(Settings.load([*named, "--precision", "fp32", "--device", "cpu"], {}))
    services.guard.replace(WordGuard)
    services.start()
    services.load()
    try:
        first = services.engine.wait(Event())
        assert isinstance(first, LocalEngine)
        plain = ids(first)
        services.running.use("my-style")
        styled = services.engine.wait(Event())
        assert styled.info().model == "my-style"
        assert ids(styled) == greedy_reply(merged).ids != plain
        services.running.use("someone/tiny")
        again = services.engine.wait(Event())
        assert again.info() == first.info() and ids(again) == plain
        engines = (first, styled, again)
        assert len({id(engine._scheduler) for engine in engines}) == 1  # type: ignore[attr-defined]
    finally:
        services.close()
