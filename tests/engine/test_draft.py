"""A draft model: what it guesses is verified, kept, forgotten, and left where it does not pay."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from benchmarks.engine_rows import ToldDraft
from engine.base import Prompt, Sampling
from engine.errors import ModelUnsupported
from engine.kv_cache import Slot
from engine.local import LocalEngine
from engine.options import Options
from engine.speculation import Lookup, Worth
from tests.engine.answers import ids_of
from tests.engine.checkpoints import make_checkpoint
from tests.engine.scheduling import OUT_OF_MEMORY, Bench, loaded, prompt_of

Make = Callable[..., Bench]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model, one of the same vocabulary that it nearly never agrees with, and one of another."""
    place = tmp_path_factory.mktemp("models")
    return {
        "own": make_checkpoint(place / "own"),
        "other": make_checkpoint(place / "other", seed=5, num_hidden_layers=1),
        "foreign": make_checkpoint(place / "foreign", vocab_size=320),
    }


@pytest.fixture
def make(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Benches whose draft guesses whatever it costs, and alone: nothing is looked up."""
    monkeypatch.setattr(Worth, "allows", lambda _self: True)
    monkeypatch.setattr(Lookup, "propose", lambda _self, _tokens, _most: [])
    made: list[Bench] = []

    def bench(draft: str = "", **options: Any) -> Bench:
        model = loaded(folders[draft]) if draft else None
        made.append(Bench(folders["own"], draft=model, **options))
        return made[-1]

    yield bench
    for each in made:
        each.scheduler.close()


@pytest.mark.parametrize("draft", ["own", "other"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_no_answer_changes(make: Make, draft: str, temperature: float) -> None:
    plain, bench = make(speculate=False), make(draft)
    for seed in range(3):
        sampling = Sampling(temperature=temperature, seed=seed)
        prompt = prompt_of(10 + 60 * seed, seed)
        expected = ids_of(list(plain.ask(prompt, 50, scope="", sampling=sampling)))
        assert ids_of(list(bench.ask(prompt, 50, scope="", sampling=sampling))) == expected


def test_right_guesses_save_passes(make: Make) -> None:
    bench = make("own")
    assert len(ids_of(list(bench.ask(prompt_of(20), 100, scope="")))) == 100
    assert len(bench.model.passes) < 30


def test_rows_of_a_batch_are_guessed_together(make: Make) -> None:
    plain, bench = make(speculate=False), make("own")
    prompts = [prompt_of(10 + seed, seed) for seed in range(3)]
    alone = [ids_of(list(plain.ask(prompt, 40, scope=""))) for prompt in prompts]
    go = bench.hold()
    streams = [bench.ask(prompt, 40, scope=str(at)) for at, prompt in enumerate(prompts)]
    go.set()
    assert [ids_of(list(stream)) for stream in streams] == alone
    assert bench.draft is not None
    assert any(each == [1, 1, 1] for each in bench.draft.passes)


def test_a_long_prompt_is_read_in_parts_and_the_next_turn_reads_what_is_new(make: Make) -> None:
    bench = make("own")
    assert bench.draft is not None
    prompt = prompt_of(180)
    reply = ids_of(list(bench.ask(prompt, 30, scope="1/a")))
    first = [n for each in bench.draft.passes for n in each]
    assert max(first) <= 128 and sum(first) >= 180
    bench.draft.passes.clear()
    list(bench.ask([*prompt, *reply, 7, 8, 9], 10, scope="1/a"))
    assert sum(n for each in bench.draft.passes for n in each) < 60


def test_what_a_row_leaves_is_forgotten_with_it(make: Make) -> None:
    bench = make("own")
    list(bench.ask(prompt_of(40), 10, scope="1/gone"))
    kept = bench.scheduler.sizes().device_bytes
    bench.scheduler.forget("1/gone")
    assert kept > 0 and bench.scheduler.sizes().device_bytes == 0
    stream = bench.ask(prompt_of(40), 60, scope="1/gone")
    next(stream)
    bench.scheduler.forget("1/gone")
    assert len(ids_of(list(stream))) >= 58
    list(bench.ask(prompt_of(40), 10, scope=""))
    assert bench.scheduler.sizes().device_bytes == 0


def test_without_memory_it_guesses_nothing_and_the_answer_goes_on(make: Make) -> None:
    plain, bench = make(speculate=False), make("own")
    assert bench.draft is not None
    failures = [OUT_OF_MEMORY, OUT_OF_MEMORY]

    def fail(ids: Sequence[int], spans: Sequence[tuple[Slot, int]]) -> None:
        if len(bench.model.passes) > 4 and failures:
            raise failures.pop()

    bench.draft.before = fail
    expected = ids_of(list(plain.ask(prompt_of(20), 60, scope="")))
    assert ids_of(list(bench.ask(prompt_of(20), 60, scope=""))) == expected
    assert not failures


def test_where_it_does_not_pay_it_rests(folders: dict[str, Path]) -> None:
    """A draft as large as the model costs as much as it saves, and one that errs more."""
    bench = Bench(folders["own"], draft=loaded(folders["other"]))
    assert len(ids_of(list(bench.ask(prompt_of(20), 230, scope="")))) == 230
    assert bench.draft is not None
    drafted = len(bench.draft.passes)
    bench.scheduler.close()
    assert drafted < 100


@pytest.mark.parametrize(("rate", "least", "most"), [(1.0, 25, 28), (0.9, 29, 60), (0.0, 81, 100)])
def test_the_benchmarks_draft_is_right_as_often_as_it_is_told(
    folders: dict[str, Path], make: Make, rate: float, least: int, most: int
) -> None:
    prompt = prompt_of(20)
    expected = ids_of(list(make(speculate=False).ask(prompt, 100, scope="")))
    draft = ToldDraft(loaded(folders["other"]), rate)
    draft.text = [*prompt, *expected]
    bench = Bench(folders["own"], draft=draft)
    assert ids_of(list(bench.ask(prompt, 100, scope=""))) == expected
    bench.scheduler.close()
    assert least <= len(bench.model.passes) <= most


def test_a_draft_of_another_vocabulary_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelUnsupported, match="tokens differ"):
        LocalEngine(folders["own"], Options(device="cpu", draft=folders["foreign"]))


def test_the_engine_names_its_draft(folders: dict[str, Path]) -> None:
    engine = LocalEngine(folders["own"], Options(device="cpu", threads=1, draft=folders["other"]))
    plain = LocalEngine(folders["own"], Options(device="cpu", threads=1))
    greedy = Sampling(temperature=0, max_new_tokens=40)
    texts = [
        "".join(
            chunk.text for chunk in each.stream(Prompt(text="hi"), greedy, cancel=Event(), scope="")
        )
        for each in (engine, plain)
    ]
    assert engine.info().draft == "other" and plain.info().draft == ""
    assert texts[0] == texts[1]
    engine.close()
    plain.close()
