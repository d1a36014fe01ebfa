"""What the browser may send."""

from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from app.page.payload import MAX_WINDOW, Payload, PayloadInvalid, user_of


def event(data: Any) -> gr.EventData:
    return gr.EventData(None, data)


def test_what_our_page_sends_is_read() -> None:
    sent = {"key": "k", "id": 3, "parent": None, "last": 40, "text": "hi\n", "on": True}
    payload = Payload.of(event(sent))
    assert payload == Payload(key="k", id=3, last=40, text="hi\n", on=True)


def test_absent_values_have_harmless_defaults() -> None:
    assert Payload.of(event({})) == Payload()
    assert Payload.of(event({"key": "", "id": "", "parent": ""})) == Payload()


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "text",
        {"key": 3},
        {"key": "k" * 65},
        {"key": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}},
        {"id": "3"},
        {"id": True},
        {"id": -1},
        {"id": 2**63},
        {"id": 1.5},
        {"text": ["x"]},
        {"query": "q" * 501},
        {"mode": 1},
    ],
)
def test_what_it_never_sends_is_refused(data: Any) -> None:
    with pytest.raises(PayloadInvalid):
        Payload.of(event(data))


def test_a_window_has_a_greatest_size() -> None:
    assert Payload.of(event({"last": 10**9})).last == MAX_WINDOW


def test_lone_surrogates_become_the_sign_that_browsers_show() -> None:
    assert Payload.of(event({"text": "a\ud800b \U0001f40e"})).text == "a\ufffdb \U0001f40e"


def test_the_user_is_whom_the_gateway_named() -> None:
    request = gr.Request(SimpleNamespace(scope={"corral_user": 7}))  # type: ignore[arg-type]
    assert user_of(request) == 7


@pytest.mark.parametrize("scope", [{}, {"corral_user": "1"}, {"corral_user": None}])
def test_without_the_gateway_there_is_no_user(scope: dict[str, object]) -> None:
    request = gr.Request(SimpleNamespace(scope=scope))  # type: ignore[arg-type]
    with pytest.raises(PermissionError):
        user_of(request)
