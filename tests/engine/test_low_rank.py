"""Adapters switched while the model runs: each answers as if it were merged, none sees another."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.adapter import open_adapter
from engine.base import Prompt, Sampling
from engine.checkpoint import open_checkpoint
from engine.errors import CheckpointBroken, EngineClosed, ModelUnsupported
from engine.kv_cache import Slot
from engine.loading import load_model
from engine.local import LocalEngine
from engine.low_rank import attach, detach
from engine.options import Options
from tests.engine.adapter_files import merge, write_adapter
from tests.engine.answers import greedy_reply
from tests.engine.checkpoints import make_checkpoint

CPU = torch.device("cpu")
# Heads that the own kernel can walk, and a context that no test fills.
SHAPE = {"hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 8192}
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PROMPT = Prompt(messages=[{"role": "user", "content": "Hello, who are you?"}])
GREEDY = Sampling(temperature=0, max_new_tokens=24)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, adapters over it, and each of these merged into it by hand."""
    root = tmp_path_factory.mktemp("adapters")
    base = make_checkpoint(root / "base", **SHAPE)
    for name, options in (
        ("attention", {}),
        ("all", {"targets": ALL, "seed": 8, "use_rslora": True}),
    ):
        adapter = write_adapter(base, root / name, **options)  # type: ignore[arg-type]
        merge(base, adapter, root / f"{name}-merged", lambda _, o=options: 4 if o else 2)
    return root


@pytest.fixture(scope="module")
def engine(root: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(root / "base", Options(device="cpu", precision="fp32", threads=1))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def answers(root: Path) -> dict[str, list[int]]:
    """What each says when it is loaded by itself."""
    names = {"base": "base", "attention": "attention-merged", "all": "all-merged"}
    return {name: greedy_reply(root / folder).ids for name, folder in names.items()}


def ids(engine: LocalEngine, *, scope: str = "", prompt: Prompt = PROMPT) -> list[int]:
    chunks = engine.stream(prompt, GREEDY, cancel=Event(), scope=scope)
    return [id for chunk in chunks for id in chunk.ids]


def reused(engine: LocalEngine, prompt: Prompt) -> int:
    *_, last = engine.stream(prompt, GREEDY, cancel=Event(), scope="1/a")
    assert last.statistics is not None
    return last.statistics.num_reused


def test_every_adapter_answers_as_if_it_were_merged(
    root: Path, engine: LocalEngine, answers: dict[str, list[int]]
) -> None:
    assert len({tuple(each) for each in answers.values()}) == 3
    views = {name: engine.switched(root / name) for name in answers}
    assert {name: ids(view) for name, view in views.items()} == answers
    for view in views.values():
        view.close()


@pytest.mark.parametrize("name", ["attention", "all"])
def test_logits_are_those_of_the_merged_weights(name: str, root: Path) -> None:
    """Read at once and token by token; float32 adds in another order, so not to the last bit."""
    model, _ = load_model(open_checkpoint(root / "base"), CPU, "fp32")
    merged, _ = load_model(open_checkpoint(root / f"{name}-merged"), CPU, "fp32")
    adapter = open_adapter(root / name)
    attach(model, adapter)
    tokens = list(range(3, 43))
    expected = logits(merged, tokens, [40])
    for parts in ([40], [10, *[1] * 30]):
        ours = logits(model, tokens, parts, adapter.fingerprint)
        assert (ours - expected).abs().max() < 3e-4 * expected.abs().max()
    detach(model, adapter.fingerprint)
    assert not model.adapters
    assert not any(linear.changes for block in model.blocks for linear in block.linears())


def logits(model, tokens: list[int], parts: Sequence[int], adapter: str = "") -> torch.Tensor:  # type: ignore[no-untyped-def]
    slot = Slot(model.cache_shape, adapter=adapter)
    model.make_room(slot, len(tokens))
    rows, at = [], 0
    for num in parts:
        rows.append(model.forward(tokens[at : at + num], [(slot, num)], every=True))
        at += num
    return torch.cat(rows)


def test_rows_of_one_pass_compute_each_with_its_own(
    root: Path, engine: LocalEngine, answers: dict[str, list[int]]
) -> None:
    """Base and both adapters write at once, twice each, and say what they say alone."""
    views = [engine.switched(root / name) for name in answers]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(ids, [*views, *views]))
    assert together == [*answers.values(), *answers.values()]
    for view in views:
        view.close()


def test_no_prefix_is_shared_between_adapters(root: Path, engine: LocalEngine) -> None:
    """The same words in the same conversation: read anew by each, then found by each, and kept."""
    prompt = Prompt(text="once upon a time " * 20)
    views = [engine, engine.switched(root / "attention"), engine.switched(root / "all")]
    assert [reused(view, prompt) for view in views] == [0, 0, 0]
    assert all(reused(view, prompt) > 300 for view in views)
    for view in views[1:]:
        view.close()


def test_kept_pieces_on_the_disk_are_an_adapters_own(root: Path, tmp_path: Path) -> None:
    prompt = Prompt(text="once upon a time " * 20)
    options = Options(device="cpu", precision="fp32", threads=1, disk_folder=tmp_path)
    first = LocalEngine(root / "base", options)
    view = first.switched(root / "all")
    expected = ids(view, scope="1/a", prompt=prompt)
    view.close()
    first.close()
    second = LocalEngine(root / "base", options)
    view = second.switched(root / "all")
    assert reused(second, prompt) == 0
    assert reused(view, prompt) >= 256
    assert ids(view, scope="1/a", prompt=prompt) == expected
    view.close()
    second.close()


def test_the_weights_go_with_the_last_view(root: Path, answers: dict[str, list[int]]) -> None:
    engine = LocalEngine(root / "base", Options(device="cpu", precision="fp32", threads=1))
    view = engine.switched(root / "attention")
    engine.close()
    engine.close()
    assert ids(view) == answers["attention"]
    plain = view.switched(root / "base")
    view.close()
    assert ids(plain) == answers["base"]
    plain.close()
    with pytest.raises(EngineClosed):
        ids(plain)


def test_closing_a_view_ends_its_rows_and_no_others(
    root: Path, engine: LocalEngine, answers: dict[str, list[int]]
) -> None:
    view = engine.switched(root / "all")
    endless = {257: -100.0, 260: -100.0}
    long = Sampling(temperature=0, max_new_tokens=8000, logit_bias=endless)
    short = Sampling(temperature=0, max_new_tokens=120, logit_bias=endless)
    own = view.stream(PROMPT, long, cancel=Event(), scope="1/a")
    other = engine.stream(PROMPT, short, cancel=Event(), scope="1/a")
    next(own), next(other)
    view.close()
    with pytest.raises(EngineClosed):
        list(own)
    assert sum(len(chunk.ids) for chunk in other) > 110
    again = engine.switched(root / "all")
    assert ids(again) == answers["all"]
    again.close()


def test_scores_are_the_adapters_too(root: Path, engine: LocalEngine) -> None:
    merged = LocalEngine(root / "all-merged", Options(device="cpu", precision="fp32", threads=1))
    view = engine.switched(root / "all")
    text = "The quick brown fox"
    assert view.score(text).logprobs == pytest.approx(merged.score(text).logprobs, abs=1e-4)
    assert view.score(text).logprobs != pytest.approx(engine.score(text).logprobs, abs=0.1)
    assert view.info().fingerprint not in (engine.info().fingerprint, merged.info().fingerprint)
    assert view.info().model == "all"
    view.close()
    merged.close()


def test_an_int8_base_takes_adapters_that_cannot_be_merged(root: Path, tmp_path: Path) -> None:
    """The change is computed beside the stored integers: nothing is rounded again."""
    stored = open_checkpoint(make_checkpoint(tmp_path / "int8", int8=True, **SHAPE))
    wide = make_checkpoint(tmp_path / "wide", **SHAPE)
    weights = load_file(wide / "model.safetensors")
    for name in weights:
        if f"{name}_scale" in stored.tensors:
            weights[name] = stored.read(name).float() * stored.read(f"{name}_scale")
    save_file(weights, wide / "model.safetensors")
    by_hand = merge(wide, root / "attention", tmp_path / "merged", lambda _: 2)
    merged, _ = load_model(open_checkpoint(by_hand), CPU, "fp32")
    tokens = list(range(3, 43))
    expected = logits(merged, tokens, [40])
    largest, adapter = expected.abs().max(), open_adapter(root / "attention")
    for precision in ("fp32", "int8"):
        model, _ = load_model(stored, CPU, precision)
        attach(model, adapter)
        errors = (logits(model, tokens, [40], adapter.fingerprint) - expected).abs().amax(dim=1)
        if precision == "fp32":
            assert errors.max() < 3e-4 * largest
        else:  # activations and the tables are int8 too, which sharp attention may magnify
            assert errors.median() < 0.1 * largest


def test_which_paths_need_no_loading(root: Path, engine: LocalEngine, tmp_path: Path) -> None:
    assert engine.holds(root / "base")
    assert engine.holds(root / "all")
    other = make_checkpoint(tmp_path / "other")
    assert not engine.holds(other)
    assert not engine.holds(write_adapter(other, tmp_path / "foreign"))
    whole = write_adapter(root / "base", tmp_path / "whole")
    path = whole / "adapter_model.safetensors"
    save_file({**load_file(path), "base_model.model.lm_head.weight": torch.zeros(288, 64)}, path)
    assert not engine.holds(whole)
    with pytest.raises(ModelUnsupported, match=r"lm_head\.weight.*--adapter"):
        engine.switched(whole)


def test_an_adapter_of_another_shape_is_refused_and_leaves_nothing(
    engine: LocalEngine, tmp_path: Path
) -> None:
    narrow = make_checkpoint(tmp_path / "narrow")
    deep = make_checkpoint(tmp_path / "deep", **SHAPE, num_hidden_layers=9)
    before = ids(engine)
    for base in (narrow, deep):
        with pytest.raises(CheckpointBroken, match="another"):
            engine.switched(write_adapter(base, tmp_path / f"{base.name}-adapter"))
    assert ids(engine) == before
