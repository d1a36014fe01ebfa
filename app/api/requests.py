"""What a client may ask for: every field named, every number and length bounded before the queue.

Names and meanings are those of OpenAI's API reference; `top_k`, `min_p` and `repetition_penalty`
are what local servers add. A field that is not named here is refused rather than dropped; those
under "no effect here" are accepted because clients send them unasked.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_MESSAGES = 1_024
MAX_CHARS = 1_000_000
MAX_IDS = 131_072
MAX_PROMPTS = 64
MAX_NEW_TOKENS = 131_072
MAX_CHOICES = 8
MAX_INPUTS = 64

Text = Annotated[str, Field(max_length=MAX_CHARS)]
TokenId = Annotated[int, Field(ge=0, lt=1 << 32)]
Ids = Annotated[list[TokenId], Field(min_length=1, max_length=MAX_IDS)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TextPart(_Strict):
    """A piece of a message; other kinds (pictures, sound) cannot be read here."""

    type: Literal["text"]
    text: Text


class ChatMessage(_Strict):
    """One message of the conversation so far."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(max_length=256)]
    name: Annotated[str, Field(max_length=64)] | None = None
    refusal: None = None

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool | None = None  # no effect here


class JsonSchema(_Strict):
    name: Annotated[str, Field(max_length=64)] = "answer"
    description: Annotated[str, Field(max_length=4_096)] | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(_Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Drawn(_Strict):
    """How the reply is drawn; None leaves the choice to the model's own usual values."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1 << 20)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.1, le=10)] | None = None
    logit_bias: (
        Annotated[
            dict[Annotated[str, Field(pattern=r"^[0-9]{1,10}$")], float], Field(max_length=300)
        ]
        | None
    ) = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    # No effect here.
    user: Annotated[str, Field(max_length=512)] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    service_tier: Annotated[str, Field(max_length=32)] | None = None
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    prompt_cache_key: Annotated[str, Field(max_length=512)] | None = None

    @model_validator(mode="after")
    def _bias_in_range(self) -> Drawn:
        if any(not -100 <= value <= 100 for value in (self.logit_bias or {}).values()):
            raise ValueError("logit_bias lies between -100 and 100")
        return self


class ChatRequest(Drawn):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    parallel_tool_calls: bool | None = None  # no effect here

    @model_validator(mode="after")
    def _ends_with_a_prompt(self) -> ChatRequest:
        if self.messages[-1].role != "user":
            raise ValueError("messages must end with one of role user")
        return self


class CompletionRequest(Drawn):
    """`POST /v1/completions`."""

    prompt: (
        Text
        | Ids
        | Annotated[list[Text], Field(min_length=1, max_length=MAX_PROMPTS)]
        | Annotated[list[Ids], Field(min_length=1, max_length=MAX_PROMPTS)]
    )
    max_tokens: Annotated[int, Field(ge=0, le=MAX_NEW_TOKENS)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    suffix: None = None
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None

    @model_validator(mode="after")
    def _possible(self) -> CompletionRequest:
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise ValueError("best_of can only be what n is: nothing is thrown away here")
        if len(self.prompts()) * (self.n or 1) > MAX_PROMPTS:
            raise ValueError(f"prompts times n may be {MAX_PROMPTS} at most")
        if self.echo and self.stream:
            raise ValueError("echo and stream do not go together here")
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens 0 needs echo: there would be nothing to answer")
        return self

    def prompts(self) -> list[str | list[int]]:
        """Each prompt, a text or token ids."""
        given: Any = self.prompt
        return [given] if isinstance(given, str) or isinstance(given[0], int) else given


class ModerationRequest(_Strict):
    """`POST /v1/moderations`."""

    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]
    model: Annotated[str, Field(max_length=200)] | None = None
