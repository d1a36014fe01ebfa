"""What Corral's process finds in its environment: nothing is sent anywhere by what it imports."""

from __future__ import annotations

from pathlib import Path


def closed(data: Path) -> dict[str, str]:
    """The variables that keep Gradio and the model hub's packages quiet; `data` is the folder."""
    return {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(data / "run" / "page"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
