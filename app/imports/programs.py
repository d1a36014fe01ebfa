"""How ChatGPT, Claude and Open WebUI write a conversation down: three readers, one each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.imports.tree import Found, Node, found, identity, milliseconds, string


def chatgpt(row: Mapping[str, Any]) -> Found:
    """A tree of nodes by id; some have no message, some are the program's own."""
    nodes = []
    for key, value in row["mapping"].items():
        entry = value if isinstance(value, dict) else {}
        message = entry.get("message")
        message = message if isinstance(message, dict) else {}
        author = message.get("author")
        role = string(author.get("role")) if isinstance(author, dict) else ""
        text = _parts(message.get("content"))
        nodes.append(
            Node(
                key,
                identity(entry.get("parent")),
                role,
                text,
                milliseconds(message.get("create_time")),
            )
        )
    return found("chatgpt", row, nodes, identity(row.get("current_node")), "title", "create_time")


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


def claude(row: Mapping[str, Any]) -> Found:
    """A list, in which newer exports name each message's parent."""
    nodes: list[Node] = []
    known = {identity(m.get("uuid")) for m in row["chat_messages"] if isinstance(m, dict)}
    for number, message in enumerate(row["chat_messages"]):
        if not isinstance(message, dict):
            continue
        sender = string(message.get("sender"))
        role = {"human": "user"}.get(sender, sender)
        content = message.get("content")
        parts = [_text_of(part) for part in content] if isinstance(content, list) else []
        text = "\n\n".join(filter(None, parts)) or string(message.get("text"))
        parent = identity(message.get("parent_message_uuid"))
        if parent not in known:  # the first one names a root that is not in the file
            parent = nodes[-1].id if nodes and "parent_message_uuid" not in message else None
        key = identity(message.get("uuid")) or f"#{number}"
        at = milliseconds(message.get("created_at"))
        nodes.append(Node(key, parent, role, text or None, at))
    leaf = identity(row.get("current_leaf_message_uuid")) or (nodes[-1].id if nodes else None)
    return found("claude", row, nodes, leaf, "name", "created_at")


def open_webui(row: Mapping[str, Any], chat: Mapping[str, Any]) -> Found:
    """A tree in `history.messages`; older exports have a plain list only."""
    history = chat.get("history")
    messages = history.get("messages") if isinstance(history, dict) else None
    leaf = identity(history.get("currentId")) if isinstance(history, dict) else None
    nodes: list[Node] = []
    if isinstance(messages, dict) and messages:
        for key, message in messages.items():
            if isinstance(message, dict):
                nodes.append(_webui_node(key, identity(message.get("parentId")), message))
    else:
        listed = chat.get("messages")
        for number, message in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(message, dict):
                parent = nodes[-1].id if nodes else None
                nodes.append(_webui_node(f"#{number}", parent, message))
        leaf = nodes[-1].id if nodes else None
    made = found("open_webui", {**chat, **row}, nodes, leaf, "title", "created_at")
    if made.document is not None:
        meta = row.get("meta")
        tags = meta.get("tags") if isinstance(meta, dict) else None
        made.document["tags"] = tags if isinstance(tags, list) else []
        made.document["pinned"] = row.get("pinned") is True
        if row.get("archived") is True:
            made.document["archived_at"] = made.document["updated_at"]
    return made


def _webui_node(key: str, parent: str | None, message: Mapping[str, Any]) -> Node:
    content = message.get("content")
    text = content if isinstance(content, str) else _text_of({"content": content})
    at = milliseconds(message.get("timestamp"))
    return Node(key, parent, string(message.get("role")), text or None, at)


def _text_of(part: Any) -> str:
    """The text of a part, whatever it calls it; "" for images, tools and the like."""
    if not isinstance(part, dict) or part.get("type") not in (None, "text", "output_text"):
        return ""
    return next((part[n] for n in ("text", "content") if isinstance(part.get(n), str)), "")
