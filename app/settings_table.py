"""The settings as people read them: the table of the README and what `--help` prints."""

from __future__ import annotations

from dataclasses import dataclass

from app.setting import Definition
from app.settings import definitions
from app.settings_sources import FILE_NAME


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the settings table."""

    name: str
    option: str
    variable: str
    default: str
    range: str
    help: str


def table() -> tuple[Row, ...]:
    """One row per setting."""
    return tuple(_row(each) for each in definitions())


def markdown_table() -> str:
    """`table()` as Markdown, for the README."""
    cells = [("Setting", "Environment", "Default", "Range", "What it does"), ("---",) * 5]
    for r in table():
        cells.append((f"`{r.option}`", f"`{r.variable}`", r.default, r.range, r.help))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def help_text(program: str = "python -m app") -> str:
    """What `--help` prints."""
    lines = [f"usage: {program} [serve | selftest] [settings]", "", "settings:"]
    for each, r in zip(definitions(), table(), strict=True):
        value = "" if each.is_flag else f" {r.name.upper()}"
        lines.append(f"  {r.option}{value}")
        lines.append(f"      {r.help} [{r.range}; default: {r.default}; {r.variable}]")
    lines.append(f"Each can also stand in {FILE_NAME} in the data folder.")
    return "\n".join(lines)


def _row(each: Definition) -> Row:
    default, option = str(each.default), each.option
    if each.is_flag:
        default = "on" if each.default else "off"
        option = f"--no-{option[2:]}" if each.default else option
    return Row(each.name, option, each.variable, each.shown or default, each.range, each.help)
