"""How each family writes a conversation: messages → control tokens, text, and replies' own ids.

A layout is the whole of a family's form and knows nothing else; `chat_format` finds the family and
encodes. Text in a layout never becomes a control token, whoever wrote it.

Sources: meta-llama/llama `llama/generation.py` (Llama 2), meta-llama/llama3 `llama/tokenizer.py`
(Llama 3), the chat templates of the Llama 3.1 to 3.3 repositories (date header), tatsu-lab's
stanford_alpaca README, lm-sys/FastChat `fastchat/conversation.py` (Vicuna 1.1), the chat templates
of TinyLlama-1.1B-Chat-v1.0 (Zephyr) and DeepSeek-R1-Distill-Llama-8B.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from engine.base import Message
from engine.errors import CheckpointBroken
from engine.tokenizer import Tokenizer

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_VICUNA_PREAMBLE = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_ALPACA_PREAMBLE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)


@dataclass(frozen=True, slots=True)
class Control:
    """A control token: its id, and how it is written."""

    id: int
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What the assistant wrote, with the model's own ids where they are known.

    `lead` stands before `content` when it is encoded from text; own ids already hold it. `trims`
    says that the family takes away white space around a content; own ids keep theirs.
    """

    content: str
    ids: Sequence[int] = ()
    lead: str = ""
    trims: bool = False

    @property
    def text(self) -> str:
        return self.lead + (self.content.strip() if self.trims else self.content)


Piece = Control | Reply | str
Layout = Callable[[Sequence[Message], str], Iterator[Piece]]


def control(tokenizer: Tokenizer, text: str) -> Control:
    id = tokenizer.special_id(text)
    if id is None:
        raise CheckpointBroken(
            f"The chat template needs the token {text}, which the tokenizer lacks; the files of "
            "this model do not fit together. Download it again."
        )
    return Control(id, text)


def _ends_of_text(tokenizer: Tokenizer) -> tuple[Control, Control]:
    """BOS and EOS, which every SentencePiece family writes between turns."""
    bos, eos = tokenizer.bos_id, tokenizer.eos_id
    if bos is None or eos is None:
        raise CheckpointBroken(
            "The tokenizer names no begin or end token, which this chat format needs; the files "
            "of this model do not fit together. Download it again."
        )
    return Control(bos, tokenizer.special_text(bos)), Control(eos, tokenizer.special_text(eos))


def written(date: datetime.date) -> str:
    """As `strftime("%d %b %Y")` writes it in English, whatever the machine's language."""
    return f"{date.day:02d} {_MONTHS[date.month - 1]} {date.year}"


def _own_ids(message: Message) -> Sequence[int]:
    return message.get("ids", ()) if message["role"] == "assistant" else ()


def llama3(tokenizer: Tokenizer, date: str | None) -> Layout:
    """Header, blank line, trimmed content, end of turn; with `date` also the 3.1 system header."""
    start = control(tokenizer, "<|start_header_id|>")
    end = control(tokenizer, "<|end_header_id|>")
    eot = control(tokenizer, "<|eot_id|>")

    def turn(role: str, *content: Piece) -> Iterator[Piece]:
        yield from (start, role, end, "\n\n", *content)

    def layout(messages: Sequence[Message], reply_prefix: str) -> Iterator[Piece]:
        rest = list(messages)
        if date is not None:
            system = rest.pop(0)["content"] if rest and rest[0]["role"] == "system" else ""
            dated = f"Cutting Knowledge Date: December 2023\nToday Date: {date}\n\n"
            yield from turn("system", dated + system.strip(), eot)
        for message in rest:
            content = Reply(message["content"], _own_ids(message), trims=True)
            yield from turn(message["role"], content, eot)
        yield from turn("assistant", reply_prefix)

    return layout


def llama2(tokenizer: Tokenizer) -> Layout:
    """`[INST] <<SYS>> system <</SYS>> prompt [/INST] reply </s>`, BOS before every turn.

    These markers are ordinary text to the model: a prompt that spells them cannot be told apart.
    """
    bos, eos = _ends_of_text(tokenizer)

    def layout(messages: Sequence[Message], reply_prefix: str) -> Iterator[Piece]:
        turns = list(_paired(messages))
        for i, (system, prompt, reply) in enumerate(turns):
            if i > 0:
                yield bos
            header = f"<<SYS>>\n{system}\n<</SYS>>\n\n" if system else ""
            yield f"[INST] {header}{prompt.strip()} [/INST]"
            if reply is not None:
                yield Reply(reply["content"], _own_ids(reply), lead=" ")
                yield " "
                yield eos
        if reply_prefix:
            yield " " + reply_prefix

    return layout


def vicuna(tokenizer: Tokenizer) -> Layout:
    """`preamble USER: prompt ASSISTANT: reply</s>`; a system prompt replaces the preamble."""
    _, eos = _ends_of_text(tokenizer)

    def layout(messages: Sequence[Message], reply_prefix: str) -> Iterator[Piece]:
        for i, (system, prompt, reply) in enumerate(_paired(messages)):
            if i == 0 or system:
                yield f"{system or _VICUNA_PREAMBLE} "
            yield f"USER: {prompt.strip()} ASSISTANT:"
            if reply is not None:
                yield Reply(reply["content"], _own_ids(reply), lead=" ")
                yield eos
        if reply_prefix:
            yield " " + reply_prefix

    return layout


def alpaca(tokenizer: Tokenizer) -> Layout:
    """One instruction and its response; later turns repeat the pair after the end token."""
    _, eos = _ends_of_text(tokenizer)

    def layout(messages: Sequence[Message], reply_prefix: str) -> Iterator[Piece]:
        for i, (system, prompt, reply) in enumerate(_paired(messages)):
            if i == 0 or system:
                yield f"{system or _ALPACA_PREAMBLE}\n\n"
            yield f"### Instruction:\n{prompt.strip()}\n\n### Response:"
            if reply is not None:
                yield Reply(reply["content"], _own_ids(reply))
                yield eos
        yield reply_prefix

    return layout


def chatml(tokenizer: Tokenizer) -> Layout:
    """`<|im_start|>role`, a line break, content, `<|im_end|>`, a line break."""
    start, end = control(tokenizer, "<|im_start|>"), control(tokenizer, "<|im_end|>")

    def layout(messages: Sequence[Message], reply_prefix: str) -> Iterator[Piece]:
        for message in messages:
            yield from (start, f"{message['role']}\n")
            yield Reply(message["content"], _own_ids(message))
            yield from (end, "\n")
        yield from (start, "assistant\n", reply_prefix)

    return layout


def zephyr(tokenizer: Tokenizer) -> Layout:
    """`<|role|>`, a line break, content, EOS, a line break; the roles are ordinary text."""
    _, eos = _ends_of_text(tokenizer)

    def layout(messages: Sequence[Message], reply_prefix: str) -> Iterator[Piece]:
        for message in messages:
            yield f"<|{message['role']}|>\n"
            yield Reply(message["content"], _own_ids(message))
            yield from (eos, "\n")
        yield f"<|assistant|>\n{reply_prefix}"

    return layout


def deepseek(tokenizer: Tokenizer, template: str) -> Layout:
    """System text, then a marker before each content; what an earlier reply thought is left out."""
    user, assistant = control(tokenizer, "<｜User｜>"), control(tokenizer, "<｜Assistant｜>")
    _, eos = _ends_of_text(tokenizer)
    opening: list[Piece] = [assistant]
    if "<think>" in template.partition("add_generation_prompt")[2]:
        opening += [control(tokenizer, "<think>"), "\n"]

    def layout(messages: Sequence[Message], reply_prefix: str) -> Iterator[Piece]:
        for message in messages:
            if message["role"] == "system":
                yield message["content"]
            elif message["role"] == "user":
                yield from (user, message["content"])
            else:
                said = message["content"].rpartition("</think>")[2]
                yield from (assistant, Reply(said, _own_ids(message)), eos)
        yield from (*opening, reply_prefix)

    return layout


def completion(messages: Sequence[Message], reply_prefix: str) -> Iterator[Piece]:
    """A base model reads one text: a reply goes on where the prompt ends."""
    for i, message in enumerate(messages):
        if i > 0 and message["role"] != "assistant":
            yield "\n\n"
        yield Reply(message["content"], _own_ids(message))
    yield reply_prefix


def _paired(messages: Sequence[Message]) -> Iterator[tuple[str, str, Message | None]]:
    """(system, prompt, reply) of each turn; the last reply is None, it is what is asked for.

    Neighbouring messages of one role become one, a reply without a prompt gets an empty one.
    """
    system: list[str] = []
    prompts: list[str] = []
    for message in messages:
        if message["role"] == "system":
            system.append(message["content"].strip())
        elif message["role"] == "user":
            prompts.append(message["content"])
        else:
            yield "\n\n".join(system), "\n\n".join(prompts), message
            system, prompts = [], []
    yield "\n\n".join(system), "\n\n".join(prompts), None
