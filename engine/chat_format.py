"""Messages → token ids, in the form that a checkpoint was trained on.

The family's layout (`layouts`) gives pieces: control tokens, text, and ids that the model itself
wrote. Neighbouring texts are joined before they are encoded, so the ids are those of the whole
prompt encoded at once, and nothing in a text can become a control token.

How the family is found, in this order (`family_of`):

1. the chat template in `tokenizer_config.json`, `chat_template.jinja` or `chat_template.json`, by
   the markers in it;
2. without a template: Llama 3's header tokens together with `<|eot_id|>` among the end tokens of
   the config (an instruct model's sign; base models end with `<|end_of_text|>` alone);
3. what the folder's name or `_name_or_path` says: children that came without a template
   (`_CHILDREN`), "instruct" or "chat", where the tokenizer fits;
4. a template without a known marker writes the prompt itself, in a sandbox (`engine/template.py`);
5. else it is a base model: plain completion, nothing guessed.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from engine import infill, layouts
from engine.base import Message
from engine.json_values import refuse_huge
from engine.layouts import Control, Layout, Piece, Reply
from engine.tokenizer import Tokenizer, read_json

Family = Literal[
    "llama-3.1", "llama-3", "llama-2", "deepseek", "chatml", "zephyr", "vicuna", "alpaca", "base",
    "template",
]  # fmt: skip

# Words in the names of models that were published without a template, the longer ones first:
# ymcui/Chinese-LLaMA-Alpaca-2, dvlab-research/LongLoRA (LongAlpaca), lm-sys/FastChat
# `model_adapter.py` (Vicuna, LongChat), tatsu-lab/stanford_alpaca.
_CHILDREN: tuple[tuple[str, Family], ...] = (
    ("alpaca-2", "llama-2"),
    ("longalpaca", "llama-2"),
    ("longchat", "vicuna"),
    ("vicuna", "vicuna"),
    ("alpaca", "alpaca"),
)


class ChatFormat:
    """One checkpoint's way to write a conversation. Pure: the same messages, the same ids."""

    def __init__(
        self,
        name: Family,
        tokenizer: Tokenizer,
        layout: Layout,
        *,
        bos: bool = True,
        stop_ids: Iterable[int] = (),
        stop: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.chat = name != "base"
        self.stop_ids = frozenset(stop_ids)
        self.stop = tuple(stop)  # stop strings, where turns end without a control token
        self._tokenizer = tokenizer
        self._layout = layout
        self._bos_id = tokenizer.bos_id if bos else None

    def render(
        self, messages: Sequence[Message], reply_prefix: str = "", reply_ids: Sequence[int] = ()
    ) -> list[int]:
        """Prompt ids: one BOS, all messages, the open assistant's turn with `reply_prefix`.

        `reply_ids` stand for the prefix if they say the same.
        """
        if reply_ids and self._says(reply_ids, reply_prefix):
            return [*self.render(messages), *reply_ids]
        ids = [] if self._bos_id is None else [self._bos_id]
        for piece, continues in self._joined(messages, reply_prefix):
            if isinstance(piece, Control):
                ids.append(piece.id)
            elif isinstance(piece, Reply):
                ids += piece.ids
            else:
                ids += self._tokenizer.encode(piece, continues=continues)
        return ids

    def show(self, messages: Sequence[Message], reply_prefix: str = "") -> str:
        """The prompt as text, markers spelled out. For eyes only: it cannot be encoded safely."""
        shown = "" if self._bos_id is None else self._tokenizer.special_text(self._bos_id)
        for piece, _ in self._joined(messages, reply_prefix):
            if isinstance(piece, Control):
                shown += piece.text
            else:
                shown += piece if isinstance(piece, str) else piece.text
        return shown

    def reply_continues(self, reply_prefix: str = "") -> bool:
        """Whether the first space of a reply belongs to it: `Detokenizer(continues=...)`."""
        return bool(reply_prefix) or self.name not in ("llama-2", "vicuna")

    def _says(self, ids: Sequence[int], text: str) -> bool:
        """Whether `ids` are plain text tokens that decode to `text`."""
        said = self._tokenizer.decode(ids, continues=self.reply_continues())
        return said == text and self._tokenizer.special_ids.isdisjoint(ids)

    def _joined(
        self, messages: Sequence[Message], reply_prefix: str
    ) -> Iterator[tuple[Piece, bool]]:
        """The layout with neighbouring texts joined, and whether each goes on in a text."""
        text, continues = "", False
        for piece in self._layout(messages, reply_prefix):
            piece = self._checked(piece) if isinstance(piece, Reply) else piece
            if isinstance(piece, str):
                text += piece
                continue
            if text:
                yield text, continues
            yield piece, False
            text, continues = "", isinstance(piece, Reply)
        if text:
            yield text, continues

    def _checked(self, reply: Reply) -> Reply | str:
        """`reply` with its own ids if they say what it says, and nothing else; else its text."""
        ids = list(reply.ids)
        special = {id for id in self._tokenizer.special_ids if not self._tokenizer.token_bytes(id)}
        while ids and (ids[-1] in special or ids[-1] in self.stop_ids):
            ids.pop()
        said = self._tokenizer.decode(ids, continues=self.reply_continues())
        fits = said in (reply.content, reply.lead + reply.content)
        return replace(reply, ids=ids) if ids and special.isdisjoint(ids) and fits else reply.text


def chat_format_for(
    folder: Path,
    config: Mapping[str, Any],
    tokenizer: Tokenizer,
    *,
    today: datetime.date | None = None,
) -> ChatFormat:
    """The format of the checkpoint in `folder`, whose `config.json` is `config`.

    `today` stands in the system header of Llama 3.1 and later; it is fixed here, once, so that
    prompts keep their beginning over midnight. Raises `CheckpointBroken` if the tokenizer lacks a
    marker that the template needs.
    """
    template = read_template(folder)
    ends = _end_ids(folder, config, tokenizer)
    family = family_of(folder, config, tokenizer, template)
    if family in ("llama-3", "llama-3.1"):
        date = today or datetime.date.today()
        layout = layouts.llama3(tokenizer, layouts.written(date) if family == "llama-3.1" else None)
        names = ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>")
        ends |= {id for name in names if (id := tokenizer.special_id(name)) is not None}
        return ChatFormat(family, tokenizer, layout, stop_ids=ends)
    if family == "chatml":
        ends.add(layouts.control(tokenizer, "<|im_end|>").id)
        bos = "bos_token" in template
        return ChatFormat(family, tokenizer, layouts.chatml(tokenizer), bos=bos, stop_ids=ends)
    if family == "deepseek":
        return ChatFormat(family, tokenizer, layouts.deepseek(tokenizer, template), stop_ids=ends)
    if family == "zephyr":
        return ChatFormat(family, tokenizer, layouts.zephyr(tokenizer), stop_ids=ends)
    if family == "llama-2":
        return ChatFormat(family, tokenizer, layouts.llama2(tokenizer), stop_ids=ends)
    if family == "vicuna":
        return ChatFormat(
            family, tokenizer, layouts.vicuna(tokenizer), stop_ids=ends, stop=("USER:",)
        )
    if family == "alpaca":
        stop = ("\n### Instruction:",)
        return ChatFormat(family, tokenizer, layouts.alpaca(tokenizer), stop_ids=ends, stop=stop)
    return template_format(folder, config, tokenizer, today=today)


def template_format(
    folder: Path,
    config: Mapping[str, Any],
    tokenizer: Tokenizer,
    *,
    today: datetime.date | None = None,
) -> ChatFormat:
    """The format that the model's own chat template writes; without one, plain completion."""
    template = read_template(folder)
    ends = _end_ids(folder, config, tokenizer)
    if not template:
        return ChatFormat("base", tokenizer, layouts.completion, stop_ids=ends)
    from engine.template import template_layout  # only here, because it brings Jinja

    for name in ("<|im_end|>", "<end_of_turn>", "<|end|>", "<|eot_id|>", "<step>"):
        if (id := tokenizer.special_id(name)) is not None:
            ends.add(id)
    layout = template_layout(template, tokenizer, today or datetime.date.today())
    return ChatFormat("template", tokenizer, layout, bos=False, stop_ids=ends)


def family_of(
    folder: Path, config: Mapping[str, Any], tokenizer: Tokenizer, template: str
) -> Family:
    """Which family's form to write; the rules stand at the head of this module."""
    for marker, family in (
        ("<|start_header_id|>", "llama-3.1" if "Knowledge Date" in template else "llama-3"),
        ("<<SYS>>", "llama-2"),
        ("<｜Assistant｜>", "deepseek"),
        ("<|im_start|>", "chatml"),
        ("<|assistant|>", "zephyr"),
        ("### Instruction", "alpaca"),
        ("ASSISTANT:", "vicuna"),
    ):
        if marker in template:
            return family  # type: ignore[return-value]
    name = f"{folder.name} {config.get('_name_or_path', '')}".lower()
    called_chat = "instruct" in name or "chat" in name
    if tokenizer.special_id("<|start_header_id|>") is not None:
        eot = tokenizer.special_id("<|eot_id|>")
        if called_chat or eot in _end_ids(folder, config, tokenizer):
            return "llama-3.1" if _scales_rope(folder, config) else "llama-3"
    elif not template and tokenizer.drops_first_space:
        child = next((family for word, family in _CHILDREN if word in name), None)
        if child is not None or called_chat:
            return child or "llama-2"
    return "base"


def read_template(folder: Path) -> str:
    """The chat template of a folder or GGUF file, "" without; of several the "default" one."""
    if folder.is_file():
        from engine.formats.gguf import read_gguf  # only here, because it brings torch
        from engine.formats.gguf_model import template_of

        return template_of(read_gguf(folder))
    file = folder / "chat_template.jinja"
    if file.is_file():
        refuse_huge(file)
        return file.read_text(encoding="utf-8", errors="replace")
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = read_json(folder / name).get("chat_template")
        if isinstance(template, list):
            named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
            template = named.get("default")
        if isinstance(template, str):
            return template
    return ""


def _end_ids(folder: Path, config: Mapping[str, Any], tokenizer: Tokenizer) -> set[int]:
    """End tokens by `config.json`, `generation_config.json` and the tokenizer, all of them."""
    ends: set[int] = set() if tokenizer.eos_id is None else {tokenizer.eos_id}
    for source in (config, read_json(folder / "generation_config.json")):
        given = source.get("eos_token_id")
        ends |= {id for id in (given if isinstance(given, list) else [given]) if type(id) is int}
    if (filled := tokenizer.special_id(infill.END)) is not None:
        ends.add(filled)
    return ends


def _scales_rope(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether positions are scaled as from Llama 3.1 on, where the date header came too."""
    if read_json(folder / "params.json").get("use_scaled_rope"):
        return True
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    return isinstance(scaling, dict) and scaling.get("rope_type") == "llama3"
