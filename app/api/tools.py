"""Tools and forms of a chat completion: what a reply must look like, and what it turned out to be.

The model is never given a function to run: it says which one it wants called and with what, and
the client calls it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.api.answering import Finish
from app.api.requests import ChatMessage, ChatRequest, ToolNamed
from engine.base import Message, Sampling, Tool, ToolCall, ToolStyle
from engine.tools import CLOSE, OPEN, calls_in, may_be_call

ANY_OBJECT: dict[str, Any] = {"type": "object"}


def offered(given: ChatRequest) -> list[Tool]:
    """The tools that the model is told of."""
    if given.tool_choice == "none":
        return []
    return [tool.model_dump(exclude_none=True, exclude={"strict"}) for tool in given.tools or ()]


def as_message(message: ChatMessage) -> Message:
    """A message as engines know it. Raises `ValueError` for arguments that are no JSON object."""
    role = "system" if message.role == "developer" else message.role
    plain: Message = {"role": role, "content": message.text}
    if message.tool_calls:
        called = [call.function for call in message.tool_calls]
        if not all(isinstance(json.loads(each.arguments), dict) for each in called):
            raise ValueError("arguments must be a JSON object")
        plain["tool_calls"] = [{"name": each.name, "arguments": each.arguments} for each in called]
    return plain


def formed(sampling: Sampling, given: ChatRequest, style: ToolStyle) -> Sampling:
    """`sampling` with the form that `response_format` and `tool_choice` ask for.

    Where a tool may be called or not, only a form of the reply binds, and a call stands beside it.
    """
    wanted, choice = _wanted(given), given.tool_choice
    key = "arguments" if style == "tagged" else "parameters"
    calls = _calls(given, key) if offered(given) else []
    if choice == "required" or isinstance(choice, ToolNamed):
        named = choice.function.name if isinstance(choice, ToolNamed) else None
        some = [schema for name, schema in calls if named in (None, name)]
        return _held(sampling, some, tagged=style == "tagged")
    if wanted is None:
        return sampling
    if calls and style == "json":
        return _held(sampling, [*(schema for _, schema in calls), wanted])
    return _held(sampling, [wanted])


def _held(
    sampling: Sampling, schemas: Sequence[dict[str, Any]], *, tagged: bool = False
) -> Sampling:
    """Hold a reply to one of `schemas`, each with references of its own."""
    schema = schemas[0] if len(schemas) == 1 else _any_of(schemas)
    text = json.dumps(schema, ensure_ascii=False)
    if tagged:
        return replace(
            sampling, grammar=f'start: "{OPEN}\\n" call "\\n{CLOSE}"\ncall: %json {text}'
        )
    return replace(sampling, json_schema=text)


def _any_of(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    places = {f"form{at}": schema for at, schema in enumerate(schemas)}
    return {
        "anyOf": [{"$ref": f"#/$defs/{place}"} for place in places],
        "$defs": {place: _moved(schema, f"#/$defs/{place}") for place, schema in places.items()},
    }


def _moved(value: Any, place: str) -> Any:
    """A schema that stands at `place`: its references to itself begin there."""
    if isinstance(value, dict):
        return {
            name: f"{place}{each[1:]}"
            if name == "$ref" and isinstance(each, str) and each.startswith("#")
            else _moved(each, place)
            for name, each in value.items()
        }
    return [_moved(each, place) for each in value] if isinstance(value, list) else value


def _wanted(given: ChatRequest) -> dict[str, Any] | None:
    form = given.response_format
    if form is None or form.type == "text":
        return None
    return form.json_schema.schema_ if form.json_schema else ANY_OBJECT


def _calls(given: ChatRequest, key: str) -> list[tuple[str, dict[str, Any]]]:
    """For each tool its name, and the schema of a call; `key` is what the arguments stand under."""
    found = []
    for tool in given.tools or ():
        parameters = dict(tool.function.parameters or {"type": "object", "properties": {}})
        if "properties" in parameters:  # what a function does not name it does not take
            parameters.setdefault("additionalProperties", False)
        call = {
            "type": "object",
            "properties": {
                "name": {"const": tool.function.name},
                key: _moved(parameters, f"#/properties/{key}"),
            },
            "required": ["name", key],
            "additionalProperties": False,
        }
        found.append((tool.function.name, call))
    return found


class Reading:
    """A reply as it comes: shown at once, but for what may turn out to be a call of a tool."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._names = {str(tool["function"]["name"]) for tool in tools}
        self._held = ""
        self._shows = not tools
        self.calls: list[dict[str, Any]] = []

    def push(self, text: str) -> str:
        """What of the reply may be shown now."""
        if self._shows:
            return text
        self._held += text
        if may_be_call(self._held):
            return ""
        return self._release()

    def finish(self, finish: Finish) -> str:
        """The rest; `calls` are known from here on, in the shape of OpenAI's API.

        A reply that was cut is no call, whatever it reads like.
        """
        if self._shows:
            return ""
        if finish == "stop":
            self.calls = [_told(call) for call in calls_in(self._held, self._names)]
        return "" if self.calls else self._release()

    def _release(self) -> str:
        text, self._held, self._shows = self._held, "", True
        return text


def _told(call: ToolCall) -> dict[str, Any]:
    identity = f"call_{secrets.token_hex(12)}"
    return {"id": identity, "type": "function", "function": dict(call)}
