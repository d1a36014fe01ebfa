"""A running turn belongs to the server, never to the page.

`Jobs` starts turns on threads of their own, holds what they have released so far, and lets any
number of pages follow. Closing a page ends a follower, never a turn. Fair use: one running and two
queued turns a user, sixteen queued in all, one a conversation; calls of the API stand in the same
lines. Who has used up the day's tokens starts nothing more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Event, Lock, Thread

from app.turn import Begun, Phase, Step, Task
from storage.records import OWNER_ID, Conversation, Status, Turn
from storage.store import Store

MAX_QUEUED_PER_USER = 2
MAX_QUEUED = 16
MAX_ALTERNATIVES = 8
MAX_PROMPT_CHARS = 2_000_000
MAX_RATE_ALL_HZ = 100.0  # views a second for all followers together: 20 followers get 5 Hz each

log = logging.getLogger("corral.jobs")


class JobRefused(Exception):
    """A turn was not started. `code`: one of `app.explain.REFUSALS`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Send:
    """A new prompt. No `key` begins a conversation; editing a prompt sends under its parent."""

    key: str | None
    parent_id: int | None
    text: str
    client_key: str


@dataclass(frozen=True, slots=True)
class Again:
    """Another version of the reply to a prompt; `anyway`, although the guard refused the prompt.

    `beginning` is how it starts; of a `count` above one all are written at the same time.
    """

    key: str
    prompt_id: int
    choices: Mapping[str, object] | None = None  # in place of the conversation's
    system_prompt: str | None = None
    anyway: bool = False
    beginning: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Branch:
    """Another version of a reply: as it was for `num_chars`, then `begun`, then on from there."""

    key: str
    reply_id: int
    num_chars: int
    begun: Begun


@dataclass(frozen=True, slots=True)
class Continue:
    """Write on where a stopped, interrupted or length-ended reply broke off.

    `anyway` also where the guard ended it: first what was held back, if that is kept.
    """

    key: str
    reply_id: int
    anyway: bool = False


Request = Send | Again | Branch | Continue


@dataclass(frozen=True, slots=True)
class JobView:
    """What a page may know of a running turn. `text` is the whole reply as far as released.

    Times are `time.time()` seconds, 0.0 while it has not happened.
    """

    phase: Phase = "waiting"
    text: str = ""
    waiting_for: str = ""
    num_prefilled: int = 0
    num_prompt: int = 0
    num_new: int = 0
    num_held: int = 0
    tokens_per_second: float = 0.0
    status: Status = "streaming"
    error_code: str = ""
    place_in_queue: int = 0
    started_at: float = 0.0
    emitted_at: float = 0.0  # the engine gave its first text
    released_at: float = 0.0  # the gate let the first text through


class Job:
    """One turn that runs, and whoever follows it."""

    def __init__(self, task: Task, client_key: str = "") -> None:
        self.task = task
        self.client_key = client_key
        self.user_id = task.conversation.user_id
        self.key = task.conversation.key
        self.prompt_id = task.turn.prompt.id
        self.reply_id = task.turn.reply.id
        self.cancel = Event()
        self._lock = Lock()
        self._view = JobView(text=task.turn.reply.content)
        self._texts: list[str] = [task.turn.reply.content]
        self.beside: tuple[Job, ...] = ()  # other replies to the same prompt, written meanwhile
        self._followers: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def view(self) -> JobView:
        """How far it is. Does not block."""
        with self._lock:
            # Joined only when somebody looks: appending stays O(1) however long the reply grows.
            text = "".join(self._texts)
            self._texts = [text]
            return replace(self._view, text=text)

    async def follow(self, rate_hz: Callable[[], float] = lambda: 20.0) -> AsyncIterator[JobView]:
        """Yield views as they change, at most `rate_hz()` a second, until the turn has ended.

        The first change after a pause is seen at once; the last view has phase "ended".
        """
        changed = asyncio.Event()
        with self._lock:
            self._followers[changed] = asyncio.get_running_loop()
        try:
            while True:
                changed.clear()
                view = self.view()
                yield view
                if view.phase == "ended":
                    return
                await asyncio.sleep(1.0 / rate_hz())
                await changed.wait()
        finally:
            with self._lock:
                self._followers.pop(changed, None)

    def apply(self, step: Step) -> None:
        """Take over what `step` says. Called by the turn's own thread only."""
        now = time.time()
        with self._lock:
            old = self._view
            if step.text:
                self._texts.append(step.text)
            emitted_at = old.emitted_at or (now if step.num_new else 0.0)
            writing_for = now - emitted_at if emitted_at else 0.0
            num_new = max(step.num_new, old.num_new)
            self._view = JobView(
                phase=step.phase,
                waiting_for=step.waiting_for,
                num_prefilled=max(step.num_prefilled, old.num_prefilled),
                num_prompt=step.num_prompt or old.num_prompt,
                num_new=num_new,
                num_held=step.num_held,
                tokens_per_second=(num_new - 1) / writing_for if writing_for > 0 else 0.0,
                status=step.status,
                error_code=step.error_code,
                started_at=old.started_at or now,
                emitted_at=emitted_at,
                released_at=old.released_at or (now if step.text else 0.0),
            )
        self._wake()

    def queue_at(self, place: int) -> None:
        """Say how many turns stand before this one."""
        with self._lock:
            self._view = replace(self._view, place_in_queue=place)
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            followers = [(e, loop) for e, loop in self._followers.items() if not e.is_set()]
        for event, loop in followers:
            # A loop that closed under its follower has nobody left to tell.
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)


class Call:
    """A call of the API: it stands in its user's line and is answered by whoever made it."""

    key = client_key = ""

    def __init__(self, user_id: int) -> None:
        self.user_id = user_id
        self.cancel = Event()
        self.started = Event()  # it is this call's turn
        self.place_in_queue = 0

    def queue_at(self, place: int) -> None:
        """Note how many turns stand before this one."""
        self.place_in_queue = place

    def wait(self) -> bool:
        """Block until it is this call's turn; false if it was cancelled before."""
        while not self.started.wait(timeout=0.05):
            if self.cancel.is_set():
                return False
        return not self.cancel.is_set()


class Jobs:
    """All running and queued turns. Safe to call from any thread."""

    def __init__(
        self,
        store: Store,
        *,
        task_for: Callable[[Conversation, Turn], Task],
        run: Callable[[Task, Event], Iterator[Step]],
        closing: Event,
    ) -> None:
        self._store = store
        self._task_for = task_for
        self._run = run
        self._closing = closing
        self._starting = Lock()  # one start at a time: the same click twice must not start twice
        self._lock = Lock()
        self._running: dict[int, Job | Call] = {}  # user id → the turn that runs
        self._queues: dict[int, list[Job | Call]] = {}
        self._threads: set[Thread] = set()

    def start(self, user_id: int, request: Request) -> Job:
        """Store what was asked and begin to answer it, or queue it. Does not wait for the answer.

        Raises `JobRefused` before anything is stored, or `StorageError`.
        """
        client_key = request.client_key if isinstance(request, Send) else ""
        with self._starting:
            known = self._check(user_id, request, client_key)
            if known is not None:
                return known
            # The last one is shown while they are written, so it is begun last.
            beside = [self._stored(user_id, request)[1] for _ in range(_num_beside(request))]
            conversation, turn = self._stored(user_id, request)
            task = self._task_for(conversation, turn)
            task = self._as_requested(task, request)
            job = Job(task, client_key)
            job.beside = tuple(self._alternative(job, n, other) for n, other in enumerate(beside))
            if turn.reply.status != "streaming":  # this click was answered before
                job.apply(Step("ended", status=turn.reply.status))
                return job
            with self._lock:
                self._line_up(job)
            return job

    def enter(self, user_id: int) -> Call:
        """A place for a call of the API; the caller `wait`s for it and must `leave`.

        Raises `JobRefused` or `StorageError`.
        """
        if self._closing.is_set():
            raise JobRefused("closed")
        self._check_quota(user_id)
        call = Call(user_id)
        with self._lock:
            self._check_lines(user_id)
            self._line_up(call)
        return call

    def leave(self, call: Call) -> None:
        """Give the place of `call` to the next in line. May be repeated."""
        with self._lock:
            if self._running.get(call.user_id) is call:
                self._next(call.user_id)
            elif call in (queue := self._queues.get(call.user_id, [])):
                queue.remove(call)
                self._number(call.user_id)

    def running(self, user_id: int, key: str) -> Job | None:
        """The turn that runs or waits in this conversation."""
        with self._lock:
            found = self._find(user_id, key)
            return found if isinstance(found, Job) else None

    def running_keys(self, user_id: int) -> frozenset[str]:
        """Conversations of this user in which a turn runs or waits."""
        with self._lock:
            return frozenset(job.key for job in self._of(user_id) if job.key)

    def stop(self, user_id: int, key: str) -> bool:
        """End the turn of this conversation within one decode step; true if there was one."""
        with self._lock:
            job = self._find(user_id, key)
            if job is None:
                return False
            job.cancel.set()
            return True

    def rate_hz(self) -> float:
        """How often one follower may look, so that all of them leave the interpreter free."""
        with self._lock:
            jobs = [*self._running.values()]
        followers = sum(len(job._followers) for job in jobs if isinstance(job, Job))
        return min(20.0, MAX_RATE_ALL_HZ / max(1, followers))

    def close(self, timeout: float = 10.0) -> None:
        """Stop every turn, keep what it wrote, and wait until it is stored."""
        self._closing.set()
        with self._lock:
            jobs = [job for user_id in {*self._running, *self._queues} for job in self._of(user_id)]
            threads = [*self._threads]
        for job in jobs:
            job.cancel.set()
        deadline = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # -- inside; the lock is held by callers of the methods below unless they say otherwise --

    def _check(self, user_id: int, request: Request, client_key: str) -> Job | None:
        """Refuse what must not be started, before anything is stored. Takes the lock.

        Returns the job that this very click has started already, if any.
        """
        if self._closing.is_set():
            raise JobRefused("closed")
        if isinstance(request, Send):
            if not request.text.strip():
                raise JobRefused("empty")
            if len(request.text) > MAX_PROMPT_CHARS:
                raise JobRefused("too_long")
        with self._lock:
            for job in self._of(user_id):
                if isinstance(job, Call):
                    continue
                if client_key and job.client_key == client_key:
                    return job
                if job.key == request.key:
                    raise JobRefused("running")
            self._check_lines(user_id)
        self._check_quota(user_id)
        return None

    def _check_lines(self, user_id: int) -> None:
        """That there is room to run, or to wait, for one more of this user."""
        if user_id not in self._running:
            return
        if len(self._queues.get(user_id, ())) >= MAX_QUEUED_PER_USER:
            raise JobRefused("queue_full")
        if sum(map(len, self._queues.values())) >= MAX_QUEUED:
            raise JobRefused("queue_full")

    def _check_quota(self, user_id: int) -> None:
        """That the user has tokens left for today. Blocks; no lock is needed."""
        if self._store.people.tokens_left(user_id) == 0:
            raise JobRefused("quota")

    def _line_up(self, job: Job | Call) -> None:
        if job.user_id in self._running:
            self._queues.setdefault(job.user_id, []).append(job)
            self._number(job.user_id)
        else:
            self._begin(job)

    def _stored(self, user_id: int, request: Request) -> tuple[Conversation, Turn]:
        store = self._store
        match request:
            case Send(key, parent_id, text, client_key):
                key = key or store.create_conversation(user_id).key
                turn = store.begin_turn(
                    user_id, key, parent_id=parent_id, text=text, client_key=client_key
                )
            case Again(key, prompt_id):
                turn = store.begin_reply(
                    user_id, key, prompt_id=prompt_id, beginning=request.beginning
                )
            case Branch(key, reply_id, num_chars):
                turn = store.begin_branch(user_id, key, reply_id=reply_id, num_chars=num_chars)
            case Continue(key, reply_id):
                turn = store.resume_reply(
                    user_id, key, reply_id=reply_id, although_cut=request.anyway
                )
        conversation = store.conversation(user_id, key)
        if isinstance(request, Again):
            conversation = _as_asked(conversation, request)
        return conversation, turn

    def _as_requested(self, task: Task, request: Request) -> Task:
        """The task with what this request alone asks for.

        Only the owner may ask to see what the guard stopped, and only if the policy allows it;
        for anybody else the guard judges as always.
        """
        if isinstance(request, Branch):
            return replace(task, begun=request.begun)
        if not isinstance(request, Again | Continue) or not request.anyway:
            return task
        user_id = task.conversation.user_id
        task = replace(task, override=user_id == OWNER_ID and task.policy.may_override)
        if isinstance(request, Continue) and task.override:
            held = self._store.withheld(user_id, request.key, request.reply_id)
            task = replace(task, begun=Begun((), held))
        return task

    def _alternative(self, job: Job, number: int, turn: Turn) -> Job:
        """A job beside `job`: stopped with it, and with another seed where one is fixed."""
        sampling = job.task.sampling
        if sampling.seed is not None:
            sampling = replace(sampling, seed=(sampling.seed + number + 1) % 2**64)
        beside = Job(replace(job.task, turn=turn, sampling=sampling))
        beside.cancel = job.cancel
        return beside

    def _of(self, user_id: int) -> list[Job | Call]:
        running = self._running.get(user_id)
        return [*([running] if running else []), *self._queues.get(user_id, ())]

    def _find(self, user_id: int, key: str) -> Job | Call | None:
        return next((job for job in self._of(user_id) if key and job.key == key), None)

    def _begin(self, job: Job | Call) -> None:
        self._running[job.user_id] = job
        if isinstance(job, Call):
            job.started.set()
            return
        beside = [self._thread(self._write, other) for other in job.beside]
        self._thread(self._answer, job, beside)

    def _thread(self, work: Callable[..., None], job: Job, *more: object) -> Thread:
        thread = Thread(target=work, args=(job, *more), name=f"turn-{job.reply_id}", daemon=True)
        self._threads.add(thread)
        thread.start()
        return thread

    def _answer(self, job: Job, beside: Sequence[Thread]) -> None:
        """The turn's own thread; it ends after those beside it. Takes the lock at its end."""
        last = self._written(job)
        for thread in beside:
            thread.join()
        self._leave(job)
        # After it left: whoever hears of the end may at once start the next turn.
        job.apply(last)

    def _write(self, job: Job) -> None:
        """The thread of a reply beside another."""
        job.apply(self._written(job))

    def _written(self, job: Job) -> Step:
        """Run a turn to its end; its last step."""
        last = Step("ended", status="error", error_code="Unknown")
        try:
            for step in self._run(job.task, job.cancel):
                if step.phase == "ended":
                    last = step
                else:
                    job.apply(step)
        except Exception as error:
            # The store could not take the end of the turn; what it took before is there.
            log.exception("turn %d was not stored to its end", job.reply_id)
            last = Step("ended", status="error", error_code=type(error).__name__)
        return last

    def _leave(self, job: Job) -> None:
        with self._lock:
            self._threads = {t for t in self._threads if t.is_alive()}
            self._next(job.user_id)

    def _next(self, user_id: int) -> None:
        """Let the first in the user's line begin."""
        self._running.pop(user_id, None)
        if queue := self._queues.get(user_id):
            self._begin(queue.pop(0))
        self._number(user_id)

    def _number(self, user_id: int) -> None:
        """Tell those who wait their places."""
        queue = self._queues.get(user_id, [])
        for place, waiting in enumerate(queue, start=1):
            waiting.queue_at(place)
        if not queue:
            self._queues.pop(user_id, None)


def _num_beside(request: Request) -> int:
    return min(request.count, MAX_ALTERNATIVES) - 1 if isinstance(request, Again) else 0


def _as_asked(conversation: Conversation, request: Again) -> Conversation:
    """The conversation with what this one answer is to be made with; nothing is stored."""
    if request.choices is not None:
        conversation = replace(conversation, choices=request.choices)
    if request.system_prompt is not None:
        conversation = replace(conversation, system_prompt=request.system_prompt)
    return conversation
