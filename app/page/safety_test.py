"""The self-test in the dialog Safety: which texts, what beside it, how far it is, what came out."""

from __future__ import annotations

import json
from collections.abc import Sequence

from markupsafe import Markup

from app.explain import explain
from app.page.templates import Templates
from app.probing import ProbingView
from app.services import Services
from safety.base import PolicyInvalid
from safety.benchmark import Figures
from safety.plots import swatch
from safety.policy import PRESETS
from safety.probes import ProbesInvalid
from safety.report import Run, as_html, as_json, by_group, percent, plots
from storage.records import OWNER_ID

MAX_GROUPS = 40  # of texts in the table on the page; the files have all


class SafetyTest:
    """Renders and does. Touches the store and files: not on the event loop."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._strings = templates.strings
        self._say = templates.strings.say

    @property
    def running(self) -> bool:
        """Whether one runs now."""
        return self._services.probing.view().state == "running"

    def values(self) -> dict[str, object]:
        """What the template shows."""
        view = self._services.probing.view()
        return {
            "test": view,
            "test_said": self._said(view),
            "test_plots": plots(view.runs, self._captions()) if view.runs else "",
            "test_legend": [
                (Markup(swatch(at)), self._named(run)) for at, run in enumerate(view.runs)
            ],
            "test_rows": self._rows(view.runs),
            "test_beside": [("", self._say("safety.test.alone"))]
            + [(name, self._say(f"page.policy.{name}")) for name in PRESETS],
        }

    def act(self, mode: str, text: str) -> str:
        """Start or stop → what is said of it."""
        if mode == "test-stop":
            self._services.probing.stop()
            return self._say("safety.test.stopped")
        guard = self._services.guard.peek()
        if guard is None:
            return self._say("panels.safety.loading")
        place, policy_beside, guard_beside = _three(text)
        started = self._services.probing.start(
            guard,
            self._services.policy(OWNER_ID),
            place=place,
            beside=guard_beside or policy_beside,
        )
        return self._say("safety.test.started" if started else "safety.test.running")

    def file(self, mode: str) -> dict[str, str]:
        """Name and text of the report, as a page or as JSON."""
        runs = self._services.probing.view().runs
        if mode == "test-html":
            return {"name": "guard-report.html", "text": as_html(runs)}
        return {"name": "guard-report.json", "text": json.dumps(as_json(runs), indent=2)}

    def _captions(self) -> tuple[str, str]:
        return self._say("safety.test.precision"), self._say("safety.test.alarms")

    def _said(self, view: ProbingView) -> str:
        if view.state == "running":
            return self._say("safety.test.progress", count=view.num_done, total=view.num_total)
        if view.error is not None:
            told = explain(view.error, self._strings)
            own = str(view.error) if isinstance(view.error, ProbesInvalid) else told.detail
            return self._say("safety.test.failed", why=own or told.text)
        return ""

    def _rows(self, runs: Sequence[Run]) -> list[tuple[Markup, str, tuple[str, ...]]]:
        """A line for each run, first over all texts, then over each group: mark, name, figures."""
        rows = []
        for group, found in list((by_group(runs) if runs else {}).items())[:MAX_GROUPS]:
            for at, one in enumerate(found):
                if one is not None:
                    mark = Markup(swatch(at)) if len(runs) > 1 else Markup()
                    rows.append((mark, self._group(group), _cells(one)))
        return rows

    def _group(self, name: str) -> str:
        """A group in the reader's words, if its kind is one of our categories."""
        language, _, kind = name.partition(" ")
        key = f"guard.category.{kind}.name"
        known = f"{language} · {self._say(key)}" if key in self._strings else name
        return known or self._say("safety.test.all")

    def _named(self, run: Run) -> str:
        key = f"page.policy.{run.policy}"
        policy = self._say(key if key in self._strings else "page.policy.own")
        return f"{run.name} · {policy}"


def _cells(found: Figures) -> tuple[str, ...]:
    area = found.average_precision
    return (
        percent(found.caught),
        percent(found.false_alarms),
        "" if area is None else f"{area:.3f}",
        percent(found.attack_success),
        f"{found.median_milliseconds:.0f}",
        str(found.num_safe + found.num_unsafe),
    )


def _three(text: str) -> tuple[str, str, str]:
    """Where the texts lie, and a policy or a guard to set beside. Raises `PolicyInvalid`."""
    try:
        place, policy, guard = json.loads(text or '["", "", ""]')
    except (ValueError, TypeError) as error:
        raise PolicyInvalid("The page sent something that cannot be read.") from error
    return str(place).strip(), str(policy).strip(), str(guard).strip()
