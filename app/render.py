"""Markdown → safe HTML.

The order is what makes it safe: Markdown first (raw HTML in it is text, not markup), colours and
math next, and the sanitizer over the finished HTML last. Nothing in the result loads anything:
images and other media become links that a person may click. Code comes out byte for byte.
Escaping for templates is Jinja's; only what passed `Renderer` is marked as safe.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock

import nh3
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererProtocol
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

from app.mathml import math_plugin

MAX_MARKDOWN_CHARS = 200_000  # beyond this, text is shown as it is: parsing would block for seconds
MAX_COLOURED_CHARS = 40_000
MAX_LIVE_COLOURED_CHARS = 4_000  # of a block that is still being written, coloured at every update
_PREFIX = "k-"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MATHML = _names(
    "math mrow mfrac msqrt mroot msub msup msubsup munder mover munderover mmultiscripts mi mn mo "
    "ms mtext mspace mpadded mphantom mstyle menclose mtable mtr mtd"
)
_TAGS = _names(
    "p br hr h1 h2 h3 h4 h5 h6 em strong s code pre blockquote ul ol li a span div figure "
    "table thead tbody tr th td"
)
_MATH_ATTRIBUTES = _names(
    "display mathvariant linethickness displaystyle scriptlevel accent accentunder stretchy fence "
    "form separator lspace rspace minsize maxsize largeop movablelimits symmetric width height "
    "depth notation columnalign rowalign columnspacing rowspacing columnlines rowlines"
)
_ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "a": frozenset({"href", "title"}),
    "figure": frozenset({"data-lang"}),
    "ol": frozenset({"start"}),
    **dict.fromkeys(_MATHML, _MATH_ATTRIBUTES),
}
_CLASSES = {
    "span": frozenset(_PREFIX + name for name in STANDARD_TYPES.values() if name),
    "figure": frozenset({"code"}),
    "div": frozenset({"math", "table"}),
    "code": frozenset({"math-source"}),
    "a": frozenset({"media"}),
}
_WORDY = frozenset({"inline", "fence", "code_block"})
_ALIGNMENTS = frozenset({"left", "right", "center"})


class Renderer:
    """Turns replies into HTML. Keeps the last few hundred results. Safe from several threads."""

    def __init__(self, *, cache_size: int = 512) -> None:
        self._cache: OrderedDict[str, str] = OrderedDict()
        self._cache_size = cache_size
        self._lock = Lock()
        self._markdown = _markdown(MAX_COLOURED_CHARS)
        self._live_markdown = _markdown(MAX_LIVE_COLOURED_CHARS)
        self._cleaner = _cleaner()

    def html(self, text: str) -> str:
        """Sanitized HTML of a whole message."""
        with self._lock:
            if text in self._cache:
                self._cache.move_to_end(text)
                return self._cache[text]
        html = self._whole(text)
        with self._lock:
            self._cache[text] = html
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        return html

    def words(self, text: str) -> str:
        """What a reader sees of a message as text: Markdown without its marks, without formulas."""
        if len(text) > MAX_MARKDOWN_CHARS:
            return text
        tokens = self._markdown.parse(text)
        return "\n".join(_words(token) for token in tokens if token.type in _WORDY)

    def growing(self, text: str) -> tuple[int, str]:
        """How many lines more text cannot change, and the sanitized HTML of those behind; not kept.

        Settled is everything before the last top-level block: lists, tables, quotes and paragraphs
        may still grow or turn into something else, but none reaches back over a finished one.
        """
        if len(text) > MAX_MARKDOWN_CHARS:
            return 0, _as_it_is(text)
        markdown = self._live_markdown
        env: dict[str, object] = {}  # of a parse, which the rendering of its tokens needs
        tokens = markdown.parse(text, env)
        starts = [
            token.map[0]
            for token in tokens
            if token.level == 0 and token.map is not None and token.nesting >= 0
        ]
        num_settled = starts[-1] if starts else 0
        if num_settled:
            env.clear()
            tokens = markdown.parse("\n".join(text.split("\n")[num_settled:]), env)
        return num_settled, self._cleaner.clean(
            markdown.renderer.render(tokens, markdown.options, env)
        )

    def _whole(self, text: str) -> str:
        if len(text) > MAX_MARKDOWN_CHARS:
            return _as_it_is(text)
        return self._cleaner.clean(self._markdown.render(text))


class LiveRendering:
    """The HTML of a reply that grows: finished blocks once, the open one at each update.

    An update therefore costs the same however long the reply is, and what is on the page already
    is not touched again.
    """

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._settled = ""  # the text behind `blocks`
        self.blocks: list[str] = []
        self.tail = ""

    def update(self, text: str) -> None:
        """Take the whole reply so far."""
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        if not text.startswith(self._settled):
            self._settled, self.blocks = "", []
        rest = text[len(self._settled) :]
        num_lines, self.tail = self._renderer.growing(rest)
        if num_lines:
            finished = "\n".join(rest.split("\n", num_lines)[:num_lines]) + "\n"
            self.blocks.append(self._renderer.html(finished))
            self._settled += finished


def _as_it_is(text: str) -> str:
    return f"<pre><code>{escapeHtml(text)}</code></pre>"


def _words(token: Token) -> str:
    if token.type != "inline":
        return token.content
    kinds = {"text": None, "code_inline": None, "image": None, "softbreak": "\n", "hardbreak": "\n"}
    return "".join(kinds[c.type] or c.content for c in token.children or () if c.type in kinds)


def _markdown(max_coloured_chars: int) -> MarkdownIt:
    md = MarkdownIt("commonmark", {"html": False, "typographer": False, "linkify": False})
    md.enable(["table", "strikethrough"])
    math_plugin(md)

    def fence(
        self: RendererProtocol, tokens: list[Token], index: int, options: OptionsDict, env: EnvType
    ) -> str:
        token = tokens[index]
        words = token.info.split()
        return _code(token.content, words[0] if words else "", max_coloured_chars)

    md.add_render_rule("fence", fence)
    md.add_render_rule("code_block", fence)
    md.add_render_rule("image", _image)
    md.add_render_rule("table_open", _table_open)
    md.add_render_rule("table_close", _table_close)
    return md


def _code(code: str, language: str, max_coloured_chars: int) -> str:
    lexer = _lexer(language)
    if lexer is None or len(code) > max_coloured_chars:
        body = escapeHtml(code)
    else:
        body = highlight(code, lexer, HtmlFormatter(nowrap=True, classprefix=_PREFIX))
    label = escapeHtml(language[:40])
    return f'<figure class="code" data-lang="{label}"><pre><code>{body}</code></pre></figure>\n'


def _lexer(language: str) -> Lexer | None:
    """A lexer that changes no byte: Pygments by default strips and adds newlines."""
    if not language or len(language) > 40:
        return None
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


def _image(
    self: RendererProtocol, tokens: list[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    """A picture as a link: showing it would tell its server that, and what, was read."""
    token = tokens[index]
    address = str(token.attrs.get("src", ""))
    label = token.content or address
    return f'<a class="media" href="{escapeHtml(address)}">{escapeHtml(label)}</a>'


def _table_open(
    self: RendererProtocol, tokens: list[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    return '<div class="table"><table>'


def _table_close(
    self: RendererProtocol, tokens: list[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    return "</table></div>"


def _attribute(tag: str, name: str, value: str) -> str | None:
    """The last word on every attribute that the lists let through."""
    if name == "style":
        side = value.removeprefix("text-align:").strip(" ;")
        return f"text-align:{side}" if side in _ALIGNMENTS else None
    return value


def _cleaner() -> nh3.Cleaner:
    return nh3.Cleaner(
        tags=set(_TAGS | _MATHML),
        clean_content_tags={"script", "style"},
        attributes={
            **{tag: set(names) for tag, names in _ATTRIBUTES.items()},
            "th": {"style"},
            "td": {"style"},
        },
        attribute_filter=_attribute,
        allowed_classes={tag: set(names) for tag, names in _CLASSES.items()},
        url_schemes={"http", "https", "mailto"},
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
