"""What other programs export, with hostile names in it."""

from typing import Any

HOSTILE = "${print(1)} `x` <img src=x onerror=alert(1)> 美洲驼"


def chatgpt() -> dict[str, Any]:
    def node(
        key: str, parent: str | None, role: str, *parts: object, at: float | None = 1.7e9
    ) -> Any:
        message = {"author": {"role": role}, "create_time": at,
                   "content": {"content_type": "text", "parts": list(parts)}}  # fmt: skip
        return {"id": key, "parent": parent, "children": [], "message": message if role else None}

    nodes = [
        node("root", None, ""),
        node("sys", "root", "system", ""),
        node("u1", "sys", "user", HOSTILE),
        node("a1", "u1", "assistant", "first"),
        node("tool", "u1", "tool", "searched"),
        node("a2", "tool", "assistant", "second", {"content_type": "image_asset_pointer"}),
        node("u2", "a2", "user", "and then?", at=None),
    ]
    mapping = {n["id"]: n for n in nodes}
    return {"title": "Llamas", "create_time": 1.7e9, "update_time": 1.7e9 + 60,
            "mapping": mapping, "current_node": "a1", "something_new": {"deep": [1]}}  # fmt: skip
