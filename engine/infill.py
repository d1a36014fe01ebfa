"""Text between a beginning and an end: the prompts of models that were trained to fill gaps.

The three markers and their order are those of meta-llama/codellama `llama/generation.py`
(`infilling_prompt_tokens`, prefix first) and of the model cards of StarCoder and Qwen2.5-Coder.
"""

from __future__ import annotations

from engine.errors import ModelUnsupported
from engine.tokenizer import Tokenizer

GAP = "<FILL_ME>"  # as transformers' tokenizer of Code Llama has it

# Before the beginning, before the end, before the gap.
_MARKERS = (
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
)
END = "▁<EOT>"  # of Code Llama; the others end with their end of text


def infill_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Prompt ids that ask for what stands at the one `GAP` in `text`.

    Raises `ModelUnsupported` if there is not one gap, or the model was not trained to fill any.
    """
    if text.count(GAP) != 1:
        raise ModelUnsupported(f"Write {GAP} once, where the text is to be filled in.")
    beginning, _, end = text.partition(GAP)
    for names in _MARKERS:
        ids = [tokenizer.special_id(name) for name in names]
        before, after, middle = ids
        if before is None or after is None or middle is None:
            continue
        bos = [tokenizer.bos_id] if tokenizer.bos_id is not None else []
        return [
            *bos,
            before,
            *tokenizer.encode(beginning),
            after,
            *tokenizer.encode(end, continues=True),
            middle,
        ]
    raise ModelUnsupported(
        "This model was not trained to fill gaps: choose Code Llama 7B or 13B, or another model "
        "for code that has markers for it."
    )
