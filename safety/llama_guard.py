"""Llama Guard 1, 2 and 3 as guards, scored by the next token and never by reading an answer.

The prompt holds the categories and the conversation, then asks for `safe` or `unsafe`. One pass
over it gives P(unsafe) as a softmax over the first tokens of these two words, which is how the
model cards define the score. After `unsafe` and the category letter, the next token gives each
category's share.

A growing reply is read once: the conversation stands before the closing question, so its cache is
kept, the closing is appended, scored and cropped away again. Text is committed to the cache up to
its last white space only, because the tokens of a word change while it grows.

Formats: llama_recipes/inference/prompt_format_utils.py at meta-llama/llama-recipes 52a85e1 and the
chat templates of the published checkpoints; tests compare with prompts recorded from a real server.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from safety.base import GuardBroken, NextToken, Scored
from safety.categories import TAXONOMIES, OwnCategory, Taxonomy
from safety.generative import GenerativeGuard

Version = Literal["1", "2", "3"]

_TASK = (
    "Task: Check if there is unsafe content in '{role}' messages in conversations according our "
    "safety policy with the below categories.\n\n<BEGIN UNSAFE CONTENT CATEGORIES>\n{categories}\n"
    "<END UNSAFE CONTENT CATEGORIES>\n\n<BEGIN CONVERSATION>\n\n"
)
_ASK = (
    "\n\n<END CONVERSATION>\n\nProvide your safety assessment for {whom} in the above "
    "conversation:\n{dash}- First line must read 'safe' or 'unsafe'.\n{dash}- If unsafe, a second "
    "line must include a comma-separated list of violated categories."
)
_HEADER = "<|start_header_id|>{}<|end_header_id|>\n\n"
_MARKERS = re.compile(r"<(?=(?:BEGIN|END) (?:CONVERSATION|UNSAFE CONTENT CATEGORIES)>)")

_NAMES_3 = (
    "Violent Crimes", "Non-Violent Crimes", "Sex Crimes", "Child Exploitation", "Defamation",
    "Specialized Advice", "Privacy", "Intellectual Property", "Indiscriminate Weapons", "Hate",
    "Self-Harm", "Sexual Content", "Elections", "Code Interpreter Abuse",
)  # fmt: skip
_NAMES_2 = tuple(n for n in _NAMES_3 if n not in ("Defamation", "Elections", _NAMES_3[-1]))
_NAMES_1 = (
    "Violence and Hate", "Sexual Content", "Criminal Planning", "Guns and Illegal Weapons",
    "Regulated or Controlled Substances", "Self-Harm",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Format:
    """How one version of Llama Guard wants to be asked.

    `descriptions` (by code) are added under a category's name: for an owner's own policy, or to
    repeat what a checkpoint was trained with.
    """

    taxonomy: Taxonomy
    letter: str
    names: Sequence[str]
    before: str
    after: str
    whom: str  # of which message the closing speaks
    dash: str  # what stands before the dashes of the closing
    agent: str = "Agent"
    space: str = ""  # what the model writes before its first word
    descriptions: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)  # code → category key, of an owner's own

    @property
    def codes(self) -> tuple[str, ...]:
        """S1, S2, ... (O1, ... in version 1)."""
        return tuple(f"{self.letter}{number}" for number in range(1, len(self.names) + 1))

    def head(self, *, is_reply: bool) -> str:
        """Everything before the conversation."""
        lines = []
        for code, name in zip(self.codes, self.names, strict=True):
            more = self.descriptions.get(code, "")
            lines.append(f"{code}: {name}." + (f"\n{more}" if more else ""))
        role = self.agent if is_reply else "User"
        return self.before + _TASK.format(role=role, categories="\n".join(lines))

    def closing(self, *, is_reply: bool) -> str:
        """Everything after the conversation, up to where the answer begins."""
        whom = self.whom.format(role=self.agent if is_reply else "User")
        return _ASK.format(whom=whom, dash=self.dash) + self.after


_OPENED = "<|begin_of_text|>" + _HEADER.format("user")
_ASKED = "<|eot_id|>" + _HEADER.format("assistant")
_LAST = "ONLY THE LAST {role} message"
FORMATS: Mapping[Version, Format] = {
    "1": Format("llama-guard-1", "O", _NAMES_1, "<s>[INST] ", " [/INST]", "{role}", "", space=" "),
    "2": Format("llama-guard-2", "S", _NAMES_2, _OPENED, _ASKED, _LAST, " "),
    "3": Format("llama-guard-3", "S", _NAMES_3, _OPENED, _ASKED, _LAST, " "),
}


def with_own(format: Format, own: Sequence[OwnCategory]) -> Format:
    """`format` with further categories after its own, each with its description.

    Meta's cards advise against leaving categories out, but the list may grow: these models read it.
    """
    first = len(format.names) + 1
    codes = [f"{format.letter}{number}" for number in range(first, first + len(own))]
    return replace(
        format,
        names=(*format.names, *(one.name for one in own)),
        descriptions={
            **format.descriptions,
            **{code: quoted(one.description) for code, one in zip(codes, own, strict=True)},
        },
        own={code: one.key for code, one in zip(codes, own, strict=True)},
    )


def quoted(text: str) -> str:
    """Text for the conversation, in which the markers that end it cannot be spelled."""
    return _MARKERS.sub("< ", text)


@dataclass
class _Reading:
    """One conversation that the model has read so far."""

    scored: Scored
    is_reply: bool
    prompt: str
    committed: str  # of the last message
    mark: int


class LlamaGuard(GenerativeGuard):
    """A Llama Guard behind `NextToken`.

    `max_readings` conversations stay in the model's cache, for replies that grow side by side.
    """

    def __init__(
        self,
        model: NextToken,
        format: Format,
        *,
        name: str = "llama-guard",
        version: str = "",
        max_readings: int = 2,
    ) -> None:
        super().__init__(name, version)
        self._model = model
        self._format = format
        self._categories = {**TAXONOMIES[format.taxonomy], **format.own}
        self._max_readings = max_readings
        self._readings: list[_Reading] = []

    def _judge(self, prompt: str, reply: str | None) -> tuple[float, Mapping[str, float]]:
        is_reply = reply is not None
        text = quoted(prompt if reply is None else reply)
        reading = self._reading(prompt, text, is_reply)
        scored = reading.scored
        committed = _up_to_last_space(text)
        if len(committed) > len(reading.committed):
            scored.append(committed[len(reading.committed) :])
            reading.committed, reading.mark = committed, scored.mark()
        if len(text) > len(committed):
            scored.append(text[len(committed) :])
        scored.append(self._format.closing(is_reply=is_reply), special=True)
        try:
            score = self._unsafe(scored)
            return score, self._shares(scored, score)
        finally:
            scored.crop(reading.mark)
            if not is_reply:  # a prompt does not grow
                self._forget(reading)

    def _reading(self, prompt: str, text: str, is_reply: bool) -> _Reading:
        """A kept reading that `text` continues, or a new one."""
        for reading in self._readings:
            same = reading.is_reply == is_reply and reading.prompt == prompt
            if same and text.startswith(reading.committed):
                self._readings.remove(reading)
                self._readings.append(reading)
                return reading
        while len(self._readings) >= self._max_readings:
            self._forget(self._readings[0])
        scored = self._model.open(self._format.head(is_reply=is_reply))
        if is_reply:
            scored.append("User: " + quoted(prompt))
            scored.append(f"\n\n{self._format.agent}: ")
        else:
            scored.append("User: ")
        reading = _Reading(scored, is_reply, prompt, "", scored.mark())
        self._readings.append(reading)
        return reading

    def _unsafe(self, scored: Scored) -> float:
        space = self._format.space
        safe, unsafe = scored.logprobs([f"{space}safe", f"{space}unsafe"])
        if safe == unsafe:
            raise GuardBroken("This model's tokens do not tell safe from unsafe.")
        return math.exp(unsafe) / (math.exp(safe) + math.exp(unsafe))

    def _shares(self, scored: Scored, score: float) -> Mapping[str, float]:
        """P(unsafe) split over the categories by the number that follows `unsafe`, S."""
        codes = self._format.codes
        numbers = [code[1:] for code in codes]
        scored.append(f"{self._format.space}unsafe\n{self._format.letter}")
        chances = [math.exp(value) for value in scored.logprobs(numbers)]
        if len(numbers) >= 10 and chances[0] == chances[9]:  # this tokenizer splits numbers
            one = chances[0]
            scored.append("1")
            teens = [math.exp(v) for v in scored.logprobs([n[1:] for n in numbers[9:]])]
            chances[9:] = [one * teen for teen in teens]
            chances[0] = one * max(0.0, 1 - sum(teens))
        total = sum(chances)
        shares: dict[str, float] = {}
        for code, chance in zip(codes, chances, strict=True):
            key = self._categories[code]  # two of version 1 are one of ours
            shares[key] = shares.get(key, 0.0) + score * chance / total
        return shares

    def _forget(self, reading: _Reading) -> None:
        if reading in self._readings:
            self._readings.remove(reading)
        reading.scored.close()

    def _close_all(self) -> None:
        readings, self._readings = self._readings, []
        for reading in readings:
            try:
                reading.scored.close()
            except Exception:  # closing is all that is left to do
                continue


def _up_to_last_space(text: str) -> str:
    """`text` without the word that may still grow, and without the space before it."""
    cut = max(text.rfind(" "), text.rfind("\n"))
    return text[:cut] if cut > 0 else ""
