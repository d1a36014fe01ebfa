"""Keeps Gradio from writing type stubs when it is imported, and from seeking matplotlib.

`gradio.component_meta.create_or_modify_pyi` parses every component's source several times and
writes `.pyi` files into the installation, for the editors of people who develop with Gradio: nearly
half of the processor time of `import gradio` (measured: 3.8 s with, 2.1 s without; Gradio 6.31).
To be removed when Gradio has a switch for it.

Around each call of a handler, and so for every update of a streamed answer, Gradio tries to import
matplotlib twice. Where it is not installed Python looks through all folders each time: a third of
the cost of an update (measured; Gradio 6.31).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

MODULE = "gradio.component_meta"
FUNCTION = "create_or_modify_pyi"


class _Loader(Loader):
    """Loads the module as usual, then takes the function out of use."""

    def __init__(self, usual: Loader) -> None:
        self._usual = usual

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._usual.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._usual.exec_module(module)
        if hasattr(module, FUNCTION):
            setattr(module, FUNCTION, lambda *_: None)


class _Finder(MetaPathFinder):
    """Steps in for that one module, once."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


def skip_stub_files() -> None:
    """Call before the first import of Gradio; does nothing after it."""
    if "gradio" not in sys.modules and not any(isinstance(f, _Finder) for f in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def skip_matplotlib() -> None:
    """Let `import matplotlib` fail at once, in this process; nothing of ours draws with it."""
    sys.modules.setdefault("matplotlib", None)  # type: ignore[arg-type]  # as Python documents it
