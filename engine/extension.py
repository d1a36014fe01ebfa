"""A longer context than a model was made for, by scaling its rotary positions when it is loaded.

"linear:2" squeezes positions (kaiokendev, arXiv 2306.15595), "dynamic:2" is NTK-aware scaling that
sets in past the original length, "yarn:4" (arXiv 2309.00071) keeps fast pairs as they are. Answers
stay sensible to about that many times the original length; linear costs some quality at any length.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import cast

from engine.config import LlamaConfig, RopeType
from engine.errors import ModelUnsupported

PATTERN = r"(linear|dynamic|yarn):(\d{1,2}(\.\d{1,3})?)"


def extended(config: LlamaConfig, extension: str) -> LlamaConfig:
    """`config` with positions scaled as `extension` ("kind:factor") says; "" leaves it as it is.

    Raises `ModelUnsupported` for another spelling, and for a model that is scaled already.
    """
    if not extension:
        return config
    match = re.fullmatch(PATTERN, extension)
    if match is None or not 1 <= float(match[2]) <= 64:
        raise ModelUnsupported(
            f"{extension!r} names no way to lengthen a context: write linear:2, dynamic:2 or "
            "yarn:4, with a factor from 1 to 64."
        )
    if config.rope.rope_type != "default":
        raise ModelUnsupported(
            f"This model's positions are scaled already ({config.rope.rope_type}); its context of "
            f"{config.context_length} tokens cannot be lengthened once more."
        )
    rope = replace(
        config.rope,
        rope_type=cast(RopeType, match[1]),
        factor=float(match[2]),
        original_max_position_embeddings=config.max_position_embeddings,
    )
    return replace(config, rope=rope)
