"""Who may import whom. The rules are those of ARCHITECTURE.md; the imports are read, not run."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("app", "engine", "safety", "storage")
# Classes with a life of their own: built in one place, known elsewhere by their protocol alone.
CONCRETE = frozenset({"LocalEngine", "RemoteEngine", "ScriptedEngine", "Panel", "load_guard"})


def files(*places: str) -> list[Path]:
    """Every module below folders (or single files), relative to the root."""
    found = []
    for place in places:
        path = ROOT / place
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return [path.relative_to(ROOT) for path in found]


@cache
def imports(path: Path, *, lazy: bool = True) -> frozenset[str]:
    """The modules that a file names in its imports, `from a import b` as both `a` and `a.b`.

    `lazy=False` leaves out what is imported inside functions or for type checkers only.
    """
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree)) if lazy else list(_run_at_import(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the whole name"
            module = node.module or ""
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def _run_at_import(tree: ast.AST) -> list[ast.AST]:
    """Every node outside of functions and of `if TYPE_CHECKING:`."""
    found: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        found += [node, *_run_at_import(node)]
    return found


def top_levels(path: Path) -> set[str]:
    """The packages that a file imports anything from."""
    return {name.split(".")[0] for name in imports(path)}


@cache
def reached(module: str) -> frozenset[str]:
    """Our own modules and foreign packages that are imported when `module` is, directly or not."""
    seen: set[str] = set()
    rest = [module]
    while rest:
        name = rest.pop()
        if name in seen:
            continue
        seen.add(name)
        base = ROOT / name.replace(".", "/")
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.exists():
                rest += imports(file.relative_to(ROOT), lazy=False)
        parent = name.rpartition(".")[0]
        if parent:
            rest.append(parent)
    return frozenset(seen)


@pytest.mark.parametrize("part", ["engine", "safety", "storage"])
def test_the_three_know_nothing_of_each_other_or_of_the_app(part: str) -> None:
    others = {*PARTS, "launch", "training", "tests", "benchmarks"} - {part}
    wrong = {str(path): top_levels(path) & others for path in files(part)}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_the_app_uses_them_and_nothing_else_of_ours() -> None:
    wrong = {
        str(path) for path in files("app") if top_levels(path) & {"training", "tests", "launch"}
    }
    assert wrong == set()


def test_gradio_is_imported_by_the_page_and_the_share_link_alone() -> None:
    users = {
        path
        for path in files(*PARTS, "launch", "launcher.py")
        if top_levels(path) & {"gradio", "gradio_client"}
    }
    assert users, "the rule lost its object"
    assert {path for path in users if path.parts[:2] != ("app", "page")} <= {Path("app/share.py")}


def test_http_stays_in_the_app_the_remote_engine_and_the_remote_guard() -> None:
    web = {"fastapi", "starlette", "uvicorn", "httpx"}
    users = {str(path) for path in files("engine", "safety", "storage") if top_levels(path) & web}
    assert users <= {"engine/remote.py", "safety/remote_guard.py"}


@pytest.mark.parametrize("module", ["engine.base", "engine.remote", "engine.scripted"])
def test_seam_and_light_engines_do_without_torch(module: str) -> None:
    assert (ROOT / (module.replace(".", "/") + ".py")).exists(), "renamed: name the new one here"
    assert "torch" not in reached(module)


@pytest.mark.parametrize(
    "module", ["app.server", "app.services", "app.page.mount", "engine.local", "engine.scheduler"]
)
def test_the_chat_path_does_without_transformers(module: str) -> None:
    assert (ROOT / (module.replace(".", "/") + ".py")).exists(), "renamed: name the new one here"
    assert "transformers" not in reached(module)


def test_the_page_is_up_before_anything_heavy_is_imported() -> None:
    assert not {"torch", "transformers", "tokenizers"} & reached("app.server")


def test_only_services_names_concrete_classes() -> None:
    wrong = {}
    for path in files("app"):
        named = {name.rsplit(".", 1)[-1] for name in imports(path)} & CONCRETE
        if named and path != Path("app/services.py"):
            wrong[str(path)] = named
    assert wrong == {}
    assert {name.rsplit(".", 1)[-1] for name in imports(Path("app/services.py"))} & CONCRETE


def test_the_launcher_needs_python_alone() -> None:
    """Also in what it imports of ours: it runs before anything is installed."""
    ours = {*PARTS, "launch", "launcher"}
    pending, seen = [*files("launch", "launcher.py")], set()
    while pending:
        path = pending.pop()
        seen.add(path)
        foreign = top_levels(path) - set(sys.stdlib_module_names) - ours
        assert not foreign, f"{path} imports {foreign}"
        for name in imports(path):
            file = Path(name.replace(".", "/") + ".py")
            if (ROOT / file).exists() and file not in seen:
                pending.append(file)
    assert Path("launch/install.py") in seen


def test_every_package_that_is_imported_stands_in_the_project_file_with_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = {name.lower() for name in re.findall(r'^    "([\w-]+)[>=].*?", *#', text, re.M)}
    named |= {"pysqlite3"}  # has its reason in the line above
    # The worker runs in an environment of its own, which has nothing of ours.
    ours = [path for path in files(*PARTS) if path.name != "code_shield_worker.py"]
    imported = set().union(*(top_levels(path) for path in ours))
    foreign = imported - set(sys.stdlib_module_names) - set(PARTS)
    packages = importlib.metadata.packages_distributions()
    missing = {
        module
        for module in foreign
        if not {name.lower().replace("_", "-") for name in packages.get(module, [module])} & named
    }
    assert missing == set()


def test_ours_are_all_of_the_checked_folders() -> None:
    """A module in a new top-level folder would escape every rule above."""
    tracked = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    folders = {Path(line).parts[0] for line in tracked.stdout.splitlines()}
    known = {*PARTS, "launch", "launcher.py", "training", "tests", "benchmarks", "docs"}
    assert folders <= known


def test_files_of_tests_take_nothing_from_each_other() -> None:
    """What two of them need stands in a module of its own."""
    wrong = {
        f"{path} <- {name}"
        for path in files("tests")
        for name in imports(path)
        if re.match(r"tests\..*\btest_", name)
    }
    assert wrong == set()


def test_importing_is_read_rightly(tmp_path: Path) -> None:
    """The reader of imports itself: lazy ones count for the rules, not for the start."""
    source = "import a.b\nfrom c import d\ndef f():\n    import e\n"
    (tmp_path / "m.py").write_text(source)
    path = tmp_path / "m.py"  # absolute: the root in front of it falls away
    assert imports(path) == {"a.b", "c", "c.d", "e"}
    assert imports(path, lazy=False) == {"a.b", "c", "c.d"}
