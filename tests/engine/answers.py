"""A tiny engine, asking one, and the greedy answer that tells formats apart."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from engine.base import Chunk, EngineInfo, Message, Prompt, Sampling
from engine.local import LocalEngine
from engine.options import Options
from tests.engine.checkpoints import make_checkpoint

GREEDY = Sampling(temperature=0, max_new_tokens=12)


@dataclass(frozen=True)
class Answer:
    ids: list[int]
    text: str
    info: EngineInfo


QUESTION = "Hello, who are you?"


def greedy_reply(path: Path, num_new: int = 24, text: str = QUESTION, **options: Any) -> Answer:
    """What the model at `path` answers to a question, in float32."""
    engine = LocalEngine(path, Options(device="cpu", precision="fp32", threads=1, **options))
    try:
        prompt = Prompt(messages=[{"role": "user", "content": text}])
        sampling = Sampling(temperature=0, max_new_tokens=num_new)
        chunks = ask(engine, prompt, sampling, scope="")
        return Answer(ids_of(chunks), text_of(chunks), engine.info())
    finally:
        engine.close()


@contextmanager
def tiny_engine(folder: Path) -> Iterator[LocalEngine]:
    """A random model, written to `folder`, that answers in float32."""
    made = make_checkpoint(folder)
    engine = LocalEngine(made, Options(device="cpu", precision="fp32", cache_bytes=64 << 20))
    yield engine
    engine.close()


def ask(
    engine: LocalEngine,
    prompt: Prompt | list[Message],
    sampling: Sampling = GREEDY,
    scope: str = "1",
) -> list[Chunk]:
    prompt = Prompt(messages=prompt) if isinstance(prompt, list) else prompt
    return list(engine.stream(prompt, sampling, cancel=Event(), scope=scope))


def ids_of(chunks: Sequence[Chunk]) -> list[int]:
    return [id for chunk in chunks for id in chunk.ids]


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)
