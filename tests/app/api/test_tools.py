"""Forms and tools over the API: what the engine is asked for, and what its reply is told as."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.base import ToolStyle
from engine.constraint import check_form
from tests.app.api.house import House, events
from tests.app.fakes import TellingEngine

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"$ref": "#/$defs/City"}},
            "required": ["city"],
            "$defs": {"City": {"type": "string", "maxLength": 9}},
        },
    },
}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"type": "number"}}},
    },
}
CALL = '{"name": "get_weather", "parameters": {"city": "Bath"}}'
FORM = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
AS_FORM = {"type": "json_schema", "json_schema": {"name": "number", "schema": FORM, "strict": True}}


def house_with(place: Path, *replies: str, tools: ToolStyle = "json") -> House:
    return House(place, engine=TellingEngine(list(replies), tools=tools))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = house_with(tmp_path, CALL)
    yield found
    found.services.close()


def schema_of(house: House) -> Any:
    sampling = house.engine.samplings[-1]
    check_form(sampling)
    return json.loads(sampling.json_schema)


# --- forms ----------------------------------------------------------------------------------------


def test_a_form_goes_to_the_engine(house: House) -> None:
    assert house.chat(response_format={"type": "json_object"}).status == 200
    assert schema_of(house) == {"type": "object"}
    assert house.chat(response_format=AS_FORM).status == 200
    assert schema_of(house) == FORM
    assert house.chat(response_format={"type": "text"}).status == 200
    assert house.engine.samplings[-1].json_schema == ""


@pytest.mark.parametrize(
    "form",
    [
        {"type": "yaml"},
        {"type": "json_schema"},
        {"type": "json_object", "json_schema": {"schema": FORM}},
        {"type": "json_schema", "json_schema": {"name": "x"}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": [1]}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "animal"}}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#/gone"}}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"pattern": "(["}}},
    ],
    ids=str,
)
def test_a_wrong_form_is_refused_before_the_queue(house: House, form: dict[str, Any]) -> None:
    answer = house.chat(response_format=form)
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert house.engine.prompts == []


# --- calls ----------------------------------------------------------------------------------------


def test_a_call_is_told_as_one(house: House) -> None:
    choice = house.chat(tools=[WEATHER, ADD]).json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    [call] = choice["message"]["tool_calls"]
    assert call["type"] == "function" and call["id"].startswith("call_")
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Bath"}'}
    assert choice["message"]["content"] is None
    assert house.engine.prompts[0].tools == [WEATHER, ADD]
    assert house.engine.samplings[0].json_schema == ""


def test_a_streamed_call_shows_no_part_of_its_text(house: House) -> None:
    found = [each["choices"][0] for each in events(house.chat(tools=[WEATHER], stream=True))]
    assert not any(each["delta"].get("content") for each in found)
    [told] = [each["delta"]["tool_calls"] for each in found if "tool_calls" in each["delta"]]
    assert told[0]["index"] == 0
    assert told[0]["function"] == {"name": "get_weather", "arguments": '{"city": "Bath"}'}
    assert found[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("reply", ["It is raining.", '{"n": 1} is what you asked for', "[1, 2, 3]"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_ordinary_reply_stays_one(tmp_path: Path, reply: str, stream: bool) -> None:
    house = house_with(tmp_path, reply)
    answer = house.chat(tools=[WEATHER], stream=stream, logprobs=True)
    if stream:
        parts = [each["choices"][0] for each in events(answer)]
        text = "".join(part["delta"].get("content", "") for part in parts)
        finish = parts[-1]["finish_reason"]
    else:
        choice = answer.json["choices"][0]
        text, finish = choice["message"]["content"], choice["finish_reason"]
    assert (text, finish) == (reply, "stop")
    house.services.close()


def test_a_call_that_the_guard_stops_is_none(tmp_path: Path) -> None:
    reply = CALL.replace("Bath", "the forbidden city")
    house = house_with(tmp_path, reply)
    for answer in (house.chat(tools=[WEATHER]), house.chat(tools=[WEATHER], stream=True)):
        assert b"forbidden" not in answer.body and b"tool_calls" not in answer.body
        assert b"content_filter" in answer.body
    house.services.close()


def test_what_tools_say_is_judged(house: House) -> None:
    tool = json.loads(json.dumps(WEATHER).replace("Tells", "Tells the forbidden"))
    assert house.chat(tools=[tool]).json["choices"][0]["finish_reason"] == "content_filter"
    messages = [
        {"role": "user", "content": "Rain?"},
        {"role": "tool", "content": "the forbidden thing", "tool_call_id": "1"},
    ]
    found = house.chat(messages=messages, tools=[WEATHER]).json["choices"][0]
    assert found["finish_reason"] == "content_filter"
    assert house.engine.prompts == []


def test_a_call_and_its_result_are_sent_on(house: House) -> None:
    messages = [
        {"role": "user", "content": "Rain?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city": "Bath"}'},
                }
            ],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "call_1"},
    ]
    assert house.chat(messages=messages, tools=[WEATHER]).status == 200
    assert house.engine.prompts[0].messages == [
        {"role": "user", "content": "Rain?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"name": "get_weather", "arguments": '{"city": "Bath"}'}],
        },
        {"role": "tool", "content": "rain"},
    ]


# --- which tool -----------------------------------------------------------------------------------


def test_a_tool_that_must_be_called_is_a_form(house: House) -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    house.chat(tools=[WEATHER, ADD], tool_choice=named)
    schema = schema_of(house)
    assert schema["properties"]["name"] == {"const": "get_weather"}
    place = schema["properties"]["parameters"]
    assert place["properties"]["city"] == {"$ref": "#/properties/parameters/$defs/City"}
    assert place["additionalProperties"] is False
    house.chat(tools=[WEATHER, ADD], tool_choice="required")
    schema = schema_of(house)
    names = [each["properties"]["name"]["const"] for each in schema["$defs"].values()]
    assert names == ["get_weather", "add"]
    city = schema["$defs"]["form0"]["properties"]["parameters"]["properties"]["city"]
    assert city == {"$ref": "#/$defs/form0/properties/parameters/$defs/City"}


def test_a_model_that_tags_its_calls_is_held_to_tags(tmp_path: Path) -> None:
    reply = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    house = house_with(tmp_path, reply, tools="tagged")
    choice = house.chat(tools=[ADD], tool_choice="required").json["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "add"
    sampling = house.engine.samplings[-1]
    check_form(sampling)
    assert sampling.grammar.startswith('start: "<tool_call>')
    house.services.close()


def test_a_form_beside_tools_is_one_of_several(house: House) -> None:
    house.chat(tools=[ADD], response_format=AS_FORM)
    assert list(schema_of(house)["$defs"]) == ["form0", "form1"]
    assert schema_of(house)["$defs"]["form1"] == FORM
    house.chat(tools=[ADD], response_format=AS_FORM, tool_choice="none")
    assert schema_of(house) == FORM
    assert house.engine.prompts[-1].tools == []


WRONG: dict[str, dict[str, Any]] = {
    "no name": {"tools": [{"type": "function", "function": {}}]},
    "a wrong name": {"tools": [{"type": "function", "function": {"name": "a b"}}]},
    "another kind": {"tools": [{"type": "retrieval"}]},
    "one name twice": {"tools": [ADD, ADD]},
    "too many": {"tools": [ADD] * 129},
    "a choice without tools": {"tool_choice": "required"},
    "a tool that is not there": {
        "tools": [ADD],
        "tool_choice": {"type": "function", "function": {"name": "rm"}},
    },
    "stored": {"tools": [ADD], "store": True},
    "a wrong schema that binds": {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "x"}}}],
        "tool_choice": "required",
    },
    "calls of a user": {
        "messages": [
            {
                "role": "user",
                "content": "x",
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
            }
        ]
    },
    "arguments that are no JSON": {
        "messages": [
            {
                "role": "assistant",
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}],
            },
            {"role": "tool", "content": "x", "tool_call_id": "1"},
        ]
    },
    "a message without content": {"messages": [{"role": "user"}]},
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_refused_before_the_queue(house: House, name: str) -> None:
    answer = house.chat(**WRONG[name])
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert answer.json["error"]["message"]
    assert house.engine.prompts == []


def test_a_model_without_tools_says_so(tmp_path: Path) -> None:
    house = house_with(tmp_path, CALL, tools="")
    answer = house.chat(tools=[WEATHER])
    assert answer.status == 400
    assert "tools" in answer.json["error"]["message"]
    assert house.engine.prompts == []
    assert house.chat(tools=[WEATHER], tool_choice="none").status == 200
    house.services.close()
