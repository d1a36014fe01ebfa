r"""Math in Markdown: finds `\(..\)`, `\[..\]`, `$..$`, `$$..$$` and turns it into MathML.

A dollar sign is money until the text proves otherwise: "between $5 and $10" stays as it is.
What cannot be converted is shown as it was written. Nothing is loaded, nothing runs.
"""

from __future__ import annotations

import re
from functools import lru_cache
from html import escape

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererProtocol
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

MAX_CHARS = 4_000  # longer "math" is nearly always an unclosed delimiter in prose

_DELIMITERS = (("\\(", "\\)", False), ("\\[", "\\]", True), ("$$", "$$", True))
_PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}(?![A-Za-z]*[({_^])")
_NUMBER = re.compile(r"\d[\d.,]*\Z")


def math_plugin(md: MarkdownIt) -> None:
    """Teach `md` the four delimiters."""
    md.inline.ruler.before("escape", "math", _inline)
    md.block.ruler.before("fence", "math", _block, {"alt": ["paragraph", "blockquote", "list"]})
    md.add_render_rule("math", _render)


@lru_cache(maxsize=512)
def to_mathml(latex: str, *, block: bool) -> str:
    """MathML of `latex`, or the source in a quiet box where it cannot be read. Safe HTML."""
    source = escape(latex, quote=False)
    try:
        if len(latex) > MAX_CHARS:
            raise ValueError("too long")
        return convert(latex, display="block" if block else "inline")
    except Exception:  # the converter raises whatever its parser stumbles over
        return f'<code class="math-source">{source}</code>'


def _render(
    self: RendererProtocol, tokens: list[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    token = tokens[index]
    html = to_mathml(token.content.strip(), block=token.meta["block"])
    return f'<div class="math">{html}</div>\n' if token.block else html


def _inline(state: StateInline, silent: bool) -> bool:
    for opening, closing, block in _DELIMITERS:
        if state.src.startswith(opening, state.pos):
            start = state.pos + len(opening)
            end = state.src.find(closing, start, start + MAX_CHARS)
            if end > start and state.src[start:end].strip():
                return _push(state, state.src[start:end], end + len(closing), block, silent)
            return False
    if state.src.startswith("$", state.pos):
        end = _dollar_end(state.src, state.pos)
        if end:
            return _push(state, state.src[state.pos + 1 : end], end + 1, False, silent)
    return False


def _push(state: StateInline, content: str, end: int, block: bool, silent: bool) -> bool:
    if not silent:
        token = state.push("math", "math", 0)
        token.content, token.meta = content, {"block": block}
    state.pos = end
    return True


def _dollar_end(text: str, pos: int) -> int:
    """Where the `$` that closes the math opened at `pos` stands; 0 if this is no math.

    As in Pandoc, the opening sign has no space after it, the closing one none before it and no
    digit behind it. Beyond that, what starts like an amount and goes on like prose is money.
    """
    before, after = text[pos - 1 : pos], text[pos + 1 : pos + 2]
    if not after or after.isspace() or after == "$" or before == "$" or before.isalnum():
        return 0
    end = pos
    while (end := text.find("$", end + 1, pos + MAX_CHARS)) > 0:
        content = text[pos + 1 : end]
        if "\n\n" in content:
            return 0
        following = text[end + 1 : end + 2]
        escaped = content.endswith("\\")
        if escaped or content[-1:].isspace() or following.isalnum() or following == "$":
            continue
        return 0 if _is_money(content) else end
    return 0


def _is_money(content: str) -> bool:
    if not content[:1].isdigit() or _NUMBER.match(content):
        return False
    if "$" in content.replace("\\$", ""):  # it ran over the beginning of something else
        return True
    return bool(_PROSE.search(content)) or not re.search(r"[\\^_=+*/<>{}a-zA-Z-]", content)


def _block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """A display formula that starts a line and ends one, whatever stands between."""
    if state.is_code_block(start_line):
        return False
    first = _line(state, start_line)
    for opening, closing in (("$$", "$$"), ("\\[", "\\]")):
        if not first.startswith(opening):
            continue
        body = first[len(opening) :]
        line = start_line
        lines = []
        while not body.rstrip().endswith(closing):
            if closing in body:
                return False  # text follows on the same line: the inline rule sees to it
            lines.append(body)
            line += 1
            if line >= end_line or line - start_line > 200:
                return False
            body = _line(state, line)
        lines.append(body.rstrip()[: -len(closing)])
        content = "\n".join(lines).strip()
        if not content or closing in content:
            return False
        if silent:
            return True
        token = state.push("math", "math", 0)
        token.block, token.content, token.meta = True, content, {"block": True}
        token.map = [start_line, line + 1]
        state.line = line + 1
        return True
    return False


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]
