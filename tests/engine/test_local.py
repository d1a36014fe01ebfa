"""The local engine from a folder to text: streaming, prefix reuse, limits, faults."""

import threading
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
import torch
from safetensors.torch import load_file

from engine import matrices
from engine.base import Message, Prompt, Sampling
from engine.checkpoint import open_checkpoint
from engine.errors import (
    CheckpointBroken,
    CheckpointMissing,
    ContextFull,
    DeviceAbsent,
    DeviceOutOfMemory,
    EngineClosed,
    ModelUnsupported,
    PromptEmpty,
)
from engine.kv_cache import Slot
from engine.local import LocalEngine
from engine.options import Options
from engine.weights import load_llama
from tests.engine.answers import ask, ids_of, text_of
from tests.engine.checkpoints import make_checkpoint, save_weights


@pytest.fixture
def engine(folder: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(folder, Options(device="cpu", cache_bytes=64 << 20))
    yield engine
    engine.close()


def test_a_greedy_answer_is_streamed_token_by_token(engine: LocalEngine) -> None:
    chunks = ask(engine, [{"role": "user", "content": "hello"}])
    assert chunks[-1].finish_reason == "length"
    statistics = chunks[-1].statistics
    assert statistics is not None
    assert statistics.num_new == len(ids_of(chunks)) == 12
    assert statistics.num_prompt == engine.count_tokens([{"role": "user", "content": "hello"}])
    assert sum(1 for chunk in chunks if chunk.ids) == 12


def test_the_next_turn_reads_only_what_is_new(engine: LocalEngine) -> None:
    messages: list[Message] = [{"role": "user", "content": "how are you?"}]
    first = ask(engine, messages)
    messages.append({"role": "assistant", "content": text_of(first), "ids": ids_of(first)})
    before = engine.count_tokens(messages)
    messages.append({"role": "user", "content": "and now?"})
    second = ask(engine, messages)
    statistics = second[-1].statistics
    assert statistics is not None
    first_statistics = first[-1].statistics
    assert first_statistics is not None
    # all of the first turn but its last token, whose keys no step has computed
    assert statistics.num_reused == first_statistics.num_prompt + first_statistics.num_new - 1
    assert statistics.num_reused < before < statistics.num_prompt


def test_a_reused_prefix_never_changes_the_answer(folder: Path, engine: LocalEngine) -> None:
    messages: list[Message] = [{"role": "user", "content": "tell me something long"}]
    first = ask(engine, messages)
    messages.append({"role": "assistant", "content": text_of(first), "ids": ids_of(first)})
    messages.append({"role": "user", "content": "more"})
    warm = ask(engine, messages)
    cold = ask(engine, messages, scope="")
    assert warm[-1].statistics is not None and warm[-1].statistics.num_reused > 0
    assert cold[-1].statistics is not None and cold[-1].statistics.num_reused == 0
    assert ids_of(warm) == ids_of(cold)


def test_prefixes_are_not_shared_between_owners(engine: LocalEngine) -> None:
    messages: list[Message] = [{"role": "user", "content": "the same long words for both of us"}]
    ask(engine, messages, scope="1/a")
    other = ask(engine, messages, scope="2/a")
    same = ask(engine, messages, scope="1/b")
    assert other[-1].statistics is not None and other[-1].statistics.num_reused == 0
    assert same[-1].statistics is not None and same[-1].statistics.num_reused > 0


def test_forgotten_conversations_leave_nothing(engine: LocalEngine) -> None:
    messages: list[Message] = [{"role": "user", "content": "a secret that must go away"}]
    ask(engine, messages, scope="1/a")
    assert engine.cache_sizes().device_bytes > 0
    engine.forget("1/a")
    assert engine.cache_sizes().device_bytes == 0


def test_a_prompt_longer_than_the_context_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(ContextFull) as caught:
        ask(engine, Prompt(text="x" * 300))
    assert caught.value.num_prompt == 301
    assert caught.value.context_length == 256


def test_generation_ends_at_the_end_of_the_context(engine: LocalEngine) -> None:
    chunks = ask(engine, Prompt(text="x" * 250), Sampling(temperature=0, logit_bias={260: -100}))
    assert chunks[-1].finish_reason == "length"
    assert len(ids_of(chunks)) == 256 - 251


def test_nothing_to_read_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(PromptEmpty):
        ask(engine, Prompt(ids=[]))
    with pytest.raises(PromptEmpty):
        ask(engine, Prompt(ids=[288]))


def test_cancel_ends_the_answer_and_keeps_what_there_is(engine: LocalEngine) -> None:
    cancel = Event()
    stream = engine.stream(
        Prompt(text="go on"),
        Sampling(temperature=0, max_new_tokens=240, logit_bias={260: -100}),
        cancel=cancel,
        scope="1",
    )
    chunks = [next(stream), next(stream)]
    cancel.set()
    chunks += list(stream)
    assert chunks[-1].finish_reason == "cancelled"
    assert len(ids_of(chunks)) < 239


def test_a_closed_engine_says_so(folder: Path) -> None:
    engine = LocalEngine(folder, Options(device="cpu", cache_bytes=1 << 20))
    stream = engine.stream(
        Prompt(text="go on"), Sampling(max_new_tokens=240), cancel=Event(), scope="1"
    )
    engine.close()
    engine.close()
    with pytest.raises(EngineClosed):
        list(stream)
    with pytest.raises(EngineClosed):
        ask(engine, Prompt(text="hello"))


def test_the_same_seed_gives_the_same_answer(engine: LocalEngine) -> None:
    options = Sampling(temperature=1.0, top_p=1.0, min_p=0.0, seed=7, max_new_tokens=20)
    prompt = Prompt(text="once upon a time")
    first = ask(engine, prompt, options)
    assert ids_of(ask(engine, prompt, options)) == ids_of(first)
    assert first[-1].statistics is not None and first[-1].statistics.seed == 7
    free = ask(engine, prompt, Sampling(temperature=1.0, max_new_tokens=20))
    assert free[-1].statistics is not None
    named = Sampling(temperature=1.0, max_new_tokens=20, seed=free[-1].statistics.seed)
    assert ids_of(ask(engine, prompt, named)) == ids_of(free)


def test_a_stop_string_ends_the_answer_and_is_not_shown(engine: LocalEngine) -> None:
    prompt = Prompt(text="abcdefgh")
    plain = text_of(ask(engine, prompt, Sampling(temperature=0, max_new_tokens=30)))
    stop = plain[4:6]
    chunks = ask(engine, prompt, Sampling(temperature=0, max_new_tokens=30, stop=(stop,)))
    assert chunks[-1].finish_reason == "stop"
    assert text_of(chunks) == plain[: plain.index(stop)]


def test_log_probabilities_name_the_chosen_token(engine: LocalEngine) -> None:
    chunks = ask(engine, Prompt(text="abc"), Sampling(temperature=0, num_logprobs=3))
    written = [chunk for chunk in chunks if chunk.ids]
    assert len(written) > 1
    for chunk in written:
        (logprob,) = chunk.logprobs
        assert logprob.id == chunk.ids[0] == logprob.alternatives[0][0]
        assert logprob.logprob == logprob.alternatives[0][2] <= 0


def test_scores_are_those_of_a_full_pass(engine: LocalEngine, folder: Path) -> None:
    text = "the sum of all bytes " * 10
    scores = engine.score(text)
    reference = load_llama(open_checkpoint(folder), "fp32", torch.device("cpu"))
    slot = Slot(reference.cache_shape)
    reference.make_room(slot, len(scores.ids))
    logits = reference.forward(scores.ids, [(slot, len(scores.ids))], every=True)
    expected = logits.log_softmax(-1)[:-1].gather(1, torch.tensor(scores.ids[1:]).unsqueeze(1))
    assert scores.ids[0] == 256 and scores.logprobs[0] == 0
    assert scores.logprobs[1:] == pytest.approx(expected.squeeze(1).tolist(), abs=1e-3)
    assert sum(scores.num_bytes) == len(text.encode()) and scores.num_bytes[0] == 0


def test_scoring_leaves_no_trace_and_has_limits(engine: LocalEngine) -> None:
    engine.score("x" * 100)
    assert engine.cache_sizes().device_bytes == 0
    with pytest.raises(ContextFull):
        engine.score("x" * 300)
    with pytest.raises(PromptEmpty):
        engine.score([])


def test_info_says_what_is_running(engine: LocalEngine) -> None:
    info = engine.info()
    assert (info.model, info.architecture, info.precision) == (
        "tiny-chat",
        "LlamaForCausalLM",
        "fp32",
    )
    assert info.context_length == 256 and info.chat and info.note == ""
    assert info.device.startswith("CPU") and len(info.fingerprint) == 32


def test_the_context_is_limited_by_memory_and_by_choice(folder: Path) -> None:
    shape_bytes = 3 * 2 * 2 * 8 * 4  # layers, keys and values, key-value heads, size, float32
    for options, length in (
        (Options(device="cpu", max_context=128), 128),
        (Options(device="cpu", cache_bytes=300 * shape_bytes), 256),
    ):
        engine = LocalEngine(folder, options)
        assert engine.info().context_length == length
        engine.close()


# --- faults at loading ----------------------------------------------------------------------------


def test_no_room_for_the_weights_is_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr("engine.tensors.make_matrix", fail)
    with pytest.raises(DeviceOutOfMemory, match="choose a smaller model"):
        LocalEngine(folder, Options(device="cpu"))


def test_a_precision_that_fails_its_test_is_replaced_and_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that multiplies wrongly for few rows, as drivers and wheels have done."""
    wrong = matrices.Int8.__call__

    def broken(self: matrices.Int8, x: torch.Tensor) -> torch.Tensor:
        product = wrong(self, x)
        return -product if x.shape[0] == 1 else product

    monkeypatch.setattr(matrices.Int8, "__call__", broken)
    engine = LocalEngine(folder, Options(device="cpu", precision="int8"))
    assert engine.info().precision == "fp32"
    assert "int8 failed its self-test" in engine.info().note
    assert len(ids_of(ask(engine, Prompt(text="abc")))) > 0
    engine.close()


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_weights(folder, tensors)
    with pytest.raises(CheckpointBroken, match="Download it again"):
        LocalEngine(folder, Options(device="cpu"))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, vocab_size=200)
    with pytest.raises(CheckpointBroken, match="two different models"):
        LocalEngine(folder, Options(device="cpu"))


@pytest.mark.parametrize(
    ("device", "left"), [("tpu", "no device called 'tpu'"), ("cuda:99", "offers|has")]
)
def test_an_absent_device_is_refused(folder: Path, device: str, left: str) -> None:
    with pytest.raises(DeviceAbsent, match=left):
        LocalEngine(folder, Options(device=device))


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ModelUnsupported, match="int8"):
        Options(precision="int3")


def test_a_failed_load_leaves_no_thread(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_weights(folder, tensors)
    with pytest.raises(CheckpointMissing):
        LocalEngine(folder, Options(device="cpu"))
    assert not [t for t in threading.enumerate() if t.name == "corral-compute"]


def test_special_tokens_in_user_text_stay_text(engine: LocalEngine) -> None:
    """What a person types is never a control token, so nobody can end the turn for the model."""
    plain = engine.count_tokens([{"role": "user", "content": ""}])
    typed = engine.count_tokens([{"role": "user", "content": "<|eot_id|>"}])
    assert typed - plain == len("<|eot_id|>")
