"""What goes wrong, in the shape that clients of OpenAI's API read."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import ValidationError

from app.explain import explain
from app.requests import JobRefused
from app.strings import Strings
from engine.errors import ContextFull, EngineError, PromptEmpty, SamplingInvalid, ToolsRefused

Kind = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "rate_limit_error",
    "server_error",
]
RETRY_SECONDS = 5  # what a client that was turned away is told to wait
_OURS = (ContextFull, PromptEmpty, SamplingInvalid, ToolsRefused)


class ApiError(Exception):
    """A request ends with this. `param` names the field that is wrong, `code` what it is."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: Kind = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code

    def body(self) -> dict[str, object]:
        """The JSON object that clients know."""
        return error_body(str(self), self.kind, self.param, self.code)


def error_body(
    message: str, kind: str, param: str | None = None, code: str | None = None
) -> dict[str, object]:
    """An error as OpenAI writes it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def of_status(status: int, message: str, code: str) -> bytes:
    """What the gateway answers to a request of the API that it refuses."""
    kinds: dict[int, Kind] = {401: "authentication_error", 403: "permission_error"}
    kinds |= {429: "rate_limit_error", 500: "server_error", 503: "server_error"}
    kind = kinds.get(status, "invalid_request_error")
    return json.dumps(error_body(message, kind, code=code)).encode()


def of_validation(error: ValidationError) -> ApiError:
    """The first field that is wrong, named; what was sent is not repeated."""
    first = error.errors(include_input=False, include_context=False, include_url=False)[0]
    place = ".".join(str(step) for step in first["loc"] if not str(step).startswith("list["))
    message = str(first["msg"]).removeprefix("Value error, ")
    return ApiError(400, f"{place}: {message}." if place else f"{message}.", param=place or None)


def of_exception(error: Exception, strings: Strings) -> ApiError:
    """Any error of a call, as the client is to see it: a sentence, no trace."""
    if isinstance(error, ApiError):
        return error
    told = explain(error, strings)
    message = " ".join(filter(None, (f"{told.title}.", told.detail or told.text, told.action)))
    if isinstance(error, JobRefused):
        limited = error.code in ("queue_full", "quota")
        kind: Kind = "rate_limit_error" if limited else "server_error"
        return ApiError(429 if limited else 503, message, kind=kind, code=error.code)
    if isinstance(error, _OURS):
        code = "context_length_exceeded" if isinstance(error, ContextFull) else None
        return ApiError(400, message, code=code)
    code = type(error).__name__ if isinstance(error, EngineError) else "unexpected"
    return ApiError(503, message, kind="server_error", code=code)
