"""Known weaknesses in Python code, found in its syntax tree.

Reads code, never runs it. It knows calls by the names they are written with, after following the
imports of the same block; it does not follow values from place to place.
CWE numbers: cwe.mitre.org.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from safety.code_rules import SECRET_NAME, Finding, finding

_SHELL_CALLS = {
    "subprocess.run", "subprocess.call", "subprocess.Popen", "subprocess.check_call",
    "subprocess.check_output",
}  # fmt: skip
_ALWAYS_SHELL = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
_UNPICKLERS = {
    "pickle.load", "pickle.loads", "cPickle.load", "cPickle.loads", "dill.load", "dill.loads",
    "marshal.loads", "shelve.open", "joblib.load", "pandas.read_pickle",
}  # fmt: skip
_WEAK_HASHES = {"hashlib.md5", "hashlib.sha1"}
_GUESSABLE = {"random.random", "random.randint", "random.choice", "random.choices", "random.sample"}
_SECRET_TARGETS = ("token", "secret", "password", "passwd", "otp", "nonce", "salt", "session")
_SQL_WORDS = ("select ", "insert ", "update ", "delete ", "drop ", "where ", "alter ")
_HTTP = ("requests.", "httpx.", "session.")


def check_python(code: str) -> list[Finding]:
    """Findings in line order. Raises `SyntaxError` where `code` is not Python (yet)."""
    try:
        tree = ast.parse(code)
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, absurd nesting
        raise SyntaxError("not readable as Python") from error
    names = _imported(tree)
    found = [f for node in ast.walk(tree) for f in _findings(node, names)]
    return sorted(set(found), key=lambda f: (f.line, f.rule))


def _imported(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for: `from os import system as s` gives s → os.system."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """`a.b.c` as written, with the first part replaced by what was imported; "" if no name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ".".join(["", *reversed(parts)]) if parts else ""
    return ".".join([names.get(node.id, node.id), *reversed(parts)])


def _findings(node: ast.AST, names: dict[str, str]) -> Iterator[Finding]:
    if isinstance(node, ast.Call):
        for rule in _call_rules(node, names):
            yield finding(rule, node.lineno)
    elif isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets: list[ast.expr] = []
        targets += node.targets if isinstance(node, ast.Assign) else [node.target]
        for rule in _assignment_rules(targets, node.value, names):
            yield finding(rule, node.lineno)


def _call_rules(call: ast.Call, names: dict[str, str]) -> Iterator[str]:
    name = _dotted(call.func, names)
    keywords = {k.arg: k.value for k in call.keywords if k.arg}
    first = call.args[0] if call.args else None
    if name in ("eval", "exec", "builtins.eval", "builtins.exec"):
        if not isinstance(first, ast.Constant):
            yield "code_injection"
    elif name in _ALWAYS_SHELL or (name in _SHELL_CALLS and _is(keywords.get("shell"), True)):
        if not isinstance(first, ast.Constant):
            yield "shell_injection"
    elif name in _UNPICKLERS or name == "yaml.load" and not _safe_loader(call, names):
        yield "unsafe_deserialization"
    elif name in _WEAK_HASHES and not _is(keywords.get("usedforsecurity"), False):
        yield "weak_hash"
    elif name == "tempfile.mktemp":
        yield "predictable_temporary_file"
    elif name.endswith(".extractall") and "filter" not in keywords:
        yield "archive_path_traversal"
    elif name == "ssl._create_unverified_context":
        yield "certificate_not_checked"
    elif name.endswith(".set_missing_host_key_policy") and first is not None:
        if "AutoAddPolicy" in ast.dump(first):
            yield "certificate_not_checked"
    elif name.endswith((".execute", ".executemany", ".executescript", ".raw")):
        yield from ["sql_injection"] if first is not None and _built_sql(first) else []
    if _is(keywords.get("verify"), False) and name.startswith(_HTTP):
        yield "certificate_not_checked"
    if name.endswith(".run") and _is(keywords.get("debug"), True):
        yield "debug_left_on"


def _assignment_rules(
    targets: list[ast.expr], value: ast.expr | None, names: dict[str, str]
) -> Iterator[str]:
    written = [ast.unparse(target).lower() for target in targets]
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        if any(SECRET_NAME.search(name) for name in written) and _like_a_secret(value.value):
            yield "hard_coded_secret"
    elif value is not None and any(word in name for name in written for word in _SECRET_TARGETS):
        calls = [node for node in ast.walk(value) if isinstance(node, ast.Call)]
        if any(_dotted(call.func, names) in _GUESSABLE for call in calls):
            yield "guessable_random"


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _safe_loader(call: ast.Call, names: dict[str, str]) -> bool:
    loaders = [k.value for k in call.keywords if k.arg == "Loader"] + call.args[1:2]
    return any("Safe" in _dotted(loader, names) for loader in loaders)


def _built_sql(node: ast.expr) -> bool:
    """Whether a query is put together from values instead of taking parameters."""
    if isinstance(node, ast.JoinedStr):
        parts = [p.value for p in node.values if isinstance(p, ast.Constant)]
        return len(parts) < len(node.values) and _sql("".join(map(str, parts)))
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mod)):
        texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
        whole = all(isinstance(n, (ast.Constant, ast.BinOp, ast.operator)) for n in ast.walk(node))
        return not whole and _sql(" ".join(map(str, texts)))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        base = node.func.value
        return (
            node.func.attr == "format" and isinstance(base, ast.Constant) and _sql(str(base.value))
        )
    return False


def _sql(text: str) -> bool:
    return any(word in text.lower() + " " for word in _SQL_WORDS)


def _like_a_secret(value: str) -> bool:
    """Not empty, not a placeholder, not a sentence."""
    plain = value.strip().lower()
    placeholders = (
        "your",
        "xxx",
        "<",
        "changeme",
        "example",
        "...",
        "***",
        "${",
        "{{",
        "placeholder",
    )
    return len(plain) >= 6 and " " not in plain and not any(p in plain for p in placeholders)
