"""The dialog Diagnostics: what `launcher.py check` prints, to be copied into a report."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from app.page.templates import Templates

KIND = "diagnostics"
LAUNCHER = Path(__file__).resolve().parent.parent.parent / "launcher.py"
SECONDS = 120.0  # a large database is read through once


class DiagnosticsPanel:
    """Facts and the last errors, without a word of any conversation. Blocks for some seconds."""

    def __init__(self, data: Path, templates: Templates) -> None:
        self._data = data
        self._templates = templates

    def value(self) -> dict[str, object]:
        """The dialog, with the facts as they are now."""
        command = [sys.executable, str(LAUNCHER), "check", f"--data={self._data}"]
        try:
            run = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env={**os.environ, "PYTHONUTF8": "1"},
                timeout=SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired):
            said = self._templates.strings.say("diagnostics.failed")
            return {"kind": KIND, "said": said, "tone": "error"}
        facts = (run.stdout + run.stderr).strip()
        return {"kind": KIND, "html": self._templates.render("panel_diagnostics", facts=facts)}
