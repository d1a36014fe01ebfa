"""The routes below `/v1`: which request goes where, and what its key may do."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from app.api.calls import ALIAS, Calls
from app.api.chat import complete_chat
from app.api.completions import complete
from app.api.description import OPERATIONS, PATH, description
from app.api.errors import RETRY_SECONDS, ApiError, of_exception, of_validation
from app.api.requests import ChatRequest, CompletionRequest, ModerationRequest
from app.job import Call
from app.routes import API
from app.services import Services
from app.strings import Strings
from engine.base import Engine
from safety.base import Guard

M = TypeVar("M", bound=BaseModel)
Handler = Callable[[int, Request], Awaitable[Response]]
_TOO_MANY = 429

log = logging.getLogger("corral.api")


class Api:
    """The handlers. The gateway has found the key and says whose it is and what it may do."""

    def __init__(self, services: Services, strings: Strings) -> None:
        self._services = services
        self._strings = strings
        self._calls = Calls(services)

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter()
        handlers: dict[str, Handler] = {
            "chat/completions": self._chat,
            "completions": self._complete,
            "moderations": self._moderate,
            "models": self._models,
            "models/{name}": self._model,
            PATH: self._describe,
        }
        for each in OPERATIONS:
            path = API + each.path.replace("{name}", "{name:path}")  # names of models have slashes
            handler = self._guarded(each.scope, handlers[each.path])
            router.add_api_route(path, handler, methods=[each.method])
        return router

    def _guarded(self, scope: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """`handler` for keys of this scope; whatever it raises becomes an answer."""

        async def handle(request: Request) -> Response:
            try:
                if scope not in request.scope["corral_scopes"]:
                    said = self._strings.say("api.scope", scope=scope)
                    raise ApiError(403, said, kind="permission_error", code="scope")
                return await handler(request.scope["corral_user"], request)
            except ValidationError as error:
                return self._answer(of_validation(error))
            except Exception as error:
                if not isinstance(error, ApiError):
                    log.warning("a call ended in an error", exc_info=error)
                return self._answer(of_exception(error, self._strings))

        return handle

    def _answer(self, error: ApiError) -> Response:
        headers = {"Retry-After": str(RETRY_SECONDS)} if error.status == _TOO_MANY else {}
        return JSONResponse(error.body(), error.status, headers=headers)

    async def _chat(self, user_id: int, request: Request) -> Response:
        return await complete_chat(self._calls, user_id, request, await _read(request, ChatRequest))

    async def _complete(self, user_id: int, request: Request) -> Response:
        return await complete(
            self._calls, user_id, request, await _read(request, CompletionRequest)
        )

    async def _moderate(self, user_id: int, request: Request) -> Response:
        """Judge texts by our guard under the user's policy; nothing is written or stored."""
        given = await _read(request, ModerationRequest)
        texts = [given.input] if isinstance(given.input, str) else given.input

        def work(engine: Engine, guard: Guard, call: Call) -> Iterator[dict[str, object]]:
            for text in texts:
                yield self._judged(user_id, text, guard)

        relay = await self._calls.relay(user_id, work)
        results = await relay.all(request)
        return JSONResponse({"id": "modr", "model": "corral-guard", "results": results})

    def _judged(self, user_id: int, text: str, guard: Guard) -> dict[str, object]:
        policy, verdict = self._services.policy(user_id), guard.judge(text)
        rules = {category: policy.rule(category, "prompt") for category in verdict.scores}
        return {
            "flagged": policy.decide(verdict, "prompt").blocks,
            "categories": {
                category: rules[category].action != "off" and score >= rules[category].threshold
                for category, score in verdict.scores.items()
            },
            "category_scores": {"unsafe": verdict.score, **verdict.scores},
        }

    async def _models(self, user_id: int, request: Request) -> Response:
        running = (await self._calls.model(ALIAS)).name
        adapted = [f"{running}:{name}" for name in await self._calls.adapter_names()]
        data = [self._model_object(name) for name in (running, *adapted)]
        return JSONResponse({"object": "list", "data": data})

    async def _model(self, user_id: int, request: Request) -> Response:
        wanted = await self._calls.model(request.path_params["name"])
        return JSONResponse(self._model_object(wanted.name))

    async def _describe(self, user_id: int, request: Request) -> Response:
        return JSONResponse(description(API))

    def _model_object(self, name: str) -> dict[str, object]:
        info = self._services.engine_info()
        return {
            "id": name,
            "object": "model",
            "created": int(self._services.started_at),
            "owned_by": "corral",
            "context_length": info.context_length if info else None,
        }


async def _read(request: Request, kind: type[M]) -> M:
    """The body as `kind`. Raises `ValidationError`."""
    return kind.model_validate_json(await request.body())
