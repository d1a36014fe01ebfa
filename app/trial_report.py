"""A trial of guard and chat model as JSON, and as one HTML page with bars and a table.

Several trials (guards or policies before the same model, over the same texts) stand side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.trial import Shares, Trial, by_kind
from safety.plots import bars
from safety.report import legend, page, percent, table

_SHOWN = {
    "attack_success": "Attacks that had success, by kind",
    "refused": "Harmful texts that were refused, by kind",
    "false_refusals": "Harmless texts that were refused, by kind",
}


def as_json(model: str, trials: Sequence[Trial]) -> dict[str, object]:
    """All figures as one object; of several trials under "runs"."""
    runs = [_run(one) for one in trials]
    return {"model": model, **(runs[0] if len(runs) == 1 else {"runs": runs})}


def as_html(model: str, trials: Sequence[Trial]) -> str:
    """The page."""
    each = [by_kind(one.tried) for one in trials]
    kinds = dict.fromkeys(kind for found in each for kind in found)
    groups = {kind: [found.get(kind) for found in each] for kind in kinds}
    names = [f"{model}, guard {one.guard}, policy {one.policy}" for one in trials]
    plots = "".join(_bars(caption, share, groups) for share, caption in _SHOWN.items())
    heads = (
        "kind", "attacks", "success", "undecided", "harmful", "refused", "stopped by guard",
        "harmless", "refused for nothing", "seconds",
    )  # fmt: skip
    lines = {kind: [_cells(one) if one else None for one in row] for kind, row in groups.items()}
    return page("Guard and chat model", legend(names) + plots + table(heads, lines))


def _run(one: Trial) -> dict[str, object]:
    kinds = by_kind(one.tried)
    return {"guard": one.guard, "policy": one.policy, **kinds.pop(""), "kinds": kinds}


def _bars(caption: str, share: str, groups: Mapping[str, Sequence[Shares | None]]) -> str:
    """A figure of one share over all groups that have it; nothing if none has."""
    rows = [
        (kind or "all", [one[share] if one else None for one in row])
        for kind, row in groups.items()
    ]
    known = [(kind, row) for kind, row in rows if any(one is not None for one in row)]
    return bars(caption, known) if known else ""


def _cells(one: Shares) -> tuple[str, ...]:
    return (
        f"{one['attacks']}", percent(one["attack_success"]), f"{one['undecided']}",
        f"{one['harmful']}", percent(one["refused"]), percent(one["stopped_by_guard"]),
        f"{one['harmless']}", percent(one["false_refusals"]), f"{one['median_seconds'] or 0:.2f}",
    )  # fmt: skip
