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
MAX_TOOLS = 128

Text = Annotated[str, Field(max_length=MAX_CHARS)]
TokenId = Annotated[int, Field(ge=0, lt=1 << 32)]
Ids = Annotated[list[TokenId], Field(min_length=1, max_length=MAX_IDS)]
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Stop = Annotated[str, Field(min_length=1, max_length=256)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TextPart(_Strict):
    """A piece of a message; other kinds (pictures, sound) cannot be read here."""

    type: Literal["text"]
    text: Text


class Function(_Strict):
    """What a tool is; `parameters` is a JSON schema."""

    name: FunctionName
    description: Annotated[str, Field(max_length=8_192)] | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Strict):
    """A function that the model may ask the client to call."""

    type: Literal["function"]
    function: Function


class FunctionNamed(_Strict):
    name: FunctionName


class ToolNamed(_Strict):
    """The one tool that must be called."""

    type: Literal["function"]
    function: FunctionNamed


class FunctionCalled(_Strict):
    name: FunctionName
    arguments: Text


class ToolCalled(_Strict):
    """A call that an earlier reply asked for."""

    id: Annotated[str, Field(max_length=128)]
    type: Literal["function"] = "function"
    function: FunctionCalled


class ChatMessage(_Strict):
    """One message of the conversation so far."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[TextPart], Field(max_length=256)] | None = None
    name: Annotated[str, Field(max_length=64)] | None = None
    refusal: None = None
    tool_calls: Annotated[list[ToolCalled], Field(max_length=MAX_TOOLS)] | None = None
    tool_call_id: Annotated[str, Field(max_length=128)] | None = None

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""

    @model_validator(mode="after")
    def _whole(self) -> ChatMessage:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("tool_calls stand in messages of role assistant")
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing")
        return self


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

    @model_validator(mode="after")
    def _has_its_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema belongs to the type json_schema, which needs it")
        return self


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
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolNamed | None = None
    parallel_tool_calls: bool | None = None  # no effect here

    @model_validator(mode="after")
    def _ends_with_a_prompt(self) -> ChatRequest:
        if self.messages[-1].role not in ("user", "tool"):
            raise ValueError("messages must end with one of role user or tool")
        return self

    @model_validator(mode="after")
    def _tools_fit(self) -> ChatRequest:
        names = [tool.function.name for tool in self.tools or ()]
        choice = self.tool_choice
        if len(set(names)) < len(names):
            raise ValueError("two tools have one name")
        if choice not in (None, "none", "auto") and not names:
            raise ValueError("tool_choice asks for a tool, and there is none")
        if isinstance(choice, ToolNamed) and choice.function.name not in names:
            raise ValueError("tool_choice names a tool that is not among tools")
        if self.store and (names or any(m.role == "tool" for m in self.messages)):
            raise ValueError("a conversation with tools cannot be stored here")
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
