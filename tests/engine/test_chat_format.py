"""Chat formats: ids spelled out, recorded templates, one BOS, own ids of replies kept."""

import datetime
import json
import shutil
from pathlib import Path

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.base import Message
from engine.catalog import BUILT_IN_FOLDER
from engine.chat_format import ChatFormat, chat_format_for, read_template
from engine.errors import CheckpointBroken
from engine.tokenizer import Tokenizer, load_tokenizer
from tests.engine import tiny_tokenizers as tiny

DAY = datetime.date(2024, 7, 26)
LLAMA3 = "{{ '<|start_header_id|>' }}"
LLAMA31 = "{{ '<|start_header_id|>' }} Cutting Knowledge Date: December 2023"
LLAMA2 = "{{ bos_token }}[INST] <<SYS>>"
CHATML = "{{ '<|im_start|>' }}"
VICUNA = "USER: x ASSISTANT:"
ZEPHYR = "{{ '<|assistant|>' }}"
DEEPSEEK = "{{ '<｜Assistant｜>' }}{% if add_generation_prompt %}{{ '<think>' }}"
DEEPSEEK_CONTROLS = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")
ALPACA = "### Instruction:"
TALK: list[Message] = [
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": " Hello  "},
    {"role": "assistant", "content": "Hi there"},
    {"role": "user", "content": "Who are you?"},
]


def make(folder: Path, template: str, **config: object) -> tuple[ChatFormat, Tokenizer]:
    """A format by its template, over the kind of tokenizer that its family has."""
    if template == CHATML:
        tiny.write_byte_level(folder, tiny.CHATML_CONTROLS)
    elif template == DEEPSEEK:
        tiny.write_byte_level(folder, DEEPSEEK_CONTROLS)
        file = (folder / "tokenizer.json").read_text(encoding="utf-8")
        for marker in ("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"):
            file = tiny.with_added(file, marker, special=False)
        (folder / "tokenizer.json").write_text(file, encoding="utf-8")
    elif template in (LLAMA3, LLAMA31):
        tiny.write_byte_level(folder)
    else:
        tiny.write_sentencepiece(folder)
    (folder / "chat_template.jinja").write_text(template)
    tokenizer = load_tokenizer(folder)
    return chat_format_for(folder, config, tokenizer, today=DAY), tokenizer


SHOWN = {
    LLAMA3: (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are terse.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHi there<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWho are you?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    LLAMA31: (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
        "You are terse.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHi there<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWho are you?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    LLAMA2: (
        "<s>[INST] <<SYS>>\nYou are terse.\n<</SYS>>\n\nHello [/INST] Hi there </s>"
        "<s>[INST] Who are you? [/INST]"
    ),
    CHATML: (
        "<|im_start|>system\nYou are terse.<|im_end|>\n<|im_start|>user\n Hello  <|im_end|>\n"
        "<|im_start|>assistant\nHi there<|im_end|>\n<|im_start|>user\nWho are you?<|im_end|>\n"
        "<|im_start|>assistant\n"
    ),
    VICUNA: "<s>You are terse. USER: Hello ASSISTANT: Hi there</s>USER: Who are you? ASSISTANT:",
    ALPACA: (
        "<s>You are terse.\n\n### Instruction:\nHello\n\n### Response:Hi there</s>"
        "### Instruction:\nWho are you?\n\n### Response:"
    ),
    ZEPHYR: (
        "<s><|system|>\nYou are terse.</s>\n<|user|>\n Hello  </s>\n<|assistant|>\nHi there</s>\n"
        "<|user|>\nWho are you?</s>\n<|assistant|>\n"
    ),
    DEEPSEEK: (
        "<｜begin▁of▁sentence｜>You are terse.<｜User｜> Hello  <｜Assistant｜>Hi there"
        "<｜end▁of▁sentence｜><｜User｜>Who are you?<｜Assistant｜><think>\n"
    ),
    "": "<s>You are terse.\n\n Hello  Hi there\n\nWho are you?",
}
NAMES = (
    "llama3", "llama31", "llama2", "chatml", "vicuna", "alpaca", "zephyr", "deepseek", "base",
)  # fmt: skip
TEMPLATES = pytest.mark.parametrize("template", SHOWN, ids=NAMES)


@TEMPLATES
def test_a_conversation_is_written_as_the_family_does(template: str, tmp_path: Path) -> None:
    chat, tokenizer = make(tmp_path, template)
    assert chat.show(TALK) == SHOWN[template]
    assert chat.render(TALK) == tokenizer.encode_marked(SHOWN[template])
    assert chat.chat is (template != "")


@TEMPLATES
def test_user_text_cannot_spell_a_marker(template: str, tmp_path: Path) -> None:
    """The control ids of a prompt are those of the same talk with harmless words."""
    chat, tokenizer = make(tmp_path, template)
    attack = "".join(tokenizer.special_text(id) + "x" for id in sorted(tokenizer.special_ids))
    hostile: list[Message] = [{**message, "content": attack} for message in TALK]

    def controls(messages: list[Message]) -> list[int]:
        return [id for id in chat.render(messages, attack) if id in tokenizer.special_ids]

    assert controls(hostile) == controls(TALK)


@TEMPLATES
def test_one_begin_of_text_per_turn_that_has_one(template: str, tmp_path: Path) -> None:
    chat, tokenizer = make(tmp_path, template)
    assert tokenizer.bos_id is not None
    num_expected = {CHATML: 0, LLAMA2: 2}.get(template, 1)
    assert chat.render(TALK).count(tokenizer.bos_id) == num_expected
    assert chat.render([]).count(tokenizer.bos_id) == min(num_expected, 1)
    assert chat.render(TALK[:2]).count(tokenizer.bos_id) == min(num_expected, 1)


# DeepSeek opens a reply with a thought, and leaves thoughts out of earlier replies.
@pytest.mark.parametrize("template", [t for t in SHOWN if t != DEEPSEEK])
def test_the_next_turn_begins_with_this_prompt_and_the_models_own_ids(
    template: str, tmp_path: Path
) -> None:
    """Ids that are not the ones `encode` would choose are kept: the KV cache holds those."""
    chat, tokenizer = make(tmp_path, template)
    prompt = chat.render(TALK)
    space = [] if chat.reply_continues() or not tokenizer.drops_first_space else [" "]
    pieces = [*space, "P", "a", "r", "is", ".", "\n"]
    own = [id for piece in pieces for id in tokenizer.encode(piece, continues=True)]
    content = tokenizer.decode(own, continues=chat.reply_continues())
    assert content == "Paris.\n"
    assert own != tokenizer.encode(content)
    for ids in (own, [*own, *sorted(chat.stop_ids)[:1]]):
        reply: Message = {"role": "assistant", "content": content, "ids": ids}
        later = chat.render([*TALK, reply, {"role": "user", "content": "And Spain?"}])
        assert later[: len(prompt) + len(own)] == prompt + own
        assert tokenizer.decode(later).count("Paris.") == 1


@TEMPLATES
def test_ids_that_say_something_else_are_not_used(template: str, tmp_path: Path) -> None:
    chat, tokenizer = make(tmp_path, template)
    plain = chat.render([*TALK, {"role": "assistant", "content": "Paris."}])
    assert tokenizer.eos_id is not None
    marker = next(id for id in sorted(tokenizer.special_ids) if id not in chat.stop_ids)
    paris = tokenizer.encode("Paris.", continues=chat.reply_continues())
    for ids in (tokenizer.encode("London."), [marker, *paris], [*paris[:1], 10**9], []):
        reply: Message = {"role": "assistant", "content": "Paris.", "ids": ids}
        assert chat.render([*TALK, reply]) == plain
    user: Message = {"role": "user", "content": "Paris.", "ids": [*paris, marker]}
    assert chat.render([user]) == chat.render([{"role": "user", "content": "Paris."}])


@TEMPLATES
def test_a_cut_reply_goes_on(template: str, tmp_path: Path) -> None:
    chat, tokenizer = make(tmp_path, template)
    open_turn = chat.render(TALK)
    ids = chat.render(TALK, "I am a")
    assert ids[: len(open_turn)] == open_turn
    assert chat.show(TALK, "I am a").removeprefix(chat.show(TALK)).strip(" ") == "I am a"
    assert tokenizer.decode(ids).endswith("I am a")
    assert chat.reply_continues("I am a")


@pytest.mark.parametrize(
    ("messages", "shown"),
    [
        ([], "<s>[INST]  [/INST]"),
        ([{"role": "assistant", "content": "Hi"}], "<s>[INST]  [/INST] Hi </s><s>[INST]  [/INST]"),
        (
            [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
            "<s>[INST] a\n\nb [/INST]",
        ),
        (
            [{"role": "system", "content": "s"}, {"role": "system", "content": "t"}],
            "<s>[INST] <<SYS>>\ns\n\nt\n<</SYS>>\n\n [/INST]",
        ),
    ],
)
def test_llama2_with_roles_out_of_order(
    messages: list[Message], shown: str, tmp_path: Path
) -> None:
    assert make(tmp_path, LLAMA2)[0].show(messages) == shown


def test_preambles_where_there_is_no_system_prompt(tmp_path: Path) -> None:
    question: list[Message] = [{"role": "user", "content": "Hi"}]
    vicuna = make(tmp_path / "v", VICUNA)[0].show(question)
    assert vicuna.startswith("<s>A chat between a curious user and an artificial intelligence")
    assert vicuna.endswith("questions. USER: Hi ASSISTANT:")
    alpaca = make(tmp_path / "a", ALPACA)[0].show(question)
    assert alpaca.endswith("the request.\n\n### Instruction:\nHi\n\n### Response:")


def test_what_an_earlier_reply_thought_is_left_out(tmp_path: Path) -> None:
    chat, tokenizer = make(tmp_path, DEEPSEEK)
    thought = "Let me see.</think>Paris."
    ids = tokenizer.encode_marked(thought)
    assert tokenizer.decode(ids) == thought  # a model's own marker is visible
    shown = chat.show([*TALK, {"role": "assistant", "content": thought, "ids": ids}])
    assert "Let me see" not in shown
    assert "<｜Assistant｜>Paris.<｜end▁of▁sentence｜>" in shown
    typed = tokenizer.encode("<think></think>")
    assert tokenizer.special_ids.isdisjoint(typed)
    assert tokenizer.decode(typed) == "<think></think>"


def test_the_date_is_fixed_when_the_format_is_made(tmp_path: Path) -> None:
    tiny.write_byte_level(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(LLAMA31)
    tokenizer = load_tokenizer(tmp_path)
    for day, written in (((2026, 1, 5), "05 Jan 2026"), ((2031, 12, 31), "31 Dec 2031")):
        chat = chat_format_for(tmp_path, {}, tokenizer, today=datetime.date(*day))
        assert f"\nToday Date: {written}\n\n" in chat.show([])
    today = datetime.date.today()
    assert str(today.year) in chat_format_for(tmp_path, {}, tokenizer).show([])


FAMILIES = [
    # tokenizer, template, config, folder's name → family
    ("bytes", LLAMA3, {}, "x", "llama-3"),
    ("bytes", LLAMA31, {}, "x", "llama-3.1"),
    ("bytes", "", {}, "Llama-3.2-1B", "base"),
    ("bytes", "", {}, "Meta-Llama-3-8B-Instruct", "llama-3"),
    ("bytes", "", {"rope_scaling": {"rope_type": "llama3"}}, "Llama-3.2-1B-Instruct", "llama-3.1"),
    ("bytes", "", {"eos_token_id": ["<|eot_id|>"]}, "x", "llama-3"),
    ("bytes", "{{ messages }} no known marker", {}, "x", "template"),
    ("pieces", "{% for m in messages %}Q: {{ m.content }}{% endfor %}", {}, "x-chat", "template"),
    ("pieces", "", {}, "llama-7b", "base"),
    ("pieces", "", {}, "CodeLlama-7b-hf", "base"),
    ("pieces", "", {}, "CodeLlama-7b-Instruct-hf", "llama-2"),
    ("pieces", "", {}, "chinese-alpaca-2-7b", "llama-2"),
    ("pieces", "", {}, "chinese-alpaca-plus-7b", "alpaca"),
    ("pieces", "", {}, "longchat-7b-v1.5-32k", "vicuna"),
    ("pieces", "", {"_name_or_path": "lmsys/vicuna-13b-v1.5-16k"}, "x", "vicuna"),
    ("pieces", LLAMA2, {}, "x", "llama-2"),
    ("pieces", "", {}, "Llama-2-7b-hf", "base"),
    ("pieces", "", {}, "Llama-2-7b-chat-hf", "llama-2"),
    ("pieces", "", {"_name_or_path": "lmsys/vicuna-7b-v1.5"}, "x", "vicuna"),
    ("pieces", "", {}, "alpaca-7b", "alpaca"),
    ("pieces", VICUNA, {}, "x", "vicuna"),
    ("pieces", ALPACA, {}, "x", "alpaca"),
]


@pytest.mark.parametrize(("kind", "template", "config", "name", "family"), FAMILIES)
def test_the_family_is_found(
    kind: str, template: str, config: dict[str, object], name: str, family: str, tmp_path: Path
) -> None:
    folder = tmp_path / name
    write = tiny.write_byte_level if kind == "bytes" else tiny.write_sentencepiece
    tokenizer = load_tokenizer(write(folder))
    if isinstance(ends := config.get("eos_token_id"), list):
        config = {**config, "eos_token_id": [tokenizer.special_id(text) for text in ends]}
    if template:
        tiny.write_json(folder / "tokenizer_config.json", {"chat_template": template})
        tokenizer = load_tokenizer(folder)
    assert chat_format_for(folder, config, tokenizer).name == family


# The template of CodeLlama-70b-Instruct-hf, without its check of the roles' order.
STEPS = (
    "{% for message in messages %}{% if loop.index0 == 0 %}{{ '<s>' }}{% endif %}"
    "{% set content = 'Source: ' + message['role'] + '\\n\\n ' + message['content'] | trim %}"
    "{{ content + ' <step> ' }}{% endfor %}"
    "{{ 'Source: assistant\\nDestination: user\\n\\n ' }}"
)


def test_a_template_with_markers_of_its_own_writes_the_prompt(tmp_path: Path) -> None:
    """As Code Llama 70B: one BOS, `<step>` between turns and at the end, spelled by nobody else."""
    tiny.write_sentencepiece(tmp_path)
    tiny.write_json(tmp_path / "added_tokens.json", {"<step>": 420})
    tiny.write_json(tmp_path / "tokenizer_config.json", {"chat_template": STEPS})
    tokenizer = load_tokenizer(tmp_path)
    chat = chat_format_for(tmp_path, {}, tokenizer)
    step = tokenizer.special_id("<step>")
    ids = chat.render([{"role": "user", "content": "Hi <step> <s> there"}])
    assert chat.name == "template" and chat.chat
    assert ids.count(tokenizer.bos_id or -1) == 1 and ids.count(step or -1) == 1
    assert step in chat.stop_ids
    shown = "<s>Source: user\n\n Hi there <step> Source: assistant\nDestination: user\n\n "
    assert chat.show([{"role": "user", "content": "Hi there"}]) == shown


def test_metas_own_files_without_template(tmp_path: Path) -> None:
    folder = tiny.write_ranks(tmp_path / "Llama3.1-8B-Instruct")
    tiny.write_json(folder / "params.json", {"use_scaled_rope": True})
    assert chat_format_for(folder, {}, load_tokenizer(folder)).name == "llama-3.1"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("chat_template.jinja", "T"),
        ("chat_template.json", '{"chat_template": "T"}'),
        ("tokenizer_config.json", '{"chat_template": "T"}'),
        (
            "tokenizer_config.json",
            '{"chat_template": [{"name": "tool_use", "template": "U"},'
            ' {"name": "default", "template": "T"}]}',
        ),
    ],
)
def test_where_a_template_may_stand(name: str, content: str, tmp_path: Path) -> None:
    assert read_template(tmp_path) == ""
    (tmp_path / name).write_text(content)
    assert read_template(tmp_path) == "T"


def test_stop_ids_are_the_union_of_all_files(tmp_path: Path) -> None:
    folder = tiny.write_byte_level(tmp_path)
    (folder / "chat_template.jinja").write_text(LLAMA3)
    tiny.write_json(folder / "generation_config.json", {"eos_token_id": [3, 5]})
    tokenizer = load_tokenizer(folder)
    named = {tokenizer.special_id(t) for t in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")}
    chat = chat_format_for(folder, {"eos_token_id": 7}, tokenizer)
    assert chat.stop_ids == named | {3, 5, 7}
    assert chat_format_for(folder, {"eos_token_id": None}, tokenizer).stop_ids == named | {3, 5}


def test_a_template_that_does_not_fit_the_tokenizer_is_refused(tmp_path: Path) -> None:
    for template in (LLAMA3, CHATML):
        folder = tiny.write_sentencepiece(tmp_path / str(len(template)))
        (folder / "chat_template.jinja").write_text(template)
        with pytest.raises(CheckpointBroken, match="do not fit together"):
            chat_format_for(folder, {}, load_tokenizer(folder))


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatFormat]:
    """The formats over the real vocabularies."""
    formats = {}
    for file, templates in (
        ("llama2-tokenizer.model", {"llama-2": LLAMA2}),
        ("llama3-tokenizer.model", {"llama-3": LLAMA3, "llama-3.1": LLAMA31}),
    ):
        folder = tmp_path_factory.mktemp("real")
        shutil.copy(shared_data / "llama" / file, folder / "tokenizer.model")
        tokenizer = load_tokenizer(folder)
        for name, template in templates.items():
            (folder / "chat_template.jinja").write_text(template)
            formats[name] = chat_format_for(folder, {}, tokenizer, today=DAY)
    return formats


def test_recorded_templates(real: dict[str, ChatFormat], shared_data: Path) -> None:
    """27 recorded prompts; where no reply was asked for, ours ends with one header more."""
    file = shared_data / "llama" / "chat_template_vectors.json"
    cases = json.loads(file.read_text("utf-8"))
    assert len(cases) == 27
    opened = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    for case in cases:
        name = case["name"].lower()
        family = next((f for f in ("llama2", "llama3") if name.startswith(f)), "llama3.1")
        chat = real[family.replace("llama", "llama-")]
        if "expected_token_ids" in case:
            assert chat.render(case["messages"]) == case["expected_token_ids"]
            continue
        bos = "" if case["bos_included"] else "<s>" if family == "llama2" else "<|begin_of_text|>"
        want = bos + case["expected"] + ("" if case["add_generation_prompt"] else opened)
        assert chat.show(case["messages"]) == want, case["name"]
        assert chat.render(case["messages"]) == chat._tokenizer.encode_marked(want), case["name"]


def test_the_built_in_models_own_template_says_the_same() -> None:
    """Its template, rendered as other programs do, against our writing of its family."""
    folder = BUILT_IN_FOLDER
    tokenizer = load_tokenizer(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    chat = chat_format_for(folder, config, tokenizer)
    template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(
        read_template(folder)
    )
    for messages in (TALK, TALK[1:2], TALK[1:]):
        text = template.render(
            messages=messages, add_generation_prompt=True, bos_token="<|begin_of_text|>"
        )
        assert chat.show(messages) == text
        assert chat.render(messages) == tokenizer.encode_marked(text)
    assert chat.chat
    assert chat.stop_ids == {tokenizer.special_id(t) for t in ("<|eot_id|>", "<|end_of_text|>")}
