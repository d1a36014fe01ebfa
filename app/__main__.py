"""`python -m app [serve | selftest] [settings]`: starts Corral, or checks guard and model."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from app.setting import SettingsInvalid
from app.settings import Settings, open_data_folder
from app.settings_table import help_text

WORDS = ("serve", "selftest")


def main(argv: Sequence[str]) -> int:
    """Run one word; the exit status (2: wrong settings)."""
    if any(word in ("-h", "--help") for word in argv):
        print(help_text())
        return 0
    word, rest = (argv[0], argv[1:]) if argv and argv[0] in WORDS else ("serve", argv)
    try:
        settings = Settings.load(rest, os.environ)
        close_environment(settings.data)
        if word == "selftest":
            from app.selftest import selftest

            return selftest(settings)
        open_data_folder(settings.data)  # before the imports, so that a wrong one is told at once
        from app.server import serve

        return serve(settings)
    except SettingsInvalid as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def close_environment(data: Path) -> None:
    """Before anything is imported: nothing is sent anywhere, and no `GRADIO_*` overrides us.

    The launcher starts us in such an environment; this is for those who start us by hand.
    """
    for name in [name for name in os.environ if name.upper().startswith("GRADIO_")]:
        del os.environ[name]
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(data / "run" / "page"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
