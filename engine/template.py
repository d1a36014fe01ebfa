"""Chat templates of models whose form we do not write ourselves, rendered in a sandbox.

A template is a program in Jinja that a model's folder brings. It runs in Jinja's immutable sandbox:
it sees the messages and the names of two tokens, and its text is all that comes of it. Markers that
a message spells are broken up before, so that only the template itself can write control tokens.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.base import Message, Tool
from engine.errors import CheckpointBroken, ModelUnsupported
from engine.layouts import Control, Layout, Piece, written
from engine.tokenizer import Tokenizer

MAX_TEMPLATE_LETTERS = 1 << 18  # the longest real ones, with tools, have some 20,000
_BREAK = "\ufdd0"  # a noncharacter: no text holds it (Unicode 23.7)


class _Generation(Extension):
    """`{% generation %}`, which marks replies for training, and here nothing."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def template_layout(
    template: str, tokenizer: Tokenizer, today: datetime.date, tools: Sequence[Tool] = ()
) -> Layout:
    """The layout that `template` writes. Raises `CheckpointBroken` if it is no template."""
    if len(template) > MAX_TEMPLATE_LETTERS:
        raise CheckpointBroken("The chat template is longer than any real one.")
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = today.strftime
    try:
        compiled = environment.from_string(template)
    except (TemplateError, RecursionError, ValueError) as error:
        raise CheckpointBroken(f"The chat template cannot be read: {error}.") from error
    names = {
        f"{name}_token": "" if id is None else tokenizer.special_text(id)
        for name, id in (("bos", tokenizer.bos_id), ("eos", tokenizer.eos_id))
    }

    known: dict[str, Any] = {**names, "date_string": written(today)}
    if tools:  # as values of their own: a template may change what it is given
        known["tools"] = _unmarked(json.loads(json.dumps(tools)), tokenizer)

    def render(messages: Sequence[dict[str, Any]]) -> str:
        return compiled.render(messages=messages, add_generation_prompt=True, **known)

    def layout(messages: Sequence[Message], reply_prefix: str) -> Iterator[Piece]:
        plain = [_harmless(message, tokenizer) for message in messages]
        try:
            try:
                text = render(plain)
            except TemplateError:  # many know no system message: it goes before the first prompt
                text = render(_without_system(plain))
        except SecurityError as error:
            raise ModelUnsupported(f"The chat template tries what it must not: {error}.") from error
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise ModelUnsupported(
                f"This model's chat template refuses the conversation: {error}."
            ) from error
        yield from _pieces(text, tokenizer)
        yield reply_prefix

    return layout


def _harmless(message: Message, tokenizer: Tokenizer) -> dict[str, Any]:
    """The message as templates know it, with every marker in it cut in two."""
    plain: dict[str, Any] = {"role": message["role"], "content": message["content"]}
    if calls := message.get("tool_calls"):
        plain["tool_calls"] = [
            {
                "type": "function",
                "function": {"name": call["name"], "arguments": json.loads(call["arguments"])},
            }
            for call in calls
        ]
    harmless: dict[str, Any] = _unmarked(plain, tokenizer)
    return harmless


def _unmarked(value: Any, tokenizer: Tokenizer) -> Any:
    """`value` with every marker in its texts cut in two, which `_pieces` joins again as text."""
    if isinstance(value, str):
        text = value.replace(_BREAK, "")
        return tokenizer.markers.sub(lambda match: f"{match[0][0]}{_BREAK}{match[0][1:]}", text)
    if isinstance(value, dict):
        return {
            _unmarked(name, tokenizer): _unmarked(each, tokenizer) for name, each in value.items()
        }
    return [_unmarked(each, tokenizer) for each in value] if isinstance(value, list) else value


def _pieces(text: str, tokenizer: Tokenizer) -> Iterator[Piece]:
    end = 0
    for match in tokenizer.markers.finditer(text):
        yield text[end : match.start()].replace(_BREAK, "")
        id = tokenizer.special_id(match[0])
        assert id is not None
        yield Control(id, match[0])
        end = match.end()
    yield text[end:].replace(_BREAK, "")


def _without_system(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    rest = [dict(m) for m in messages if m["role"] != "system"]
    if system and rest:
        rest[0]["content"] = f"{system}\n\n{rest[0]['content']}"
    return rest


def _to_json(value: Any, **options: Any) -> str:
    """Without the escapes for HTML that Jinja's own filter makes."""
    return json.dumps(value, ensure_ascii=False, indent=options.get("indent"))


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
