"""The store's tests pass on both SQLite builds: pysqlite3's and the interpreter's own."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RUN = """
import sys
sys.modules["pysqlite3"] = None
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    sys.modules.get("pysqlite3", 0) is None or importlib.util.find_spec("pysqlite3") is None,
    reason="this run is on the interpreter's SQLite",
)
def test_everything_passes_on_the_interpreters_sqlite(guarded_environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, "-q", "-p", "no:cacheprovider", str(HERE)],
        cwd=HERE.parent.parent,
        env=guarded_environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_the_build_in_use_is_known() -> None:
    from storage.connection import sqlite3, sqlite_version

    blocked = sys.modules.get("pysqlite3", 0) is None
    installed = not blocked and importlib.util.find_spec("pysqlite3") is not None
    assert sqlite3.__name__ == ("pysqlite3" if installed else "sqlite3")
    assert sqlite_version() == sqlite3.sqlite_version
