"""A server that speaks the OpenAI-compatible protocol: its address, its models, its refusals.

Used by `engine/remote.py`. Every way in which such a server can fail becomes one of our errors
here, with the next step in its sentence. Keys are handed in and stand in no message.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from engine.errors import CheckpointMissing, EngineError, ServerRefused, ServerUnreachable
from engine.hub import is_transport

_CONNECT_SECONDS = 10.0
_READ_SECONDS = 600.0  # a long prompt on a slow server: nothing comes before it is read
# The names under which servers tell how long their context is: vLLM and SGLang, then llama.cpp.
_CONTEXT_NAMES = ("max_model_len", "context_length", "n_ctx", "n_ctx_train")
_CONTEXT_LIMIT = re.compile(r"context (?:length|window|size)\D{0,40}?(\d+)")
_IN_PROMPT = re.compile(r"(\d+)\s*(?:tokens\s*)?(?:in|from) (?:the|your) (?:messages|prompt|input)")


@dataclass(frozen=True, slots=True)
class Address:
    """`http://host:port/v1#name`: where a server is and which of its models to ask."""

    base_url: str
    model: str = ""  # "": the only one that it serves

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address; `/v1` is added where no path stands. Raises `CheckpointMissing`."""
        try:
            parts = urlsplit(text.strip())
            port = parts.port
        except ValueError as error:
            raise CheckpointMissing(_not_an_address(text)) from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise CheckpointMissing(_not_an_address(text))
        if parts.username is not None or parts.password is not None:
            raise CheckpointMissing(
                "An address holds no key or password: keep the key beside it, under Models."
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        place = host if port is None else f"{host}:{port}"
        path = parts.path.rstrip("/") or "/v1"
        return cls(f"{parts.scheme}://{place}{path}", parts.fragment)

    def __str__(self) -> str:
        return f"{self.base_url}#{self.model}" if self.model else self.base_url

    @property
    def place(self) -> str:
        """Host and port, as people name the server."""
        return urlsplit(self.base_url).netloc

    @property
    def is_this_machine(self) -> bool:
        """Whether what is sent there stays on this machine."""
        host = urlsplit(self.base_url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def fingerprint(self) -> str:
        """Whose token counts and ids these are."""
        return "remote-" + hashlib.sha256(str(self).encode()).hexdigest()[:25]


def is_address(name: str) -> bool:
    """Whether a model is named by the address of a server."""
    return name.strip().lower().startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True)
class Served:
    """One model of a server. `context_length` 0: it does not say."""

    name: str
    context_length: int = 0


def connect(address: Address, key: str) -> Any:
    """A client for the server. Opens no connection yet."""
    import openai

    client = openai.OpenAI(
        base_url=address.base_url,
        api_key=key or "none",  # the library insists on one; servers without keys ignore it
        max_retries=0,  # `RemoteEngine` retries itself: it knows whether a token was shown
        timeout=openai.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
    )
    # Read from the environment by the library, and meant for another server than this one.
    client.organization = client.project = None
    return client


def ask(address: Address, key: str, *, seconds: float = _CONNECT_SECONDS) -> list[Served]:
    """The models that the server at `address` names; sends nothing else. Blocks.

    Raises `ServerUnreachable` (also after `seconds` without a word) or `ServerRefused`.
    """
    client = connect(address, key).with_options(timeout=seconds)
    try:
        return served_by(client, address)
    finally:
        client.close()


def served_by(client: Any, address: Address) -> list[Served]:
    """The models that a server names. Blocks. Raises `ServerUnreachable` or `ServerRefused`.

    One that answers but cannot list them (`transformers serve` without a cache of its own) serves
    what the address names, if it names something.
    """
    import openai

    try:
        entries = client.models.list().data or []
        return [Served(str(e.id), _context_of(e.model_extra or {})) for e in entries]
    except Exception as error:
        answers = isinstance(error, openai.APIStatusError) and error.status_code in (404, 500)
        if answers and address.model:
            return []
        raise translated(error, address) from error


def _context_of(told: Mapping[str, Any]) -> int:
    meta = told.get("meta")
    for source in (told, meta if isinstance(meta, Mapping) else {}):
        for name in _CONTEXT_NAMES:
            value = source.get(name)
            if isinstance(value, int) and value > 0:
                return value
    return 0


def choose(served: list[Served], address: Address) -> Served:
    """The model that `address` means. Raises `ServerRefused` with the names to choose from."""
    for each in served:
        if each.name == address.model:
            return each
    if address.model:
        return Served(address.model)  # some servers load models that they do not list
    if len(served) == 1:
        return served[0]
    names = ", ".join(each.name for each in served[:8]) or "none"
    raise ServerRefused(
        f"The server at {address.place} serves these models: {names}. Name one behind the address: "
        f"{address.base_url}#NAME."
    )


class TooLong(Exception):
    """The server said that prompt and reply together are longer than its context."""

    def __init__(self, context_length: int, num_prompt: int) -> None:
        super().__init__(f"{num_prompt} of {context_length}")
        self.context_length = context_length  # 0: it did not say
        self.num_prompt = num_prompt  # 0: it did not say


def translated(error: Exception, address: Address) -> Exception:
    """One of our errors (or `TooLong`) for what the client raised; unknown ones as they are."""
    import openai

    place = address.place
    if isinstance(error, EngineError | TooLong):
        return error
    if isinstance(error, openai.APIStatusError):
        return _refusal(error.status_code, str(error.message), place)
    if isinstance(error, openai.APIConnectionError) or is_transport(error):
        return ServerUnreachable(
            f"The server at {place} does not answer. Start it, or check its address under Models."
        )
    if isinstance(error, openai.APIError):  # an error in the midst of a stream
        return too_long(str(error.message)) or ServerUnreachable(
            f"The server at {place} broke off with an error. Ask again; its own log says why."
        )
    return error


def _refusal(status: int, message: str, place: str) -> Exception:
    if status in (401, 403):
        return ServerRefused(
            f"The server at {place} wants a key, or another one ({status}). Give it under Models."
        )
    if status == 404:
        return ServerRefused(
            f"The server at {place} does not know this model, or its address has another path than "
            "/v1 (404). Name one of its models behind the address: #NAME."
        )
    if status in (408, 409, 425, 429) or status >= 500:
        return ServerUnreachable(
            f"The server at {place} cannot answer now ({status}). Wait a little and ask again."
        )
    return too_long(message) or ServerRefused(
        f"The server at {place} refuses this request ({status}). Its own log says why."
    )


def too_long(message: str) -> TooLong | None:
    """What a message of vLLM, SGLang or llama.cpp says about the context; None if nothing."""
    lowered = message.lower()
    if "context" not in lowered or not any(w in lowered for w in ("exceed", "maximum", "longer")):
        return None
    limit, prompt = _CONTEXT_LIMIT.search(lowered), _IN_PROMPT.search(lowered)
    return TooLong(int(limit[1]) if limit else 0, int(prompt[1]) if prompt else 0)


def _not_an_address(text: str) -> str:
    return (
        f"{text!r} is not the address of a server: http://HOST:PORT/v1, with #NAME behind it where "
        "it serves several models, was expected."
    )
