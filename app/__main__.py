"""`python -m app [serve | selftest] [settings]`: starts Corral, or checks guard and model."""

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
    word, rest = (argv[0], argv[1:]) if argv and argv[0] in WORDS else ("serve", argv)
    if {"-h", "--help"} & set(argv):
        print(_selftest_parser().format_help() if word == "selftest" else help_text())
        return 0
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


def _selftest_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app selftest",
        usage="%(prog)s [options] [settings]",
        description="Answers a few prompts as the page does, with the real model and the real "
        "guard; or measures both over labelled texts.",
        epilog="The settings are those of `python -m app --help`.",
        add_help=False,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--probes", type=Path, metavar="PATH", help="a file, or a folder of published sets")
    add(
        "--limit",
        type=int,
        default=200,
        metavar="N",
        help="at most so many texts, 200 by default",
    )
    add("--compare", default="", metavar="OTHER", help="a second policy or guard beside it")
    add("--html", type=Path, metavar="FILE", help="write the report there as a page too")
    return parser


def _selftest(argv: Sequence[str]) -> int:
    own, rest = _selftest_parser().parse_known_args(argv)
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
