"""Runs Meta's Code Shield in an environment of its own: a line of JSON in, a line out.

`safety/code_shield.py` starts this file with the Python of that environment; nothing of Corral is
imported here. In: `{"language": ..., "code": ...}`. Out: `{"findings": [...]}`, or `{"error": ...}`
where an analyser did not run: Code Shield itself says "nothing found" then, which must not pass for
a check.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from importlib.metadata import version
from typing import Any

from codeshield.insecure_code_detector import insecure_code_detector as detector
from codeshield.insecure_code_detector.languages import Language
from codeshield.insecure_code_detector.usecases import UseCase


def main() -> None:
    """Answer until the input ends."""
    logging.disable(logging.CRITICAL)  # it logs the command line, and with it paths
    detector._run_command = _checked(detector._run_command)
    _tell({"ready": f"{version('codeshield')} with semgrep {version('semgrep')}"})
    for line in sys.stdin:
        try:
            asked = json.loads(line)
            _tell({"findings": _findings(asked["language"], asked["code"])})
        except Exception as error:
            _tell({"error": f"{type(error).__name__}: {error}"[:200]})


def _findings(language: str, code: str) -> list[dict[str, Any]]:
    """Everything that both analysers see: the thorough way, which the benchmark uses as well."""
    known = Language(language)
    issues = asyncio.run(detector.analyze(known, code, usecase=UseCase.CYBERSECEVAL))
    return [
        {
            "line": issue.line or 1,
            "cwe": str(issue.cwe_id),
            "severity": str(issue.severity).lower(),
            "what": str(issue.description),
            "rule": str(issue.pattern_id or issue.rule or ""),
        }
        for issue in issues
    ]


def _checked(run_command: Any) -> Any:
    """`run_command`, which must have looked at a file and said so."""

    async def run(command: list[str]) -> str:
        output: str = await run_command(command)
        start = output.find("{")
        told = json.loads(output[start:]) if start >= 0 else {}
        if not told.get("paths", {}).get("scanned"):
            raise RuntimeError("semgrep looked at no file")
        return output

    return run


def _tell(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
