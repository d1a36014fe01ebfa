"""The engine seam: what the rest of Corral may know about anything that turns messages into text.

This module imports neither torch nor transformers, so that `remote` and `scripted` engines, the
server and the tests of everything above stay light. It holds values and protocols, no behaviour;
what goes wrong has its names in `engine/errors.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any, Literal, NotRequired, Protocol, TypedDict, runtime_checkable

from engine.errors import PromptEmpty, SamplingInvalid

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "cancelled"]

# A function that a model may call, as OpenAI's API describes it:
# {"type": "function", "function": {"name", "description", "parameters": a JSON schema}}.
Tool = Mapping[str, Any]
# How a model writes calls: not at all, as JSON, or as JSON between <tool_call> tags.
ToolStyle = Literal["", "json", "tagged"]


class ToolCall(TypedDict):
    """A function that the model wants called. `arguments` is a JSON object as text."""

    name: str
    arguments: str


class Message(TypedDict):
    """What a model sees of one turn: a value without identity.

    `ids` are the token ids that the model itself produced for `content`. With them a later prompt
    repeats the reply exactly as it lies in the KV cache; text encoded anew may split differently.
    They are used only if they decode to `content`. A message of role "tool" is what a call gave.
    """

    role: Role
    content: str
    ids: NotRequired[Sequence[int]]
    tool_calls: NotRequired[Sequence[ToolCall]]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to read before writing. Exactly one of `messages`, `text` and `ids` is given.

    `messages` go through the chat format; `text` is encoded as it stands (a BOS is added);
    `ids` are taken as they are. `reply_prefix` (with `messages` only) opens the assistant's turn
    with text that is already there, so that a cut answer continues. `reply_ids` are the token ids
    that the model itself wrote for that text; they are used only if they decode to it. `tools`
    (with `messages` only) may be called by models whose `EngineInfo.tools` says how.
    """

    messages: Sequence[Message] | None = None
    text: str | None = None
    ids: Sequence[int] | None = None
    reply_prefix: str = ""
    reply_ids: Sequence[int] = ()
    tools: Sequence[Tool] = ()

    def __post_init__(self) -> None:
        given = sum(value is not None for value in (self.messages, self.text, self.ids))
        if given != 1:
            raise PromptEmpty("A prompt is messages, a text or token ids: exactly one of them.")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. The defaults here are those the sliders show.

    `temperature` 0 is greedy. `top_k` 0, `top_p` 1 and `min_p` 0 switch that filter off.
    `seed` None draws a fresh one, which the statistics then name. `num_logprobs` asks for the
    log-probability of each chosen token and of that many alternatives. `json_schema` (a JSON
    object) or `grammar` (Lark, as llguidance reads it) is a form that the reply must have; an
    engine that cannot see to that raises `FormInvalid`.
    """

    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 0.95
    min_p: float = 0.05
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    max_new_tokens: int = 1024
    stop: tuple[str, ...] = ()
    num_logprobs: int = 0
    json_schema: str = ""
    grammar: str = ""

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("temperature", self.temperature, 0.0, 5.0),
            ("top_k", self.top_k, 0, 1 << 20),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("repetition_penalty", self.repetition_penalty, 0.1, 10.0),
            ("presence_penalty", self.presence_penalty, -10.0, 10.0),
            ("frequency_penalty", self.frequency_penalty, -10.0, 10.0),
            ("max_new_tokens", self.max_new_tokens, 1, 1 << 20),
            ("num_logprobs", self.num_logprobs, 0, 64),
        ):
            if not low <= value <= high:  # also refuses NaN
                raise SamplingInvalid(f"{name} is {value}; it must lie between {low} and {high}.")
        if len(self.stop) > 16 or any(not s or len(s) > 256 for s in self.stop):
            raise SamplingInvalid("At most 16 stop strings of 1 to 256 characters are possible.")


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One chosen token with its alternatives, natural logarithms, most likely first."""

    id: int
    text: str
    logprob: float
    alternatives: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Statistics:
    """What one reply cost. Times in seconds on the engine's own clock, from being asked."""

    num_prompt: int
    num_reused: int  # prompt tokens that were already in the KV cache
    num_new: int
    queue_seconds: float
    first_token_seconds: float  # includes the queue
    total_seconds: float
    seed: int

    @property
    def tokens_per_second(self) -> float:
        """Decode rate: tokens after the first over the time after the first, in 1/s."""
        span = self.total_seconds - self.first_token_seconds
        return (self.num_new - 1) / span if self.num_new > 1 and span > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of reply. `text` is whole characters; `ids` the tokens read since the last chunk.

    The last chunk of a stream has `finish_reason` and `statistics`; its text may be empty. While
    a long prompt is read, chunks with empty text report `num_prefilled` of `num_prompt`.
    """

    text: str = ""
    ids: tuple[int, ...] = ()
    num_prefilled: int = 0
    num_prompt: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    statistics: Statistics | None = None


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Log-probabilities of given tokens: `logprobs[i]` is that of `ids[i]` given `ids[:i]`.

    `logprobs[0]` is 0: nothing comes before the first token. `num_bytes` counts UTF-8 bytes per
    token (0 for special tokens), for bits per byte.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    num_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What is running: shown on the page, kept with each answer."""

    model: str  # display name
    fingerprint: str  # identifies weights and tokenizer: whose token ids these are
    architecture: str
    num_parameters: int
    context_length: int
    device: str
    precision: str
    tools: ToolStyle = ""
    chat: bool = True  # False: a base model, which completes rather than chats
    note: str = ""  # one sentence the owner should know, for example a fallback that was taken
    deterministic: bool = False  # the same prompt, sampling and seed give the same reply
    draft: str = ""  # display name of the model that guesses ahead
    kernels: str = ""  # which ways to multiply were measured, and how long each took
    spread: str = ""  # which layers lie in several places, and how slow that is; "": all in one
    unrecorded: str = ""  # why a GPU decodes without CUDA graphs, where they were tried
    quality: str = ""  # what quantizing costs this model, where it was measured
    leaves_to: str = ""  # host that prompts are sent to; "": they stay on this machine


@dataclass(frozen=True, slots=True)
class CacheSizes:
    """Bytes of keys and values, taken and allowed, where they lie. A limit of 0: not used."""

    device_bytes: int  # running answers and kept ones
    device_limit: int
    memory_bytes: int = 0  # moved off a device that has memory of its own
    memory_limit: int = 0
    disk_bytes: int = 0
    disk_limit: int = 0

    def plus_on_device(self, other: CacheSizes) -> CacheSizes:
        """With the bytes of another model beside it on the same device."""
        taken, limit = other.device_bytes, other.device_limit
        return replace(
            self,
            device_bytes=self.device_bytes + taken,
            device_limit=self.device_limit + limit,
        )


@runtime_checkable
class Caching(Protocol):
    """What an engine may offer besides: how much it keeps of earlier turns."""

    def cache_sizes(self) -> CacheSizes:
        """Blocks for a decode step. Raises `EngineClosed`."""
        ...


@runtime_checkable
class Decoding(Protocol):
    """What an engine may offer besides: token ids as the text that they stand for."""

    def text(self, ids: Sequence[int]) -> str:
        """Control tokens give nothing. Raises `PromptEmpty` for ids that the model lacks."""
        ...


@runtime_checkable
class Retracing(Protocol):
    """What an engine may offer besides: how likely each token of a given reply was."""

    def retrace(self, prompt: Prompt, *, num_alternatives: int = 10) -> Sequence[TokenLogprob]:
        """One entry for each token of the reply that `prompt` opens, with likely alternatives.

        The texts joined are `prompt.reply_prefix`. Of a prompt without messages there is one for
        each token but the first. Nothing is drawn or kept. Blocks. Raises `EngineError`.
        """
        ...


@runtime_checkable
class Switching(Protocol):
    """What an engine may offer besides: LoRA adapters over its model, without loading it anew."""

    def holds(self, path: Path) -> bool:
        """Whether `path` is the loaded model, or an adapter that names it. Reads small files."""
        ...

    def switched(self, path: Path) -> Engine:
        """An engine that answers with the model or adapter at `path`, over the same weights.

        Both are open then, each is closed by itself, and the weights go with the last. Blocks for a
        decode step. Raises `CheckpointError` if the adapter does not fit, or must be merged.
        """
        ...


class Engine(Protocol):
    """Anything that turns a prompt into a stream of text. Safe to call from several threads."""

    def stream(
        self, prompt: Prompt, sampling: Sampling, *, cancel: Event, scope: str
    ) -> Iterator[Chunk]:
        """Read `prompt`, then yield the reply as it is written.

        `cancel` is read at every decode step and between prefill chunks; closing the iterator
        (its `close`, where it has one) cancels too. `scope` is `owner` or `owner/conversation`:
        cached prefixes are shared within an owner only; "" keeps nothing. Blocks the caller between
        chunks. Raises `EngineError`.
        """
        ...

    def score(self, ids_or_text: Sequence[int] | str) -> TokenScores:
        """Log-probabilities of given tokens (a text is encoded with a BOS in front)."""
        ...

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """How many prompt tokens `messages` would take, the reply's header included."""
        ...

    def info(self) -> EngineInfo:
        """What is running."""
        ...

    def forget(self, scope: str) -> None:
        """Drop the keys and values kept for `scope`, or for all scopes `scope/...` under it."""
        ...

    def close(self) -> None:
        """End running rows with `EngineClosed`, stop the thread and free the device."""
        ...
