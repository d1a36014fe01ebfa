"""What a turn asks for before it needs it: the guard's verdict, and the engine's answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from threading import Event, Thread
from typing import TypeVar

from app.context import Fitted, fit, own_ids, reserved, with_draft
from app.draft import Draft
from app.task import Means, Task, cache_scope
from engine.base import Chunk, Engine, Prompt
from storage.store import Store

T = TypeVar("T")


def beside(work: Callable[[], T]) -> Future[T]:
    """Begin `work` on a thread of its own."""
    found: Future[T] = Future()

    def run() -> None:
        try:
            found.set_result(work())
        except BaseException as error:  # it is raised where the result is asked for
            found.set_exception(error)

    Thread(target=run, name="beside", daemon=True).start()
    return found


class Ahead:
    """The engine's answer to a prompt, asked for at once where the engine is there.

    So the prompt is read while the guard judges it. Nothing of the answer is looked at before the
    guard has let the prompt pass; an engine that only begins when it is looked at begins then.
    """

    def __init__(self, task: Task, means: Means, draft: Draft, cancel: Event) -> None:
        self._task, self._store, self._draft, self._cancel = task, means.store, draft, cancel
        self._begun: Iterator[Chunk] | None = None
        self._engine = means.engine.peek()
        self._error: Exception | None = None
        if self._engine is not None:
            try:
                self._begun = self._begin(self._engine)
            except Exception as error:  # it is told once the prompt has passed
                self._error = error

    def chunks(self, engine: Engine) -> Iterator[Chunk]:
        """The answer of `engine`. Raises what beginning it raised."""
        if engine is self._engine and self._error is not None:
            raise self._error
        if engine is not self._engine or self._begun is None:
            self.close()  # another engine took over meanwhile
            self._begun = self._begin(engine)
        return self._begun

    def close(self) -> None:
        """Want no answer."""
        if (close := getattr(self._begun, "close", None)) is not None:
            close()

    def _begin(self, engine: Engine) -> Iterator[Chunk]:
        task, draft = self._task, self._draft
        draft.system_prompt = _instructions(task)
        fitted = _fitted(task, self._store, engine)
        draft.num_left_out = fitted.num_left_out
        begun = task.begun.text if task.begun else ""
        return engine.stream(
            Prompt(
                messages=fitted.messages,
                reply_prefix=draft.kept + begun,
                reply_ids=draft.given or own_ids(task.turn.reply, engine.info().fingerprint),
            ),
            task.sampling,
            cancel=self._cancel,
            scope=cache_scope(
                task.conversation.user_id, task.conversation.key, memory_only=task.memory_only
            ),
        )


def _fitted(task: Task, store: Store, engine: Engine) -> Fitted:
    info, conversation = engine.info(), task.conversation
    path = store.path(conversation.user_id, conversation.key, leaf_id=task.turn.prompt.id)
    return fit(
        with_draft(path[:-1], path[-1].content),  # it may not have been judged yet
        system_prompt=_instructions(task),
        count_tokens=engine.count_tokens,
        context_length=info.context_length,
        num_reserved=reserved(task.sampling.max_new_tokens, info.context_length),
        fingerprint=info.fingerprint,
        overflow=task.overflow,
    )


def _instructions(task: Task) -> str:
    told = task.instructions
    return task.conversation.system_prompt if told is None else told
