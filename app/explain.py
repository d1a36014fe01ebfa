"""Every error, status and verdict as a sentence with the next step.

What happened, why, and what to do next, in the reader's words: the sentences stand in
`assets/strings/*/errors.json` and `guard.json` under the name of the error class, the refusal's
code, the status or the category. Nothing here decides anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.details import translated
from app.requests import JobRefused
from app.strings import Strings
from engine.errors import EngineError
from safety.base import GuardError
from storage.records import Status, StorageError, VerdictRecord

_UNEXPECTED = "unexpected"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a person reads. Plain text: whoever shows it as HTML escapes it.

    `detail` is the error's own sentence where it is one of ours (a path, a number), in the language
    of the page, else empty; `help` is for somebody who may be in danger.
    """

    title: str
    text: str
    action: str
    detail: str = ""
    help: str = ""


def explain(error: BaseException | str, strings: Strings) -> Explanation:
    """Explain an error, or the `error_code` that was stored for it (its class name)."""
    if isinstance(error, JobRefused):
        return _say(f"refused.{error.code}", strings)
    if isinstance(error, str):
        return _say(error, strings)
    ours = isinstance(error, EngineError | GuardError | StorageError)
    for kind in type(error).__mro__:  # the nearest class that has a sentence of its own
        if f"errors.{kind.__name__}.title" in strings:
            return _say(kind.__name__, strings, translated(str(error), strings) if ours else "")
    return _say(_UNEXPECTED, strings)


def headline(told: Explanation, strings: Strings) -> str:
    """The title as a sentence, to stand before others."""
    return strings.say("page.notice.headline", title=told.title)


def explain_status(status: Status, strings: Strings) -> Explanation:
    """Explain how a message ended."""
    return _say(f"status.{status}", strings)


def explain_verdict(verdict: VerdictRecord, strings: Strings, contacts: str = "") -> Explanation:
    """Explain what the guard found in a prompt or reply and what was done.

    `contacts`: whom the owner would have called by somebody who thinks of harming themselves.
    """
    prompt = verdict.stage == "prompt"
    if verdict.action == "unchecked":
        key = "unchecked"
    elif verdict.reason:
        key = "failed_prompt" if prompt else "failed_reply"
    elif verdict.action == "allow":
        key = "allowed"
    else:
        done = {"warn": "warned", "log": "logged"}
        key = done.get(verdict.action, "blocked_prompt" if prompt else "cut_reply")
        if not verdict.category:
            key += "_overall"
    numbers = {
        "category": found(verdict.category, strings),
        "score": f"{verdict.score:.2f}",
        "threshold": f"{verdict.threshold:.2f}",
    }
    help = ""
    if verdict.category == "self_harm" and key != "allowed":
        help = "\n".join(filter(None, (strings.say("guard.self_harm_help"), contacts)))
    return Explanation(
        strings.say(f"guard.{key}.title", **numbers),
        strings.say(f"guard.{key}.text", **numbers),
        strings.say(f"guard.{key}.action", **numbers),
        help=help,
    )


def found(category: str, strings: Strings) -> str:
    """A category in the middle of a sentence; one of another taxonomy by its own key."""
    key = f"guard.category.{category}.found"
    return strings.say(key) if key in strings else category.replace("_", " ")


def _say(name: str, strings: Strings, detail: str = "") -> Explanation:
    if f"errors.{name}.title" not in strings:
        name = _UNEXPECTED
    title, text, action = (strings.say(f"errors.{name}.{p}") for p in ("title", "text", "action"))
    return Explanation(title, text, action, detail)
