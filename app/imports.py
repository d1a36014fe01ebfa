"""Conversations of other programs → documents in the layout of `storage.export`.

Read are our own exports and those of ChatGPT (`conversations.json`, or the zip it comes in),
Claude (the same name, another layout) and Open WebUI. What a program left out or spelled otherwise
is passed over: one conversation that cannot be read never spoils the others, and each one that
can be is given with what was lost of it.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

from storage.export import FORMAT

MAX_BYTES = 512 << 20  # unpacked; years of daily use stay far below
Source = str  # "corral", "chatgpt", "claude" or "open_webui"


class ImportInvalid(ValueError):
    """The file as a whole is nothing that can be imported. `code` names the sentence for it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


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


def read(content: bytes) -> Iterator[Found]:
    """Each conversation of a JSON or zip file. Raises `ImportInvalid`."""
    for text in _texts(content):
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ImportInvalid("unreadable") from error
        yield from _conversations(parsed)


def _texts(content: bytes) -> Iterator[bytes]:
    """The JSON in a file: itself, or all `conversations*.json` of an archive."""
    if not zipfile.is_zipfile(BytesIO(content)):
        yield content
        return
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = [i for i in archive.infolist() if _is_conversations(i.filename)]
            if not names:
                raise ImportInvalid("empty")
            if sum(info.file_size for info in names) > MAX_BYTES:
                raise ImportInvalid("too_big")
            for info in names:
                with archive.open(info) as file:
                    yield file.read(MAX_BYTES)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise ImportInvalid("unreadable") from error


def _is_conversations(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.startswith(("conversations", "corral", "chat")) and name.endswith(".json")


def _conversations(parsed: Any) -> Iterator[Found]:
    if isinstance(parsed, dict) and parsed.get("format") == FORMAT:
        rows = parsed.get("conversations")
    elif isinstance(parsed, dict) and isinstance(parsed.get("conversations"), list):
        rows = parsed["conversations"]
    else:
        rows = parsed if isinstance(parsed, list) else [parsed]
    if not isinstance(rows, list) or not rows:
        raise ImportInvalid("empty")
    for row in rows:
        yield _one(row)


def _one(row: Any) -> Found:
    if not isinstance(row, dict):
        return Found("", "", None, problem="unknown")
    if isinstance(row.get("mapping"), dict):
        return _chatgpt(row)
    if isinstance(row.get("chat_messages"), list):
        return _claude(row)
    if isinstance(row.get("chat"), dict):
        return _open_webui(row, row["chat"])
    if isinstance(row.get("messages"), list):
        return Found("corral", _string(row.get("title")), row)
    return Found("", _string(row.get("title") or row.get("name")), None, problem="unknown")


def _chatgpt(row: Mapping[str, Any]) -> Found:
    """A tree of nodes by id; some have no message, some are the program's own."""
    nodes = []
    for key, value in row["mapping"].items():
        entry = value if isinstance(value, dict) else {}
        message = entry.get("message")
        message = message if isinstance(message, dict) else {}
        author = message.get("author")
        role = _string(author.get("role")) if isinstance(author, dict) else ""
        text = _parts(message.get("content"))
        nodes.append(
            Node(
                key, _id(entry.get("parent")), role, text, _milliseconds(message.get("create_time"))
            )
        )
    return _found("chatgpt", row, nodes, _id(row.get("current_node")), "title", "create_time")


def _parts(content: Any) -> str | None:
    """The text of a ChatGPT message: `parts` of strings (and of images, which are left out)."""
    if not isinstance(content, dict):
        return None
    parts = content.get("parts")
    if isinstance(parts, list):
        texts = [part if isinstance(part, str) else _text_of(part) for part in parts]
        return "\n\n".join(filter(None, texts)) or None
    text = content.get("text")
    return text if isinstance(text, str) and text else None


def _claude(row: Mapping[str, Any]) -> Found:
    """A list, in which newer exports name each message's parent."""
    nodes: list[Node] = []
    known = {_id(m.get("uuid")) for m in row["chat_messages"] if isinstance(m, dict)}
    for number, message in enumerate(row["chat_messages"]):
        if not isinstance(message, dict):
            continue
        sender = _string(message.get("sender"))
        role = {"human": "user"}.get(sender, sender)
        content = message.get("content")
        parts = [_text_of(part) for part in content] if isinstance(content, list) else []
        text = "\n\n".join(filter(None, parts)) or _string(message.get("text"))
        parent = _id(message.get("parent_message_uuid"))
        if parent not in known:  # the first one names a root that is not in the file
            parent = nodes[-1].id if nodes and "parent_message_uuid" not in message else None
        key = _id(message.get("uuid")) or f"#{number}"
        at = _milliseconds(message.get("created_at"))
        nodes.append(Node(key, parent, role, text or None, at))
    leaf = _id(row.get("current_leaf_message_uuid")) or (nodes[-1].id if nodes else None)
    return _found("claude", row, nodes, leaf, "name", "created_at")


def _open_webui(row: Mapping[str, Any], chat: Mapping[str, Any]) -> Found:
    """A tree in `history.messages`; older exports have a plain list only."""
    history = chat.get("history")
    messages = history.get("messages") if isinstance(history, dict) else None
    leaf = _id(history.get("currentId")) if isinstance(history, dict) else None
    nodes: list[Node] = []
    if isinstance(messages, dict) and messages:
        for key, message in messages.items():
            if isinstance(message, dict):
                nodes.append(_webui_node(key, _id(message.get("parentId")), message))
    else:
        listed = chat.get("messages")
        for number, message in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(message, dict):
                parent = nodes[-1].id if nodes else None
                nodes.append(_webui_node(f"#{number}", parent, message))
        leaf = nodes[-1].id if nodes else None
    found = _found("open_webui", {**chat, **row}, nodes, leaf, "title", "created_at")
    if found.document is not None:
        meta = row.get("meta")
        tags = meta.get("tags") if isinstance(meta, dict) else None
        found.document["tags"] = tags if isinstance(tags, list) else []
        found.document["pinned"] = row.get("pinned") is True
        if row.get("archived") is True:
            found.document["archived_at"] = found.document["updated_at"]
    return found


def _webui_node(key: str, parent: str | None, message: Mapping[str, Any]) -> Node:
    content = message.get("content")
    text = content if isinstance(content, str) else _text_of({"content": content})
    at = _milliseconds(message.get("timestamp"))
    return Node(key, parent, _string(message.get("role")), text or None, at)


def _text_of(part: Any) -> str:
    """The text of a part, whatever it calls it; "" for images, tools and the like."""
    if not isinstance(part, dict) or part.get("type") not in (None, "text", "output_text"):
        return ""
    return next((part[n] for n in ("text", "content") if isinstance(part.get(n), str)), "")


def _found(
    source: Source, row: Mapping[str, Any], nodes: Sequence[Node], leaf: str | None,
    title_name: str, time_name: str,
) -> Found:  # fmt: skip
    title = _string(row.get(title_name))
    messages, numbers, num_left_out = _tree(nodes)
    if not messages:
        return Found(source, title, None, num_left_out, problem="no_messages")
    times = [m["created_at"] for m in messages if m["created_at"]]
    begun = _milliseconds(row.get(time_name)) or min(times, default=None)
    name = time_name.replace(
        "create", "update"
    )  # create_time, created_at → update_time, updated_at
    document = {
        "title": title,
        "created_at": begun,
        "updated_at": _milliseconds(row.get(name)) or max(times, default=begun),
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
    verdicts = [dict(stage="prompt", guard="imported", guard_version="", action="unchecked",
                     score=0.0)] if node.role == "user" else []  # fmt: skip
    return {
        "id": number,
        "parent": parent,
        "role": node.role,
        "status": "done",
        "content": node.text,
        "created_at": node.at,
        "verdicts": verdicts,
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


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _id(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _milliseconds(value: Any) -> int | None:
    """A time in seconds, milliseconds, microseconds or nanoseconds, or as ISO 8601, in ms."""
    try:
        if isinstance(value, str):
            return int(datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp() * 1000)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            return None
        scale = next(
            s for s, top in ((1e3, 1e11), (1, 1e14), (1e-3, 1e17), (1e-6, 1e20)) if value < top
        )
        return int(value * scale)
    except (ValueError, OverflowError, StopIteration):
        return None
