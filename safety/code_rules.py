"""What the code check looks for: weaknesses by name, patterns for C, JavaScript, shell and SQL.

A pattern sees one line at a time with its comments cut away. Names and numbers are those of the
Common Weakness Enumeration (cwe.mitre.org); the sentences are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class Weakness:
    """A kind of finding."""

    cwe: int
    severity: Severity
    what: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A weakness at a line, counted from 1 within the code."""

    rule: str
    cwe: int
    severity: Severity
    line: int
    what: str


WEAKNESSES: Mapping[str, Weakness] = {
    "shell_injection": Weakness(78, "high", "A shell runs a command built from values."),
    "code_injection": Weakness(95, "high", "Text is run as program code."),
    "sql_injection": Weakness(89, "high", "A query is built from values; use parameters."),
    "cross_site_scripting": Weakness(79, "high", "Text goes into a page without being escaped."),
    "unsafe_deserialization": Weakness(502, "high", "Loading this can run code hidden in it."),
    "hard_coded_secret": Weakness(798, "high", "A password or key stands in the code."),
    "buffer_overflow": Weakness(120, "high", "Writes without checking that there is room."),
    "format_string": Weakness(134, "high", "A value is used as the format of the output."),
    "certificate_not_checked": Weakness(295, "high", "The other side's identity is not checked."),
    "download_and_run": Weakness(494, "high", "Runs what was just downloaded, unseen."),
    "destructive_command": Weakness(73, "high", "Can delete much more than was meant."),
    "weak_hash": Weakness(328, "medium", "MD5 and SHA-1 are broken; use SHA-256 or better."),
    "guessable_random": Weakness(338, "medium", "These random numbers can be guessed."),
    "predictable_temporary_file": Weakness(377, "medium", "Others can create this file first."),
    "archive_path_traversal": Weakness(22, "medium", "An archive can write outside of the folder."),
    "everyone_may_write": Weakness(732, "medium", "Gives everybody the right to write."),
    "everything_granted": Weakness(250, "medium", "Grants more rights than needed."),
    "debug_left_on": Weakness(489, "low", "The debugger must be off where others can reach it."),
}

SECRET_NAME = re.compile(
    r"(?:^|[_.\[\"'])(?:password|passwd|pwd|secret|secret_?key|api_?key|access_?key|auth_?token|"
    r"private_?key|client_?secret)(?:$|[_\]\"'])"
)

_Rules = tuple[tuple[str, re.Pattern[str]], ...]


def _rules(*pairs: tuple[str, str]) -> _Rules:
    return tuple((rule, re.compile(pattern)) for rule, pattern in pairs)


_C = _rules(
    ("buffer_overflow", r"\b(?:gets|strcpy|strcat|sprintf|vsprintf|stpcpy)\s*\("),
    ("buffer_overflow", r"\b(?:scanf|fscanf|sscanf)\s*\([^;]*\"[^\"]*%s"),
    ("format_string", r"\b(?:printf|syslog)\s*\(\s*[A-Za-z_]\w*(?:->\w+|\.\w+|\[\w+\])*\s*\)"),
    ("format_string", r"\bfprintf\s*\(\s*\w+\s*,\s*[A-Za-z_]\w*\s*\)"),
    ("shell_injection", r"\b(?:system|popen)\s*\(\s*(?![\s\"])[^)]"),
    ("predictable_temporary_file", r"\b(?:mktemp|tmpnam|tempnam)\s*\("),
    ("weak_hash", r"\b(?:MD5|SHA1)(?:_Init|_Update|_Final)?\s*\("),
    ("everyone_may_write", r"\bchmod\s*\([^;]*0?777"),
)
_JAVASCRIPT = _rules(
    ("code_injection", r"(?<![.\w])eval\s*\(\s*(?![\"'`]\s*\))[^)\"']"),
    ("code_injection", r"\bnew\s+Function\s*\("),
    ("code_injection", r"\bset(?:Timeout|Interval)\s*\(\s*[\"'`]"),
    (
        "cross_site_scripting",
        r"\.(?:inner|outer)HTML\s*\+?=(?!=)(?!\s*[\"'`][^\"'`$]*[\"'`]\s*(?:;|$))",
    ),
    ("cross_site_scripting", r"\bdocument\.write(?:ln)?\s*\((?!\s*[\"'][^\"']*[\"']\s*\))"),
    ("cross_site_scripting", r"\bdangerouslySetInnerHTML\b"),
    ("cross_site_scripting", r"\.insertAdjacentHTML\s*\("),
    ("shell_injection", r"\bexec(?:Sync)?\s*\(\s*(?:`[^`]*\$\{|[\"'][^\"']*[\"']\s*\+)"),
    ("sql_injection", r"\.(?:query|execute)\s*\(\s*(?:`[^`]*\$\{|[\"'][^\"']*[\"']\s*\+)"),
    ("certificate_not_checked", r"rejectUnauthorized\s*:\s*false|NODE_TLS_REJECT_UNAUTHORIZED"),
    ("weak_hash", r"createHash\s*\(\s*[\"'](?:md5|sha1)[\"']"),
    ("guessable_random", r"(?i)(?:token|secret|password|session)\w*\s*=[^=].*\bMath\.random\s*\("),
    ("unsafe_deserialization", r"\bunserialize\s*\("),
)
_SHELL = _rules(
    ("download_and_run", r"\b(?:curl|wget)\b[^|;&]*\|\s*(?:sudo\s+)?(?:\w*sh|python3?|perl)\b"),
    ("download_and_run", r"\b(?:ba|z)?sh\s+(?:-c\s+)?[\"']?(?:<\(|\$\()\s*(?:curl|wget)\b"),
    ("destructive_command", r"\brm\s+-\w*[rf]\w*\s+(?:-\w+\s+)*\"?\$\{?\w+\}?\"?/"),
    (
        "destructive_command",
        r"\brm\s+-\w*r\w*\s+(?:--?[\w-]+\s+)*/(?:\s|\*|$)",
    ),
    ("code_injection", r"(?:^|[;&|]\s*)eval\s+[\"']?\$"),
    ("everyone_may_write", r"\bchmod\s+(?:-R\s+)?(?:0?777|a\+w|o\+w)\b"),
    ("certificate_not_checked", r"\bcurl\b[^|;]*\s(?:-k|--insecure)\b|--no-check-certificate\b"),
    ("certificate_not_checked", r"StrictHostKeyChecking[= ]no\b"),
    ("hard_coded_secret", r"\bmysql\b.*\s-p[^\s$\"']{4,}|\bsshpass\s+-p\s*[^\s$]"),
)
_SQL = _rules(
    ("everything_granted", r"(?i)\bgrant\s+all\b"),
    ("hard_coded_secret", r"(?i)\bidentified\s+by\s+'[^'<]{4,}'|\bpassword\s+'[^'<]{4,}'"),
    ("shell_injection", r"(?i)\bxp_cmdshell\b"),
    ("sql_injection", r"(?i)\bexec(?:ute)?(?:\s+immediate)?\s*\(?\s*'[^']*'\s*(?:\+|\|\|)"),
)
_EVERY_LANGUAGE = _rules(
    ("hard_coded_secret", r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"),
    ("hard_coded_secret", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("hard_coded_secret", r"\bgh[pousr]_[A-Za-z0-9]{36}\b|\bxox[abp]-[A-Za-z0-9-]{20,}"),
    (
        "hard_coded_secret",
        r"(?i)\b(?:password|passwd|secret|api_?key|auth_?token)\w*\"?\s*[:=]\s*"
        r"[\"'](?!your|xxx|changeme|example|placeholder|\*|<|\$|\{)[^\"'\s]{6,}[\"']",
    ),
)
PATTERNS: Mapping[str, _Rules] = {
    "c": _C, "cpp": _C, "javascript": _JAVASCRIPT, "shell": _SHELL, "sql": _SQL,
}  # fmt: skip
_COMMENT: Mapping[str, re.Pattern[str]] = {
    "c": re.compile(r"//.*|/\*.*?\*/"),
    "cpp": re.compile(r"//.*|/\*.*?\*/"),
    "javascript": re.compile(r"(?<!:)//.*|/\*.*?\*/"),
    "shell": re.compile(r"(?:^|\s)#.*"),
    "sql": re.compile(r"--.*"),
    "python": re.compile(r"(?:^|\s)#.*"),
}
_MAX_LINE = 2000  # characters; minified code is read no further


def finding(rule: str, line: int) -> Finding:
    """The finding of a rule at a line."""
    weakness = WEAKNESSES[rule]
    return Finding(rule, weakness.cwe, weakness.severity, line, weakness.what)


def check_lines(code: str, language: str) -> Iterator[Finding]:
    """Findings of the patterns of `language`, and of those for every language, line by line."""
    rules = PATTERNS.get(language, ()) + _EVERY_LANGUAGE
    comment = _COMMENT.get(language)
    for number, line in enumerate(code.split("\n"), 1):
        text = comment.sub("", line[:_MAX_LINE]) if comment else line[:_MAX_LINE]
        for rule in dict.fromkeys(rule for rule, pattern in rules if pattern.search(text)):
            yield finding(rule, number)
