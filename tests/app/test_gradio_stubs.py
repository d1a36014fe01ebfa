"""Importing Gradio through us writes nothing into the installation, and changes nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import json, sys
from pathlib import Path
from app.gradio_stubs import skip_matplotlib, skip_stub_files
skip_matplotlib()
skip_stub_files()
skip_stub_files()
opened = []
sys.addaudithook(lambda event, args: event == "open" and opened.append(str(args[0])))
before = len(sys.meta_path)
import gradio, gradio.component_meta
stubs = [name for name in opened if name.endswith(".pyi")]
print(json.dumps({"stubs": stubs, "left": before - len(sys.meta_path),
    "events": hasattr(gradio.Textbox, "submit") and hasattr(gradio.HTML, "click"),
    "known": callable(getattr(gradio.component_meta, "create_or_modify_pyi", None))}))
skip_stub_files()
assert len(sys.meta_path) == before - 1
sought = []
class Finder:
    find_spec = lambda name, *rest: sought.append(name)
sys.meta_path.insert(0, Finder)
from gradio.utils import MatplotlibBackendMananger
with MatplotlibBackendMananger(): pass
assert "matplotlib" not in sought, "it is looked for again"
"""


def test_no_stub_file_is_touched() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", CHILD],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    # "known" fails when a new Gradio has renamed the function: then look again.
    assert json.loads(ran.stdout) == {"stubs": [], "left": 1, "events": True, "known": True}
