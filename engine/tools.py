"""A model's reply read as calls of the tools that it was told of.

Replies are read in the forms that Llama models use (Llama 3.1's JSON, Llama 3.2's list of Python
calls; llama-models `llama3/tool_utils.py`) and in that of Hermes and Qwen (`<tool_call>` around
JSON). Nothing is ever run here.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Collection, Sequence
from typing import Any

from engine.base import Message, ToolCall
from engine.errors import ToolsRefused

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_TAGGED = re.compile(rf"{OPEN}\s*(.*?)\s*(?:{CLOSE}|$)", re.DOTALL)
_DECODER = json.JSONDecoder()


def uses_tools(messages: Sequence[Message]) -> bool:
    """Whether a conversation holds calls of tools, or what they gave."""
    return any(message["role"] == "tool" or message.get("tool_calls") for message in messages)


def no_tools() -> ToolsRefused:
    """What to say where a model knows no tools."""
    return ToolsRefused(
        "This model's chat format knows no tools: leave them out, or choose a model that was "
        "trained to call functions, such as Llama 3.1."
    )


def may_be_call(text: str) -> bool:
    """Whether a reply that begins with `text` may turn out to be a call."""
    begun = text.lstrip()
    return not begun or begun[0] in "{[" or OPEN.startswith(begun[: len(OPEN)])


def calls_in(reply: str, names: Collection[str]) -> list[ToolCall]:
    """The calls that a whole reply consists of; [] if it is anything else.

    A function that was not offered, or arguments that are no object, make it an ordinary reply.
    """
    text = reply.strip()
    if text.startswith(OPEN):
        found = [_json_values(part) for part in _TAGGED.findall(text)]
        values = [value for each in found for value in each or [None]]
    else:
        values = _json_values(text) or _python_calls(text)
    calls = [_call(value, names) for value in values]
    return [call for call in calls if call is not None] if all(calls) else []


def _json_values(text: str) -> list[Any]:
    """One JSON value, or several with semicolons, commas or white space between, as one list."""
    values: list[Any] = []
    at = 0
    while at < len(text):
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        values += value if isinstance(value, list) else [value]
        at = end + len(text[end:]) - len(text[end:].lstrip("; ,\r\n\t"))
    return values


def _python_calls(text: str) -> list[Any]:
    """`[name(argument=value, ...), ...]` as objects like those in JSON; nothing is run."""
    try:
        body = ast.parse(text, mode="eval").body
        calls = body.elts if isinstance(body, ast.List) else []
        return [
            {
                "name": call.func.id,
                "parameters": {each.arg: ast.literal_eval(each.value) for each in call.keywords},
            }
            for call in calls
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args
        ]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _call(value: Any, names: Collection[str]) -> ToolCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("parameters", value.get("arguments"))
    if value["name"] not in names or not isinstance(arguments, dict):
        return None
    try:
        return {"name": value["name"], "arguments": json.dumps(arguments, ensure_ascii=False)}
    except (TypeError, ValueError):  # sets and bytes, which Python can write and JSON cannot
        return None
