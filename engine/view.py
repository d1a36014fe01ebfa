"""One name of a loaded model: how its prompts become token ids, and what it says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.base import EngineInfo, Prompt
from engine.chat_format import ChatFormat
from engine.errors import ContextFull, PromptEmpty
from engine.tokenizer import Tokenizer
from engine.tool_format import ToolFormat
from engine.tools import no_tools, uses_tools


@dataclass(frozen=True, slots=True)
class View:
    """How one name answers. `adapter` is the fingerprint of what its rows compute with, or ""."""

    tokenizer: Tokenizer
    format: ChatFormat
    tools: ToolFormat | None
    info: EngineInfo
    vocab_size: int
    adapter: str = ""

    def ids_of(self, prompt: Prompt) -> list[int]:
        """What the model reads for `prompt`. Raises `PromptEmpty` and `ToolsRefused`."""
        ids = self._ids_of(prompt)
        self.check_ids(ids)
        return ids

    def _ids_of(self, prompt: Prompt) -> list[int]:
        if prompt.messages is not None and (prompt.tools or uses_tools(prompt.messages)):
            if self.tools is None:
                raise no_tools()
            return self.tools.render(prompt.messages, prompt.tools)
        if prompt.messages is not None:
            return self.format.render(prompt.messages, prompt.reply_prefix, prompt.reply_ids)
        if prompt.text is not None:
            return self.ids_of_text(prompt.text)
        return list(prompt.ids or ())

    def ids_of_text(self, text: str) -> list[int]:
        """A text as it stands, with a BOS in front where the model has one."""
        ids = self.tokenizer.encode(text)
        return ids if self.tokenizer.bos_id is None else [self.tokenizer.bos_id, *ids]

    def num_header(self, prompt: Prompt, ids: Sequence[int]) -> int:
        """How many of `ids`, those of `prompt`, come before the reply that it opens.

        Of a prompt without messages all but the first count as reply.
        """
        header = ids[:1] if prompt.messages is None else self.format.render(prompt.messages)
        same = (a == b for a, b in zip(header, ids, strict=False))
        return next((i for i, equal in enumerate(same) if not equal), min(len(header), len(ids)))

    def check_ids(self, ids: Sequence[int]) -> None:
        """Raise `PromptEmpty` for no ids at all, or for ids that the model lacks."""
        if not ids:
            raise PromptEmpty("The prompt holds no token to read: write something.")
        if not all(0 <= token < self.vocab_size for token in ids):
            raise PromptEmpty("The prompt holds token ids that this model does not have.")

    def check_room(self, ids: Sequence[int], num_new: int = 0) -> None:
        """Raise `ContextFull` unless the context holds `ids` and `num_new` tokens after them."""
        if len(ids) + num_new > self.info.context_length:
            raise ContextFull(len(ids), self.info.context_length)
