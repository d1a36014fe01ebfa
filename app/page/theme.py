"""Gradio's own theme variables, set to the page's paper and ink.

Nearly all of the page is styled by `assets/corral.css`; what Gradio still draws by itself (a lost
connection, an unforeseen error) should look as if it belonged. System fonts only.
"""

from __future__ import annotations

import gradio as gr

SANS = (
    *("Inter", "system-ui", "-apple-system", "Segoe UI"),
    *("Noto Sans", "Noto Sans CJK SC", "sans-serif"),
)
MONO = ("ui-monospace", "JetBrains Mono", "SFMono-Regular", "Menlo", "Consolas", "monospace")

_SIENNA = gr.themes.Color(
    "#fbf4ee", "#f3e4d6", "#e9ccb1", "#e09a63", "#c97c41", "#9a4f1c", "#864317", "#703813",
    "#5a2d10", "#47240d", "#3a2a1d", name="sienna",
)  # fmt: skip
_PAPER = gr.themes.Color(
    "#fbfaf7", "#f4f2ec", "#e6e2d8", "#cfc9bc", "#a8a296", "#756f64", "#5d584f", "#33312c",
    "#232220", "#1b1a18", "#161513", name="paper",
)  # fmt: skip


def theme() -> gr.themes.Base:
    """Paper, ink, one accent."""
    built = gr.themes.Base(
        primary_hue=_SIENNA,
        secondary_hue=_SIENNA,
        neutral_hue=_PAPER,
        font=SANS,
        font_mono=MONO,
    )
    return built.set(
        body_background_fill="#fbfaf7",
        body_background_fill_dark="#1b1a18",
        body_text_color="#23211d",
        body_text_color_dark="#ece8df",
        block_background_fill="transparent",
        block_border_width="0px",
        block_shadow="none",
    )
