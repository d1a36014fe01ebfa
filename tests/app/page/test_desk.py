"""The dialogs' handlers: what anybody may send to them, and who may do what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.page.compare import DEGREES
from app.page.meter import Meter
from app.page.templates import Templates
from app.requests import Send
from app.services import Services
from app.strings import Strings
from storage.records import NotFound
from tests.app.fakes import ended
from tests.app.house import make_services
from tests.app.panel_events import fire, make_panels
from tests.storage.make import add_user
from tests.waiting import until

GUEST = 2


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    services = make_services(tmp_path)
    add_user(services.store, "guest")
    services.load()
    yield services
    services.close()


@pytest.fixture
def answered(services: Services) -> tuple[str, int]:
    """The owner's conversation with one answer: its key and the answer's id."""
    job = services.jobs.start(1, Send(None, None, "hello", "a" * 8))
    ended(job)
    return job.key, job.reply_id


def desk(services: Services, user_id: int, mode: str, **data: Any) -> dict[str, Any]:
    fields = data.pop("fields", {})
    sent = {"mode": mode, "text": json.dumps(fields), **data}
    return fire(make_panels(services).desk, sent, user_id)["panel"]


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("nothing.save", "{}"),
        ("", "{}"),
        ("session.save", "[1]"),
        ("session.save", '{"preset": 1}'),
        ("session.save", "{"),
        ("compare.pair", '{"other": "x"}'),
        ("compare.pair", '{"other": "９"}'),
    ],
)
def test_what_our_page_never_sends_is_an_error_and_changes_nothing(
    services: Services, answered: tuple[str, int], mode: str, text: str
) -> None:
    key, reply_id = answered
    sent = {"mode": mode, "text": text, "key": key, "id": reply_id}
    value = fire(make_panels(services).desk, sent)["panel"]
    assert value["tone"] == "error"
    assert services.store.conversation(1, key).choices == {}


@pytest.mark.parametrize("kind", ["numbers", "tokens", "compare", "session"])
def test_a_guest_reaches_no_answer_of_others(
    services: Services, answered: tuple[str, int], kind: str
) -> None:
    key, reply_id = answered
    sent = {"mode": kind, "key": key, "id": reply_id}
    value = fire(make_panels(services).panel, sent, GUEST)["panel"]
    assert value["tone"] == "error"
    assert "html" not in value


@pytest.mark.parametrize(
    ("mode", "fields"),
    [
        ("session.save", {"system_prompt": "mine now"}),
        ("compare.thumb", {"thumb": "1"}),
        ("compare.answer", {}),
        ("tokens.branch", {"token": "1"}),
        ("numbers.replay", {}),
    ],
)
def test_a_guest_changes_nothing_of_others(
    services: Services, answered: tuple[str, int], mode: str, fields: dict[str, str]
) -> None:
    key, reply_id = answered
    value = desk(services, GUEST, mode, key=key, id=reply_id, fields=fields)
    assert value["tone"] == "error"
    assert services.store.conversation(1, key).system_prompt == ""
    assert services.store.message(1, key, reply_id).feedback is None
    assert len(services.store.path(1, key)) == 2
    assert services.store.message(1, key, reply_id).num_versions == 1


def test_settings_without_a_conversation_begin_one(services: Services) -> None:
    value = desk(services, GUEST, "session.save", fields={"system_prompt": "Be brief."})
    assert value["close"] is True
    assert services.store.conversation(GUEST, value["open"]).system_prompt == "Be brief."
    with pytest.raises(NotFound):
        services.store.conversation(1, value["open"])


def test_a_persona_whose_words_were_changed_is_one_no_longer(services: Services) -> None:
    editor = next(one for one in services.library.personas if one.name == "Editor")
    for text, name in ((editor.text, "Editor"), (editor.text + " Now.", "")):
        fields = {"system_prompt": text, "persona_name": "Editor"}
        value = desk(services, 1, "session.save", fields=fields)
        assert services.store.conversation(1, value["open"]).choices.get("persona", "") == name


def test_only_the_owner_changes_the_model_by_comparing(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    monkeypatch.setattr(services.running, "use", used.append)
    for user_id in (GUEST, 1):
        job = services.jobs.start(user_id, Send(None, None, "hello", f"{user_id}" * 8))
        ended(job)
        desk(
            services,
            user_id,
            "compare.answer",
            key=job.key,
            id=job.reply_id,
            fields={"model": "another"},
        )
        assert used == ([] if user_id == GUEST else ["another"])


def test_a_rating_is_one_of_eight_steps(services: Services, answered: tuple[str, int]) -> None:
    key, first = answered
    store = services.store
    value = desk(services, 1, "compare.answer", key=key, id=first)
    second = value["poll"]["parent"]
    until(lambda: not services.jobs.running(1, key))
    made = store.compare(1, key, first_id=first, second_id=second, blind=False)
    for step in ("0", "5", "-9", "x", ""):
        value = desk(services, 1, "compare.rate", key=key, id=made.id, fields={"safety": step})
        assert value["tone"] == "error"
    for degree in DEGREES:
        desk(services, 1, "compare.rate", key=key, id=made.id, fields={"safety": str(degree)})
        assert store.comparison(1, made.id).safety == degree


def test_the_meter_is_silent_while_the_model_loads(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    meter = Meter(services, Templates(Strings.load("en")))
    assert meter.value(1, None, "hello") == {"line": "", "share": 0, "tone": ""}
    services.close()
