"""How likely a given text is: what `echo` with `logprobs` asks for, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.api.errors import ApiError
from engine.base import Decoding, Engine, Prompt, Retracing, TokenLogprob


@dataclass(frozen=True, slots=True)
class Read:
    """A prompt as the model reads it. `first` is its first token's text, which has no score."""

    first: str
    rest: Sequence[TokenLogprob]

    @property
    def text(self) -> str:
        """The whole prompt."""
        return self.first + "".join(token.text for token in self.rest)


def text_of(engine: Engine, prompt: str | list[int]) -> str:
    """What a prompt says, for the guard. Raises `ApiError` where ids cannot be read as text."""
    if isinstance(prompt, str):
        return prompt
    if not isinstance(engine, Decoding):
        raise ApiError(400, "This model takes texts, not token ids.", param="prompt")
    return engine.text(prompt)


def read(engine: Engine, prompt: str | list[int], num_alternatives: int) -> Read:
    """The log-probability of each token after the first. Blocks. Raises `EngineError`."""
    if not isinstance(engine, Retracing):
        raise ApiError(400, "This model cannot score given texts.", param="echo")
    whole = Prompt(text=prompt) if isinstance(prompt, str) else Prompt(ids=prompt)
    rest = engine.retrace(whole, num_alternatives=max(1, num_alternatives))
    if isinstance(prompt, str):  # the first token may be a control token, which says nothing
        num_first = max(0, len(prompt) - sum(len(token.text) for token in rest))
        return Read(prompt[:num_first], rest)
    return Read(text_of(engine, prompt[:1]), rest)
