"""How a model is told of tools: conversations with them, written by the model's own chat template.

Whoever trained the model knows how functions, calls and results stand in a conversation; the
template that its folder brings says so. A model without a template that speaks of tools has none.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.base import Message, Tool, ToolStyle
from engine.chat_format import ChatFormat, read_template
from engine.errors import ModelUnsupported, ToolsRefused
from engine.tokenizer import Tokenizer
from engine.tools import OPEN


@dataclass(frozen=True)
class ToolFormat:
    """One checkpoint's way to write a conversation with tools; `style` is how it writes calls."""

    style: ToolStyle
    template: str
    tokenizer: Tokenizer
    today: datetime.date

    def render(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[int]:
        """Prompt ids. Raises `ToolsRefused` for a conversation that the template refuses."""
        from engine.template import template_layout  # only here, because it brings Jinja

        layout = template_layout(self.template, self.tokenizer, self.today, tools)
        begins = "bos_token" in self.template
        form = ChatFormat("template", self.tokenizer, layout, bos=not begins)
        try:
            return form.render(messages)
        except ModelUnsupported as error:
            raise ToolsRefused(str(error)) from error


def tool_format_for(folder: Path, tokenizer: Tokenizer) -> ToolFormat | None:
    """What the template of the checkpoint in `folder` makes of tools; None if nothing."""
    template = read_template(folder)
    if not re.search(r"\btools\b", template):
        return None
    style: ToolStyle = "tagged" if OPEN in template else "json"
    return ToolFormat(style, template, tokenizer, datetime.date.today())
