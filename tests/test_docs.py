"""Documents that cannot go stale: what they name exists, what exists is named.

`python -m tests.test_docs` writes the settings table into the README and the file map into
ARCHITECTURE.md.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import names
from app.settings_table import markdown_table

ROOT = Path(__file__).resolve().parent.parent
SETTINGS, FILES = "settings", "file map"
MAX_TREE_BYTES = 60 * 2**20
MAX_FILE_BYTES = 20 * 2**20
MAPPED = ("app", "engine", "safety", "storage", "launch", "training", "benchmarks", "docs")
SOURCE = {".py", ".sql", ".js", ".css", ".html", ".sh", ".command", ".bat"}
TEXT = SOURCE | {".md", ".toml", ".txt", ".json"}


# Options of the programs that the documents run beside ours: servers, harnesses, PyTorch's pip.
OF_OTHERS = {
    *("--tensor-parallel-size", "--pipeline-parallel-size", "--distributed-executor-backend"),
    *("--max-model-len", "--api-key", "--tp", "--model-path", "--head", "--address"),
    *("--node-ip-address", "--tasks", "--include"),
}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tracked() -> list[Path]:
    """What a clone holds (and what would be in the next commit)."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        pytest.skip("this is not a git checkout")
    return [Path(name) for name in run.stdout.split("\0") if name and (ROOT / name).is_file()]


def written(document: str, part: str, content: str) -> str:
    """A document with `content` between the two comments that mark this part."""
    begin = f"<!-- {part}: written by `python -m tests.test_docs` -->"
    end = f"<!-- end of {part} -->"
    assert begin in document, f"the mark of the {part} is gone"
    assert end in document, f"the mark of the {part} is gone"
    head, _, rest = document.partition(begin)
    return f"{head}{begin}\n\n{content}\n\n{end}{rest.partition(end)[2]}"


def file_map() -> str:
    """Every module with the first sentence of what it says about itself."""
    rows = ["| file | story |", "| --- | --- |"]
    for path in sorted(tracked(), key=lambda path: (path.parent, path.name)):
        mapped = path.parts[0] in (*MAPPED, "launcher.py")
        if path.suffix != ".py" or not mapped or path.name == "__init__.py":
            continue
        said = ast.get_docstring(ast.parse(text_of(str(path)))) or ""
        paragraph = " ".join(said.partition("\n\n")[0].split()).replace("|", "\\|")
        sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z`])", paragraph)[0]
        rows.append(f"| `{path.as_posix()}` | {sentence} |")
    return "\n".join(rows)


def test_the_settings_table_is_the_one_of_the_program() -> None:
    readme = text_of("README.md")
    assert readme == written(readme, SETTINGS, markdown_table()), "run `python -m tests.test_docs`"


def test_help_names_every_setting_that_the_table_does() -> None:
    run = subprocess.run(
        [sys.executable, "launcher.py", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    for name in names():
        assert f"CORRAL_{name.upper()}" in run.stdout
        assert f"CORRAL_{name.upper()}" in text_of("README.md")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"])
def test_every_path_that_a_document_names_exists(name: str) -> None:
    text = text_of(name)
    linked = re.findall(r"\]\(([^)#:]+)\)", text)
    quoted = re.findall(
        r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|md|toml|command|bat|desktop))`", text
    )
    of_the_data_folder = re.compile(r"^(backups|models|offloaded|logs?|run)/")
    paths = {path for path in (*linked, *quoted) if not of_the_data_folder.match(path)}
    assert paths, "the pattern lost its object"
    missing = {path for path in paths if not (ROOT / path).exists()}
    assert missing - {"settings.toml", "owner/name", ".venv/bin/python"} == set()


def test_every_word_of_the_launcher_is_in_the_readme() -> None:
    readme = text_of("README.md")
    for word in ("test", "check", "update", "move FOLDER", "remove", "download NAME", "share"):
        assert f"`python3 launcher.py {word}`" in readme


def documents() -> str:
    """All that is written for people, in one text."""
    return "\n".join(text_of(str(path)) for path in tracked() if path.suffix == ".md")


def test_every_option_that_a_document_names_is_one_of_ours() -> None:
    ours = {f"--{name.replace('_', '-')}" for name in names()} | {"--no-browser"}
    for path in tracked():
        if path.suffix == ".py" and path.parts[0] != "tests":
            ours |= set(re.findall(r'"(--[a-z][a-z-]*)"', text_of(str(path))))
    assert "--model" in ours and "--token-file" in ours, "the pattern lost its object"
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", documents())) - ours <= OF_OTHERS


def test_every_module_that_a_document_runs_is_there() -> None:
    run = set(re.findall(r"python -m ([a-z_.]+)", documents())) - {"pytest", "sglang.launch_server"}
    missing = {
        name
        for name in run
        if not any(
            (ROOT / f"{name.replace('.', '/')}{end}").is_file() for end in (".py", "/__main__.py")
        )
    }
    assert run and missing == set()


def test_the_file_map_is_the_tree() -> None:
    text = text_of("ARCHITECTURE.md")
    assert text == written(text, FILES, file_map()), "run `python -m tests.test_docs`"
    assert "| `launcher.py` | One command on a fresh machine" in text


def test_nothing_names_a_place_on_somebodys_machine() -> None:
    """Absolute paths of homes and work folders, and addresses of package registries."""
    places = [str(Path.home())] if len(Path.home().parts) > 2 else []
    parent = ROOT.parent
    if len(parent.parts) > 1 and parent.parts[1] not in {"tmp", "home", "Users", "var"}:
        places.append(str(parent))
    machine = re.compile("|".join([r"/home/\w+/", r"/Users/\w+/", *map(re.escape, places)]))
    registry = re.compile(r"^\s*(--(extra-)?index-url|--find-links|-i|-f)\b", re.M)
    found = []
    for path in tracked():
        if path.suffix not in TEXT or (ROOT / path).stat().st_size > 2**21:
            continue
        text = (ROOT / path).read_text(encoding="utf-8", errors="replace")
        if machine.search(text) or (path.parts[0] == "requirements" and registry.search(text)):
            found.append(str(path))
    assert found == []


def test_a_clone_is_small() -> None:
    sizes = {path: (ROOT / path).stat().st_size for path in tracked()}
    assert {str(path) for path, size in sizes.items() if size > MAX_FILE_BYTES} == set()
    assert sum(sizes.values()) < MAX_TREE_BYTES


def test_the_torch_version_is_the_same_wherever_it_stands() -> None:
    from launch.machine import TORCH_VERSION

    assert f'"torch=={TORCH_VERSION}"' in text_of("pyproject.toml")


if __name__ == "__main__":
    parts = (("README.md", SETTINGS, markdown_table()), ("ARCHITECTURE.md", FILES, file_map()))
    for name, part, content in parts:
        (ROOT / name).write_text(written(text_of(name), part, content), encoding="utf-8")
