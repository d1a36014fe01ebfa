"""Fenced code blocks of a Markdown text, with where they stand."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([^\n`]*)$")
_ALIASES = {
    "py": "python", "python3": "python", "pycon": "python", "ipython": "python",
    "c++": "cpp", "cc": "cpp", "cxx": "cpp", "hpp": "cpp", "h": "c",
    "js": "javascript", "jsx": "javascript", "ts": "javascript", "tsx": "javascript",
    "typescript": "javascript", "node": "javascript", "mjs": "javascript",
    "bash": "shell", "sh": "shell", "zsh": "shell", "console": "shell", "shell-session": "shell",
    "mysql": "sql", "postgresql": "sql", "plsql": "sql", "sqlite": "sql", "tsql": "sql",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """One fenced block. `first_line` is the line of the text, from 1, that `code` begins on."""

    language: str  # lower case, aliases resolved; "" if the fence names none
    code: str
    first_line: int
    closed: bool  # False while the block still grows

    @property
    def digest(self) -> str:
        """Language and code as 16 hexadecimal digits: by them a block is known again."""
        text = f"{self.language}\n{self.code}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=8).hexdigest()


def code_blocks(text: str) -> Iterator[CodeBlock]:
    """The fenced blocks of `text` in order; an unclosed one reaches to the end."""
    lines = text.split("\n")
    index = 0
    while index < len(lines):
        opening = _FENCE.match(lines[index].rstrip("\r"))
        index += 1
        if opening is None:
            continue
        fence, info = opening[1], opening[2].strip().lower()
        start = index
        while index < len(lines) and not _closes(lines[index], fence):
            index += 1
        word = re.split(r"[\s{,:]", info, maxsplit=1)[0]
        language = _ALIASES.get(word, word)
        yield CodeBlock(language, "\n".join(lines[start:index]), start + 1, index < len(lines))
        index += 1


def _closes(line: str, fence: str) -> bool:
    stripped = line.strip()
    return (
        len(line) - len(line.lstrip(" ")) <= 3
        and len(stripped) >= len(fence)
        and set(stripped) == {fence[0]}
    )
