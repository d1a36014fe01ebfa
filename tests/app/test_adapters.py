"""An adapter in the models folder, chosen on the page: it answers over the model that runs."""

import asyncio
from pathlib import Path
from threading import Event

import pytest

from app.api.adapters import Adapters
from app.api.calls import Calls, Wanted
from app.api.errors import ApiError
from app.services import Services
from app.settings import Settings
from engine.base import Engine, Prompt, Sampling
from engine.errors import CheckpointMissing
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


def test_an_adapter_is_asked_for_by_requests(tmp_path: Path) -> None:
    """Side by side with the model itself, over its weights; no other folder can be named."""
    models = tmp_path / "models"
    base = make_checkpoint(models / "tiny")
    adapter = write_adapter(base, models / "mine" / "style", base_model_name_or_path="tiny")
    merged = merge(base, adapter, tmp_path / "merged", lambda _: 2)
    write_adapter(base, tmp_path / "outside")
    other = make_checkpoint(models / "wide", hidden_size=64)
    write_adapter(other, models / "wide-style")
    options = ["--model", "tiny", "--precision", "fp32", "--device", "cpu", "--api"]
    services = Services(Settings.load(["--data", str(tmp_path), *options], {}))
    services.guard.replace(WordGuard)
    services.start()
    services.load()
    try:
        plain = services.engine.wait(Event())
        adapters = Adapters(services)
        assert adapters.names() == ["mine/style"]
        with adapters.over(plain, "mine/style") as styled, adapters.over(plain, "") as same:
            assert same is plain
            assert ids(styled) == greedy_reply(merged).ids != ids(plain) == greedy_reply(base).ids
        with pytest.raises(CheckpointMissing, match="outside"), adapters.over(plain, "../outside"):
            pass
        assert ids(plain) == greedy_reply(base).ids  # it stays when a request is over
        calls = Calls(services)
        for wanted in ("tiny:mine/style", "corral:Mine/Style"):
            assert asyncio.run(calls.model(wanted)) == Wanted("tiny:mine/style", "mine/style")
        for wanted in ("tiny:wide-style", "tiny:", "tiny:../outside", "mine/style"):
            with pytest.raises(ApiError, match="There is no model"):
                asyncio.run(calls.model(wanted))
    finally:
        services.close()


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
