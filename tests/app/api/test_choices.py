"""Several choices of one call: the prompt is read once, and nothing of it stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from torch import Tensor

from engine.base import Prompt, Sampling
from engine.errors import DeviceOutOfMemory
from engine.kv_cache import Slot
from engine.llama import Llama
from engine.local import LocalEngine
from engine.options import Options
from storage.records import OWNER_ID
from tests.app.api.house import House, events
from tests.app.fakes import TellingEngine, WordGuard
from tests.engine.checkpoints import make_checkpoint

NUM_NEW = 6
WORDS = "and so on " * 30
DRAWN: dict[str, Any] = {"temperature": 1.0, "max_tokens": NUM_NEW}
FIELDS: dict[str, Any] = {"messages": [{"role": "user", "content": WORDS}], "seed": 3, **DRAWN}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Corral with a tiny model of random weights, whose passes `read` counts."""
    place = tmp_path_factory.mktemp("choices")
    folder = make_checkpoint(place / "model", max_position_embeddings=1024)
    engine = LocalEngine(
        folder, Options(device="cpu", precision="fp32", threads=1, speculate=False)
    )
    made = House(place / "data", engine=engine)
    yield made
    made.services.close()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each pass read for each row."""
    found: list[int] = []
    forward = Llama.forward

    def counted(
        self: Llama, ids: Sequence[int], spans: Sequence[tuple[Slot, int]], *, every: bool = False
    ) -> Tensor:
        found.extend(num for _, num in spans)
        return forward(self, ids, spans, every=every)

    monkeypatch.setattr(Llama, "forward", counted)
    return found


def texts(answer: Any) -> list[str]:
    return [choice["message"]["content"] for choice in answer.json["choices"]]


def streamed(answer: Any, num: int) -> list[str]:
    found = [""] * num
    for event in events(answer):
        for choice in event["choices"]:
            found[choice["index"]] += choice["delta"].get("content") or ""
    return found


def test_the_prompt_is_read_once_for_all_choices(house: House, read: list[int]) -> None:
    alone = [texts(house.chat(**{**FIELDS, "seed": 3 + at}))[0] for at in range(4)]
    in_four_runs = sum(read)
    length = house.chat(**FIELDS).json["usage"]["prompt_tokens"]
    for stream in (False, True):
        read.clear()
        answer = house.chat(**FIELDS, n=4, stream=stream)
        assert (streamed(answer, 4) if stream else texts(answer)) == alone
        # The prompt once, its last token for each of the others, and what was written.
        assert 300 < length <= sum(read) <= length + 4 * NUM_NEW < in_four_runs / 2
        assert _held(house) == 0, "nothing of a call is kept"


def _held(house: House) -> int:
    engine = house.services.engine.peek()
    assert isinstance(engine, LocalEngine)
    return engine.cache_sizes().device_bytes


def test_completions_share_each_of_their_prompts(house: House, read: list[int]) -> None:
    prompts = ["one " * 60, "two " * 60]
    found = house.complete(prompts, n=3, seed=5, **DRAWN).json
    assert sum(read) <= found["usage"]["prompt_tokens"] + 6 * NUM_NEW
    assert len({choice["text"] for choice in found["choices"]}) > 2
    last = house.complete(prompts[1], seed=7, **DRAWN).json["choices"][0]["text"]
    assert found["choices"][5]["text"] == last
    assert _held(house) == 0


def test_a_chat_keeps_its_cache_beside_a_call(house: House) -> None:
    """A call of the same user with the same words neither takes nor forgets what a chat keeps."""
    engine = house.services.engine.peek()
    assert isinstance(engine, LocalEngine)

    def turn() -> int:
        prompt = Prompt(messages=[{"role": "user", "content": WORDS}])
        scope = f"user-{OWNER_ID}/chat"
        sampling = Sampling(temperature=0, max_new_tokens=2)
        *_, last = engine.stream(prompt, sampling, cancel=Event(), scope=scope)
        assert last.statistics is not None
        return last.statistics.num_reused

    assert turn() == 0
    house.chat(**FIELDS, n=2)
    assert turn() > 300
    engine.forget(f"user-{OWNER_ID}")


def test_pieces_of_a_stream_come_in_turn_and_a_stopped_choice_stops_no_other(
    tmp_path: Path,
) -> None:
    replies = ["This is fine. And it goes on.", "Now the forbidden word. And more.", "Last one."]
    house = House(tmp_path, engine=TellingEngine(replies), guard=WordGuard())
    answer = house.chat(n=3, stream=True)
    ends = {
        choice["index"]: choice["finish_reason"]
        for event in events(answer)
        for choice in event["choices"]
        if choice["finish_reason"]
    }
    assert ends == {0: "stop", 1: "content_filter", 2: "stop"}
    said = streamed(answer, 3)
    assert (said[0], said[2]) == (replies[0], replies[2]) and "forbidden" not in said[1]
    order = [c["index"] for event in events(answer) for c in event["choices"]]
    assert order.index(2) < len(order) - 1 - order[::-1].index(0), "one after the other"
    house.services.close()


def test_the_day_counts_a_shared_prompt_once(tmp_path: Path) -> None:
    house = House(tmp_path, engine=TellingEngine(["One two.", "Three four."]))
    people = house.services.store.people
    people.set_quota(OWNER_ID, 100)
    used = house.chat(n=2).json["usage"]
    assert used == {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
    assert people.tokens_left(OWNER_ID) == 89
    house.services.close()


def test_a_choice_without_memory_ends_the_call_with_a_sentence(tmp_path: Path) -> None:
    engine = TellingEngine(["One two three."], fails_after=1, error=DeviceOutOfMemory("No room."))
    house = House(tmp_path, engine=engine)
    answer = house.chat(n=3)
    assert answer.status >= 400 and answer.json["error"]["message"]
    assert [scope.startswith("~api-1/") for scope in engine.forgotten] == [True]
    house.services.close()
