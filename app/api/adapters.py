"""`MODEL:ADAPTER`: a request that wants a LoRA adapter over the model that answers everybody.

Only adapters in the models folder have such names. One is opened for a request and closed behind
it; requests with different adapters share the model's passes (`engine/low_rank.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.services import Services
from engine.base import Engine, Switching
from engine.catalog import installed
from engine.errors import CheckpointMissing


class Adapters:
    """The adapters that requests may name. Reads small files: not on the event loop."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def names(self) -> list[str]:
        """Those that fit the model that answers now."""
        engine: object = self._services.engine.peek()
        if not isinstance(engine, Switching):
            return []
        return [name for name, path in self._installed().items() if engine.holds(path)]

    @contextmanager
    def over(self, engine: Engine, name: str) -> Iterator[Engine]:
        """`engine` with the adapter called `name`, or as it is for "". Raises `EngineError`."""
        if not name:
            yield engine
            return
        path = self._installed().get(name)
        if path is None or not isinstance(engine, Switching):
            raise CheckpointMissing(f"There is no adapter {name} for this model any more.")
        adapted = engine.switched(path)
        try:
            yield adapted
        finally:
            adapted.close()

    def _installed(self) -> dict[str, Path]:
        folders = installed(self._services.settings.data / "models")
        return {name: path for name, path in folders if (path / "adapter_config.json").is_file()}
