"""`python -m app [serve | selftest] [settings]`: starts Corral, or checks guard and model.

`selftest --probes FILE_OR_FOLDER [--limit N] [--compare OTHER] [--html FILE]` measures them over
published sets; OTHER is a policy or a guard.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from app.closed import closed
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
        if word == "selftest":
            return _selftest(rest)
        settings = Settings.load(rest, os.environ)
        close_environment(settings.data)
        open_data_folder(settings.data)  # before the imports, so that a wrong one is told at once
        from app.server import serve

        return serve(settings)
    except SettingsInvalid as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _selftest(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--probes", type=Path)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--compare", default="")
    parser.add_argument("--html", type=Path)
    own, rest = parser.parse_known_args(argv)
    settings = Settings.load(rest, os.environ)
    close_environment(settings.data)
    from app.selftest import Published, measure, selftest

    if own.probes is None:
        return selftest(settings)
    return measure(settings, Published(own.probes, own.limit, own.compare, own.html))


def close_environment(data: Path) -> None:
    """Before anything is imported: nothing is sent anywhere, and no `GRADIO_*` overrides us.

    The launcher starts us in such an environment; this is for those who start us by hand.
    """
    for name in [name for name in os.environ if name.upper().startswith("GRADIO_")]:
        del os.environ[name]
    os.environ |= closed(data)


def end_process(status: int) -> NoReturn:
    """Leave at once, without the interpreter's own end. Everything is stored by then.

    A load that still runs inside native code on its daemon thread aborts the process (SIGABRT) if
    the interpreter goes away under it: a Ctrl-C in the first second came out as a crash.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
