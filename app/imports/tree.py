"""Messages of another program → a tree of ours: what can be kept of it, parents first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Source = str  # "corral", "chatgpt", "claude" or "open_webui"


@dataclass(frozen=True, slots=True)
class Found:
    """One conversation of a file: a document, or None with `problem`; what of it is left out."""

    source: Source
    title: str
    document: dict[str, Any] | None
    num_left_out: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A message as another program keeps it. `text` None: nothing that can be kept."""

    id: str
    parent: str | None
    role: str
    text: str | None
    at: int | None = None  # ms


def found(
    source: Source,
    row: Mapping[str, Any],
    nodes: Sequence[Node],
    leaf: str | None,
    title_name: str,
    time_name: str,
) -> Found:
    """A conversation of `nodes`. `row` holds its title and times under the names given."""
    title = string(row.get(title_name))
    messages, numbers, num_left_out = _tree(nodes)
    if not messages:
        return Found(source, title, None, num_left_out, problem="no_messages")
    times = [m["created_at"] for m in messages if m["created_at"]]
    begun = milliseconds(row.get(time_name)) or min(times, default=None)
    updated_name = time_name.replace("create", "update")  # create_time, created_at → update…
    document = {
        "title": title,
        "created_at": begun,
        "updated_at": milliseconds(row.get(updated_name)) or max(times, default=begun),
        "messages": messages,
        "active_leaf": _leaf(messages, numbers.get(leaf or "")),
    }
    return Found(source, title, document, num_left_out)


def _tree(nodes: Sequence[Node]) -> tuple[list[dict[str, Any]], dict[str, int], int]:
    """Messages parents first, the number of each node's message, and how many were left out.

    What cannot be kept (tools, images, empty nodes, our own of another program) hands its children
    to its parent. A circle has no beginning and is left out.
    """
    by_parent: dict[str | None, list[Node]] = {}
    known = {node.id for node in nodes}
    for node in nodes:
        by_parent.setdefault(node.parent if node.parent in known else None, []).append(node)
    messages: list[dict[str, Any]] = []
    numbers: dict[str, int] = {}
    num_left_out = 0
    waiting = [(node, 0) for node in reversed(by_parent.get(None, []))]
    while waiting:
        node, parent = waiting.pop()
        number = parent
        if node.role in ("user", "assistant") and node.text:
            number = len(messages) + 1
            messages.append(_message(number, parent or None, node))
        elif node.text and node.role != "system":
            num_left_out += 1
        numbers[node.id] = number
        waiting += [(child, number) for child in reversed(by_parent.pop(node.id, []))]
    return _answered(messages), numbers, num_left_out


def _message(number: int, parent: int | None, node: Node) -> dict[str, Any]:
    unchecked = {
        "stage": "prompt",
        "guard": "imported",
        "guard_version": "",
        "action": "unchecked",
        "score": 0.0,
    }
    return {
        "id": number,
        "parent": parent,
        "role": node.role,
        "status": "done",
        "content": node.text,
        "created_at": node.at,
        "verdicts": [unchecked] if node.role == "user" else [],
    }


def _answered(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With an empty, interrupted reply to each prompt that nothing follows: so it can be asked."""
    parents = {message["parent"] for message in messages}
    last = [m for m in messages if m["role"] == "user" and m["id"] not in parents]
    for prompt in last:
        reply = {"id": len(messages) + 1, "parent": prompt["id"], "role": "assistant"}
        messages.append(
            {**reply, "status": "interrupted", "content": "", "created_at": prompt["created_at"]}
        )
    return messages


def _leaf(messages: Sequence[Mapping[str, Any]], number: int | None) -> int:
    """The newest message below `number`: a conversation goes on from a leaf."""
    leaf = number or messages[-1]["id"]
    for message in messages:
        if message["parent"] == leaf:
            leaf = message["id"]
    return int(leaf)


def string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def identity(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def milliseconds(value: Any) -> int | None:
    """A time in seconds, milliseconds, microseconds or nanoseconds, or as ISO 8601, in ms."""
    try:
        if isinstance(value, str):
            return int(datetime.fromisoformat(value).timestamp() * 1000)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            return None
        scale = next(
            s for s, top in ((1e3, 1e11), (1, 1e14), (1e-3, 1e17), (1e-6, 1e20)) if value < top
        )
        return int(value * scale)
    except (ValueError, OverflowError, StopIteration):
        return None
