"""Which text comes next: sources by weight, now and then chained, now and then a system line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from training.packing import Text

SYSTEM_SHARE = 0.3  # of the conversations get a system line in front
CHAIN_SHARE = 0.25  # of the chainable texts become the start of a longer conversation
LONG = 512  # tokens: texts beyond this cost most of the attention, so only some are taken
LONG_SHARE = 0.25


class Mixture:
    """An endless stream of texts whose tokens follow the given shares.

    Each source is walked in a shuffled order, again and again; after each text the next source is
    the one furthest behind its share, so that short and long texts come out right.
    """

    def __init__(
        self,
        sources: Mapping[str, Sequence[Text]],
        shares: Mapping[str, float],
        chained: frozenset[str],
        system_lines: Sequence[np.ndarray],
        *,
        plain: frozenset[str],
        context_length: int,
        seed: int,
    ) -> None:
        self.sources = {
            name: texts for name, texts in sources.items() if texts and shares[name] > 0
        }
        self.shares = {name: shares[name] for name in self.sources}
        self.chained = [name for name in self.sources if name in chained]
        self.plain = plain  # prose: no system line belongs before it
        self.system_lines = system_lines
        self.context_length = context_length
        self.draw = np.random.default_rng(seed)
        self.drawn = dict.fromkeys(self.sources, 0.0)
        self.order: dict[str, list[int]] = {name: [] for name in self.sources}

    def _next_of(self, name: str) -> Text:
        order = self.order[name]
        if not order:
            order += self.draw.permutation(len(self.sources[name])).tolist()
        text = self.sources[name][order.pop()]
        if len(text) > LONG and self.draw.random() > LONG_SHARE:
            return self._next_of(name)
        self.drawn[name] += len(text)
        return text

    def _chain(self, text: Text) -> Text:
        """Append whole conversations of chainable sources, without their first token."""
        room = self.context_length if self.draw.random() < LONG_SHARE / 2 else LONG
        weights = np.array([self.shares[name] for name in self.chained])
        for _ in range(int(self.draw.integers(1, 8))):
            name = str(self.draw.choice(self.chained, p=weights / weights.sum()))
            following = self._next_of(name)
            if _has_system(following):
                continue
            if len(text) + len(following) > room - 64:
                break
            text = Text(
                np.concatenate((text.ids, following.ids[1:])),
                np.concatenate((text.parts, following.parts[1:])),
            )
        return text

    def _with_system(self, text: Text) -> Text:
        line = self.system_lines[int(self.draw.integers(len(self.system_lines)))]
        if len(text) + len(line) > self.context_length:
            return text
        parts = np.zeros(len(line), np.uint8)
        return Text(
            np.concatenate((text.ids[:1], line, text.ids[1:])),
            np.concatenate((text.parts[:1], parts, text.parts[1:])),
        )

    def next(self) -> Text:
        """The next text."""
        name = min(self.sources, key=lambda name: self.drawn[name] / self.shares[name])
        text = self._next_of(name)
        if name in self.chained and self.draw.random() < CHAIN_SHARE:
            text = self._chain(text)
        if (
            name not in self.plain
            and self.system_lines
            and not _has_system(text)
            and self.draw.random() < SYSTEM_SHARE
        ):
            text = self._with_system(text)
        return text


def _has_system(text: Text) -> bool:
    """Whether the first message is a system line: marked by the encoder in the first part."""
    return bool(text.parts[0])
