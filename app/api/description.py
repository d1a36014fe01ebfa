"""What the API takes, in the words of OpenAPI 3.1, made of the same forms that check a request.

For programs that write clients out of such a description, and for those that look for requests
which break a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.requests import ChatRequest, CompletionRequest, ModerationRequest

PATH = "openapi.json"
_PLACE = "#/components/schemas/{model}"
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


@dataclass(frozen=True, slots=True)
class Operation:
    """What can be asked for: where below `/v1/`, with which scope of a key, in which form."""

    path: str
    method: str
    scope: str
    about: str
    form: type[BaseModel] | None = None


OPERATIONS: tuple[Operation, ...] = (
    Operation("chat/completions", "POST", "chat", "A reply to messages.", ChatRequest),
    Operation("completions", "POST", "completions", "A text that goes on.", CompletionRequest),
    Operation("moderations", "POST", "moderations", "What the guard says.", ModerationRequest),
    Operation("models", "GET", "models", "The model that answers."),
    Operation("models/{name}", "GET", "models", "The same, by its name."),
    Operation(PATH, "GET", "models", "This description."),
)


@cache
def description(prefix: str, operations: Sequence[Operation] = OPERATIONS) -> dict[str, object]:
    """The document; `prefix` stands before every path."""
    forms = [(each.form, "validation") for each in operations if each.form is not None]
    _, schemas = models_json_schema(forms, ref_template=_PLACE)  # type: ignore[arg-type]  # literals
    paths: dict[str, dict[str, object]] = {}
    for each in operations:
        paths.setdefault(prefix + each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Corral", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": {**schemas["$defs"], "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
    }


def _operation(each: Operation) -> dict[str, object]:
    refused = {"schema": {"$ref": _PLACE.format(model="Error")}}
    found: dict[str, object] = {
        "summary": each.about,
        "operationId": each.path.replace("/", "_").replace(".", "_").replace("{name}", "one"),
        "responses": {
            "200": {"description": "The answer."},
            "4XX": {"description": "What is wrong.", "content": {"application/json": refused}},
        },
    }
    if each.form is not None:
        form = {"schema": {"$ref": _PLACE.format(model=each.form.__name__)}}
        found["requestBody"] = {"required": True, "content": {"application/json": form}}
    if "{name}" in each.path:
        name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
        found["parameters"] = [name]
    return found
