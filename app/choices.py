"""What a conversation asks for beside its prompts: how to sample, which language, what overflows.

`Choices` is kept as JSON with its conversation. What cannot be read is as if it had never been
chosen, so that a conversation from a newer or older Corral still opens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, get_args

from app.context import Overflow
from app.library import Library
from engine.base import Sampling
from engine.errors import SamplingInvalid
from storage.records import Conversation

Language = Literal["", "en", "zh-Hans", "zh-Hant"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

OWN = "own"
# What each named preset changes in the sampling that the model's makers use. "exact" always takes
# the likeliest token. min_p 0.05 to 0.1 keeps hot sampling coherent (Nguyen et al. 2024, min-p).
PRESETS: Mapping[str, Mapping[str, object]] = {
    "usual": {},
    "exact": {"temperature": 0.0},
    "precise": {"temperature": 0.3, "top_p": 0.9, "min_p": 0.05},
    "balanced": {"temperature": 0.7, "top_p": 0.95, "min_p": 0.05},
    "creative": {"temperature": 1.0, "top_p": 1.0, "min_p": 0.05},
    "wild": {"temperature": 1.4, "top_p": 1.0, "min_p": 0.1},
}
# The values that a person may set. `seed` alone may be absent: a fresh one is drawn then.
EDITABLE = (
    *("temperature", "top_p", "top_k", "min_p", "repetition_penalty"),
    *("max_new_tokens", "seed"),
)
_WHOLE = ("top_k", "max_new_tokens", "seed")


@dataclass(frozen=True, slots=True)
class Choices:
    """`values` hold sampling values of one's own; they count where `preset` is "own"."""

    preset: str = "usual"
    values: Mapping[str, object] = field(default_factory=dict)
    language: Language = ""
    convert: bool = False  # show Chinese in the script of `language`, whatever the model wrote
    overflow: Overflow = "drop"
    persona: str = ""  # the name that the system prompt was taken under

    @classmethod
    def of(cls, conversation: Conversation) -> Choices:
        """The choices kept with a conversation."""
        return cls.from_json(conversation.choices)

    @classmethod
    def from_json(cls, kept: Mapping[str, object]) -> Choices:
        """Read what `to_json` wrote; anything else is left at its default."""
        preset, values = kept.get("preset"), kept.get("values")
        language, overflow, persona = (kept.get(n) for n in ("language", "overflow", "persona"))
        return cls(
            preset=preset if isinstance(preset, str) and preset in (*PRESETS, OWN) else "usual",
            values=sampling_values(values) if isinstance(values, Mapping) else {},
            language=language if language in LANGUAGES else "",
            convert=kept.get("convert") is True,
            overflow="stop" if overflow == "stop" else "drop",
            persona=persona[:80] if isinstance(persona, str) else "",
        )

    def to_json(self) -> dict[str, object]:
        """What is kept: only what differs from the default."""
        plain = asdict(Choices())
        return {name: value for name, value in asdict(self).items() if value != plain[name]}

    @property
    def shown_language(self) -> str:
        """The script that Chinese answers are shown in; "" leaves them as they are."""
        return self.language if self.convert else ""

    def sampling(self, usual: Sampling) -> Sampling:
        """How replies are drawn, where the model's makers would take `usual`."""
        changes = self.values if self.preset == OWN else PRESETS.get(self.preset, {})
        return replace(usual, **changes)  # type: ignore[arg-type]  # names and ranges are checked


def sampling_values(given: Mapping[object, object]) -> dict[str, object]:
    """Of `given`, the values that a person may set and that are possible."""
    values: dict[str, object] = {}
    for name in EDITABLE:
        value = given.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        number = int(value) if name in _WHOLE and float(value).is_integer() else value
        try:
            replace(Sampling(), **{name: number})  # type: ignore[arg-type]
        except (SamplingInvalid, TypeError):
            continue
        if isinstance(number, float) and name in _WHOLE:
            continue
        if name == "seed" and not 0 <= number < 1 << 63:
            continue
        values[name] = number
    return values


def instructions(system_prompt: str, choices: Choices, library: Library) -> str:
    """The system prompt as the model reads it, with the rule on the reply's language."""
    rule = library.rules.get(choices.language, "")
    return "\n\n".join(filter(None, (system_prompt.strip(), rule)))
