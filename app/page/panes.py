"""The parts of the page that change, each one `gr.HTML`, and what a handler may send to them.

A pane's value is data: `{"items": [[id, html], ...]}` and a few words beside it. The static script
paints it, and touches only the items that changed. Nothing passes through Gradio's templates,
which would run `${...}` in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

Item = tuple[str, str]  # stable id, HTML with one root element
Update = Any  # what Gradio takes: one value a pane, in the order of a handler's panes

_ON_LOAD = "(window.corral = window.corral || []).push({pane: '%s', element, props, watch})"
_FIXED = "(window.corral = window.corral || []).push({fixed: '%s', element})"


@dataclass(frozen=True, slots=True)
class Panes:
    """The components that handlers may send values to."""

    listing: gr.HTML
    head: gr.HTML
    window: gr.HTML
    live: gr.HTML
    foot: gr.HTML
    note: gr.HTML
    found: gr.HTML
    panel: gr.HTML
    meter: gr.HTML


# What the handlers of a kind return, in this order. Gradio builds a component anew for each pane
# that a handler skips, which costs 2 ms: a handler names as few as it can.
EVERYTHING = ("listing", "head", "window", "live", "foot", "note")
SIDE = ("listing", "note")
LIVE = ("live",)
FOOT = ("foot",)
FOUND = ("found",)


def pane(name: str) -> gr.HTML:
    """An empty pane that the script paints."""
    return gr.HTML(
        html_template="",
        js_on_load=_ON_LOAD % name,
        elem_id=name,
        apply_default_css=False,
        padding=False,
    )


def fixed(name: str) -> gr.HTML:
    """A part that never changes: the script takes it from the page's head, in its language."""
    return gr.HTML(
        html_template="",
        js_on_load=_FIXED % name,
        elem_id=name,
        apply_default_css=False,
        padding=False,
    )


def show(names: Sequence[str], **values: object) -> Update:
    """New values for some of the panes in `names`; the others stay as they are."""
    unknown = set(values) - set(names)
    assert not unknown, f"this handler does not paint {unknown}"
    update = tuple(values.get(name, gr.skip()) for name in names)
    return update if len(update) > 1 else update[0]  # Gradio takes a single value as it is


def items(rows: Sequence[Item], **beside: object) -> dict[str, object]:
    """The value of a pane."""
    return {"items": [list(row) for row in rows], **beside}
