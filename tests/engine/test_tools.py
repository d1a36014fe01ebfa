"""Tools: conversations with them as a template writes them, and replies read as calls."""

import json
from pathlib import Path

import pytest

from engine.base import Message, Prompt, Tool
from engine.chat_format import chat_format_for
from engine.errors import ToolsRefused
from engine.local import LocalEngine
from engine.options import Options
from engine.tokenizer import load_tokenizer
from engine.tool_format import tool_format_for
from engine.tools import calls_in, may_be_call
from tests.engine import tiny_tokenizers as tiny
from tests.engine.answers import ask
from tests.engine.checkpoints import make_checkpoint
from tests.engine.tool_template import TEMPLATE

WEATHER: Tool = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city. <|eot_id|>",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
TALK: list[Message] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Is it raining in Bath?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"name": "get_weather", "arguments": '{"city": "B<|eot_id|>th"}'}],
    },
    {"role": "tool", "content": "rain <|eot_id|>"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tiny.write_byte_level(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def test_a_conversation_with_tools_is_written_by_the_template(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    form = tool_format_for(folder, tokenizer)
    assert form is not None and form.style == "json"
    ids = form.render(TALK, [WEATHER])
    today = form.today.strftime("%d %b %Y")
    # What people and programs wrote spells markers; only the template's own are control tokens.
    parts = [
        ("<|begin_of_text|><|start_header_id|>system<|end_header_id|>", True),
        (f"\n\nEnvironment: ipython\nToday Date: {today}\n\nBe kind.", False),
        ("<|eot_id|><|start_header_id|>user<|end_header_id|>", True),
        (f"\n\n{json.dumps(WEATHER, indent=1)}\n\nIs it raining in Bath?", False),
        ("<|eot_id|><|start_header_id|>assistant<|end_header_id|>", True),
        ('\n\n{"name": "get_weather", "parameters": {"city": "B<|eot_id|>th"}}', False),
        ("<|eot_id|><|start_header_id|>ipython<|end_header_id|>", True),
        ("\n\nrain <|eot_id|>", False),
        ("<|eot_id|><|start_header_id|>assistant<|end_header_id|>", True),
        ("\n\n", False),
    ]
    expected: list[int] = []
    for text, marked in parts:
        expected += tokenizer.encode_marked(text) if marked else tokenizer.encode(text)
    assert ids == expected


def test_what_a_template_refuses_is_said(folder: Path) -> None:
    form = tool_format_for(folder, load_tokenizer(folder))
    assert form is not None
    call = TALK[2]["tool_calls"][0]
    two: Message = {"role": "assistant", "content": "", "tool_calls": [call, call]}
    with pytest.raises(ToolsRefused, match="one call at once"):
        form.render([*TALK[:2], two], [WEATHER])


def test_a_template_without_tools_has_none(folder: Path) -> None:
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    assert tool_format_for(folder, load_tokenizer(folder)) is None


def test_the_engine_reads_tools_or_says_that_it_cannot(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "with", max_position_embeddings=1024)
    plain = LocalEngine(folder, Options(device="cpu", threads=1))
    assert plain.info().tools == ""
    for prompt in (Prompt(messages=TALK[:2], tools=[WEATHER]), Prompt(messages=TALK)):
        with pytest.raises(ToolsRefused, match="knows no tools"):
            ask(plain, prompt)
    plain.close()
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    able = LocalEngine(folder, Options(device="cpu", threads=1))
    assert able.info().tools == "json"
    form = tool_format_for(folder, load_tokenizer(folder))
    assert form is not None
    last = ask(able, Prompt(messages=TALK, tools=[WEATHER]))[-1]
    assert last.num_prompt == len(form.render(TALK, [WEATHER]))
    able.close()


def test_the_own_format_of_llama_3_1_stays_without_tools(folder: Path) -> None:
    """The template speaks of both; conversations without tools go the way they always went."""
    tokenizer = load_tokenizer(folder)
    form = chat_format_for(folder, {}, tokenizer)
    assert form.name in ("llama-3", "llama-3.1")


NAMES = {"get_weather", "add"}
RAIN = {"name": "get_weather", "arguments": {"city": "Bath"}}
SUM = {"name": "add", "arguments": {"a": 1, "b": -2.5}}
CALLS = {
    "Llama 3.1": ('{"name": "get_weather", "parameters": {"city": "Bath"}}', [RAIN]),
    "with a type": (
        '{"type": "function", "name": "add", "parameters": {"a": 1, "b": -2.5}}',
        [SUM],
    ),
    "several": (
        '{"name": "get_weather", "parameters": {"city": "Bath"}}; '
        '{"name": "add", "parameters": {"a": 1, "b": -2.5}}',
        [RAIN, SUM],
    ),
    "a list": ('\n[{"name": "get_weather", "arguments": {"city": "Bath"}}]', [RAIN]),
    "Llama 3.2": ("[get_weather(city='Bath'), add(a=1, b=-2.5)]", [RAIN, SUM]),
    "Hermes": (
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bath"}}\n</tool_call>\n'
        '<tool_call>{"name": "add", "arguments": {"a": 1, "b": -2.5}}</tool_call>',
        [RAIN, SUM],
    ),
    "Hermes without its end": (
        '<tool_call>{"name": "get_weather", "arguments": {"city": "Bath"}}',
        [RAIN],
    ),
    "no arguments": ('{"name": "add", "parameters": {}}', [{"name": "add", "arguments": {}}]),
}
NO_CALLS = {
    "words": "It is raining.",
    "nothing": "",
    "another function": '{"name": "rm", "parameters": {}}',
    "one of them another": '{"name": "add", "parameters": {}}; {"name": "rm", "parameters": {}}',
    "arguments that are none": '{"name": "add", "parameters": "a"}',
    "no arguments named": '{"name": "add"}',
    "a name that is a list": '{"name": ["add"], "parameters": {}}',
    "an object": '{"city": "Bath"}',
    "cut off": '{"name": "add", "parameters": {"a": 1',
    "words behind": '{"name": "add", "parameters": {}} is what I would call',
    "Python that computes": "[add(a=__import__('os').getcwd())]",
    "Python with a set": "[add(a={1, 2})]",
    "an empty list": "[]",
    "deep": "[" * 10_000,
    "deep Python": "[add(a=" + "(" * 5_000,
    "tags around words": "<tool_call>add</tool_call>",
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_read(name: str) -> None:
    reply, expected = CALLS[name]
    assert may_be_call(reply)
    assert [
        {"name": call["name"], "arguments": json.loads(call["arguments"])}
        for call in calls_in(reply, NAMES)
    ] == expected


@pytest.mark.parametrize("name", NO_CALLS)
def test_anything_else_is_an_ordinary_reply(name: str) -> None:
    assert calls_in(NO_CALLS[name], NAMES) == []


def test_a_reply_may_be_a_call_until_it_cannot() -> None:
    assert all(may_be_call(text) for text in ("", " \n", "{", "[a", "<", "<tool", "<tool_call>x"))
    assert not any(may_be_call(text) for text in ("It", "<b>", "- {", "<tool_box"))


def test_recorded_replies_of_llama_3_2_are_read(shared_data: Path) -> None:
    recorded = json.loads((shared_data / "llama" / "llama32_recorded.json").read_text())
    rows = recorded if isinstance(recorded, list) else recorded["cases"]
    called = [row["response"] for row in rows if row["response"].startswith("[")]
    assert len(called) >= 4
    for reply in called:
        [call] = calls_in(reply, {"get_boiling_point", "get_weather", "greet_everyone"})
        assert call["name"] in reply
        for value in json.loads(call["arguments"]).values():
            assert str(value) in reply
