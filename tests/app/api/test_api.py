"""The API with a telling engine: shapes, bounds, the guard, the lines, and who may ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from app.api.keys import SCOPES
from storage.records import OWNER_ID
from tests.app.api.house import PROMPT, House, events
from tests.app.asgi import ask
from tests.app.fakes import FailingGuard, TellingEngine
from tests.app.house import sign_in


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    found.services.close()


def test_a_chat_is_answered_in_openais_shape(house: House) -> None:
    found = house.chat().json
    assert found["object"] == "chat.completion"
    choice = found["choices"][0]
    assert choice["message"]["content"] == "Hello there, friend."
    assert choice["finish_reason"] == "stop"
    assert found["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def test_a_stream_says_the_same_in_pieces(house: House) -> None:
    found = events(house.chat(stream=True, stream_options={"include_usage": True}))
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    parts = [each["choices"][0] for each in found[:-1]]
    assert "".join(part["delta"].get("content", "") for part in parts) == "Hello there, friend."
    assert parts[-1]["finish_reason"] == "stop"
    assert found[-1]["usage"]["completion_tokens"] == 3


def test_nothing_is_stored_unless_asked(house: House) -> None:
    house.chat()
    assert house.services.store.conversations(OWNER_ID) == []
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "First."},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "Second."},
    ]
    house.chat(messages=messages, store=True)
    kept = house.services.store.conversations(OWNER_ID)[0]
    assert kept.system_prompt == "Be short."
    path = house.services.store.path(OWNER_ID, kept.key)
    assert [(m.role, m.content, m.status) for m in path] == [
        ("user", "First.", "done"),
        ("assistant", "One.", "done"),
        ("user", "Second.", "done"),
        ("assistant", "Hello there, friend.", "done"),
    ]
    assert path[1].verdicts[-1].action == "unchecked"


def test_what_was_used_is_counted_and_limited(house: House) -> None:
    people = house.services.store.people
    people.set_quota(OWNER_ID, 15)
    assert house.chat().status == 200
    assert people.tokens_left(OWNER_ID) == 5
    assert house.chat().status == 200
    refused = house.chat()
    assert (refused.status, refused.json["error"]["code"]) == (429, "quota")
    assert refused.headers["retry-after"] == "5"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_every_message_of_the_client_is_judged(house: House, place: int) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Good morning."},
        {"role": "user", "content": "How are you?"},
    ]
    messages[place]["content"] = "the forbidden thing"
    choice = house.chat(messages=messages).json["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("", "content_filter")
    assert house.engine.prompts == []  # the model never saw it


def test_every_judgement_on_a_call_is_in_the_safety_log_without_a_word(house: House) -> None:
    house.chat()
    house.chat()  # the prompt was let through before and is not judged again
    house.chat(messages=[{"role": "user", "content": "the forbidden qzthing"}])
    events = house.services.store.safety_events()
    assert [(e.stage, e.action, e.outcome) for e in reversed(events)] == [
        ("prompt", "allow", "shown"),
        ("final", "allow", "shown"),
        ("final", "allow", "shown"),
        ("prompt", "block", "withheld"),
    ]
    assert {(e.user_id, e.message_id) for e in events} == {(OWNER_ID, 0)}
    assert events[0].digest == house.services.store.digest("the forbidden qzthing")
    assert "qzthing" not in repr(events)


def test_a_reply_is_cut_where_the_guard_says_so(tmp_path: Path) -> None:
    reply = "This is fine. And now the forbidden word comes, with more after it."
    house = House(tmp_path, engine=TellingEngine([reply]))
    for choice in (
        house.chat(logprobs=True).json["choices"][0],
        house.complete(logprobs=1).json["choices"][0],
    ):
        assert choice["finish_reason"] == "content_filter"
        assert "forbidden" not in json.dumps(choice)
    streamed = house.chat(stream=True)
    assert "forbidden" not in streamed.body.decode()
    assert events(streamed)[-1]["choices"][0]["finish_reason"] == "content_filter"
    house.services.close()


def test_a_guard_that_fails_lets_nothing_out(tmp_path: Path) -> None:
    for after in (0, 1):
        house = House(tmp_path / str(after), guard=FailingGuard(after=after))
        choice = house.chat().json["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("", "content_filter")
        house.services.close()


def test_several_choices_and_prompts_come_in_order(tmp_path: Path) -> None:
    house = House(tmp_path, engine=TellingEngine(["One.", "Two.", "Three.", "Four."]))
    found = house.complete(["a", "b"], n=2).json["choices"]
    assert [(c["index"], c["text"]) for c in found] == list(
        enumerate(["One.", "Two.", "Three.", "Four."])
    )
    house.services.close()


WRONG: dict[str, dict[str, object]] = {
    "no messages": {"messages": []},
    "too many": {"messages": PROMPT * 1025},
    "a reply last": {"messages": [{"role": "assistant", "content": "x"}]},
    "a picture": {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
    "a role": {"messages": [{"role": "root", "content": "x"}]},
    "hot": {"temperature": 2.1},
    "below zero": {"temperature": -0.1},
    "a word": {"temperature": "hot"},
    "top_p": {"top_p": 1.5},
    "endless": {"max_tokens": 1 << 40},
    "none": {"max_tokens": 0},
    "negative": {"max_tokens": -1},
    "n": {"n": 9},
    "n zero": {"n": 0},
    "stops": {"stop": ["x"] * 17},
    "an empty stop": {"stop": ""},
    "top_logprobs": {"top_logprobs": 21},
    "seed": {"seed": 1 << 63},
    "bias": {"logit_bias": {"1": 101}},
    "bias of a word": {"logit_bias": {"the": 1}},
    "unknown": {"temprature": 1},
    "a schema": {"response_format": {"type": "yaml"}},
    "tools": {"tools": [{"type": "function", "function": {"name": "f"}}]},
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_what_is_out_of_bounds_is_refused_before_the_queue(house: House, name: str) -> None:
    answer = house.chat(**WRONG[name])
    assert answer.status == 400
    error = answer.json["error"]
    assert error["type"] == "invalid_request_error" and error["message"]
    assert house.engine.prompts == []


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": []},
        {"prompt": ["a"] * 65},
        {"prompt": ["a"] * 9, "n": 8},
        {"prompt": [1, -1]},
        {"prompt": [[1], []]},
        {"prompt": [1, "a"]},
        {"prompt": "x", "best_of": 3},
        {"prompt": "x", "max_tokens": 0},
        {"prompt": "x", "logprobs": 21},
        {"prompt": "x", "suffix": "y"},
        {"prompt": "x", "echo": True, "stream": True},
        {"prompt": "x", "store": True},
    ],
)
def test_impossible_completions_are_refused(house: House, fields: dict[str, object]) -> None:
    assert house.complete(**fields).status == 400
    assert house.engine.prompts == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 5000])
def test_a_body_that_is_no_request_is_refused(house: House, body: bytes) -> None:
    answer = house.post("/v1/chat/completions", body)
    assert answer.status == 400 and "error" in answer.json


def test_what_was_sent_is_not_repeated(house: House) -> None:
    answer = house.chat(temperature="my-secret-word", temprature="my-secret-word")
    assert answer.status == 400 and b"my-secret-word" not in answer.body


def test_an_unknown_model_is_named(house: House) -> None:
    answer = house.chat(model="gpt-4o")
    assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")
    listed = house.get("/v1/models").json["data"]
    assert [model["id"] for model in listed] == ["teller"]
    assert house.chat(model="teller").status == 200
    assert house.get("/v1/models/teller").status == 200
    assert house.get("/v1/models/other").status == 404


def test_moderations_judge_under_the_policy(house: House) -> None:
    found = house.post("/v1/moderations", {"input": ["good", "a forbidden one"]}).json["results"]
    assert [each["flagged"] for each in found] == [False, True]
    assert found[1]["categories"]["violent_crimes"] is True
    assert found[1]["category_scores"]["violent_crimes"] == 0.99


# Who may ask


def test_only_a_key_opens_the_api(house: House) -> None:
    cookie = ("cookie", sign_in(house.services, OWNER_ID, "session"))
    body = json.dumps({"model": "corral", "messages": PROMPT}).encode()
    for headers in (
        [],
        [cookie],
        [("authorization", "Bearer ")],
        [("authorization", f"Bearer {house.key}x")],
        [("authorization", f"Basic {house.key}")],
        [("authorization", f"Bearer {house.key}"), ("authorization", f"Bearer {house.key}")],
        [("x-api-key", house.key)],
    ):
        answer = ask(
            house.site.app,
            "POST",
            "/v1/chat/completions",
            headers=[("content-type", "application/json"), *headers],
            body=body,
        )
        assert answer.status == 401, headers
        assert answer.json["error"]["type"] == "authentication_error"


def test_a_key_opens_nothing_but_the_api(house: House) -> None:
    for path in ("/", "/config", "/gradio_api/startup-events"):
        assert house.get(path).status == 401


def test_a_page_of_another_address_gets_nothing_even_with_a_key(house: House) -> None:
    for headers in ([("origin", "https://evil.example")], [("sec-fetch-site", "cross-site")]):
        answer = house.post(
            "/v1/chat/completions", {"model": "corral", "messages": PROMPT}, headers=headers
        )
        assert answer.status == 403


def test_switched_off_it_answers_nobody(house: House) -> None:
    house.gateway.api_on = False
    answer = house.chat()
    assert (answer.status, answer.json["error"]["code"]) == (403, "api_off")


def test_scopes_hold(house: House) -> None:
    asks = {
        "chat": lambda key: house.post(
            "/v1/chat/completions", {"model": "corral", "messages": PROMPT}, key=key
        ),
        "completions": lambda key: house.post(
            "/v1/completions", {"model": "corral", "prompt": "x"}, key=key
        ),
        "models": lambda key: house.get("/v1/models", key),
        "moderations": lambda key: house.post("/v1/moderations", {"input": "x"}, key=key),
    }
    assert set(asks) == set(SCOPES)
    for scope in SCOPES:
        key = house.keys.create(OWNER_ID, scope, [scope])
        statuses = {name: asked(key).status for name, asked in asks.items()}
        assert statuses == {name: 200 if name == scope else 403 for name in asks}
    with pytest.raises(ValueError, match="scope"):
        house.keys.create(OWNER_ID, "all", ["everything"])


def test_a_revoked_key_is_refused_and_the_store_has_no_key(house: House, tmp_path: Path) -> None:
    assert house.chat().status == 200
    kept = house.services.store.people.keys(OWNER_ID)[0]
    assert kept.hint == house.key[-4:] and kept.used_at is not None
    house.services.store.people.revoke_key(OWNER_ID, kept.id)
    house.site.doors.keys.forget()
    assert house.chat().status == 401
    house.services.close()
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.stat().st_size < 8 << 20:
            assert house.key.encode() not in path.read_bytes(), path


# Fair use


def test_one_runs_two_wait_and_the_next_is_told_so(tmp_path: Path) -> None:
    hold = Event()
    house = House(tmp_path, engine=TellingEngine(["Hello."], hold=hold))
    jobs = house.services.jobs
    calls = [jobs.enter(OWNER_ID) for _ in range(3)]
    assert [call.place_in_queue for call in calls] == [0, 1, 2]
    answer = house.chat()
    assert (answer.status, answer.json["error"]["type"]) == (429, "rate_limit_error")
    jobs.leave(calls[1])
    assert calls[2].place_in_queue == 1
    jobs.leave(calls[0])
    assert calls[2].wait()
    jobs.leave(calls[2])
    hold.set()
    assert house.chat().status == 200
    house.services.close()


def test_sixteen_wait_in_all(tmp_path: Path) -> None:
    house = House(tmp_path)
    jobs = house.services.jobs
    for user_id in range(10, 18):
        house.services.store._writer.call(
            lambda db, user_id=user_id: db.execute(
                "INSERT INTO user (id, name, role, created_at) VALUES (?, ?, 'user', 1)",
                (user_id, f"user {user_id}"),
            )
        )
        for _ in range(3):
            jobs.enter(user_id)
    jobs.enter(OWNER_ID)  # running is not waiting: the owner still gets a turn
    answer = house.chat()
    assert (answer.status, answer.json["error"]["code"]) == (429, "queue_full")
    house.services.close()


def test_errors_of_the_engine_are_sentences(tmp_path: Path) -> None:
    house = House(tmp_path, engine=TellingEngine(["a b c d"], fails_after=0))
    answer = house.chat()
    assert answer.status == 503 and answer.json["error"]["type"] == "server_error"
    assert "broken" not in answer.body.decode()
    streamed = house.chat(stream=True)
    assert streamed.status == 503 or b'"error"' in streamed.body
    house.services.close()
